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

__all__ = ["Moves", "gather_rows", "move_rows", "moves_of"]

Moves = NDArray[np.int64]


def moves_of(order: NDArray[np.int64]) -> Moves:
    """The moves that bring row order[i] to place i, for all i."""
    places = np.flatnonzero(order != np.arange(order.size))
    return np.stack([places, order[places]])


def move_rows(ops: Ops, tiles: Sequence[Array], moves: Moves, *, back: bool = False) -> None:
    """Put rows where `moves` says, in place; `back` undoes it."""
    to, source = moves[::-1] if back else moves
    if to.size == 0:
        return
    rows = gather_rows(ops, tiles, source)
    for tile, start, stop in _spans(tiles):
        here = np.flatnonzero((to >= start) & (to < stop))
        if here.size:
            tile[ops.xp.asarray(to[here] - start)] = rows[ops.xp.asarray(here)]


def gather_rows(
    ops: Ops, tiles: Sequence[Array], places: NDArray[np.int64], columns: slice = slice(None)
) -> Array:
    """Rows in the order of `places`, C-ordered."""
    width = tiles[0][:1, columns].shape[1]
    rows = ops.xp.empty((places.size, width), tiles[0].dtype)
    for tile, start, stop in _spans(tiles):
        here = np.flatnonzero((places >= start) & (places < stop))
        if here.size:
            rows[ops.xp.asarray(here)] = tile[ops.xp.asarray(places[here] - start), columns]
    return rows


def _spans(tiles: Sequence[Array]) -> list[tuple[Array, int, int]]:
    """Tiles with the places of their first rows, and of those after their last."""
    ends = list(accumulate(len(tile) for tile in tiles))
    return [(t, end - len(t), end) for t, end in zip(tiles, ends, strict=True)]
