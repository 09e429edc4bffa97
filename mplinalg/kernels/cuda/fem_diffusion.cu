// Diffusion operators, element by element
//
// out_e = B' (D1' w_1 + D2' w_2 (+ D3' w_3)),  w_a = sum_b G_ab D_b B u_e at each point
//
// D_a differentiates along axis a the polynomial that interpolates at the points: `slope`, (q, q) by
// rows. G is symmetric: `factors` has its upper triangle by rows, q^DIM numbers of each entry one
// after another. All else is as in fem_mass.cu.
//
// Derivatives and fluxes along x and y change hands in shared memory, of all planes at once, so that
// a number of a table is loaded once for all of them; those along z stay in a thread. In between a
// thread goes through its points plane by plane: what it has for x and y stands at its own places
// of the two cubes, so that no registers are numbered, and the loop need not be unrolled. Factors are
// loaded a plane ahead.
//
// Launch: Layout::THREADS threads, a block for every Layout::ELEMENTS elements.
// Bytes of one component: u, out, and six factors a point, which outweigh the rest: BP5 at p = 7, double: 72 B of
// factors and 30 B of nodal values and shares for each unknown, so 42e9 unknowns a second at
// 4.3 TB/s. Flops: 12 q + 15 a point, with p = 7 166 for each unknown. Accesses to
// shared memory: 5 q + 11 a point, of which many lanes of a warp read the same number.
//
// After Swirydowicz, Chalmers, Karakus and Warburton, Int. J. High Perform. Comput. Appl. 33 (2019)
// 735: a plane of threads that goes through the element.
#include "fem.cuh"

template <class T, int DIM, int Q> struct Shared {
    T cubes[2][Layout<DIM, Q>::ELEMENTS][Layout<DIM, Q>::SPACE];
    Table<T, Q, Layout<DIM, Q>::THREADS> values, slopes;
};

// The factors at the thread's point of a plane.
template <class T, int DIM> struct Metric {
    static constexpr int COUNT = DIM * (DIM + 1) / 2;
    T g[COUNT];
    __device__ void load(const T* from, int points, bool is_point) {
#pragma unroll
        for (int at = 0; at < COUNT; ++at) g[at] = is_point ? from[at * points] : T(0);
    }
};

template <class T, int DIM, int Q>
__global__ void __launch_bounds__(Layout<DIM, Q>::THREADS, (Layout<DIM, Q>::BLOCKS))
fem_diffusion(int count, int components, int n, int q, const T* __restrict__ interp,
              const T* __restrict__ slope, const T* __restrict__ factors, long long stride,
              const T* __restrict__ u, int cx, int cy, long long ax, long long ay, long long az,
              long long sy, long long sz, long long plane, T* __restrict__ out,
              T* __restrict__ shares) {
    using L = Layout<DIM, Q>;
    DYNAMIC_SHARED(memory);
    Shared<T, DIM, Q>& shared = *reinterpret_cast<Shared<T, DIM, Q>*>(memory);
    Table<T, Q, L::THREADS>&values = shared.values, &slopes = shared.slopes;
    Column<DIM, Q> column(count, n, cx, cy, ax, ay, az, sy, sz);
    const int i = column.i, j = column.j, place = j * Q + i;
    T* const cube = shared.cubes[0][column.slot];
    T* const other = shared.cubes[1][column.slot];
    if (interp) values.load(interp, q, n);
    slopes.load(slope, q, q);
    __syncthreads();
    const bool has_points = column.element < count && i < q && j < q;
    const int points = DIM == 3 ? q * q * q : q * q;
    const T* const own = factors + column.element * stride + j * q + i;
    for (int c = 0; c < components; ++c) {
        T v[L::DEPTH], total[L::DEPTH], gx[L::DEPTH], gy[L::DEPTH];
        load<T, DIM, Q>(column, u, v);
        Metric<T, DIM> metric;
        metric.load(own, points, has_points);
        if (interp) along_all<T, DIM, Q>(values.turned, i, j, cube, v);
        share<T, DIM, Q>(v, cube, place);
        along<T, DIM, Q>(slopes.turned, i, cube + j * Q, 1, gx);
        along<T, DIM, Q>(slopes.turned, j, cube + i, Q, gy);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < L::DEPTH; ++k) {
            cube[k * L::PLANE + place] = gx[k];
            other[k * L::PLANE + place] = gy[k];
            total[k] = T(0);
        }
#pragma unroll 1
        for (int k = 0; k < L::DEPTH; ++k) {
            T &x = cube[k * L::PLANE + place], &y = other[k * L::PLANE + place];
            const T* const g = metric.g;
            const T dx = x, dy = y;
            if constexpr (DIM == 2) {
                x = g[0] * dx + g[1] * dy;
                y = g[1] * dx + g[2] * dy;
            } else {
                T dz = T(0);
#pragma unroll
                for (int l = 0; l < Q; ++l) dz += slopes.plain[k * Q + l] * v[l];
                const T flux = g[2] * dx + g[4] * dy + g[5] * dz;
#pragma unroll
                for (int l = 0; l < Q; ++l) total[l] += slopes.plain[k * Q + l] * flux;
                x = g[0] * dx + g[1] * dy + g[2] * dz;
                y = g[1] * dx + g[3] * dy + g[4] * dz;
                metric.load(own + (k + 1) * q * q, points, has_points && k + 1 < q);
            }
        }
        __syncthreads();
        along<T, DIM, Q>(slopes.plain, i, cube + j * Q, 1, gx);
        along<T, DIM, Q>(slopes.plain, j, other + i, Q, gy);
#pragma unroll
        for (int k = 0; k < L::DEPTH; ++k) total[k] += gx[k] + gy[k];
        if (interp) along_all<T, DIM, Q>(values.plain, i, j, cube, total);
        const long long before = static_cast<long long>(column.element) * components + c;
        store<T, DIM, Q>(column, total, out, shares ? shares + before * surface<DIM>(n) : nullptr);
        column.first += plane;
    }
}
