"""Two-sided equilibration by powers of two, so that scaling is exact.

References
----------
Higham, Pranesh and Zounon, SIAM J. Sci. Comput. 41 (2019) A2536, algorithms 2.3-2.5.
Knight, Ruiz and Ucar, SIAM J. Matrix Anal. Appl. 35 (2014) 931 (symmetric scaling).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ops.protocol import Array, Ops
from .blocks import exponents

_MAX_EXPONENT = 1000


@dataclass(frozen=True)
class Scaling:
    """diag(rows) A diag(cols), powers of two in A's real dtype."""

    rows: Array
    cols: Array


def inverse_powers(ops: Ops, largest: Array) -> Array:
    """The powers of two that bring `largest` into [1/2, 1); 1 for zeros."""
    xp = ops.xp
    _, exponent = xp.frexp(largest)
    limit = 100 if largest.dtype.itemsize == 4 else _MAX_EXPONENT
    exponent = xp.clip(xp.where(largest > 0, exponent, 0), -limit, limit)
    return xp.ldexp(xp.ones_like(largest), -exponent)


def equilibrate(ops: Ops, a: Array) -> Scaling:
    """Rows, then columns, scaled so that their largest entries lie in [1/2, 1).

    Reads A twice. Rows and columns of zeros keep the factor 1.
    """
    row_max, unscaled = ops.extents(a)
    rows = inverse_powers(ops, row_max)
    _, col_max = ops.extents(a, rows=rows)
    tiny = ops.xp.finfo(col_max.dtype).tiny
    for j in ops.xp.flatnonzero((col_max < tiny) & (unscaled > 0)).tolist():
        # scaled by its rows this column underflows: its largest entry by exponents
        column = a[:, j]
        size = abs(column) if a.dtype.kind != "c" else abs(column.real) + abs(column.imag)
        _, exponent = ops.xp.frexp(size)
        top = ops.xp.where(size > 0, exponent + exponents(ops, rows), -(10**6)).max()
        col_max[j] = ops.xp.ldexp(tiny, max(int(top), -_MAX_EXPONENT) + 1022)
    return Scaling(rows, inverse_powers(ops, col_max))


def equilibrate_hermitian(ops: Ops, a: Array) -> Scaling:
    """D A D with a diagonal in [1/4, 1]: d_i = 2^-k with 2^2k next above a_ii."""
    xp = ops.xp
    diagonal = abs(xp.diagonal(a).real)
    _, exponent = xp.frexp(diagonal)
    limit = 60 if diagonal.dtype.itemsize == 4 else _MAX_EXPONENT // 2
    exponent = xp.clip(xp.where(diagonal > 0, (exponent + 1) // 2, 0), -limit, limit)
    d = xp.ldexp(xp.ones_like(diagonal), -exponent)
    return Scaling(d, d)
