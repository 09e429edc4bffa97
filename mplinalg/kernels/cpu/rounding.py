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

from .calls import add_words, bits_of, float_of
from .jit import exact_kernel
from .vectors import copy

_SIGN = np.uint32(0x80000000)
_SIZE = np.uint32(0x7FFFFFFF)
_INFINITY = np.uint32(0x7F800000)
_ONE = np.uint32(1)
_NONE = np.uint32(0)
_FP16_OVERFLOWS = np.uint32(0x47800000)
"""2^16, in fp32."""
_FP16_NORMAL = np.uint32(0x38800000)
"""2^-14."""
_FP32_NORMAL = np.uint32(0x00800000)
_FP16_HALF, _FP16_MASK = np.uint32(0xFFF), np.uint32(0xFFFFE000)


@exact_kernel
def _round_fp16_row(src, dst, scale):  # type: ignore[no-untyped-def]
    """`src` is not `dst`."""
    half = np.float32(0.5)
    over = _NONE
    under = _NONE
    for j in range(src.size):
        word = bits_of(src[j] * scale)
        sign = word & _SIGN
        word = word ^ sign
        odd = (word >> np.uint32(13)) & _ONE
        rounded = add_words(word, add_words(_FP16_HALF, odd)) & _FP16_MASK
        rounded = _INFINITY if rounded >= _FP16_OVERFLOWS else rounded
        rounded = word if word > _INFINITY else rounded  # NaN
        small = bits_of((float_of(word) + half) - half)
        rounded = small if word < _FP16_NORMAL else rounded
        dst[j] = float_of(rounded | sign)
        over = add_words(over, _ONE if rounded == _INFINITY else _NONE)
        under = add_words(under, _ONE if rounded < _FP16_NORMAL else _NONE)
    return _lost(src, over, under)


@exact_kernel
def _round_mantissa_row(src, dst, scale, dropped):  # type: ignore[no-untyped-def]
    """`src` is not `dst`."""
    half = np.uint32((1 << (dropped - 1)) - 1)
    shift = np.uint32(dropped)
    mask = np.uint32((0xFFFFFFFF << dropped) & 0xFFFFFFFF)
    over = _NONE
    under = _NONE
    for j in range(src.size):
        word = bits_of(src[j] * scale)
        sign = word & _SIGN
        word = word ^ sign
        rounded = add_words(word, add_words(half, (word >> shift) & _ONE)) & mask
        rounded = word if word > _INFINITY else rounded
        dst[j] = float_of(rounded | sign)
        over = add_words(over, _ONE if rounded == _INFINITY else _NONE)
        under = add_words(under, _ONE if rounded < _FP32_NORMAL else _NONE)
    return _lost(src, over, under)


@exact_kernel
def _lost(src, over, under):  # type: ignore[no-untyped-def]
    """Counts of what became infinite or small, without what was infinite or zero before."""
    overflows = np.int64(over)
    underflows = np.int64(under)
    if overflows or underflows:
        for j in range(src.size):
            word = bits_of(src[j]) & _SIZE
            overflows -= word == _INFINITY
            underflows -= word == _NONE
    return overflows, underflows


@exact_kernel
def _apart(src, dst, i, scratch):  # type: ignore[no-untyped-def]
    """Row i of src; a copy of it if src is dst."""
    if src.ctypes.data != dst.ctypes.data:
        return src[i]
    copy(src[i], scratch)
    return scratch


@exact_kernel
def round_fp16(src, dst, scale):  # type: ignore[no-untyped-def]
    """dst <- fp16(scale * src)."""
    overflows = 0
    underflows = 0
    scratch = np.empty(src.shape[1], np.float32)
    for i in range(src.shape[0]):
        over, under = _round_fp16_row(_apart(src, dst, i, scratch), dst[i], scale)
        overflows += over
        underflows += under
    return overflows, underflows


@exact_kernel
def round_mantissa(src, dst, scale, dropped):  # type: ignore[no-untyped-def]
    """dst <- scale * src without its last `dropped` mantissa bits (bf16: 16, tf32: 13)."""
    overflows = 0
    underflows = 0
    scratch = np.empty(src.shape[1], np.float32)
    for i in range(src.shape[0]):
        over, under = _round_mantissa_row(_apart(src, dst, i, scratch), dst[i], scale, dropped)
        overflows += over
        underflows += under
    return overflows, underflows


@exact_kernel
def split_fp16x2(src, high, low, scale):  # type: ignore[no-untyped-def]
    """scale * src = high + 2^-11 low, both in fp16. The counts are those of `high`."""
    overflows = 0
    underflows = 0
    rests = np.empty(src.shape[1], np.float32)
    for i in range(src.shape[0]):
        over, under = _round_fp16_row(src[i], high[i], scale)
        overflows += over
        underflows += under
        for j in range(src.shape[1]):
            rest = src[i, j] * scale - high[i, j]
            rests[j] = rest * np.float32(2048.0) if np.isfinite(high[i, j]) else np.float32(0.0)
        _round_fp16_row(rests, low[i], np.float32(1.0))
    return overflows, underflows
