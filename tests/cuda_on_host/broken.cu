// Kernels that are wrong, each in its own way, and right ones beside them: what the emulator and
// its access checker must and must not report.
#include "portable.cuh"

extern "C" __global__ void race_in_shared(float* x) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void no_race_in_shared(float* x) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void race_in_warp(float* x) {
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];
    const float other = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);  // orders no memory
    x[threadIdx.x] = s[31 - threadIdx.x] + other;
}
extern "C" __global__ void no_race_in_warp(float* x) {
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    x[threadIdx.x] = s[31 - threadIdx.x];
}
extern "C" __global__ void race_of_blocks(float* x) {
    if (threadIdx.x == 0) x[0] += 1.0f;
}
extern "C" __global__ void no_race_of_blocks(float* x) { atomicAdd(x, 1.0f); }
extern "C" __global__ void race_over_the_grid(float* x) {
    x[blockIdx.x * 32 + threadIdx.x] = 1.0f;
    const float other = x[(blockIdx.x + 1) % gridDim.x * 32 + threadIdx.x];
    if (other != 1.0f) x[0] = 2.0f;
}
extern "C" __global__ void no_race_over_the_grid(float* x, float* y) {
    __shared__ float kept;
    if (threadIdx.x == 0) kept = static_cast<float>(blockIdx.x);
    x[blockIdx.x * 32 + threadIdx.x] = 1.0f;
    grid_sync();
    const int next = (blockIdx.x + 1) % gridDim.x;
    y[blockIdx.x * 32 + threadIdx.x] = x[next * 32 + threadIdx.x] + kept;
}
extern "C" __global__ void reads_what_nobody_wrote(float* x) {
    __shared__ float s[32];
    if (threadIdx.x != 5) s[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void runs_over_the_end(int n, float* x) { x[n + threadIdx.x] = 1.0f; }
extern "C" __global__ void runs_over_shared(float* x) {
    __shared__ float s[32];
    s[threadIdx.x + static_cast<int>(x[0])] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void is_misaligned(float* x) {
    x[0] = reinterpret_cast<float4*>(x + 1 + 4 * threadIdx.x)->y;
}
extern "C" __global__ void barrier_diverges(int* x) {
    if (threadIdx.x < 40) {
        __syncthreads();
    } else {
        x[threadIdx.x] = 1;
        __syncthreads();
    }
}
extern "C" __global__ void barrier_after_the_end(int n, int* x) {
    if (threadIdx.x >= n) return;
    __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void shuffle_diverges(int* x) {
    int v = threadIdx.x;
    if (v < 16)
        v = __shfl_xor_sync(0xffffffffu, v, 1);
    else
        v = __shfl_xor_sync(0xffffffffu, v, 2);
    x[threadIdx.x] = v;
}
extern "C" __global__ void waits_for_ever(int* x) {
    if (threadIdx.x < 16) __syncwarp();
    x[threadIdx.x] = 1;
    __syncthreads();
}
extern "C" __global__ void copy_is_not_awaited(const float* x, float* y) {
    __shared__ __align__(16) float s[128];
    copy_async_16(s + 4 * threadIdx.x, x + 4 * threadIdx.x);
    copy_async_commit();
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
    copy_async_wait<0>();
}
extern "C" __global__ void copy_is_awaited(const float* x, float* y) {
    __shared__ __align__(16) float s[128];
    copy_async_16(s + 4 * threadIdx.x, x + 4 * threadIdx.x);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    y[threadIdx.x] = s[127 - threadIdx.x];
}
extern "C" __global__ void overflows_its_stack(int n, float* x) {
    float large[20000];
    for (int i = 0; i < n; ++i) large[i] = x[i % 32];
    x[threadIdx.x] = large[n - 1 - threadIdx.x];
}
extern "C" __global__ void overflows_an_integer(int n, float* x) { x[(n * n) & 31] = 1.0f; }
extern "C" __global__ void reads_through_null(const float* x, float* y) { y[0] = x[threadIdx.x]; }
extern "C" __global__ void gives_up(float* x) {
    if (x[0] == x[0]) __trap();
}

// One mma of each kind and one ldmatrix, operands by their fragments' own layout.
extern "C" __global__ void multiply_f16(const half* a, const half* b, float* d) {
    __shared__ __align__(16) half rows[16 * 16], columns[16 * 8];
    for (int i = threadIdx.x; i < 256; i += 32) rows[i] = a[i];
    for (int i = threadIdx.x; i < 128; i += 32) columns[i] = b[i];
    __syncwarp();
    const int lane = threadIdx.x;
    unsigned left[4], right[4];
    ldmatrix_x4(left, rows + lane % 16 * 16 + lane / 16 * 8);
    ldmatrix_x4_transposed(right, columns + lane % 16 * 8);
    const unsigned both[2] = {right[0], right[1]};
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    mma_f16(sum, left, both);
    for (int e = 0; e < 4; ++e) d[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2] = sum[e];
}
extern "C" __global__ void multiply_tf32(const float* a, const float* b, float* d) {
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    unsigned left[4], right[2];
    for (int i = 0; i < 4; ++i) left[i] = __float_as_uint(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (int i = 0; i < 2; ++i) right[i] = __float_as_uint(b[(t + i * 4) * 8 + g]);
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    mma_tf32(sum, left, right);
    for (int e = 0; e < 4; ++e) d[(g + e / 2 * 8) * 8 + t * 2 + e % 2] = sum[e];
}
