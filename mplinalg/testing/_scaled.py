"""Numbers with an exponent of their own, beyond the range of float64.

The norm of a finite array need not be finite, and a product of two norms is 0 or Inf long before
their ratio is. Here an array or a norm goes with a power of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mplinalg.testing._registry import Matrix

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]

# The exponent of zero: below every sum of the exponents of two nonzero numbers.
ZERO_EXPONENT = np.int32(-20_000)


class Scaled(NamedTuple):
    """The number size * 2^exponent, size >= 0."""

    size: float
    exponent: int


class ScaledArray(NamedTuple):
    """The array values * 2^exponent."""

    values: Matrix
    exponent: int


def exponents(z: Matrix) -> IntArray:
    """Return e with 2^(e-1) <= max(|Re z|, |Im z|) < 2^e, elementwise; `ZERO_EXPONENT` at 0."""
    size = np.maximum(np.abs(z.real), np.abs(z.imag)) if z.dtype.kind == "c" else np.abs(z)
    e: IntArray = np.where(size == 0, ZERO_EXPONENT, np.frexp(size)[1]).astype(np.int32)
    return e


def shifted(z: Matrix, shift: IntArray | int) -> Matrix:
    """Return z * 2^shift, elementwise, real or complex."""
    if z.dtype.kind != "c":
        scaled: Matrix = np.ldexp(z, shift)
        return scaled
    out = np.empty(np.broadcast_shapes(z.shape, np.shape(shift)), dtype=z.dtype)
    out.real = np.ldexp(z.real, shift)
    out.imag = np.ldexp(z.imag, shift)
    return out


def inf_norm(a: Matrix) -> Scaled:
    """Return the largest row sum of |a|."""
    exponent = largest_exponent(a)
    return Scaled(float(np.abs(shifted(a, -exponent)).sum(axis=1).max(initial=0.0)), exponent)


def max_norm(x: Matrix) -> Scaled:
    """Return the largest entry of |x|."""
    exponent = largest_exponent(x)
    return Scaled(float(np.abs(shifted(x, -exponent)).max(initial=0.0)), exponent)


def difference_norm(norm: Callable[[Matrix], Scaled], z: ScaledArray, w: ScaledArray) -> Scaled:
    """Return the norm of z - w."""
    shift = max(largest_exponent(v.values) + v.exponent for v in (z, w)) + 1
    near_one = [shifted(v.values, v.exponent - shift) for v in (z, w)]
    size, exponent = norm(near_one[0] - near_one[1])
    return Scaled(size, exponent + shift)


def largest_exponent(z: Matrix) -> int:
    """Return the largest of the `exponents`; `ZERO_EXPONENT` if there is none."""
    return int(exponents(z).max(initial=ZERO_EXPONENT))


def product(z: Scaled, w: Scaled) -> Scaled:
    """Return z w."""
    return Scaled(z.size * w.size, z.exponent + w.exponent)


def total(z: Scaled, w: Scaled) -> Scaled:
    """Return z + w."""
    exponent = max((v.exponent for v in (z, w) if v.size), default=0)
    return Scaled(float(sum(np.ldexp(v.size, v.exponent - exponent) for v in (z, w))), exponent)


def ratio(z: Scaled, w: Scaled) -> float:
    """Return z / w as a float: 0 for 0 / 0, Inf for anything else over 0 and on overflow."""
    if z.size == 0:
        return 0.0
    if w.size == 0:
        return np.inf
    with np.errstate(over="ignore"):
        return float(np.ldexp(z.size / w.size, z.exponent - w.exponent))
