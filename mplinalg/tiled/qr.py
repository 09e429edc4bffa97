"""A = Q R by block columns, left-looking, with reflectors that reach across two tiles at a time.

    for each block column k, from the left:
        for each block column j < k:
            A[j, k] <- Q_jj^H A[j, k]
            [A[j, k]; A[i, k]] <- Q_ij^H [A[j, k]; A[i, k]],  i > j
        A[k, k] = Q_kk R
        [R; A[i, k]] = Q_ik [R; 0],  i > k

The last two lines are TSQR of the block column with a flat tree: R goes down the column, tile by
tile. A reflector of the pair (k, i) is the identity in the rows of R, so what is kept of it is as
large as the tile it has made zero; its block reflectors I - V T V^H are `PANEL` columns wide.

References
----------
Buttari, Langou, Kurzak and Dongarra, Parallel Computing 35 (2009) 38 (tile QR).
Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput. 34 (2012) A206 (TSQR, flat trees).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..factor.blocks import blocks
from ..ops.protocol import Array, Ops
from .grid import Grid, extent
from .tasks import Key, Program, Tile

__all__ = ["PANEL", "q_program", "qr_program"]

PANEL = 64
"""Columns of a block reflector across two tiles."""


def qr_program(grid: Grid, dtype: np.dtype[Any]) -> Program:
    """Tiles ("QR", i, k) become R, on and above the diagonal, and reflectors below.

    ("tau", k) belongs to the reflectors in the diagonal tile, ("T", i, k) to those of tile (i, k).
    """
    program = Program()
    rows, columns = grid.rows, grid.columns
    factor = 4 if dtype.kind == "c" else 1
    for k, across in enumerate(columns):
        width = extent(across)
        column = [("QR", i, k) for i in range(len(rows))]
        for key, down in zip(column, rows, strict=True):
            program.tiles[key] = Tile((extent(down), width), dtype)
        for j in range(min(k, len(rows))):
            _apply(program, grid, dtype, j, column, "C", factor)
        if k < len(rows):
            _factor(program, grid, dtype, k, column, factor)
        program.results.update(column)
    return program


def q_program(grid: Grid, dtype: np.dtype[Any]) -> Program:
    """("Q", i, c): the first min(m, n) columns of Q, with the results of `qr_program`.

    The tiles of its block columns are those of the square at the top of A.
    """
    factored, program = qr_program(grid, dtype), Program()
    program.tiles.update(factored.tiles)
    m, n = grid.shape
    size = min(m, n)
    rows, steps = grid.rows, min(len(grid.rows), len(grid.columns))
    factor = 4 if dtype.kind == "c" else 1
    for c, across in enumerate(Grid((size, size), grid.tile).columns):
        width = extent(across)
        column = [("Q", i, c) for i in range(len(rows))]
        for key, down in zip(column, rows, strict=True):
            program.tiles[key] = Tile((extent(down), width), dtype)
            program.add(
                identity, writes=(key,),
                options={"shape": (extent(down), width), "dtype": dtype.char,
                         "offset": down.start - across.start},
            )  # fmt: skip
        for j in reversed(range(min(c + 1, steps))):
            _apply(program, grid, dtype, j, column, "N", factor)
        program.results.update(column)
    return program


def _factor(
    program: Program, grid: Grid, dtype: np.dtype[Any], k: int, column: list[Key], factor: int
) -> None:
    rows, width = grid.rows, program.tiles[column[k]].shape[1]
    height = extent(rows[k])
    tau: Key = ("tau", k)
    program.tiles[tau] = Tile((min(height, width),), dtype)
    least = min(height, width)
    program.add(
        factor_tile, updates=(column[k],), writes=(tau,),
        flops=factor * 2.0 * least**2 * (max(height, width) - least / 3),
        workspace=height * width * dtype.itemsize,
    )  # fmt: skip
    program.results.add(tau)
    for i in range(k + 1, len(rows)):
        below, t, panel = extent(rows[i]), ("T", i, k), min(PANEL, width)
        program.tiles[t] = Tile((panel, width), dtype)
        program.add(
            factor_pair, updates=(column[k], column[i]), writes=(t,),
            flops=factor * 2.0 * below * width**2,
            workspace=2 * panel * (below + 2 * panel + width) * dtype.itemsize,
        )  # fmt: skip
        program.results.add(t)


def _apply(
    program: Program, grid: Grid, dtype: np.dtype[Any], j: int, column: list[Key], trans: str,
    factor: int,
) -> None:  # fmt: skip
    """op(Q) of block column j on the tiles of another one: down it for Q^H, up it for Q."""
    rows, width = grid.rows, program.tiles[column[j]].shape[1]
    height, depth = extent(rows[j]), extent(grid.columns[j])
    least = min(height, depth)

    def of_tile() -> None:
        program.add(
            apply_tile, reads=(("QR", j, j), ("tau", j)), updates=(column[j],),
            options={"trans": trans}, flops=factor * 2.0 * width * least * (2 * height - least),
            workspace=height * (least + width) * dtype.itemsize,
        )  # fmt: skip

    def of_pair(i: int) -> None:
        program.add(
            apply_pair, reads=(("QR", i, j), ("T", i, j)), updates=(column[j], column[i]),
            options={"trans": trans}, flops=factor * 4.0 * extent(rows[i]) * depth * width,
            workspace=2 * min(PANEL, depth) * width * dtype.itemsize,
        )  # fmt: skip

    below = range(j + 1, len(rows))
    if trans == "C":
        of_tile()
        for i in below:
            of_pair(i)
    else:
        for i in reversed(below):
            of_pair(i)
        of_tile()


# -- kernels -------------------------------------------------------------------------------------


def identity(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *,
    shape: tuple[int, int], dtype: str, offset: int,
) -> tuple[Array, ...]:  # fmt: skip
    """A tile of the identity whose first row is `offset` rows below its first column."""
    return (ops.xp.eye(*shape, k=offset, dtype=dtype),)


def factor_tile(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """A[k, k] = Q_kk R"""
    (a,) = updates
    by_columns = ops.xp.asfortranarray(a)
    tau = ops.geqrf(by_columns)
    a[...] = by_columns
    return (tau,)


def apply_tile(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, trans: str
) -> tuple[Array, ...]:
    """C <- op(Q_jj) C"""
    (qr, tau), (c,) = reads, updates
    by_columns = ops.xp.asfortranarray(c)
    reflectors = ops.xp.asfortranarray(qr[:, : tau.size])
    ops.ormqr("L", trans, reflectors, tau, by_columns)
    c[...] = by_columns
    return ()


def factor_pair(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """[R; A] = Q [R'; 0], R in the upper triangle of the first tile; writes T."""
    xp = ops.xp
    top, a = updates
    width = a.shape[1]
    t = xp.zeros((min(PANEL, width), width), a.dtype)
    for s in blocks(width, PANEL):
        panel = extent(s)
        pair = xp.empty((panel + len(a), panel), a.dtype, order="F")
        pair[:panel] = xp.triu(top[s, s])
        pair[panel:] = a[:, s]
        _, triangle = ops.geqrf_panel(pair)
        top[s, s] = xp.triu(pair[:panel]) + xp.tril(top[s, s], -1)  # reflectors of its own tile
        a[:, s] = pair[panel:]
        t[:panel, s] = triangle
        right = slice(s.stop, width)
        if right.start < width:
            _reflect(ops, a[:, s], t[:panel, s], top[s, right], a[:, right], "C")
    return (t,)


def apply_pair(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, trans: str
) -> tuple[Array, ...]:
    """[C_j; C_i] <- op(Q_ij) [C_j; C_i]"""
    (v, t), (top, c) = reads, updates
    panels = list(blocks(v.shape[1], PANEL))
    for s in panels if trans == "C" else reversed(panels):
        _reflect(ops, v[:, s], t[: extent(s), s], top[s], c, trans)
    return ()


def _reflect(ops: Ops, v: Array, t: Array, top: Array, c: Array, trans: str) -> None:
    """[top; c] <- (I - [I; V] op(T) [I; V]^H) [top; c]"""
    w = top.copy()
    ops.gemm(1.0, v, c, 1.0, w, transa="C")
    z = ops.xp.empty_like(w)
    ops.gemm(1.0, t, w, 0.0, z, transa=trans)
    top -= z
    ops.gemm(-1.0, v, z, 1.0, c)
