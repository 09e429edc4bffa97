// A complex product on tensor cores:  C <- C + alpha A B,  alpha real, by
//
//     Re C <- Re C + alpha (Re A Re B - Im A Im B),   Im C <- Im C + alpha (Re A Im B + Im A Re B)
//
// A (m by k) and B (k by n) in fp16 or bf16, real and imaginary parts in matrices of their own
// with one stride, lda or ldb, as narrow.cu makes them; C (m by n) in complex64, ldc entries from
// row to row. Sums in fp32. alpha is a number on the device, as it is there that the scales of A
// and B are known which it takes back.
//
// All four real products in one pass: every fragment is read once for the two in which it is, and
// the minus sign is put to the fragments of Im A. (Three products instead of four, by Gauss' rule,
// need sums of the operands, which fp16 would round, and lose accuracy in the imaginary part: N. J.
// Higham, SIAM J. Matrix Anal. Appl. 13 (1992) 681.) The error of either part is that of a real
// product of 2 k terms, about (k / 4 + 4) u |A| |B| with u = 2^-24: gemm.cu.
//
// Launch: BM BN / 32 threads, ceil(m / BM) ceil(n / BN) blocks in one dimension, dynamic shared
// memory 12 (BM + BN) BK bytes: 73728 for tiles of 128 by 64, 49152 for 64 by 64. Any
// m, n >= 1, k >= 0, strides and addresses. Tiles come by copy_async_16 if all strides and
// addresses of A and B are multiples of 16 bytes, else entry by entry; fragments are read by
// ldmatrix_x4.
// Flops: 8 m n k. Bytes: C twice, 8 m n each; A and B, through the L2 cache, n / BN and m / BM
// times. Shared memory allows 3000 flops a clock and multiprocessor, more than mma.sync gives: at
// 480 TFLOP/s an update of order 16384 with k = 512 (1.1 Tflop, 4.3 GB) takes 2.3 ms.
#include "portable.cuh"
#include "tiles.cuh"

template <class T, class Block> struct Sums {
    static constexpr int WIDTH = 2;
    float re[Block::DOWN][Block::ACROSS][4] = {}, im[Block::DOWN][Block::ACROSS][4] = {};

    __device__ __forceinline__ void add(int i, int j, const unsigned (&a)[2][4],
                                        const unsigned (&b)[2][2]) {
        const unsigned minus = 0x80008000u;  // the signs of two numbers of 16 bits
        const unsigned negative[4] = {a[1][0] ^ minus, a[1][1] ^ minus, a[1][2] ^ minus,
                                      a[1][3] ^ minus};
        mma<T>(re[i][j], a[0], b[0]);
        mma<T>(im[i][j], a[0], b[1]);
        mma<T>(re[i][j], negative, b[1]);
        mma<T>(im[i][j], a[1], b[0]);
    }

    __device__ __forceinline__ Numbers<4> pair(int i, int j, int lower) const {
        const int e = 2 * lower;
        return {{re[i][j][e], im[i][j][e], re[i][j][e + 1], im[i][j][e + 1]}};
    }
};

template <class T, int BM, int BN, int BK>
__global__ void __launch_bounds__(BM * BN / 32, BM == 128 ? 2 : 3)
gemm_complex(int m, int n, int k, const float* __restrict__ alpha, const T* __restrict__ a_re,
             const T* __restrict__ a_im, long long lda, const T* __restrict__ b_re,
             const T* __restrict__ b_im, long long ldb, float* __restrict__ c, long long ldc) {
    DYNAMIC_SHARED(memory);
    using Block = Product<T, 2, BM, BN, BK, 32, 32>;
    static_assert(Block::THREADS == BM * BN / 32, "as launched");
    const Block block;
    Sums<T, Block> sums;
    block.run(memory, {{a_re, a_im}, lda, m, k}, {{b_re, b_im}, ldb, k, n}, sums);
    block.update(c, 2 * ldc, m, n, *alpha, 1.0f, sums);
}
