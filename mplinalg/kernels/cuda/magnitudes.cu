// Largest magnitudes, |x| or |re| + |im|, and the componentwise backward errors made of them
//
// amax:           bits <- max(bits, max_ij |a[i, j]|)
// extents:        along[i] <- max(along[i], max_j |a[i, j]| left[i] right[j]),
//                 across[j] <- max(across[j], max_i of the same)
// column_errors:  of columns c of x, r and d, into sizes[q, c]:  max_i |x_i|, max_i |r_i|, max_i d_i,
//                 max_i |r_i| / d_i  with 0 / 0 = 0; NaN throughout where a column has one
//
// Results are raised and not set: whoever launches begins with zeros. They are kept as the bits of
// the numbers, unsigned integers of the same order, so that blocks can raise them in any order
// with the same outcome; NaN comes after infinity. Those of column_errors are fp64, 4 by columns.
//
// Matrices come in lines of `length` entries, rows or columns, of PARTS = 2 numbers each if they
// are complex. `left` and `right` are nonnegative, and null for ones. In fp32 magnitudes of complex
// entries, scaled ones and what becomes fp64 are zero below 2^-126, as CuPy compiles with -ftz=true.
//
// Launch: THREADS threads, any number of blocks; column_errors: in y blocks for columns, any number
// too. length < 2^30.
// Bytes: one read of the matrix. At 4.3 TB/s, fp64 of order 32768 takes 2.0 ms, amax of fp32 1.0.
#include "pieces.cuh"
#include "portable.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256, AT_ONCE = 4;
constexpr int LINES = 64;  // of which one block of extents keeps the largest entries across

template <class T> struct Bits;
template <> struct Bits<float> {
    using Type = unsigned;
    static __device__ __forceinline__ Type of(float x) { return __float_as_uint(x) & 0x7fffffffu; }
};
template <> struct Bits<double> {
    using Type = unsigned long long;
    static __device__ __forceinline__ Type of(double x) {
        return static_cast<Type>(__double_as_longlong(x)) & 0x7fffffffffffffffull;
    }
};

template <int PARTS, class T> __device__ __forceinline__ T magnitude(const T* entry) {
    if (PARTS == 1) return entry[0];  // the sign is taken off the bits
    return fabs(entry[0]) + fabs(entry[PARTS - 1]);
}

template <class T, int PARTS>
__global__ void __launch_bounds__(THREADS)
amax(int lines, int length, const T* __restrict__ a, long long stride,
     typename Bits<T>::Type* __restrict__ bits) {
    using Word = typename Bits<T>::Type;
    __shared__ Word of_warp[THREADS / 32];
    Word most = 0;
    const Pieces<THREADS, AT_ONCE> pieces(lines, length);
    pieces.for_each([&](unsigned line, unsigned first) {
        const T* from = a + line * stride;
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e) {
            const unsigned at = first + e * pieces.width;
            if (at < length) most = max(most, Bits<T>::of(magnitude<PARTS>(from + PARTS * at)));
        }
    });
    most = warp_largest(most);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = most;
    __syncthreads();
    if (threadIdx.x != 0) return;
#pragma unroll
    for (int w = 1; w < THREADS / 32; ++w) most = max(most, of_warp[w]);
    if (most) atomicMax(bits, most);
}

template <class T, int PARTS>
__global__ void __launch_bounds__(THREADS)
extents(int lines, int length, const T* __restrict__ a, long long stride,
        const T* __restrict__ left, const T* __restrict__ right,
        typename Bits<T>::Type* __restrict__ along, typename Bits<T>::Type* __restrict__ across) {
    using Word = typename Bits<T>::Type;
    constexpr unsigned WIDTH = THREADS * AT_ONCE;
    const unsigned parts = (length + WIDTH - 1) / WIDTH;
    const unsigned count = (lines + LINES - 1) / LINES * parts;
    for (unsigned piece = blockIdx.x; piece < count; piece += gridDim.x) {
        const int begin = piece / parts * LINES, end = min(lines, begin + LINES);
        const unsigned first = piece % parts * WIDTH + threadIdx.x;
        Word down[AT_ONCE] = {};
        T factor[AT_ONCE];
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e) {
            const unsigned at = first + e * THREADS;
            factor[e] = right && at < length ? right[at] : T(1);
        }
#pragma unroll 2
        for (int line = begin; line < end; ++line) {
            const T* from = a + line * stride;
            const T scale = left ? left[line] : T(1);
            Word most = 0;
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) {
                const unsigned at = first + e * THREADS;
                if (at >= length) continue;
                T size = magnitude<PARTS>(from + PARTS * at);
                if (left || right) size = size * scale * factor[e];
                const Word word = Bits<T>::of(size);
                down[e] = max(down[e], word);
                most = max(most, word);
            }
            most = warp_largest(most);
            if (threadIdx.x % 32 == 0 && most) atomicMax(along + line, most);
        }
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e)
            if (down[e]) atomicMax(across + first + e * THREADS, down[e]);
    }
}

template <class T, int PARTS>
__global__ void __launch_bounds__(THREADS)
column_errors(int n, int columns, const T* __restrict__ x, long long x_stride,
              const T* __restrict__ r, long long r_stride, const T* __restrict__ d,
              long long d_stride, unsigned long long* __restrict__ sizes) {
    for (unsigned c = blockIdx.y; c < columns; c += gridDim.y) {
        const T* xs = x + c * x_stride;
        const T* rs = r + c * r_stride;
        const T* ds = d + c * d_stride;
        double most[4] = {};
        bool is_bad = false;
        for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
            const double of_x = fabs(double(magnitude<PARTS>(xs + PARTS * i)));
            const double of_r = fabs(double(magnitude<PARTS>(rs + PARTS * i)));
            const double of_d = ds[i], ratio = of_r > 0.0 ? of_r / of_d : 0.0;
            // infinity / infinity is passed over: its sizes tell
            most[0] = max(most[0], of_x);
            most[1] = max(most[1], of_r);
            most[2] = max(most[2], of_d);
            most[3] = max(most[3], ratio);
            is_bad |= of_x != of_x || of_r != of_r || of_d != of_d;
        }
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            unsigned long long word = Bits<double>::of(most[q]);
            if (is_bad) word = 0x7ff8000000000000ull;
            word = warp_largest(word);
            if (threadIdx.x % 32 == 0 && word)
                atomicMax(sizes + static_cast<long long>(q) * columns + c, word);
        }
    }
}
