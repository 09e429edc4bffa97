// Products of tiles on tensor cores: what gemm.cu, gemm_split.cu and gemm_complex.cu share.
//
// A block computes BM by BN entries of a product, a warp WM by WN of them, in steps of BK terms.
// The tiles of the next steps are on their way from global to shared memory while those of this
// step are multiplied. An operand has one or several planes, matrices of one layout (the two
// halves of a split number; the real and the imaginary part), whose fragments are read once and
// combined by the functor that holds the sums.
#pragma once
#include "formats.cuh"
#include "portable.cuh"

constexpr int STAGES = 3;  // tiles in shared memory: of this step, and of the two that follow

// ---------------------------------------------------------------- one product of fragments

template <class T>
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
template <>
__device__ __forceinline__ void mma<half>(float (&d)[4], const unsigned (&a)[4],
                                          const unsigned (&b)[2]) {
    mma_f16(d, a, b);
}
template <>
__device__ __forceinline__ void mma<__nv_bfloat16>(float (&d)[4], const unsigned (&a)[4],
                                                   const unsigned (&b)[2]) {
    mma_bf16(d, a, b);
}
template <>
__device__ __forceinline__ void mma<float>(float (&d)[4], const unsigned (&a)[4],
                                           const unsigned (&b)[2]) {
    mma_tf32(d, a, b);
}

// ---------------------------------------------------------------- tiles in shared memory

// ROWS by COLUMNS entries, row after row in chunks of 16 bytes.
//
// Chunk c of row r stands at place c ^ turn(r) of its row. ldmatrix reads one chunk of eight
// neighbouring rows at a time, from all 32 banks; copies write eight neighbouring chunks. The
// order of the turns lets four rows of two chunks be read by words (tf32) without conflicts, too.
template <class T, int ROWS, int COLUMNS> struct alignas(128) Tile {
    static constexpr int CHUNK = 16 / sizeof(T);        // entries
    static constexpr int CHUNKS = COLUMNS / CHUNK;      // of a row
    static constexpr int DEPTH = 32 / sizeof(T);        // terms that one mma sums
    T entries[ROWS * COLUMNS];

    static constexpr int turn(int row) {
        return CHUNKS == 4 ? row / 2 % 4 : row % 4 * 2 + row / 4 % 2;
    }
    static constexpr int place(int row, int chunk) {
        return (row * CHUNKS + (chunk ^ turn(row))) * CHUNK;
    }
    static constexpr bool has_no_conflicts() {
        for (int chunk = 0; chunk < CHUNKS; ++chunk) {
            int banks = 0;  // in fours
            for (int row = 0; row < 8; ++row) banks |= 1 << place(row, chunk) / CHUNK % 8;
            if (banks != 0xff) return false;
        }
        return true;
    }

    // The COUNT chunks that a thread copies: one every ROWS_BETWEEN rows.
    template <int THREADS> struct Share {
        static constexpr int COUNT = ROWS * CHUNKS / THREADS, ROWS_BETWEEN = THREADS / CHUNKS;
        static_assert(COUNT * ROWS_BETWEEN == ROWS && ROWS_BETWEEN % 8 == 0, "the same turn");
        int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;

        __device__ __forceinline__ int place(int i) const {
            return Tile::place(row, chunk) + i * ROWS_BETWEEN * COLUMNS;
        }
    };

    template <int THREADS> __device__ __forceinline__ void round_own_share() {
        const Share<THREADS> own;
#pragma unroll
        for (int i = 0; i < Share<THREADS>::COUNT; ++i) {
            auto* chunk = reinterpret_cast<float4*>(entries + own.place(i));
            const float4 x = *chunk;
            *chunk = make_float4(rounded_to_tf32(x.x), rounded_to_tf32(x.y), rounded_to_tf32(x.z),
                                 rounded_to_tf32(x.w));
        }
    }

    // The left fragment of the rows row, ..., row + 15 and the terms of `step`. Turns repeat every
    // eight rows, so that places of fragments in one column differ by a constant.
    __device__ __forceinline__ void read_left(unsigned (&a)[4], int row, int step) const {
        const int lane = threadIdx.x % 32;
        ldmatrix_x4(a, entries + row * COLUMNS + place(lane % 16, 2 * step + lane / 16));
    }

    // The right fragments of the terms of `step`, and of columns column, ... and column + 8, ...
    __device__ __forceinline__ void read_right(unsigned (&first)[2], unsigned (&second)[2],
                                               int step, int column) const {
        const int lane = threadIdx.x % 32, chunk = column / CHUNK + lane / 16;
        const T* rows = entries + step * DEPTH * COLUMNS;
        if constexpr (sizeof(T) == 2) {
            unsigned b[4];
            ldmatrix_x4_transposed(b, rows + place(lane % 16, chunk));
            first[0] = b[0], first[1] = b[1], second[0] = b[2], second[1] = b[3];
        } else {  // ldmatrix transposes 16-bit numbers only
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int row = lane % 4 + 4 * i, in_chunk = lane / 4 % CHUNK;
                first[i] = __float_as_uint(rows[place(row, chunk) + in_chunk]);
                second[i] = __float_as_uint(rows[place(row, chunk + 8 / CHUNK) + in_chunk]);
            }
        }
    }
};

// ---------------------------------------------------------------- operands in global memory

// Matrices of one layout, rows of unit stride. Only what lies inside is read; around it are zeros.
template <class T, int PLANES> struct Operand {
    const T* planes[PLANES];
    long long stride;
    int rows, columns;

    // Whether all chunks start at multiples of 16 bytes.
    __device__ __forceinline__ bool is_aligned() const {
        size_t bits = stride * sizeof(T);
#pragma unroll
        for (int p = 0; p < PLANES; ++p) bits |= reinterpret_cast<size_t>(planes[p]);
        return bits % 16 == 0;
    }

    // Where this thread's share begins of the tile whose first entry is (row, column).
    template <class Target, int THREADS>
    __device__ __forceinline__ long long first_of_share(int row, int column) const {
        const typename Target::template Share<THREADS> own;
        return (row + own.row) * stride + column + own.chunk * Target::CHUNK;
    }

    // This thread's share, which begins at `first`, of the tiles whose first entry is (row,
    // column): if ALIGNED by asynchronous copies, else entry by entry.
    template <int THREADS, bool ALIGNED, int ROWS, int COLUMNS>
    __device__ __forceinline__ void load(Tile<T, ROWS, COLUMNS> (&tiles)[PLANES], int row,
                                         int column, long long first) const {
        using Target = Tile<T, ROWS, COLUMNS>;
        using Share = typename Target::template Share<THREADS>;
        constexpr int CHUNK = Target::CHUNK;
        const Share own;
        const int r = row + own.row, c = column + own.chunk * CHUNK;
        if (ALIGNED && rows - row >= ROWS && columns - column >= COLUMNS) {
#pragma unroll
            for (int i = 0; i < Share::COUNT; ++i)
#pragma unroll
                for (int p = 0; p < PLANES; ++p)
                    copy_async_16(tiles[p].entries + own.place(i),
                                  planes[p] + first + i * Share::ROWS_BETWEEN * stride);
            return;
        }
#pragma unroll 1
        for (int i = 0; i < Share::COUNT; ++i) {
            const bool is_row = r + i * Share::ROWS_BETWEEN < rows;
            const int inside = is_row ? min(max(columns - c, 0), CHUNK) : 0;
            const long long from = inside ? first + i * Share::ROWS_BETWEEN * stride : 0;
#pragma unroll
            for (int p = 0; p < PLANES; ++p) {
                T* to = tiles[p].entries + own.place(i);
                if constexpr (ALIGNED) {
                    copy_async_16(to, planes[p] + from, inside * int(sizeof(T)));
                } else {
#pragma unroll
                    for (int e = 0; e < CHUNK; ++e)
                        to[e] = e < inside ? planes[p][from + e] : T(0.0f);
                }
            }
        }
    }
};

// ---------------------------------------------------------------- the product of a block

// Numbers of a row that one thread reads or writes at once.
template <int N> struct alignas(4 * N) Numbers {
    float x[N];
};

template <class T, int PLANES, int BM, int BN, int BK, int WM, int WN> struct Product {
    static constexpr int THREADS = 32 * (BM / WM) * (BN / WN);
    static constexpr int DOWN = WM / 16, ACROSS = WN / 8;  // fragments of a warp
    using Left = Tile<T, BM, BK>;
    using Right = Tile<T, BK, BN>;
    struct Stage {
        Left a[PLANES];
        Right b[PLANES];
    };
    static_assert(BM % WM == 0 && BN % WN == 0 && WM % 16 == 0 && WN % 16 == 0, "whole fragments");
    static_assert(Left::has_no_conflicts() && Right::has_no_conflicts(), "reads from all banks");

    // Of this warp, in the part of the block.
    int row = threadIdx.x / 32 / (BN / WN) * WM, column = threadIdx.x / 32 % (BN / WN) * WN;

    // All terms of a block's part of  a b:  sums.add(i, j, fragments of a, of b) for its fragments
    // i, j of the warp. `memory` is STAGES Stages.
    template <class Sums>
    __device__ __forceinline__ void run(unsigned char* memory, const Operand<T, PLANES>& a,
                                        const Operand<T, PLANES>& b, Sums& sums) const {
        Stage* stages = reinterpret_cast<Stage*>(memory);
        const Corner corner = corner_of(blockIdx.x, a.rows, b.columns);
        if (a.is_aligned() && b.is_aligned()) run<true>(stages, a, b, corner, sums);
        else run<false>(stages, a, b, corner, sums);
    }

    // c <- alpha sums + beta c  inside m by n; c is not read if beta = 0. An entry of c is
    // Sums::WIDTH numbers, and `stride` counts numbers.
    template <class Sums>
    __device__ __forceinline__ void update(float* c, long long stride, int m, int n, float alpha,
                                           float beta, const Sums& sums) const {
        // through a shuffle, or the compiler keeps the corner in registers that `run` needs
        const unsigned block = __shfl_sync(0xffffffffu, blockIdx.x, 0);
        const Corner corner = corner_of(block, m, n);
        const int down = m - corner.row, across = n - corner.column;  // what there is from here on
        c += corner.row * stride + static_cast<long long>(corner.column) * Sums::WIDTH;
        const size_t bits = reinterpret_cast<size_t>(c) | stride * sizeof(float);
        if (bits % sizeof(Numbers<2 * Sums::WIDTH>) == 0 && down >= BM && across >= BN)
            write<true>(c, stride, down, across, alpha, beta, sums);
        else
            write<false>(c, stride, down, across, alpha, beta, sums);
    }

  private:
    struct Corner {
        int row, column;
    };

    // Where a block's part of an m by n product begins. Blocks that run together take a part that
    // is nearly square, eight tiles high, so that they find each other's operands in the L2 cache.
    static __device__ __forceinline__ Corner corner_of(unsigned block, int m, int n) {
        constexpr int HEIGHT = 8;
        const int down = (m - 1) / BM + 1, across = (n - 1) / BN + 1;
        const int group = block / (HEIGHT * across), within = block % (HEIGHT * across);
        const int height = min(HEIGHT, down - HEIGHT * group);
        return {(HEIGHT * group + within % height) * BM, within / height * BN};
    }

    template <bool ALIGNED, class Sums>
    __device__ __forceinline__ void run(Stage* stages, const Operand<T, PLANES>& a,
                                        const Operand<T, PLANES>& b, Corner corner,
                                        Sums& sums) const {
        const int steps = (a.columns + BK - 1) / BK;
        long long a_first = a.template first_of_share<Left, THREADS>(corner.row, 0);
        long long b_first = b.template first_of_share<Right, THREADS>(0, corner.column);
        const auto load = [&](Stage& stage, int step) {  // of one step after the other
            a.template load<THREADS, ALIGNED>(stage.a, corner.row, step * BK, a_first);
            b.template load<THREADS, ALIGNED>(stage.b, step * BK, corner.column, b_first);
            a_first += BK;
            b_first += BK * b.stride;
        };
#pragma unroll
        for (int step = 0; step < STAGES - 1; ++step) {
            if (step < steps) load(stages[step], step);
            copy_async_commit();  // a group a step, even if there is nothing in it
        }
        int turn = 0;  // step % STAGES
        for (int step = 0; step < steps; ++step) {
            Stage& stage = stages[turn];
            Stage& stage_before = stages[turn == 0 ? STAGES - 1 : turn - 1];
            turn = turn == STAGES - 1 ? 0 : turn + 1;
            // this step's copies of this thread are there, of the next step's they need not be
            static_assert(STAGES - 2 == 1, "the number in the line below");
            copy_async_wait<1>();
            if constexpr (sizeof(T) == 4) {
#pragma unroll
                for (int p = 0; p < PLANES; ++p) {
                    stage.a[p].template round_own_share<THREADS>();
                    stage.b[p].template round_own_share<THREADS>();
                }
            }
            // those of all threads are, and nobody reads any more what the step before was about
            __syncthreads();
            if (step + STAGES - 1 < steps) load(stage_before, step + STAGES - 1);
            copy_async_commit();
            multiply(stage, sums);
        }
    }

    template <class Sums>
    __device__ __forceinline__ void multiply(const Stage& stage, Sums& sums) const {
#pragma unroll
        for (int step = 0; step < BK / Left::DEPTH; ++step) {
            unsigned b[ACROSS][PLANES][2];
#pragma unroll
            for (int j = 0; j < ACROSS; j += 2)
#pragma unroll
                for (int p = 0; p < PLANES; ++p)
                    stage.b[p].read_right(b[j][p], b[j + 1][p], step, column + 8 * j);
#pragma unroll
            for (int i = 0; i < DOWN; ++i) {
                unsigned a[PLANES][4];
#pragma unroll
                for (int p = 0; p < PLANES; ++p) stage.a[p].read_left(a[p], row + 16 * i, step);
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) sums.add(i, j, a, b[j]);
            }
        }
    }

    // `update` of an m by n part that begins at c: if WHOLE, of a block's full part, pairs of
    // entries at once. All reads of some rows are under way before the first write, so that they
    // wait for memory together.
    template <bool WHOLE, class Sums>
    __device__ __forceinline__ void write(float* c, long long stride, int m, int n, float alpha,
                                          float beta, const Sums& sums) const {
        constexpr int WIDTH = Sums::WIDTH, NUMBERS = 2 * WIDTH;  // of an entry, of a pair
        constexpr int ROWS = WHOLE ? 4 / WIDTH : 1;              // a thread has 2 DOWN, 8 apart
        using Pair = Numbers<NUMBERS>;
        const int lane = threadIdx.x % 32;
        const int r = row + lane / 4, first = column + lane % 4 * 2;
        c += r * stride + first * WIDTH;
#pragma unroll
        for (int group = 0; group < 2 * DOWN; group += ROWS) {
            const auto for_numbers = [&](int i, int j, auto visit) {
                float* place = c + 8 * i * stride + 8 * j * WIDTH;
                if constexpr (WHOLE) {
                    visit(*reinterpret_cast<Pair*>(place), 0);
                } else {
#pragma unroll
                    for (int e = 0; e < NUMBERS; ++e)
                        if (r + 8 * (group + i) < m && first + 8 * j + e / WIDTH < n)
                            visit(place[e], e);
                }
            };
            Pair old[ROWS][ACROSS] = {};
            if (beta != 0.0f) {
#pragma unroll
                for (int i = 0; i < ROWS; ++i)
#pragma unroll
                    for (int j = 0; j < ACROSS; ++j)
                        for_numbers(i, j, [&](const auto& from, int e) {
                            if constexpr (WHOLE) old[i][j] = from;
                            else old[i][j].x[e] = from;
                        });
            }
#pragma unroll
            for (int i = 0; i < ROWS; ++i)
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) {
                    Pair sum = sums.pair((group + i) / 2, j, (group + i) % 2);
#pragma unroll
                    for (int e = 0; e < NUMBERS; ++e)
                        sum.x[e] = fmaf(alpha, sum.x[e], beta * old[i][j].x[e]);
                    for_numbers(i, j, [&](auto& to, int e) {
                        if constexpr (WHOLE) to = sum;
                        else to = sum.x[e];
                    });
                }
            c += 8 * ROWS * stride;
        }
    }
};

// The sums of a warp's fragments in a real product.
template <class Block> struct RealSums {
    static constexpr int WIDTH = 1;
    float sum[Block::DOWN][Block::ACROSS][4] = {};

    // Two neighbours in one of the upper or, `lower`, of the lower eight rows of a fragment.
    __device__ __forceinline__ Numbers<2> pair(int i, int j, int lower) const {
        return {{sum[i][j][2 * lower], sum[i][j][2 * lower + 1]}};
    }
};
