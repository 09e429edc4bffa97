// LU with partial pivoting of matrices of middling order, and systems with them, in one pass: what
// batched_lu.cu computes, for n <= NB = 32, 64 or 128, a member to a block of threads
// (batched_block.cuh).
//
// Step j: column j is published, and every warp finds in it the pivot, the largest entry of the
// rows that have been no pivot row yet, and of equal ones that which LAPACK's interchanges would
// have moved highest. Its row u is published, and
//
//     l = a[., j] / u[j],   a[., c] -= l u[c],  c > j
//
// Launch: 256 threads, a block for each member. Any strides of A and B; x and lu dense.
// Bytes: A once, L\U, B and X once: 16 n^2 a member with factors in double precision, 8 n^2
// without, so of order 64 and 128 at most 6.6e7 and 1.6e7 members a second at 4.3 TB/s with
// factors. Flops: 2/3 n^3 + 2 n^2 for every 16 right-hand sides, that many at once. Two barriers a
// column of the factorization, one a column of each triangle: with some 200 clocks a column and 70
// a step of substitution, two blocks on each of 132 multiprocessors at 1.8 GHz solve 2.2e7 systems
// of order 64 a second.
#include "batched_block.cuh"

template <class T, int PARTS, int NB>
__global__ void __launch_bounds__(BLOCK_THREADS, (BlockTile<Entry<T, PARTS>, NB>::BLOCKS))
batched_lu_block(int n, const T* __restrict__ a, long long a_member, long long a_row,
                 long long a_column, T* __restrict__ lu, int* __restrict__ piv,
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
    block.load([&](int i, int k) { return given(member, i, k); });
    if (threadIdx.x < NB) {
        space.at_of[threadIdx.x] = threadIdx.x;
        space.row_at[threadIdx.x] = threadIdx.x;
    }
    const T largest = kappa ? block.largest_entry(space) : T(0);

    int failure = 0;
    block.for_columns([&](auto group, int t) {
        constexpr int g = decltype(group)::value;
        const int j = SIDE * g + t;
        block.publish_column(space.column[0], g, t);
        __syncthreads();
        N m[G], u[G];
        space.column[0].get(block.y, m);
        Candidate<T> best = {0, NOWHERE};
#pragma unroll
        for (int i = block.lane; i < NB; i += 32) {
            const int at = space.at_of[i];
            if (at < j || at >= n) continue;
            const Candidate<T> own = {size_of(space.column[0][i]), static_cast<unsigned>(at)};
            if (is_better(own, best)) best = own;
        }
        const unsigned found = warp_best(best).at;
        const int pivot_row = space.row_at[found], other_row = space.row_at[j];
        const N pivot = space.column[0][pivot_row];
#pragma unroll
        for (int r = 0; r < G; ++r) {
            if (block.at[r] == found) {
                space.row.put(block.x, block.tile[r]);
                block.at[r] = j;
            } else if (block.at[r] == j) {
                block.at[r] = found;
            }
        }
        const Quotient<N> quotient = Quotient<N>::of(pivot);
        failure = judged(failure, pivot, j);
        // all know the pivot, and the column is not needed any more
        __syncthreads();
        space.row.get(block.x, u);
        if (threadIdx.x == 0) {
            space.diagonal[j] = quotient;
            space.row_at[found] = other_row;
            space.row_at[j] = pivot_row;
            space.at_of[other_row] = found;
            space.at_of[pivot_row] = j;
            if (piv) piv[member * n + j] = found;
        }
#pragma unroll
        for (int r = 0; r < G; ++r) {
            if (block.at[r] <= j || block.at[r] == NOWHERE) continue;
            const N l = quotient(m[r]);
            if (block.x == t) block.tile[r][g] = l;
#pragma unroll
            for (int c = g; c < G; ++c)
                if (c > g || block.x > t) block.tile[r][c] = minus(block.tile[r][c], l, u[c]);
        }
    });

    if (threadIdx.x == 0) info[member] = failure;
    if (lu)
        block.store(reinterpret_cast<N*>(lu) + member * n * n, [](int, int) { return true; });
    if (!x && !kappa) return;
    const T size = solve_all(
        block, space, nrhs, Strided<N>(b, b_member, b_row, b_column), member,
        reinterpret_cast<N*>(x), failure != 0, kappa != nullptr,
        [&](int r) { return block.y + SIDE * r; },
        [&](int r) { return static_cast<int>(block.at[r]); }, [&](auto& column) {
            block.forward(space, true, column);
            block.backward(space, false, column);
        });
    if (kappa && threadIdx.x == 0) kappa[member] = largest * size;
}
