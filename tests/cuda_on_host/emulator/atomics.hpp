// Read-modify-write operations and messages from thread to thread: the scheduler switches threads
// at barriers, warp operations, releases and yields only, so these need no more than to be told to
// the access checker.
#pragma once

namespace emulator {
void note_atomic(void* p, int bytes);
void note_release(void* p, int bytes);
void note_acquire(const void* p, int bytes);
void give_way();

template <class T, class F>
__attribute__((noinline, no_sanitize("thread"))) T modify(T* p, F change) {
    note_atomic(p, sizeof(T));
    const T old = *p;
    *p = change(old);
    return old;
}
}  // namespace emulator

#define EMULATOR_ATOMIC(name, expression)                                   \
    template <class T, class U> T name(T* p, U operand) {                   \
        const T v = T(operand);                                             \
        return emulator::modify(p, [v](T old) -> T { return expression; }); \
    }
EMULATOR_ATOMIC(atomicAdd, old + v)
EMULATOR_ATOMIC(atomicSub, old - v)
EMULATOR_ATOMIC(atomicMax, old > v ? old : v)
EMULATOR_ATOMIC(atomicMin, old < v ? old : v)
EMULATOR_ATOMIC(atomicOr, old | v)
EMULATOR_ATOMIC(atomicAnd, old & v)
EMULATOR_ATOMIC(atomicXor, old ^ v)
EMULATOR_ATOMIC(atomicExch, v)
EMULATOR_ATOMIC(atomicInc, old >= v ? T(0) : T(old + 1))
template <class T> T atomicCAS(T* p, T compare, T value) {
    return emulator::modify(p, [=](T old) { return old == compare ? value : old; });
}

__attribute__((noinline, no_sanitize("thread"))) inline void store_release(unsigned* p,
                                                                           unsigned value) {
    emulator::note_release(p, sizeof *p);
    *p = value;
    emulator::give_way();
}
__attribute__((noinline, no_sanitize("thread"))) inline unsigned load_acquire(const unsigned* p) {
    emulator::note_acquire(p, sizeof *p);
    return *p;
}
