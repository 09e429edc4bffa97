// Threads, blocks, barriers and shared memory, as a kernel sees them.
#pragma once
#include <cstddef>
#include <cstdint>

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace emulator {

// What a kernel may read of the thread that runs it.
struct Coordinates {
    dim3 thread, block, block_dim, grid_dim;
};
extern Coordinates* running;

// Where in the kernel a call stands: filled in by default arguments.
struct Place {
    const char* file;
    int line;
};
#define EMULATOR_HERE ::emulator::Place here = {__builtin_FILE(), __builtin_LINE()}

// Ends the launch with a message that names the thread.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// `vote`, if any, is this thread's, and becomes the sum over the block.
void block_barrier(Place here, int* vote);
void grid_barrier(Place here);
void yield();
int lane();
unsigned char* dynamic_shared();

}  // namespace emulator

#define threadIdx (::emulator::running->thread)
#define blockIdx (::emulator::running->block)
#define blockDim (::emulator::running->block_dim)
#define gridDim (::emulator::running->grid_dim)
#define warpSize 32

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))

// Static shared variables make up the module's thread-local segment, which the runtime finds,
// poisons before each block, and swaps between blocks. constinit: there is no constructor to run,
// and no flag that says whether it has.
#define __shared__ static constinit thread_local
#define DYNAMIC_SHARED(name) unsigned char* const name = ::emulator::dynamic_shared()

inline void __syncthreads(EMULATOR_HERE) { emulator::block_barrier(here, nullptr); }
inline int __syncthreads_count(int predicate, EMULATOR_HERE) {
    int vote = predicate != 0;
    emulator::block_barrier(here, &vote);
    return vote;
}
inline int __syncthreads_or(int predicate, EMULATOR_HERE) {
    int vote = predicate != 0;
    emulator::block_barrier(here, &vote);
    return vote != 0;
}
inline int __syncthreads_and(int predicate, EMULATOR_HERE) {
    int vote = predicate == 0;
    emulator::block_barrier(here, &vote);
    return vote == 0;
}
inline void grid_sync(EMULATOR_HERE) { emulator::grid_barrier(here); }
inline void __nanosleep(unsigned) { emulator::yield(); }
inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap() { emulator::fail("__trap()"); }
