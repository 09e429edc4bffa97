"""By what a matrix is known again when a run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from .grid import Grid, extent
from .passes import checksums
from .sources import Blocks, Source
from .store import MemoryStore, Store
from .tasks import Key, Program, Tile
from .traffic import Traffic

__all__ = ["digest", "identified", "identity_program"]


def identity_program(grid: Grid, dtype: np.dtype[Any]) -> Program:
    """("bits", i, j), a checksum of each row of tile ("A", i, j)."""
    program = Program()
    for i, down in enumerate(grid.rows):
        for j, across in enumerate(grid.columns):
            block, bits = ("A", i, j), ("bits", i, j)
            height, width = extent(down), extent(across)
            program.tiles[block] = Tile((height, width), dtype)
            program.tiles[bits] = Tile((height,), np.dtype(np.uint64))
            program.add(checksums, reads=(block,), writes=(bits,), workspace=32 * height * width)
            program.results.add(bits)
    return program


def identified(
    source: Source, grid: Grid, dtype: np.dtype[Any], executor: Any, traffic: Traffic
) -> str:
    """A digest of all entries, taken in `dtype` tile by tile: one pass over A."""
    program, store = identity_program(grid, dtype), MemoryStore()
    inputs = Blocks(source, grid.rows, grid.columns, dtype, None)
    traffic.add(executor.run(program, inputs, store))
    return digest(store, sorted(program.results))


def digest(store: Store, keys: Iterable[Key]) -> str:
    """Of checksums that are in a store."""
    whole = hashlib.blake2b(digest_size=16)
    for key in keys:
        whole.update(store.read(key).tobytes())
    return whole.hexdigest()
