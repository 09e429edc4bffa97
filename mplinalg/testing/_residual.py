"""Residuals in twice the working precision, free of overflow and underflow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mplinalg.testing._registry import Matrix
from mplinalg.testing._scaled import ZERO_EXPONENT, FloatArray, IntArray, exponents, shifted

# Entries handled at a time, so that the temporaries stay in cache.
BLOCK_ENTRIES = 2**16


@dataclass(frozen=True)
class ScaledResidual:
    """r = b - A x, row by row in the form value * 2^exponent.

    Attributes
    ----------
    value : ndarray, shape (m,)
        r / 2^exponent, real or complex.
    magnitude : ndarray, shape (m,)
        (|A| |x| + |b|) / 2^exponent.
    exponent : ndarray of int32, shape (m,)
    """

    value: Matrix
    magnitude: FloatArray
    exponent: IntArray


def scaled_residual(a: Matrix, x: Matrix, b: Matrix) -> ScaledResidual:
    """Return b - A x with an error of about u |r| + n u^2 (|A| |x| + |b|), u = 2^-53.

    Parameters
    ----------
    a : ndarray, shape (m, n)
        float64 or complex128, finite; so are `x` and `b`.
    x : ndarray, shape (n,)
    b : ndarray, shape (m,)

    Notes
    -----
    The magnitudes of x move into the columns of A, then each row is divided by a power of two that
    puts its largest term near 1. Nothing overflows, and what underflows is below 2^-1000 of that
    term. The products are split exactly into two numbers (Dekker 1971) and summed with the
    errors of all additions kept (Ogita, Rump and Oishi 2005, Dot2, in a tree).

    References
    ----------
    T. J. Dekker, A floating-point technique for extending the available precision, Numer. Math.
    18, 1971. T. Ogita, S. M. Rump and S. Oishi, Accurate sum and dot product, SIAM J. Sci.
    Comput. 26, 2005.
    """
    m, n = a.shape
    value = np.empty(m, dtype=np.result_type(a, x, b))
    magnitude = np.empty(m)
    exponent = np.empty(m, dtype=np.int32)
    x_exponents = exponents(x)
    unit_x = shifted(x, -x_exponents)
    rows = max(1, BLOCK_ENTRIES // max(n, 1))
    for start in range(0, m, rows):
        block = slice(start, start + rows)
        terms = exponents(a[block]) + x_exponents
        shift = np.max(terms, axis=1, initial=ZERO_EXPONENT)
        shift = np.maximum(shift, exponents(b[block]))
        unit_a = shifted(a[block], x_exponents - shift[:, None])
        unit_b = shifted(b[block], -shift)
        value[block] = _residual(unit_a, unit_x, unit_b)
        magnitude[block] = np.abs(unit_a) @ np.abs(unit_x) + np.abs(unit_b)
        exponent[block] = shift
    return ScaledResidual(value, magnitude, exponent)


def _residual(a: Matrix, x: Matrix, b: Matrix) -> Matrix:
    if np.result_type(a, x, b).kind != "c":
        return _real_residual(a, x, b)
    stacked_x = np.concatenate([x.real, x.imag])
    out = np.empty(len(b), dtype=np.complex128)
    out.real = _real_residual(np.hstack([a.real, -a.imag]), stacked_x, b.real)
    out.imag = _real_residual(np.hstack([a.imag, a.real]), stacked_x, b.imag)
    return out


def _real_residual(a: FloatArray, x: FloatArray, b: FloatArray) -> FloatArray:
    products, errors = two_product(a, x)
    return _sum_rows(np.column_stack([b, -products]), -errors.sum(axis=1))


def two_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return p = fl(a b) and e with p + e = a b exactly, for |a|, |b| <= 1 (Dekker 1971)."""
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    p = a * b
    e: FloatArray = a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return p, e


def _split(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return two numbers of at most 26 bits whose sum is a."""
    c: FloatArray = (2.0**27 + 1) * a
    high = c - (c - a)
    return high, a - high


def _sum_rows(terms: FloatArray, correction: FloatArray) -> FloatArray:
    """Return the sum over the columns, plus the correction, as if in twice the precision."""
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        a, b, odd = terms[:, :half], terms[:, half : 2 * half], terms[:, 2 * half :]
        s = a + b
        t = s - a
        correction = correction + ((a - (s - t)) + (b - t)).sum(axis=1)
        terms = np.hstack([s, odd])
    total: FloatArray = terms[:, 0] + correction
    return total
