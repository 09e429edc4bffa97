// The residual and the size it is held against, of up to K right-hand sides in one pass over A:
//
//     r[c, i] = b[c, i] - sum_j op(A)[i, j] x[c, j]
//     d[c, i] = |b[c, i]| + sum_j |op(A)[i, j]| |x[c, j]|
//
// with |re| + |im| for complex numbers. Lines as in convert.cu, PARTS = 2 real numbers an entry
// where it is complex; `conjugated`: op(A) has the conjugates of what they hold. Right-hand sides
// are lines as well: `columns` of them (1 to K) in b, x and r, of the numbers that A has, and in d,
// of doubles.
//
// residual_along: the lines of A are the rows of op(A), and a warp sums one of them.
// residual_across: they are its columns. A block takes ENTRIES entries of r and d and a part of the
// lines, and writes its share of the sums (`shares`: gridDim.y by columns by PARTS length, twice
// that many doubles if EXTENDED; `sizes`: gridDim.y by columns by length). residual_of_shares adds
// these up.
//
// Sums are in double precision and in a fixed order. With EXTENDED they carry a second double, as
// in Ogita, Rump, Oishi, SIAM J. Sci. Comput. 26 (2005) 1955, algorithm 5.3: r is then as if summed
// in twice the working precision.
//
// Launch: THREADS threads. Along: a block for WARPS lines. Across: grid (ceil(length / ENTRIES),
// any number of parts). Of shares: a block for THREADS entries and, in y, each column.
// Bytes: one read of A for K columns, 8 n^2 of doubles: 2.0 ms of order 32768 at 4.3 TB/s. Flops:
// 4 K n^2, with EXTENDED about 14 K n^2; both take less time than the bytes for K up to 4.
#include "portable.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32, ENTRIES = 32;

// A sum of products, in double or twice that.
template <bool EXTENDED> struct Sum {
    double high = 0.0, low = 0.0;

    __device__ __forceinline__ void add(double term) {
        if (EXTENDED) {
            // by intrinsics, which the compiler does not contract with a product
            const double sum = __dadd_rn(high, term), part = __dsub_rn(sum, high);
            low += __dadd_rn(__dsub_rn(high, __dsub_rn(sum, part)), __dsub_rn(term, part));
            high = sum;
        } else {
            high += term;
        }
    }
    __device__ __forceinline__ void add_product(double a, double b) {
        if (EXTENDED) {
            const double product = __dmul_rn(a, b);
            low += fma(a, b, -product);
            add(product);
        } else {
            high = fma(a, b, high);
        }
    }
    __device__ __forceinline__ void add(const Sum& other) {
        add(other.high);
        low += other.low;
    }
    // In every lane.
    __device__ __forceinline__ void over_warp() {
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            Sum other;
            other.high = __shfl_xor_sync(0xffffffffu, high, distance);
            if (EXTENDED) other.low = __shfl_xor_sync(0xffffffffu, low, distance);
            // the same order in both lanes, so that they agree
            if (threadIdx.x & distance) {
                other.add(*this);
                *this = other;
            } else {
                add(other);
            }
        }
    }
    __device__ __forceinline__ double value() const { return high + low; }
};

// What a thread sums for K right-hand sides.
template <int PARTS, int K, bool EXTENDED> struct Sums {
    Sum<EXTENDED> r[K][PARTS];
    double d[K];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int c = 0; c < K; ++c) d[c] = 0.0;
    }
    // Subtracts a x of one entry a, and adds |a| |x|, column by column.
    template <class T>
    __device__ __forceinline__ void take(const T* a, double sign, const T* x, long long x_stride,
                                         int columns) {
        const double re = a[0], im = PARTS == 2 ? sign * a[PARTS - 1] : 0.0;
        const double size = fabs(re) + fabs(im);
#pragma unroll
        for (int c = 0; c < K; ++c) {
            // past the last column that one again: its sums are not written
            const T* entry = x + min(c, columns - 1) * x_stride;
            const double x_re = entry[0], x_im = PARTS == 2 ? entry[PARTS - 1] : 0.0;
            r[c][0].add_product(-re, x_re);
            if (PARTS == 2) {
                r[c][0].add_product(im, x_im);
                r[c][PARTS - 1].add_product(-re, x_im);
                r[c][PARTS - 1].add_product(-im, x_re);
            }
            d[c] = fma(size, fabs(x_re) + fabs(x_im), d[c]);
        }
    }
};

template <class T, int PARTS, int K, bool EXTENDED>
__global__ void __launch_bounds__(THREADS)
residual_along(int lines, int length, const T* __restrict__ a, long long a_stride, int conjugated,
               int columns, const T* __restrict__ x, long long x_stride, const T* __restrict__ b,
               long long b_stride, T* __restrict__ r, long long r_stride, double* __restrict__ d,
               long long d_stride) {
    const int line = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (line >= lines) return;  // a whole warp; there is no barrier
    const double sign = conjugated ? -1.0 : 1.0;
    const T* row = a + line * a_stride;
    Sums<PARTS, K, EXTENDED> sums;
    sums.clear();
#pragma unroll(K == 1 ? 4 : 2)
    for (int j = lane; j < length; j += 32)
        sums.take(row + PARTS * j, sign, x + PARTS * j, x_stride, columns);
#pragma unroll
    for (int c = 0; c < K; ++c) {
        const double size = warp_sum(sums.d[c]);
        double b_size = 0.0;
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            Sum<EXTENDED> sum = sums.r[c][part];
            sum.over_warp();
            if (lane == 0 && c < columns) {
                const double given = b[c * b_stride + PARTS * line + part];
                b_size += fabs(given);
                sum.add(given);
                r[c * r_stride + PARTS * line + part] = static_cast<T>(sum.value());
            }
        }
        if (lane == 0 && c < columns) d[c * d_stride + line] = size + b_size;
    }
}

template <class T, int PARTS, int K, bool EXTENDED>
__global__ void __launch_bounds__(THREADS)
residual_across(int lines, int length, const T* __restrict__ a, long long a_stride, int conjugated,
                int columns, const T* __restrict__ x, long long x_stride,
                double* __restrict__ shares, double* __restrict__ sizes) {
    __shared__ double high[WARPS][ENTRIES], low[WARPS][ENTRIES];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int i = blockIdx.x * ENTRIES + lane;
    const int first = static_cast<int>(static_cast<long long>(lines) * blockIdx.y / gridDim.y);
    const int end = static_cast<int>(static_cast<long long>(lines) * (blockIdx.y + 1) / gridDim.y);
    const double sign = conjugated ? -1.0 : 1.0;
    Sums<PARTS, K, EXTENDED> sums;
    sums.clear();
    if (i < length) {
#pragma unroll(K == 1 ? 4 : 2)
        for (int line = first + warp; line < end; line += WARPS)
            sums.take(a + line * a_stride + PARTS * i, sign, x + PARTS * line, x_stride, columns);
    }
#pragma unroll
    for (int c = 0; c < K; ++c) {
        // the parts of r, and last d
#pragma unroll
        for (int part = 0; part <= PARTS; ++part) {
            const Sum<EXTENDED>& mine = sums.r[c][part < PARTS ? part : 0];
            high[warp][lane] = part < PARTS ? mine.high : sums.d[c];
            low[warp][lane] = part < PARTS ? mine.low : 0.0;
            __syncthreads();
            if (warp == 0 && i < length && c < columns) {
                Sum<EXTENDED> sum;
                for (int w = 0; w < WARPS; ++w) {
                    sum.add(high[w][lane]);
                    sum.low += low[w][lane];
                }
                const long long line = static_cast<long long>(blockIdx.y) * columns + c;
                if (part == PARTS) {
                    sizes[line * length + i] = sum.value();
                } else {
                    const long long place = (line * length + i) * PARTS + part;
                    shares[place * (EXTENDED ? 2 : 1)] = sum.high;
                    if (EXTENDED) shares[place * 2 + 1] = sum.low;
                }
            }
            __syncthreads();
        }
    }
}

template <class T, int PARTS, bool EXTENDED>
__global__ void __launch_bounds__(THREADS)
residual_of_shares(int length, int parts, int columns, const double* __restrict__ shares,
                   const double* __restrict__ sizes, const T* __restrict__ b, long long b_stride,
                   T* __restrict__ r, long long r_stride, double* __restrict__ d,
                   long long d_stride) {
    const int i = blockIdx.x * THREADS + threadIdx.x, c = blockIdx.y;
    if (i >= length) return;  // there is no barrier
    double size = 0.0;
    for (int share = 0; share < parts; ++share)
        size += sizes[(static_cast<long long>(share) * columns + c) * length + i];
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
        const double given = b[c * b_stride + PARTS * i + part];
        Sum<EXTENDED> sum;
        for (int share = 0; share < parts; ++share) {
            const long long line = static_cast<long long>(share) * columns + c;
            const long long place = (line * length + i) * PARTS + part;
            sum.add(shares[place * (EXTENDED ? 2 : 1)]);
            if (EXTENDED) sum.low += shares[place * 2 + 1];
        }
        sum.add(given);
        size += fabs(given);
        r[c * r_stride + PARTS * i + part] = static_cast<T>(sum.value());
    }
    d[c * d_stride + i] = size;
}
