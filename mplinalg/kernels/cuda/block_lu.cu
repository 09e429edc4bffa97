// LU of one diagonal block without pivoting, with the inverses of both factors:
//
//     A = L U,  L^-1,  U^-1
//
// so that the triangular solves of a blocked factorization become products of matrices; and
// L^-1 and U^-1 alone, of blocks that were factored elsewhere, with pivoting.
//
// block_lu<NB> takes the nb by nb block `a`, nb <= NB, row-major with leading dimension `ld`, and
// leaves L\U in it. triangle_inverse<NB> takes L\U of all diagonal blocks of a matrix of order n:
// thread block b that in rows and columns NB b, ..., min(n, NB b + NB) - 1. The inverses are
// NB by NB, row-major, one after the other, zero in the other triangle, and the identity beyond
// nb; triangle_inverse leaves out one whose pointer is null.
//
// A pivot is useless if it is zero, infinite, NaN, or so small that its reciprocal overflows.
// Nothing is put in its place: what depends on it becomes infinite or NaN, and `info` becomes the
// smallest of what is in it (0: nothing) and offset + j, j the first such pivot, counted from 1.
// `range` may be null; range[0] is lowered to the smallest magnitude of a pivot, range[1] raised
// to the largest of an entry of L\U (block_lu only), range[2] of the inverses, NaN counting as
// larger than infinity. The caller sets 0 and {infinity, 0, 0} before the first block.
//
// Launch: 256 threads; one block for block_lu, ceil(n / NB) for triangle_inverse.
//
// Elimination by Gauss-Jordan in place: step j has p = t[j, j], m[i] = t[i, j] / p, and
//
//     t[i, k] -= m[i] t[j, k]    but for i < j, k < j (Gauss-Jordan would go on there, to A^-1)
//     t[i, j]  = -m[i], i > j;   m[i], i < j
//     t[j, k]  = -t[j, k] / p, k > j;   t[j, j] = 1 / p
//
// Row j of U and column j of L are final in step j, and leave the tile by way of shared memory.
// What is left is L^-1 column by column, by substitution, and U^-1 row by row, by substitution:
// the residuals |L L^-1 - I| and |U^-1 U - I| are small entry by entry (J. J. Du Croz and
// N. J. Higham, Stability of methods for matrix inversion, IMA J. Numer. Anal. 12 (1992)).
//
// Flops: 4/3 NB^3 (triangle_inverse 2/3 NB^3), one barrier a column. Bound by the instructions of
// one multiprocessor: at NB = 128 a step is 47 multiply-adds a thread among 115 instructions, so
// that two warps on each of four schedulers take about 300 cycles with what they wait for; 21 us
// in all at 1.8 GHz, and 8 us at NB = 64.
#include "cyclic.cuh"

// The last 16 columns and rows: of each a thread stores, in the end, what it has put there. Two
// where nothing is to be stored: one is written while the other is read.
template <int NB, int SLOTS> struct Steps {
    Line<float, NB / SIDE> column[SLOTS], row[SLOTS];
    float pivot[NB], reciprocal[NB];
};

template <int NB, bool IS_FACTORED, class Float>
__device__ __forceinline__ void eliminate(int nb, Float* a, long long ld, float* lower_inverse,
                                          float* upper_inverse, float* range, int offset,
                                          int* info) {
    constexpr int G = NB / SIDE, SLOTS = IS_FACTORED ? 2 : SIDE;
    __shared__ Steps<NB, SLOTS> steps;
    const int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;

    float tile[G][G];
#pragma unroll
    for (int r = 0; r < G; ++r)
#pragma unroll
        for (int c = 0; c < G; ++c) {
            const int i = y + SIDE * r, k = x + SIDE * c;
            tile[r][c] = i < nb && k < nb ? a[i * ld + k] : static_cast<float>(i == k);
        }

    unsigned largest = 0;
#pragma unroll
    for (int g = 0; g < G; ++g) {
        // Column and row j = 16 g + t, which nothing before step j will change any more. The
        // reciprocal is one thread's work, while the others go on.
        const auto publish = [&](int t) {
            const int j = SIDE * g + t, slot = t % SLOTS;
            if (x == t) {
                float column[G];
#pragma unroll
                for (int r = 0; r < G; ++r) column[r] = tile[r][g];
                steps.column[slot].put(y, column);
            }
            if (y == t) steps.row[slot].put(x, tile[g]);
            if (x == t && y == t) {
                steps.pivot[j] = tile[g][g];
                steps.reciprocal[j] = 1.0f / tile[g][g];
            }
        };
        if (SIDE * g < nb) publish(0);
        for (int t = 0; t < SIDE && SIDE * g + t < nb; ++t) {
            const int j = SIDE * g + t, slot = t % SLOTS;
            __syncthreads();
            float m[G], u[G];
            steps.column[slot].get(y, m);
            steps.row[slot].get(x, u);
            const float reciprocal = steps.reciprocal[j];
            // columns of L that are given are multipliers already
#pragma unroll
            for (int r = 0; r < G; ++r)
                if (!IS_FACTORED || r < g || (r == g && y < t)) m[r] *= reciprocal;
            if (y == t) {  // so that the update makes -u / p of u
                m[g] = reciprocal;
#pragma unroll
                for (int c = g; c < G; ++c)
                    if (c > g || x > t) tile[g][c] = 0.0f;
            }
            const auto is_below = [&](int r) { return r > g || (r == g && y > t); };
            const auto update = [&](int r, int c) {
                const bool is_left = c < g || (c == g && x < t);
                const bool is_right = c > g || (c == g && x > t);
                if (is_below(r) ? !IS_FACTORED || is_left : is_right)
                    tile[r][c] = fmaf(-m[r], u[c], tile[r][c]);
            };
            // first what the next step waits for
#pragma unroll
            for (int c = 0; c < G; ++c) update(g, c);
#pragma unroll
            for (int r = 0; r < G; ++r) {
                if (r != g) update(r, g);
                if (x == t) tile[r][g] = is_below(r) ? -m[r] : m[r];
            }
            if (t + 1 < SIDE) publish(t + 1);
#pragma unroll
            for (int r = 0; r < G; ++r)
#pragma unroll
                for (int c = 0; c < G; ++c)
                    if (r != g && c != g) update(r, c);
        }
        if constexpr (!IS_FACTORED) {  // 16 columns of L and 16 rows of U
            const int row = y + SIDE * g, column = x + SIDE * g;
            float l[G], u[G];
            if (column < nb) {
                steps.column[x].get(y, l);
                const float reciprocal = steps.reciprocal[column];
#pragma unroll
                for (int r = g; r < G; ++r) {
                    const int i = y + SIDE * r;
                    if (i <= column || i >= nb) continue;
                    l[r] *= reciprocal;
                    a[i * ld + column] = l[r];
                    largest = max(largest, magnitude(l[r]));
                }
            }
            if (row < nb) {
                steps.row[y].get(x, u);
#pragma unroll
                for (int c = g; c < G; ++c) {
                    const int k = x + SIDE * c;
                    if (k < row || k >= nb) continue;
                    a[row * ld + k] = u[c];
                    largest = max(largest, magnitude(u[c]));
                }
            }
        }
    }

    unsigned largest_inverse = 0;
#pragma unroll
    for (int r = 0; r < G; ++r)
#pragma unroll
        for (int c = 0; c < G; ++c) {
            const int i = y + SIDE * r, k = x + SIDE * c;
            const float value = tile[r][c];
            if (i > k ? lower_inverse != nullptr : upper_inverse != nullptr)
                largest_inverse = max(largest_inverse, magnitude(value));
            if (lower_inverse)
                lower_inverse[i * NB + k] = i > k ? value : static_cast<float>(i == k);
            if (upper_inverse) upper_inverse[i * NB + k] = i <= k ? value : 0.0f;
        }

    int first = NONE, smallest = INFINITE;  // of the pivots, one a thread
    if (threadIdx.x < nb) {
        const unsigned pivot = magnitude(steps.pivot[threadIdx.x]);
        const unsigned reciprocal = magnitude(steps.reciprocal[threadIdx.x]);
        if (!(0 < pivot && pivot < INFINITE && reciprocal < INFINITE)) first = threadIdx.x + 1;
        smallest = min(smallest, static_cast<int>(pivot));
    }
    first = warp_min(first);
    smallest = warp_min(smallest);
    largest = warp_max(largest);
    largest_inverse = warp_max(largest_inverse);
    if (threadIdx.x % 32 != 0) return;
    if (first != NONE) report(info, offset + first);
    if (range) {
        unsigned* bits = reinterpret_cast<unsigned*>(range);
        atomicMin(bits, static_cast<unsigned>(smallest));
        atomicMax(bits + 1, largest);
        atomicMax(bits + 2, largest_inverse);
    }
}

template <int NB>
__global__ void __launch_bounds__(THREADS, 1)
block_lu(int nb, float* __restrict__ a, long long ld, float* __restrict__ lower_inverse,
         float* __restrict__ upper_inverse, float* __restrict__ range, int offset,
         int* __restrict__ info) {
    eliminate<NB, false>(nb, a, ld, lower_inverse, upper_inverse, range, offset, info);
}

template <int NB>
__global__ void __launch_bounds__(THREADS, 1)
triangle_inverse(int n, const float* __restrict__ a, long long ld,
                 float* __restrict__ lower_inverse, float* __restrict__ upper_inverse,
                 float* __restrict__ range, int offset, int* __restrict__ info) {
    const int begin = NB * blockIdx.x;
    const long long place = static_cast<long long>(begin) * NB;
    eliminate<NB, true>(min(NB, n - begin), a + begin * (ld + 1), ld,
                        lower_inverse ? lower_inverse + place : nullptr,
                        upper_inverse ? upper_inverse + place : nullptr, range, offset + begin,
                        info);
}
