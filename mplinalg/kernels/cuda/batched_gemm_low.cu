// Products of many small matrices on tensor cores:  C <- alpha op(A) op(B) + beta C
//
// C m by n, op(A) m by k, op(B) k by n, held in T: float, double, half or __nv_bfloat16; a
// transpose is asked for by exchanged strides. Operands are rounded to Format on their way to
// shared memory: half, __nv_bfloat16, or fp16x2 (formats.cuh), whose three products are summed as
// in gemm_split.cu. Before that each member of an operand is multiplied by a power of two that
// brings its largest finite entry below 2^12, or with __nv_bfloat16 to below 1, unless T is of 16
// bits; what is left of the powers in the end is taken back from the sums. Sums in fp32, alpha and
// beta in fp32, or fp64 if T is. C is not read if beta = 0. What lies outside the matrices is
// neither read nor written; inside, 0 times infinity is NaN.
//
// A warp computes 16 by 16 (TILE = 16) or 32 by 32 entries; with TILE = 64 four warps share their
// operands, otherwise each has a part of its own. Fragments are read by ldmatrix_x4.
//
// The error of k terms is that of the tensor core, (k / 8 + 4) u |A| |B| for rounded operands, u =
// 2^-24; with fp16x2 (k / 16 + 20) u (gemm.cu, gemm_split.cu).
//
// Launch: 128 threads, ceil(batch parts / 4), or batch parts blocks with TILE = 64, for parts =
// ceil(m / TILE) ceil(n / TILE); dynamic shared memory a `Space` for each warp, or block. Any m,
// n, k >= 1, any strides. Entries come by 16 bytes where strides and addresses allow it, those of
// 16 bits by copy_async_16.
// Bytes: A, B and C once, and from the L1 cache once more for the powers: 6 n^2 a member of 16-bit
// numbers, so of order 16, 32 and 64 at most 2.8e9, 7.0e8 and 1.7e8 members a second at 4.3 TB/s,
// 22.9, 45.9 and 91.7 TFLOP/s; half of it in fp32, a quarter in fp64. Flops: 2 m n k, with fp16x2
// 6 m n k, padded to whole parts and 32 terms: far from what tensor cores do.
#include "batched.cuh"
#include "tiles.cuh"

constexpr int DEPTH = 32;  // terms at a time
constexpr int CHUNK = 8;   // entries that one thread converts together

__device__ __forceinline__ double wide(double x) { return x; }
__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(half x) { return __half2float(x); }
__device__ __forceinline__ float wide(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T> struct Held {  // how numbers held in T are computed with
    using Wide = float;
    static constexpr bool IS_SCALED = false;
    static __device__ __forceinline__ T of(float x) { return T(x); }
};
template <> struct Held<float> {
    using Wide = float;
    static constexpr bool IS_SCALED = true;
    static __device__ __forceinline__ float of(float x) { return x; }
};
template <> struct Held<double> {
    using Wide = double;
    static constexpr bool IS_SCALED = true;
    static __device__ __forceinline__ double of(double x) { return x; }
};
template <class T> using Wide = typename Held<T>::Wide;

// 2^e, e clamped to normal numbers.
__device__ __forceinline__ float power_of_two(float, int e) {
    return __uint_as_float(static_cast<unsigned>(min(max(e + 127, 1), 254)) << 23);
}
__device__ __forceinline__ double power_of_two(double, int e) {
    return __longlong_as_double(static_cast<long long>(min(max(e + 1023, 1), 2046)) << 52);
}
// e of the 2^e <= x < 2^(e + 1); for subnormal numbers more.
__device__ __forceinline__ int exponent_of(float x) {
    return static_cast<int>(__float_as_uint(x) >> 23 & 0xffu) - 127;
}
__device__ __forceinline__ int exponent_of(double x) {
    return static_cast<int>(__double_as_longlong(x) >> 52 & 0x7ffll) - 1023;
}

// The exponent that the largest entry of an operand has less than, scaled for Format.
template <class Format> constexpr int TOP = 12;
template <> constexpr int TOP<__nv_bfloat16> = 0;

// An operand of one member, rows by columns.
template <class T> struct Source {
    const T* first;
    long long down, across;
    int rows, columns;

    // The exponent of the power of two that scales it, by all threads that share it.
    template <class Format, bool IS_BLOCK>
    __device__ __forceinline__ int power(int rank, unsigned* shared) const {
        if constexpr (!Held<T>::IS_SCALED) {
            return 0;
        } else {
            constexpr int GROUP = IS_BLOCK ? 128 : 32;
            // neighbouring threads take neighbours in memory
            const bool by_rows = across <= down;
            const int length = by_rows ? columns : rows, count = by_rows ? rows : columns;
            const long long along = by_rows ? across : down, between = by_rows ? down : across;
            unsigned largest = 0;  // exponent + 2^20, of finite numbers that are not zero
            for (int i = rank % 16; i < length; i += 16) {
#pragma unroll 4
                for (int line = rank / 16; line < count; line += GROUP / 16) {
                    const T x = first[line * between + i * along];
                    const unsigned exponent = exponent_of(x) + (1 << 20);
                    largest = max(largest, x != T(0) && is_finite(x) ? exponent : 0);
                }
            }
            largest = warp_largest(largest);
            if constexpr (IS_BLOCK) {
                if (rank % 32 == 0) shared[rank / 32] = largest;
                __syncthreads();
#pragma unroll
                for (int warp = 0; warp < 4; ++warp) largest = max(largest, shared[warp]);
            }
            const int exponent = static_cast<int>(largest) - (1 << 20);
            return largest == 0 ? 0 : TOP<Format> - 1 - exponent;
        }
    }

    __device__ __forceinline__ bool is_packed() const {
        constexpr int PACK = 16 / sizeof(T);
        return across == 1 && (down % PACK | columns % CHUNK) == 0 &&
               reinterpret_cast<size_t>(first) % 16 == 0;
    }

    // The part at (row, column) to tiles of Format's planes, scaled by two powers of two.
    template <class Format, int GROUP, int ROWS, int COLUMNS>
    __device__ __forceinline__ void load(
        Tile<typename Image<Format>::Stored, ROWS, COLUMNS> (&tiles)[Image<Format>::PLANES],
        int row, int column, int power, bool packed, int rank) const {
        using Target = Tile<typename Image<Format>::Stored, ROWS, COLUMNS>;
        using Stored = typename Image<Format>::Stored;
        constexpr int PLANES = Image<Format>::PLANES, COUNT = ROWS * COLUMNS / CHUNK / GROUP;
        const bool by_rows = across <= down;
        const Wide<T> one = power_of_two(Wide<T>(), power / 2);
        const Wide<T> two = power_of_two(Wide<T>(), power - power / 2);
#pragma unroll 1
        for (int q = 0; q < COUNT; ++q) {
            const int unit = q * GROUP + rank;
            const int r = by_rows ? unit / (COLUMNS / CHUNK) : unit % ROWS;
            const int chunk = by_rows ? unit % (COLUMNS / CHUNK) : unit / ROWS;
            const int i = row + r, j = column + chunk * CHUNK;
            const T* from = first + i * down + j * across;
            if constexpr (!Held<T>::IS_SCALED) {  // as they are
                if (packed) {
                    const bool is_inside = i < rows && j < columns;
                    copy_async_16(tiles[0].entries + Target::place(r, chunk),
                                  is_inside ? from : first, is_inside ? 16 : 0);
                    continue;
                }
            }
            T x[CHUNK];
            if (packed && i < rows && j < columns) {
                constexpr int PACK = 16 / sizeof(T);
#pragma unroll
                for (int p = 0; p < CHUNK / PACK; ++p) {
                    const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from + p * PACK);
#pragma unroll
                    for (int e = 0; e < PACK; ++e) x[p * PACK + e] = pack.value[e];
                }
            } else {
#pragma unroll
                for (int e = 0; e < CHUNK; ++e)
                    x[e] = i < rows && j + e < columns ? from[e * across] : T(0.0f);
            }
            Pack<Stored> images[PLANES];
#pragma unroll
            for (int e = 0; e < CHUNK; ++e) {
                const Image<Format> image(static_cast<float>(wide(x[e]) * one * two));
#pragma unroll
                for (int p = 0; p < PLANES; ++p) images[p].value[e] = image.plane[p];
            }
#pragma unroll
            for (int p = 0; p < PLANES; ++p)
                *reinterpret_cast<Pack<Stored>*>(tiles[p].entries + Target::place(r, chunk)) =
                    images[p];
        }
    }
};

template <class Format>
__device__ __forceinline__ void add_products(float (&sum)[4], const unsigned (&a)[1][4],
                                             const unsigned (&b)[1][2]) {
    mma<typename Image<Format>::Stored>(sum, a[0], b[0]);
}
template <class Format>
__device__ __forceinline__ void add_products(float (&sum)[4], const unsigned (&a)[2][4],
                                             const unsigned (&b)[2][2]) {
    float high[4] = {}, low[4] = {};
    mma_f16(low, a[0], b[1]);
    mma_f16(low, a[1], b[0]);
    mma_f16(high, a[0], b[0]);
#pragma unroll
    for (int e = 0; e < 4; ++e) sum[e] += fmaf(0x1p-11f, low[e], high[e]);
}

template <class T, class Format, int TILE>
__global__ void __launch_bounds__(128, Image<Format>::PLANES == 2 ? 3 : 4)
batched_gemm_low(int batch, int m, int n, int k, double alpha, const T* __restrict__ a,
                 long long a_member, long long a_row, long long a_column,
                 const T* __restrict__ b, long long b_member, long long b_row, long long b_column,
                 double beta, T* __restrict__ c, long long c_member, long long c_row,
                 long long c_column) {
    using Stored = typename Image<Format>::Stored;
    constexpr int PLANES = Image<Format>::PLANES;
    constexpr bool IS_BLOCK = TILE == 64;
    constexpr int GROUP = IS_BLOCK ? 128 : 32, SIDE = TILE < 32 ? 16 : 32;  // of a warp
    constexpr int DOWN = SIDE / 16, ACROSS = SIDE / 8;
    constexpr int WIDTH = TILE < 32 ? 32 : TILE;  // the tile of B; a warp may need half of it
    struct Space {
        Tile<Stored, TILE, DEPTH> left[PLANES];
        Tile<Stored, DEPTH, WIDTH> right[PLANES];
        alignas(128) unsigned exponents[2][4];
    };
    static_assert(sizeof(Space) == 2 * PLANES * DEPTH * (TILE + WIDTH) + 128, "as launched");
    DYNAMIC_SHARED(memory);
    const int group = IS_BLOCK ? 0 : threadIdx.x / 32, rank = threadIdx.x % GROUP;
    const int lane = threadIdx.x % 32, warp = IS_BLOCK ? threadIdx.x / 32 : 0;
    Space& space = reinterpret_cast<Space*>(memory)[group];

    const int down = (m - 1) / TILE + 1, across = (n - 1) / TILE + 1;
    const long long task = static_cast<long long>(blockIdx.x) * (128 / GROUP) + group;
    const long long all = static_cast<long long>(batch) * down * across;
    if (task >= all) return;  // a whole warp, where warps wait for nobody
    const long long member = task / (down * across);
    const int place = static_cast<int>(task % (down * across));
    const int row = place / across * TILE, column = place % across * TILE;

    const Source<T> left = {a + member * a_member, a_row, a_column, m, k};
    const Source<T> right = {b + member * b_member, b_row, b_column, k, n};
    const int left_power = left.template power<Format, IS_BLOCK>(rank, space.exponents[0]);
    const int right_power = right.template power<Format, IS_BLOCK>(rank, space.exponents[1]);
    const bool left_packed = left.is_packed(), right_packed = right.is_packed();

    float sum[DOWN][ACROSS][4] = {};
    const int own_row = warp / 2 * SIDE, own_column = warp % 2 * SIDE;
    for (int first = 0; first < k; first += DEPTH) {
        if constexpr (IS_BLOCK) {
            if (first > 0) __syncthreads();
        } else {
            if (first > 0) __syncwarp();
        }
        left.template load<Format, GROUP>(space.left, row, first, left_power, left_packed, rank);
        right.template load<Format, GROUP>(space.right, first, column, right_power, right_packed,
                                           rank);
        if constexpr (!Held<T>::IS_SCALED) {
            copy_async_commit();
            copy_async_wait<0>();
        }
        if constexpr (IS_BLOCK) {
            __syncthreads();
        } else {
            __syncwarp();
        }
#pragma unroll
        for (int step = 0; step < DEPTH / 16; ++step) {
            if (first + 16 * step >= k) break;
            unsigned y[ACROSS][PLANES][2];
#pragma unroll
            for (int j = 0; j < ACROSS; j += 2)
#pragma unroll
                for (int p = 0; p < PLANES; ++p)
                    space.right[p].read_right(y[j][p], y[j + 1][p], step, own_column + 8 * j);
#pragma unroll
            for (int i = 0; i < DOWN; ++i) {
                unsigned x[PLANES][4];
#pragma unroll
                for (int p = 0; p < PLANES; ++p)
                    space.left[p].read_left(x[p], own_row + 16 * i, step);
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) add_products<Format>(sum[i][j], x, y[j]);
            }
        }
    }

    const int power = -(left_power + right_power);
    const Wide<T> one = power_of_two(Wide<T>(), power / 2);
    const Wide<T> two = power_of_two(Wide<T>(), power - power / 2);
    struct alignas(2 * sizeof(T)) Pair {
        T x[2];
    };
    const bool is_paired = c_column == 1 && (c_member % 2 | c_row % 2 | n % 2) == 0 &&
                           reinterpret_cast<size_t>(c) % sizeof(Pair) == 0;
    T* to = c + member * c_member;
#pragma unroll
    for (int i = 0; i < 2 * DOWN; ++i)
#pragma unroll
        for (int j = 0; j < ACROSS; ++j) {
            const int r = row + own_row + 8 * i + lane / 4;
            const int s = column + own_column + 8 * j + lane % 4 * 2;
            if (r >= m || s >= n) continue;
            T* entries = to + r * c_row + s * c_column;
            Pair pair;
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                if (beta != 0.0 && !is_paired && s + e < n) pair.x[e] = entries[e * c_column];
            }
            if (beta != 0.0 && is_paired) pair = *reinterpret_cast<const Pair*>(entries);
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                Wide<T> value = sum[i / 2][j][i % 2 * 2 + e] * one * two;
                value *= static_cast<Wide<T>>(alpha);
                if (beta != 0.0)
                    value = fused(static_cast<Wide<T>>(beta), wide(pair.x[e]), value);
                pair.x[e] = Held<T>::of(value);
                if (!is_paired && s + e < n) entries[e * c_column] = pair.x[e];
            }
            if (is_paired) *reinterpret_cast<Pair*>(entries) = pair;
        }
}
