// Stacks and switching between them.
#pragma once
#include <cstddef>

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)
#define EMULATOR_SWITCH 1
#else
#define EMULATOR_SWITCH 0
#include <ucontext.h>
#endif

namespace emulator {

constexpr size_t STACK = 64 << 10;
constexpr size_t GUARD = 4096;

struct Fiber {
    unsigned char* stack = nullptr;  // STACK bytes above a guard page
#if EMULATOR_SWITCH
    void* top = nullptr;  // while it does not run
#else
    ucontext_t context;
#endif
    // Whether `p` is on the stack, or in the guard page below it.
    bool owns(const void* p) const {
        auto* q = static_cast<const unsigned char*>(p);
        return q >= stack - GUARD && q < stack + STACK;
    }
};

// Maps the stack, once; nullptr stays where there is no memory.
void allocate(Fiber& fiber);
void release(Fiber& fiber);
// Lets `fiber` begin with `main` when it is switched to.
void prepare(Fiber& fiber, void (*main)());
void switch_fibers(Fiber& from, Fiber& to);

}  // namespace emulator
