// LU with partial pivoting of many small matrices, and systems with them, in one pass:
//
//     P A = L U,   X = A^-1 B
//
// of n by n matrices, n <= NB. `lu` gets L\U, `piv` LAPACK's interchanges counted from 0 (n of
// each member), x the solutions of nrhs right-hand sides; these may be null, and so may `kappa`.
// `info`, kappa and what becomes of singular members: batched.cuh. Pivots are those of LAPACK, but of complex
// entries whose |re| + |im| overflows.
//
// A lane has a row (batched_rows.cuh). Step k, for the rows that have been no pivot row yet: the
// largest of column k is found by exchanges between lanes, its lane shows the rest u of its row to
// the others of the member by way of shared memory, and
//
//     l = a[k] / u[k],   a[c] -= l u[c],  c > k
//
// Substitution takes a number from lane to lane a step.
//
// Launch: 128 threads, ceil(batch / (4 (32 / NB))) blocks. Any strides of A and B; x and lu dense.
// Bytes: A once, L\U, B and X once: 16 n^2 a member with factors in double precision, 8 n^2
// without, so of order 16 and 32 at most 1.0e9 and 2.6e8 members a second at 4.3 TB/s with
// factors, 2.1e9 and 5.2e8 without. Flops: 2/3 n^3 + 2 n^2 nrhs, and all lanes are busy to the
// end. By its instructions a member of order 32 takes some 1350 clocks of a multiprocessor, 1.8e8
// a second on 132 of them at 1.8 GHz: docs/algorithms/gpu-batched.md.
//
// A. Haidar, T. Dong, P. Luszczek, S. Tomov, J. Dongarra, Batched matrix computations on hardware
// accelerators based on GPUs, Int. J. High Perform. Comput. Appl. 29 (2015) 193-208.
#include "batched_rows.cuh"

template <class T, int PARTS, int NB>
__global__ void __launch_bounds__(ROWS_THREADS, (Rows<Entry<T, PARTS>, NB>::BLOCKS))
batched_lu(int batch, int n, const T* __restrict__ a, long long a_member, long long a_row,
           long long a_column, T* __restrict__ lu, int* __restrict__ piv, int* __restrict__ info,
           T* __restrict__ kappa, int nrhs, const T* __restrict__ b, long long b_member,
           long long b_row, long long b_column, T* __restrict__ x) {
    using N = Entry<T, PARTS>;
    DYNAMIC_SHARED(memory);
    Rows<N, NB> rows(batch, n);
    if (rows.is_idle(batch)) return;
    auto& space = reinterpret_cast<typename Rows<N, NB>::Space*>(memory)[threadIdx.x / 32];
    const Strided<N> given(a, a_member, a_row, a_column);
    rows.load(given.is_by_rows(), batch, space, given);

    const T largest = kappa ? largest_entry(rows) : T(0);
    int failure = 0;
    rows.for_columns([&](int k, int t) {
        const bool takes_part = rows.at != NOWHERE && rows.at >= k;
        const Candidate<T> own = {takes_part ? size_of(rows.a[t]) : 0,
                                  takes_part ? rows.at : NOWHERE};
        const unsigned found = rows.best(own).at;
        N* line = space.line[k % 2][rows.group];
        if (rows.at == found) rows.publish(line, k - t, t);
        if (rows.at == found) rows.at = k;
        else if (rows.at == k) rows.at = found;
        // the other line is written next, when all have read this one
        __syncwarp();
        const N pivot = line[t];
        const Quotient<N> quotient = Quotient<N>::of(pivot);
        failure = judged(failure, pivot, k);
        if (rows.at == k) rows.diagonal = quotient;
        if (piv && rows.row == 0 && rows.is_there) piv[rows.member * n + k] = found;
        if (rows.at != NOWHERE && rows.at > k) {
            const N l = quotient(rows.a[t]);
            rows.a[t] = l;
            rows.for_line(line, k - t, t,
                          [&](int c, N u) { rows.a[c] = minus(rows.a[c], l, u); });
        }
    });

    if (rows.row == 0 && rows.is_there) info[rows.member] = failure;
    if (lu) rows.store(reinterpret_cast<N*>(lu), batch, space, [](int, int) { return true; });
    if (!x && !kappa) return;
    rows.tell_lanes(space);
    const Systems<N> systems = {nrhs, Strided<N>(b, b_member, b_row, b_column),
                                reinterpret_cast<N*>(x), rows.row, static_cast<int>(rows.at)};
    const T size = solve_all(rows, systems, failure != 0, kappa != nullptr, [&](auto& y) {
        rows.forward(space, true, y);
        rows.backward(space, false, y);
    });
    if (kappa && rows.row == 0 && rows.is_there) kappa[rows.member] = largest * size;
}
