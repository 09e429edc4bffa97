"""LU and Cholesky where a tile is a whole block column: few, large tasks, as suits a cluster.

    for each block column k, from the left:
        for each block column j < k:
            A[:, k] <- A[:, k] after step j of the elimination
        P_k A[k:, k] = L[k:, k] U[k, k], or A[k:, k] = L[k:, k] L[k, k]^H

They are the left-looking algorithms of `lu` and `cholesky`, one task to each line. Step j of block
columns k + 1, k + 2, ... is taken by other workers while block column k is factored; a worker keeps
the block columns that it updates, and what travels is L[:, j], once to each worker: n^2 / 2
elements. The pivots of a panel are those of partial pivoting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..factor.lu import getrf
from ..ops.protocol import Array, Ops
from ..precision import Format, real_dtype
from .cholesky import factor_diagonal, solve_right, subtract_square
from .grid import Grid, extent
from .pivots import move_rows, moves_of
from .tasks import Kernel, Key, Program, Tile, product_workspace
from .triangles import in_dtype

__all__ = [
    "cholesky_columns", "cholesky_solve_columns", "column_places", "lu_columns",
    "lu_solve_columns",
]  # fmt: skip

_STEP_BYTES = 2**25
"""Block columns that are solved with in one task: a task takes some milliseconds to start."""


def column_places(grid: Grid, method: str) -> tuple[list[slice], list[slice]]:
    """Rows and columns of the inputs: whole block columns, of Cholesky from the diagonal down."""
    n, columns = grid.shape[0], grid.columns
    return [slice(_first_row(c, method), n) for c in columns], columns


def _first_row(columns: slice, method: str) -> int:
    return int(columns.start) if method == "Cholesky" else 0


def lu_columns(grid: Grid, dtype: np.dtype[Any], fmt: Format) -> Program:
    """Block columns ("A", k, k) become ("L", k, k), from the diagonal down, with U above its own
    diagonal, and ("U", k, k), down to the diagonal block, which both have.

    ("moves", k) and ("info", k) are as in `lu.lu_program`; ("sizes", k) is the diagonal of U, and
    the largest entry of each of its columns, absolute values.
    """
    program, n = Program(), grid.shape[0]
    factor = 4 if dtype.kind == "c" else 1
    parts = grid.columns
    for k, columns in enumerate(parts):
        w, m = extent(columns), n - columns.start
        column, lower, upper = ("A", k, k), ("L", k, k), ("U", k, k)
        program.tiles[column] = Tile((n, w), dtype)
        program.tiles[lower] = Tile((m, w), dtype)
        program.tiles[upper] = Tile((columns.stop, w), dtype)
        for j, before in enumerate(parts[:k]):
            depth, below = extent(before), n - before.stop
            program.add(
                update_column, reads=(("L", j, j), ("moves", j)), updates=(column,), home=k,
                options={"fmt": fmt, "first": before.start},
                flops=factor * depth * w * (depth + 2.0 * below),
                workspace=max(
                    2 * depth * w * dtype.itemsize, product_workspace(fmt, (below + w) * depth)
                ),
            )  # fmt: skip
        moves, info, sizes = ("moves", k), ("info", k), ("sizes", k)
        program.tiles[moves] = Tile((2, 2 * w), np.dtype(np.int64), on_host=True)
        program.tiles[info] = Tile((1,), np.dtype(np.int64), on_host=True)
        program.tiles[sizes] = Tile((2, w), real_dtype(dtype))
        program.add(
            finish_lu, reads=(column,), writes=(lower, moves, info), home=k,
            options={"fmt": fmt, "first": columns.start},
            flops=factor * (m * w**2 - w**3 / 3),
            workspace=product_workspace(fmt, (m + w) * w),
        )  # fmt: skip
        program.add(
            upper_part, reads=(column, lower), writes=(upper, sizes), home=k,
            options={"first": columns.start}, workspace=columns.stop * w * dtype.itemsize,
        )  # fmt: skip
        program.results.update([lower, upper, moves, info, sizes])
    return program


def cholesky_columns(grid: Grid, dtype: np.dtype[Any], fmt: Format) -> Program:
    """Block columns ("L", k, k), from the diagonal down, become those of the Cholesky factor.

    ("info", k) is as in `cholesky.cholesky_program`; ("sizes", k) is the diagonal of L, and the
    largest entries of the columns of L[k, k]^H, absolute values. What is above the diagonal has no
    meaning.
    """
    program, n = Program(), grid.shape[0]
    factor = 4 if dtype.kind == "c" else 1
    parts = grid.columns
    for k, columns in enumerate(parts):
        w, m = extent(columns), n - columns.start
        column = ("L", k, k)
        program.tiles[column] = Tile((m, w), dtype)
        for j, before in enumerate(parts[:k]):
            depth = extent(before)
            program.add(
                update_lower, reads=(("L", j, j),), updates=(column,), home=k,
                options={"fmt": fmt, "below": columns.start - before.start},
                flops=factor * depth * w * (2.0 * m - w),
                workspace=product_workspace(fmt, (m + w) * depth),
            )  # fmt: skip
        info, sizes = ("info", k), ("sizes", k)
        program.tiles[info] = Tile((1,), np.dtype(np.int64), on_host=True)
        program.tiles[sizes] = Tile((2, w), real_dtype(dtype))
        program.add(
            finish_cholesky, updates=(column,), writes=(info, sizes), home=k,
            options={"first": columns.start}, flops=factor * (m * w**2 - 2 * w**3 / 3),
            workspace=w * w * dtype.itemsize,
        )  # fmt: skip
        program.results.update([column, info, sizes])
    return program


class _Solve:
    """A program on x, as a whole: tile ("x", 0), in the dtype of x."""

    def __init__(
        self, grid: Grid, nrhs: int, held: np.dtype[Any], dtype: np.dtype[Any], trans: str
    ) -> None:
        self.n, self.parts, self.nrhs = grid.shape[0], grid.columns, nrhs
        self.held, self.dtype, self.trans = held, dtype, trans
        self.program = Program()
        self.program.tiles[("x", 0)] = Tile((self.n, nrhs), dtype)
        self.program.results.add(("x", 0))

    def sweep(
        self, kernel: Kernel, letter: str, *, forward: bool, moves: bool = False, **options: Any
    ) -> None:
        """Tasks for the block columns of a factor, from the left or from the right.

        Each takes as many as have _STEP_BYTES together, or one.
        """
        numbers = list(range(len(self.parts)))
        numbers = numbers if forward else numbers[::-1]
        some: list[int] = []
        for k in numbers:
            if some and sum(map(self._declared(letter), (*some, k))) > _STEP_BYTES:
                self._add(kernel, letter, some, moves, options)
                some = []
            some.append(k)
        if some:
            self._add(kernel, letter, some, moves, options)

    def _declared(self, letter: str) -> Callable[[int], int]:
        """Number of a block column -> its bytes; its tile is declared."""

        def nbytes(k: int) -> int:
            part = self.parts[k]
            rows = part.stop if letter == "U" else self.n - part.start
            tile = self.program.tiles[(letter, k, k)] = Tile((rows, extent(part)), self.held)
            return tile.nbytes

        return nbytes

    def _add(
        self, kernel: Kernel, letter: str, some: list[int], moves: bool, options: dict[str, Any]
    ) -> None:
        sizes = list(map(self._declared(letter), some))
        reads: list[Key] = [(letter, k, k) for k in some]
        widest = max(extent(self.parts[k]) for k in some)
        if moves:
            reads += [("moves", k) for k in some]
            for k in some:
                self.program.tiles[("moves", k)] = Tile(
                    (2, 2 * extent(self.parts[k])), np.dtype(np.int64), on_host=True
                )
        upcast = max(sizes) // self.held.itemsize * self.dtype.itemsize
        self.program.add(
            kernel, reads=tuple(reads), updates=(("x", 0),),
            options={"parts": tuple(self.parts[k] for k in some), "trans": self.trans, **options},
            flops=2.0 * (4 if self.dtype.kind == "c" else 1) * self.nrhs
            * sum(sizes) / self.held.itemsize,
            workspace=2 * widest * self.nrhs * self.dtype.itemsize
            + (upcast if self.held != self.dtype or self.trans == "conj" else 0),
        )  # fmt: skip


def lu_solve_columns(
    grid: Grid, nrhs: int, held: np.dtype[Any], dtype: np.dtype[Any], trans: str
) -> Program:
    """op(A) x = b with the results of `lu_columns`; op is "N", "T" or "C".

    ("x", 0) is an input, b, and the result, x. Factors are held in dtype `held`.
    """
    solve = _Solve(grid, nrhs, held, dtype, trans)
    if trans == "N":
        solve.sweep(lower_columns, "L", forward=True, moves=True)
        solve.sweep(upper_columns, "U", forward=False)
    else:
        solve.sweep(upper_columns, "U", forward=True)
        solve.sweep(lower_columns, "L", forward=False, moves=True)
    return solve.program


def cholesky_solve_columns(
    grid: Grid, nrhs: int, held: np.dtype[Any], dtype: np.dtype[Any], trans: str
) -> Program:
    """A x = b with the results of `cholesky_columns`; A^T x = b if `trans` is "T".

    A^T = conj(A): both solves are by L and L^H, or by conj(L) and L^T.
    """
    first, second = ("N", "C") if trans != "T" else ("conj", "T")
    solve = _Solve(grid, nrhs, held, dtype, first)
    solve.sweep(lower_columns, "L", forward=True, unit=False)
    solve.trans = second
    solve.sweep(lower_columns, "L", forward=False, unit=False)
    return solve.program


# -- kernels of the factorizations ---------------------------------------------------------------


def update_column(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format, first: int
) -> tuple[Array, ...]:
    """A[j:, k] <- P_j A[j:, k], U[j, k] = L[j, j]^-1 A[j, k], A[i, k] <- A[i, k] - L[i, j] U[j, k],
    i > j
    """
    (lower, moves), (a,) = reads, updates
    w = lower.shape[1]
    below = a[first:]
    move_rows(ops, (below,), moves)
    ops.trsm("L", lower[:w], below[:w], lower=True, unit=True)
    compute = None if fmt.is_native else fmt
    ops.gemm(-1.0, lower[w:], below[:w], 1.0, below[w:], compute=compute)
    return ()


def finish_lu(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format, first: int
) -> tuple[Array, ...]:
    """P_k A[k:, k] = L[k:, k] U[k, k]. Writes (L, moves, info)."""
    (a,) = reads
    lower = a[first:].copy(order="F")
    piv, info = getrf(ops, lower, fmt)
    order = np.arange(len(lower))
    for i, p in enumerate(piv.tolist()):
        order[[i, p]] = order[[p, i]]
    return lower, moves_of(order), np.array([first + info if info else 0])


def upper_part(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, first: int
) -> tuple[Array, ...]:
    """U[:k, k] and L[k, k] with U[k, k]. Writes (U, sizes)."""
    (a, lower), xp = reads, ops.xp
    upper = xp.concatenate([a[:first], lower[: a.shape[1]]])
    sizes = abs(upper)
    sizes[first:] = xp.triu(sizes[first:])
    return upper, xp.stack([sizes[first:].diagonal(), sizes.max(axis=0)])


def update_lower(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format, below: int
) -> tuple[Array, ...]:
    """A[i, k] <- A[i, k] - L[i, j] L[k, j]^H,  i >= k"""
    (lower,), (a,) = reads, updates
    w = a.shape[1]
    right, left = lower[below : below + w], lower[below + w :]
    subtract_square(ops, (right,), (a[:w],), fmt=fmt)
    compute = None if fmt.is_native else fmt
    ops.gemm(-1.0, left, right, 1.0, a[w:], transb="C", compute=compute)
    return ()


def finish_cholesky(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, first: int
) -> tuple[Array, ...]:
    """A[k, k] = L[k, k] L[k, k]^H, L[i, k] = A[i, k] L[k, k]^-H. Writes (info, sizes)."""
    (a,) = updates
    xp, w = ops.xp, a.shape[1]
    (info,) = factor_diagonal(ops, (), (a[:w],), first=first)
    solve_right(ops, (a[:w],), (a[w:],))
    sizes = xp.tril(abs(a[:w]))
    return info, xp.stack([sizes.diagonal(), sizes.max(axis=1)])


# -- kernels of the solves -----------------------------------------------------------------------


def lower_columns(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *,
    parts: tuple[slice, ...], trans: str, unit: bool = True,
) -> tuple[Array, ...]:  # fmt: skip
    """x <- op(L)^-1 x for some block columns of L, with their interchanges if there are any."""
    (x,), count = updates, len(parts)
    for part, tile, moves in zip(parts, reads, reads[count:] or [None] * count, strict=False):
        lower, op = in_dtype(ops, tile, x.dtype, trans)
        w, rest = extent(part), x[part.start :]
        top, below = rest[:w], rest[w:]
        if op == "N":
            if moves is not None:
                move_rows(ops, (rest,), moves)
            ops.trsm("L", lower[:w], top, lower=True, unit=unit)
            ops.gemm(-1.0, lower[w:], top, 1.0, below)
        else:
            ops.gemm(-1.0, lower[w:], below, 1.0, top, transa=op)
            ops.trsm("L", lower[:w], top, lower=True, unit=unit, trans=op)
            if moves is not None:
                move_rows(ops, (rest,), moves, back=True)
    return ()


def upper_columns(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *,
    parts: tuple[slice, ...], trans: str,
) -> tuple[Array, ...]:  # fmt: skip
    """x <- op(U)^-1 x for some block columns of U."""
    (x,) = updates
    for part, tile in zip(parts, reads, strict=True):
        upper, op = in_dtype(ops, tile, x.dtype, trans)
        above, here = x[: part.start], x[part]
        if op == "N":
            ops.trsm("L", upper[part], here, lower=False)
            ops.gemm(-1.0, upper[: part.start], here, 1.0, above)
        else:
            ops.gemm(-1.0, upper[: part.start], above, 1.0, here, transa=op)
            ops.trsm("L", upper[part], here, lower=False, trans=op)
    return ()
