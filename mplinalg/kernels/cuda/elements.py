"""Finite elements and their vectors, by the kernels fem_*.cu."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cupy
import numpy as np

from . import fallbacks, loader
from .catalogue_fem import POINTS, elements_at_once
from .layout import Array
from .lines import TYPES, grid
from .loader import KernelUnavailable

_MOST = 2**30
"""Elements, rows of nodes along x, and nodes of one, whose numbers and next ones have 31 bits."""
_PARTS, _PART = 1024, 4096
"""The most parts of a sum over a vector, and the least numbers of one."""


@dataclass(frozen=True)
class Box:
    """Elements with n nodes and q points in a dimension on a box of cells.

    Attributes
    ----------
    kind : {"mass", "diffusion"}
    cells : tuple of int
        Along x, y, z, as many as there are dimensions.
    components, n, q : int
    """

    kind: str
    cells: tuple[int, ...]
    components: int
    n: int
    q: int

    @property
    def nodes(self) -> tuple[int, ...]:
        """Of the box along x, y, z."""
        return tuple(k * (self.n - 1) + 1 for k in self.cells)

    @property
    def surface(self) -> int:
        """Nodes on the surface of an element."""
        dim, n = len(self.cells), self.n
        return n**dim - max(n - 2, 0) ** dim

    @property
    def most(self) -> int:
        """Points of the instance for such elements."""
        return next(q for q in POINTS[len(self.cells)] if q >= self.q)

    def instance(self, dtype: np.dtype) -> str:
        """The kernel for such elements."""
        return f"fem_{self.kind}<{TYPES[dtype.char]}, {len(self.cells)}, {self.most}>"

    def is_taken(self, dtype: np.dtype) -> bool:
        """Whether kernels are for such elements, and can be had; if not that, a note says why."""
        dim = len(self.cells)
        sizes = math.prod(self.cells), math.prod(self.nodes[1:]) * self.components, self.nodes[0]
        if dim not in POINTS or self.q > POINTS[dim][-1] or max(sizes) >= _MOST:
            return False
        return _can_be_had(self.instance(dtype), self.join(dtype))

    def join(self, dtype: np.dtype) -> str:
        """The kernel that sums over elements."""
        return f"fem_join<{TYPES[dtype.char]}, {len(self.cells)}>"


@dataclass(frozen=True)
class Operands:
    """What does not change from product to product, on the device, in one dtype.

    Attributes
    ----------
    interp : array, shape (q, n), or None
    slope : array, shape (q, q)
    factors : array, shape (elements, count, q**dim)
        Of one element if all have the same.
    """

    interp: Array | None
    slope: Array
    factors: Array


def apply(box: Box, operands: Operands, u: Array, out: Array) -> None:
    """out <- A u on nodal values, shape (components, ndof)."""
    p, (nx, ny) = box.n - 1, box.nodes[:2]
    shares = cupy.empty((math.prod(box.cells), box.components, box.surface), u.dtype)
    layout = (p, p * nx, p * nx * ny, nx, nx * ny, math.prod(box.nodes))
    _launch(box, operands, u, layout, out, shares)
    rows = math.prod(box.nodes[1:]) * box.components
    cells = (*box.cells, 1)[:3]
    loader.launch(box.join(u.dtype), grid(rows * nx), box.components, p, *cells, shares, out)


def apply_local(box: Box, operands: Operands, u: Array, out: Array) -> None:
    """out <- A_e u_e for every element, shape (nelem, components, n, ..., n)."""
    n, size = box.n, box.n ** len(box.cells)
    step = box.components * size
    layout = (step, step * box.cells[0], step * math.prod(box.cells[:2]), n, n * n, size)
    _launch(box, operands, u, layout, out, None)


def _launch(
    box: Box, operands: Operands, u: Array, layout: tuple[int, ...], out: Array,
    shares: Array | None,
) -> None:  # fmt: skip
    count = math.prod(box.cells)
    tables = (operands.interp, operands.slope) if box.kind == "diffusion" else (operands.interp,)
    factors = operands.factors
    stride = factors[0].size if len(factors) > 1 else 0
    loader.launch(
        box.instance(u.dtype), -(-count // elements_at_once(box.most)), count, box.components,
        box.n, box.q, *tables, factors, stride, u, *box.cells[:2], *layout, out, shares,
    )  # fmt: skip


def _can_be_had(*names: str) -> bool:
    """Whether the device takes kernels; if not, a note says why."""
    try:
        for name in names:
            loader.load(name)
    except KernelUnavailable as reason:
        fallbacks.note(reason)
        return False
    return True


# -- vectors, flat and contiguous -----------------------------------------------------------------


def has_vectors(dtype: np.dtype) -> bool:
    """Whether there are kernels for vectors of that dtype."""
    kind = TYPES[dtype.char]
    return _can_be_had(f"fem_dot<{kind}>", f"fem_descend<{kind}>", f"fem_turn<{kind}>")


def dot(x: Array, y: Array) -> float:
    """x' y in double precision."""
    parts = cupy.empty(_parts(x))
    loader.launch(f"fem_dot<{TYPES[x.dtype.char]}>", parts.size, x.size, x, y, parts)
    return float(parts.get().sum())


def descend(alpha: float, p: Array, q: Array, x: Array, r: Array, w: Array) -> tuple[float, float]:
    """x += alpha p and r -= alpha q; returns r' r and r' diag(w) r."""
    parts = cupy.empty((_parts(x), 2))
    loader.launch(
        f"fem_descend<{TYPES[x.dtype.char]}>", len(parts), x.size, alpha, p, q, x, r, w, parts
    )
    square, weighted = parts.get().sum(axis=0)
    return float(square), float(weighted)


def turn(beta: float, r: Array, w: Array, p: Array) -> None:
    """p <- diag(w) r + beta p."""
    loader.launch(f"fem_turn<{TYPES[p.dtype.char]}>", grid(p.size), p.size, beta, r, w, p)


def _parts(x: Array) -> int:
    return int(min(max(-(-x.size // _PART), 1), _PARTS))
