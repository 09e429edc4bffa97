// A product on tensor cores:  C <- alpha A B + beta C
//
// A (m by k) and B (k by n) in fp16, bf16, or fp32 that is rounded to tf32 (to nearest, ties to
// even); C (m by n) and the sums in fp32. Rows have unit stride, and the strides of rows are lda,
// ldb and ldc. C is not read if beta = 0. What lies outside the matrices is neither read nor
// written, so that it may be anything; inside, 0 times infinity is NaN. alpha is a number on the
// device, as it is there that the scales of A and B are known which it takes back.
//
// The factorizations' updates are alpha = -1, beta = 1. Tiles of 128 by 128 are for products that
// fill the device; those of 64 by 64 are for thin ones: few rows or columns, or a small k.
//
// The sums are the tensor core's, which round toward zero once for 16 terms (tf32: 8): of k terms
// the error is up to about (k / 8 + 4) u |A| |B|, u = 2^-24 (tf32: k / 4), and it has a bias, which
// gemm_split.cu has not. M. Fasi, N. J. Higham, M. Mikaitis and S. Pranesh, PeerJ Computer Science
// 7 (2021) e330.
//
// Launch: 2 BN threads, ceil(m / BM) ceil(n / BN) blocks in one dimension, dynamic shared memory
// 3 (BM + BN) BK sizeof(T) bytes: 49152 for tiles of 128, 24576 for 64. Any m, n >= 1, k >= 0,
// strides and addresses. Tiles come by copy_async_16 if all strides and addresses of A and B are
// multiples of 16 bytes, else entry by entry; fragments are read by ldmatrix_x4.
// Flops: 2 m n k, padded to whole tiles. Bytes: C once or twice, 4 m n each; A and B, through the
// L2 cache, n / BN and m / BM times. A multiprocessor's shared memory (128 bytes a clock) allows,
// for tiles of 128, 2048 flops a clock, about 460 TFLOP/s on an H200; for tiles of 64 it is 300,
// and for tf32, which passes through shared memory once more, 150. An update of order 16384 with
// k = 512 (0.27 Tflop, 2.1 GB) takes 0.6 ms by flops, 0.5 ms by bytes.
#include "portable.cuh"
#include "tiles.cuh"

template <class T, class Block> struct Sums : RealSums<Block> {
    __device__ __forceinline__ void add(int i, int j, const unsigned (&a)[1][4],
                                        const unsigned (&b)[1][2]) {
        mma<T>(this->sum[i][j], a[0], b[0]);
    }
};

template <class T, int BM, int BN, int BK>
__global__ void __launch_bounds__(2 * BN, 256 / BN)
gemm(int m, int n, int k, const float* __restrict__ alpha, const T* __restrict__ a, long long lda,
     const T* __restrict__ b, long long ldb, float beta, float* __restrict__ c, long long ldc) {
    DYNAMIC_SHARED(memory);
    using Block = Product<T, 1, BM, BN, BK, BM / 2, 32>;
    static_assert(Block::THREADS == 2 * BN, "as launched");
    const Block block;
    Sums<T, Block> sums;
    block.run(memory, {{a}, lda, m, k}, {{b}, ldb, k, n}, sums);
    block.update(c, ldc, m, n, *alpha, beta, sums);
}
