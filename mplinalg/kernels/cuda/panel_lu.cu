// LU of a tall panel by tournament pivoting:  P A = L U,  A of m rows and n <= NB columns
//
// tournament<NB>: each block picks n pivot rows among at most ROWS candidates, by LU with partial
// pivoting. Candidates are rows of A: `candidates[i]` for i < count, or where that is null the
// rows 0..count-1; block b has those from b ROWS on, and `winners` gets its choice, in pivot
// order, at b n. Winners are the candidates of the next launch, until one block is left. In that
// last one `pivots` is not null: pivots[j] - first is the row of A that row j is swapped with
// (LAPACK's ipiv, counted from 0), the swaps have been made in A's columns, and rows 0..n-1 are
// the L and U of the winners. `info` becomes first + j + 1 for the first zero pivot j if it was 0
// before; NaN counts as the largest magnitude and is chosen, so it is seen in the result. Of
// equal magnitudes the row is taken that stands higher in A, as it would after LAPACK's swaps:
// with one block all is as in LAPACK.
// panel_rows<NB>: rows n..m-1 become rows of L = A U^-1, in place, and in `narrow`, if not null,
// half (or bfloat16) of `scale` L, at the same rows. A zero pivot divides nothing, as in LAPACK.
//
// A is row-major with leading dimension lda. m >= n: a round plays at least n candidates.
//
// Launch: THREADS threads. tournament: ceil(count / ROWS) blocks; the next count is n a block, and
// of the last block the number of its rows if these are fewer. panel_rows: ceil((m - n) / ROWS)
// blocks.
// Flops: ROWS NB^2 a block and round, m n^2 in panel_rows. What counts is the time of a column in
// a block: one barrier, about 300 cycles; m = 16384 with n = 32 has three rounds, or 96 columns.
// Grigori, Demmel, Xiang, "CALU: a communication optimal LU factorization algorithm", SIAM J.
// Matrix Anal. Appl. 32 (2011).
#include "pivot.cuh"

constexpr int THREADS = 128, WARPS = THREADS / 32, ROWS = ROWS_PER_THREAD * THREADS;

// The best of the block's rows, with one barrier: every warp has the row of its own candidate
// ready before it, in one of two buffers in turn.
template <int NB> struct BestOfBlock {
    PanelRows<float, NB>& rows;
    float (*row)[WARPS][NB];
    Candidate<float> (*best)[WARPS];
    int* pivots;
    int first, first_zero;
    unsigned displaced;  // where row threadIdx.x of A stands

    __device__ __forceinline__ Pivot<float> operator()(int j, int k, int left) {
        const int warp = threadIdx.x / 32, buffer = j % 2;
        const Candidate<float> own = rows.search(j, k);
        rows.publish(own.at, row[buffer][warp], left);
        if (threadIdx.x % 32 == 0) best[buffer][warp] = own;
        __syncthreads();
        Candidate<float> winner = best[buffer][0];
        int from = 0;
#pragma unroll
        for (int w = 1; w < WARPS; ++w) {
            const Candidate<float> other = best[buffer][w];
            const bool is_other = is_better(other, winner);
            winner = is_other ? other : winner;
            from = is_other ? w : from;
        }
        rows.swap(j, winner.at);
        if (displaced == winner.at) displaced = j;
        else if (displaced == j) displaced = winner.at;
        if (threadIdx.x == 0 && pivots) {
            pivots[j] = first + static_cast<int>(winner.at);
            if (winner.size == 0 && first_zero < 0) first_zero = j;
        }
        const float* u = row[buffer][from];
        return {u, divisor(u[k])};
    }
};

template <int NB>
__global__ void __launch_bounds__(THREADS)
tournament(int count, int n, float* A, long long lda, const int* __restrict__ candidates,
           int* __restrict__ winners, int* __restrict__ pivots, int* __restrict__ info,
           int first) {
    __shared__ float tile[WARPS][2 * STRIP][STRIP];
    __shared__ Pack<float> published[2 * WARPS * NB / 4];
    __shared__ Candidate<float> best[2][WARPS];
    __shared__ int moved_to[NB];
    const int base = blockIdx.x * ROWS, count_here = min(ROWS, count - base);
    const int steps = min(n, count_here), warp = threadIdx.x / 32;
    int row[ROWS_PER_THREAD];
    PanelRows<float, NB> rows;
#pragma unroll
    for (int i = 0; i < ROWS_PER_THREAD; ++i) {
        const int place = warp * ROWS_PER_WARP + i * 32 + threadIdx.x % 32;
        row[i] = place >= count_here ? -1 : candidates ? candidates[base + place] : base + place;
        rows.location[i] = row[i];
    }
    rows.load(A, lda, n, row, tile[warp]);
    BestOfBlock<NB> find{rows, reinterpret_cast<float(*)[WARPS][NB]>(published), best, pivots,
                         first, -1, threadIdx.x};
    eliminate_columns(rows, steps, find);
#pragma unroll
    for (int i = 0; i < ROWS_PER_THREAD; ++i) {
        if (rows.location[i] < steps)
            winners[static_cast<long long>(blockIdx.x) * n + rows.location[i]] = row[i];
        else
            rows.location[i] = NOWHERE;
    }
    if (pivots) {
        if (threadIdx.x == 0 && find.first_zero >= 0 && *info == 0)
            *info = first + find.first_zero + 1;
        // The rows that were first in A go to where the winners stood, then the winners go first.
        if (threadIdx.x < NB) moved_to[threadIdx.x] = find.displaced;
        __syncthreads();
        constexpr int AT_ONCE = NB < 32 ? 2 : 8;
        const int column = threadIdx.x % NB;
        for (int top = threadIdx.x / NB; top < steps; top += AT_ONCE * THREADS / NB) {
            float kept[AT_ONCE];
            int to[AT_ONCE];
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) {
                const int from = top + e * THREADS / NB;
                to[e] = from < steps && column < n ? moved_to[from] : 0;
                if (to[e] >= steps) kept[e] = A[from * lda + column];
            }
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e)
                if (to[e] >= steps) A[to[e] * lda + column] = kept[e];
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i) row[i] = static_cast<int>(rows.location[i]);
        rows.store(A, lda, n, row, tile[warp], {nullptr, 0, 1.0f, false});
    }
}

// The rows of U in turn.
template <int NB> struct RowsOfU {
    const float (*u)[NB];
    const Divisor<float>* divisors;
    __device__ __forceinline__ Pivot<float> operator()(int j, int k, int) const {
        return {u[j] + (j - k), divisors[j]};
    }
};

template <int NB>
__global__ void __launch_bounds__(THREADS)
panel_rows(int m, int n, float* A, long long lda, unsigned short* __restrict__ narrow,
           long long narrow_stride, float scale, int is_bfloat16) {
    __shared__ float tile[WARPS][2 * STRIP][STRIP];
    // Zeros below the diagonal and in columns from n on; and of one row more, as strips run over
    // the end of a row by less than they are to the left of the diagonal in the next one.
    __shared__ Pack<float> upper[(NB + 1) * NB / 4];
    __shared__ Divisor<float> divisors[NB];
    float (*u)[NB] = reinterpret_cast<float(*)[NB]>(upper);
    const int warp = threadIdx.x / 32;
    int row[ROWS_PER_THREAD];
    PanelRows<float, NB> rows;
#pragma unroll
    for (int i = 0; i < ROWS_PER_THREAD; ++i) {
        const long long place = n + static_cast<long long>(blockIdx.x) * ROWS +
                                warp * ROWS_PER_WARP + i * 32 + threadIdx.x % 32;
        row[i] = place < m ? static_cast<int>(place) : -1;
        rows.location[i] = row[i];
    }
    rows.load(A, lda, n, row, tile[warp]);
#pragma unroll
    for (int e = threadIdx.x; e < (NB + 1) * NB; e += THREADS) {
        const int i = e / NB, j = e % NB;
        const float x = i <= j && j < n ? A[i * lda + j] : 0.0f;
        u[i][j] = x;
        if (i == j) divisors[j] = divisor(x);
    }
    __syncthreads();
    RowsOfU<NB> find{u, divisors};
    eliminate_columns(rows, n, find);
    rows.store(A, lda, n, row, tile[warp], {narrow, narrow_stride, scale, is_bfloat16 != 0});
}
