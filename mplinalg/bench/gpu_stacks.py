"""`stacks` on a GPU: many small matrices drawn and answers judged there, in double precision.

Members are looked at some at a time, so that little memory is needed beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mplinalg.bench.gpu_problems import normal

__all__ = ["positive_definite", "product_error", "solve_error"]

Array = Any
_AT_ONCE = 2**24
"""Numbers of a stack that are looked at together."""


def positive_definite(rng: np.random.Generator, batch: int, n: int, dtype: DTypeLike) -> Array:
    """As `stacks.positive_definite`."""
    import cupy

    a = normal(rng, (batch, n, n), dtype)
    identity = cupy.eye(n, dtype=a.dtype)
    for some in _parts(a):
        g = a[some]
        h = g @ g.conj().swapaxes(1, 2)
        a[some] = (h + h.conj().swapaxes(1, 2)) / (2 * n) + identity / 100
    return a


def product_error(a: Array, b: Array) -> Callable[[Array], float]:
    """As `stacks.product_error`; NaN for a C that is no array of this device of the right shape."""
    import cupy

    shape = (*a.shape[:-1], b.shape[-1])

    def error(c: Array) -> float:
        if not isinstance(c, cupy.ndarray) or c.shape != shape:
            return math.nan
        found = []
        for some in _parts(a):
            left, right = _wide(a[some]), _wide(b[some])
            size = cupy.abs(left) @ cupy.abs(right)
            found.append(_largest(cupy.abs(_wide(c[some]) - left @ right), size))
        return _most(found)

    return error


def solve_error(a: Array, b: Array) -> Callable[[Array], float]:
    """As `stacks.solve_error`; NaN for an x that is no array of this device of the right shape."""
    import cupy

    def error(x: Array) -> float:
        if not isinstance(x, cupy.ndarray) or x.shape != b.shape:
            return math.nan
        found = []
        for some in _parts(a):
            matrix, y, right = _wide(a[some]), _wide(x[some]), _wide(b[some])
            norms = cupy.abs(matrix).sum(axis=-1).max(axis=-1)[:, None]
            size = norms * cupy.abs(y).max(axis=-2) + cupy.abs(right).max(axis=-2)
            found.append(_largest(cupy.abs(right - matrix @ y).max(axis=-2), size))
        return _most(found)

    return error


def _parts(a: Array) -> Iterator[slice]:
    """Members, so many at a time."""
    step = max(1, _AT_ONCE // max(math.prod(a.shape[1:]), 1))
    return (slice(first, first + step) for first in range(0, len(a), step))


def _wide(x: Array) -> Array:
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64, copy=False)


def _largest(errors: Array, sizes: Array) -> Array:
    """The largest quotient, 0 where both are; NaN if an error is not finite."""
    import cupy

    quotients = cupy.where(sizes > 0, errors / sizes, errors)
    return cupy.where(cupy.isfinite(errors).all(), quotients.max(), math.nan)


def _most(found: list[Array]) -> float:
    import cupy

    return float(cupy.stack(found).max())  # NaN if one is
