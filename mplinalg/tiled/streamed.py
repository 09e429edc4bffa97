"""A matrix that is read tile by tile, as the dense solver sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dense import messages
from ..dense.scaled import enter, extreme_limits, leave
from ..errors import LinAlgError
from ..factor.scaling import Scaling, inverse_powers
from ..ops.protocol import Array, Ops
from ..precision import Format, working_format
from ..refine.ladder import Rung
from .cholesky import cholesky_program
from .factors import TiledFactors
from .grid import Grid
from .local import LocalExecutor, Traffic
from .lu import lu_program
from .progress import Progress, quiet
from .sources import Blocks, Source
from .store import Store
from .system import Sizes, TiledSystem, measured
from .tasks import Program

__all__ = ["StreamedMatrix"]

_ROW_RATIO = 2.0**10
_SAFE_FP32 = (1e-25, 1e30)
_DIAGONAL_TILE = 256


MakeStore = Callable[[Rung, Program, str], Store]
PROGRAMS = {"LU": lu_program, "Cholesky": cholesky_program}


class Rows:
    """diag(rows) A diag(cols) of a source: its shape and dtype, and rows of it where asked for."""

    def __init__(self, source: Source, dtype: np.dtype[Any], scaling: Scaling | None) -> None:
        self.source, self.dtype, self.scaling = source, dtype, scaling
        self.shape = source.shape

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        blocks = Blocks(self.source, [rows], [slice(0, self.shape[1])], self.dtype, self.scaling)
        return blocks(("rows", 0))


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
    grid : Grid
        Tiles of the factors.
    make_store : callable
        (rung, program, digest of A) -> Store, where the results of a factorization go.
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
        grid: Grid, make_store: MakeStore, progress: Progress = quiet, *,
        is_identified: bool = False,
    ) -> None:  # fmt: skip
        self._progress = progress
        self.source, self.ops, self.executor = source, ops, executor
        self._method, self._grid, self._make_store = method, grid, make_store
        self.traffic = Traffic()
        self.seconds = {"convert": 0.0, "factor": 0.0}
        self._dtype = dtype
        self.outer: Scaling | None = None
        self.sizes = self._measure(None, is_identified=is_identified)
        self.digest = self.sizes.digest
        if not np.isfinite(self.sizes.row_max).all():
            raise ValueError("array must not contain infs or NaNs")
        low, high = extreme_limits(dtype)
        extents = np.concatenate([self.sizes.row_max, self.sizes.column_max])
        extents = extents[extents > 0]
        if ((extents < low) | (extents > high)).any():
            self.outer = self._equilibrated()
            self.sizes = self._measure(self.outer)
        positive = self.sizes.row_sums[self.sizes.row_sums > 0]
        least = float(positive.min()) if positive.size else self.norm
        self.is_graded = self.outer is not None or not (
            self.norm <= _ROW_RATIO * least and _SAFE_FP32[0] <= self.norm <= _SAFE_FP32[1]
        )
        self.a = Rows(source, dtype, self.outer)

    @property
    def norm(self) -> float:
        """Infinity norm of A, with |re| + |im| for complex."""
        return self.sizes.norm

    @property
    def amax(self) -> float:
        """max |a|, with |re| + |im| for complex."""
        return self.sizes.amax

    def method(self) -> str:
        """The factorization."""
        return self._method

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
        """The factors of a rung, in a store of their own.

        Raises
        ------
        LinAlgError
            In working precision: A is exactly singular, or not positive definite.
        """
        began = time.perf_counter()
        fmt, dtype = rung.format, rung.format.dtype(self._dtype)
        program = PROGRAMS[self._method](self._grid, dtype, fmt)
        scaling = self._scaling(fmt)
        store = self._make_store(rung, program, self.digest)
        parts = self._grid.rows
        inputs = Blocks(self.source, parts, parts, dtype, self.outer or scaling)
        have = set(getattr(store, "results", ()))
        left = program.without(have)
        stored = program.results - left.results
        with self._progress(f"{rung.format} {rung.method}", left.flops) as advance:
            self.traffic.add(
                self.executor.run(
                    left, inputs, store, stored=stored, ops=self.ops, progress=advance
                )
            )
        infos = [int(store.read(("info", k))[0]) for k in range(len(parts))]
        info = next((info for info in infos if info), 0)
        self.seconds["factor"] += time.perf_counter() - began
        if info and fmt is working_format(self._dtype):
            if self._method == "LU":
                raise LinAlgError(messages.singular(info, self.source.shape[0]))
            raise LinAlgError(messages.not_definite(info))
        return TiledFactors(
            self.ops, self.executor, store, self._grid, fmt, dtype, self._method, program.results,
            info, scaling, self.traffic,
        )  # fmt: skip

    def take_traffic(self) -> Traffic:
        """What was moved since this was asked last."""
        taken = Traffic()
        taken.add(self.traffic)
        self.traffic.clear()
        return taken

    # -- scaling --------------------------------------------------------------------------------

    def _measure(self, scaling: Scaling | None, *, is_identified: bool = False) -> Sizes:
        began = time.perf_counter()
        sizes = measured(
            self.source, self._dtype, self.executor, self.ops, self.traffic, scaling,
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
        by_rows = Scaling(rows, np.ones_like(self.sizes.column_max))
        return Scaling(rows, inverse_powers(self.ops, self._measure(by_rows).column_max))

    def _diagonal(self) -> NDArray[Any]:
        parts = Grid(self.source.shape, (_DIAGONAL_TILE, _DIAGONAL_TILE)).rows
        tiles = Blocks(self.source, parts, parts, self._dtype, None)
        return np.concatenate(
            [abs(np.diagonal(tiles(("A", k, k))).real) for k in range(len(parts))]
        )
