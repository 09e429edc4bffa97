"""A matrix that is read tile by tile, as the dense solver sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dense import messages
from ..dense.scaled import enter, extreme_limits, is_graded, leave
from ..errors import LinAlgError
from ..factor.scaling import Scaling, inverse_powers
from ..ops.protocol import Array, Ops
from ..precision import Format, working_format
from ..refine.ladder import Rung
from .columns import cholesky_columns, column_places, lu_columns
from .factors import TiledFactors
from .grid import Grid
from .local import LocalExecutor
from .progress import Progress, quiet
from .requirements import PROGRAMS as TILE_PROGRAMS
from .running import run_rest
from .sources import Blocks, Source
from .store import Store
from .system import Sizes, TiledSystem, measured
from .tasks import Program
from .traffic import Traffic

__all__ = ["StreamedMatrix"]

_DIAGONAL_TILE = 256


MakeStore = Callable[[Rung, Grid, Program, str], Store]
PROGRAMS = {("tiles", method): make for method, make in TILE_PROGRAMS.items()} | {
    ("columns", "LU"): lu_columns, ("columns", "Cholesky"): cholesky_columns,
}  # fmt: skip
"""The factorizations, by the layout of tiles and the method: (grid, dtype, format) -> Program."""
PLACES = {
    "tiles": lambda grid, method: (grid.rows, grid.columns),
    "columns": column_places,
}
"""Rows and columns of the inputs: (grid, method) -> both."""


@dataclass(frozen=True)
class Shape:
    """What is known of an array that is not there."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]


class StreamedMatrix:
    """What `dense.refined.solve_on_ladder` asks of a square matrix, `dense.matrix.Matrix` else.

    Parameters
    ----------
    source : Source
    dtype : dtype
        Working precision.
    method : {"LU", "Cholesky"}
    executor : LocalExecutor
    ops : Ops
    grid_of : callable
        Format -> Grid, the tiles of factors.
    make_store : callable
        (rung, grid, program, digest of A) -> Store, where the results of a factorization go.
    is_identified : bool
        Compute `digest`.
    progress : callable, optional
        (title, flops) -> a context whose value is told of the flops that are done.

    Attributes
    ----------
    traffic : Traffic
        Of everything so far.
    digest : str
        Of all entries, and empty if not asked for: tells this matrix from others.
    """

    has_qr = False
    triangle = None
    flushed = False
    is_copy = False

    def __init__(
        self, source: Source, dtype: np.dtype[Any], method: str, executor: LocalExecutor, ops: Ops,
        grid_of: Callable[[Format], Grid], make_store: MakeStore, progress: Progress = quiet, *,
        is_identified: bool = False,
    ) -> None:  # fmt: skip
        self._progress = progress
        self.source, self.ops, self.executor = source, ops, executor
        self._method, self._grid_of, self._make_store = method, grid_of, make_store
        self._kept: tuple[Rung, TiledFactors] | None = None
        self.traffic = Traffic()
        self.seconds = {"convert": 0.0, "factor": 0.0}
        self._dtype = dtype
        self.outer: Scaling | None = None
        self.sizes = self._measure(None, is_identified=is_identified)
        self.digest = self.sizes.digest
        if not self.sizes.is_finite:
            raise ValueError("array must not contain infs or NaNs")
        low, high = extreme_limits(dtype)
        extents = np.concatenate([self.sizes.row_max, self.sizes.column_max])
        extents = extents[extents > 0]
        if ((extents < low) | (extents > high)).any():
            self.outer = self._equilibrated()
            self.sizes = self._measure(self.outer)
        self.is_graded = self.outer is not None or is_graded(self.sizes.row_sums)
        self.a = Shape(source.shape, dtype)

    @property
    def norm(self) -> float:
        """Infinity norm of A, with |re| + |im| for complex."""
        return self.sizes.norm

    @property
    def amax(self) -> float:
        """max |a|, with |re| + |im| for complex."""
        return self.sizes.amax

    @property
    def fast_formats(self) -> tuple[Format, ...]:
        """Those that it is factored in fast, the coarsest first."""
        return self.executor.ops.fast_formats

    def method(self) -> str:
        """The factorization."""
        return self._method

    def tries_butterfly(self, fmt: Format) -> bool:
        """Never: rows are interchanged."""
        return False

    def enter(self, b: Array, trans: str) -> tuple[Array, Array]:
        """As `scaled.enter`."""
        return enter(self.ops, self._dtype, self.outer, b, trans)

    def leave(self, x: Array, shift: Array, trans: str) -> Array:
        """As `scaled.leave`."""
        return leave(self.ops, self.outer, x, shift, trans)

    def system(
        self, b: Array, trans: str, *, extended: bool = False, tol: float | None = None
    ) -> TiledSystem:
        """A x = b as the refinement sees it."""
        assert trans == "N"
        return TiledSystem(
            self.ops, self.a, b, self.norm, working_format(self._dtype).unit_roundoff,
            extended=extended, tol=tol, source=self.source, executor=self.executor,
            sizes=self.sizes, scaling=self.outer, traffic=self.traffic,
        )  # fmt: skip

    def factorize(self, rung: Rung) -> TiledFactors:
        """The factors of a rung, in a store of their own; those that were made last are kept.

        Raises
        ------
        LinAlgError
            In working precision: A is exactly singular, or not positive definite.
        """
        if self._kept is not None and self._kept[0] == rung:
            return self._kept[1]
        self._kept = None  # its memory is free
        began = time.perf_counter()
        fmt, dtype = rung.format, rung.format.dtype(self._dtype)
        grid = self._grid_of(fmt)
        program = PROGRAMS[self.executor.layout, self._method](grid, dtype, fmt)
        scaling = self._scaling(fmt)
        store = self._make_store(rung, grid, program, self.digest)
        rows, columns = PLACES[self.executor.layout](grid, self._method)
        inputs = Blocks(self.source, rows, columns, dtype, self.outer or scaling)
        run_rest(
            self.executor, program, inputs, store, self.traffic, self._progress,
            f"{rung.format} {rung.method}",
        )  # fmt: skip
        infos = [int(store.read(("info", k))[0]) for k in range(len(columns))]
        info = next((info for info in infos if info), 0)
        self.seconds["factor"] += time.perf_counter() - began
        if info and fmt is working_format(self._dtype):
            if self._method == "LU":
                raise LinAlgError(messages.singular(info, self.source.shape[0]))
            raise LinAlgError(messages.not_definite(info))
        factors = TiledFactors(
            self.ops, self.executor, store, grid, fmt, dtype, self._method, program.results,
            info, scaling, self.traffic,
        )  # fmt: skip
        self._kept = rung, factors
        return factors

    def take_traffic(self) -> Traffic:
        """What was moved since this was asked last."""
        taken = Traffic()
        taken.add(self.traffic)
        self.traffic.clear()
        return taken

    def column_sums(self, weights: Array) -> NDArray[Any]:
        """Sums of |a| along the columns, rows multiplied by `weights`."""
        ones = np.ones(self.a.shape[1], self.sizes.row_sums.dtype)
        outer = self.outer or Scaling(np.ones_like(weights), ones)
        return self._measure(Scaling(outer.rows * weights, outer.cols)).column_sums

    # -- scaling --------------------------------------------------------------------------------

    def _measure(self, scaling: Scaling | None, *, is_identified: bool = False) -> Sizes:
        began = time.perf_counter()
        sizes = measured(
            self.source, self._dtype, self.executor, self.traffic, scaling,
            is_identified=is_identified,
        )  # fmt: skip
        self.seconds["convert"] += time.perf_counter() - began
        return sizes

    def _scaling(self, fmt: Format) -> Scaling | None:
        """What the tiles of a rung are scaled by where A itself is not."""
        if self.outer is not None or fmt is working_format(self._dtype):
            return None
        return self._equilibrated() if self.is_graded or fmt.needs_scaling else None

    def _equilibrated(self) -> Scaling:
        """Powers of two that bring the largest entries of rows and columns into [1/2, 1).

        Of a positive definite matrix the same for both, from its diagonal.
        """
        if self._method == "Cholesky":
            d = inverse_powers(self.ops, np.sqrt(self._diagonal()))
            return Scaling(d, d)
        rows = inverse_powers(self.ops, self.sizes.row_max)
        columns = inverse_powers(self.ops, self.sizes.column_max)
        # first those that differ more: scaled after the others, some of them would vanish
        if _spread(self.sizes.column_max) > _spread(self.sizes.row_max):
            by_columns = Scaling(np.ones_like(rows), columns)
            return Scaling(inverse_powers(self.ops, self._measure(by_columns).row_max), columns)
        by_rows = Scaling(rows, np.ones_like(columns))
        return Scaling(rows, inverse_powers(self.ops, self._measure(by_rows).column_max))

    def _diagonal(self) -> NDArray[Any]:
        parts = Grid(self.source.shape, (_DIAGONAL_TILE, _DIAGONAL_TILE)).rows
        tiles = Blocks(self.source, parts, parts, self._dtype, None)
        return np.concatenate(
            [abs(np.diagonal(tiles(("A", k, k))).real) for k in range(len(parts))]
        )


def _spread(sizes: NDArray[Any]) -> float:
    """Binary orders of magnitude between the largest and the smallest that is not zero."""
    positive = sizes[sizes > 0]
    return float(np.log2(positive.max()) - np.log2(positive.min())) if positive.size else 0.0
