"""P A = L U by block columns, left-looking, with partial pivoting across tiles.

    for each block column k, from the left:
        for each block column j < k:
            A[j:, k] <- P_j A[j:, k]
            U[j, k] = L[j, j]^-1 A[j, k]
            A[i, k] <- A[i, k] - L[i, j] U[j, k],  i > j
        P_k A[k:, k] = L[k:, k] U[k, k]

A block column is read once and written once; what is left of it is read again for each one to its
right: about n^3 / (3 w) elements for width w. Rows of L stay where P_j left them: later
interchanges are not applied to them, so that solves interchange between block columns, too, as
LINPACK's did.

Pivots are chosen among all rows of a block column, whatever their tile (`panels`).

References
----------
Toledo, A survey of out-of-core algorithms in numerical linear algebra, in External Memory
Algorithms, DIMACS 50 (1999) 161, section 2 (left-looking, and its traffic).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.protocol import Array, Ops
from ..precision import Format
from .grid import Grid, extent, panel_entries
from .panels import factor_panels
from .pivots import move_rows, moves_of
from .shares import by_strips, subtract_product
from .tasks import Program, Tile, product_workspace

__all__ = ["lu_program"]

_FLOPS_A_MOVE = 200.0
"""Of a product, that take as long as to move an entry."""


def lu_program(grid: Grid, dtype: np.dtype[Any], fmt: Format, most: int | None = None) -> Program:
    """Tiles ("LU", i, k) of a square matrix become those of L and U; ("moves", k) are its pivots.

    ("info", k) is, for the block column k, the first column whose pivot is zero, counted from 1
    from the left of the matrix, or 0. With `most`, only so many block columns.
    """
    program = Program(is_divided=fmt.is_native)  # products in others need workspace
    parts = grid.rows
    count = len(parts)
    complex_factor = 4 if dtype.kind == "c" else 1
    for k, columns in enumerate(parts[:most]):
        width = extent(columns)
        column = [("LU", i, k) for i in range(count)]
        for i, rows in enumerate(parts):
            program.tiles[column[i]] = Tile((extent(rows), width), dtype)
        for j in range(k):
            height = extent(parts[j])
            program.add(
                interchange, reads=(("moves", j),), updates=tuple(column[j:]),
                workspace=2 * height * width * dtype.itemsize,
            )  # fmt: skip
            program.add(
                eliminate, reads=(("LU", j, j),), updates=(column[j],),
                flops=complex_factor * height**2 * width,
            )  # fmt: skip
            for i in range(j + 1, count):
                program.add(
                    subtract, reads=(("LU", i, j), column[j]), updates=(column[i],),
                    options={"fmt": fmt}, group=(k, j),
                    flops=complex_factor * 2.0 * extent(parts[i]) * height * width,
                    workspace=product_workspace(fmt, (extent(parts[i]) + width) * height),
                )  # fmt: skip
        moves, info = ("moves", k), ("info", k)
        program.tiles[moves] = Tile((2, 2 * width), np.dtype(np.int64), on_host=True)
        program.tiles[info] = Tile((1,), np.dtype(np.int64), on_host=True)
        m = grid.shape[0] - columns.start
        program.add(
            factor_column, updates=tuple(column[k:]), writes=(moves, info),
            options={"fmt": fmt, "first": columns.start},
            flops=complex_factor * (m * width**2 - width**3 / 3),
            workspace=panel_entries(m, width) * dtype.itemsize + 8 * m  # the order of the rows
            + product_workspace(fmt, 2 * width**2),
        )  # fmt: skip
        program.results.update(column, [moves, info])
    return program


# -- kernels -------------------------------------------------------------------------------------


def interchange(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """A[j:, k] <- P_j A[j:, k]"""
    (moves,) = reads
    width = updates[0].shape[1]
    by_strips(
        ops, lambda part: move_rows(ops, [tile[:, part] for tile in updates], moves), width,
        _FLOPS_A_MOVE * moves.shape[1] * width,
    )  # fmt: skip
    return ()


def eliminate(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """U[j, k] = L[j, j]^-1 A[j, k]"""
    (lu,), (a,) = reads, updates
    by_strips(
        ops, lambda part: ops.trsm("L", lu, a[:, part], lower=True, unit=True), a.shape[1],
        float(len(a) * a.size),
    )  # fmt: skip
    return ()


def subtract(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format
) -> tuple[Array, ...]:
    """A[i, k] <- A[i, k] - L[i, j] U[j, k]"""
    (left, right), (a,) = reads, updates
    if fmt.is_native:
        subtract_product(ops, left, right, a)
    else:
        ops.gemm(-1.0, left, right, 1.0, a, compute=fmt)
    return ()


def factor_column(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format, first: int
) -> tuple[Array, ...]:
    """P_k A[k:, k] = L[k:, k] U[k, k], the tiles from the diagonal down. Writes (moves, info)."""
    order, info = factor_panels(ops, updates, fmt)
    return moves_of(order), np.array([first + info if info else 0])
