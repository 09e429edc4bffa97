// Operands of low-precision products, made on the device without the host's knowing their size
//
// narrow:  target = fl(scale A)  in the format F, with scale the power of two that brings the
// number whose bits are `bits` (what amax of magnitudes.cu found) to at most `top`; 1 if `bits` is
// null, or the number zero, infinite or NaN. The exponent is within +-126. `scale`, if not null,
// gets it. F is half, __nv_bfloat16, float for tf32, or fp16x2:
//
//     high = fl16(scale x),  low = fl16(2^11 (scale x - high)),
//     |scale x - high - 2^-11 low| <= 2^-22 |scale x|  for 2^-14 <= |scale x| < 65520
//
// (below that at most 2^-36; `low` is zero where `high` is not finite). The formats, and what counts
// up lost[0] and lost[1], unless that is null, are in formats.cuh.
//
// A comes in lines of `length` entries, rows or columns, which are PARTS = 2 numbers each if it is
// complex; then real and imaginary parts (with a minus if `conjugated`) go to planes of their own.
// Planes are `plane` apart in the target: high and low of fp16x2 side by side, imaginary parts
// last. Entry j of line i stands in a plane at  i target_stride + j,  or TURNED, a transposing
// copy, at  j target_stride + i.  (An interleaved copy of a complex matrix is PARTS = 1 with twice
// the length.)
//
// quotient:  result = alpha / (scale_a scale_b),  null pointers for 1, by one thread: what a
// product of two such operands is multiplied by.
// round_format:  A <- A rounded to F, in place; fp16x2: high + 2^-11 low.
//
// fp32 arithmetic flushes subnormal numbers (formats.cuh): a scaled entry below 2^-126 becomes
// zero, also in bfloat16 and tf32, which could hold it.
//
// Launch: THREADS threads, any number of blocks; quotient: one block. length < 2^30.
// Bytes: one read of A and one write of the target: at 4.3 TB/s, fp32 to fp16 of order 16384 takes
// 0.37 ms, fp16x2 0.50 ms.
#include "formats.cuh"
#include "pieces.cuh"
#include "portable.cuh"

constexpr int THREADS = 256, AT_ONCE = 4;
constexpr int TILE_LINES = 64, TILE_ENTRIES = 32;  // turned: 128 bytes read, and written, in a row

// One entry's images, at `place` in each plane.
template <class F, int PARTS>
__device__ __forceinline__ void write(const float (&given)[PARTS], float scale, bool conjugated,
                                      typename Image<F>::Stored* target, long long plane,
                                      long long place, Lost& lost) {
    constexpr int PLANES = Image<F>::PLANES;
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
        const float x = part == 1 && conjugated ? -given[part] : given[part];
        const Image<F> image(scale * x);
        lost.take(image, x);
#pragma unroll
        for (int p = 0; p < PLANES; ++p)
            target[(part * PLANES + p) * plane + place] = image.plane[p];
    }
}

template <class F, int PARTS, bool TURNED>
__global__ void __launch_bounds__(THREADS)
narrow(int lines, int length, const float* __restrict__ a, long long stride, int conjugated,
       const unsigned* __restrict__ bits, float top,
       typename Image<F>::Stored* __restrict__ target, long long target_stride, long long plane,
       float* __restrict__ scale, unsigned long long* __restrict__ lost) {
    const float factor = bits ? power_of_two_scale(*bits, top) : 1.0f;
    if (blockIdx.x == 0 && threadIdx.x == 0 && scale) *scale = factor;
    Lost seen;
    if constexpr (TURNED) {
        __shared__ float tile[PARTS][TILE_ENTRIES][TILE_LINES + 1];
        constexpr int WARPS = THREADS / 32, READS = TILE_LINES / WARPS;
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const unsigned down = (lines + TILE_LINES - 1) / TILE_LINES;
        const unsigned count = down * ((length + TILE_ENTRIES - 1) / TILE_ENTRIES);
        for (unsigned t = blockIdx.x; t < count; t += gridDim.x) {
            const int first_line = t % down * TILE_LINES, first = t / down * TILE_ENTRIES;
            const bool is_entry = first + lane < length;
#pragma unroll
            for (int r = 0; r < READS; ++r) {
                const int line = warp + r * WARPS;
                const bool is_inside = is_entry && first_line + line < lines;
                const float* from = a + (first_line + line) * stride + PARTS * (first + lane);
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
                    tile[part][lane][line] = is_inside ? from[part] : 0.0f;
            }
            __syncthreads();
#pragma unroll
            for (int e = warp; e < TILE_ENTRIES; e += WARPS) {
                if (first + e >= length) break;
#pragma unroll
                for (int line = lane; line < TILE_LINES; line += 32) {
                    if (first_line + line >= lines) break;
                    float given[PARTS];
#pragma unroll
                    for (int part = 0; part < PARTS; ++part) given[part] = tile[part][e][line];
                    write<F>(given, factor, conjugated, target, plane,
                             (first + e) * target_stride + first_line + line, seen);
                }
            }
            __syncthreads();
        }
    } else {
        const Pieces<THREADS, AT_ONCE> pieces(lines, length);
        pieces.for_each([&](unsigned line, unsigned first) {
            const float* from = a + line * stride;
            float given[AT_ONCE][PARTS];
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) {
                const unsigned at = first + e * pieces.width;
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
                    given[e][part] = at < length ? from[PARTS * at + part] : 0.0f;
            }
#pragma unroll
            for (int e = 0; e < AT_ONCE; ++e) {
                const unsigned at = first + e * pieces.width;
                if (at < length)
                    write<F>(given[e], factor, conjugated, target, plane,
                             line * target_stride + at, seen);
            }
        });
    }
    seen.report(lost);
}

extern "C" __global__ void __launch_bounds__(THREADS)
quotient(float alpha, const float* __restrict__ scale_a, const float* __restrict__ scale_b,
         float* __restrict__ result) {
    if (blockIdx.x != 0 || threadIdx.x != 0) return;
    const double a = scale_a ? *scale_a : 1.0, b = scale_b ? *scale_b : 1.0;
    *result = static_cast<float>(alpha / (a * b));  // the product may leave the range of fp32
}

template <class F>
__global__ void __launch_bounds__(THREADS)
round_format(int lines, int length, float* a, long long stride,
             unsigned long long* __restrict__ lost) {
    Lost seen;
    const Pieces<THREADS, AT_ONCE> pieces(lines, length);
    pieces.for_each([&](unsigned line, unsigned first) {
        float* entries = a + line * stride;
        float given[AT_ONCE];
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e) {
            const unsigned at = first + e * pieces.width;
            given[e] = at < length ? entries[at] : 0.0f;
        }
#pragma unroll
        for (int e = 0; e < AT_ONCE; ++e) {
            const unsigned at = first + e * pieces.width;
            const Image<F> image(given[e]);
            seen.take(image, given[e]);
            if (at < length) entries[at] = image.number();
        }
    });
    seen.report(lost);
}
