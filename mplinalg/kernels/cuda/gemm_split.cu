// A product with the accuracy of fp32 from fp16 tensor cores:
//
//     C <- C + alpha (A1 B1 + 2^-11 (A1 B2 + A2 B1))
//
// for A = A1 + 2^-11 A2 (m by k) and B likewise (k by n), halves in fp16; C (m by n) in fp32. Rows
// have unit stride; both halves of a matrix have one stride, lda or ldb; narrow.cu makes them.
// alpha is a number on the device, as it is there that the scales of A and B are known which it
// takes back. H. Ootomo and R. Yokota, Int. J. High Perform. Comput. Appl. 36 (2022) 475-491.
//
// Tensor cores round toward zero, so sums that grow inside of them lose k / 16 times half a unit
// in one direction. Here every mma begins at zero, and its result is added outside, to nearest:
// 16 terms A1 B1 at a time, to which the two corrections are added first. The error is, of k
// terms, up to (k / 16 + 20) u |A| |B| with u = 2^-24, 12 u of it the halves', and the roundings
// of both signs cancel: it grows like sqrt(k / 16).
//
// Launch: 2 BN threads, ceil(m / BM) ceil(n / BN) blocks in one dimension, dynamic
// shared memory 12 (BM + BN) BK bytes: 98304 for tiles of 128, 49152 for 64. Any m, n >= 1,
// k >= 0, strides and addresses. Tiles come by copy_async_16 if all strides and addresses of the
// halves are multiples of 16 bytes, else entry by entry; fragments are read by ldmatrix_x4.
// Flops: 6 m n k in fp16. Shared memory allows 3072 a clock and multiprocessor, more than
// mma.sync gives: at 480 TFLOP/s the product of order 16384 takes 55 ms, in fp32 at 60 TFLOP/s
// 147 ms.
#include "portable.cuh"
#include "tiles.cuh"

constexpr float BELOW = 0x1p-11f;  // of the lower half

template <class Block> struct Sums : RealSums<Block> {
    __device__ __forceinline__ void add(int i, int j, const unsigned (&a)[2][4],
                                        const unsigned (&b)[2][2]) {
        float high[4] = {}, low[4] = {};
        mma_f16(low, a[0], b[1]);
        mma_f16(low, a[1], b[0]);
        mma_f16(high, a[0], b[0]);
#pragma unroll
        for (int e = 0; e < 4; ++e) this->sum[i][j][e] += fmaf(BELOW, low[e], high[e]);
    }
};

template <int BM, int BN, int BK>
__global__ void __launch_bounds__(2 * BN, BN == 128 ? 2 : 3)
gemm_split(int m, int n, int k, const float* __restrict__ alpha, const half* __restrict__ a1,
           const half* __restrict__ a2, long long lda, const half* __restrict__ b1,
           const half* __restrict__ b2, long long ldb, float* __restrict__ c, long long ldc) {
    DYNAMIC_SHARED(memory);
    using Block = Product<half, 2, BM, BN, BK, BM / 2, 32>;
    static_assert(Block::THREADS == 2 * BN, "as launched");
    const Block block;
    Sums<Block> sums;
    block.run(memory, {{a1, a2}, lda, m, k}, {{b1, b2}, ldb, k, n}, sums);
    block.update(c, ldc, m, n, *alpha, 1.0f, sums);
}
