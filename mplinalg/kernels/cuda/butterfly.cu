// Random butterfly transformation of depth 2, after which pivoting is hardly ever needed:
//
//     A_r = U^T A V,    A x = b  as  A_r y = U^T b,  x = V y
//
//     U, V = [B(p)      ] B(r),   B(d) = 1/sqrt(2) [ D1  D2 ]   d = diag(D1, D2)
//            [      B(q)]                          [ D1 -D2 ]
//
// where r are n numbers, p and q n / 2 each: random, exp(s / 10) with s uniform in [-1/2, 1/2] in
// the works cited. With n = 4 quarter, U mixes entries i, i + quarter, i + 2 quarter and
// i + 3 quarter of a vector with each other alone, both depths at once; so does V. A thread
// combines sixteen entries of A, (i + k quarter, j + l quarter), which nobody else reads or
// writes: one pass over the matrix, in place if wanted.
//
// The diagonals are `quarter` groups of eight fp32 numbers, on 16 bytes: those of r at i,
// i + quarter, ..., then those of p, q there. fp32, so that a matrix, its right-hand sides and its
// solutions are transformed by the same numbers in every precision.
//
// butterfly: source and target are row-major with leading dimensions in entries; the source is
// `order` by `order`, order <= n, and continued by zeros, and `padding` on the diagonal (in size
// like the entries of A, or what is added drowns in the rounding of A). They may be the same array
// if the types are. For a column-major matrix exchange `u` and `v`: (U^T A V)^T = V^T A^T U.
//
// butterfly_transposed: y = U^T b, and butterfly_forward: x = V y, for `columns` vectors; entry i
// of vector c at i * row_stride + c * column_stride. The first `order` entries of b are read, of
// x written; y has all n.
//
// Sums are in the wider of the types of source and target, rounded once more as they are stored.
//
// Launch: 256 threads; butterfly: any grid of two dimensions, x for columns, y for rows: the most
// that can be used are ceil(quarter / 256) by quarter blocks. The vectors: any number of blocks,
// of use up to ceil(quarter columns / 256). No shared memory.
// Bytes: one read of the source, one write of the target; 8 flops an entry. Bound by memory: at
// 4.3 TB/s fp64 to fp32 of order 16384 takes 0.75 ms, fp32 in place 0.5 ms. (D. S. Parker, Random
// butterfly transformations with applications in computational linear algebra, UCLA CSD-950023
// (1995); M. Baboulin, J. Dongarra, J. Herrmann, S. Tomov, Accelerating linear system solutions
// using randomization techniques, ACM Trans. Math. Softw. 39 (2013).)
#include "portable.cuh"

constexpr int THREADS = 256;

// What the diagonals have at i, i + quarter, i + 2 quarter, i + 3 quarter.
template <class T> struct Diagonals {
    T outer[4], inner[4];

    __device__ __forceinline__ explicit Diagonals(const float* group) {
        const float4 first = *reinterpret_cast<const float4*>(group);
        const float4 second = *reinterpret_cast<const float4*>(group + 4);
        outer[0] = first.x, outer[1] = first.y, outer[2] = first.z, outer[3] = first.w;
        inner[0] = second.x, inner[1] = second.y, inner[2] = second.z, inner[3] = second.w;
    }
};

// U^T times the vector a, without the factor 1/2 = 1/sqrt(2)^2.
template <class T>
__device__ __forceinline__ void transposed(const Diagonals<T>& d, T& a0, T& a1, T& a2, T& a3) {
    const T b0 = (a0 + a1) * d.inner[0], b1 = (a0 - a1) * d.inner[1];
    const T b2 = (a2 + a3) * d.inner[2], b3 = (a2 - a3) * d.inner[3];
    a0 = (b0 + b2) * d.outer[0], a2 = (b0 - b2) * d.outer[2];
    a1 = (b1 + b3) * d.outer[1], a3 = (b1 - b3) * d.outer[3];
}

// U times the vector a, without the factor 1/2.
template <class T>
__device__ __forceinline__ void forward(const Diagonals<T>& d, T& a0, T& a1, T& a2, T& a3) {
    const T b0 = a0 * d.outer[0], b1 = a1 * d.outer[1], b2 = a2 * d.outer[2], b3 = a3 * d.outer[3];
    const T c0 = (b0 + b2) * d.inner[0], c1 = (b1 + b3) * d.inner[1];
    const T c2 = (b0 - b2) * d.inner[2], c3 = (b1 - b3) * d.inner[3];
    a0 = c0 + c1, a1 = c0 - c1, a2 = c2 + c3, a3 = c2 - c3;
}

template <class Source, class Target>
__global__ void __launch_bounds__(THREADS, 2)
butterfly(int quarter, int order, const Source* source, long long source_stride, Target* target,
          long long target_stride, const float* __restrict__ u, const float* __restrict__ v,
          double padding) {
    using T = decltype(Source() + Target());
    for (int j = blockIdx.x * THREADS + threadIdx.x; j < quarter; j += gridDim.x * THREADS) {
        const Diagonals<T> right(v + 8LL * j);
        for (int i = blockIdx.y; i < quarter; i += gridDim.y) {
            const Diagonals<T> left(u + 8LL * i);
            T a[4][4];
#pragma unroll
            for (int k = 0; k < 4; ++k)
#pragma unroll
                for (int l = 0; l < 4; ++l) {
                    const int row = i + k * quarter, column = j + l * quarter;
                    T value = row == column ? static_cast<T>(padding) : T(0);
                    if (row < order && column < order)
                        value = source[row * source_stride + column];
                    a[k][l] = value * T(0.25);  // at once, so that no sum overflows before it
                }
#pragma unroll
            for (int k = 0; k < 4; ++k) transposed(right, a[k][0], a[k][1], a[k][2], a[k][3]);
#pragma unroll
            for (int l = 0; l < 4; ++l) transposed(left, a[0][l], a[1][l], a[2][l], a[3][l]);
#pragma unroll
            for (int k = 0; k < 4; ++k)
#pragma unroll
                for (int l = 0; l < 4; ++l) {
                    const int row = i + k * quarter, column = j + l * quarter;
                    target[row * target_stride + column] = static_cast<Target>(a[k][l]);
                }
        }
    }
}

// Four entries of each vector a thread, vectors with unit stride along the threads.
template <bool IS_TRANSPOSED, class Source, class Target>
__device__ __forceinline__ void transform(int quarter, int order, int columns, const Source* from,
                                          long long from_row, long long from_column, Target* to,
                                          long long to_row, long long to_column,
                                          const float* diagonals) {
    using T = decltype(Source() + Target());
    const int read = IS_TRANSPOSED ? order : 4 * quarter;
    const int written = IS_TRANSPOSED ? 4 * quarter : order;
    const long long count = static_cast<long long>(quarter) * columns;
    const bool along_rows = from_row < from_column;
    const int length = along_rows ? quarter : columns;
    for (long long e = blockIdx.x * static_cast<long long>(THREADS) + threadIdx.x; e < count;
         e += static_cast<long long>(gridDim.x) * THREADS) {
        const int fast = e % length, slow = e / length;
        const int i = along_rows ? fast : slow, c = along_rows ? slow : fast;
        const Diagonals<T> d(diagonals + 8LL * i);
        T a[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const int row = i + k * quarter;
            const T value = row < read ? from[row * from_row + c * from_column] : Source(0);
            a[k] = value * T(0.5);
        }
        if constexpr (IS_TRANSPOSED)
            transposed(d, a[0], a[1], a[2], a[3]);
        else
            forward(d, a[0], a[1], a[2], a[3]);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const int row = i + k * quarter;
            if (row < written) to[row * to_row + c * to_column] = static_cast<Target>(a[k]);
        }
    }
}

template <class Source, class Target>
__global__ void __launch_bounds__(THREADS)
butterfly_transposed(int quarter, int order, int columns, const Source* source,
                     long long source_row_stride, long long source_column_stride, Target* target,
                     long long target_row_stride, long long target_column_stride,
                     const float* __restrict__ u) {
    transform<true>(quarter, order, columns, source, source_row_stride, source_column_stride,
                    target, target_row_stride, target_column_stride, u);
}

template <class Source, class Target>
__global__ void __launch_bounds__(THREADS)
butterfly_forward(int quarter, int order, int columns, const Source* source,
                  long long source_row_stride, long long source_column_stride, Target* target,
                  long long target_row_stride, long long target_column_stride,
                  const float* __restrict__ v) {
    transform<false>(quarter, order, columns, source, source_row_stride, source_column_stride,
                     target, target_row_stride, target_column_stride, v);
}
