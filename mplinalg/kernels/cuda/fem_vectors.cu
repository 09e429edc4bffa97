// Vector operations of conjugate gradients, as few passes over memory as they allow
//
// fem_dot:      parts[b] = the share of block b in x' y
// fem_descend:  x += alpha p, r -= alpha q;  parts[2 b], parts[2 b + 1] = its shares in r' r and
//               r' diag(w) r
// fem_turn:     p = diag(w) r + beta p
//
// Sums are taken in double precision, in an order that follows from the number of blocks.
//
// Launch: THREADS threads, any number of blocks, which is the length of `parts` (half of it).
// Bytes: 2, 7 and 4 vectors.
#include "reduce.cuh"

constexpr int THREADS = 256;

template <class T>
__global__ void __launch_bounds__(THREADS)
fem_dot(long long count, const T* __restrict__ x, const T* __restrict__ y,
        double* __restrict__ parts) {
    __shared__ double partial[THREADS / 32];
    const long long step = static_cast<long long>(gridDim.x) * THREADS;
    double sum = 0.0;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < count;
         at += step)
        sum += static_cast<double>(x[at]) * static_cast<double>(y[at]);
    sum = block_sum<THREADS>(sum, partial);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
fem_descend(long long count, T alpha, const T* __restrict__ p, const T* __restrict__ q,
            T* __restrict__ x, T* __restrict__ r, const T* __restrict__ w,
            double* __restrict__ parts) {
    __shared__ double partial[THREADS / 32];
    const long long step = static_cast<long long>(gridDim.x) * THREADS;
    double sum = 0.0, weighted = 0.0;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < count;
         at += step) {
        x[at] += alpha * p[at];
        const T left = r[at] - alpha * q[at];
        r[at] = left;
        const double square = static_cast<double>(left) * static_cast<double>(left);
        sum += square;
        weighted += static_cast<double>(w[at]) * square;
    }
    sum = block_sum<THREADS>(sum, partial);
    weighted = block_sum<THREADS>(weighted, partial);
    if (threadIdx.x == 0) {
        parts[2 * blockIdx.x] = sum;
        parts[2 * blockIdx.x + 1] = weighted;
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
fem_turn(long long count, T beta, const T* __restrict__ r, const T* __restrict__ w,
         T* __restrict__ p) {
    const long long step = static_cast<long long>(gridDim.x) * THREADS;
    for (long long at = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; at < count;
         at += step)
        p[at] = w[at] * r[at] + beta * p[at];
}
