// A tile dealt out over the registers of 16 by 16 threads:  thread (y, x) has the entries
// (y + 16 r, x + 16 c), r, c < G
//
// of a tile of order 16 G. So the threads stay busy to the end of a factorization that finishes
// one row and one column after the other, and most entries of a thread are seen to be left or
// right of column 16 g + t, above or below row 16 g + t, when the code is compiled.
#pragma once
#include "portable.cuh"

constexpr int SIDE = 16, THREADS = SIDE * SIDE;

// One row or column of the tile in shared memory, in pieces of 16 bytes, so that threads of
// different x (or y) use different banks.
template <class T, int G> struct Line {
    static constexpr int WIDTH = 16 / sizeof(T);
    struct __align__(16) Piece {
        T entries[WIDTH];
    };
    Piece pieces[G / WIDTH][SIDE + 1];  // one more: lines of successive columns in other banks

    // The entries place + 16 r of thread `place`, in y or in x.
    __device__ __forceinline__ void put(int place, const T (&values)[G]) {
#pragma unroll
        for (int q = 0; q < G / WIDTH; ++q) {
            Piece piece;
#pragma unroll
            for (int e = 0; e < WIDTH; ++e) piece.entries[e] = values[q * WIDTH + e];
            pieces[q][place] = piece;
        }
    }
    __device__ __forceinline__ void get(int place, T (&values)[G]) const {
#pragma unroll
        for (int q = 0; q < G / WIDTH; ++q) {
            const Piece piece = pieces[q][place];
#pragma unroll
            for (int e = 0; e < WIDTH; ++e) values[q * WIDTH + e] = piece.entries[e];
        }
    }
};

__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }

// Keeps the smallest of what is reported; 0 stands for nothing.
__device__ __forceinline__ void report(int* info, int place) {
    atomicCAS(info, 0, place);
    atomicMin(info, place);
}

// |x| as an integer: the order is the same, and NaN comes after infinity.
__device__ __forceinline__ unsigned magnitude(float x) { return __float_as_uint(fabsf(x)); }

constexpr unsigned INFINITE = 0x7f800000u;  // magnitude of infinity
constexpr int NONE = 0x7fffffff;

__device__ __forceinline__ int warp_min(int value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value = min(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}
__device__ __forceinline__ unsigned warp_max(unsigned value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value = max(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}
