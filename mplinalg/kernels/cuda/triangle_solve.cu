// A triangular system with one to K right-hand sides, in one launch:  op(T) X = B
//
// T of order n is row-major with leading dimension ld, op(T) = T^T if TRANSPOSED. For blocks of NB
// rows, in the order in which op(T) lets them be solved, first to last or last to first,
//
//     x[k] = op(T)[k, k]^-1 (b[k] - sum_j op(T)[k, j] x[j]),   j solved before k
//
// T[k, k]^-1 are given in `inverses`, NB by NB, row-major, one after the other, as
// triangle_inverse<NB> of block_lu.cu makes them. T[k, k] itself is not read, so a unit diagonal,
// as of L in L\U, need not be told. `is_lower` is that of T, not of op(T).
//
// Right-hand sides are columns of unit stride. Row i of B is read at sources[i], if that is not
// null; row i of X is also written to row targets[i] of `answer`, if that is not null. So the row
// interchanges of LU cost no launch. x may be b if there are no sources.
//
// `state` has 1 + ceil(n / NB) words, which are zero before the first launch. Each launch leaves
// them ready for the next one with as many blocks, of any instance; no two may overlap.
//
// Without synchronisation of the grid: a thread block draws a number, takes the block of rows whose
// turn that is, loads one tile of it after the other and waits before each product until the flag
// of x[j] is up. Who has drawn a smaller number runs already, so blocks make progress however many
// of them the device holds. A flag is up when it is one more than the block's own is at the start,
// as all are equal between launches.
//
// Sums are in fp32 and in a fixed order: each of LANES lanes (TRANSPOSED: of WARPS warps) has a
// share of n / LANES (n / WARPS) terms, and the shares are added up. Products with inverses let the
// error of a block be one of |T[k, k]| |T[k, k]^-1| |T[k, k]|, where substitution has |T[k, k]|.
// Zeros of an inverse are factors, too: an entry of B that is infinite or NaN makes its block of X
// NaN, and what depends on it.
//
// Launch: 256 threads, ceil(n / NB) blocks. 1 <= columns <= K.
// Bytes: 2 n^2, one triangle of T, whatever K, and 4 NB n of inverses: 0.13 ms for n = 16384 at
// 4.3 TB/s. Flops: K n^2.
// Critical path: n / NB times the way from one block to the next. In cycles, as estimated, 600
// until x is visible and 250 the flag, 300 until it is seen, 350 to read x, 100 the last tile, 600
// two reductions and the product with the inverse: 2200, at 1.75 GHz 1.3 microseconds (1.5 for
// K = 4), 0.16 ms for n = 16384. NB = 64 would have twice the steps, each of them hardly shorter.
//
// W. Liu, A. Li, J. D. Hogg, I. S. Duff, B. Vinter, A synchronization-free algorithm for parallel
// sparse triangular solves, Euro-Par 2016; J. D. Hogg, A fast dense triangular solve in CUDA,
// SIAM J. Sci. Comput. 35 (2013) C303.
#include "portable.cuh"

constexpr int NB = 128, THREADS = 256, WARPS = THREADS / 32;

// Entries of one row of X, of all right-hand sides.
template <int K> struct __align__(4 * K) Row {
    float columns[K];
};

// NB by NB entries of T in registers: a thread has ROWS neighbouring rows, and of these every
// LANES-th column.
template <int LANES> struct Tile {
    static constexpr int ROWS = NB * LANES / THREADS, COLUMNS = NB / LANES;
    float entries[ROWS][COLUMNS];

    static __device__ __forceinline__ int row() { return threadIdx.x / LANES * ROWS; }
    static __device__ __forceinline__ int column() { return threadIdx.x % LANES; }

    // Of a tile at the end of T, `height` by `width`; zero beyond. Line by line, as addresses of
    // them all would take registers from the entries.
    __device__ __forceinline__ void load(const float* __restrict__ line, long long ld, int height,
                                         int width) {
        line += row() * ld + column();
#pragma unroll
        for (int r = 0; r < ROWS; ++r, line += ld)
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) {
                const bool is_inside = row() + r < height && column() + c * LANES < width;
                entries[r][c] = is_inside ? line[c * LANES] : 0.0f;
            }
    }
};

// A sum for each of NB rows and K right-hand sides, spread over the block.
template <int K, bool TRANSPOSED> struct Sums {
    // fewer lanes along a row make more sums of it in registers, but fewer to be added up
    static constexpr int LANES = TRANSPOSED || K == 1 ? 32 : 16;
    static constexpr int COUNT = (TRANSPOSED ? NB / LANES : Tile<LANES>::ROWS) * K;
    // of the NB K sums a thread has WHOLE in the end, from number first() on, which is one of
    // SHARERS threads
    static constexpr int WHOLE = NB * K >= THREADS ? NB * K / THREADS : 1;
    static constexpr int SHARERS = NB * K >= THREADS ? 1 : THREADS / (NB * K);
    float sums[COUNT];

    static __device__ __forceinline__ int first() { return threadIdx.x / SHARERS * WHOLE; }
    static __device__ __forceinline__ bool is_first() { return threadIdx.x % SHARERS == 0; }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) sums[i] = 0.0f;
    }

    // sums += tile x, or tile^T x
    __device__ __forceinline__ void add(const Tile<LANES>& tile, const Row<K>* x) {
        constexpr int ROWS = Tile<LANES>::ROWS, COLUMNS = Tile<LANES>::COLUMNS;
#pragma unroll
        for (int i = 0; i < (TRANSPOSED ? ROWS : COLUMNS); ++i) {
            const Row<K> factor = x[TRANSPOSED ? tile.row() + i : tile.column() + i * LANES];
#pragma unroll
            for (int e = 0; e < (TRANSPOSED ? COLUMNS : ROWS); ++e)
#pragma unroll
                for (int c = 0; c < K; ++c)
                    sums[e * K + c] = fmaf(TRANSPOSED ? tile.entries[i][e] : tile.entries[e][i],
                                           factor.columns[c], sums[e * K + c]);
        }
    }

    // Leaves what the threads have in common in `sums`, WHOLE of them. `shares` is used by
    // TRANSPOSED, and may be used again after a barrier.
    __device__ __forceinline__ void reduce(Row<K> (*shares)[NB]) {
        if constexpr (TRANSPOSED) {
#pragma unroll
            for (int e = 0; e < COUNT / K; ++e) {
                Row<K> share;
#pragma unroll
                for (int c = 0; c < K; ++c) share.columns[c] = sums[e * K + c];
                shares[threadIdx.x / 32][threadIdx.x % 32 + e * LANES] = share;
            }
            __syncthreads();
#pragma unroll
            for (int m = 0; m < WHOLE; ++m) {
                sums[m] = 0.0f;
#pragma unroll
                for (int w = 0; w < WARPS; ++w)
                    sums[m] += shares[w][(first() + m) / K].columns[(first() + m) % K];
            }
        } else {
            // Each lane keeps half of its sums, and gives the others for those it keeps.
            int count = COUNT;
#pragma unroll
            for (int distance = LANES / 2; distance > 0; distance /= 2) {
                const bool is_upper = threadIdx.x & distance;
                if (count == 1) {
                    sums[0] += __shfl_xor_sync(0xffffffffu, sums[0], distance);
                    continue;
                }
                count /= 2;
#pragma unroll
                for (int i = 0; i < COUNT / 2; ++i) {
                    if (i >= count) break;
                    const float kept = is_upper ? sums[i + count] : sums[i];
                    const float given = is_upper ? sums[i] : sums[i + count];
                    sums[i] = kept + __shfl_xor_sync(0xffffffffu, given, distance);
                }
            }
        }
    }
};

template <int K, bool TRANSPOSED>
__global__ void __launch_bounds__(THREADS, K == 1 ? 2 : 1)
triangle_solve(int n, const float* __restrict__ t, long long ld,
               const float* __restrict__ inverses, int is_lower, int columns, const float* b,
               long long b_stride, const int* __restrict__ sources, float* x, long long x_stride,
               const int* __restrict__ targets, float* answer, long long answer_stride,
               unsigned* state) {
    using Spread = Sums<K, TRANSPOSED>;
    __shared__ Row<K> factors[2][NB], shares[TRANSPOSED ? WARPS : 1][NB];
    __shared__ int drawn;
    if (threadIdx.x == 0) drawn = static_cast<int>(atomicInc(state, gridDim.x - 1));
    __syncthreads();
    const int last = drawn;
    const auto block_of = [&](int step) {
        return (is_lower != 0) != TRANSPOSED ? step : static_cast<int>(gridDim.x) - 1 - step;
    };
    const int own = block_of(last);
    unsigned* flags = state + 1;
    const unsigned up = flags[own] + 1;

    // Of B and X a thread has the entries of its sums. The last block may have fewer than NB rows.
    const auto row_of = [&](int m) { return NB * own + (Spread::first() + m) / K; };
    const auto column_of = [&](int m) { return (Spread::first() + m) % K; };
    const auto is_there = [&](int m) {
        return Spread::is_first() && row_of(m) < n && column_of(m) < columns;
    };
    float rest[Spread::WHOLE];
#pragma unroll
    for (int m = 0; m < Spread::WHOLE; ++m) {
        rest[m] = 0.0f;
        if (!is_there(m)) continue;
        const int row = sources ? sources[row_of(m)] : row_of(m);
        rest[m] = b[row + column_of(m) * b_stride];
    }

    Tile<Spread::LANES> tile;
    Spread product;
    product.clear();
    for (int step = 0;; ++step) {
        const int other = block_of(step);
        const int top = NB * (TRANSPOSED ? other : own), left = NB * (TRANSPOSED ? own : other);
        const bool is_last = step == last;
        // it comes while the block waits
        tile.load(is_last ? inverses + static_cast<long long>(own) * NB * NB : t + top * ld + left,
                  is_last ? NB : ld, is_last ? NB : n - top, is_last ? NB : n - left);
        if (is_last) break;
        Row<K>* factor = factors[step % 2];
        if (threadIdx.x < 32) {
            while (load_acquire(flags + other) != up) __nanosleep(20);
#pragma unroll
            for (int e = 0; e < NB / 32; ++e) {
                const int i = threadIdx.x + 32 * e;
                Row<K> entries;
#pragma unroll
                for (int c = 0; c < K; ++c) {
                    const bool is_inside = NB * other + i < n && c < columns;
                    entries.columns[c] = is_inside ? x[NB * other + i + c * x_stride] : 0.0f;
                }
                factor[i] = entries;
            }
        }
        __syncthreads();
        product.add(tile, factor);
    }

    // x[k] = op(T)[k, k]^-1 (b[k] - sum)
    product.reduce(shares);
    Row<K>* factor = factors[last % 2];
#pragma unroll
    for (int m = 0; m < Spread::WHOLE; ++m) {
        const int place = Spread::first() + m;
        if (Spread::is_first()) factor[place / K].columns[place % K] = rest[m] - product.sums[m];
    }
    __syncthreads();
    product.clear();
    product.add(tile, factor);
    product.reduce(shares);
#pragma unroll
    for (int m = 0; m < Spread::WHOLE; ++m)
        if (is_there(m)) x[row_of(m) + column_of(m) * x_stride] = product.sums[m];
    __syncthreads();
    if (threadIdx.x == 0) store_release(flags + own, up);
    if (!targets) return;
#pragma unroll
    for (int m = 0; m < Spread::WHOLE; ++m)
        if (is_there(m))
            answer[targets[row_of(m)] + column_of(m) * answer_stride] = product.sums[m];
}
