// Cholesky factorization of many small matrices, and systems with them, in one pass:
//
//     A = L L^H  or  A = U^H U,   X = A^-1 B
//
// of n by n Hermitian matrices, n <= NB, of which one triangle is read, of the diagonal the real
// parts. `factor` gets L (is_upper: U) with zeros beside it, x the solutions of nrhs right-hand
// sides; either may be null, and so may `kappa` (batched.cuh). `info` is 0, k if minor number k is
// not positive, or -k if it is infinite or NaN; solutions of such members are NaN.
//
// A lane has a row (batched_rows.cuh), of an upper triangle that of U^H. Step k: every lane shows
// its entry of column k to the others of the member by way of shared memory, and
//
//     l = a[k] / sqrt(d),   a[c] -= l / sqrt(d) conj(column[c]),  c > k,  d = column[k]
//
// Lane k keeps column k as row k of L^H, so that the solutions are those of two triangles, as in
// batched_lu.cu.
//
// Launch: 128 threads, ceil(batch / (4 (32 / NB))) blocks. Any strides of A and B; x and the
// factor dense.
// Bytes: a triangle of A, the factor, B and X once: 12 n^2 a member with the factor in double
// precision, 4 n^2 without, so of order 16 at most 1.4e9 and 4.2e9 members a second at 4.3 TB/s.
// Flops: 1/3 n^3 + 2 n^2 nrhs; lanes do three times as many of the first, as all of them are busy to
// the end of their rows.
#include "batched_rows.cuh"

template <class T, int PARTS, int NB>
__global__ void __launch_bounds__(ROWS_THREADS, (Rows<Entry<T, PARTS>, NB>::BLOCKS))
batched_cholesky(int batch, int n, const T* __restrict__ a, long long a_member, long long a_row,
                 long long a_column, int is_upper, T* __restrict__ factor, int* __restrict__ info,
                 T* __restrict__ kappa, int nrhs, const T* __restrict__ b, long long b_member,
                 long long b_row, long long b_column, T* __restrict__ x) {
    using N = Entry<T, PARTS>;
    DYNAMIC_SHARED(memory);
    Rows<N, NB> rows(batch, n);
    if (rows.is_idle(batch)) return;
    auto& space = reinterpret_cast<typename Rows<N, NB>::Space*>(memory)[threadIdx.x / 32];
    const Strided<N> given(a, a_member, a_row, a_column);
    rows.load(given.is_by_rows() != (is_upper != 0), batch, space,
              [&](long long m, int i, int c) {
                  if (c > i) return number<N>(0);
                  return is_upper ? conjugate(given(m, c, i)) : given(m, i, c);
              });

    const T largest = kappa ? largest_entry(rows) : T(0);
    int failure = 0;
    rows.for_columns([&](int k, int t) {
        N* line = space.line[k % 2][rows.group];
        line[rows.row] = rows.a[t];
        // the other line is written next, when all have read this one
        __syncwarp();
        const T d = real_part(line[k]);
        failure = judged_minor(failure, d, k);
        const T root = square_root(d), factor = T(1) / root;  // in range for any d > 0
        const bool is_below = rows.at > k;
        const N l = scaled(rows.a[t], factor), multiplier = scaled(l, factor);
        if (is_below) rows.a[t] = l;
        if (rows.at == k) {
            rows.a[t] = number<N>(root);
            rows.diagonal = Quotient<N>::by_factor(factor);
        }
        rows.for_line(line + k - t, k - t, t, [&](int c, N other) {
            const N mirrored = conjugate(other);
            if (is_below) rows.a[c] = minus(rows.a[c], multiplier, mirrored);
            else if (rows.at == k) rows.a[c] = scaled(mirrored, factor);
        });
    });

    if (rows.row == 0 && rows.is_there) info[rows.member] = failure;
    if (factor)
        rows.store(reinterpret_cast<N*>(factor), batch, space,
                   [&](int i, int c) { return is_upper ? i <= c : c <= i; });
    if (!x && !kappa) return;
    rows.tell_lanes(space);
    const Systems<N> systems = {nrhs, Strided<N>(b, b_member, b_row, b_column),
                                reinterpret_cast<N*>(x), rows.row, rows.row};
    const T size = solve_all(rows, systems, failure != 0, kappa != nullptr, [&](auto& y) {
        rows.forward(space, false, y);
        rows.backward(space, false, y);
    });
    if (kappa && rows.row == 0 && rows.is_there) kappa[rows.member] = largest * size;
}
