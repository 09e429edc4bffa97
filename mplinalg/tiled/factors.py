"""Factors in tiles on a slower level of memory, ready to solve."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..factor.blocks import column_scale
from ..factor.condest import inverse_norm1
from ..factor.scaling import Scaling
from ..ops.protocol import Array, Counters, Ops
from ..precision import Format
from .columns import cholesky_solve_columns, lu_solve_columns
from .grid import Grid
from .local import LocalExecutor
from .store import Overlay, Store
from .tasks import Key, Program
from .traffic import Traffic
from .triangles import cholesky_solve_program, lu_solve_program

__all__ = ["SOLVERS", "TiledFactors"]

SOLVERS: dict[tuple[str, str], Callable[..., Program]] = {
    ("tiles", "LU"): lu_solve_program, ("tiles", "Cholesky"): cholesky_solve_program,
    ("columns", "LU"): lu_solve_columns, ("columns", "Cholesky"): cholesky_solve_columns,
}  # fmt: skip
"""The solves, by layout and method:
(grid, columns, dtype of the factors, dtype of x, op) -> Program."""


@dataclass
class TiledFactors:
    """P A = L U or A = L L^H, tile by tile in a store.

    Attributes
    ----------
    ops, executor, store
        What solves compute with.
    grid : Grid
    fmt : Format
    dtype : dtype
        Of the tiles.
    method : {"LU", "Cholesky"}
    keys : set of Key
        Results of the factorization.
    info : int
        As `getrf` or `potrf`.
    scaling : Scaling, optional
        What was factored is diag(rows) A diag(cols).
    traffic : Traffic
        Of the factorization and the solves so far.
    """

    ops: Ops
    executor: LocalExecutor
    store: Store
    grid: Grid
    fmt: Format
    dtype: np.dtype[Any]
    method: str
    keys: set[Key]
    info: int = 0
    scaling: Scaling | None = None
    traffic: Traffic = field(default_factory=Traffic)
    counters: Counters = field(default_factory=Counters)

    @property
    def is_usable(self) -> bool:
        """False if a pivot is zero, or a minor not positive."""
        return self.info == 0

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the factors, wherever they are."""
        tiles = self._program(0, self.dtype, "N").tiles
        return sum(tiles[key].nbytes for key in self.keys if key in tiles)

    def _program(self, nrhs: int, dtype: np.dtype[Any], trans: str) -> Program:
        make = SOLVERS[self.executor.layout, self.method]
        return make(self.grid, nrhs, self.dtype, dtype, trans)

    def solve(self, b: Array, trans: str = "N", *, upcast: bool = False) -> Array:
        """x = op(A)^-1 b; arguments as `factor.lu.LUFactors.solve`.

        Columns are scaled by powers of two before conversion, so corrections of any magnitude
        survive. Reads the factors once, or twice those of LU below the diagonal tiles.
        """
        ops = self.ops
        dtype = b.dtype if upcast else self.dtype
        scale = column_scale(ops, b)
        y = b * scale
        if self.scaling is not None:
            y = y * (self.scaling.rows if trans == "N" else self.scaling.cols)[:, None]
            again = column_scale(ops, y)
            y, scale = y * again, scale * again
        y = y.astype(dtype)
        program = self._program(b.shape[1], dtype, trans)
        rows = self.grid.rows
        results = Overlay(self.store)
        self.traffic.add(
            self.executor.run(
                program, lambda key: y[rows[key[1]]].copy(), results, stored=self.keys
            )
        )
        x = np.empty(b.shape, b.dtype, order="F")
        for i, part in enumerate(rows):
            x[part] = results.read(("x", i))
        if self.scaling is not None:
            x *= (self.scaling.cols if trans == "N" else self.scaling.rows)[:, None]
        x /= scale
        return x

    def rcond(self, norm1: float, dtype: Any) -> float:
        """Estimated reciprocal condition number in the 1-norm, given ||A||_1: some ten solves."""
        if self.info:
            return 0.0
        inverse = inverse_norm1(
            self.ops, self.grid.shape[0], dtype, self.solve, lambda z: self.solve(z, "C")
        )
        return 1.0 / (norm1 * inverse) if norm1 * inverse > 0 else 0.0

    def column_sizes(self) -> Array | None:
        """As `factor.lu.LUFactors.column_sizes`; None of Cholesky factors."""
        if self.method != "LU":
            return None
        if self.scaling is not None:
            return self.scaling.cols
        count = len(self.grid.columns)
        if ("sizes", 0) in self.keys:
            return np.concatenate([self.store.read(("sizes", k))[0] for k in range(count)])
        diagonals = [abs(self.store.read(("LU", k, k)).diagonal()) for k in range(count)]
        return np.concatenate(diagonals)

    def growth(self, amax: float) -> float:
        """max |U| / max |A|, by a pass over the factors where they do not tell."""
        if ("sizes", 0) in self.keys:
            count = len(self.grid.columns)
            largest = max(float(self.store.read(("sizes", k))[1].max()) for k in range(count))
        else:
            largest = max((float(abs(u).max()) for u in self._upper() if u.size), default=0.0)
        scale = 1.0 if self.scaling is not None else amax
        return largest / scale if scale > 0 else 1.0

    def _upper(self) -> Iterable[np.ndarray]:
        """Tiles of U, or the diagonal ones of L^H."""
        count = len(self.grid.rows)
        if self.method == "Cholesky":
            yield from (np.tril(self.store.read(("L", k, k))) for k in range(count))
            return
        for k in range(count):
            yield from (self.store.read(("LU", i, k)) for i in range(k))
            yield np.triu(self.store.read(("LU", k, k)))
