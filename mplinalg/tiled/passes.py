"""Passes over a matrix by blocks of whole rows: its sizes, and residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.protocol import Array, Ops
from ..precision import real_dtype
from .tasks import Program, Tile

__all__ = ["measure_program", "residual_program", "row_blocks"]


def row_blocks(shape: tuple[int, int], itemsize: int, most: int) -> list[slice]:
    """Blocks of whole rows of at most `most` bytes; of one row at least."""
    m, n = shape
    height = max(1, most // max(1, n * itemsize))
    return [slice(start, min(start + height, m)) for start in range(0, m, height)]


def measure_program(
    blocks: Sequence[slice], n: int, dtype: np.dtype[Any], *, is_identified: bool
) -> Program:
    """("sizes", i): sums of |a| along the rows of block i, and their largest entries; ("columns",):
    the same of the columns; ("bits", i), if asked for: a checksum of each row of block i.
    """
    program, real = Program(), real_dtype(dtype)
    columns = ("columns",)
    program.tiles[columns] = Tile((2, n), real)
    for i, rows in enumerate(blocks):
        height = rows.stop - rows.start
        block, sizes = ("rows", i), ("sizes", i)
        program.tiles[block] = Tile((height, n), dtype)
        program.tiles[sizes] = Tile((2, height), real)
        program.add(
            measure, reads=(block,), updates=(columns,), writes=(sizes,),
            flops=2.0 * height * n, workspace=height * n * real.itemsize,
        )  # fmt: skip
        program.results.add(sizes)
        if is_identified:
            bits = ("bits", i)
            program.tiles[bits] = Tile((height,), np.dtype(np.uint64))
            program.add(checksums, reads=(block,), writes=(bits,), workspace=2 * height * n * 8)
            program.results.add(bits)
    program.results.add(columns)
    return program


def residual_program(
    blocks: Sequence[slice], n: int, nrhs: int, dtype: np.dtype[Any], *,
    magnitude: bool, extended: bool,
) -> Program:  # fmt: skip
    """("r", i) = b - A x of the rows of block i, and ("d", i) = |A||x| + |b|.

    Inputs besides the blocks ("rows", i) are ("x",) and ("b", i).
    """
    program, real = Program(), real_dtype(dtype)
    program.tiles[("x",)] = Tile((n, nrhs), dtype)
    factor = 4 if dtype.kind == "c" else 1
    for i, rows in enumerate(blocks):
        height = rows.stop - rows.start
        block, b, r, d = ("rows", i), ("b", i), ("r", i), ("d", i)
        program.tiles[block] = Tile((height, n), dtype)
        program.tiles[b] = program.tiles[r] = Tile((height, nrhs), dtype)
        program.tiles[d] = Tile((height, nrhs), real)
        writes = (r, d) if magnitude else (r,)
        program.add(
            residual, reads=(block, ("x",), b), writes=writes,
            options={"magnitude": magnitude, "extended": extended},
            flops=factor * 2.0 * height * n * nrhs,
            workspace=height * n * dtype.itemsize if magnitude or extended else 0,
        )  # fmt: skip
        program.results.update(writes)
    return program


# -- kernels -------------------------------------------------------------------------------------


def measure(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """Sums and largest entries of the rows, and of the columns so far."""
    (a,), (columns,) = reads, updates
    xp = ops.xp
    size = abs(a) if a.dtype.kind != "c" else abs(a.real) + abs(a.imag)
    columns[0] += size.sum(axis=0)
    columns[1] = xp.maximum(columns[1], size.max(axis=0))
    return (xp.stack([size.sum(axis=1), size.max(axis=1)]),)


def checksums(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """Sums modulo 2^64 of the words of each row, times odd numbers that tell their places."""
    (a,) = reads
    xp = ops.xp
    words = a.view(xp.uint32 if a.real.dtype.itemsize == 4 else xp.uint64)
    places = xp.arange(1, 2 * words.shape[1], 2, dtype=xp.uint64) * xp.uint64(0x9E3779B97F4A7C15)
    return ((words * places).sum(axis=1, dtype=xp.uint64),)


def residual(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, magnitude: bool, extended: bool
) -> tuple[Array, ...]:
    """r = b - A x, d = |A||x| + |b|"""
    a, x, b = reads
    r, d = ops.residual(a, x, b, magnitude=magnitude, extended=extended)
    if not magnitude:
        return (r,)
    return r, ops.magnitude(a, x, b) if d is None else d
