"""x = op(A)^-1 b with the tiles of a factorization: each tile is read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.protocol import Array, Ops
from .grid import Grid, extent
from .pivots import move_rows
from .tasks import Key, Program, Tile

__all__ = ["cholesky_solve_program", "in_dtype", "lu_solve_program"]

_FEW = 8
"""Right-hand sides with which the memory, not a thread, is what a product waits for."""


class _Solve:
    """A program on the blocks ("x", i) of right-hand sides, in the dtype of x."""

    def __init__(
        self, grid: Grid, letter: str, nrhs: int, held: np.dtype[Any], dtype: np.dtype[Any],
        *, in_groups: bool,
    ) -> None:  # fmt: skip
        self.parts, self.letter = grid.rows, letter
        self.nrhs, self.held = nrhs, held
        self.upcasts = held != dtype
        # what is converted takes workspace, which is counted once; and only what comes in groups
        # is divided
        self.program = Program(is_divided=in_groups and nrhs <= _FEW and not self.upcasts)
        self.dtype = dtype
        for i, rows in enumerate(self.parts):
            self.program.tiles[("x", i)] = Tile((extent(rows), nrhs), dtype)
            self.program.results.add(("x", i))

    def tile(self, i: int, j: int) -> Key:
        key = (self.letter, i, j)
        self.program.tiles[key] = Tile((extent(self.parts[i]), extent(self.parts[j])), self.held)
        return key

    def solve(self, j: int, **options: Any) -> None:
        """x[j] <- op(T[j, j])^-1 x[j]"""
        self._add(solve_triangle, self.tile(j, j), (), j, options, None)

    def subtract(self, i: int, j: int, into: int, of: int, trans: str) -> None:
        """x[into] <- x[into] - op(T[i, j]) x[of]"""
        self._add(subtract_product, self.tile(i, j), (("x", of),), into, {"trans": trans}, (of,))

    def _add(
        self, kernel: Any, tile: Key, more: tuple[Key, ...], x: int, options: Any,
        group: tuple[int, ...] | None,
    ) -> None:  # fmt: skip
        held = self.program.tiles[tile]
        complex_factor = 4 if self.dtype.kind == "c" else 1
        entries = held.shape[0] * held.shape[1]
        self.program.add(
            kernel, reads=(tile, *more), updates=(("x", x),), options=options, group=group,
            flops=complex_factor * entries * self.nrhs * (2.0 if more else 1.0),
            workspace=entries * self.dtype.itemsize * (self.upcasts or "conj" in options.values()),
        )  # fmt: skip

    def interchange(self, j: int, *, back: bool) -> None:
        """x[j:] <- P_j x[j:], or its inverse"""
        moves = ("moves", j)
        self.program.tiles[moves] = Tile(
            (2, 2 * extent(self.parts[j])), np.dtype(np.int64), on_host=True
        )
        blocks = tuple(("x", i) for i in range(j, len(self.parts)))
        self.program.add(
            interchange, reads=(moves,), updates=blocks, options={"back": back},
            workspace=2 * extent(self.parts[j]) * self.nrhs * self.dtype.itemsize,
        )  # fmt: skip


def lu_solve_program(
    grid: Grid, nrhs: int, held: np.dtype[Any], dtype: np.dtype[Any], trans: str
) -> Program:
    """op(A) x = b with the results of `lu.lu_program`; op is "N", "T" or "C".

    Blocks ("x", i) are inputs, b, and results, x. Factors are held in dtype `held`.
    """
    solve = _Solve(grid, "LU", nrhs, held, dtype, in_groups=trans == "N")
    count = len(solve.parts)
    if trans == "N":
        for j in range(count):  # L, with the interchange before each block column
            solve.interchange(j, back=False)
            solve.solve(j, lower=True, unit=True)
            for i in range(j + 1, count):
                solve.subtract(i, j, i, j, "N")
        for j in reversed(range(count)):
            solve.solve(j, lower=False)
            for i in range(j):
                solve.subtract(i, j, i, j, "N")
        return solve.program
    for j in range(count):
        for i in range(j):
            solve.subtract(i, j, j, i, trans)
        solve.solve(j, lower=False, trans=trans)
    for j in reversed(range(count)):
        for i in range(j + 1, count):
            solve.subtract(i, j, j, i, trans)
        solve.solve(j, lower=True, unit=True, trans=trans)
        solve.interchange(j, back=True)
    return solve.program


def cholesky_solve_program(
    grid: Grid, nrhs: int, held: np.dtype[Any], dtype: np.dtype[Any], trans: str
) -> Program:
    """A x = b with the results of `cholesky.cholesky_program`; A^T x = b if `trans` is "T".

    A^T = conj(A): both solves are by L and L^H, or by conj(L) and L^T.
    """
    is_conjugated = trans == "T" and dtype.kind == "c"
    solve = _Solve(grid, "L", nrhs, held, dtype, in_groups=not is_conjugated)
    count = len(solve.parts)
    first, second = ("conj", "T") if is_conjugated else ("N", "C")
    for j in range(count):
        solve.solve(j, lower=True, trans=first)
        for i in range(j + 1, count):
            solve.subtract(i, j, i, j, first)
    for i in reversed(range(count)):
        solve.solve(i, lower=True, trans=second)
        for j in range(i):
            solve.subtract(i, j, j, i, second)
    return solve.program


# -- kernels -------------------------------------------------------------------------------------


def interchange(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, back: bool
) -> tuple[Array, ...]:
    """x <- P x, or P^T x"""
    move_rows(ops, updates, reads[0], back=back)
    return ()


def solve_triangle(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *,
    lower: bool, unit: bool = False, trans: str = "N",
) -> tuple[Array, ...]:  # fmt: skip
    """x <- op(T)^-1 x"""
    (tile,), (x,) = reads, updates
    tile, trans = in_dtype(ops, tile, x.dtype, trans)
    ops.trsm("L", tile, x, lower=lower, unit=unit, trans=trans)
    return ()


def subtract_product(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, trans: str
) -> tuple[Array, ...]:
    """x[i] <- x[i] - op(T) x[j]"""
    (tile, other), (x,) = reads, updates
    tile, trans = in_dtype(ops, tile, x.dtype, trans)
    ops.gemm(-1.0, tile, other, 1.0, x, transa=trans)
    return ()


def in_dtype(ops: Ops, tile: Array, dtype: np.dtype[Any], trans: str) -> tuple[Array, str]:
    """A tile in a dtype, and what is left of op."""
    tile = tile.astype(dtype, copy=False)
    return (ops.xp.conj(tile), "N") if trans == "conj" else (tile, trans)
