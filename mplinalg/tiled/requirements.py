"""What a system needs of memory, from the few tasks of its programs that are the largest.

Known before anything is read, without making programs whose tasks may be millions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..precision import Format, working_format
from .cholesky import cholesky_program
from .grid import SMALLEST, Grid, default_grid, widest
from .lu import lu_program
from .passes import measure_program, residual_program, row_blocks
from .plan import LimitTooSmall, less, list_bytes, needed
from .tasks import Program

__all__ = [
    "BLOCK_BYTES", "PROGRAMS", "Tiling", "block_bytes", "needed_by_factors", "needed_by_passes",
    "needed_by_solve", "task_count",
]  # fmt: skip

PROGRAMS: dict[str, Callable[..., Program]] = {"LU": lu_program, "Cholesky": cholesky_program}
"""The factorizations: (grid, dtype, format) -> Program."""
_VECTORS = 8
"""Arrays of the size of b that a refinement holds, besides x in its programs."""
BLOCK_BYTES = 2**23
"""Of the blocks of rows in which a matrix is passed over, at most."""
_BLOCK_SHARE = 6
"""Blocks of rows, and what is computed from them, that fit into the memory limit together."""


def block_bytes(limit: int, n: int, nrhs: int, itemsize: int, most: int = BLOCK_BYTES) -> int:
    """Of a block of rows and of the right-hand sides that belong to it, beside nrhs vectors."""
    return min(most, max(0, limit - n * nrhs * itemsize) // _BLOCK_SHARE)


def needed_by_factors(method: str, grid: Grid, fmt: Format, dtype: np.dtype[Any]) -> int:
    """Bytes of the largest task of a factorization, which is in the first two block columns."""
    return needed(PROGRAMS[method](grid, fmt.dtype(dtype), fmt, most=2))


def task_count(method: str, blocks: int) -> int:
    """Tasks of a factorization with so many block columns."""
    if method == "LU":
        return blocks + sum((blocks - 1 - j) * (blocks + 1 - j) for j in range(blocks))
    return sum((k + 1) * (blocks - k) for k in range(blocks))


def needed_by_solve(
    method: str, grid: Grid, nrhs: int, held: np.dtype[Any], dtype: np.dtype[Any]
) -> int:
    """Bytes of the largest task of `triangles`, and the largest workspace of one."""
    n, size = grid.shape[0], dtype.itemsize
    width = min(n, grid.tile[0])
    others = 1 if n <= width else 2
    tiles, workspace = width**2 * held.itemsize + others * width * nrhs * size, 0
    if method == "LU":  # interchanges of all rows
        moves = 4 * width * np.dtype(np.int64).itemsize
        tiles = max(tiles, n * nrhs * size + moves)
        workspace = 2 * width * nrhs * size
    is_conjugated = method == "Cholesky" and dtype.kind == "c"
    if held != dtype or is_conjugated:
        workspace = max(workspace, width**2 * size)
    return tiles + workspace


def needed_by_passes(
    n: int, nrhs: int, dtype: np.dtype[Any], limit: int, *, is_identified: bool
) -> int:
    """Bytes of the largest task of measuring A, and of residuals of nrhs vectors."""
    size = dtype.itemsize
    whole = row_blocks((n, n), size, block_bytes(limit, n, 0, size))[:1]
    parts = row_blocks((n, n + 3 * nrhs), size, block_bytes(limit, n, nrhs, size))[:1]
    measuring = measure_program(whole, n, dtype, is_identified=is_identified)
    residuals = residual_program(parts, n, nrhs, dtype, magnitude=True, extended=False)
    return max(needed(measuring), needed(residuals))


@dataclass
class Tiling:
    """The tiles of the factors of each rung for a memory limit, known to be enough for all.

    Attributes
    ----------
    n, columns : int
        Order of A, and right-hand sides that are taken from the limit.
    method : {"LU", "Cholesky"}
    dtype : dtype
        Working precision.
    first : Format
        Of the first rung.
    largest : int
        Rows of the largest tile that is chosen.
    tile : int, optional
        That of the caller, which is taken on the first rung.
    is_identified : bool
        A has a checksum.
    limit : int
        Bytes.

    Raises
    ------
    LimitTooSmall
        With a figure that is enough.
    """

    n: int
    columns: int
    method: str
    dtype: np.dtype[Any]
    first: Format
    largest: int
    tile: int | None
    is_identified: bool
    limit: int

    def __post_init__(self) -> None:
        least = self.limit
        while (enough := self._needed_of(least)) > least:
            least = enough
        if least > self.limit:
            tasks = self._tasks(self._grid(self.first, max(1, self.limit - self.reserved)))
            if list_bytes(tasks):
                least = less(self._needed_of, self.limit, least)
            raise LimitTooSmall(least, self.limit, 0 if self.tile is None else tasks)

    def _tasks(self, grid: Grid) -> int:
        return task_count(self.method, len(grid.rows))

    @property
    def reserved(self) -> int:
        """Bytes of the right-hand sides, and of what refinement computes from them."""
        return _VECTORS * self.n * self.columns * self.dtype.itemsize

    def __call__(self, fmt: Format) -> Grid:
        """The tiles of the factors in a format."""
        return self._grid(fmt, self.limit - self.reserved)

    def _grid(self, fmt: Format, room: int) -> Grid:
        held, most = fmt.dtype(self.dtype), self.largest
        if self.tile is not None:
            given = default_grid(self.n, held, room, most, self.tile)
            if fmt is self.first or self._needed(given, fmt) <= room:
                return given
            most = given.tile[0]  # wider numbers on a rung above: narrower tiles
        grid = default_grid(self.n, held, room, most, None)
        least = max(1, min(self.n, SMALLEST))
        width = widest(
            grid.tile[0], least,
            lambda width: self._needed(Grid(grid.shape, (width, width)), fmt) <= room,
        )  # fmt: skip
        return Grid(grid.shape, (width, width))

    def _needed(self, grid: Grid, fmt: Format) -> int:
        """Bytes for the factors of a rung, and for solves with them."""
        return max(
            needed_by_factors(self.method, grid, fmt, self.dtype) + list_bytes(self._tasks(grid)),
            needed_by_solve(self.method, grid, self.columns + 1, fmt.dtype(self.dtype), self.dtype),
        )

    def _needed_of(self, limit: int) -> int:
        """Bytes of all, with the tiles that are chosen for a limit; at least one beyond b."""
        room = limit - self.reserved
        if self.n == 0 or room <= 0:
            return self.reserved + 1
        passes = needed_by_passes(
            self.n, self.columns + 1, self.dtype, room, is_identified=self.is_identified
        )
        formats = (self.first, working_format(self.dtype))
        return self.reserved + max(
            passes, *(self._needed(self._grid(fmt, room), fmt) for fmt in formats)
        )
