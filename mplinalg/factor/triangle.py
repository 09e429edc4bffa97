"""R in working precision: estimates of its condition, and products with its inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops.protocol import Ops

Array = Any

_POWER_STEPS, _POWER_COLUMNS = 2, 4
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class Triangle:
    """R in working precision and what is known of its singular values.

    `largest` and `smallest` are estimates of the extreme singular values by power iteration
    from a few random vectors: both lie inside the spectrum, the smallest rarely above three times
    the true one (Dixon, SIAM J. Numer. Anal. 20 (1983) 812, bounds how rarely).
    """

    ops: Ops
    r: Array
    largest: float
    smallest: float

    @classmethod
    def of(cls, ops: Ops, r: Array) -> Triangle:
        """R, upper triangular with zeros below its diagonal, and estimates of its extremes."""
        xp, n = ops.xp, r.shape[0]
        if n == 0:
            return cls(ops, r, 1.0, 1.0)
        up = random_columns(ops, n, min(_POWER_COLUMNS, n), r.dtype)
        down = up
        seen = []
        with np.errstate(all="ignore"):
            for _ in range(_POWER_STEPS):
                # ||R z|| / ||z||, z <- R^H R z
                up = xp.asfortranarray(up / xp.linalg.norm(up, axis=0))
                product = xp.zeros_like(up)
                ops.gemm(1.0, r, up, 0.0, product)
                seen.append(xp.linalg.norm(product, axis=0).max())
                # ||z|| / ||R^-H z||, z <- R^-1 R^-H z
                down = xp.asfortranarray(down / xp.linalg.norm(down, axis=0))
                ops.trsm("L", r, down, lower=False, trans="C")
                seen.append(xp.linalg.norm(down, axis=0).max())
                ops.gemm(1.0, r, product, 0.0, up, transa="C")
                ops.trsm("L", r, down, lower=False)
        sizes = iter(xp.stack(seen).tolist())  # the only wait for a device
        largest = smallest = 0.0
        for largest, inverse in zip(sizes, sizes, strict=True):
            if not (math.isfinite(largest) and 0 < inverse < math.inf):
                return cls(ops, r, largest, 0.0)
            smallest = 1 / inverse
        return cls(ops, r, largest, smallest)

    @property
    def rcond(self) -> float:
        """Estimated reciprocal 2-norm condition number."""
        return self.smallest / self.largest if 0 < self.largest < math.inf else 0.0

    def equilibrated(self) -> float:
        """`rcond` of R with its columns scaled to norm 1."""
        unit = unit_columns_of(self.ops, self.r)
        return 0.0 if unit is None else Triangle.of(self.ops, unit).rcond

    def solve(self, b: Array, trans: str = "N") -> None:
        """b <- R^-1 b, or R^-H b with trans="C"."""
        self.ops.trsm("L", self.r, b, lower=False, trans=trans)


def random_columns(ops: Ops, n: int, count: int, dtype: Any) -> Array:
    """Normally distributed, and the same whenever n is.

    Drawn on the host, and n times `count` numbers brought to a device: a generator of CuPy begins
    by setting up states for many thousand threads.
    """
    columns = np.random.default_rng(n).standard_normal((n, count))
    return ops.xp.asarray(columns.astype(dtype))


def unit_columns_of(ops: Ops, r: Array) -> Array | None:
    """R with columns scaled to norm 1; None where one is zero or not finite."""
    xp = ops.xp
    if r.size == 0:
        return r
    size = abs(r).max(axis=0)
    if not bool((xp.isfinite(size) & (size > 0)).all()):
        return None
    unit = r / size
    unit /= xp.linalg.norm(unit, axis=0)
    return unit


def divide(ops: Ops, a: Array, r: Array) -> None:
    """A <- A R^-1, R upper triangular (n, n), A (m, n) with m >= n.

    m n^2 flops. By halves down to blocks whose diagonal is inverted, so that all of it is products
    of matrices: BLAS's trsm stays well below their rate for a triangle on the right. Each row x
    satisfies x (R + E) = a, E of order n u |R| times the condition numbers of the diagonal blocks
    (Higham 2002, section 8.2 and problem 8.8), which are small beside that of R.
    """
    n = r.shape[0]
    if n > _BLOCK:
        half = (n // 2 + _BLOCK - 1) // _BLOCK * _BLOCK
        # A1 <- A1 R11^-1,  A2 <- (A2 - A1 R12) R22^-1
        divide(ops, a[:, :half], r[:half, :half])
        ops.gemm(-1.0, a[:, :half], r[:half, half:], 1.0, a[:, half:])
        divide(ops, a[:, half:], r[half:, half:])
        return
    xp = ops.xp
    inverse = xp.eye(n, dtype=r.dtype, order="F")
    ops.trsm("L", r, inverse, lower=False)
    image = xp.empty_like(a)
    ops.gemm(1.0, a, inverse, 0.0, image)
    a[...] = image


def triangular_product(ops: Ops, left: Array, right: Array, block: int = 128) -> Array:
    """L R of two upper triangles, 2/3 n^3 flops."""
    xp, n = ops.xp, left.shape[0]
    out = xp.zeros((n, n), left.dtype, order="F")
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        ops.gemm(1.0, left[rows, start:], right[start:, start:], 0.0, out[rows, start:])
    return xp.triu(out)
