// Messages from block to block, right ones and wrong ones: what the emulator and its access checker
// must and must not report. Blocks take their part by a number that they draw from `state[0]`; the
// flag is `state[1]`, and for a message that is passed on `state[2]`.
#include "portable.cuh"

constexpr int NUMBERS = 64;  // threads of a block

__device__ __forceinline__ int part(unsigned* state) {
    __shared__ int drawn;
    if (threadIdx.x == 0) drawn = static_cast<int>(atomicAdd(state, 1u));
    __syncthreads();
    return drawn;
}
__device__ __forceinline__ void await(const unsigned* flag) {
    while (load_acquire(flag) == 0) __nanosleep(20);
}

// What the first block wrote, doubled by the second one; one thread of each sees to the flag.
extern "C" __global__ void message(float* x, float* y, unsigned* state) {
    if (part(state) == 0) {
        x[threadIdx.x] = static_cast<float>(threadIdx.x);
        __syncthreads();
        if (threadIdx.x == 0) store_release(state + 1, 1);
    } else {
        if (threadIdx.x == 0) await(state + 1);
        __syncthreads();
        y[threadIdx.x] = 2.0f * x[NUMBERS - 1 - threadIdx.x];
    }
}
// The same, by a barrier of one warp on the side that sends, and by each thread for itself.
extern "C" __global__ void message_of_a_warp(float* x, float* y, unsigned* state) {
    const int own = part(state);
    if (own == 0 && threadIdx.x < 32) {
        x[threadIdx.x] = static_cast<float>(threadIdx.x);
        __syncwarp();
        if (threadIdx.x == 5) store_release(state + 1, 1);
    } else if (own == 1 && threadIdx.x < 32) {
        await(state + 1);
        y[threadIdx.x] = 2.0f * x[31 - threadIdx.x];
    }
}
// The third block hears of what the first one wrote from the second.
extern "C" __global__ void message_passed_on(float* x, float* y, unsigned* state) {
    const int own = part(state);
    if (own == 0) {
        x[threadIdx.x] = 1.0f;
        __syncthreads();
        if (threadIdx.x == 0) store_release(state + 1, 1);
    } else if (own == 1) {
        if (threadIdx.x == 0) await(state + 1);
        __syncthreads();
        if (threadIdx.x == 40) store_release(state + 2, 1);
    } else {
        if (threadIdx.x == 33) await(state + 2);
        __syncthreads();
        y[threadIdx.x] = x[NUMBERS - 1 - threadIdx.x];
    }
}
// Read-modify-write operations leave a message where it is.
extern "C" __global__ void message_and_count(float* x, float* y, unsigned* state) {
    if (part(state) == 0) {
        x[threadIdx.x] = 1.0f;
        __syncthreads();
        if (threadIdx.x == 0) store_release(state + 1, 1);
        if (threadIdx.x == 0) atomicAdd(state + 1, 1u);
    } else {
        await(state + 1);
        y[threadIdx.x] = x[NUMBERS - 1 - threadIdx.x];
    }
}
// What is written after the release is not part of the message.
extern "C" __global__ void written_too_late(float* x, float* y, unsigned* state) {
    if (part(state) == 0) {
        if (threadIdx.x == 0) store_release(state + 1, 1);
        if (threadIdx.x == 0) x[0] = 1.0f;
    } else if (threadIdx.x == 0) {
        await(state + 1);
        y[0] = x[0];
    }
}
// The blocks wait for each other by their place in the grid, in which they need not begin.
extern "C" __global__ void waits_for_the_block_before(float* x, float* y, unsigned* state) {
    if (threadIdx.x != 0) return;
    if (blockIdx.x > 0) await(state + blockIdx.x);
    store_release(state + blockIdx.x + 1, 1);
}
