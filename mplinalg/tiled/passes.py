"""Passes over a matrix by blocks of whole rows: its sizes, and residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.protocol import Array, Ops
from ..precision import real_dtype
from .tasks import Program, Tile

__all__ = ["measure_program", "residual_program", "row_blocks"]


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
            program.add(checksums, reads=(block,), writes=(bits,), workspace=4 * height * n * 8)
            program.results.add(bits)
    return program


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
    if words.dtype.itemsize == 8:
        words = words ^ (words >> xp.uint64(32))
    places = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64)
    odd = xp.asarray(2 * places + np.uint64(1))
    return ((words * odd).sum(axis=1, dtype=xp.uint64),)


def residual(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, magnitude: bool, extended: bool
) -> tuple[Array, ...]:
    """r = b - A x, d = |A||x| + |b|"""
    a, x, b = reads
    r, d = ops.residual(a, x, b, magnitude=magnitude, extended=extended)
    if not magnitude:
        return (r,)
    return r, ops.magnitude(a, x, b) if d is None else d
