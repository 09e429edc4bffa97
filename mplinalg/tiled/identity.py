"""By what a matrix is known again when a run goes on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import Grid, extent
from .passes import checksum_bytes, checksums
from .plan import TOGETHER, list_bytes, needed
from .sources import Blocks, Source
from .store import Store
from .tasks import Key, Program, Tile
from .traffic import Traffic

__all__ = ["digest", "identified", "identity_bytes", "identity_program"]


def identity_program(grid: Grid, dtype: np.dtype[Any], block_rows: range) -> Program:
    """("bits", i, j), a checksum of each row of tile ("A", i, j), in some block rows."""
    program, rows = Program(), grid.rows
    for i in block_rows:
        for j, across in enumerate(grid.columns):
            block, bits = ("A", i, j), ("bits", i, j)
            height, width = extent(rows[i]), extent(across)
            program.tiles[block] = Tile((height, width), dtype)
            program.tiles[bits] = Tile((height,), np.dtype(np.uint64))
            program.add(
                checksums, reads=(block,), writes=(bits,),
                workspace=checksum_bytes(height, width, dtype),
            )  # fmt: skip
            program.results.add(bits)
    return program


def identity_bytes(grid: Grid, dtype: np.dtype[Any]) -> int:
    """Of the memory limit, that `identified` needs."""
    (m, n), (height, width) = grid.shape, grid.tile
    largest = Grid((min(m, height), min(n, width)), grid.tile)
    return needed(identity_program(largest, dtype, range(len(largest.rows)))) + list_bytes(
        len(grid.columns) * len(_parts(grid)[0]) if m else 0
    )


def _parts(grid: Grid) -> list[range]:
    """Block rows, as many as are passed over by one list."""
    count, step = len(grid.rows), max(1, TOGETHER // max(1, len(grid.columns)))
    return [range(first, min(first + step, count)) for first in range(0, count, step)]


class _Sum(Store):
    """What is written to it, as a sum of digests that does not depend on the order."""

    def __init__(self) -> None:
        self.total, self._lock = 0, threading.Lock()

    def write(self, key: Key, tile: NDArray[Any], *, is_result: bool) -> None:
        one = hashlib.blake2b(repr(key).encode() + tile.tobytes(), digest_size=16).digest()
        with self._lock:
            self.total = (self.total + int.from_bytes(one, "little")) % 2**128

    def read(self, key: Key) -> NDArray[Any]:
        raise KeyError(key)  # nothing is kept


def identified(
    source: Source, grid: Grid, dtype: np.dtype[Any], executor: Any, traffic: Traffic, *,
    is_checked: bool = False,
) -> str:  # fmt: skip
    """A digest of all entries, taken in `dtype` tile by tile: one pass over A.

    Raises
    ------
    ValueError
        NaN or infinity, if `is_checked`.
    """
    store = _Sum()
    inputs = Blocks(source, grid.rows, grid.columns, dtype, None, is_checked=is_checked)
    for part in _parts(grid):
        traffic.add(executor.run(identity_program(grid, dtype, part), inputs, store))
    return f"{store.total:032x}"


def digest(store: Store, keys: Iterable[Key]) -> str:
    """Of checksums that are in a store."""
    whole = hashlib.blake2b(digest_size=16)
    for key in keys:
        whole.update(store.read(key).tobytes())
    return whole.hexdigest()
