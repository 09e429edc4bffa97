// Sums over elements at the nodes that they may share
//
// out[c, node] = the sum of what the elements around a node have for it in `shares`
//
// for all nodes on the surface of an element, in a box of cx by cy (by cz) elements with p + 1 nodes
// in a dimension; others are not touched. Elements are added up by rising number: the same bits
// every time. `shares` is what fem_mass.cu writes.
//
// Launch: THREADS threads, any number of blocks; a warp has rows of nodes along x.
// Bytes: a read of the shares, a write of the nodes on surfaces: 7 B and 3 B for each unknown at
// p = 7, double.
#include "fem.cuh"

constexpr int THREADS = 256;

// The elements around node g of a dimension.
struct Around {
    int first, last;
    bool is_face;
    __device__ Around(int g, int p, int cells)
        : first(g > 0 ? (g - 1) / p : 0), last(min(g / p, cells - 1)), is_face(g % p == 0) {}
};

template <class T, int DIM>
__global__ void __launch_bounds__(THREADS, 4)
fem_join(int components, int p, int cx, int cy, int cz, const T* __restrict__ shares,
         T* __restrict__ out) {
    const int nx = cx * p + 1, ny = cy * p + 1, nz = DIM == 3 ? cz * p + 1 : 1;
    const int size = surface<DIM>(p + 1), lane = threadIdx.x % 32;
    const unsigned rows = static_cast<unsigned>(components) * nz * ny;
    const unsigned warps = gridDim.x * (THREADS / 32);
    for (unsigned row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32; row < rows; row += warps) {
        const int y = row % ny, z = row / ny % nz, c = row / ny / nz;
        const Around by_y(y, p, cy), by_z(z, p, cz);
        const int step = by_y.is_face || (DIM == 3 && by_z.is_face) ? 1 : p;
        for (int x = lane * step; x < nx; x += 32 * step) {
            const Around by_x(x, p, cx);
            T sum = T(0);
            for (int ez = by_z.first; ez <= by_z.last; ++ez)
                for (int ey = by_y.first; ey <= by_y.last; ++ey)
                    for (int ex = by_x.first; ex <= by_x.last; ++ex) {
                        const long long element = (static_cast<long long>(ez) * cy + ey) * cx + ex;
                        const int place = on_surface<DIM>(p + 1, z - ez * p, y - ey * p, x - ex * p);
                        sum += shares[(element * components + c) * size + place];
                    }
            out[static_cast<long long>(row) * nx + x] = sum;
        }
    }
}
