// Number and vector types, and the functions on them that kernels use.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace emulator {
template <class To, class From> To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
}  // namespace emulator

// ---------------------------------------------------------------- integers and bits
#define EMULATOR_MIN_MAX(T)                              \
    inline T min(T a, T b) { return b < a ? b : a; }     \
    inline T max(T a, T b) { return a < b ? b : a; }
EMULATOR_MIN_MAX(int)
EMULATOR_MIN_MAX(unsigned)
EMULATOR_MIN_MAX(long long)
EMULATOR_MIN_MAX(unsigned long long)
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline float __int_as_float(int v) { return emulator::bits_as<float>(v); }
inline int __float_as_int(float v) { return emulator::bits_as<int>(v); }
inline float __uint_as_float(unsigned v) { return emulator::bits_as<float>(v); }
inline unsigned __float_as_uint(float v) { return emulator::bits_as<unsigned>(v); }
inline double __longlong_as_double(long long v) { return emulator::bits_as<double>(v); }
inline long long __double_as_longlong(double v) { return emulator::bits_as<long long>(v); }

// ---------------------------------------------------------------- float and double
// As on the device, the other operand where one is NaN.
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
// never contracted with what they are given to: nothing is, here
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline float rsqrtf(float a) { return 1.0f / std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
template <class T> T __ldg(const T* p) { return *p; }

// ---------------------------------------------------------------- vectors
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ---------------------------------------------------------------- half
struct __half {
    _Float16 value;
    __half() = default;
    __half(float f) : value(static_cast<_Float16>(f)) {}
    operator float() const { return static_cast<float>(value); }
};
using half = __half;
struct alignas(4) __half2 { half x, y; };
using half2 = __half2;
static_assert(sizeof(half) == 2 && sizeof(half2) == 4);
inline half __float2half_rn(float f) { return half(f); }
inline half __float2half(float f) { return half(f); }
inline float __half2float(half h) { return h; }
inline half __double2half(double d) {
    half h;
    h.value = static_cast<_Float16>(d);  // rounded once
    return h;
}
inline unsigned short __half_as_ushort(half h) { return emulator::bits_as<unsigned short>(h); }
inline half __ushort_as_half(unsigned short u) { return emulator::bits_as<half>(u); }
inline half2 __halves2half2(half a, half b) { return {a, b}; }
inline half2 __floats2half2_rn(float a, float b) { return {half(a), half(b)}; }
inline float2 __half22float2(half2 h) { return {h.x, h.y}; }
inline half __low2half(half2 h) { return h.x; }
inline half __high2half(half2 h) { return h.y; }

// ---------------------------------------------------------------- bfloat16
struct __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float f) {
        const unsigned word = __float_as_uint(f);
        // to nearest even; a carry reaches infinity, and NaN stays NaN
        bits = f != f ? 0x7fff : (word + 0x7fffu + (word >> 16 & 1u)) >> 16;
    }
    operator float() const { return __uint_as_float(unsigned(bits) << 16); }
};
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return __nv_bfloat16(f); }
inline float __bfloat162float(__nv_bfloat16 h) { return h; }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {a, b}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }
