"""Finite elements on the CPU: a lane for each element, threads over slabs of a mesh."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu.batched.threads import GRAIN, run_chunks
from ..kernels.cpu.fem.groups import make_groups
from .fem import Discretization

Array = NDArray[Any]

_REGISTER = 64
"""Bytes of a register, and of a line of memory."""
_CHUNK = 2**17
"""Factors that are computed at once."""
_RATE = 2e8
"""Nodal values a second that one thread is good for, by which threads are woken."""
_PART = 2**14
"""Entries of a vector that are summed up at once."""
_VECTOR_RATE = 1e9
"""Entries a second."""


class NumpyFem:
    """`mplinalg.ops.fem.FemOps` on NumPy arrays."""

    xp = np

    def prepare(self, problem: Discretization, dtype: np.dtype) -> NumpyElements:
        return NumpyElements(problem, np.dtype(dtype))

    def linear_operator(
        self, shape: tuple[int, int], product: Callable[[Array], Array], dtype: np.dtype
    ) -> Any:
        from scipy.sparse.linalg import LinearOperator

        return LinearOperator(shape, product, rmatvec=product, dtype=dtype)

    def dot(self, x: Array, y: Array) -> float:
        from ..kernels.cpu.fem import vectors

        parts = np.empty(-(-x.size // _PART))
        _by_parts(x.size, lambda *some: vectors.dot_parts(x, y, _PART, parts, *some))
        return float(parts.sum())

    def descend(
        self, alpha: float, p: Array, q: Array, x: Array, r: Array, w: Array
    ) -> tuple[float, float]:
        from ..kernels.cpu.fem import vectors

        step = x.dtype.type(alpha)
        parts = np.empty((-(-x.size // _PART), 2))
        _by_parts(
            x.size,
            lambda *some: vectors.descend_parts(step, p, q, x, r, w, _PART, parts, *some),
        )
        return float(parts[:, 0].sum()), float(parts[:, 1].sum())

    def turn(self, beta: float, r: Array, w: Array, p: Array) -> None:
        from ..kernels.cpu.fem import vectors

        factor = p.dtype.type(beta)
        _by_parts(p.size, lambda *some: vectors.turn_parts(factor, r, w, p, _PART, *some))


def _by_parts(size: int, work: Callable[[int, int], Any]) -> None:
    """``work(first, last)`` for the parts of a vector, on several threads."""
    parts = -(-size // _PART)
    _run_each(work, parts, _PART / _VECTOR_RATE)


def _run_each(work: Callable[[int, int], Any], count: int, seconds: float) -> None:
    """``work(first, last)`` for ranges of `count` things that take so many seconds each.

    `run_chunks` cuts at multiples of GRAIN: each thing counts as so many.
    """

    def several(first: int, last: int) -> None:
        work(first // GRAIN, last // GRAIN)

    run_chunks(several, count * GRAIN, seconds / GRAIN)


class NumpyElements:
    """`mplinalg.ops.fem.Prepared` in compiled kernels.

    The factors are kept as the kernels read them, a register for each point and factor. A mesh with
    fewer elements than a register has lanes is computed in a copy with as many.
    """

    def __init__(self, problem: Discretization, dtype: np.dtype) -> None:
        from ..kernels.cpu.fem.lines import halves

        cells, q = problem.cells, len(problem.slope)
        n = q if problem.interp is None else problem.interp.shape[1]
        self.dtype = dtype
        self._kind, self._components = problem.kind, problem.components
        self._dim, self._count, self._cells, self._n = len(cells), math.prod(cells), cells, n
        self._sizes = self._dim, n, 0 if problem.interp is None else q
        interp = np.eye(n) if problem.interp is None else problem.interp
        self._tables = tuple(
            halves(matrix, sign).ravel().astype(dtype)
            for matrix, sign in (
                (interp, 1), (interp.T, 1), (problem.slope, -1), (problem.slope.T, -1)
            )
        )  # fmt: skip
        self._width = _REGISTER // dtype.itemsize
        self._is_tiny = self._count < self._width
        self._groups = make_groups((self._width,) if self._is_tiny else cells, self._width)
        edges = [start for start, _ in self._groups.slabs] + [len(self._groups.elements)]
        self._edges = np.array(edges)
        self._joined = self._groups.joined.ravel()
        self._pack(problem)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy: arrays come back from `pickle` and `copy` without their alignment."""
        self.__dict__.update(state)
        self._factors = _aligned(state["_factors"].size, self.dtype)
        self._factors[:] = state["_factors"]

    # -- the factors ------------------------------------------------------------------------------

    def _pack(self, problem: Discretization) -> None:
        from ..kernels.cpu.fem.packing import pack

        elements = np.minimum(self._groups.elements, self._count - 1)
        counted = self._groups.counted & (self._groups.elements < self._count)
        groups, width = counted.shape
        partial = np.flatnonzero(~counted.all(axis=1))
        if problem.is_uniform:  # groups whose lanes all count have one block in common
            self._block = np.zeros(groups, np.int64)
            self._block[partial] = 1 + np.arange(partial.size)
            chunks = [np.zeros((1 + partial.size, width), np.int64)]
        else:
            self._block = np.arange(groups)
            points = problem.factors(elements[0, :1]).size
            step = max(1, _CHUNK // (points * width))
            chunks = [elements[start : start + step] for start in range(0, groups, step)]
        blocks, done = int(self._block.max()) + 1, 0
        for chunk in chunks:
            values = problem.factors(chunk.ravel())
            if not done:
                self._shape = values.shape[1:]
                size = math.prod(self._shape)
                self._factors = _aligned(blocks * size * width, self.dtype)
                lanes = self._factors.reshape(blocks, size, width)
            values = np.ascontiguousarray(values).reshape(*chunk.shape, size)
            pack(values, lanes[done : done + len(chunk)])
            done += len(chunk)
        for g in partial:
            lanes[self._block[g]][:, ~counted[g]] = 0
        self._places = np.append(self._block, self._block[-1]) * size
        self._slot = np.empty(self._count, np.int64)
        self._slot[self._groups.elements[counted]] = np.flatnonzero(counted)

    @property
    def scratch_bytes(self) -> int:
        return 0  # a workspace of the size of a few elements for each thread

    def factors(self, elements: NDArray[np.int64]) -> Array:
        group, lane = np.divmod(self._slot[elements], self._width)
        lanes = self._factors.reshape(-1, math.prod(self._shape), self._width)
        return lanes[self._block[group], :, lane].reshape(len(elements), *self._shape)

    @property
    def nbytes(self) -> int:
        """Of the factors."""
        return self._factors.nbytes

    # -- applying ---------------------------------------------------------------------------------

    def apply(self, u: Array, out: Array) -> None:
        out[...] = 0
        if not self._is_tiny:
            self._run(1, u, self._global, out, self._global)
            return
        origin, rows = _nodes(self._cells, self._n)
        places = (rows[:, None] + np.arange(self._n)).ravel()
        places = origin(np.arange(self._count))[:, None] + places
        local = np.ascontiguousarray(np.moveaxis(u[:, places], 1, 0))
        self.apply_local(local, result := np.empty_like(local))
        for element, values in zip(places, result, strict=True):
            out[:, element] += values

    def apply_local(self, u: Array, out: Array) -> None:
        if self._is_tiny:
            padded = np.zeros((self._width, *u.shape[1:]), self.dtype)
            padded[: self._count] = u
            self._run(0, padded, self._local, result := np.empty_like(padded), self._local)
            out[...] = result[: self._count]
        else:
            self._run(0, u, self._local, out, self._local)

    @functools.cached_property
    def _local(self) -> _Layout:
        nodes = self._n**self._dim
        first = self._groups.elements * (nodes * self._components)
        return _Layout(_and_one_more(first), np.arange(0, nodes, self._n), nodes)

    @functools.cached_property
    def _global(self) -> _Layout:
        origin, rows = _nodes(self._cells, self._n)
        ndof = math.prod(k * (self._n - 1) + 1 for k in self._cells)
        return _Layout(_and_one_more(origin(self._groups.elements)), rows, ndof)

    def _run(self, adds: int, u: Array, source: _Layout, out: Array, target: _Layout) -> None:
        """Slabs on several threads; if they add to `out`, first every other one, then the rest."""
        from ..kernels.cpu.fem import operators

        is_mass = self._kind == "mass"
        kernel_for = operators.mass_kernel if is_mass else operators.diffusion_kernel
        kernel = kernel_for(*self._sizes, adds)
        u, out = u.reshape(-1), out.reshape(-1)
        slabs, step = len(self._edges) - 1, 2 if adds else 1
        for begin in range(step):
            count = len(range(begin, slabs, step))

            def work(first: int, last: int, begin: int = begin) -> None:
                kernel(
                    u, *source, out, *target, self._joined, self._components, self._tables,
                    self._factors, self._places, self._edges,
                    begin + step * first, begin + step * last, step,
                )  # fmt: skip

            _run_each(work, count, len(u) / slabs / _RATE)


class _Layout(NamedTuple):
    """Where the nodes of elements are in a flat array.

    Attributes
    ----------
    first : ndarray, shape ((groups + 1) * width,)
        The first node of each element; one group more is named, and only asked for.
    row : ndarray, shape (n ** (dim - 1),)
        From there to each row along x.
    stride : int
        To the next component.
    """

    first: NDArray[np.int64]
    row: NDArray[np.int64]
    stride: int


def _and_one_more(first: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([first, first[-1:]]).ravel()


def _nodes(
    cells: tuple[int, ...], n: int
) -> tuple[Callable[[NDArray[np.int64]], NDArray[np.int64]], NDArray[np.int64]]:
    """The first global node of elements as a function of their numbers, and the rows from there."""
    steps = [1]  # of a node, along x, y, z
    for k in cells[:-1]:
        steps.append(steps[-1] * (k * (n - 1) + 1))

    def origin(elements: NDArray[np.int64]) -> NDArray[np.int64]:
        first = np.zeros_like(elements)
        for k, step in zip(cells, steps, strict=True):
            elements, along = np.divmod(elements, k)
            first += along * (n - 1) * step
        return first

    row = np.zeros(1, np.int64)
    for step in steps[1:]:
        row = (np.arange(n)[:, None] * step + row).ravel()
    return origin, row


def _aligned(count: int, dtype: np.dtype) -> Array:
    """`count` numbers from an address that is a multiple of a register."""
    space = np.empty(count + _REGISTER // dtype.itemsize, dtype)
    skipped = -space.ctypes.data % _REGISTER // dtype.itemsize
    return space[skipped : skipped + count]
