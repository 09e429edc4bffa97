// Systems with triangles of many small matrices, of factors or by themselves:
//
//     X = Q^T U^-1 L^-1 P B
//
// of n by n matrices M, n <= NB, whose lower and upper triangles are L and U, and nrhs right-hand
// sides. `lower` and `upper` say what is done with each: 0 nothing, 1 its diagonal is that of M, 2
// it is 1. A transposed system is asked for by exchanged strides, and `conjugated` takes the
// conjugates of M. `mirrored`: 1, U is L^H; 2, L is U^H. `piv` (null: none) are interchanges as
// batched_lu.cu leaves them, which make P, or with `is_last` Q. `info` (may be null) is 0, or k if
// diagonal entry number k, which is divided by, is zero; the solutions of such a member are NaN.
//
// A lane has a row (batched_rows.cuh), and passes its number of a solution to the others.
//
// Launch: 128 threads, ceil(batch / (4 (32 / NB))) blocks. Any strides of M and B; x dense.
// Bytes: M, B and X once: 8 n^2 a member in double precision and few columns, of order 16 at most
// 2.1e9 members a second at 4.3 TB/s. Flops: n^2 nrhs a triangle.
#include "batched_rows.cuh"

template <class T, int PARTS, int NB>
__global__ void __launch_bounds__(ROWS_THREADS, (Rows<Entry<T, PARTS>, NB>::BLOCKS))
batched_triangles(int batch, int n, const T* __restrict__ m, long long m_member, long long m_row,
                  long long m_column, int lower, int upper, int mirrored, int conjugated,
                  const int* __restrict__ piv, int is_last, int* __restrict__ info, int nrhs,
                  const T* __restrict__ b, long long b_member, long long b_row,
                  long long b_column, T* __restrict__ x) {
    using N = Entry<T, PARTS>;
    DYNAMIC_SHARED(memory);
    Rows<N, NB> rows(batch, n);
    if (rows.is_idle(batch)) return;
    auto& space = reinterpret_cast<typename Rows<N, NB>::Space*>(memory)[threadIdx.x / 32];
    const Strided<N> given(m, m_member, m_row, m_column);
    const Triangles<N> triangles(given, mirrored, conjugated);
    rows.load(given.is_by_rows(), batch, space, triangles);

    const bool is_row = rows.at != NOWHERE;
    const N entry = is_row ? triangles(rows.member, rows.row, rows.row) : number<N>(1);
    rows.diagonal = Quotient<N>::of(entry);
    const bool is_useless = (lower == 1 || upper == 1) && is_zero(entry);
    const unsigned useless = __ballot_sync(WHOLE_WARP, is_useless);
    const int first = __ffs(useless >> rows.group * NB << (32 - NB) >> (32 - NB));
    if (info && rows.row == 0 && rows.is_there) info[rows.member] = first;

    const int other = piv && is_row ? moved_row(piv + rows.member * n, n, rows.row) : rows.row;
    const int from = is_last ? rows.row : other, to = is_last ? other : rows.row;
    rows.tell_lanes(space);
    const Systems<N> systems = {nrhs, Strided<N>(b, b_member, b_row, b_column),
                                reinterpret_cast<N*>(x), from, to};
    solve_all(rows, systems, first != 0, false, [&](auto& y) {
        if (lower) rows.forward(space, lower == 2, y);
        if (upper) rows.backward(space, upper == 2, y);
    });
}
