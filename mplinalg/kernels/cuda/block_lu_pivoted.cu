// LU of one diagonal block with partial pivoting inside of it, by way of inverses:
//
//     P A = L U,  L^-1 P,  U^-1
//
// A blocked LU without interchanges outside of diagonal blocks needs no more than that: with
// (L^-1 P) A[k, t] and A[t, k] U^-1 for the blocks beside and below it is one of
// diag(P_1, P_2, ...) A whose rows on the left stay where they were, and no row is moved at all.
// Pivots are the largest of their column in the block, so that elements grow with n / NB blocks
// instead of n columns.
//
// block_lu_pivoted<NB> takes the nb by nb block `a`, nb <= NB, row-major with leading dimension
// `ld`, and leaves U in its upper triangle; what is below the diagonal is kept. The inverses are
// NB by NB, row-major; U^-1 is zero below the diagonal, and both are the identity beyond nb.
//
// A pivot is useless if it is zero, infinite, NaN, or so small that its reciprocal overflows; NaN
// counts as largest. Nothing is put in its place: what depends on it becomes infinite or NaN, and
// `info` becomes the smallest of what is in it (0: nothing) and offset + j, j the number of the
// first such pivot, counted from 1. The caller sets 0 before the first block.
//
// Launch: one block of 256 threads.
//
// Gauss-Jordan in place as in block_lu.cu, on rows that stay where they are: "below" are those
// that have been no pivot row yet. Step j has the pivot row q, p = t[q, j], m[i] = t[i, j] / p, and
//
//     t[i, k] -= m[i] t[q, k]    but for k < j where row i was a pivot row
//     t[i, j]  = -m[i] below;  m[i] of the rows that were pivot rows
//     t[q, k]  = -t[q, k] / p, k > j;   t[q, j] = 1 / p
//
// In the end the row that was pivot row s is row s of L^-1 (left of s) and of U^-1.
//
// Flops: 4/3 NB^3, two barriers a column: one behind column j, in which every warp looks for the
// pivot, and one behind its row; most of the update of the step before lies between them. Bound by
// the instructions of one multiprocessor and by what they wait for: some 450 cycles a column at
// NB = 128, 32 us in all at 1.8 GHz.
#include "cyclic.cuh"
#include "reduce.cuh"

template <int NB> struct Step {
    Line<float, NB / SIDE> column[2], row;
    float values[2][NB];  // the column again, in order
    float reciprocal;
    int step_of[NB], row_of[NB];
};

template <int NB>
__global__ void __launch_bounds__(THREADS, 1)
block_lu_pivoted(int nb, float* __restrict__ a, long long ld, float* __restrict__ lower_inverse,
                 float* __restrict__ upper_inverse, int offset, int* __restrict__ info) {
    constexpr int G = NB / SIDE;
    __shared__ Step<NB> step;
    const int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE, lane = threadIdx.x % 32;

    float tile[G][G];
#pragma unroll
    for (int r = 0; r < G; ++r)
#pragma unroll
        for (int c = 0; c < G; ++c) {
            const int i = y + SIDE * r, k = x + SIDE * c;
            tile[r][c] = i < nb && k < nb ? a[i * ld + k] : static_cast<float>(i == k);
        }
    if (threadIdx.x < NB) {  // rows beyond the block are their own, and no candidates
        step.step_of[threadIdx.x] = static_cast<int>(threadIdx.x) < nb ? NONE : threadIdx.x;
        step.row_of[threadIdx.x] = threadIdx.x;
    }

    unsigned chosen = 0;  // bit r: row y + 16 r was a pivot row
    int first = NONE;     // useless pivot, counted from 1
    float m[G], u[G];
#pragma unroll
    for (int g = 0; g < G; ++g) {
        const auto publish = [&](int t) {
            const int slot = t % 2;
            if (x != t) return;
            float column[G];
#pragma unroll
            for (int r = 0; r < G; ++r) {
                column[r] = tile[r][g];
                step.values[slot][y + SIDE * r] = tile[r][g];
            }
            step.column[slot].put(y, column);
        };
        if (SIDE * g < nb) publish(0);
#pragma unroll 1  // for sm_120 it would be unrolled otherwise, which takes half a minute
        for (int t = 0; t < SIDE && SIDE * g + t < nb; ++t) {
            const int j = SIDE * g + t, slot = t % 2;
            __syncthreads();
            unsigned best = 0;
            int mine = 0;
#pragma unroll
            for (int i = 0; i < NB; i += 32) {
                const bool is_candidate = step.step_of[i + lane] == NONE;
                const unsigned size = is_candidate ? magnitude(step.values[slot][i + lane]) + 1 : 0;
                if (size > best) mine = i + lane, best = size;
            }
            const unsigned largest = warp_largest(best);
            const unsigned place = warp_largest(best == largest ? NB - mine : 0u);
            const int pivot_row = NB - static_cast<int>(place);
            // the rest of step j - 1
            if (t > 0) {
#pragma unroll
                for (int r = 0; r < G; ++r)
#pragma unroll
                    for (int c = 0; c < G; ++c)
                        if (c > g || (c < g && !(chosen >> r & 1)))
                            tile[r][c] = fmaf(-m[r], u[c], tile[r][c]);
            }
            if (y == pivot_row % SIDE) {
#pragma unroll
                for (int r = 0; r < G; ++r) {
                    if (r != pivot_row / SIDE) continue;
                    step.row.put(x, tile[r]);
                    if (x == t) {
                        const float pivot = tile[r][g], reciprocal = 1.0f / pivot;
                        const unsigned size = magnitude(pivot);
                        if (!(0 < size && size < INFINITE && magnitude(reciprocal) < INFINITE))
                            first = min(first, j + 1);
                        step.reciprocal = reciprocal;
                    }
#pragma unroll
                    for (int c = 0; c < G; ++c) {
                        const int k = x + SIDE * c;
                        if (j <= k && k < nb) a[j * ld + k] = tile[r][c];
                        // so that the update makes -u / p of u
                        if (k > j) tile[r][c] = 0.0f;
                    }
                    chosen |= 1u << r;
                }
            }
            __syncthreads();
            if (threadIdx.x == 0) {
                step.step_of[pivot_row] = j;
                step.row_of[j] = pivot_row;
            }
            step.column[slot].get(y, m);
            step.row.get(x, u);
            const float reciprocal = step.reciprocal;
#pragma unroll
            for (int r = 0; r < G; ++r)
                m[r] = y + SIDE * r == pivot_row ? reciprocal : m[r] * reciprocal;
            // first what the next step waits for
#pragma unroll
            for (int r = 0; r < G; ++r) {
                const bool is_below = !(chosen >> r & 1);
                if (x > t || (x < t && is_below)) tile[r][g] = fmaf(-m[r], u[g], tile[r][g]);
                if (x == t) tile[r][g] = is_below ? -m[r] : m[r];
            }
            if (t + 1 < SIDE) publish(t + 1);
            if (t + 1 == SIDE || j + 1 == nb) {
#pragma unroll
                for (int r = 0; r < G; ++r)
#pragma unroll
                    for (int c = 0; c < G; ++c)
                        if (c > g || (c < g && !(chosen >> r & 1)))
                            tile[r][c] = fmaf(-m[r], u[c], tile[r][c]);
            }
        }
    }

    __syncthreads();
#pragma unroll
    for (int r = 0; r < G; ++r) {
        const int s = step.step_of[y + SIDE * r];
#pragma unroll
        for (int c = 0; c < G; ++c) {
            const int k = x + SIDE * c;
            const float value = tile[r][c];
            lower_inverse[s * NB + step.row_of[k]] = k < s ? value : static_cast<float>(k == s);
            upper_inverse[s * NB + k] = k < s ? 0.0f : value;
        }
    }
    if (first != NONE) report(info, offset + first);
}
