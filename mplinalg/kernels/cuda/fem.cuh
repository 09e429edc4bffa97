// Elements with tensor-product bases on a box of cells: who computes what, where nodes are, and
// products along the axes.
//
// A block has several elements. A thread has a column of an element along z: the points (and the
// nodes) with one x and one y; in two dimensions that is one point. Up to Q points in a dimension,
// nodes too: behind them there are zeros, in tables and columns, and nothing is read or written.
#pragma once
#include "portable.cuh"

template <int DIM, int Q> struct Layout {
    static constexpr int PLANE = Q * Q, DEPTH = DIM == 3 ? Q : 1, POINTS = PLANE * DEPTH;
    // from one element's numbers in shared memory to the next one's: a warp's are in all banks
    static constexpr int SPACE = POINTS + (DIM == 2 ? 0 : Q == 2 ? 12 : Q == 4 ? 16 : 0);
    static constexpr int ELEMENTS = 256 / PLANE, THREADS = ELEMENTS * PLANE;
    // that a multiprocessor is to hold at least
    static constexpr int BLOCKS = Q < 3 || DIM == 2 ? 3 : Q < 10 ? 2 : 1;
};

// A matrix of `rows` by `columns`, Q by Q with zeros behind, and its transpose beside it.
template <class T, int Q, int THREADS> struct Table {
    T plain[Q * Q], turned[Q * Q];
    __device__ void load(const T* __restrict__ from, int rows, int columns) {
        for (int at = threadIdx.x; at < Q * Q; at += THREADS) {
            const int r = at / Q, c = at % Q;
            const T entry = r < rows && c < columns ? from[r * columns + c] : T(0);
            plain[at] = entry;
            turned[c * Q + r] = entry;
        }
    }
};

// The thread's column, and the nodes of its element in arrays of nodal values.
template <int DIM, int Q> struct Column {
    using L = Layout<DIM, Q>;
    int i, j, slot, element, n;
    bool is_in;           // there are such an element and such nodes
    long long first, sz;  // of its nodes, and from one to the next along z

    // Elements are numbered along x first, cx by cy of them in a layer, (ax, ay, az) nodes apart.
    __device__ Column(int count, int n, int cx, int cy, long long ax, long long ay, long long az,
                      long long sy, long long sz)
        : i(threadIdx.x % Q), j(threadIdx.x / Q % Q), slot(threadIdx.x / L::PLANE),
          element(blockIdx.x * L::ELEMENTS + threadIdx.x / L::PLANE), n(n),
          is_in(element < count && i < n && j < n), sz(sz) {
        const int layer = element / cx;
        first = element % cx * ax + layer % cy * ay + layer / cy * az + j * sy + i;
    }
    __device__ bool has(int k) const { return is_in && (DIM == 2 || k < n); }
    __device__ bool is_on_surface(int k) const {
        return i == 0 || i == n - 1 || j == 0 || j == n - 1 ||
               (DIM == 3 && (k == 0 || k == n - 1));
    }
};

// How many nodes of an element are on its surface, n in a dimension.
template <int DIM> __device__ __forceinline__ int surface(int n) {
    return DIM == 2 ? 4 * n - 4 : 2 * n * n + (n - 2) * (4 * n - 4);
}

// Which of them is node (k, j, i): the lowest plane, the uppermost, then rings from below; of a
// ring, or in two dimensions, the first row, the last one, then ends of rows.
template <int DIM> __device__ __forceinline__ int on_surface(int n, int k, int j, int i) {
    if (DIM == 3 && k == 0) return j * n + i;
    if (DIM == 3 && k == n - 1) return n * n + j * n + i;
    const int below = DIM == 3 ? 2 * n * n + (k - 1) * (4 * n - 4) : 0;
    return below + (j == 0 ? i : j == n - 1 ? n + i : 2 * n + 2 * (j - 1) + (i != 0));
}

template <class T, int DIM, int Q>
__device__ __forceinline__ void load(const Column<DIM, Q>& column, const T* __restrict__ u,
                                     T (&v)[Layout<DIM, Q>::DEPTH]) {
#pragma unroll
    for (int k = 0; k < Layout<DIM, Q>::DEPTH; ++k)
        v[k] = column.has(k) ? u[column.first + k * column.sz] : T(0);
}

// To `out`; nodes on the surface, which other elements may share, to `shares` if that is given.
template <class T, int DIM, int Q>
__device__ __forceinline__ void store(const Column<DIM, Q>& column,
                                      const T (&v)[Layout<DIM, Q>::DEPTH], T* __restrict__ out,
                                      T* __restrict__ shares) {
#pragma unroll
    for (int k = 0; k < Layout<DIM, Q>::DEPTH; ++k) {
        if (!column.has(k)) continue;
        if (shares && column.is_on_surface(k))
            shares[on_surface<DIM>(column.n, k, column.j, column.i)] = v[k];
        else
            out[column.first + k * column.sz] = v[k];
    }
}

// The columns of all threads of an element, for all of them; the cube may be read until then.
template <class T, int DIM, int Q>
__device__ __forceinline__ void share(const T (&v)[Layout<DIM, Q>::DEPTH], T* cube, int place) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < Layout<DIM, Q>::DEPTH; ++k) cube[k * Q * Q + place] = v[k];
    __syncthreads();
}

// v[k] <- the sum of table[l, own] times the l-th of a line in plane k of the cube.
template <class T, int DIM, int Q>
__device__ __forceinline__ void along(const T* table, int own, const T* line, int step,
                                      T (&v)[Layout<DIM, Q>::DEPTH]) {
#pragma unroll
    for (int k = 0; k < Layout<DIM, Q>::DEPTH; ++k) v[k] = T(0);
#pragma unroll 2
    for (int l = 0; l < Q; ++l) {
        const T weight = table[l * Q + own];
#pragma unroll
        for (int k = 0; k < Layout<DIM, Q>::DEPTH; ++k) v[k] += weight * line[k * Q * Q + l * step];
    }
}

// v <- M v, of which table[l, k] is entry (k, l).
template <class T, int DIM, int Q>
__device__ __forceinline__ void along_z(const T* table, T (&v)[Layout<DIM, Q>::DEPTH]) {
    if constexpr (DIM == 3) {
        T sums[Q];
#pragma unroll
        for (int k = 0; k < Q; ++k) {
            sums[k] = T(0);
#pragma unroll
            for (int l = 0; l < Q; ++l) sums[k] += table[l * Q + k] * v[l];
        }
#pragma unroll
        for (int k = 0; k < Q; ++k) v[k] = sums[k];
    }
}

// v <- M v along all axes; the table has M transposed.
template <class T, int DIM, int Q>
__device__ __forceinline__ void along_all(const T* table, int i, int j, T* cube,
                                          T (&v)[Layout<DIM, Q>::DEPTH]) {
    along_z<T, DIM, Q>(table, v);
    share<T, DIM, Q>(v, cube, j * Q + i);
    along<T, DIM, Q>(table, i, cube + j * Q, 1, v);
    share<T, DIM, Q>(v, cube, j * Q + i);
    along<T, DIM, Q>(table, j, cube + i, Q, v);
}
