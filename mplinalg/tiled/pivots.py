"""Rows of a block column put in another order, across its tiles.

An order is kept as the rows that move: ``moves[0]`` are places, ``moves[1]`` the places from which
their rows come, both counted from the first row of the first tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ..ops.protocol import Array, Ops

__all__ = ["Moves", "move_rows", "moves_of", "moves_of_pivots"]

Moves = NDArray[np.int64]


def moves_of(order: NDArray[np.int64]) -> Moves:
    """The moves that bring row order[i] to place i, for all i."""
    places = np.flatnonzero(order != np.arange(order.size))
    return np.stack([places, order[places]])


def moves_of_pivots(piv: Array) -> Moves:
    """The moves of rows of which row i was exchanged with row piv[i], one after the other."""
    rows: dict[int, int] = {}  # that are at some places
    for i, p in enumerate(piv.tolist()):
        rows[i], rows[p] = rows.get(p, p), rows.get(i, i)
    moved = [(place, row) for place, row in rows.items() if place != row]
    return np.array(moved, np.int64).reshape(-1, 2).T


def move_rows(ops: Ops, tiles: Sequence[Array], moves: Moves, *, back: bool = False) -> None:
    """Put rows where `moves` says, in place; `back` undoes it."""
    to, source = moves[::-1] if back else moves
    if to.size == 0:
        return
    rows = _gathered(ops, tiles, source)
    for tile, start, stop in _spans(tiles):
        here = np.flatnonzero((to >= start) & (to < stop))
        if here.size:
            ops.copy_rows(rows, here, tile, to[here] - start)


def _gathered(ops: Ops, tiles: Sequence[Array], places: NDArray[np.int64]) -> Array:
    """Rows in the order of `places`, C-ordered."""
    rows = ops.xp.empty((places.size, tiles[0].shape[1]), tiles[0].dtype)
    for tile, start, stop in _spans(tiles):
        here = np.flatnonzero((places >= start) & (places < stop))
        if here.size:
            ops.copy_rows(tile, places[here] - start, rows, here)
    return rows


def _spans(tiles: Sequence[Array]) -> list[tuple[Array, int, int]]:
    """Tiles with the places of their first rows, and of those after their last."""
    ends = list(accumulate(len(tile) for tile in tiles))
    return [(t, end - len(t), end) for t, end in zip(tiles, ends, strict=True)]
