"""`checks` for answers on a GPU: computed there, in double precision, without copies of a matrix.

Residuals are rounded as a product in double precision is, which adds about u to a backward error;
bounds are 30 u and more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["least_squares_error", "qr_error", "solve_error"]

Array = Any
_ROWS = 1024
"""Rows that are looked at together, so that no second matrix is needed."""


def solve_error(a: Array, b: Array) -> Callable[[Array], float]:
    """The largest normwise backward error of the columns of a given x, as a function of x.

    ||b - A x|| / (||A|| ||x|| + ||b||) in the infinity norm; NaN for an x that is no array of this
    device with the shape of b, or that has a NaN or an infinity.
    """
    import cupy

    known: list[float] = []

    def error(x: Array) -> float:
        if not isinstance(x, cupy.ndarray) or x.shape != b.shape or not _is_finite(x):
            return math.nan
        if not known:
            known.append(norm(a))
        y, c = (z[:, None] if z.ndim == 1 else z for z in (x, b))
        residual = _largest(c - a @ y)
        size = known[0] * _largest(y) + _largest(c)
        return float(cupy.max(residual / size))

    return error


def qr_error(a: Array) -> Callable[[tuple[Array, Array]], float]:
    """As `checks.qr_error`, of a given (Q, R)."""
    import cupy

    def error(factors: tuple[Array, Array]) -> float:
        q, r = factors
        if not (_is_finite(q) and _is_finite(r)) or bool(cupy.tril(r, -1).any()):
            return math.nan
        rebuilt = norm(a - q @ r) / (a.shape[1] * norm(a))
        gram = q.conj().T @ q
        departure = norm(gram - cupy.eye(gram.shape[0], dtype=gram.dtype))
        return float(np.maximum(rebuilt, departure / a.shape[0]))  # unlike max, lets NaN through

    return error


def least_squares_error(a: Array, b: Array) -> Callable[[Array], float]:
    """As `checks.least_squares_error`."""
    import cupy

    n = a.shape[1]
    top = cupy.linalg.qr(a, mode="r")
    size = float(cupy.linalg.norm(top))
    theta = size / float(cupy.linalg.norm(b))

    def error(x: Array) -> float:
        if not isinstance(x, cupy.ndarray) or x.shape != (n,) or not _is_finite(x):
            return math.nan
        r = b - a @ x
        weight = theta / math.sqrt(1 + (theta * float(cupy.linalg.norm(x))) ** 2)
        mu = weight * float(cupy.linalg.norm(r))
        both = cupy.linalg.qr(cupy.vstack([top, mu * cupy.eye(n, dtype=a.dtype)]), mode="r")
        z = cupy.linalg.solve(both.conj().T, a.conj().T @ r)
        return weight * float(cupy.linalg.norm(z)) / size

    return error


def norm(a: Array) -> float:
    """The infinity norm."""
    import cupy

    rows = [
        cupy.abs(a[first : first + _ROWS]).sum(axis=1).max().reshape(1)
        for first in range(0, a.shape[0], _ROWS)
    ]
    return float(cupy.max(cupy.concatenate(rows)))


def _largest(x: Array) -> Array:
    """The largest magnitude of each column."""
    import cupy

    return cupy.abs(x).max(axis=0)


def _is_finite(x: Array) -> bool:
    import cupy

    return all(
        bool(cupy.isfinite(x[first : first + _ROWS]).all()) for first in range(0, x.shape[0], _ROWS)
    )
