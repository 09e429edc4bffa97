// Rows of a panel in registers, and LU with partial pivoting on them, column by column.
//
// A thread has two rows of at most NB numbers, a warp 64 rows. All indices into them are known to
// the compiler: columns are worked off in groups of 4, and after each group the rows are turned to
// the left by 4, so that the code of one group serves all. Rows are not swapped: each knows where
// it stands (`location`, the row of the panel), as LAPACK's swaps would have moved it, and is
// written there at the end. At column j a row takes part if its location is j or more.
//
// Candidates are compared by their bits. CuPy compiles with -ftz=true, so a pivot below 2^-126 in
// fp32 is found, but divides nothing, and is not reported as zero; the rows below it become zeros.
#pragma once
#include "portable.cuh"
#include "reduce.cuh"

constexpr int GROUP = 4;   // columns between two turns
constexpr int STRIP = 16;  // columns that are moved, or updated, or left alone, together
constexpr int ROWS_PER_THREAD = 2, ROWS_PER_WARP = 32 * ROWS_PER_THREAD;
constexpr unsigned NOWHERE = 0xffffffffu;  // the location of a row that there is not
constexpr unsigned WHOLE_WARP = 0xffffffffu;

// ---------------------------------------------------------------- the element types
template <class T> struct Element;
template <> struct Element<float> {
    using Size = unsigned;
    static constexpr float large = 0x1p64f, small = 0x1p-64f;
    // Ordered as the magnitudes are; every NaN is the same, and above infinity.
    static __device__ __forceinline__ Size size(float x) {
        return min(__float_as_uint(x) & 0x7fffffffu, 0x7f800001u);
    }
};
template <> struct Element<double> {
    using Size = unsigned long long;
    static constexpr double large = 0x1p512, small = 0x1p-512;
    static __device__ __forceinline__ Size size(double x) {
        return min(static_cast<Size>(__double_as_longlong(x)) & 0x7fffffffffffffffull,
                   0x7ff0000000000001ull);
    }
};
__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }

template <class T> struct alignas(16) Pack {  // what is moved at a time
    T value[16 / sizeof(T)];
};

// ---------------------------------------------------------------- choosing a pivot
// The larger magnitude, and of equal ones the smaller location, which is where LAPACK finds it.
template <class T> struct Candidate {
    typename Element<T>::Size size;
    unsigned at;
};
template <class T>
__device__ __forceinline__ bool is_better(const Candidate<T>& a, const Candidate<T>& b) {
    return (a.size > b.size) | ((a.size == b.size) & (a.at < b.at));
}
template <class T> __device__ __forceinline__ Candidate<T> warp_best(const Candidate<T>& own) {
    Candidate<T> best;
    best.size = warp_largest(own.size);
    best.at = __reduce_min_sync(WHOLE_WARP, own.size == best.size ? own.at : NOWHERE);
    return best;
}

// x / pivot = (x scale) inverse: the power of two keeps 1 / pivot normal where the pivot is near
// the ends of the range. By a zero pivot nothing is divided, as in LAPACK.
template <class T> struct Divisor {
    T scale, inverse;
};
template <class T> __device__ __forceinline__ Divisor<T> divisor(T pivot) {
    const T size = pivot < T(0) ? -pivot : pivot;
    Divisor<T> d;
    d.scale = size < Element<T>::small ? Element<T>::large
            : size > Element<T>::large ? Element<T>::small : T(1);
    d.inverse = size == T(0) ? T(1) : T(1) / (pivot * d.scale);
    if (size == T(0)) d.scale = T(1);
    return d;
}

// ---------------------------------------------------------------- what a panel is stored as
// Besides T: 16-bit words of half or bfloat16, scaled; row i of the panel at words + i * stride.
struct Narrow {
    unsigned short* words;  // null: not wanted
    long long stride;
    float scale;
    bool is_bfloat16;
    __device__ __forceinline__ unsigned short rounded(float x) const {
        return is_bfloat16 ? __bfloat16_as_ushort(__float2bfloat16_rn(x * scale))
                           : __half_as_ushort(__float2half_rn(x * scale));
    }
};

// ---------------------------------------------------------------- the rows
template <class T, int NB> struct PanelRows {
    static constexpr int PACK = 16 / sizeof(T);
    T a[ROWS_PER_THREAD][NB];
    unsigned location[ROWS_PER_THREAD];

    // Global memory is read and written along rows, by 16 lanes a row; 16 columns at a time then
    // change between that layout, v[q] = element (2 q + lane / 16, lane % 16), and one row a
    // lane, v[c] = element (lane, c). `tile` is the warp's own; the columns of row r stand
    // permuted by r / 2, so that neither side has bank conflicts.
    static __device__ __forceinline__ void to_rows(T* v, T (*tile)[STRIP]) {
        const int lane = threadIdx.x % 32, half = lane / 16, column = lane % 16;
#pragma unroll
        for (int q = 0; q < STRIP; ++q) tile[2 * q + half][column ^ q] = v[q];
        __syncwarp();
#pragma unroll
        for (int c = 0; c < STRIP; ++c) v[c] = tile[lane][c ^ lane / 2];
        __syncwarp();
    }
    // row[i]: of A, the one that becomes the thread's row i; -1 for zeros, as in columns from n on.
    __device__ __forceinline__ void load(const T* A, long long lda, int n,
                                         const int (&row)[ROWS_PER_THREAD], T (*tile)[STRIP]) {
        const int half = threadIdx.x % 32 / 16, column = threadIdx.x % 16;
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i)
#pragma unroll
            for (int q = 0; q < STRIP; ++q) {
                const int r = __shfl_sync(WHOLE_WARP, row[i], 2 * q + half);
                const T* from = A + r * lda + column;
#pragma unroll
                for (int c = 0; c < NB; c += STRIP)
                    a[i][c + q] = r >= 0 && c + column < n ? from[c] : T(0);
            }
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i)
#pragma unroll
            for (int c = 0; c < NB; c += STRIP) to_rows(a[i] + c, tile);
    }

    // The reverse; rows from n on go to `narrow` too.
    __device__ __forceinline__ void store(T* A, long long lda, int n,
                                          const int (&row)[ROWS_PER_THREAD], T (*tile)[STRIP],
                                          const Narrow& narrow) const {
        const int lane = threadIdx.x % 32, half = lane / 16, column = lane % 16;
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i)
#pragma unroll
            for (int first = 0; first < NB; first += STRIP) {
#pragma unroll
                for (int c = 0; c < STRIP; ++c) tile[lane][c ^ lane / 2] = a[i][first + c];
                __syncwarp();
#pragma unroll 4
                for (int q = 0; q < STRIP; ++q) {
                    const int r = __shfl_sync(WHOLE_WARP, row[i], 2 * q + half);
                    if (r < 0 || first + column >= n) continue;
                    const T x = tile[2 * q + half][column ^ q];
                    A[r * lda + first + column] = x;
                    if (narrow.words && r >= n)
                        narrow.words[r * narrow.stride + first + column] =
                            narrow.rounded(static_cast<float>(x));
                }
                __syncwarp();
            }
    }

    __device__ __forceinline__ bool takes_part(int i, int j) const {
        return location[i] != NOWHERE && location[i] >= j;
    }

    // Of the warp's rows the best one for column j, which is number k of its group.
    __device__ __forceinline__ Candidate<T> search(int j, int k) const {
        Candidate<T> best = {0, NOWHERE};
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i) {
            const Candidate<T> row = {Element<T>::size(a[i][k]), location[i]};
            if (takes_part(i, j) && is_better(row, best)) best = row;
        }
        return warp_best(best);
    }

    // The thread whose row stands at `at` writes what is not finished of it, `left` numbers, and
    // zeros up to the end of the strip.
    __device__ __forceinline__ void publish(unsigned at, T* to, int left) const {
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i) {
            if (at == NOWHERE || location[i] != at) continue;
#pragma unroll
            for (int c = 0; c < NB; c += PACK) {
                if (c >= STRIP && c / STRIP * STRIP >= left) continue;
                Pack<T> pack;
#pragma unroll
                for (int e = 0; e < PACK; ++e) pack.value[e] = a[i][c + e];
                *reinterpret_cast<Pack<T>*>(to + c) = pack;
            }
            for (int c = left; c % STRIP != 0; c += PACK)
                *reinterpret_cast<Pack<T>*>(to + c) = Pack<T>{};
        }
    }

    // LAPACK's swap of row j with the one at `at`.
    __device__ __forceinline__ void swap(int j, unsigned at) {
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i) {
            if (location[i] == at) location[i] = j;
            else if (location[i] == j) location[i] = at;
        }
    }

    // a[i, j] /= pivot and a[i, c] -= a[i, j] u[c] for c > j, in the rows below row j. Of a strip
    // of which some columns are finished u has zeros there: these become NaN in a row whose
    // a[i, j] is not finite, and which is lost anyway.
    __device__ __forceinline__ void eliminate(const T* u, const Divisor<T>& pivot, int j, int k,
                                              int left) {
        T minus_l[ROWS_PER_THREAD];
        bool is_below[ROWS_PER_THREAD];
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i) {
            is_below[i] = takes_part(i, j + 1);
            const T l = a[i][k] * pivot.scale * pivot.inverse;
            if (is_below[i]) a[i][k] = l;
            minus_l[i] = -l;
        }
#pragma unroll
        for (int first = 0; first < NB; first += STRIP) {
            if (first > 0 && first >= left) continue;
#pragma unroll
            for (int c = first; c < first + STRIP; c += PACK) {
                if (c + PACK <= k + 1) continue;
                const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(u + c);
#pragma unroll
                for (int i = 0; i < ROWS_PER_THREAD; ++i)
                    if (is_below[i]) {
#pragma unroll
                        for (int e = 0; e < PACK; ++e)
                            if (c + e > k)
                                a[i][c + e] = fused(minus_l[i], pack.value[e], a[i][c + e]);
                    }
            }
        }
    }

    __device__ __forceinline__ void turn() {
#pragma unroll
        for (int i = 0; i < ROWS_PER_THREAD; ++i) {
            T finished[GROUP];
#pragma unroll
            for (int c = 0; c < GROUP; ++c) finished[c] = a[i][c];
#pragma unroll
            for (int c = 0; c < NB; ++c)
                a[i][c] = c + GROUP < NB ? a[i][(c + GROUP) % NB] : finished[(c + GROUP) % NB];
        }
    }
};

// The row that is eliminated with, from the first column of the group on.
template <class T> struct Pivot {
    const T* row;
    Divisor<T> divisor;
};

// Columns 0..steps-1, in turn. find(j, k, left) has the pivot row of column j, number k of its
// group, of which `left` columns from that of the group on are not finished.
template <class T, int NB, class Find>
__device__ __forceinline__ void eliminate_columns(PanelRows<T, NB>& rows, int steps, Find& find) {
#pragma unroll 1
    for (int first = 0; first < NB; first += GROUP) {
#pragma unroll
        for (int k = 0; k < GROUP; ++k) {
            if (first + k < steps) {
                const Pivot<T> pivot = find(first + k, k, NB - first);
                rows.eliminate(pivot.row, pivot.divisor, first + k, k, NB - first);
            }
        }
        rows.turn();
    }
}
