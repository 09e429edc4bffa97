"""Rounding of fp32 words to fp16, bf16 and tf32, to nearest even, exactly as hardware does.

Each kernel takes lines of floats `src`, writes to `dst` (which may be `src`), multiplies by the
power of two `scale` first, and returns (overflows, underflows): finite values that became
infinite, and nonzero values whose image is zero or subnormal. Mantissas are rounded in the
integer representation; fp16 subnormals by adding and subtracting 0.5, which makes fp32 round at
bit 2^-24.

Bytes moved: one read and one write of 4 bytes an entry.
"""

from __future__ import annotations

import numpy as np

from .jit import exact_kernel


@exact_kernel
def _round_fp16_row(src, dst, scale):  # type: ignore[no-untyped-def]
    half = np.float32(0.5)
    over = 0
    under = 0
    bits_out = dst.view(np.uint32)
    for j in range(src.size):  # `src` may be `dst`: count what is none before it is gone
        value = src[j]
        over -= abs(value) == np.float32(np.inf)
        under -= value == np.float32(0.0)
        dst[j] = value * scale
    for j in range(dst.size):
        value = dst[j]
        magnitude = abs(value)
        word = bits_out[j]
        sign = word & np.uint32(0x80000000)
        word = word ^ sign
        normal = (word + np.uint32(0xFFF) + ((word >> np.uint32(13)) & np.uint32(1))) & np.uint32(
            0xFFFFE000
        )
        normal = np.uint32(0x7F800000) if normal >= np.uint32(0x47800000) else normal
        is_nan = word > np.uint32(0x7F800000)
        normal = word if is_nan else normal
        bits_out[j] = normal | sign
        small = np.copysign((magnitude + half) - half, value)
        is_small = magnitude < np.float32(6.103515625e-05)
        dst[j] = small if is_small else dst[j]
        over += normal == np.uint32(0x7F800000)
        under += abs(dst[j]) < np.float32(6.103515625e-05)
    return over, under


@exact_kernel
def _round_mantissa_row(src, dst, scale, dropped):  # type: ignore[no-untyped-def]
    over = 0
    under = 0
    half = np.uint32((1 << (dropped - 1)) - 1)
    shift = np.uint32(dropped)
    mask = np.uint32((0xFFFFFFFF << dropped) & 0xFFFFFFFF)
    bits_out = dst.view(np.uint32)
    for j in range(src.size):  # `src` may be `dst`: count what is none before it is gone
        value = src[j]
        over -= abs(value) == np.float32(np.inf)
        under -= value == np.float32(0.0)
        dst[j] = value * scale
    for j in range(dst.size):
        word = bits_out[j]
        sign = word & np.uint32(0x80000000)
        word = word ^ sign
        rounded = (word + half + ((word >> shift) & np.uint32(1))) & mask
        rounded = word if word > np.uint32(0x7F800000) else rounded
        bits_out[j] = rounded | sign
        over += rounded == np.uint32(0x7F800000)
        under += rounded < np.uint32(0x00800000)
    return over, under


@exact_kernel
def round_fp16(src, dst, scale):  # type: ignore[no-untyped-def]
    """dst <- fp16(scale * src)."""
    overflows = 0
    underflows = 0
    for i in range(src.shape[0]):
        over, under = _round_fp16_row(src[i], dst[i], scale)
        overflows += over
        underflows += under
    return overflows, underflows


@exact_kernel
def round_mantissa(src, dst, scale, dropped):  # type: ignore[no-untyped-def]
    """dst <- scale * src without its last `dropped` mantissa bits (bf16: 16, tf32: 13)."""
    overflows = 0
    underflows = 0
    for i in range(src.shape[0]):
        over, under = _round_mantissa_row(src[i], dst[i], scale, dropped)
        overflows += over
        underflows += under
    return overflows, underflows


@exact_kernel
def split_fp16x2(src, high, low, scale):  # type: ignore[no-untyped-def]
    """scale * src = high + 2^-11 low, both in fp16. The counts are those of `high`."""
    overflows = 0
    underflows = 0
    for i in range(src.shape[0]):
        over, under = _round_fp16_row(src[i], high[i], scale)
        overflows += over
        underflows += under
        for j in range(src.shape[1]):
            rest = src[i, j] * scale - high[i, j]
            low[i, j] = rest * np.float32(2048.0) if np.isfinite(high[i, j]) else np.float32(0.0)
        _round_fp16_row(low[i], low[i], np.float32(1.0))
    return overflows, underflows
