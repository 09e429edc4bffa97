// What each lane of a warp holds: of matrices that ldmatrix reads, and of the sums of an mma. A
// lane's registers stand one after the other, lane after lane.
#include "portable.cuh"

template <class T, int N> __device__ void get(T (&registers)[N], const T* from) {
    for (int i = 0; i < N; ++i) registers[i] = from[N * threadIdx.x + i];
}
template <class T, int N> __device__ void put(const T (&registers)[N], T* to) {
    for (int i = 0; i < N; ++i) to[N * threadIdx.x + i] = registers[i];
}

// Four matrices of 8 by 8 numbers of 16 bits, row after row.
extern "C" __global__ void load(const unsigned short* matrices, unsigned* registers,
                                unsigned* transposed) {
    __shared__ __align__(16) unsigned short rows[32 * 8];
    const int lane = threadIdx.x;
    for (int i = lane; i < 32 * 8; i += 32) rows[i] = matrices[i];
    __syncwarp();
    unsigned r[4];
    ldmatrix_x4(r, rows + 8 * lane);
    put(r, registers);
    ldmatrix_x4_transposed(r, rows + 8 * lane);
    put(r, transposed);
}

// D <- D + A B.
extern "C" __global__ void multiply_f16(const unsigned* a, const unsigned* b, float* d) {
    unsigned left[4], right[2];
    float sum[4];
    get(left, a);
    get(right, b);
    get(sum, d);
    mma_f16(sum, left, right);
    put(sum, d);
}
extern "C" __global__ void multiply_bf16(const unsigned* a, const unsigned* b, float* d) {
    unsigned left[4], right[2];
    float sum[4];
    get(left, a);
    get(right, b);
    get(sum, d);
    mma_bf16(sum, left, right);
    put(sum, d);
}
extern "C" __global__ void multiply_tf32(const unsigned* a, const unsigned* b, float* d) {
    unsigned left[4], right[2];
    float sum[4];
    get(left, a);
    get(right, b);
    get(sum, d);
    mma_tf32(sum, left, right);
    put(sum, d);
}
