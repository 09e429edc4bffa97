// Members of up to NB rows in the registers of a block: thread (y, x) of 16 by 16 has the entries
//
//     (y + 16 r, x + 16 c), r, c < G
//
// of a tile of order NB = 16 G, so that threads stay busy to the end. What the kernels of LU and
// Cholesky factorizations of middling order and of triangular solves share. As in batched_rows.cuh
// rows are not swapped, and know where they stand; entries beyond n are zeros.
#pragma once
#include "batched.cuh"

constexpr int SIDE = 16, BLOCK_THREADS = SIDE * SIDE;

// A column or a row of the tile in pieces of 16 bytes, so that threads of different y (or x) use
// different banks.
template <class N, int G> struct Line {
    static constexpr int WIDTH = 16 / sizeof(N) < G ? 16 / sizeof(N) : G;
    struct alignas(WIDTH * sizeof(N)) Piece {
        N entries[WIDTH];
    };
    Piece pieces[G / WIDTH][SIDE];

    // The entries place + 16 r of the threads `place`, in y or in x.
    __device__ __forceinline__ void put(int place, const N (&values)[G]) {
#pragma unroll
        for (int q = 0; q < G / WIDTH; ++q) {
            Piece piece;
#pragma unroll
            for (int e = 0; e < WIDTH; ++e) piece.entries[e] = values[q * WIDTH + e];
            pieces[q][place] = piece;
        }
    }
    __device__ __forceinline__ void get(int place, N (&values)[G]) const {
#pragma unroll
        for (int q = 0; q < G / WIDTH; ++q) {
            const Piece piece = pieces[q][place];
#pragma unroll
            for (int e = 0; e < WIDTH; ++e) values[q * WIDTH + e] = piece.entries[e];
        }
    }
    __device__ __forceinline__ N operator[](int i) const {
        return pieces[i / SIDE / WIDTH][i % SIDE].entries[i / SIDE % WIDTH];
    }
};

template <class N, int NB> struct BlockTile {
    static constexpr int G = NB / SIDE;
    // of a multiprocessor: what the registers allow without spills
    static constexpr int BLOCKS = G * G * sizeof(N) > 128 ? 1 : G * G * sizeof(N) > 64 ? 2 : 3;

    struct Space {
        Line<N, G> column[2], row;
        Quotient<N> diagonal[NB];
        N sent[2][SIDE];
        Size<N> partial[BLOCK_THREADS / 32];
        int at_of[NB], row_at[NB];
    };

    int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE, lane = threadIdx.x % 32;
    int n;
    N tile[G][G];
    unsigned at[G];  // where row y + 16 r stands
    int slot = 0;    // of `sent`

    __device__ __forceinline__ explicit BlockTile(int n) : n(n) {
#pragma unroll
        for (int r = 0; r < G; ++r) at[r] = y + SIDE * r < n ? y + SIDE * r : NOWHERE;
    }

    template <class Get> __device__ __forceinline__ void load(Get get) {
#pragma unroll
        for (int r = 0; r < G; ++r)
#pragma unroll
            for (int c = 0; c < G; ++c) {
                const int i = y + SIDE * r, k = x + SIDE * c;
                tile[r][c] = i < n && k < n ? get(i, k) : number<N>(0);
            }
    }

    // The rows where they stand, but zeros for what is not wanted(i, k).
    template <class Wanted> __device__ __forceinline__ void store(N* to, Wanted wanted) const {
#pragma unroll
        for (int r = 0; r < G; ++r)
#pragma unroll
            for (int c = 0; c < G; ++c) {
                const int i = at[r], k = x + SIDE * c;
                if (at[r] != NOWHERE && k < n)
                    to[i * n + k] = wanted(i, k) ? tile[r][c] : number<N>(0);
            }
    }

    // Column 16 g + t, for all.
    __device__ __forceinline__ void publish_column(Line<N, G>& line, int g, int t) const {
        if (x != t) return;
        N column[G];
#pragma unroll
        for (int r = 0; r < G; ++r) column[r] = tile[r][g];
        line.put(y, column);
    }

    // visit(g, t) for the columns 16 g + t < n, of which g is known to the compiler.
    template <class Visit> __device__ __forceinline__ void for_columns(Visit visit) {
        for_groups<0>(visit);
    }
    template <class Visit> __device__ __forceinline__ void for_columns_back(Visit visit) {
        for_groups_back<G - 1>(visit);
    }

    // b <- L^-1 b, L with unit diagonal if is_unit; thread (y, x) has the numbers of its rows in
    // column x.
    __device__ __forceinline__ void forward(Space& space, bool is_unit, N (&b)[G]) {
        for_columns([&](auto g, int t) {
            step(space, g.value, t, is_unit, b, [&](int r, int k) { return at[r] > k; });
        });
    }
    // b <- U^-1 b
    __device__ __forceinline__ void backward(Space& space, bool is_unit, N (&b)[G]) {
        for_columns_back([&](auto g, int t) {
            step(space, g.value, t, is_unit, b, [&](int r, int k) { return at[r] < k; });
        });
    }

    // Over all threads; between two calls there has to be a barrier.
    __device__ __forceinline__ Real<N> largest(Space& space, Size<N> own) const {
        own = warp_largest(own);
        if (lane == 0) space.partial[threadIdx.x / 32] = own;
        __syncthreads();
#pragma unroll
        for (int warp = 0; warp < BLOCK_THREADS / 32; ++warp) own = max(own, space.partial[warp]);
        return number_of(own);
    }
    __device__ __forceinline__ Real<N> largest_entry(Space& space) const {
        Size<N> own = 0;
#pragma unroll
        for (int r = 0; r < G; ++r)
#pragma unroll
            for (int c = 0; c < G; ++c) own = max(own, size_of(tile[r][c]));
        return largest(space, own);
    }

  private:
    template <int I> struct Constant {
        static constexpr int value = I;
    };
    template <int I, class Visit> __device__ __forceinline__ void for_groups(Visit& visit) {
        if constexpr (I < G) {
#pragma unroll 1
            for (int t = 0; t < SIDE && SIDE * I + t < n; ++t) visit(Constant<I>(), t);
            for_groups<I + 1>(visit);
        }
    }
    template <int I, class Visit> __device__ __forceinline__ void for_groups_back(Visit& visit) {
        if constexpr (I >= 0) {
#pragma unroll 1
            for (int t = min(SIDE, n - SIDE * I) - 1; t >= 0; --t) visit(Constant<I>(), t);
            for_groups_back<I - 1>(visit);
        }
    }

    // b[k] <- b[k] / a[k, k], and what that takes from the rows that are affected.
    template <class Affected>
    __device__ __forceinline__ void step(Space& space, int g, int t, bool is_unit, N (&b)[G],
                                         Affected is_affected) {
        const int k = SIDE * g + t;
        N* sent = space.sent[slot];
        slot = 1 - slot;
#pragma unroll
        for (int r = 0; r < G; ++r) {
            if (at[r] != k) continue;
            if (!is_unit) b[r] = space.diagonal[k](b[r]);
            sent[x] = b[r];
        }
        // the other numbers are sent next, when all have read these
        __syncthreads();
        const N found = sent[x];
#pragma unroll
        for (int r = 0; r < G; ++r) {
            const N l = from_lane(tile[r][g], (lane & SIDE) | t);
            if (is_affected(r, k)) b[r] = minus(b[r], l, found);
        }
    }
};

// x <- solve(b), 16 columns at once; NaN if `failed`. With `probed`, the last columns are those of
// z: returned is their largest entry, infinity if any x is not finite. `from` and `to` are what
// rows of b and x become of row i of the tile.
template <class N, int NB, class From, class To, class Solve>
__device__ __forceinline__ Real<N> solve_all(BlockTile<N, NB>& block,
                                             typename BlockTile<N, NB>::Space& space, int nrhs,
                                             const Strided<N>& given, long long member, N* x,
                                             bool failed, bool probed, From from, To to,
                                             Solve solve) {
    constexpr int G = BlockTile<N, NB>::G;
    const int probes = probed ? PROBES<N> : 0;
    Size<N> size = 0;
    for (int first = 0; first < nrhs + probes; first += SIDE) {
        const int column = first + block.x;
        N b[G];
#pragma unroll
        for (int r = 0; r < G; ++r) {
            b[r] = number<N>(0);
            if (block.at[r] == NOWHERE) continue;
            if (column < nrhs) b[r] = given(member, from(r), column);
            else if (column < nrhs + probes) b[r] = probe<N>(block.y + SIDE * r, column - nrhs);
        }
        solve(b);
#pragma unroll
        for (int r = 0; r < G; ++r) {
            if (block.at[r] == NOWHERE) continue;
            if (column >= nrhs) size = max(size, size_of(b[r]));
            else if (!is_finite(b[r])) size = max(size, size_of(infinity(Real<N>())));
            if (column < nrhs)
                x[(member * block.n + to(r)) * nrhs + column] = failed ? not_a_number(b[r]) : b[r];
        }
    }
    return probed ? block.largest(space, size) : Real<N>(0);
}
