// What is spelled differently on a GPU and on a CPU: PTX, dynamic shared memory, grid barriers.
//
// Kernels include this file and no other, and hold no PTX. In tests (MPLINALG_ON_HOST) the same
// names come from an emulator, tests/cuda_on_host.
//
// A kernel that is to run there keeps these rules: one barrier or warp operation a line; all
// threads of a block stay until its last barrier; arguments are numbers and pointers; dynamic
// shared memory by DYNAMIC_SHARED; a loop that waits for another thread calls __nanosleep.
#pragma once

#if defined(MPLINALG_ON_HOST)
#include "cuda_on_host.hpp"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#if defined(MPLINALG_GRID_SYNC)
#include <cooperative_groups.h>
#endif

#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

// D (16 by 8) += A (16 by k, rows) B (k by 8, columns) by one warp, sums in fp32. Fragments as in
// the PTX manual: https://docs.nvidia.com/cuda/parallel-thread-execution, "mma.m16n8k16" (fp16,
// bf16: k = 16) and "mma.m16n8k8" (tf32: k = 8).
#define MPLINALG_MMA(name, shape, type)                                                          \
    __device__ __forceinline__ void name(float (&d)[4], const unsigned (&a)[4],                  \
                                         const unsigned (&b)[2]) {                               \
        asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 "             \
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"                   \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                            \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));        \
    }
MPLINALG_MMA(mma_f16, "m16n8k16", "f16")
MPLINALG_MMA(mma_bf16, "m16n8k16", "bf16")
MPLINALG_MMA(mma_tf32, "m16n8k8", "tf32")
#undef MPLINALG_MMA

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Four matrices of 8 by 8 16-bit numbers; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)) : "memory");
}

// 16 bytes from global to shared memory; zeros past the first `bytes_from`.
__device__ __forceinline__ void copy_async_16(void* to, const void* from, int bytes_from = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes_from) : "memory");
}
__device__ __forceinline__ void copy_async_commit() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Until at most N groups are under way.
template <int N> __device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

// A message from one thread to any other of the device: who reads by load_acquire what was written
// by store_release sees all that the writer saw or wrote before; so do, past the next barrier, the
// other threads of its block.
__device__ __forceinline__ void store_release(unsigned* p, unsigned value) {
    asm volatile("st.release.gpu.u32 [%0], %1;\n" ::"l"(p), "r"(value) : "memory");
}
__device__ __forceinline__ unsigned load_acquire(const unsigned* p) {
    unsigned value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];\n" : "=r"(value) : "l"(p) : "memory");
    return value;
}

#if defined(MPLINALG_GRID_SYNC)
__device__ __forceinline__ void grid_sync() { cooperative_groups::this_grid().sync(); }
#endif
#endif
