"""A matrix cut into tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..factor.blocks import blocks

__all__ = [
    "SMALLEST", "Grid", "column_grid", "default_grid", "extent", "tile_option", "widest",
]  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Rows and columns of the tiles of an (m, n) matrix; the last ones may be smaller.

    Attributes
    ----------
    shape : tuple of int
        (m, n)
    tile : tuple of int
        Most rows and most columns of a tile.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]

    @property
    def rows(self) -> list[slice]:
        """Rows of the tiles, from the top."""
        return list(blocks(self.shape[0], self.tile[0]))

    @property
    def columns(self) -> list[slice]:
        """Columns of the tiles, from the left."""
        return list(blocks(self.shape[1], self.tile[1]))


def extent(part: slice) -> int:
    """Rows, or columns."""
    return int(part.stop - part.start)


SMALLEST = 16
_BESIDES = 6
"""Tiles besides a block column: those that are being loaded, and those that are waited for."""
PANEL_MORE = 16
"""Rows that a packed panel has more, lest its columns are a power of two apart."""
_WIDEST_PANEL, _NARROWEST_PANEL = 128, 2


def panel_width(width: int) -> int:
    """Columns of a panel of a block column: an eighth of it, and of two panels a quarter."""
    return min(width, _WIDEST_PANEL, max(_NARROWEST_PANEL, width // 8))


def panel_entries(m: int, width: int) -> int:
    """Numbers that LU by panels holds besides m rows of tiles of `width` columns."""
    # two panels; rows that change places
    return 2 * (m + PANEL_MORE + width) * panel_width(width)


def default_grid(n: int, dtype: np.dtype[Any], limit: int, largest: int, tile: int | None) -> Grid:
    """Tiles of a square matrix of order n for a memory limit: as large as it lets them be.

    Up to `largest`, and an eighth of n; a block column has to fit, and six tiles besides. `tile`,
    if given, is taken as it is.
    """
    if tile is not None:
        return Grid((n, n), (tile_option(tile), tile_option(tile)))
    room = limit // dtype.itemsize

    def fits(width: int) -> bool:
        return n * width + _BESIDES * width**2 + panel_entries(n, width) <= room

    least = max(1, min(n, SMALLEST))
    width = widest(max(least, min(largest, -(-n // 8))), least, fits)
    return Grid((n, n), (width, width))


_NARROWEST = 384
_COLUMNS = 4
"""Block columns for each thread of a cluster, at least, if they are not too narrow then."""
_COLUMN_BYTES = 2**26


def column_grid(n: int, dtype: np.dtype[Any], threads: int, largest: int, tile: int | None) -> Grid:
    """Whole block columns of a square matrix of order n, for a cluster with so many threads.

    Of `largest` columns and 64 MiB at most. `tile`, if given, is taken as the number of columns.
    """
    if tile is not None:
        return Grid((n, n), (max(n, 1), tile_option(tile)))
    width = -(-n // max(1, min(_COLUMNS * threads, n // _NARROWEST)))
    most = max(1, _COLUMN_BYTES // (max(n, 1) * dtype.itemsize))
    return Grid((n, n), (max(n, 1), max(1, min(width, largest, most))))


def widest(most: int, least: int, fits: Callable[[int], bool]) -> int:
    """The largest of some widths from `most` down to `least` that fits, else `least`."""
    width = max(most, least)
    while width > least and not fits(width):
        width = max(least, width * 7 // 8)
    return width


def tile_option(tile: int) -> int:
    """`tile`, a positive number of rows and columns, or a ValueError."""
    if isinstance(tile, bool) or not isinstance(tile, int | np.integer) or tile < 1:
        raise ValueError(f"tile must be a positive number of rows; got {tile!r}")
    return int(tile)
