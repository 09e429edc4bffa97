// Mass operators, element by element
//
// out_e = B' diag(w) B u_e,  B = B1 x B1 (x B1),  w: `factors`, one number for each point
//
// u and out: nodal values, `plane` numbers for each of the components, where `Column` says. B1 is
// (q, n) by rows; without it points are nodes. Element e has q^DIM factors from factors + e stride
// on, x the fastest: 0 where all have the same ones. With `shares`, what an element has for nodes on
// its surface goes there instead, `surface` numbers for each element and component; fem_join.cu
// adds them up, always in the same order.
//
// Launch: Layout::THREADS threads, a block for every Layout::ELEMENTS elements.
// Bytes of one component: a read of u and of the factors, a write of out: BP1 at p = 7, q = 9, double: 8 B of u, 17 B
// of factors and 22 B of out, shares and sums for each unknown. Flops: 4 q n (n^2 + n q + q^2) an element.
#include "fem.cuh"

template <class T, int DIM, int Q> struct Shared {
    T cubes[Layout<DIM, Q>::ELEMENTS][Layout<DIM, Q>::SPACE];
    Table<T, Q, Layout<DIM, Q>::THREADS> values;
};

template <class T, int DIM, int Q>
__global__ void __launch_bounds__(Layout<DIM, Q>::THREADS, (Layout<DIM, Q>::BLOCKS))
fem_mass(int count, int components, int n, int q, const T* __restrict__ interp,
         const T* __restrict__ factors, long long stride, const T* __restrict__ u, int cx, int cy,
         long long ax, long long ay, long long az, long long sy, long long sz, long long plane,
         T* __restrict__ out, T* __restrict__ shares) {
    using L = Layout<DIM, Q>;
    DYNAMIC_SHARED(memory);
    Shared<T, DIM, Q>& shared = *reinterpret_cast<Shared<T, DIM, Q>*>(memory);
    Table<T, Q, L::THREADS>& values = shared.values;
    Column<DIM, Q> column(count, n, cx, cy, ax, ay, az, sy, sz);
    const int i = column.i, j = column.j;
    T* const cube = shared.cubes[column.slot];
    if (interp) values.load(interp, q, n);
    __syncthreads();
    const bool has_points = column.element < count && i < q && j < q;
    const T* const own = factors + column.element * stride + j * q + i;
    for (int c = 0; c < components; ++c) {
        T v[L::DEPTH];
        load<T, DIM, Q>(column, u, v);
        if (interp) along_all<T, DIM, Q>(values.turned, i, j, cube, v);
#pragma unroll
        for (int k = 0; k < L::DEPTH; ++k)
            v[k] = has_points && (DIM == 2 || k < q) ? v[k] * own[k * q * q] : T(0);
        if (interp) along_all<T, DIM, Q>(values.plain, i, j, cube, v);
        const long long before = static_cast<long long>(column.element) * components + c;
        store<T, DIM, Q>(column, v, out, shares ? shares + before * surface<DIM>(n) : nullptr);
        column.first += plane;
    }
}
