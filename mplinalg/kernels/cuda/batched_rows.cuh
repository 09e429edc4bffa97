// Members of up to NB rows in the registers of a warp: a lane has a row, 32 / NB members side by
// side, NB = 4, 8, 16 or 32. What the kernels of small LU and Cholesky factorizations and of
// triangular solves share.
//
// Nothing but lanes of one warp wait for each other. All indices into a row are known to the
// compiler: entries are worked off in turns of TURN, after each of which the row is turned by as
// many, so that the code of one turn serves all. Lanes of members beyond the batch do what those
// of its last member do, and write nothing; lanes beyond row n of a member are nowhere.
//
// Rows are not swapped: each knows where it stands, as LAPACK's interchanges would have moved it.
#pragma once
#include "batched.cuh"

constexpr int ROWS_THREADS = 128, ROWS_WARPS = ROWS_THREADS / 32;

template <class N, int NB, int TURN = (NB < 8 ? NB : 8)> struct Rows {
    static constexpr int MEMBERS = 32 / NB, WIDTH = NB < 16 ? NB : 16, PACK = 16 / sizeof(N);
    static constexpr int IN_FLIGHT = WIDTH * sizeof(N) > 64 ? 64 / sizeof(N) : WIDTH;  // loads
    static constexpr int AT_ONCE = 2 * PROBES<N>;  // right-hand sides
    static constexpr int WORDS = NB * sizeof(N) / 4;
    // of a multiprocessor: what the registers allow without spills
    static constexpr int BLOCKS = WORDS > 32 ? 2 : WORDS > 16 ? 4 : 5;

    // Of a warp, in dynamic shared memory.
    struct alignas(16) Space {
        N tile[32][WIDTH + 1];
        alignas(16) N line[2][MEMBERS][NB];
        int lane_of[MEMBERS][NB];
    };

    static_assert(sizeof(Space) == sizeof(N) * (32 * (WIDTH + 1) + 64) + 128, "as launched");

    int lane = threadIdx.x % 32, row = lane % NB, group = lane / NB;
    long long first_member, member;  // of the warp; of the lane
    int n, length;  // rows of a member, and entries of a row
    bool is_there;  // the lane's member is in the batch
    unsigned at;    // where the lane's row stands
    N a[NB];
    Quotient<N> diagonal = {};  // for quotients by the diagonal entry of this row

    __device__ __forceinline__ Rows(int batch, int n) : Rows(batch, n, n) {}
    __device__ __forceinline__ Rows(int batch, int n, int length) : n(n), length(length) {
        const long long warp =
            static_cast<long long>(blockIdx.x) * ROWS_WARPS + threadIdx.x / 32;
        first_member = warp * MEMBERS;
        is_there = first_member + group < batch;
        member = is_there ? first_member + group : batch - 1;
        at = row < n ? row : NOWHERE;
    }

    // A warp that has no member; it may leave.
    __device__ __forceinline__ bool is_idle(int batch) const { return first_member >= batch; }

    // The member of row w of the 32 of a warp.
    __device__ __forceinline__ long long member_of(int w, int batch) const {
        const long long m = first_member + w / NB;
        return m < batch ? m : batch - 1;
    }

    // Rows of a matrix by rows pass through shared memory, 16 columns at a time, so that global
    // memory is read along them; of others a lane reads its own.
    template <class Get>
    __device__ __forceinline__ void load(bool by_rows, int batch, Space& space, Get get) {
        if (!by_rows) {
#pragma unroll
            for (int c = 0; c < NB; ++c)
                a[c] = row < n && c < length ? get(member, row, c) : number<N>(0);
            return;
        }
        const int across = lane % WIDTH, down = lane / WIDTH;
#pragma unroll
        for (int first = 0; first < NB; first += WIDTH) {
#pragma unroll
            for (int q = 0; q < WIDTH; q += IN_FLIGHT) {
                N v[IN_FLIGHT];
#pragma unroll
                for (int e = 0; e < IN_FLIGHT; ++e) {
                    const int w = (q + e) * (32 / WIDTH) + down, i = w % NB, c = first + across;
                    v[e] = i < n && c < length ? get(member_of(w, batch), i, c) : number<N>(0);
                }
#pragma unroll
                for (int e = 0; e < IN_FLIGHT; ++e)
                    space.tile[(q + e) * (32 / WIDTH) + down][across] = v[e];
            }
            __syncwarp();
#pragma unroll
            for (int c = 0; c < WIDTH; ++c) a[first + c] = space.tile[lane][c];
            __syncwarp();
        }
    }

    // Square members' rows where they stand, but zeros for what is not wanted(i, c).
    template <class Wanted>
    __device__ __forceinline__ void store(N* to, int batch, Space& space, Wanted wanted) const {
        const int across = lane % WIDTH, down = lane / WIDTH;
#pragma unroll
        for (int first = 0; first < NB; first += WIDTH) {
            if (at != NOWHERE) {
#pragma unroll
                for (int c = 0; c < WIDTH; ++c) space.tile[group * NB + at][c] = a[first + c];
            }
            __syncwarp();
#pragma unroll
            for (int q = 0; q < WIDTH; ++q) {
                const int w = q * (32 / WIDTH) + down, i = w % NB, c = first + across;
                const long long m = first_member + w / NB;
                if (i < n && c < n && m < batch)
                    to[(m * n + i) * n + c] = wanted(i, c) ? space.tile[w][across] : number<N>(0);
            }
            __syncwarp();
        }
    }

    // Of the rows of this lane's member that take part the one with the largest entry; of equal
    // ones that which stands first.
    __device__ __forceinline__ Candidate<Real<N>> best(Candidate<Real<N>> own) const {
        if constexpr (NB == 32) {
            return warp_best(own);
        } else {
#pragma unroll
            for (int distance = NB / 2; distance > 0; distance /= 2) {
                Candidate<Real<N>> other;
                other.size = __shfl_xor_sync(WHOLE_WARP, own.size, distance);
                other.at = __shfl_xor_sync(WHOLE_WARP, own.at, distance);
                if (is_better(other, own)) own = other;
            }
            return own;
        }
    }

    // visit(k, t) for all entries k in turn, when that of this row is in a[t].
    template <class Visit> __device__ __forceinline__ void for_columns(Visit visit) {
#pragma unroll 1
        for (int first = 0; first < NB; first += TURN) {
#pragma unroll
            for (int t = 0; t < TURN; ++t)
                if (first + t < length) visit(first + t, t);
            turn_left();
        }
    }
    // The same, the last entry first.
    template <class Visit> __device__ __forceinline__ void for_columns_back(Visit visit) {
#pragma unroll 1
        for (int first = NB - TURN; first >= 0; first -= TURN) {
            turn_right();
#pragma unroll
            for (int t = TURN - 1; t >= 0; --t)
                if (first + t < length) visit(first + t, t);
        }
    }

    // What of a line of the entries left of a turn, which begins with entry `first`, is used.
    __device__ __forceinline__ bool is_left(int first, int c) const {
        return c < TURN || first + c / TURN * TURN < length;
    }

    // a[t], a[t + 1], ..., in whole packs, for all lanes of the member.
    __device__ __forceinline__ void publish(N* line, int first, int t) const {
#pragma unroll
        for (int c = 0; c < NB; c += PACK) {
            if (c + PACK <= t || !is_left(first, c)) continue;
            Pack<N> pack;
#pragma unroll
            for (int e = 0; e < PACK; ++e) pack.value[e] = a[c + e];
            *reinterpret_cast<Pack<N>*>(line + c) = pack;
        }
    }

    // visit(c, line[c]) for what is left of the row past a[t].
    template <class Visit>
    __device__ __forceinline__ void for_line(const N* line, int first, int t, Visit visit) const {
#pragma unroll
        for (int c = 0; c < NB; c += PACK) {
            if (c + PACK <= t + 1 || !is_left(first, c)) continue;
            const Pack<N> pack = *reinterpret_cast<const Pack<N>*>(line + c);
#pragma unroll
            for (int e = 0; e < PACK; ++e)
                if (c + e > t) visit(c + e, pack.value[e]);
        }
    }

    // Which lane has the row that stands at k, for `solve`.
    __device__ __forceinline__ void tell_lanes(Space& space) const {
        if (at != NOWHERE) space.lane_of[group][at] = lane;
        __syncwarp();
    }

    // y <- L^-1 y, L with unit diagonal if is_unit, for a number of each row in K columns.
    template <int K>
    __device__ __forceinline__ void forward(const Space& space, bool is_unit, N (&y)[K]) {
        for_columns([&](int k, int t) { step<K>(space, k, t, is_unit, at > k, y); });
    }
    // y <- U^-1 y
    template <int K>
    __device__ __forceinline__ void backward(const Space& space, bool is_unit, N (&y)[K]) {
        for_columns_back([&](int k, int t) { step<K>(space, k, t, is_unit, at < k, y); });
    }

  private:
    __device__ __forceinline__ void turn_left() {
        N first[TURN];
#pragma unroll
        for (int c = 0; c < TURN; ++c) first[c] = a[c];
#pragma unroll
        for (int c = 0; c < NB; ++c)
            a[c] = c + TURN < NB ? a[(c + TURN) % NB] : first[c + TURN - NB];
    }
    __device__ __forceinline__ void turn_right() {
        N last[TURN];
#pragma unroll
        for (int c = 0; c < TURN; ++c) last[c] = a[NB - TURN + c];
#pragma unroll
        for (int c = NB - 1; c >= 0; --c) a[c] = c >= TURN ? a[(c - TURN + NB) % NB] : last[c];
    }

    // y[k] <- y[k] / a[k, k], and what that takes from the rows that are affected.
    template <int K>
    __device__ __forceinline__ void step(const Space& space, int k, int t, bool is_unit,
                                         bool is_affected, N (&y)[K]) const {
        const int source = space.lane_of[group][k];
#pragma unroll
        for (int i = 0; i < K; ++i) {
            if (!is_unit && at == k) y[i] = diagonal(y[i]);
            const N found = from_lane(y[i], source);
            if (is_affected) y[i] = minus(y[i], a[t], found);
        }
    }
};

// The largest size of the lane's member, as a number.
template <class N, int NB>
__device__ __forceinline__ Real<N> largest_of(const Rows<N, NB>& rows, Size<N> own) {
    return number_of(rows.best({own, rows.at}).size);
}

template <class N, int NB>
__device__ __forceinline__ Real<N> largest_entry(const Rows<N, NB>& rows) {
    Size<N> own = 0;
#pragma unroll
    for (int c = 0; c < NB; ++c) own = max(own, size_of(rows.a[c]));
    return largest_of(rows, own);
}

// Right-hand sides of a lane's row: `b` is read from row `from` of the member, `x` is written to
// row `to`.
template <class N> struct Systems {
    int nrhs;
    Strided<N> b;
    N* x;
    int from, to;
};

// x <- solve(b), so many columns at once; NaN if `failed`. With `probed`, the last columns are
// those of z: returned is their largest entry, infinity if any x is not finite.
template <class N, int NB, class Solve>
__device__ __forceinline__ Real<N> solve_all(Rows<N, NB>& rows, const Systems<N>& systems,
                                             bool failed, bool probed, Solve solve) {
    constexpr int K = Rows<N, NB>::AT_ONCE;
    const bool is_row = rows.at != NOWHERE, is_written = is_row && rows.is_there;
    const int probes = probed ? PROBES<N> : 0;
    Size<N> size = 0;
    N* x = systems.x + (rows.member * rows.n + systems.to) * systems.nrhs;
    for (int first = 0; first < systems.nrhs + probes; first += K) {
        N y[K];
#pragma unroll
        for (int i = 0; i < K; ++i) {
            y[i] = number<N>(0);
            if (!is_row) continue;
            const int c = first + i;
            if (c < systems.nrhs) y[i] = systems.b(rows.member, systems.from, c);
            else if (c < systems.nrhs + probes) y[i] = probe<N>(systems.from, c - systems.nrhs);
        }
        solve(y);
#pragma unroll
        for (int i = 0; i < K; ++i) {
            if (!is_row) continue;
            if (first + i >= systems.nrhs) size = max(size, size_of(y[i]));
            else if (!is_finite(y[i])) size = max(size, size_of(infinity(Real<N>())));
            if (is_written && first + i < systems.nrhs)
                x[first + i] = failed ? not_a_number(y[i]) : y[i];
        }
    }
    return largest_of(rows, size);
}
