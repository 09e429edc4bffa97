"""Columns of a matrix: powers of two that bring them into range, and copies in Fortran order."""

from __future__ import annotations

from typing import Any

from ..ops import Counters, Ops, is_on_host
from ..precision import Format, real_dtype

Array = Any

_COPY_ROWS = 16
"""Rows of a block that is transposed on its way from C to Fortran order: one cache line of fp32."""
_BLOCK = 64
"""Columns of a triangle that are copied at a time. A device copies everything at once."""
_SAFE_EXPONENT = {"fp32": 20, "fp64": 300}
"""Columns whose largest entry lies within 2^+-this are factored as they are."""


def range_scale(ops: Ops, a: Array, fmt: Format, wanted: bool | None) -> Array | None:
    """Powers of two that bring the largest entry of each column of A into [1, 2).

    None where `wanted` is False, or None and the range of `fmt` does not ask for it: always for
    fp16 and fp16x2, for others if a column's largest entry leaves 2^+-20 (2^+-300 in fp64).
    """
    if wanted is False:
        return None
    xp = ops.xp
    largest = _column_amax(ops, a) if is_on_host(a) else ops.extents(a)[1]
    _, exponents = xp.frexp(largest)
    finite = xp.isfinite(largest) & (largest > 0)
    limit = _SAFE_EXPONENT["fp64" if fmt.name == "fp64" and a.dtype.char in "dD" else "fp32"]
    outside = bool((finite & (abs(exponents) > limit)).any())
    if not (wanted or fmt.needs_scaling or outside):
        return None
    shift = xp.where(finite, 1 - exponents, 0)
    top = xp.finfo(largest.dtype).maxexp - 2
    return xp.ldexp(xp.ones_like(largest), xp.clip(shift, -top, top))


def to_fortran(
    ops: Ops, a: Array, dtype: Any, counters: Counters | None = None, scale: Array | None = None
) -> Array:
    """A diag(scale) in `dtype` and Fortran order; a new array. Counts what the range loses."""
    xp = ops.xp
    m, n = a.shape
    out = xp.empty((m, n), dtype, order="F")
    if a.strides[0] == a.itemsize or m <= 1:
        whole = _convert(ops, a, out, scale)
        if counters is not None:
            counters.add(*whole)
        return out
    narrow = out.dtype != a.dtype or scale is not None
    step = _COPY_ROWS if is_on_host(a) else m
    buffer = xp.empty((step, n), dtype) if narrow else None
    for start in range(0, m, step):
        rows = a[start : start + step]
        if buffer is not None:
            lost = _convert(ops, rows, buffer[: rows.shape[0]], scale)
            rows = buffer[: rows.shape[0]]
            if counters is not None:
                counters.add(*lost)
        out[start : start + step] = rows
    return out


def upper_triangle(ops: Ops, a: Array, dtype: Any = None) -> Array:
    """The upper triangle (or trapezoid) of A with zeros below, in Fortran order; a new array."""
    xp, (m, n) = ops.xp, a.shape
    r = xp.zeros((m, n), a.dtype if dtype is None else dtype, order="F")
    block = _BLOCK if is_on_host(a) else max(n, 1)
    for start in range(0, n, block):
        stop = min(start + block, n)
        r[:start, start:stop] = a[:start, start:stop]
        if start < m:
            r[start:stop, start:stop] = xp.triu(a[start:stop, start:stop])
    return r


def _convert(ops: Ops, src: Array, dst: Array, scale: Array | None) -> tuple[int, int]:
    if src.dtype == dst.dtype and scale is None:
        dst[...] = src
        return 0, 0
    done = ops.convert(src, dst, cols=scale)
    return done.overflows, done.underflows


def _column_amax(ops: Ops, a: Array) -> Array:
    """max |re|, |im| of each column, a block of rows at a time."""
    xp = ops.xp
    top = xp.zeros(a.shape[1], real_dtype(a.dtype))
    for start in range(0, a.shape[0], 256):
        rows = a[start : start + 256]
        for part in (rows.real, rows.imag) if a.dtype.kind == "c" else (rows,):
            xp.maximum(top, abs(part).max(axis=0), out=top)
    return top


def unit_columns(xp: Any, b: Array) -> tuple[Array, Array]:
    """b with columns scaled by 2^-e to a largest entry below 1, and e."""
    size = abs(b) if b.dtype.kind != "c" else xp.maximum(abs(b.real), abs(b.imag))
    largest = size.max(axis=0) if len(size) else xp.zeros(size.shape[1], size.dtype)
    _, exponents = xp.frexp(largest)
    exponents = xp.where(xp.isfinite(largest) & (largest > 0), exponents, 0)
    return scaled_columns(xp, b, -exponents), exponents


def scaled_columns(xp: Any, b: Array, exponents: Array) -> Array:
    """b diag(2^exponents), in two halves so that neither factor leaves the range."""
    if not exponents.any():
        return b
    one = xp.ones(exponents.shape, real_dtype(b.dtype))
    half = exponents // 2
    return (b * xp.ldexp(one, half)) * xp.ldexp(one, exponents - half)
