"""A matrix cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..factor.blocks import blocks

__all__ = ["Grid", "default_grid", "extent", "tile_option"]


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


_LARGEST, _SMALLEST = 1024, 16
_BESIDES = 6
"""Tiles besides a block column: those that are being loaded, and those that are waited for."""
_PANEL = 128
"""Columns of a panel of LU, whose workspace has to fit, too."""


def default_grid(n: int, dtype: np.dtype[Any], limit: int, tile: int | None) -> Grid:
    """Tiles of a square matrix of order n for a memory limit: as large as it lets them be.

    Up to 1024, and an eighth of n; a block column has to fit, and six tiles besides. `tile`, if
    given, is taken as it is.
    """
    if tile is not None:
        return Grid((n, n), (tile_option(tile), tile_option(tile)))
    least = max(1, min(n, _SMALLEST))
    width = max(least, min(_LARGEST, -(-n // 8)))
    while width > least:
        panel = min(_PANEL, width)
        held = n * width + _BESIDES * width**2 + panel * (n // width * panel + 7 * width)
        if held * dtype.itemsize <= limit:
            break
        width = max(least, width * 7 // 8)
    return Grid((n, n), (width, width))


def tile_option(tile: int) -> int:
    """`tile`, a positive number of rows and columns, or a ValueError."""
    if isinstance(tile, bool) or not isinstance(tile, int | np.integer) or tile < 1:
        raise ValueError(f"tile must be a positive number of rows; got {tile!r}")
    return int(tile)
