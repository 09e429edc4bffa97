"""Passes over a matrix by blocks of whole rows: its sizes, and residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.protocol import Array, Ops
from ..precision import real_dtype
from .tasks import Program, Tile

__all__ = ["checksum_bytes", "checksums", "measure_program", "residual_program", "row_blocks"]


_FUSED = 2
"""Right-hand sides whose residuals are computed without |A| on a CPU (`NumpyOps.fused_columns`)."""


def row_blocks(shape: tuple[int, int], itemsize: int, most: int) -> list[slice]:
    """Blocks of whole rows of at most `most` bytes; of one row at least."""
    m, n = shape
    height = max(1, most // max(1, n * itemsize))
    return [slice(start, min(start + height, m)) for start in range(0, m, height)]


def measure_program(
    blocks: Sequence[slice], n: int, dtype: np.dtype[Any], *, is_identified: bool,
    apart: bool = False,
) -> Program:  # fmt: skip
    """("sizes", i): sums of |a| along the rows of block i, and their largest entries; ("columns",):
    the same of the columns; ("bits", i), if asked for: a checksum of each row of block i.

    With `apart`, ("columns", i) are those of block i, so that no block waits for another.
    """
    program, real = Program(), real_dtype(dtype)
    for i, rows in enumerate(blocks):
        columns = ("columns", i) if apart else ("columns",)
        program.tiles[columns] = Tile((2, n), real)
        height = rows.stop - rows.start
        block, sizes = ("rows", i), ("sizes", i)
        program.tiles[block] = Tile((height, n), dtype)
        program.tiles[sizes] = Tile((2, height), real)
        program.add(
            measure_apart if apart else measure, reads=(block,), flops=2.0 * height * n,
            updates=() if apart else (columns,), writes=(sizes, columns) if apart else (sizes,),
            workspace=height * n * real.itemsize,
        )  # fmt: skip
        program.results.update([sizes, columns])
        if is_identified:
            bits = ("bits", i)
            program.tiles[bits] = Tile((height,), np.dtype(np.uint64))
            program.add(
                checksums, reads=(block,), writes=(bits,),
                workspace=checksum_bytes(height, n, dtype),
            )  # fmt: skip
            program.results.add(bits)
    return program


def checksum_bytes(height: int, width: int, dtype: np.dtype[Any]) -> int:
    """That `checksums` of a block takes: products of words, parts of them, sums of their rows, and
    places of words.
    """
    size = np.dtype(np.uint64).itemsize
    words = width * (2 if dtype.kind == "c" else 1)
    parts = 1 if real_dtype(dtype).itemsize == 4 else 3
    rows = checksum_rows(height)
    return size * (words * (parts * rows + 3) + rows)


def residual_program(
    blocks: Sequence[slice], n: int, nrhs: int, dtype: np.dtype[Any], *,
    magnitude: bool, extended: bool,
) -> Program:  # fmt: skip
    """("r", i) = b - A x of the rows of block i, and ("d", i) = |A||x| + |b|.

    Inputs besides the blocks ("rows", i) are ("x",) and ("b", i).
    """
    # what a task allocates is counted once: where it is nothing, several may run
    is_lean = nrhs <= _FUSED and magnitude and not extended
    program, real = Program(is_divided=is_lean), real_dtype(dtype)
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
            options={"magnitude": magnitude, "extended": extended}, group=(0,),
            flops=factor * 2.0 * height * n * nrhs,
            workspace=height * n * dtype.itemsize if magnitude or extended else 0,
        )  # fmt: skip
        program.results.update(writes)
    return program


# -- kernels -------------------------------------------------------------------------------------


def measure(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """Sums and largest entries of the rows, and of the columns so far."""
    (a,), (columns,) = reads, updates
    return (ops.sizes(a, columns),)


def measure_apart(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """As `measure`, of one block: both are written."""
    (a,) = reads
    columns = ops.xp.zeros((2, a.shape[1]), a.real.dtype)
    (sizes,) = measure(ops, reads, (columns,))
    return sizes, columns


def checksums(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """Sums modulo 2^64 of the words of each row, times odd random numbers that tell their places.

    Words are folded first: of their highest bits alone, the signs, any two would cancel.
    """
    (a,) = reads
    xp = ops.xp
    words = a.view(xp.uint32 if a.real.dtype.itemsize == 4 else xp.uint64)
    places = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64)
    odd = xp.asarray(2 * places + np.uint64(1))
    sums = xp.empty(len(a), xp.uint64)
    step = checksum_rows(len(a))
    for start in range(0, len(a), step):
        some = words[start : start + step]
        if some.dtype.itemsize == 8:
            some = some ^ (some >> xp.uint64(32))
        sums[start : start + step] = (some * odd).sum(axis=1, dtype=xp.uint64)
    return (sums,)


def checksum_rows(height: int) -> int:
    """Of how many rows checksums are computed at a time."""
    return max(1, -(-height // 8))


def residual(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, magnitude: bool, extended: bool
) -> tuple[Array, ...]:
    """r = b - A x, d = |A||x| + |b|"""
    a, x, b = reads
    r, d = ops.residual(a, x, b, magnitude=magnitude, extended=extended)
    if not magnitude:
        return (r,)
    return r, ops.magnitude(a, x, b) if d is None else d
