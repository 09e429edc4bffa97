// The end of a training step: what all gradients say, and the update of all parameters
//
// square_sums:  partial[first + k, block] = sum over a share of g_k^2, in double precision
// verdict:      norm = sqrt(sum of partial) / scale; the step is done if that is finite; the factor
//               of the gradients is 1 / scale, times max_norm / (norm + 1e-6) if that is below 1;
//               then the loss scale of the next step, and what Adam's means are divided by
// descend:      g' = clamp(factor g) + decay x;  v <- beta v + g';  x -= lr v, or lr (g' + beta v)
//               if `nesterov`; without v x -= lr g'
// adam:         m <- m + (1 - beta1) (g' - m);  s <- beta2 s + (1 - beta2) g'^2;
//               x <- shrink x - rate m / (sqrt(s) / root + eps),  shrink = 1 - lr decoupled
//
// for up to eight tensors at once, n_k numbers each, in contiguous memory; gradients that overflow
// are squared in double precision, where those of fp32 do not overflow. What changes from step to
// step is in `state`, so that a launch can be repeated as it is: nothing goes to the host. A step
// is not done, either, once a loss was not finite (`account` of nn_loss.cu), or once the scale cannot
// shrink any more: parameters stay as they were when that happened.
//
// Launch: THREADS threads. Any number of blocks in x; in y one for each tensor, at most eight.
// verdict: one block.
// Bytes: square_sums reads g; descend reads g and x and writes x, and with momentum v: 12 or 20
// bytes a parameter in fp32, adam 28. At 3.35 TB/s 0.7 million parameters take 2.5, 4.2 and 5.9 us,
// were they not in L2.
#include "portable.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256;
// of `state`, after the totals of nn_loss.cu
constexpr int FIRST_BAD = 3, LR = 4, SCALE = 5, FACTOR = 6, GO = 7, CLEAN = 8, SKIPPED = 9,
              NORM = 10, COUNT = 11, RATE = 12, ROOT = 13, STOPPED = 14;

#define EIGHT(type, name)                                                                      \
    type name##0, type name##1, type name##2, type name##3, type name##4, type name##5,        \
        type name##6, type name##7
#define CHOSEN(name) chosen(name##0, name##1, name##2, name##3, name##4, name##5, name##6, name##7)

template <class T> __device__ __forceinline__ T chosen(EIGHT(T, a)) {
    const T low = blockIdx.y & 2 ? (blockIdx.y & 1 ? a3 : a2) : (blockIdx.y & 1 ? a1 : a0);
    const T high = blockIdx.y & 2 ? (blockIdx.y & 1 ? a7 : a6) : (blockIdx.y & 1 ? a5 : a4);
    return blockIdx.y & 4 ? high : low;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
square_sums(EIGHT(int, n), EIGHT(const T*, g), int first, double* __restrict__ partial) {
    __shared__ double of_warp[THREADS / 32];
    const int n = CHOSEN(n);
    const T* g = CHOSEN(g);
    double sum = 0.0;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
        const double entry = double(g[i]);
        sum += entry * entry;
    }
    sum = block_sum<THREADS>(sum, of_warp);
    if (threadIdx.x == 0) partial[(first + blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
verdict(int count, const double* __restrict__ partial, double* __restrict__ state,
        T* __restrict__ seed, int is_scaled, double growth, double backoff, double interval,
        double max_norm, double beta1, double beta2) {
    __shared__ double of_warp[THREADS / 32];
    double sum = 0.0;
    for (int i = threadIdx.x; i < count; i += THREADS) sum += partial[i];
    sum = block_sum<THREADS>(sum, of_warp);
    if (threadIdx.x != 0) return;
    const double scale = state[SCALE], norm = sqrt(sum) / scale;
    const bool is_finite = norm <= 1.7976931348623157e308;
    double factor = 1.0 / scale;
    if (max_norm > 0.0 && max_norm / (norm + 1e-6) < 1.0) factor *= max_norm / (norm + 1e-6);
    bool is_stopped = state[STOPPED] != 0.0 || state[FIRST_BAD] != 0.0;
    if (is_scaled && !is_stopped) {
        double next = scale;
        if (!is_finite) {
            state[SKIPPED] += 1.0;
            state[CLEAN] = 0.0;
            if (scale * backoff < 0x1p-24) state[STOPPED] = 1.0;
            else next = scale * backoff;
        } else if (state[CLEAN] + 1.0 == interval) {
            state[CLEAN] = 0.0;
            next = min(scale * growth, 0x1p127);
        } else {
            state[CLEAN] += 1.0;
        }
        state[SCALE] = next;
        seed[0] = static_cast<T>(next);
    } else if (!is_finite) {
        state[STOPPED] = 1.0;
    }
    const bool goes = is_finite && !is_stopped;
    state[NORM] = norm;
    state[FACTOR] = factor;
    state[GO] = goes ? 1.0 : 0.0;
    if (!goes) return;
    const double done = state[COUNT] + 1.0;
    state[COUNT] = done;
    state[RATE] = state[LR] / (1.0 - pow(beta1, done));
    state[ROOT] = sqrt(1.0 - pow(beta2, done));
}

__device__ __forceinline__ bool is_off(const double* state) {
    return state[GO] == 0.0 || state[FIRST_BAD] != 0.0 || state[STOPPED] != 0.0;
}

// NaN stays.
template <class T> __device__ __forceinline__ T clamped(T value, T bound) {
    if (bound <= T(0)) return value;
    return value < -bound ? -bound : value > bound ? bound : value;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
descend(EIGHT(int, n), EIGHT(const T*, g), EIGHT(T*, x), EIGHT(T*, v),
        const double* __restrict__ state, double decay, double beta, int nesterov, double bound) {
    if (is_off(state)) return;
    const int n = CHOSEN(n);
    const T* g = CHOSEN(g);
    T* x = CHOSEN(x);
    T* v = CHOSEN(v);
    const T lr = T(state[LR]), factor = T(state[FACTOR]);
    const T shrink = T(decay), heavy = T(beta), most = T(bound);
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
        const T slope = clamped(factor * g[i], most) + shrink * x[i];
        T step = slope;
        if (v) {
            const T fast = heavy * v[i] + slope;
            v[i] = fast;
            step = nesterov ? slope + heavy * fast : fast;
        }
        x[i] -= lr * step;
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
adam(EIGHT(int, n), EIGHT(const T*, g), EIGHT(T*, x), EIGHT(T*, m), EIGHT(T*, s),
     const double* __restrict__ state, double decay, double decoupled, double eps, double beta1,
     double beta2, double bound) {
    if (is_off(state)) return;
    const int n = CHOSEN(n);
    const T* g = CHOSEN(g);
    T* x = CHOSEN(x);
    T* m = CHOSEN(m);
    T* s = CHOSEN(s);
    const T rate = T(state[RATE]), root = T(state[ROOT]), factor = T(state[FACTOR]);
    const T shrink = T(1.0 - state[LR] * decoupled), most = T(bound), small = T(eps);
    const T rest1 = T(1.0 - beta1), keep2 = T(beta2), rest2 = T(1.0 - beta2), weight = T(decay);
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
        const T slope = clamped(factor * g[i], most) + weight * x[i];
        const T mean = m[i] + rest1 * (slope - m[i]);
        const T square = keep2 * s[i] + rest2 * slope * slope;
        m[i] = mean;
        s[i] = square;
        x[i] = shrink * x[i] - rate * mean / (sqrt(square) / root + small);
    }
}
