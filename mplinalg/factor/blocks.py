"""Block ranges and power-of-two column scaling, which all drivers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..ops.protocol import Array, Ops

_CLAMP = 1000


def blocks(n: int, nb: int) -> Iterator[slice]:
    """The slices 0:nb, nb:2nb, ... of range(n).

    >>> [(k.start, k.stop) for k in blocks(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, n, nb):
        yield slice(start, min(start + nb, n))


def column_scale(ops: Ops, b: Array) -> Array:
    """Powers of two s, one a column, with max_i |s_j b[i, j]| in [1/2, 1) where b_j is not 0.

    Columns that are zero or not finite keep the factor 1; exponents stay within 1000 (100 in
    single precision), so that the inverse of a factor is a number too. A correction scaled in this
    way can be converted to a narrow format without underflow, and the scale undone exactly.
    """
    xp = ops.xp
    if b.size == 0:
        return xp.ones(b.shape[1], b.real.dtype)
    largest = abs(b.real).max(axis=0)
    if b.dtype.kind == "c":
        largest = xp.maximum(largest, abs(b.imag).max(axis=0))
    _, exponent = xp.frexp(largest)
    limit = 100 if largest.dtype.itemsize == 4 else _CLAMP
    exponent = xp.where(xp.isfinite(largest), xp.clip(exponent, -limit, limit), 0)
    scale: Any = xp.ldexp(xp.ones_like(largest), -exponent)
    return scale


def exponents(ops: Ops, powers: Array) -> Array:
    """k of powers of two 2^k."""
    return ops.xp.frexp(powers)[1] - 1


def shifted(ops: Ops, x: Array, exponent: Array) -> Array:
    """x * 2^exponent, rounded once, F-ordered; real or complex."""
    xp = ops.xp
    if x.dtype.kind != "c":
        return xp.asfortranarray(xp.ldexp(x, exponent))
    y = xp.empty(x.shape, dtype=x.dtype, order="F")
    y.real = xp.ldexp(x.real, exponent)
    y.imag = xp.ldexp(x.imag, exponent)
    return y
