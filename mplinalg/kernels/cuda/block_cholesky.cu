// Cholesky factorization of one diagonal block, with the inverse of the factor:
//
//     A = L L^T,  L^-1
//
// so that the triangular solves of a blocked factorization become products of matrices.
//
// `a` is nb by nb, nb <= NB, row-major with leading dimension `ld`; its lower triangle becomes L,
// and what is above the diagonal is neither read nor written. `inverse` is NB by NB, row-major,
// zero above the diagonal, and the identity beyond nb.
//
// If leading minor j, counted from 1, is the first that is not positive and finite (NaN is
// neither), `info` becomes the smallest of what is in it (0: nothing) and offset + j; entries that
// depend on it become infinite or NaN.
//
// Launch: 256 threads, one block.
//
// Step j has p = t[j, j], d = sqrt(p), l[i] = t[i, j] / d, and, in the lower triangle in place,
//
//     t[i, k] -= l[i] v[k],  i > j, k <= i, k != j;   v[k] = l[k], k > j;  t[j, k] / d, k < j
//     t[i, j]  = -l[i],  i > j;   t[j, k] = t[j, k] / d, k < j;   t[j, j] = 1
//
// Column j of L is final in step j, and leaves the tile by way of shared memory. What is left is
// L^-1 column by column, by substitution, each times its d: the residual |L L^-1 - I| is small
// entry by entry (J. J. Du Croz and N. J. Higham, Stability of methods for matrix inversion, IMA
// J. Numer. Anal. 12 (1992)).
//
// Flops: 2/3 NB^3, one barrier a column. Bound by the instructions of one multiprocessor: at
// NB = 128 in fp32 a step is 26 multiply-adds a thread among 115 instructions, so that two warps
// on each of four schedulers take about 300 cycles with what they wait for; 21 us in all at
// 1.8 GHz.
#include "cyclic.cuh"

// The last 16 columns: of each a thread stores, in the end, what it has put there. The last two
// rows, of L^-1 times the root of the pivot: one is written while the other is read.
template <class T, int NB> struct Steps {
    Line<T, NB / SIDE> column[SIDE], row[2];
    T root[NB], reciprocal[NB];  // d, 1 / d
};

template <class T, int NB>
__global__ void __launch_bounds__(THREADS, 1)
block_cholesky(int nb, T* __restrict__ a, long long ld, T* __restrict__ inverse, int offset,
               int* __restrict__ info) {
    constexpr int G = NB / SIDE;
    __shared__ Steps<T, NB> steps;
    const int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;

    T tile[G][G];  // above the diagonal of no account
#pragma unroll
    for (int r = 0; r < G; ++r)
#pragma unroll
        for (int c = 0; c < G; ++c) {
            const int i = y + SIDE * r, k = x + SIDE * c;
            tile[r][c] = c <= r && k <= i && i < nb ? a[i * ld + k] : static_cast<T>(i == k);
        }

#pragma unroll
    for (int g = 0; g < G; ++g) {
        // Column and row j = 16 g + t, which nothing before step j will change any more. The root
        // is one thread's work, while the others go on.
        const auto publish = [&](int t) {
            const int j = SIDE * g + t;
            if (x == t) {
                T column[G];
#pragma unroll
                for (int r = 0; r < G; ++r) column[r] = tile[r][g];
                steps.column[t].put(y, column);
            }
            if (y == t) steps.row[t % 2].put(x, tile[g]);
            if (x == t && y == t) {
                const T root = sqrt(tile[g][g]);
                steps.root[j] = root;
                steps.reciprocal[j] = T(1) / root;
            }
        };
        if (SIDE * g < nb) publish(0);
        for (int t = 0; t < SIDE && SIDE * g + t < nb; ++t) {
            const int j = SIDE * g + t;
            __syncthreads();
            T l[G], v[G], left[G];
            steps.column[t].get(y, l);
            steps.column[t].get(x, v);
            steps.row[t % 2].get(x, left);
            const T reciprocal = steps.reciprocal[j];
#pragma unroll
            for (int r = g; r < G; ++r) l[r] *= reciprocal;
#pragma unroll
            for (int c = 0; c < G; ++c)
                v[c] = (c < g || (c == g && x < t) ? left[c] : v[c]) * reciprocal;
            const auto is_below = [&](int r) { return r > g || (r == g && y > t); };
            const auto update = [&](int r, int c) {
                if (is_below(r)) tile[r][c] = fused(-l[r], v[c], tile[r][c]);
            };
            // first what the next step waits for
#pragma unroll
            for (int c = 0; c <= g; ++c) {
                update(g, c);
                if (y == t && (c < g || x < t)) tile[g][c] = v[c];
            }
#pragma unroll
            for (int r = g; r < G; ++r) {
                if (r > g) update(r, g);
                if (x == t) tile[r][g] = is_below(r) ? -l[r] : T(1);
            }
            if (t + 1 < SIDE) publish(t + 1);
#pragma unroll
            for (int r = g + 1; r < G; ++r)
#pragma unroll
                for (int c = 0; c <= r; ++c)
                    if (c != g) update(r, c);
        }
        const int k = x + SIDE * g;  // 16 columns of L
        if (k < nb) {
            T l[G];
            steps.column[x].get(y, l);
#pragma unroll
            for (int r = g; r < G; ++r) {
                const int i = y + SIDE * r;
                if (i > k && i < nb) a[i * ld + k] = l[r] * steps.reciprocal[k];
                if (i == k) a[i * ld + k] = steps.root[k];
            }
        }
    }

#pragma unroll
    for (int r = 0; r < G; ++r)
#pragma unroll
        for (int c = 0; c < G; ++c) {
            const int i = y + SIDE * r, k = x + SIDE * c;
            const T scale = k < nb ? steps.reciprocal[k] : T(1);
            inverse[i * NB + k] = k <= i ? tile[r][c] * scale : T(0);
        }

    // sqrt is NaN below zero
    int first = NONE;
    if (threadIdx.x < nb) {
        const T root = steps.root[threadIdx.x];
        if (!(root > T(0) && steps.reciprocal[threadIdx.x] > T(0))) first = threadIdx.x + 1;
    }
    first = warp_min(first);
    if (threadIdx.x % 32 == 0 && first != NONE) report(info, offset + first);
}
