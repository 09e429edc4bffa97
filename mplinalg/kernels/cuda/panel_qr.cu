// Householder QR of a tall panel, in LAPACK's form:  A = Q R,  Q = I - V T V^T
//
// with V unit lower trapezoidal (below the diagonal of A, its ones not stored), R upper triangular
// (on and above it) and T upper triangular, as from geqrt. A is m by n, m >= n, 1 <= n <= NB, by
// columns with leading dimension lda: of a matrix by columns, as LAPACK has it, a block of columns
// is then a panel as it stands, and the 32 lanes of a warp read 32 rows of a column at once.
//
// A tree of small QRs finds R (TSQR). tsqr_leaf: block b factors its ROWS rows, leaves their
// reflectors in place, and hands R_b to a stack. tsqr_merge: a block factors a stack of FAN =
// ROWS / NB R's, in place too, and hands on one R; again, until there is one. Each of the nodes
// has its own I - V T V^T, whose product down the tree, times [I; 0], is the thin Q. reconstruct
// goes down to the first NB rows of it, Q1, and finds by an LU without pivoting
//     Q1 - S = V1 U,   T = -U S V1^-T,   R <- S R,    S = diag(+-1), S_jj = -sign of the pivot,
// for Q S = [I; 0] - V T V1^T, times S from the right, is Q - [S; 0] = V (-T V1^T S) = V U. Each
// pivot is one of magnitude >= 1, so nothing is divided by zero. tsqr_form has each block go down
// to its own rows of Q, which become rows of V = Q U^-1 by one triangular solve each.
//
// stacks:    (merges + 1) ROWS NB numbers. Of the q-th merge, leaf by leaf and level by level, the
//            ROWS by NB matrix that it factors; after the last one, R of the whole.
// triangles: (leaves + merges) NB NB numbers: T of each node, by columns, leaves first.
// t:         n by n, by columns, ldt >= n; zeros below its diagonal, which holds LAPACK's tau.
// squares:   2 NB NB numbers from reconstruct to tsqr_form: U by rows, U[i][i + 1 + k] at (i, k)
//            and 1 / U[i][i] at (i, NB - 1); and by columns the rows 0 ... n - 1 of V and R.
//
// Each node scales its columns by powers of two, so no norm leaves the range. What is left of a
// column and below 2^-50 (fp64: 2^-450) of its largest entry is less than an error of rounding:
// tau is 0 there. A panel of any rank gets an orthonormal Q. NaN and infinity are seen in R, in the
// columns where they stood and after these, and in all of V.
//
// Launch: THREADS threads. leaves = ceil(m / ROWS). In order: tsqr_leaf on `leaves` blocks; for
// level = 1, 2, ... tsqr_merge on ceil(nodes of the level before / FAN) blocks, until that is 1
// (no merge if there is one leaf); reconstruct on 1 block; tsqr_form on `leaves` blocks. If there
// is one leaf, tsqr_leaf alone has already left V and R in A, and T in triangles (ldt = NB).
// Flops: 3 m NB^2 to factor the leaves, 3 m NB^2 to form V. Bytes: two reads and two writes of A.
// Bound by neither but by latency: a column of a node takes one barrier and one reduction, some
// 0.35 us (an estimate from the instructions at 1.75 GHz), so the log_FAN(leaves) + 1 nodes on the
// way up take 11 us each at NB = 32, reconstruct 10 us, tsqr_form 5 us, besides the launches.
// References: J. Demmel, L. Grigori, M. Hoemmen, J. Langou, SIAM J. Sci. Comput. 34 (2012) A206;
// G. Ballard, J. Demmel, L. Grigori, M. Jacquelin, N. Knight, H. D. Nguyen, J. Parallel Distrib.
// Comput. 85 (2015) 3.
#include "portable.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int ROWS = 256;          // of a node: one a thread in tsqr_form
constexpr int CHUNKS = ROWS / 32;  // rows of a node that a lane holds: lane, lane + 32, ...

template <class T> struct Format;
template <> struct Format<float> {
    static constexpr int LARGEST = 126;          // exponent whose power and reciprocal are normal
    static constexpr float NOTHING = 0x1p-100f;  // squares below: beside a largest entry of 1
    // Of a number that is not negative; of zero and subnormal ones -127, of infinity 128.
    static __device__ __forceinline__ int exponent(float x) {
        return (__float_as_int(x) >> 23) - 127;
    }
    static __device__ __forceinline__ float power(int e) {
        return __int_as_float((e + 127) << 23);
    }
};
template <> struct Format<double> {
    static constexpr int LARGEST = 1022;
    static constexpr double NOTHING = 0x1p-900;
    static __device__ __forceinline__ int exponent(double x) {
        return static_cast<int>(__double_as_longlong(x) >> 52) - 1023;
    }
    static __device__ __forceinline__ double power(int e) {
        return __longlong_as_double(static_cast<long long>(e + 1023) << 52);
    }
};

// The nodes of a level of the tree, level 0 being the leaves, and how many stand before them.
struct Level {
    int count, first;
};
template <int NB> __device__ __forceinline__ Level level_of(int m, int level) {
    constexpr int FAN = ROWS / NB;
    Level found{(m - 1) / ROWS + 1, 0};
    for (int l = 0; l < level; ++l)
        found = {(found.count + FAN - 1) / FAN, found.first + found.count};
    return found;
}

// Of the root.
template <int NB> __device__ __forceinline__ int last_level(int m) {
    int level = 0;
    while (level_of<NB>(m, level).count > 1) ++level;
    return level;
}

// Where the R of a node goes: the stack of its parent, or the one after the last merge.
template <class T, int NB>
__device__ __forceinline__ T* place_of_r(int m, int level, int node, T* stacks) {
    constexpr int FAN = ROWS / NB;
    const int merge = level_of<NB>(m, level + 1).first - level_of<NB>(m, 0).count + node / FAN;
    return stacks + static_cast<long long>(merge) * ROWS * NB + node % FAN * NB;
}

// d[s] becomes its sum over the warp, for each of the S slots (a power of two) in all lanes.
template <int S, class T> __device__ __forceinline__ void warp_sums(T (&d)[S]) {
    const int lane = threadIdx.x % 32;
    int distance = 16;
    // each half of the lanes goes on with half of the slots
#pragma unroll
    for (int width = S / 2; width > 0; width /= 2, distance /= 2) {
        const bool upper = lane & distance;
#pragma unroll
        for (int s = 0; s < width; ++s) {
            const T kept = upper ? d[s + width] : d[s], given = upper ? d[s] : d[s + width];
            d[s] = kept + __shfl_xor_sync(0xffffffffu, given, distance);
        }
    }
#pragma unroll
    for (; distance > 0; distance /= 2) d[0] += __shfl_xor_sync(0xffffffffu, d[0], distance);
    const T own = d[0];
#pragma unroll
    for (int s = 0; s < S; ++s) d[s] = __shfl_sync(0xffffffffu, own, s * (32 / S));
}

// A step of a triangular solve, after which a thread's row of numbers has moved on by one:
//     row[c] <- row[c + 1] + factor line[c],  c < count.
// What comes next is always row[0], so registers have fixed numbers without all steps unrolled.
template <int NB, class T>
__device__ __forceinline__ void shift(T (&row)[NB], T factor, const T (&line)[NB], int count) {
#pragma unroll
    for (int c = 0; c < NB - 1; ++c) {
        if (c % 8 == 0 && c >= count) break;
        row[c] = row[c + 1] + factor * line[c];
    }
}

// QR of a node: `rows` by `columns` numbers at a, as if zeros stood up to ROWS by NB. Then a has
// reflectors below the diagonal and R above; r, of leading dimension ROWS, R alone; t its T.
//
// Warp w holds the columns w, w + WARPS, ..., so v^T A takes no sums across warps. Let x be what
// is left of column j, from its diagonal entry alpha on. One reduction gives x^T x and x^T a of
// all columns a; with beta = -sign(alpha) ||x||, v = (x - beta e_j) / (alpha - beta) and
// tau = (beta - alpha) / beta,
//     v^T a = (x^T a - beta a_j) / (alpha - beta),
// in which v and a_j are read from the registers of lane j. Columns a that are done hold their own
// v: theirs is an entry of V^T V, from which T comes as in larft.
template <class T, int NB>
__device__ __forceinline__ void factor(int rows, int columns, T* __restrict__ a, long long lda,
                                       T* __restrict__ r, T* __restrict__ t) {
    constexpr int SLOTS = NB / WARPS;
    __shared__ T x[2][ROWS];  // column j in x[j % 2]: the one before may still be read
    __shared__ __align__(16) T gram[NB][NB];  // gram[i][k]: entry (i, i + 1 + k) of V^T V
    __shared__ T taus[NB];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int e = threadIdx.x; e < NB * NB; e += THREADS) gram[e / NB][e % NB] = 0;
    T held[SLOTS][CHUNKS];  // column s WARPS + warp, row 32 k + lane
    int exponents[SLOTS];

#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
        const int c = s * WARPS + warp;
#pragma unroll
        for (int k = 0; k < CHUNKS; ++k) {
            const int i = 32 * k + lane;
            held[s][k] = i < rows && c < columns ? a[i + c * lda] : T(0);
        }
    }
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
        T largest = 0;  // without NaN
#pragma unroll
        for (int k = 0; k < CHUNKS; ++k) largest = max(largest, T(fabs(held[s][k])));
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2)
            largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
        const int e = Format<T>::exponent(largest);
        exponents[s] = max(-Format<T>::LARGEST, min(Format<T>::LARGEST, e));
#pragma unroll
        for (int k = 0; k < CHUNKS; ++k) held[s][k] *= Format<T>::power(-exponents[s]);
    }

#pragma unroll 1
    for (int j = 0; j < NB; ++j) {
        T v[CHUNKS];
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) {
            if (s * WARPS + warp != j) continue;
#pragma unroll
            for (int k = 0; k < CHUNKS; ++k)
                x[j % 2][32 * k + lane] = k > 0 || lane >= j ? held[s][k] : T(0);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < CHUNKS; ++k) v[k] = x[j % 2][32 * k + lane];
        const T alpha = x[j % 2][j];
        T square = 0, sums[SLOTS];
#pragma unroll
        for (int k = 0; k < CHUNKS; ++k) square += v[k] * v[k];
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) {
            sums[s] = 0;
#pragma unroll
            for (int k = 0; k < CHUNKS; ++k) sums[s] += v[k] * held[s][k];
        }
        square = warp_sum(square);
        warp_sums(sums);

        T beta = alpha, scale = 0, tau = 0;
        if (!(square < Format<T>::NOTHING)) {  // NaN too
            beta = alpha < T(0) ? sqrt(square) : -sqrt(square);
            scale = T(1) / (alpha - beta);
            tau = (beta - alpha) / beta;
        }
#pragma unroll
        for (int k = 0; k < CHUNKS; ++k) v[k] *= scale;
        if (lane == j) v[0] = 1;
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) {
            const int c = s * WARPS + warp;
            const T beside = __shfl_sync(0xffffffffu, held[s][0], j);
            const T product = (sums[s] - beta * beside) * scale;
            if (c > j) {
                const T multiple = tau * product;
                // the rows above have no part in it, not even if `multiple` is NaN
                if (lane >= j) held[s][0] -= multiple * v[0];
#pragma unroll
                for (int k = 1; k < CHUNKS; ++k) held[s][k] -= multiple * v[k];
            } else if (c < j) {
                if (lane == 0) gram[c][j - c - 1] = product;
            } else {
                if (lane >= j) held[s][0] = lane == j ? beta : v[0];
#pragma unroll
                for (int k = 1; k < CHUNKS; ++k) held[s][k] = v[k];
                if (lane == 0) taus[j] = tau;
            }
        }
    }
    __syncthreads();

#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
        const int c = s * WARPS + warp;
        if (lane <= c) held[s][0] *= Format<T>::power(exponents[s]);
        if (lane < NB) r[lane + c * ROWS] = lane <= c ? held[s][0] : T(0);
#pragma unroll
        for (int k = 0; k < CHUNKS; ++k) {
            const int i = 32 * k + lane;
            if (i < rows && c < columns) a[i + c * lda] = held[s][k];
        }
    }

    // T = (diag(1 / tau) + the part of V^T V above its diagonal)^-1, row `lane`, from the left:
    // T_j = -tau_j sum_{k < j} T_k (V^T V)_kj, where sum[c] is that of column j + c so far
    if (warp == 0) {
        T sum[NB];
#pragma unroll
        for (int c = 0; c < NB; ++c) sum[c] = 0;
#pragma unroll 1
        for (int j = 0; j < NB; ++j) {
            const T tau = taus[j], entry = lane < j ? -tau * sum[0] : lane == j ? tau : T(0);
            if (lane < NB) t[lane + j * NB] = entry;
            shift(sum, entry, gram[j], NB - 1 - j);
        }
    }
}

template <class T, int NB>
__global__ void __launch_bounds__(THREADS)
tsqr_leaf(int m, int n, T* __restrict__ a, long long lda, T* __restrict__ stacks,
          T* __restrict__ triangles) {
    const int leaf = blockIdx.x, first = leaf * ROWS;
    factor<T, NB>(min(ROWS, m - first), n, a + first, lda, place_of_r<T, NB>(m, 0, leaf, stacks),
                  triangles + static_cast<long long>(leaf) * NB * NB);
}

template <class T, int NB>
__global__ void __launch_bounds__(THREADS)
tsqr_merge(int m, int level, T* stacks, T* __restrict__ triangles) {
    constexpr int FAN = ROWS / NB;
    const int node = blockIdx.x, leaves = level_of<NB>(m, 0).count;
    const int children = level_of<NB>(m, level - 1).count - node * FAN;
    const long long index = level_of<NB>(m, level).first + node;
    factor<T, NB>(min(FAN, children) * NB, NB, stacks + (index - leaves) * ROWS * NB, ROWS,
                  place_of_r<T, NB>(m, level, node, stacks), triangles + index * NB * NB);
}

template <class T, int NB> struct Squares {
    T c[NB][NB + 1];  // read by rows and by columns
    T w[NB][NB];
    T left[NB][NB];
    T other[NB][NB];
};

// What a thread has of an NB by NB matrix: consecutive rows of one column.
template <int NB> struct Part {
    static constexpr int SIZE = NB * NB / THREADS;
    const int i = threadIdx.x / NB * SIZE, c = threadIdx.x % NB;
};

// sum_k left[i][k] right[k][c]; `left` by rows or by columns.
template <int NB, bool BY_ROWS, int STRIDE, class T>
__device__ __forceinline__ void multiply(T (&sum)[Part<NB>::SIZE], const T (&left)[NB][NB],
                                         const T (&right)[NB][STRIDE]) {
    const Part<NB> part;
#pragma unroll
    for (int o = 0; o < Part<NB>::SIZE; ++o) sum[o] = 0;
#pragma unroll 8
    for (int k = 0; k < NB; ++k) {
        const T entry = right[k][part.c];
#pragma unroll
        for (int o = 0; o < Part<NB>::SIZE; ++o)
            sum[o] += (BY_ROWS ? left[part.i + o][k] : left[k][part.i + o]) * entry;
    }
}

// The rows of the thin Q that belong to a leaf are [C; 0] - V W, V and T being the leaf's: s.c
// becomes C, s.left becomes W = T V1^T C. From the root on, where C = I, a node hands each child NB
// rows of its own [C; 0] - V W. In merges V1 = I, as zeros below the diagonal of an R stay zeros.
template <class T, int NB>
__device__ __forceinline__ void descend(int m, int n, int leaf, const T* __restrict__ a,
                                        long long lda, const T* __restrict__ stacks,
                                        const T* __restrict__ triangles, Squares<T, NB>& s) {
    constexpr int FAN = ROWS / NB, SIZE = Part<NB>::SIZE;
    const Part<NB> part;
    const int leaves = level_of<NB>(m, 0).count;
    T sum[SIZE], next[SIZE];
#pragma unroll
    for (int o = 0; o < SIZE; ++o) s.c[part.i + o][part.c] = part.i + o == part.c ? T(1) : T(0);

#pragma unroll 1
    for (int level = last_level<NB>(m); level > 0; --level) {
        int child = leaf;
        for (int l = 1; l < level; ++l) child /= FAN;
        const int slot = child % FAN;
        const long long index = level_of<NB>(m, level).first + child / FAN;
        const T* stack = stacks + (index - leaves) * ROWS * NB + slot * NB;
#pragma unroll
        for (int o = 0; o < SIZE; ++o) {
            s.left[part.i + o][part.c] = triangles[index * NB * NB + (part.i + o) * NB + part.c];
            next[o] = stack[part.c + (part.i + o) * ROWS];
        }
        __syncthreads();
        multiply<NB, false>(sum, s.left, s.c);
#pragma unroll
        for (int o = 0; o < SIZE; ++o) {
            s.w[part.i + o][part.c] = sum[o];
            s.other[part.i + o][part.c] = next[o];
        }
        __syncthreads();
        multiply<NB, false>(sum, s.other, s.w);
#pragma unroll
        for (int o = 0; o < SIZE; ++o) {
            T& c = s.c[part.i + o][part.c];
            c = slot == 0 ? c - s.w[part.i + o][part.c] : -sum[o];
        }
    }

    const int first = leaf * ROWS;
#pragma unroll
    for (int o = 0; o < SIZE; ++o) {
        const int k = part.i + o, i = part.c;  // V1[i][k]
        const bool is_stored = i > k && k < n && first + i < m;
        s.left[k][i] = is_stored ? a[first + i + k * lda] : i == k ? T(1) : T(0);
        next[o] = triangles[static_cast<long long>(leaf) * NB * NB + k * NB + i];
    }
    __syncthreads();
    multiply<NB, true>(sum, s.left, s.c);
#pragma unroll
    for (int o = 0; o < SIZE; ++o) {
        s.w[part.i + o][part.c] = sum[o];
        s.other[part.i + o][part.c] = next[o];
    }
    __syncthreads();
    multiply<NB, false>(sum, s.other, s.w);
#pragma unroll
    for (int o = 0; o < SIZE; ++o) s.left[part.i + o][part.c] = sum[o];
    __syncthreads();
}

// Row i of a leaf's [C; 0] - V W; `row` is where it stands in the panel.
template <class T, int NB>
__device__ __forceinline__ void row_of_q(T (&q)[NB], int i, int n, const T* row, long long lda,
                                         const Squares<T, NB>& s) {
    constexpr int AHEAD = 8;  // entries of V that are on their way while others are used
    T ahead[AHEAD];
#pragma unroll
    for (int c = 0; c < NB; ++c) q[c] = i < NB ? s.c[i][c] : T(0);
#pragma unroll
    for (int u = 0; u < AHEAD; ++u) ahead[u] = i > u && u < n ? row[u * lda] : T(i == u);
#pragma unroll 1
    for (int first = 0; first < NB; first += AHEAD) {
        T v[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
            const int k = first + AHEAD + u;
            v[u] = ahead[u];
            ahead[u] = i > k && k < n ? row[k * lda] : T(i == k);
        }
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
#pragma unroll
            for (int c = 0; c < NB; ++c) q[c] -= v[u] * s.left[first + u][c];
        }
    }
}

template <class T, int NB>
__global__ void __launch_bounds__(THREADS)
reconstruct(int m, int n, const T* __restrict__ a, long long lda, const T* __restrict__ stacks,
            const T* __restrict__ triangles, T* __restrict__ t, long long ldt,
            T* __restrict__ squares) {
    __shared__ __align__(16) Squares<T, NB> s;
    descend<T, NB>(m, n, 0, a, lda, stacks, triangles, s);
    const int lane = threadIdx.x;  // of the one warp that goes on: row `lane` of Q1
    if (lane >= 32) return;
    const bool is_row = lane < n;
    T row[NB];
    if (is_row) {
        row_of_q<T, NB>(row, lane, n, a + lane, lda, s);
    } else {
#pragma unroll
        for (int c = 0; c < NB; ++c) row[c] = 0;
    }

    // Q1 - S = V1 U, with the reciprocals of the pivots on the diagonal
    T sign = 1, pivot = 1;
#pragma unroll 1
    for (int j = 0; j < NB; ++j) {
        const T entry = __shfl_sync(0xffffffffu, row[0], j);
        const T other = entry < T(0) ? T(1) : T(-1);  // S_jj
        const T reciprocal = T(1) / (entry - other);
        const T factor = lane > j ? row[0] * reciprocal : T(0);
        if (lane == j) {
            sign = other;
            pivot = entry - other;
        }
        if (lane < NB) s.c[lane][j] = lane > j ? factor : row[0];
        if (lane < NB && lane > j) s.other[j][lane - j - 1] = factor;
        if (lane == j) s.w[j][NB - 1] = reciprocal;
        if (lane < j) s.w[lane][j - lane - 1] = row[0];
#pragma unroll
        for (int c = 0; c < NB - 1; ++c) {
            if (c % 8 == 0 && c >= NB - 1 - j) break;
            row[c] = row[c + 1] - factor * __shfl_sync(0xffffffffu, row[c + 1], j);
        }
    }
    const unsigned positive = __ballot_sync(0xffffffffu, sign > T(0));
    __syncwarp();
    for (int e = lane; e < NB * NB; e += 32) squares[e] = s.w[e / NB][e % NB];
    if (!is_row) return;

    const T* r = place_of_r<const T, NB>(m, last_level<NB>(m), 0, stacks);
    T* top = squares + NB * NB;
#pragma unroll 4
    for (int c = 0; c < n; ++c)
        top[lane + c * NB] = lane <= c ? sign * r[lane + c * ROWS] : s.c[lane][c];

    // row `lane` of T V1^T = -U S
#pragma unroll
    for (int c = 0; c < NB; ++c) {
        const T entry = lane == c ? pivot : lane < c ? s.c[lane][c] : T(0);
        row[c] = positive >> c & 1u ? -entry : entry;
    }
#pragma unroll 1
    for (int k = 0; k < n; ++k) {
        const T entry = row[0];
        t[lane + k * ldt] = entry;
        shift(row, -entry, s.other[k], NB - 1 - k);
    }
}

template <class T, int NB>
__global__ void __launch_bounds__(THREADS)
tsqr_form(int m, int n, T* a, long long lda, const T* __restrict__ stacks,
          const T* __restrict__ triangles, const T* __restrict__ squares) {
    __shared__ __align__(16) Squares<T, NB> s;
    __shared__ __align__(16) T upper[NB][NB];
    const Part<NB> part;
#pragma unroll
    for (int o = 0; o < Part<NB>::SIZE; ++o)
        upper[part.i + o][part.c] = squares[(part.i + o) * NB + part.c];
    const int leaf = blockIdx.x, i = threadIdx.x;
    descend<T, NB>(m, n, leaf, a, lda, stacks, triangles, s);
    if (i >= m - leaf * ROWS) return;

    T* row = a + leaf * ROWS + i;
    if (leaf == 0 && i < n) {
        const T* top = squares + NB * NB;
        for (int c = 0; c < n; ++c) row[c * lda] = top[i + c * NB];
        return;
    }
    T q[NB];
    row_of_q<T, NB>(q, i, n, row, lda, s);
#pragma unroll 1
    for (int j = 0; j < n; ++j) {
        const T entry = q[0] * upper[j][NB - 1];
        row[j * lda] = entry;
        shift(q, -entry, upper[j], NB - 1 - j);
    }
}
