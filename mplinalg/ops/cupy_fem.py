"""Finite elements on a device: kernels of the library; functions of CuPy where there are none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from ..kernels.cuda import elements
from ..kernels.cuda.layout import require_one_device
from .array_fem import ArrayElements
from .fem import Array, Discretization

__all__ = ["CupyElements", "CupyFem"]


class CupyFem:
    """`mplinalg.ops.fem.FemOps` on CuPy arrays."""

    xp = cupy

    def prepare(self, problem: Discretization, dtype: np.dtype) -> CupyElements:
        return CupyElements(problem, np.dtype(dtype))

    def linear_operator(
        self, shape: tuple[int, int], product: Callable[[Array], Array], dtype: np.dtype
    ) -> Any:
        from cupyx.scipy.sparse.linalg import LinearOperator

        return LinearOperator(shape, product, rmatvec=product, dtype=dtype)

    def dot(self, x: Array, y: Array) -> float:
        if elements.has_vectors(x.dtype):
            return elements.dot(x, y)
        return float((x.astype(np.float64) * y).sum())

    def descend(
        self, alpha: float, p: Array, q: Array, x: Array, r: Array, w: Array
    ) -> tuple[float, float]:
        if elements.has_vectors(x.dtype):
            return elements.descend(alpha, p, q, x, r, w)
        x += x.dtype.type(alpha) * p
        r -= x.dtype.type(alpha) * q
        squares = r.astype(np.float64) ** 2
        return float(squares.sum()), float((w * squares).sum())

    def turn(self, beta: float, r: Array, w: Array, p: Array) -> None:
        if elements.has_vectors(p.dtype):
            elements.turn(beta, r, w, p)
        else:
            p *= p.dtype.type(beta)
            p += w * r


class CupyElements(ArrayElements):
    """`mplinalg.ops.fem.Prepared`: a block of threads for a few elements."""

    xp = cupy

    def __init__(self, problem: Discretization, dtype: np.dtype) -> None:
        super().__init__(problem, dtype)
        self._box = elements.Box(problem.kind, problem.cells, problem.components, self._n, self._q)
        self._operands = elements.Operands(self._interp, self._slope, self._factors)
        # whoever uses them on another stream does not know what was begun on this one
        cupy.cuda.get_current_stream().synchronize()

    @functools.cached_property
    def _has_kernels(self) -> bool:
        return self._box.is_taken(self.dtype)

    @property
    def scratch_bytes(self) -> int:
        if not self._has_kernels:
            return super().scratch_bytes
        return self._count * self._components * self._box.surface * self.dtype.itemsize

    def apply(self, u: Array, out: Array) -> None:
        require_one_device(u, out, self._slope)
        if self._has_kernels:
            elements.apply(self._box, self._operands, u, out)
        else:
            super().apply(u, out)

    def apply_local(self, u: Array, out: Array) -> None:
        require_one_device(u, out, self._slope)
        if self._has_kernels:
            elements.apply_local(self._box, self._operands, u, out)
        else:
            super().apply_local(u, out)
