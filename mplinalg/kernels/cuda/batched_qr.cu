// Householder QR of many small matrices:  A = Q R
//
// of m by n matrices, m, n <= NB, by min(m, n) reflections H = I - tau v v^H as LAPACK's geqr2 has
// them: the diagonal of R is real, of the sign that does not cancel. `r` gets the first `r_rows`
// rows of R, min(m, n) or m; `q` (null: none) the first q_columns columns of Q, q_columns >=
// min(m, n). `info` is 1 if something in them is infinite or NaN, else 0.
//
// A lane has a column (batched_rows.cuh, of A^T). Step k: its lane makes the reflector of column k
// and shows it to the others of the member by way of shared memory, tau in the place of v[k] = 1;
// these compute, each in its own registers,
//
//     a -= conj(tau) (v^H a) v
//
// Q is formed in the place of the reflectors, last one first (org2r). Sums of squares are scaled
// by powers of two, so that they neither overflow nor vanish.
//
// Launch: 128 threads, ceil(batch / (4 (32 / NB))) blocks. Any strides of A; q and r dense.
// Bytes: A, Q and R once: 24 n^2 a square member in double precision, so of order 16 at most 7.0e8
// members a second at 4.3 TB/s. Flops: 2 m n^2 - 2/3 n^3 for R and as many for Q, on lanes that
// are busy to the end; a step makes a lane read 2 m numbers of shared memory.
//
// LAPACK Users' Guide, 3rd ed., 1999; N. J. Higham, Accuracy and Stability of Numerical
// Algorithms, 2nd ed., 2002, chapter 19.
#include "batched_rows.cuh"

// What a lane makes of column a, from a[t] on: the reflector in its place, beta in a[t]; returns
// tau. `is_used(c)`: a[c] is a part of the column that is left.
template <class N, int NB, class Used>
__device__ __forceinline__ N reflector(N (&a)[NB], int t, Used is_used) {
    using T = Real<N>;
    Size<N> largest = 0;
#pragma unroll
    for (int c = 0; c < NB; ++c)
        if (c > t && is_used(c)) largest = max(largest, size_of(a[c]));
    const N alpha = a[t];
    if (largest == 0 && is_zero(imaginary_part(alpha))) return number<N>(0);
    largest = max(largest, size_of(alpha));
    const T scale = inverse_power(number_of(largest));
    T sum = squared(scaled(alpha, scale));
#pragma unroll
    for (int c = 0; c < NB; ++c)
        if (c > t && is_used(c)) sum += squared(scaled(a[c], scale));
    const T norm = square_root(sum), re = real_part(alpha) * scale;
    const T beta = re > T(0) ? -norm : norm;  // both scaled
    const N shifted = scaled(alpha, scale) - number<N>(beta);
    const Quotient<N> by = Quotient<N>::of(shifted);
#pragma unroll
    for (int c = 0; c < NB; ++c)
        if (c > t && is_used(c)) a[c] = by(scaled(a[c], scale));
    a[t] = number<N>(beta / scale);
    return scaled(shifted, T(-1) / beta);
}

template <class T, int PARTS, int NB>
__global__ void __launch_bounds__(ROWS_THREADS, (Rows<Entry<T, PARTS>, NB>::BLOCKS))
batched_qr(int batch, int m, int n, const T* __restrict__ a, long long a_member, long long a_row,
           long long a_column, int q_columns, T* __restrict__ q, int r_rows, T* __restrict__ r,
           int* __restrict__ info) {
    using N = Entry<T, PARTS>;
    DYNAMIC_SHARED(memory);
    using Columns = Rows<N, NB, 4>;
    Columns columns(batch, n, m);
    if (columns.is_idle(batch)) return;
    auto& space = reinterpret_cast<typename Columns::Space*>(memory)[threadIdx.x / 32];
    const Strided<N> given(a, a_member, a_row, a_column);
    columns.load(!given.is_by_rows(), batch, space,
                 [&](long long member, int i, int c) { return given(member, c, i); });

    const int steps = min(m, n), own = columns.row;
    N (&entries)[NB] = columns.a;
    N own_tau = number<N>(0);
    // a -= factor (v^H a) v  for the reflector in `line`, from a[t] on
    const auto apply = [&](const N* line, int first, int t, bool is_conjugated) {
        N sum = entries[t];
        columns.for_line(line, first, t,
                         [&](int c, N v) { sum = fused(conjugate(v), entries[c], sum); });
        const N tau = line[t];
        const N factor = product(is_conjugated ? conjugate(tau) : tau, sum);
        entries[t] = entries[t] - factor;
        columns.for_line(line, first, t,
                         [&](int c, N v) { entries[c] = minus(entries[c], factor, v); });
    };
    columns.for_columns([&](int k, int t) {
        if (k >= steps) return;
        const int first = k - t;
        N* line = space.line[k % 2][columns.group];
        if (own == k) {
            own_tau = reflector(entries, t, [&](int c) { return columns.is_left(first, c); });
            columns.publish(line, first, t);
            line[t] = own_tau;
        }
        // the other line is written next, when all have read this one
        __syncwarp();
        if (own > k) apply(line, first, t, true);
    });

    bool is_good = true;
    N* to_r = reinterpret_cast<N*>(r) + columns.member * r_rows * n;
#pragma unroll
    for (int c = 0; c < NB; ++c) {
        if (c >= r_rows || own >= n) continue;
        const N entry = c <= own ? entries[c] : number<N>(0);
        is_good = is_good && is_finite(entry);
        if (columns.is_there) to_r[c * n + own] = entry;
    }

    if (q) {
        if (own >= steps) {
#pragma unroll
            for (int c = 0; c < NB; ++c) entries[c] = number<N>(c == own);
        }
        __syncwarp();
        columns.for_columns_back([&](int k, int t) {
            if (k >= steps) return;
            const int first = k - t;
            N* line = space.line[k % 2][columns.group];
            if (own == k) {
                columns.publish(line, first, t);
                line[t] = own_tau;
                // I - tau v v^H  of e_k, and zeros above
                const N minus_tau = number<N>(0) - own_tau;
                entries[t] = number<N>(1) - own_tau;
#pragma unroll
                for (int c = 0; c < NB; ++c) {
                    if (c == t) continue;
                    const bool is_below = c > t && columns.is_left(first, c);
                    entries[c] = is_below ? product(minus_tau, entries[c]) : number<N>(0);
                }
            }
            __syncwarp();
            if (own > k) apply(line, first, t, false);
        });
        N* to_q = reinterpret_cast<N*>(q) + columns.member * m * q_columns;
#pragma unroll
        for (int c = 0; c < NB; ++c) {
            if (c >= m || own >= q_columns) continue;
            is_good = is_good && is_finite(entries[c]);
            if (columns.is_there) to_q[c * q_columns + own] = entries[c];
        }
    }
    const unsigned good = __ballot_sync(WHOLE_WARP, is_good);
    const unsigned bad = ~good >> columns.group * NB << (32 - NB);
    if (own == 0 && columns.is_there) info[columns.member] = bad != 0;
}
