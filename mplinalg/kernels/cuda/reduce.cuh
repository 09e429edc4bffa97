// Sums and maxima over the lanes of a warp and the threads of a block.
//
// The order is fixed, so results are the same in every run. `partial` is shared memory for one
// value a warp; it may be used again at once, as a barrier begins each reduction.
#pragma once
#include "portable.cuh"

template <class T> __device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}

__device__ __forceinline__ unsigned warp_largest(unsigned value) {
    return __reduce_max_sync(0xffffffffu, value);
}
__device__ __forceinline__ unsigned long long warp_largest(unsigned long long value) {
    const unsigned high = static_cast<unsigned>(value >> 32);
    const unsigned most = __reduce_max_sync(0xffffffffu, high);
    const unsigned low = high == most ? static_cast<unsigned>(value) : 0u;
    return static_cast<unsigned long long>(most) << 32 | __reduce_max_sync(0xffffffffu, low);
}

// The sum over a block of THREADS threads, in every thread.
template <int THREADS, class T> __device__ __forceinline__ T block_sum(T value, T* partial) {
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    T sum = partial[0];
#pragma unroll
    for (int warp = 1; warp < THREADS / 32; ++warp) sum += partial[warp];
    return sum;
}
