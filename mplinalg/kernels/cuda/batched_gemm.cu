// Products of many small matrices:  C <- alpha op(A) op(B) + beta C
//
// C m by n, op(A) m by k, op(B) k by n, real or complex, in fp32 or fp64; a transpose is asked for
// by exchanged strides, conjugates by `conj_a` and `conj_b`. alpha and beta come as real and
// imaginary parts. C is not read if beta = 0. What lies outside the matrices is neither read nor
// written, so that it may be anything; inside, 0 times infinity is NaN.
//
// TM TN threads compute a TILE by TILE part of a C, 128 / (TM TN) such parts a block: all of C of
// as many members if m, n <= TILE. A thread has RM rows, TM apart, and RN columns in packs of 16
// bytes. Operands pass through shared memory, BK terms at a time; columns of A and rows of B
// beyond k are zeros there. Entries come by packs where strides and addresses allow it.
//
// Sums are taken term by term, in order: of k terms the error is at most k u |A| |B|.
//
// Launch: 128 threads, ceil(batch parts / (128 / (TM TN))) blocks for parts = ceil(m / TILE)
// ceil(n / TILE); dynamic shared memory SPACE entries for each part of a block. Any m, n >= 1, k
// >= 0, any strides.
// Bytes: A, B and C once: 24 n^2 a member in fp64, so of order 16, 32 and 64 at most 7.0e8, 1.7e8
// and 4.4e7 members a second at 4.3 TB/s; 5.7, 11.5 and 22.9 TFLOP/s, in fp32 twice as much.
// Flops: 2 m n k, padded to whole parts and packs: n^3 / 64 clocks of a multiprocessor in fp64,
// half of it in fp32, where any other instruction takes as long; of these there is about one for
// six.
#include "batched.cuh"

template <class N, int TILE> struct Shape {
    // threads of a part, down and across; entries of each of them; terms at a time
    static constexpr int TM = TILE < 32 ? 4 : 8;
    static constexpr int TN = TILE == 4 ? 1 : TILE == 8 ? 2 : TILE == 16 ? 4 : TILE == 32 ? 8 : 16;
    static constexpr int RM = TILE / TM, RN = TILE / TN;
    static constexpr int MOST = sizeof(N) > 8 || TILE == 64 ? 16 : 32;
    static constexpr int BK = TILE < MOST ? TILE : MOST;
    static constexpr int THREADS = 128, EACH = TM * TN, PARTS = THREADS / EACH;
    static constexpr int PACK = 16 / sizeof(N);
    // packs of neighbouring rows of A lie in different banks, and so do those of two parts of a
    // warp
    static constexpr int A_STRIDE = BK + PACK, SPACE = TILE * A_STRIDE + BK * TILE + PACK;
    static constexpr int BYTES = RM * RN * sizeof(N);
    static constexpr int BLOCKS = BYTES > 128 ? 2 : BYTES > 64 ? 3 : 5;
};

// An operand's tile, ROWS by COLUMNS at (row, column) of a rows by columns matrix, to shared
// memory; zeros outside of the matrix.
template <class N, int ROWS, int COLUMNS, int EACH> struct Loader {
    static constexpr int COUNT = ROWS * COLUMNS / EACH, PACK = 16 / sizeof(N);
    static constexpr int PACKS = COUNT / PACK < 4 ? COUNT / PACK : 4;  // on their way at a time
    static constexpr int AT_ONCE = COUNT < 8 ? COUNT : 8;

    N* to;
    int stride;
    const N* from;
    long long down, across;
    bool is_packed, conjugated;

    __device__ __forceinline__ void run(int row, int column, int rows, int columns,
                                        int rank) const {
        if (is_packed) {
#pragma unroll 1
            for (int q = 0; q < COUNT / PACK; q += PACKS)
                move_packs(row, column, rows, columns, q * EACH + rank);
        } else {  // neighbouring threads take neighbours in memory
            const bool by_rows = across <= down;
#pragma unroll 1
            for (int q = 0; q < COUNT; q += AT_ONCE)
                move_entries(by_rows, row, column, rows, columns, q * EACH + rank);
        }
    }

  private:
    __device__ __forceinline__ void move_packs(int row, int column, int rows, int columns,
                                               int first) const {
        Pack<N> packs[PACKS];
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            const int place = (first + p * EACH) * PACK;
            const int i = row + place / COLUMNS, j = column + place % COLUMNS;
#pragma unroll
            for (int e = 0; e < PACK; ++e) packs[p].value[e] = number<N>(0);
            if (i < rows && j < columns)
                packs[p] = *reinterpret_cast<const Pack<N>*>(from + i * down + j);
        }
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            const int place = (first + p * EACH) * PACK;
            if (conjugated) {
#pragma unroll
                for (int e = 0; e < PACK; ++e) packs[p].value[e] = conjugate(packs[p].value[e]);
            }
            *reinterpret_cast<Pack<N>*>(to + place / COLUMNS * stride + place % COLUMNS) = packs[p];
        }
    }

    __device__ __forceinline__ void move_entries(bool by_rows, int row, int column, int rows,
                                                 int columns, int first) const {
        N v[AT_ONCE];
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e) {
            const int place = first + e * EACH;
            const int i = row + (by_rows ? place / COLUMNS : place % ROWS);
            const int j = column + (by_rows ? place % COLUMNS : place / ROWS);
            v[e] = i < rows && j < columns ? from[i * down + j * across] : number<N>(0);
        }
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e) {
            const int place = first + e * EACH;
            const int r = by_rows ? place / COLUMNS : place % ROWS;
            const int c = by_rows ? place % COLUMNS : place / ROWS;
            to[r * stride + c] = conjugated ? conjugate(v[e]) : v[e];
        }
    }
};

// Whether rows of `length` entries, and where they begin, are multiples of 16 bytes.
template <class N>
__device__ __forceinline__ bool is_packed(const N* first, long long member, long long row,
                                          long long column, int length) {
    constexpr int PACK = 16 / sizeof(N);
    return column == 1 && (member % PACK | row % PACK | length % PACK) == 0 &&
           reinterpret_cast<size_t>(first) % 16 == 0;
}

template <class T, int PARTS, int TILE>
__global__ void __launch_bounds__(128, (Shape<Entry<T, PARTS>, TILE>::BLOCKS))
batched_gemm(int batch, int m, int n, int k, double alpha_re, double alpha_im,
             const T* __restrict__ a, long long a_member, long long a_row, long long a_column,
             int conj_a, const T* __restrict__ b, long long b_member, long long b_row,
             long long b_column, int conj_b, double beta_re, double beta_im, T* __restrict__ c,
             long long c_member, long long c_row, long long c_column) {
    using N = Entry<T, PARTS>;
    using S = Shape<N, TILE>;
    constexpr int PACK = S::PACK, RM = S::RM, RN = S::RN;
    DYNAMIC_SHARED(memory);
    const int part = threadIdx.x / S::EACH, rank = threadIdx.x % S::EACH;
    const int tx = rank % S::TN, ty = rank / S::TN;
    N* a_tile = reinterpret_cast<N*>(memory) + part * S::SPACE;
    N* b_tile = a_tile + TILE * S::A_STRIDE;

    const int down = (m - 1) / TILE + 1, across = (n - 1) / TILE + 1;
    const long long task = static_cast<long long>(blockIdx.x) * S::PARTS + part;
    const long long all = static_cast<long long>(batch) * down * across;
    // threads without a part do the last one again, up to the barriers
    const long long own = task < all ? task : all - 1, member = own / (down * across);
    const int place = static_cast<int>(own % (down * across));
    const int row = place / across * TILE, column = place % across * TILE;

    const N* from_a = reinterpret_cast<const N*>(a);
    const N* from_b = reinterpret_cast<const N*>(b);
    const Loader<N, TILE, S::BK, S::EACH> left = {
        a_tile, S::A_STRIDE, from_a + member * a_member, a_row, a_column,
        is_packed(from_a, a_member, a_row, a_column, k), conj_a != 0};
    const Loader<N, S::BK, TILE, S::EACH> right = {
        b_tile, TILE, from_b + member * b_member, b_row, b_column,
        is_packed(from_b, b_member, b_row, b_column, n), conj_b != 0};

    N sum[RM][RN];
#pragma unroll
    for (int i = 0; i < RM; ++i)
#pragma unroll
        for (int j = 0; j < RN; ++j) sum[i][j] = number<N>(0);
    for (int first = 0; first < k; first += S::BK) {
        if (first > 0) __syncthreads();
        left.run(row, first, m, k, rank);
        right.run(first, column, k, n, rank);
        __syncthreads();
#pragma unroll(sizeof(N) > 8 ? 1 : TILE > 16 ? 2 : 4)
        for (int s = 0; s < S::BK; s += PACK) {
            if (first + s >= k) break;
            Pack<N> x[RM];
#pragma unroll
            for (int i = 0; i < RM; ++i)
                x[i] = *reinterpret_cast<const Pack<N>*>(a_tile + s +
                                                         (ty + S::TM * i) * S::A_STRIDE);
#pragma unroll
            for (int e = 0; e < PACK; ++e) {
                Pack<N> y[RN / PACK];
#pragma unroll
                for (int j = 0; j < RN / PACK; ++j)
                    y[j] = *reinterpret_cast<const Pack<N>*>(b_tile + (s + e) * TILE +
                                                             (tx + S::TN * j) * PACK);
#pragma unroll
                for (int i = 0; i < RM; ++i)
#pragma unroll
                    for (int j = 0; j < RN; ++j)
                        sum[i][j] = fused(x[i].value[e], y[j / PACK].value[j % PACK], sum[i][j]);
            }
        }
    }

    if (task >= all) return;
    const N alpha = entry_of<N>(alpha_re, alpha_im), beta = entry_of<N>(beta_re, beta_im);
    const bool is_added = beta_re != 0.0 || beta_im != 0.0;
    N* to = reinterpret_cast<N*>(c);
    const bool c_packed = is_packed(to, c_member, c_row, c_column, n);
    to += member * c_member;
#pragma unroll
    for (int i = 0; i < RM; ++i) {
        const int r = row + ty + S::TM * i;
        if (r >= m) continue;
#pragma unroll
        for (int j = 0; j < RN / PACK; ++j) {
            const int first = column + (tx + S::TN * j) * PACK;
            if (first >= n) continue;
            N* entries = to + r * c_row + first * c_column;
            Pack<N> old;
#pragma unroll
            for (int e = 0; e < PACK; ++e) {
                old.value[e] = number<N>(0);
                if (is_added && !c_packed && first + e < n) old.value[e] = entries[e * c_column];
            }
            if (is_added && c_packed) old = *reinterpret_cast<const Pack<N>*>(entries);
#pragma unroll
            for (int e = 0; e < PACK; ++e) {
                const N scaled_sum = product(alpha, sum[i][j * PACK + e]);
                old.value[e] = is_added ? fused(beta, old.value[e], scaled_sum) : scaled_sum;
            }
            if (c_packed) *reinterpret_cast<Pack<N>*>(entries) = old;
#pragma unroll
            for (int e = 0; e < PACK; ++e)
                if (!c_packed && first + e < n) entries[e * c_column] = old.value[e];
        }
    }
}
