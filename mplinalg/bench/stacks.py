"""Problems of many small matrices: stacks drawn, and answers judged, all members at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mplinalg.bench.problems import normal

__all__ = [
    "factor_error", "inverse_error", "members", "positive_definite", "product_error", "scaled",
    "solve_error",
]  # fmt: skip

Array = NDArray[Any]

SCALE = 1.0
"""Of the numbers of members and unknowns of all suites; tests make it small."""


def scaled(count: int) -> int:
    """`count`, or as much of it as `SCALE` says."""
    return max(1, round(SCALE * count))


def members(n: int, batch: int, largest: int) -> int:
    """Members of order n: `batch`, or as many as fill what `batch` of order `largest` fill."""
    return scaled(min(batch, max(1, batch * largest**2 // max(n, 1) ** 2)))


def positive_definite(rng: np.random.Generator, batch: int, n: int, dtype: DTypeLike) -> Array:
    """G G^H / n + I / 100 for each member, G standard normal."""
    g = normal(rng, (batch, n, n), dtype)
    a = g @ g.conj().mT
    a = (a + a.conj().mT) / (2 * n)
    a[:, np.arange(n), np.arange(n)] += 0.01
    return a.astype(dtype, copy=False)


def product_error(a: Array, b: Array) -> Callable[[Array], float]:
    """The largest |C - A B| / (|A||B|) of any entry; NaN if one is not finite."""
    exact, size = a @ b, np.abs(a) @ np.abs(b)
    return lambda c: _largest(np.abs(c - exact), size)


def solve_error(a: Array, b: Array) -> Callable[[Array], float]:
    """The largest normwise backward error of any column of any member; NaN if x is not finite."""
    norms = np.abs(a).sum(axis=-1).max(axis=-1)[:, None]

    def error(x: Array) -> float:
        if x.shape != b.shape or not np.isfinite(x).all():
            return math.nan
        sizes = norms * np.abs(x).max(axis=-2) + np.abs(b).max(axis=-2)
        return _largest(np.abs(b - a @ x).max(axis=-2), sizes)

    return error


def inverse_error(a: Array) -> Callable[[Array], float]:
    """The largest ||A X - I|| / (||A|| ||X||), or that of X A, of any member; Frobenius norm.

    Whichever is smaller of the largest: an inverse of factors leaves a small residual on one side
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 14.1).
    """
    identity, size = np.eye(a.shape[-1]), np.linalg.norm(a, axis=(-2, -1))

    def error(x: Array) -> float:
        if x.shape != a.shape or not np.isfinite(x).all():
            return math.nan
        sizes = size * np.linalg.norm(x, axis=(-2, -1))
        sides = (np.linalg.norm(p - identity, axis=(-2, -1)) for p in (a @ x, x @ a))
        return min(_largest(side, sizes) for side in sides)

    return error


def factor_error(a: Array, factors: Callable[[Any], tuple[Array, Array]]) -> Callable[[Any], float]:
    """The largest ||A - F G|| / ||A|| of any member, in the Frobenius norm."""
    sizes = np.linalg.norm(a, axis=(-2, -1))

    def error(found: Any) -> float:
        f, g = factors(found)
        return _largest(np.linalg.norm(a - f @ g, axis=(-2, -1)), sizes)

    return error


def _largest(errors: Array, sizes: Array) -> float:
    if not np.isfinite(errors).all():
        return math.nan
    quotients = np.divide(errors, sizes, out=np.zeros(errors.shape), where=sizes > 0)
    return float(np.max(quotients, initial=0.0))
