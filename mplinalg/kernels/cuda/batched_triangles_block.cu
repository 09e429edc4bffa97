// Systems with triangles of matrices of middling order: what batched_triangles.cu computes, for
// n <= NB = 32, 64 or 128, a member to a block of threads (batched_block.cuh).
//
// Launch: 256 threads, a block for each member. Any strides of M and B; x dense.
// Bytes: M, B and X once: 8 n^2 a member in double precision and few columns, of order 64 at most
// 1.3e8 members a second at 4.3 TB/s. Flops: n^2 a triangle for every 16 right-hand sides, that
// many at once. One barrier a column of a triangle.
#include "batched_block.cuh"

template <class T, int PARTS, int NB>
__global__ void __launch_bounds__(BLOCK_THREADS, (BlockTile<Entry<T, PARTS>, NB>::BLOCKS))
batched_triangles_block(int n, const T* __restrict__ m, long long m_member, long long m_row,
                        long long m_column, int lower, int upper, int mirrored, int conjugated,
                        const int* __restrict__ piv, int is_last, int* __restrict__ info, int nrhs,
                        const T* __restrict__ b, long long b_member, long long b_row,
                        long long b_column, T* __restrict__ x) {
    using N = Entry<T, PARTS>;
    using Block = BlockTile<N, NB>;
    __shared__ typename Block::Space space;
    __shared__ int first;
    Block block(n);
    const long long member = blockIdx.x;
    const Triangles<N> triangles(Strided<N>(m, m_member, m_row, m_column), mirrored, conjugated);
    block.load([&](int i, int k) { return triangles(member, i, k); });

    if (threadIdx.x == 0) first = n + 1;
    __syncthreads();
    const int i = threadIdx.x;
    if (i < n) {
        const N entry = triangles(member, i, i);
        space.diagonal[i] = Quotient<N>::of(entry);
        if ((lower == 1 || upper == 1) && is_zero(entry)) atomicMin(&first, i + 1);
        space.row_at[i] = piv ? moved_row(piv + member * n, n, i) : i;
    }
    __syncthreads();
    const bool failed = first <= n;
    if (info && threadIdx.x == 0) info[member] = failed ? first : 0;

    solve_all(
        block, space, nrhs, Strided<N>(b, b_member, b_row, b_column), member,
        reinterpret_cast<N*>(x), failed, false,
        [&](int r) { return is_last ? block.y + SIDE * r : space.row_at[block.y + SIDE * r]; },
        [&](int r) { return is_last ? space.row_at[block.y + SIDE * r] : block.y + SIDE * r; },
        [&](auto& column) {
            if (lower) block.forward(space, lower == 2, column);
            if (upper) block.backward(space, upper == 2, column);
        });
}
