"""Norms for condition numbers, of which the host hears when they are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from .layout import Array

_STEPS = 2
"""Nobody can stop earlier without waiting for the device."""
_BLOCK = 512


def inverse_norm1(
    n: int, dtype: Any, solve: Callable[[Array], None], solve_h: Callable[[Array], None]
) -> Array:
    """A lower bound, rarely below a third, of ||A^-1||_1, which stays on the device.

    The solves, x <- A^-1 x and x <- A^-H x, are in place. As `factor.condest.inverse_norm1`, but
    for the number of steps, which is fixed: so nobody waits for the device in between.

    References
    ----------
    Higham, ACM Trans. Math. Softw. 14 (1988) 381, algorithm 2 (LAPACK's xLACN2).
    """
    places = cupy.arange(n)
    x = cupy.empty((n, 2), dtype, order="F")
    x[:, 0] = 1.0 / n
    x[:, 1] = (1 + places / max(n - 1, 1)) * cupy.where(places % 2, -1.0, 1.0)
    solve(x)
    first, alternating = abs(x).sum(axis=0, dtype=np.float64)
    estimate = cupy.maximum(first, 2.0 / (3.0 * n) * alternating)
    y = x[:, :1]
    for _ in range(_STEPS):
        size = abs(y)
        is_normal = size >= np.finfo(size.dtype).tiny  # y / |y| overflows for subnormal complex y
        z = cupy.asfortranarray(
            cupy.where(is_normal, y / cupy.where(is_normal, size, 1), 1).astype(dtype)
        )
        solve_h(z)
        y = cupy.asfortranarray((places == abs(z[:, 0]).argmax())[:, None].astype(dtype))
        solve(y)
        estimate = cupy.maximum(estimate, abs(y).sum(dtype=np.float64))
    return estimate


def triangle_norm1(r: Array, lower: bool) -> Array:
    """The 1-norm of a triangle, on the device; the other one is not read."""
    n = len(r)
    norms = []
    for start in range(0, n, _BLOCK):
        k = slice(start, min(start + _BLOCK, n))
        diagonal = (cupy.tril if lower else cupy.triu)(r[k, k])
        beside = r[k.stop :, k] if lower else r[:start, k]
        sums = abs(diagonal).sum(axis=0, dtype=np.float64)
        norms.append((sums + abs(beside).sum(axis=0, dtype=np.float64)).max())
    return cupy.stack(norms).max()
