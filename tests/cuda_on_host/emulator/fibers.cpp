#include "fibers.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

namespace emulator {

void allocate(Fiber& fiber) {
    if (fiber.stack) return;
    void* p = mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return;
    mprotect(p, GUARD, PROT_NONE);
    fiber.stack = static_cast<unsigned char*>(p) + GUARD;
}

void release(Fiber& fiber) {
    if (fiber.stack) munmap(fiber.stack - GUARD, GUARD + STACK);
    fiber.stack = nullptr;
}

#if EMULATOR_SWITCH

// Saves the registers that a function must keep, changes the stack, restores them. A tenth of
// the time of swapcontext, which calls the system to keep signal masks.
extern "C" void emulator_switch(void** save, void* to);
asm(R"(
.text
.p2align 4
.type emulator_switch,@function
emulator_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp,(%rdi)
    mov %rsi,%rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size emulator_switch,.-emulator_switch
)");

void prepare(Fiber& fiber, void (*main)()) {
    const auto end = reinterpret_cast<uintptr_t>(fiber.stack + STACK) & ~uintptr_t(63);
    auto** slot = reinterpret_cast<void**>(end) - 2;
    slot[1] = nullptr;
    slot[0] = reinterpret_cast<void*>(main);  // where `ret` goes, aligned as after a call
    fiber.top = slot - 6;
    std::memset(fiber.top, 0, 6 * sizeof(void*));
}

void switch_fibers(Fiber& from, Fiber& to) { emulator_switch(&from.top, to.top); }

#else

void prepare(Fiber& fiber, void (*main)()) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, main, 0);
}

void switch_fibers(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#endif

}  // namespace emulator
