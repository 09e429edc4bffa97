// Cholesky factorization of matrices of middling order, and systems with them, in one pass: what
// batched_cholesky.cu computes, for n <= NB = 32, 64 or 128, a member to a block of threads
// (batched_block.cuh).
//
// Step j: column j is published, d its diagonal entry, and
//
//     l = a[., j] / sqrt(d),   a[., c] -= l / sqrt(d) conj(a[c, j]),  c > j
//
// in the lower triangle. Row j of the tile becomes that of L^H, for the solutions.
//
// Launch: 256 threads, a block for each member. Any strides of A and B; x and the factor dense.
// Bytes: a triangle of A, the factor, B and X once: 12 n^2 a member with the factor in double
// precision, 4 n^2 without, so of order 64 and 128 at most 8.7e7 and 2.2e7 members a second at 4.3
// TB/s with it. Flops: 1/3 n^3, and in blocks of 16 columns that are begun a little more, + 2 n^2
// for every 16 right-hand sides, that many at once. One barrier a column of the factorization and
// of each triangle.
#include "batched_block.cuh"

template <class T, int PARTS, int NB>
__global__ void __launch_bounds__(BLOCK_THREADS, (BlockTile<Entry<T, PARTS>, NB>::BLOCKS))
batched_cholesky_block(int n, const T* __restrict__ a, long long a_member, long long a_row,
                       long long a_column, int is_upper, T* __restrict__ factor,
                       int* __restrict__ info, T* __restrict__ kappa, int nrhs,
                       const T* __restrict__ b, long long b_member, long long b_row,
                       long long b_column, T* __restrict__ x) {
    using N = Entry<T, PARTS>;
    using Block = BlockTile<N, NB>;
    constexpr int G = Block::G;
    __shared__ typename Block::Space space;
    Block block(n);
    const long long member = blockIdx.x;
    const Strided<N> given(a, a_member, a_row, a_column);
    block.load([&](int i, int k) {
        if (k > i) return number<N>(0);
        return is_upper ? conjugate(given(member, k, i)) : given(member, i, k);
    });
    const T largest = kappa ? block.largest_entry(space) : T(0);

    int failure = 0;
    block.for_columns([&](auto group, int t) {
        constexpr int g = decltype(group)::value;
        const int j = SIDE * g + t;
        Line<N, G>& column = space.column[t % 2];
        block.publish_column(column, g, t);
        // the other line is written next, when all have read this one
        __syncthreads();
        N m[G], u[G];
        column.get(block.y, m);
        column.get(block.x, u);
        const T d = real_part(column[j]);
        failure = judged_minor(failure, d, j);
        const T root = square_root(d), factor = T(1) / root;  // in range for any d > 0
        if (threadIdx.x == 0) space.diagonal[j] = Quotient<N>::by_factor(factor);
#pragma unroll
        for (int r = g; r < G; ++r) {
            const bool is_below = r > g || block.y > t;
            const N l = scaled(m[r], factor), multiplier = scaled(l, factor);
#pragma unroll
            for (int c = g; c <= r; ++c)
                if (is_below && (c > g || block.x > t))
                    block.tile[r][c] = minus(block.tile[r][c], multiplier, conjugate(u[c]));
            if (block.x == t && is_below) block.tile[r][g] = l;
        }
        if (block.y == t) {
#pragma unroll
            for (int c = g; c < G; ++c) {
                if (c > g || block.x > t) block.tile[g][c] = conjugate(scaled(u[c], factor));
                else if (block.x == t) block.tile[g][c] = number<N>(root);
            }
        }
    });

    if (threadIdx.x == 0) info[member] = failure;
    if (factor)
        block.store(reinterpret_cast<N*>(factor) + member * n * n,
                    [&](int i, int k) { return is_upper ? i <= k : k <= i; });
    if (!x && !kappa) return;
    __syncthreads();
    const auto own_row = [&](int r) { return block.y + SIDE * r; };
    const T size = solve_all(block, space, nrhs, Strided<N>(b, b_member, b_row, b_column), member,
                             reinterpret_cast<N*>(x), failure != 0, kappa != nullptr, own_row,
                             own_row, [&](auto& column) {
                                 block.forward(space, false, column);
                                 block.backward(space, false, column);
                             });
    if (kappa && threadIdx.x == 0) kappa[member] = largest * size;
}
