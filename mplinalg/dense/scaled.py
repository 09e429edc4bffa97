"""A system whose matrix is diag(rows) A diag(cols): right-hand sides in, solutions out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..factor.blocks import exponents, shifted
from ..factor.scaling import Scaling
from ..ops.protocol import Array, Ops
from ..precision import FP32, working_format

__all__ = ["enter", "extreme_limits", "is_graded", "leave"]

_ROW_RATIO = 2.0**10
_SAFE_FP32 = (1e-25, 1e30)


def extreme_limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Magnitudes outside these are brought into range before anything is computed."""
    return (1e-12, 1e12) if working_format(dtype) is FP32 else (1e-100, 1e100)


def is_graded(row_sums: Array) -> bool:
    """Whether A is equilibrated before it goes to a lower format, by sums of |a| along its rows.

    It is if rows that are not zero differ much in size, or are not well inside the range of single
    precision.
    """
    norm = float(row_sums.max()) if row_sums.size else 0.0
    positive = row_sums[row_sums > 0]
    least = float(positive.min()) if positive.size else norm
    return not (norm <= _ROW_RATIO * least and _SAFE_FP32[0] <= norm <= _SAFE_FP32[1])


def enter(
    ops: Ops, dtype: np.dtype[Any], scaling: Scaling | None, b: Array, trans: str
) -> tuple[Array, Array]:
    """The right-hand side of the scaled system, and the exponents its columns were scaled by.

    Columns so large or small that products with A could leave the range are brought to size one.
    Exact, since everything is a power of two.
    """
    xp = ops.xp
    low, high = extreme_limits(dtype)
    size = abs(b) if b.dtype.kind != "c" else xp.maximum(abs(b.real), abs(b.imag))
    if scaling is None:
        top = size.max(axis=0)
        fits = (top == 0) | ((top >= low) & (top <= high)) | ~xp.isfinite(top)
        if fits.all():
            return xp.asfortranarray(b), xp.zeros(b.shape[1], dtype=int)
        rows = xp.zeros(b.shape[0], dtype=int)
    else:
        rows = exponents(ops, scaling.rows if trans == "N" else scaling.cols)
    _, exponent = xp.frexp(size)
    exponent = xp.where((size > 0) & xp.isfinite(size), exponent + rows[:, None], -(10**6))
    shift = -exponent.max(axis=0)
    shift = xp.where(shift >= 10**6, 0, shift)
    return shifted(ops, b, rows[:, None] + shift), shift


def leave(ops: Ops, scaling: Scaling | None, x: Array, shift: Array, trans: str) -> Array:
    """The solution of the system that was given."""
    if scaling is None and not shift.any():
        return x
    exponent = -shift[None, :]
    if scaling is not None:
        cols = scaling.cols if trans == "N" else scaling.rows
        exponent = exponent + exponents(ops, cols)[:, None]
    with np.errstate(over="ignore", under="ignore"):
        return shifted(ops, x, exponent)
