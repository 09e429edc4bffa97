"""LU of a block column in tiles, with partial pivoting over all its rows.

    P A[s:, s] = L[s:, s] U[s, s]                                  a panel, packed by columns
    for each panel s and the one after it, t:
        A[s:, :s], A[s:, t:] <- P A[s:, :s], P A[s:, t:]
        U[s, t:] = L[s, s]^-1 A[s, t:]
        P' (A[t:, t] - L[t:, s] U[s, t]) = L[t:, t] U[t, t]        by one thread, packed,
        A[t:, t':] <- A[t:, t':] - L[t:, s] U[s, t':], t' > t      while others do this

A panel of rows 4 KiB apart, as they are in a tile, is slow: they share a few lines of the cache.
Packed it is factored at the rate of LAPACK, and on a CPU that time is hidden behind products.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..factor.blocks import blocks
from ..ops.protocol import Array, Ops
from ..precision import FP16, Format
from .grid import PANEL_MORE, extent, panel_width
from .pivots import Moves, move_rows, moves_of_pivots
from .shares import strips

__all__ = ["factor_panels"]

_STRIP = 512
"""Columns that a thread updates at a time, at least, if there are as many."""


def factor_panels(
    ops: Ops, tiles: Sequence[Array], fmt: Format
) -> tuple[NDArray[np.int64], int]:  # fmt: skip
    """P A = L U of the rows of all tiles, in place; the first has as many rows as columns, or more.

    Returns
    -------
    order : ndarray of int64
        Row order[i] of A is row i of P A.
    info : int
        The first column whose pivot is zero, from 1; 0 if there is none.
    """
    column = _Column(ops, tiles, fmt)
    width = tiles[0].shape[1]
    order, info = np.arange(column.height), 0
    panels = list(blocks(width, panel_width(width)))
    panel = column.packed(panels[0])
    piv, failed = ops.getrf_panel(panel)
    for s, following in itertools.zip_longest(panels, panels[1:]):
        failed = ops.first_info([(s.start, failed)])
        info = info or failed
        moves = moves_of_pivots(piv) + s.start
        order[moves[0]] = order[moves[1]]
        panel, piv, failed = column.finish(panel, s, moves, following)
    return order, info


class _Column:
    """A block column; panels of it are packed."""

    def __init__(self, ops: Ops, tiles: Sequence[Array], fmt: Format) -> None:
        self.ops, self.tiles = ops, tiles
        self.height, self.width = sum(map(len, tiles)), tiles[0].shape[1]
        entries = (self.height + PANEL_MORE) * panel_width(self.width)
        # by columns, as LAPACK wants it, or by rows, as the kernels of a GPU do
        like = ops.xp.empty((2, 2), tiles[0].dtype, order="F")
        self._order = "F" if ops.is_f_like(ops.getrf_view(like, FP16)) else "C"
        self._buffers = [ops.xp.empty(entries, tiles[0].dtype) for _ in range(2)]
        self.compute = None if fmt.is_native else fmt
        # products in other formats take workspace: one after the other
        self.share = 1.0 if fmt.is_native else 0.0

    def _parts(self, first: int) -> Iterator[tuple[Array, slice]]:
        """Rows of the tiles from row `first` on, with their places counted from there."""
        start = 0
        for tile in self.tiles:
            begin, stop = max(start, first), start + len(tile)
            if begin < stop:
                yield tile[begin - start :], slice(begin - first, stop - first)
            start = stop

    def packed(self, s: slice) -> Array:
        """Columns s from row s.start on, in the place of the panel before the last one."""
        height, self._buffers = self.height - s.start, self._buffers[::-1]
        shape = height + PANEL_MORE, extent(s)
        panel = self._buffers[0][: math.prod(shape)].reshape(shape, order=self._order)[:height]
        for part, rows in self._parts(s.start):
            self.ops.lacpy(part[:, s], panel[rows])
        return panel

    def finish(self, panel: Array, s: slice, moves: Moves, following: slice | None) -> Any:
        """Put a panel, factored, into its tiles, and bring all else to where it is.

        Returns the next panel, factored, its pivots and its `Info`.
        """
        after = s.stop if following is None else following.stop
        rest = [_shifted(c, after) for c in strips(self.ops, self.width - after, least=_STRIP)]
        places = list(self._parts(s.start))
        jobs: list[Callable[[], Any]] = [
            *([] if following is None else [partial(self._ahead, panel, s, moves, following)]),
            *(partial(self._update, panel, s, moves, c) for c in rest),
            *([partial(self._move, slice(0, s.start), moves)] if s.start else []),
            *(partial(self.ops.lacpy, panel[rows], part[:, s]) for part, rows in places),
        ]  # fmt: skip
        flops = 2.0 * len(panel) * extent(s) * max(map(extent, rest), default=0)
        found = self.ops.each(lambda job: job(), jobs, self.share * flops)
        return (None, None, 0) if following is None else found[0]

    def _ahead(self, panel: Array, s: slice, moves: Moves, following: slice) -> Any:
        self._move(following, moves)
        self._solve(panel, s, following)
        found = self.packed(following)
        below = [found[rows] for _, rows in self._parts(s.stop)]
        self._subtract(panel, s, following, below)
        return found, *self.ops.getrf_panel(found)

    def _update(self, panel: Array, s: slice, moves: Moves, columns: slice) -> None:
        self._move(columns, moves)
        self._solve(panel, s, columns)
        self._subtract(panel, s, columns, [part[:, columns] for part, _ in self._parts(s.stop)])

    def _move(self, columns: slice, moves: Moves) -> None:
        """Rows to their places."""
        move_rows(self.ops, [tile[:, columns] for tile in self.tiles], moves)

    def _solve(self, panel: Array, s: slice, columns: slice) -> None:
        """U[s, columns] = L[s, s]^-1 A[s, columns]"""
        square, right = panel[: extent(s)], self.tiles[0][s, columns]
        self.ops.trsm("L", square, right, lower=True, unit=True)

    def _subtract(self, panel: Array, s: slice, columns: slice, below: Sequence[Array]) -> None:
        """A <- A - L[:, s] U[s, columns], of rows below s in parts."""
        left, right, start = panel[extent(s) :], self.tiles[0][s, columns], 0
        for part in below:
            rows = slice(start, start + len(part))
            self.ops.gemm(-1.0, left[rows], right, 1.0, part, compute=self.compute)
            start = rows.stop


def _shifted(part: slice, start: int) -> slice:
    return slice(start + part.start, start + part.stop)
