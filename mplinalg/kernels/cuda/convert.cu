// A matrix in another format:  target[i, j] = fl(left[i] source[i, j] right[j / pair])
//
// with, in the same pass, the sums of |source| along lines and the number of entries that the
// format of the target loses.
//
// Lines are what has unit stride: the rows of a C-like matrix, the columns of an F-like one, with
// `pair` = 2 real numbers an entry where it is complex. `left` and `right` are powers of two, and
// null for ones; then `sums[i]` becomes sum_j |source[i, j]|. An entry is lost if its magnitude,
// scaled, is above `largest` or below `smallest` and not zero: lost[0] and lost[1] are counted up.
//
// CuPy compiles all kernels with -ftz=true: conversions from and to fp32 take numbers below 2^-126
// for zeros. They are counted as lost either way; as sources of fp64, too, which could hold them.
//
// Launch: THREADS threads, any number of blocks; block b takes the lines b, b + gridDim.x, ...
// Bytes: one read of the source, one write of the target. Bound by memory: at 4.3 TB/s, fp64 to
// fp32 of order 32768 takes 3.0 ms.
#include "portable.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256;

template <class T> __device__ __forceinline__ T rounded(double x) { return static_cast<T>(x); }
template <> __device__ __forceinline__ half rounded<half>(double x) { return __double2half(x); }
// By way of fp32, as in a factorization: the CPU's formats are defined so.
template <> __device__ __forceinline__ __nv_bfloat16 rounded<__nv_bfloat16>(double x) {
    return __float2bfloat16_rn(static_cast<float>(x));
}

// By the bits, as comparisons take subnormal fp32 for zero.
__device__ __forceinline__ bool is_zero(float x) { return __float_as_uint(x) << 1 == 0; }
__device__ __forceinline__ bool is_zero(double x) { return x == 0.0; }

// No intermediate leaves the range if the result is inside it: the larger factor comes first for
// values below one.
__device__ __forceinline__ double scaled(double value, double first, double second) {
    const bool swap = (fabs(value) < 1.0) == (first < second);
    return (value * (swap ? second : first)) * (swap ? first : second);
}

template <class Source, class Target>
__global__ void __launch_bounds__(THREADS)
convert(int lines, int length, const Source* __restrict__ source, long long source_stride,
        Target* __restrict__ target, long long target_stride, const Source* __restrict__ left,
        const Source* __restrict__ right, int pair, double largest, double smallest,
        double* __restrict__ sums, unsigned long long* __restrict__ lost) {
    __shared__ double partial[THREADS / 32];
    unsigned over = 0, under = 0;
    for (int i = blockIdx.x; i < lines; i += gridDim.x) {
        const Source* from = source + i * source_stride;
        Target* to = target + i * target_stride;
        const double factor = left ? static_cast<double>(left[i]) : 1.0;
        double sum = 0.0;
        for (int j = threadIdx.x; j < length; j += THREADS) {
            const Source entry = from[j];
            const double given = static_cast<double>(entry);
            double value = given;
            if (left || right)
                value = scaled(given, factor, right ? static_cast<double>(right[j / pair]) : 1.0);
            const double magnitude = fabs(value);
            sum += magnitude;
            over += magnitude > largest;
            under += magnitude < smallest && !is_zero(entry);
            to[j] = rounded<Target>(value);
        }
        sum = block_sum<THREADS>(sum, partial);
        if (threadIdx.x == 0 && sums) sums[i] = sum;
    }
    over = warp_sum(over);
    under = warp_sum(under);
    if (threadIdx.x % 32 == 0 && over) atomicAdd(lost, static_cast<unsigned long long>(over));
    if (threadIdx.x % 32 == 0 && under) atomicAdd(lost + 1, static_cast<unsigned long long>(under));
}
