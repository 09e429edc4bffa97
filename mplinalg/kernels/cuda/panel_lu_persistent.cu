// LU of a tall panel with partial pivoting, in one launch:  P A = L U,  m rows, n <= NB columns
//
// A is row-major with leading dimension lda, and becomes L and U, rows swapped; pivots[j] - first
// is the row of the panel that row j was swapped with (LAPACK's ipiv, counted from 0). `info`
// becomes first + j + 1 for the first zero pivot j if it was 0 before; a zero pivot divides
// nothing. NaN counts as the largest magnitude. Of equal magnitudes the row is taken that stands
// highest at that time: the choice is that of LAPACK's getf2. `narrow`, if not null, gets half (or
// bfloat16) of `scale` L in the rows from n on.
//
// Rows stay in registers from the first to the last column. At each column every block shows the
// others its best candidate, in `keys` (4 words a block and buffer) and the row itself in `slots`
// (NB numbers a block and buffer), all wait, and each block takes the best of these. Two buffers
// in turn make one barrier a column enough. Rows are written where they end up, by whoever has
// them: all were read before the first barrier.
//
// Launch: cooperative, THREADS threads, G blocks with G 2 THREADS >= m, all resident. `slots` and
// `keys` have 2 G NB and 8 G entries and begin at multiples of 16 bytes; nothing need be in them.
// Bytes: one read and one write of the panel. Flops: m n^2. The time is that of the barrier of the
// grid and of two reads of what another block wrote, about 2 microseconds a column.
// Chalmers, Kurzak, McDougall, Bauman, "Optimizing high-performance Linpack for exascale
// accelerated architectures", SC (2023), has a panel with one barrier a column.
#include "pivot.cuh"

constexpr int AT_ONCE = 5;  // reads under way of a lane: 160 blocks, more than most devices take

template <int NB, int THREADS, class T> struct BestOfGrid {
    PanelRows<T, NB>& rows;
    Candidate<T>* best;
    T* slots;
    unsigned* keys;
    int* pivots;
    int first, first_zero;

    // A candidate and the block that it comes from, as 16 bytes.
    static __device__ __forceinline__ uint4 packed(const Candidate<T>& c) {
        const unsigned long long size = c.size;
        return make_uint4(static_cast<unsigned>(size >> 32), static_cast<unsigned>(size), c.at, 0);
    }
    static __device__ __forceinline__ Candidate<T> unpacked(const uint4& word) {
        const unsigned long long size = static_cast<unsigned long long>(word.x) << 32 | word.y;
        return {static_cast<typename Element<T>::Size>(size), word.z};
    }

    __device__ __forceinline__ Pivot<T> operator()(int j, int k, int left) {
        const int lane = threadIdx.x % 32, blocks = gridDim.x, buffer = j % 2 * blocks;
        Candidate<T> winner = rows.search(j, k);
        if (lane == 0) best[threadIdx.x / 32] = winner;
        __syncthreads();
        winner = best[0];
#pragma unroll
        for (int w = 1; w < THREADS / 32; ++w)
            if (is_better(best[w], winner)) winner = best[w];
        rows.publish(winner.at, slots + static_cast<long long>(buffer + blockIdx.x) * NB, left);
        uint4* words = reinterpret_cast<uint4*>(keys) + buffer;
        if (threadIdx.x == 0) words[blockIdx.x] = packed(winner);
        grid_sync();
        // Every warp for itself, so that no barrier of the block is needed.
        winner = {0, NOWHERE};
        unsigned from = 0;
        for (int b = lane; b < blocks; b += 32 * AT_ONCE) {
            Candidate<T> other[AT_ONCE];
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) {
                other[e] = {0, NOWHERE};
                if (b + 32 * e < blocks) other[e] = unpacked(words[b + 32 * e]);
            }
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) {
                const bool is_other = is_better(other[e], winner);
                winner = is_other ? other[e] : winner;
                from = is_other ? b + 32 * e : from;
            }
        }
        const unsigned own = winner.at;
        winner = warp_best(winner);
        from = __reduce_min_sync(WHOLE_WARP, own == winner.at ? from : NOWHERE);
        rows.swap(j, winner.at);
        if (blockIdx.x == 0 && threadIdx.x == 0) {
            pivots[j] = first + static_cast<int>(winner.at);
            if (winner.size == 0 && first_zero < 0) first_zero = j;
        }
        const T* u = slots + static_cast<long long>(buffer + from) * NB;
        return {u, divisor(u[k])};
    }
};

template <int NB, int THREADS, class T>
__global__ void __launch_bounds__(THREADS, 1)
panel_lu(int m, int n, T* A, long long lda, T* slots, unsigned* keys, int* __restrict__ pivots,
         int* __restrict__ info, int first, unsigned short* __restrict__ narrow,
         long long narrow_stride, float scale, int is_bfloat16) {
    __shared__ T tile[THREADS / 32][2 * STRIP][STRIP];
    __shared__ Candidate<T> best[THREADS / 32];
    const int warp = threadIdx.x / 32, blocks = gridDim.x;
    const int share = m / blocks + (m % blocks != 0);
    const long long base = static_cast<long long>(blockIdx.x) * share;
    int row[ROWS_PER_THREAD];
    PanelRows<T, NB> rows;
#pragma unroll
    for (int i = 0; i < ROWS_PER_THREAD; ++i) {
        const int place = warp * ROWS_PER_WARP + i * 32 + threadIdx.x % 32;
        row[i] = place < share && base + place < m ? static_cast<int>(base) + place : -1;
        rows.location[i] = row[i];
    }
    rows.load(A, lda, n, row, tile[warp]);
    BestOfGrid<NB, THREADS, T> find{rows, best, slots, keys, pivots, first, -1};
    eliminate_columns(rows, min(m, n), find);
    if (blockIdx.x == 0 && threadIdx.x == 0 && find.first_zero >= 0 && *info == 0)
        *info = first + find.first_zero + 1;
#pragma unroll
    for (int i = 0; i < ROWS_PER_THREAD; ++i) row[i] = static_cast<int>(rows.location[i]);
    rows.store(A, lda, n, row, tile[warp], {narrow, narrow_stride, scale, is_bfloat16 != 0});
}
