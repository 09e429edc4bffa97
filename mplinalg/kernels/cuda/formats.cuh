// Formats of tensor cores: how a number of fp32 is rounded to one, and when that loses it.
//
// A format is named by the type that holds it: half, __nv_bfloat16, float for tf32, and fp16x2 for
// a number that is held as two halves, high + 2^-11 low. Rounding is to nearest, ties to even.
//
// A finite entry overflows if its image is infinite, and a nonzero one underflows if its image is
// zero or subnormal. Magnitudes are compared as bits: CuPy compiles all kernels with -ftz=true,
// under which fp32 arithmetic, comparisons and conversions to fp64 take subnormal numbers for
// zeros, and results below 2^-126 become zeros. They are so in the image, and are counted as lost.
#pragma once
#include "portable.cuh"
#include "reduce.cuh"

constexpr unsigned INFINITY_BITS = 0x7f800000u;  // of fp32

// |x| as an integer: in the same order, and NaN comes after infinity.
__device__ __forceinline__ unsigned magnitude_bits(float x) {
    return __float_as_uint(x) & 0x7fffffffu;
}

// To the 11 significant bits of tf32; a carry reaches infinity. Tensor cores ignore the 13 low
// bits, which would be rounding toward zero.
__device__ __forceinline__ float rounded_to_tf32(float x) {
    const unsigned word = __float_as_uint(x);
    const unsigned near = (word + 0xfffu + (word >> 13 & 1u)) & 0xffffe000u;
    // what tells a NaN from infinity may stand in the low bits
    return __uint_as_float(x != x ? word | 0x400000u : near);
}

// The power of two that brings the number whose bits these are to at most `top`, which is normal;
// 1 for zero, infinity and NaN. The exponent is kept within +-126, so that its inverse is normal.
__device__ __forceinline__ float power_of_two_scale(unsigned bits, float top) {
    if (bits == 0 || bits >= INFINITY_BITS) return 1.0f;
    const int shift = max(0, __clz(bits) - 8);  // of a subnormal number
    const int exponent = max(1, static_cast<int>(bits >> 23)) - shift;
    const unsigned limit = __float_as_uint(top), fraction = 0x7fffffu;
    const int up = static_cast<int>(limit >> 23) - exponent -
                   ((bits << shift & fraction) > (limit & fraction));
    return __uint_as_float(static_cast<unsigned>(min(max(up, -126), 126) + 127) << 23);
}

struct fp16x2 {};

// What a number becomes: PLANES numbers of type Stored, the first of which tells whether it is
// lost; `size` is the magnitude of that one as an integer.
template <class Format> struct Image;

template <> struct Image<half> {
    using Stored = half;
    static constexpr int PLANES = 1;
    static constexpr unsigned INFINITE = 0x7c00u, NORMAL = 0x400u;
    half plane[PLANES];
    __device__ __forceinline__ explicit Image(float x) : plane{__float2half_rn(x)} {}
    __device__ __forceinline__ unsigned size() const {
        return __half_as_ushort(plane[0]) & 0x7fffu;
    }
    __device__ __forceinline__ float number() const { return __half2float(plane[0]); }
};

template <> struct Image<__nv_bfloat16> {
    using Stored = __nv_bfloat16;
    static constexpr int PLANES = 1;
    static constexpr unsigned INFINITE = 0x7f80u, NORMAL = 0x80u;
    __nv_bfloat16 plane[PLANES];
    __device__ __forceinline__ explicit Image(float x) : plane{__float2bfloat16_rn(x)} {}
    __device__ __forceinline__ unsigned size() const {
        return __bfloat16_as_ushort(plane[0]) & 0x7fffu;
    }
    __device__ __forceinline__ float number() const { return __bfloat162float(plane[0]); }
};

template <> struct Image<float> {  // tf32
    using Stored = float;
    static constexpr int PLANES = 1;
    static constexpr unsigned INFINITE = INFINITY_BITS, NORMAL = 0x800000u;
    float plane[PLANES];
    __device__ __forceinline__ explicit Image(float x) : plane{rounded_to_tf32(x)} {}
    __device__ __forceinline__ unsigned size() const { return magnitude_bits(plane[0]); }
    __device__ __forceinline__ float number() const { return plane[0]; }
};

template <> struct Image<fp16x2> {
    using Stored = half;
    static constexpr int PLANES = 2;
    static constexpr unsigned INFINITE = Image<half>::INFINITE, NORMAL = Image<half>::NORMAL;
    half plane[PLANES];
    __device__ __forceinline__ explicit Image(float x) {
        plane[0] = __float2half_rn(x);
        // exact but for the last rounding; infinity - infinity would be NaN
        const float rest = 2048.0f * (x - __half2float(plane[0]));
        plane[1] = __float2half_rn(size() < INFINITE ? rest : 0.0f);
    }
    __device__ __forceinline__ unsigned size() const {
        return __half_as_ushort(plane[0]) & 0x7fffu;
    }
    __device__ __forceinline__ float number() const {
        return fmaf(0x1p-11f, __half2float(plane[1]), __half2float(plane[0]));
    }
};

// Entries that a thread saw lost.
struct Lost {
    unsigned over = 0, under = 0;

    template <class Format>
    __device__ __forceinline__ void take(const Image<Format>& image, float given) {
        const unsigned size = image.size(), before = magnitude_bits(given);
        over += size == Image<Format>::INFINITE && before < INFINITY_BITS;
        under += size < Image<Format>::NORMAL && before != 0;
    }
    // Counts up lost[0] and lost[1], unless that is null; all lanes of a warp together.
    __device__ __forceinline__ void report(unsigned long long* lost) {
        over = warp_sum(over);
        under = warp_sum(under);
        if (threadIdx.x % 32 != 0 || !lost) return;
        if (over) atomicAdd(lost, static_cast<unsigned long long>(over));
        if (under) atomicAdd(lost + 1, static_cast<unsigned long long>(under));
    }
};
