// The row interchanges of an LU factorization, as one permutation
//
// permutation:  of LAPACK's interchanges, row i with row piv[i] - first for i = 0, ..., count - 1,
// where piv[i] - first >= i, the rows that end up elsewhere: row rows[k] of the result is row
// sources[k] of what was there, k < moved[0] <= 2 count, in no particular order. `backward`: of the
// interchanges in the opposite order, which is the inverse. map[i], i < count, becomes the source
// of row i (forward); further entries of `map` are work space, m in all, as many as there are rows.
// gather_rows:  buffer[k, :] = a[sources[k], :],  or fl(scale a[...]) in half or __nv_bfloat16
// scatter_rows: a[rows[k], :] = buffer[k, :]
// for k < moved[0], or k < count if `moved` is null. (With map for `sources` and no `moved` a gather
// takes the first rows of the permuted matrix: the block row of U, before its triangular solve.)
//
// The interchanges are worked off in order, 32 at a time by one warp. The row that stands at i at
// time i came there by the last interchange before that had i as its other row, or was there from
// the start; within 32 interchanges these chains are followed by doubling steps. What stands at
// row r is kept in shared memory if m <= HELD, else in `map`, and only of rows that take part.
//
// Matrices have any strides of rows and columns, in numbers; an entry is `pair` neighbouring
// numbers, 2 if it is complex. Lanes go along what has the smaller stride, which the buffer had
// better have, too. `scale` may be null, for 1; `lost` is counted up as in formats.cuh, unless it
// is null. Both mean nothing where nothing is converted.
//
// Launch: permutation: one block of 1024 threads. The others: 256 threads, any number of blocks.
// columns pair < 2^30.
// Bytes: gather and scatter each read and write 2 count rows: for count = 1024 of a matrix of order
// 16384 in fp32 0.13 ms together at 4.3 TB/s. The permutation's time is that of the chain from 32
// interchanges to the next, about 250 cycles, 450 in `map`: 5 to 8 microseconds for count = 1024,
// 0.8 ms for 100,000.
#include "formats.cuh"
#include "pieces.cuh"
#include "portable.cuh"

constexpr int LEADERS = 1024;  // threads of the permutation
constexpr int HELD = 10240;    // rows, 40 KiB of shared memory
constexpr unsigned WARP = 0xffffffffu;

// Interchanges of rows base + lane, all lanes of a warp. `chain` is 32 numbers of shared memory.
__device__ __forceinline__ void interchange(int base, int count, int other, int* content,
                                            int* chain) {
    const int lane = threadIdx.x % 32, own = base + lane;
    const bool is_there = own < count, is_swap = is_there && other != own;
    const int at_own = is_there ? content[own] : 0, at_other = is_swap ? content[other] : 0;
    // lanes with the same other row; one that swaps nothing is alone
    const unsigned same = __match_any_sync(WARP, is_swap ? other : -1 - lane);
    const bool is_last = same >> lane == 1u;
    const unsigned before = same & ((1u << lane) - 1u);
    chain[lane] = lane;
    __syncwarp();
    const bool is_inside = other < min(base + 32, count);
    if (is_swap && is_inside && is_last) chain[other - base] = lane;
    __syncwarp();
    // what stands at `own` when its turn comes: what stood at the first row of its chain
    int from = chain[lane];
#pragma unroll
    for (int step = 1; step < 32; step *= 2)
        from = __shfl_sync(WARP, from, from);
    const int given = __shfl_sync(WARP, at_own, from);
    const int nearest = before ? 31 - __clz(before) : lane;
    const int left_there = __shfl_sync(WARP, given, nearest);
    if (is_there) content[own] = !is_swap ? given : before ? left_there : at_other;
    if (is_swap && !is_inside && is_last) content[other] = given;
    __syncwarp();
}

extern "C" __global__ void __launch_bounds__(LEADERS, 1)
permutation(int count, int m, const int* __restrict__ piv, int first, int backward, int* map,
            int* __restrict__ rows, int* __restrict__ sources, int* __restrict__ moved) {
    __shared__ int held[HELD], chain[32], total;
    int* content = m <= HELD ? held : map;
    for (int i = threadIdx.x; i < count; i += LEADERS) {
        const int other = piv[i] - first;
        content[i] = i;
        if (other >= count) atomicExch(content + other, other);  // by several threads
    }
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    if (threadIdx.x < 32) {
        int next = threadIdx.x < count ? piv[threadIdx.x] - first : 0;
        for (int base = 0; base < count; base += 32) {
            const int other = next, ahead = base + 32 + threadIdx.x;
            if (ahead < count) next = piv[ahead] - first;
            interchange(base, count, other, content, chain);
        }
    }
    __syncthreads();
    const auto list = [&](bool is_moved, int row, int source) {
        const unsigned lanes = __ballot_sync(WARP, is_moved);
        const int lane = threadIdx.x % 32;
        int place = 0;
        if (lane == 0 && lanes) place = atomicAdd(&total, __popc(lanes));
        place = __shfl_sync(WARP, place, 0) + __popc(lanes & ((1u << lane) - 1u));
        if (!is_moved) return;
        rows[place] = backward ? source : row;
        sources[place] = backward ? row : source;
    };
    for (int base = 0; base < count; base += LEADERS) {
        const int i = base + threadIdx.x;
        const int here = i < count ? content[i] : i;
        if (i < count && content == held) map[i] = here;
        list(here != i, i, here);
        // the first thread that comes has it, the others find the row itself
        const int other = i < count ? piv[i] - first : 0;
        const int there = other >= count ? atomicExch(content + other, other) : other;
        list(there != other, other, there);
    }
    __syncthreads();
    if (threadIdx.x == 0) *moved = total;
}

constexpr int THREADS = 256, AT_ONCE = 4;

// Entries of `count` rows, in lines along the smaller stride.
struct Entries {
    int rows, columns, pair;
    bool by_rows;
    Pieces<THREADS, AT_ONCE> pieces;

    __device__ __forceinline__ Entries(int rows, int columns, int pair, bool by_rows)
        : rows(rows), columns(columns), pair(pair), by_rows(by_rows),
          pieces(by_rows ? rows : columns, (by_rows ? columns : rows) * pair) {}

    // visit(k[], column[], part[], is_there[]) with AT_ONCE entries of each thread
    template <class Visit> __device__ __forceinline__ void for_each(Visit visit) const {
        pieces.for_each([&](unsigned line, unsigned begin) {
            int k[AT_ONCE], column[AT_ONCE], part[AT_ONCE];
            bool is_there[AT_ONCE];
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) {
                const unsigned at = begin + e * pieces.width;
                const unsigned entry = pair == 2 ? at / 2 : at;
                is_there[e] = at < pieces.length;
                part[e] = pair == 2 ? at % 2 : 0;
                k[e] = by_rows ? line : entry;
                column[e] = by_rows ? entry : line;
            }
            visit(k, column, part, is_there);
        });
    }
};

// A number that is moved, or converted on the way.
template <class Source, class Target> struct Moving {
    static __device__ __forceinline__ Target converted(Source x, float scale, Lost& lost) {
        const Image<Target> image(scale * x);
        lost.take(image, x);
        return image.plane[0];
    }
};
template <class T> struct Moving<T, T> {
    static __device__ __forceinline__ T converted(T x, float, Lost&) { return x; }
};

template <class Source, class Target>
__global__ void __launch_bounds__(THREADS)
gather_rows(int count, int columns, int pair, const Source* __restrict__ a, long long row_stride,
            long long column_stride, const int* __restrict__ moved,
            const int* __restrict__ sources, Target* __restrict__ buffer,
            long long buffer_row_stride, long long buffer_column_stride,
            const float* __restrict__ scale, unsigned long long* __restrict__ lost) {
    const float factor = scale ? *scale : 1.0f;
    Lost seen;
    const Entries entries(moved ? *moved : count, columns, pair, column_stride <= row_stride);
    entries.for_each([&](const int* k, const int* column, const int* part, const bool* is_there) {
        Source given[AT_ONCE];
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e)
            if (is_there[e])
                given[e] = a[sources[k[e]] * row_stride + column[e] * column_stride + part[e]];
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e)
            if (is_there[e])
                buffer[k[e] * buffer_row_stride + column[e] * buffer_column_stride + part[e]] =
                    Moving<Source, Target>::converted(given[e], factor, seen);
    });
    if (sizeof(Source) != sizeof(Target)) seen.report(lost);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
scatter_rows(int count, int columns, int pair, const T* __restrict__ buffer,
             long long buffer_row_stride, long long buffer_column_stride,
             const int* __restrict__ moved, const int* __restrict__ rows, T* __restrict__ a,
             long long row_stride, long long column_stride) {
    const Entries entries(moved ? *moved : count, columns, pair, column_stride <= row_stride);
    entries.for_each([&](const int* k, const int* column, const int* part, const bool* is_there) {
        T given[AT_ONCE];
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e)
            if (is_there[e])
                given[e] =
                    buffer[k[e] * buffer_row_stride + column[e] * buffer_column_stride + part[e]];
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e)
            if (is_there[e])
                a[rows[k[e]] * row_stride + column[e] * column_stride + part[e]] = given[e];
    });
}
