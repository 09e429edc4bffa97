"""Finite elements by functions of an array library: what a backend without kernels does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fem import Array, Discretization

__all__ = ["ArrayElements", "from_elements", "node_windows", "to_elements"]

_CHUNK = 2**20
"""Factors that are computed at once."""


def node_windows(xp: Any, u: Array, cells: tuple[int, ...], n: int) -> Array:
    """A view of nodal values (k, ndof) by element, (k, nz, ny, nx, n, n, n); to be read alone."""
    grid = u.reshape(-1, *(c * (n - 1) + 1 for c in reversed(cells)))
    components, *steps = grid.strides
    shape = (len(grid), *reversed(cells), *(n,) * len(cells))
    strides = (components, *((n - 1) * step for step in steps), *steps)
    return xp.lib.stride_tricks.as_strided(grid, shape, strides)


def to_elements(xp: Any, u: Array, cells: tuple[int, ...], n: int) -> Array:
    """Nodal values (k, ndof) by element, (nelem, k, n, n, n), in memory of its own."""
    dim = len(cells)
    windows = xp.moveaxis(node_windows(xp, u, cells, n), 0, dim)
    found = xp.empty(windows.shape, u.dtype)
    found[...] = windows
    return found.reshape(math.prod(cells), windows.shape[dim], *(n,) * dim)


def from_elements(xp: Any, v: Array, cells: tuple[int, ...]) -> Array:
    """Sums over elements at the nodes, (k, ndof): the transpose of `to_elements`."""
    dim, k, n = len(cells), v.shape[1], v.shape[-1]
    v = xp.moveaxis(v.reshape(*reversed(cells), k, *(n,) * dim), dim, 0)
    for axis in range(dim):
        # cells that are left: dim - axis axes; nodes of this dimension: the first behind them
        v = xp.moveaxis(v, (1, 1 + dim - axis), (-2, -1))
        whole = xp.empty((*v.shape[:-2], v.shape[-2] * (n - 1) + 1), v.dtype)
        inner = v[..., :-1]
        whole[..., :-1] = inner.reshape(*inner.shape[:-2], -1)
        whole[..., -1] = 0
        whole[..., n - 1 :: n - 1] += v[..., -1]
        v = whole
    return v.reshape(k, math.prod(c * (n - 1) + 1 for c in cells))


class ArrayElements:
    """`mplinalg.ops.fem.Prepared` by products with the 1-D matrices, one dimension at a time.

    Factors are kept as (elements, count, q**dim): those of one element, if all have the same.
    """

    xp: Any = np

    def __init__(self, problem: Discretization, dtype: np.dtype) -> None:
        xp, self.dtype = self.xp, dtype
        self._kind, self._cells, self._components = problem.kind, problem.cells, problem.components
        self._count, q = math.prod(problem.cells), len(problem.slope)
        self._q, self._n = q, q if problem.interp is None else problem.interp.shape[1]
        # by rows, which an array keeps on its way to a device
        tables: list[Any] = [
            None if table is None else xp.asarray(np.ascontiguousarray(table, dtype))
            for table in (problem.interp, problem.slope)
        ]
        self._interp, self._slope = tables
        self._factors = self._computed(problem)

    def _computed(self, problem: Discretization) -> Array:
        known = 1 if problem.is_uniform else self._count
        first = problem.factors(np.zeros(1, np.int64)).swapaxes(1, 2)
        factors = self.xp.empty((known, *first.shape[1:]), self.dtype)
        step = max(1, _CHUNK // first[0].size)
        for start in range(0, known, step):
            elements = np.arange(start, min(start + step, known))
            values = problem.factors(elements).swapaxes(1, 2)
            with np.errstate(over="ignore"):  # to infinity
                rounded = values.astype(self.dtype)
            factors[start : start + step] = self.xp.asarray(rounded)
        return factors

    @property
    def nbytes(self) -> int:
        return int(self._factors.nbytes)

    @property
    def scratch_bytes(self) -> int:
        dim = len(self._cells)
        arrays = 3 if self._kind == "mass" else 3 + 2 * dim
        return arrays * self._count * self._components * self._q**dim * self.dtype.itemsize

    def factors(self, elements: NDArray[np.int64]) -> Array:
        if len(self._factors) == 1:
            shape = (len(elements), *self._factors.shape[1:])
            some = self.xp.broadcast_to(self._factors, shape)
        elif (np.diff(elements) == 1).all():  # a view
            some = self._factors[elements[0] : elements[-1] + 1]
        else:
            some = self._factors[self.xp.asarray(elements)]
        return some.swapaxes(1, 2)

    def apply(self, u: Array, out: Array) -> None:
        v = to_elements(self.xp, u, self._cells, self._n)
        out[...] = from_elements(self.xp, self._product(v), self._cells)

    def apply_local(self, u: Array, out: Array) -> None:
        out[...] = self._product(u)

    def _product(self, v: Array) -> Array:
        axes = range(len(self._cells))
        shape = (-1, 1, *(self._q,) * len(self._cells))
        factors = [self._factors[:, k].reshape(shape) for k in range(self._factors.shape[1])]
        for axis in axes if self._interp is not None else ():
            v = self._along(self._interp, v, axis)
        if self._kind == "mass":
            v = v * factors[0]
        else:
            slopes = [self._along(self._slope, v, axis) for axis in axes]
            pairs = [(a, b) for a in axes for b in axes if a <= b]
            entries = dict(zip(pairs, factors, strict=True))
            v = sum(
                self._along(
                    self._slope.T,
                    sum(entries[min(a, b), max(a, b)] * slopes[b] for b in axes), a,
                )
                for a in axes
            )  # fmt: skip
        for axis in axes if self._interp is not None else ():
            v = self._along(self._interp.T, v, axis)
        return v

    def _along(self, matrix: Array, v: Array, axis: int) -> Array:
        """The product with a matrix along `axis`, 0 for x, the last."""
        (m, n), place = matrix.shape, v.ndim - 1 - axis
        lead, trail = v.shape[:place], v.shape[place + 1 :]
        if axis == 0:
            product = self.xp.matmul(v.reshape(-1, n), matrix.T)
        else:
            product = self.xp.matmul(matrix, v.reshape(-1, n, math.prod(trail)))
        return product.reshape(*lead, m, *trail)
