"""P A = L U by block columns, left-looking, with pivots from a tournament across tiles.

    for each block column k, from the left:
        for each block column j < k:
            A[j:, k] <- P_j A[j:, k]
            U[j, k] = L[j, j]^-1 A[j, k]
            A[i, k] <- A[i, k] - L[i, j] U[j, k],  i > j
        P_k A[k:, k] = L[k:, k] U[k, k]

A block column is read once and written once; what is left of it is read again for each one to its
right: about n^3 / (3 w) elements for width w. Rows of L stay where P_j left them: later
interchanges are not applied to them, so that solves interchange between block columns, too, as
LINPACK's did.

Pivots of a panel of a block column are chosen by a tournament among all its rows, whatever their
tile; so L is bounded as in CALU, not only within a tile.

References
----------
Grigori, Demmel and Xiang, SIAM J. Matrix Anal. Appl. 32 (2011) 1317 (tournament pivoting).
Toledo, A survey of out-of-core algorithms in numerical linear algebra, in External Memory
Algorithms, DIMACS 50 (1999) 161, section 2 (left-looking, and its traffic).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..factor.blocks import blocks
from ..ops.protocol import Array, Ops
from ..precision import Format
from .grid import Grid, extent
from .pivots import Moves, gather_rows, move_rows, moves_of
from .shares import by_strips, subtract_product
from .tasks import Program, Tile, product_workspace

__all__ = ["PANEL", "lu_program", "panel_workspace"]

PANEL = 128
"""Columns that a tournament is held for at once."""
_FLOPS_A_MOVE, _FLOPS_A_PIVOT = 200.0, 10.0
"""Of a product, that take as long as to move an entry, and as a flop in search of pivots."""


def lu_program(grid: Grid, dtype: np.dtype[Any], fmt: Format, most: int | None = None) -> Program:
    """Tiles ("LU", i, k) of a square matrix become those of L and U; ("moves", k) are its pivots.

    ("info", k) is, for the block column k, the first column whose pivot is zero, counted from 1
    from the left of the matrix, or 0. With `most`, only so many block columns.
    """
    program = Program(is_divided=fmt.is_native)  # products in others need workspace
    parts = grid.rows
    count = len(parts)
    complex_factor = 4 if dtype.kind == "c" else 1
    for k, columns in enumerate(parts[:most]):
        width = extent(columns)
        column = [("LU", i, k) for i in range(count)]
        for i, rows in enumerate(parts):
            program.tiles[column[i]] = Tile((extent(rows), width), dtype)
        for j in range(k):
            height = extent(parts[j])
            program.add(
                interchange, reads=(("moves", j),), updates=tuple(column[j:]),
                workspace=2 * height * width * dtype.itemsize,
            )  # fmt: skip
            program.add(
                eliminate, reads=(("LU", j, j),), updates=(column[j],),
                flops=complex_factor * height**2 * width,
            )  # fmt: skip
            for i in range(j + 1, count):
                program.add(
                    subtract, reads=(("LU", i, j), column[j]), updates=(column[i],),
                    options={"fmt": fmt}, group=(k, j),
                    flops=complex_factor * 2.0 * extent(parts[i]) * height * width,
                    workspace=product_workspace(fmt, (extent(parts[i]) + width) * height),
                )  # fmt: skip
        moves, info = ("moves", k), ("info", k)
        program.tiles[moves] = Tile((2, 2 * width), np.dtype(np.int64), on_host=True)
        program.tiles[info] = Tile((1,), np.dtype(np.int64), on_host=True)
        m = grid.shape[0] - columns.start
        program.add(
            factor_column, updates=tuple(column[k:]), writes=(moves, info),
            options={"fmt": fmt, "first": columns.start},
            flops=complex_factor * (m * width**2 - width**3 / 3),
            workspace=panel_workspace(m, width) * dtype.itemsize,
        )  # fmt: skip
        program.results.update(column, [moves, info])
    return program


def panel_workspace(m: int, width: int) -> int:
    """Numbers that `factor_column` holds besides m rows of tiles of `width` columns."""
    panel = min(PANEL, width)
    # L11 and U11 of all matches, and the rows of some, in two orders
    return (-(-m // width) * panel + 2 * _at_once(width) * max(width, 2 * panel) + width) * panel


def _at_once(width: int) -> int:
    """Matches that are played at the same time: each holds copies of its rows."""
    return 2 if width >= 2 * PANEL else 1


# -- kernels -------------------------------------------------------------------------------------


def interchange(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """A[j:, k] <- P_j A[j:, k]"""
    (moves,) = reads
    width = updates[0].shape[1]
    by_strips(
        ops, lambda part: move_rows(ops, [tile[:, part] for tile in updates], moves), width,
        _FLOPS_A_MOVE * moves.shape[1] * width,
    )  # fmt: skip
    return ()


def eliminate(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """U[j, k] = L[j, j]^-1 A[j, k]"""
    (lu,), (a,) = reads, updates
    by_strips(
        ops, lambda part: ops.trsm("L", lu, a[:, part], lower=True, unit=True), a.shape[1],
        float(len(a) * a.size),
    )  # fmt: skip
    return ()


def subtract(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format
) -> tuple[Array, ...]:
    """A[i, k] <- A[i, k] - L[i, j] U[j, k]"""
    (left, right), (a,) = reads, updates
    if fmt.is_native:
        subtract_product(ops, left, right, a)
    else:
        ops.gemm(-1.0, left, right, 1.0, a, compute=fmt)
    return ()


def factor_column(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format, first: int
) -> tuple[Array, ...]:
    """P_k A[k:, k] = L[k:, k] U[k, k], the tiles from the diagonal down. Writes (moves, info)."""
    tiles = updates
    top = tiles[0]
    order = np.arange(sum(map(len, tiles)))
    info = 0
    for s in blocks(top.shape[1], PANEL):
        # the rows that win, L11 and U11 from the last match between them
        winners, lu, failed = _tournament(ops, tiles, s)
        if failed and not info:
            info = first + s.start + failed
        moves = _to_the_top(winners, s.start)
        move_rows(ops, tiles, moves)
        order[moves[0]] = order[moves[1]]
        top[s, s] = lu
        right = slice(s.stop, top.shape[1])
        # U12 = L11^-1 A12
        ops.trsm("L", lu, top[s, right], lower=True, unit=True)
        below = [top[s.stop :], *tiles[1:]]
        ops.each(
            functools.partial(_eliminate_below, ops, lu, top[s, right], s, fmt), below,
            # others than native formats take workspace: one after the other
            fmt.is_native * float(len(top) * extent(s) * (extent(s) + 2 * extent(right))),
        )  # fmt: skip
    return moves_of(order), np.array([info])


def _eliminate_below(ops: Ops, lu: Array, u12: Array, s: slice, fmt: Format, tile: Array) -> None:
    """L21 = A21 U11^-1, A22 <- A22 - L21 U12, of some rows."""
    left, right = tile[:, s], tile[:, s.stop :]
    ops.trsm("R", lu, left, lower=False)
    ops.gemm(-1.0, left, u12, 1.0, right, compute=None if fmt.is_native else fmt)


def _tournament(ops: Ops, tiles: Sequence[Array], s: slice) -> tuple[NDArray[np.int64], Array, int]:
    """Pivot rows of columns s among those from row s.start on.

    Returns their places, in order of elimination; their L11 and U11, in one array; and the number
    of the first pivot, from 1, that is zero, or 0.
    """
    spans, start, together = [], 0, _at_once(tiles[0].shape[1])
    for tile in tiles:
        spans.append((tile, start, max(start, s.start), start + len(tile)))
        start += len(tile)

    def time_of(rows: int) -> float:
        return (together > 1) * _FLOPS_A_PIVOT * rows * extent(s) ** 2

    spans = [span for span in spans if span[2] < span[3]]

    def play_some(number: int) -> list[Any]:
        return [
            _match(ops, tile[first - start :, s], np.arange(first, stop))
            for tile, start, first, stop in spans[number::together]
        ]

    numbers = range(min(together, len(spans)))
    played = ops.each(play_some, numbers, time_of(len(tiles[0])) * len(spans) / together)
    matches = [played[i % together][i // together] for i in range(len(spans))]

    def play(pair: Any) -> Any:
        rows = np.concatenate([pair[0][0], pair[1][0]])
        return _match(ops, gather_rows(ops, tiles, rows, s), rows)

    while len(matches) > 1:
        left = matches[len(matches) - len(matches) % 2 :]
        pairs = list(zip(matches[::2], matches[1::2], strict=False))
        matches = ops.each(play, pairs, time_of(2 * extent(s))) + left
    return matches[0]


def _match(
    ops: Ops, rows: Array, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Array, int]:
    """LU with partial pivoting of rows, which are at these places: as `_tournament`."""
    width = rows.shape[1]
    # first together: entries of a column that are a power of two apart share a few cache lines
    block = ops.xp.array(ops.xp.ascontiguousarray(rows), order="F")
    piv, info = ops.getrf_panel(block)
    order = places.tolist()
    for i, p in enumerate(piv.tolist()):
        order[i], order[p] = order[p], order[i]
    winners = np.array(order[:width], np.int64)
    return winners, block[:width].copy(order="F"), ops.first_info([(0, info)])


def _to_the_top(winners: NDArray[np.int64], first: int) -> Moves:
    """Bring the winners to the places from `first` on; who was there takes their places."""
    places = np.arange(first, first + winners.size)
    losers = np.setdiff1d(places, winners)
    vacated = np.setdiff1d(winners, places)
    to = np.concatenate([places, vacated])
    source = np.concatenate([winners, losers])
    moved = to != source
    return np.stack([to[moved], source[moved]])
