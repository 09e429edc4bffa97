"""Problems of finite elements with random factors, and the kernels on them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mplinalg.kernels.cuda.catalogue import BY_NAME
from mplinalg.kernels.cuda.catalogue_fem import POINTS, elements_at_once
from mplinalg.ops.array_fem import ArrayElements
from mplinalg.ops.fem import Discretization

from .module import LaunchError

KINDS = {"f": "float", "d": "double"}
U = {"f": 2.0**-24, "d": 2.0**-53}


class Elements:
    """`count` components on a box of cells with n nodes and q points in a dimension.

    Tables are random, and not those of polynomials, but for points that are the nodes.
    """

    def __init__(
        self, rng: np.random.Generator, kind: str, cells: tuple[int, ...], n: int, q: int,
        dtype: str, *, components: int = 2, collocated: bool = False, uniform: bool = False,
    ) -> None:  # fmt: skip
        self.kind, self.cells, self.n, self.q = kind, cells, n, q
        self.components, self.dtype = components, np.dtype(dtype)
        self.dim, self.count = len(cells), math.prod(cells)
        numbers = 1 if kind == "mass" else self.dim * (self.dim + 1) // 2
        stored = rng.standard_normal((1 if uniform else self.count, numbers, q**self.dim))
        interp = None if collocated else rng.standard_normal((q, n))
        slope = rng.standard_normal((q, q))

        def factors(elements: Any) -> np.ndarray:
            some = np.zeros_like(elements) if uniform else elements
            return stored[some].swapaxes(1, 2)

        problem = Discretization(kind, cells, components, interp, slope, factors, uniform)
        self.reference = ArrayElements(problem, np.dtype(np.float64))
        self.interp = None if interp is None else interp.astype(dtype)
        self.slope, self.factors = slope.astype(dtype), stored.astype(dtype)
        self.stride = 0 if uniform else numbers * q**self.dim

    @property
    def name(self) -> str:
        """Of the instance."""
        most = next(s for s in POINTS[self.dim] if s >= self.q)
        return f"fem_{self.kind}<{KINDS[self.dtype.char]}, {self.dim}, {most}>"

    @property
    def nodes(self) -> tuple[int, ...]:
        """Along x, y, z."""
        return tuple(c * (self.n - 1) + 1 for c in self.cells)

    def local(self, rng: np.random.Generator) -> np.ndarray:
        """Values at the nodes of each element."""
        shape = (self.count, self.components, *(self.n,) * self.dim)
        return rng.standard_normal(shape).astype(self.dtype)

    def launch(self, module: Any, u: np.ndarray, out: np.ndarray, **options: Any) -> None:
        """`u` and `out` by element."""
        size = self.n**self.dim
        step = self.components * size
        layout = step, step * self.cells[0], step * math.prod(self.cells[:2]), self.n, self.n**2
        self._launch(module, u, (*layout, size), out, None, **options)

    def is_the_same_far(self, module: Any, rng: np.random.Generator, folder: Path) -> bool:
        """With elements, components and planes of nodes 2^31 numbers and more apart.

        Memory is that of files with holes, of which a page is there when it is touched.
        """
        u, step = self.local(rng), 2**31 + 64
        self.launch(module, u, near := np.empty_like(u))
        across = self.count * step, self.components * self.count * step
        cx, cy = self.cells[:2]
        layout = step, step * cx, step * cx * cy, self.n, across[1], across[0]
        steps = step, across[0], across[1], self.n, 1
        memories, views = [], []
        for name in ("u", "out"):
            span = 1 + sum(s * (size - 1) for s, size in zip(steps, u.shape, strict=True))
            memories.append(np.memmap(folder / name, u.dtype, "w+", shape=(span,)))
            strides = [s * u.itemsize for s in steps]
            views.append(np.ndarray(u.shape, u.dtype, memories[-1], strides=strides))
        views[0][...] = u
        self._launch(module, memories[0], layout, memories[1], None)
        np.testing.assert_array_equal(views[1], near)
        for name in ("u", "out"):
            (folder / name).unlink()
        return True

    def launch_shared(
        self, module: Any, u: np.ndarray, out: np.ndarray, shares: np.ndarray, **options: Any
    ) -> None:
        """`u` and `out` by node, (components, ndof); what is on surfaces to `shares`."""
        p, (nx, ny) = self.n - 1, self.nodes[:2]
        layout = p, p * nx, p * nx * ny, nx, nx * ny, math.prod(self.nodes)
        self._launch(module, u, layout, out, shares, **options)

    def _launch(
        self, module: Any, u: np.ndarray, layout: Any, out: np.ndarray, shares: Any,
        **options: Any,
    ) -> None:  # fmt: skip
        kernel = BY_NAME[self.name]
        tables = [self.interp] if self.kind == "mass" else [self.interp, self.slope]
        each = elements_at_once(int(self.name.rpartition(", ")[2][:-1]))
        arguments = [
            self.count, self.components, self.n, self.q, *tables, self.factors, self.stride, u,
            *self.cells[:2], *layout, out, shares,
        ]  # fmt: skip
        module[self.name](
            -(-self.count // each), kernel.threads, arguments, shared=kernel.dynamic, **options
        )

    def is_near(self, found: np.ndarray, u: np.ndarray) -> bool:
        """To the rounding errors of sums of q^dim products or fewer, three after each other."""
        expected = np.empty(u.shape)
        self.reference.apply_local(u.astype(float), expected)
        sums = 2 * self.dim + (0 if self.kind == "mass" else 2)
        size = abs(expected).max()
        assert abs(found - expected).max() <= 4 * sums * self.q * U[self.dtype.char] * size
        return True


def surface(n: int, dim: int) -> np.ndarray:
    """Which nodes of an element are on its surface, of shape (n, ..., n)."""
    on_it = np.ones((n,) * dim, bool)
    on_it[(slice(1, -1),) * dim] = False
    return on_it


def places(elements: Elements) -> np.ndarray:
    """The numbers of the nodes of each element, (count, n^dim)."""
    grid = np.arange(np.prod(elements.nodes)).reshape(elements.nodes[::-1])
    p, n = elements.n - 1, elements.n
    cells = np.ndindex(*elements.cells[::-1])
    return np.array([grid[tuple(slice(k * p, k * p + n) for k in cell)].ravel() for cell in cells])


def reached(cases: Any) -> set[tuple[int, int]]:
    """Dimensions and points of the instances that (cells, n, q, ...) are computed by."""
    return {(len(cells), min(s for s in POINTS[len(cells)] if s >= q)) for cells, _, q, *_ in cases}


def is_caught(elements: Elements, module: Any, rng: np.random.Generator) -> bool:
    """Whether a kernel that was broken fails under a schedule."""
    u = elements.local(rng)
    for schedule in ("forward", "reverse", 1):
        try:
            elements.launch(module, u, np.empty_like(u), schedule=schedule)
        except LaunchError:
            return True
    return False
