// The samples of a step, gathered without the host saying which
//
// take_rows:  target[i, :] = source[order[s batch + i], :],  s = state[2] the steps that are done,
//             i < batch; without `order` source[s batch + i, :]
//
// so that a launch can be repeated as it is, step after step. Both are contiguous, with `length`
// numbers a row; count = batch length < 2^31. `order` has s batch + batch entries at least.
//
// Launch: THREADS threads, any number of blocks.
// Bytes: one read and one write of a batch: 0.6 MB of 100 images of 28 by 28, 0.2 us at 3.35 TB/s.
#include "portable.cuh"

constexpr int THREADS = 256, STEPS = 2;

template <class T>
__global__ void __launch_bounds__(THREADS)
take_rows(unsigned count, int length, int batch, const T* __restrict__ source,
          const long long* __restrict__ order, const double* __restrict__ state,
          T* __restrict__ target) {
    const long long first = static_cast<long long>(state[STEPS]) * batch;
    for (unsigned at = blockIdx.x * THREADS + threadIdx.x; at < count; at += gridDim.x * THREADS) {
        const unsigned row = at / length;
        const long long sample = order ? order[first + row] : first + row;
        target[at] = source[sample * length + at % length];
    }
}
