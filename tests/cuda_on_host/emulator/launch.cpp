// The entry for Python: one launch, with crashes caught and turned into messages.
#include <link.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <csetjmp>
#include <csignal>
#include <cstdio>

#include "machine.hpp"

#define VISIBLE extern "C" __attribute__((visibility("default")))

VISIBLE const emulator::Entry emulator_kernels[];
VISIBLE int emulator_is_checked;

namespace emulator {

// Touched to have the thread-local segment, which holds the shared variables of the kernels.
static thread_local volatile unsigned char anchor;

static sigjmp_buf after_crash;
static volatile sig_atomic_t is_launching;

static void on_crash(int signal_number, siginfo_t* info, void*) {  // on a stack of its own
    if (!is_launching) {
        signal(signal_number, SIG_DFL);
        return;
    }
    const auto* p = static_cast<const unsigned char*>(info->si_addr);
    if (running) {
        const dim3 b = running->block, t = running->thread;
        const unsigned char* stack = self()->fiber.stack;
        const char* what = signal_number == SIGFPE              ? "integer division by zero"
                         : p >= stack - GUARD && p < stack ? "stack overflow"
                                                                : "invalid address";
        std::snprintf(machine.message, machine.message_size,
                      "block (%u,%u,%u) thread (%u,%u,%u): %s", b.x, b.y, b.z, t.x, t.y, t.z, what);
    } else {
        std::snprintf(machine.message, machine.message_size, "crash outside the kernel, signal %d",
                      signal_number);
    }
    machine.has_failed = true;
    siglongjmp(after_crash, 1);
}

class CrashHandlers {
    static constexpr int signals[3] = {SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction before[3];
    stack_t stack_before;

  public:
    CrashHandlers() {
        static char stack[64 << 10];
        stack_t s{};
        s.ss_sp = stack;
        s.ss_size = sizeof stack;
        sigaltstack(&s, &stack_before);
        struct sigaction action {};
        action.sa_sigaction = on_crash;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        for (int i = 0; i < 3; ++i) sigaction(signals[i], &action, &before[i]);
        is_launching = 1;
    }
    ~CrashHandlers() {
        is_launching = 0;
        for (int i = 0; i < 3; ++i) sigaction(signals[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }
};

// While it lives, subnormal operands and results are zeros. Fibers share the control register.
class Flushing {
    unsigned before = 0;

  public:
#if defined(__x86_64__)
    explicit Flushing(bool wanted) : before(_mm_getcsr()) {
        if (wanted) _mm_setcsr(before | 0x8040u);
    }
    ~Flushing() { _mm_setcsr(before); }
#else
    explicit Flushing(bool) {}  // module.py does not ask for it
#endif
};

// Sets the bounds of this library and of its thread-local segment.
static int find_module(dl_phdr_info* info, size_t, void* inside) {
    uintptr_t end = 0;
    size_t thread_local_bytes = 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& header = info->dlpi_phdr[i];
        if (header.p_type == PT_LOAD) {
            const uintptr_t e = info->dlpi_addr + header.p_vaddr + header.p_memsz;
            if (e > end) end = e;
        }
        if (header.p_type == PT_TLS) thread_local_bytes = header.p_memsz;
    }
    const auto address = reinterpret_cast<uintptr_t>(inside);
    if (address < info->dlpi_addr || address >= end) return 0;
    machine.module_begin = reinterpret_cast<unsigned char*>(info->dlpi_addr);
    machine.module_end = reinterpret_cast<unsigned char*>(end);
    machine.shared_begin = static_cast<unsigned char*>(info->dlpi_tls_data);
    machine.shared_end = machine.shared_begin + thread_local_bytes;
    return 1;
}

}  // namespace emulator

VISIBLE void emulator_release() { emulator::release_stacks(); }

// Returns 0, or 1 with a text in `message`.
VISIBLE int emulator_launch(const emulator::Entry* entry,
                            const emulator::Configuration* configuration, void** arguments,
                            char* message, size_t message_size, emulator::Counts* counts) {
    using namespace emulator;
    anchor = 0;
    dl_iterate_phdr(find_module, reinterpret_cast<void*>(&emulator_launch));
    machine.configuration = *configuration;
    machine.counts = {};
    machine.entry = entry;
    machine.arguments = arguments;
    machine.message = message;
    machine.message_size = message_size;
    machine.has_failed = false;
    machine.is_checked = emulator_is_checked;
    machine.random_state = configuration->seed * 0x9E3779B97F4A7C15ull + 0x1234567;
    if (!machine.random_state) machine.random_state = 1;

    const size_t shared = (machine.shared_end - machine.shared_begin) + configuration->dynamic_shared;
    if (shared > configuration->most_shared) {
        std::snprintf(message, message_size, "%zu bytes of shared memory, the device has %u",
                      shared, configuration->most_shared);
        return 1;
    }
    if (machine.is_checked) watch_arguments();
    {
        CrashHandlers handlers;
        Flushing flushing(configuration->flushes);
        if (!sigsetjmp(after_crash, 1)) run_grid();
    }
    running = nullptr;
    *counts = machine.counts;
    return machine.has_failed;
}
