"""Problems of finite elements with random factors, and the kernels on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mplinalg.kernels.cuda.catalogue import BY_NAME
from mplinalg.kernels.cuda.catalogue_fem import POINTS
from mplinalg.ops.array_fem import ArrayElements
from mplinalg.ops.fem import Discretization

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

    def launch_far(self, module: Any, u: np.ndarray, out: np.ndarray, step: int) -> None:
        """`u` and `out` by element, flat; elements, components and planes `step` numbers apart."""
        cx, cy = self.cells[:2]
        across = self.count * step, self.components * self.count * step
        layout = step, step * cx, step * cx * cy, self.n, across[1], across[0]
        self._launch(module, u, layout, out, None)

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
        each = 256 // int(self.name.rpartition(", ")[2][:-1]) ** 2
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
