"""A = L L^H by block columns, left-looking.

    for each block column k, from the left:
        for each block column j < k:
            A[i, k] <- A[i, k] - L[i, j] L[k, j]^H,  i >= k
        A[k, k] = L[k, k] L[k, k]^H
        L[i, k] = A[i, k] L[k, k]^-H,  i > k

Only tiles on and below the diagonal are read. About n^3 / (3 w) elements are read again for width
w, as with LU, and half as many flops are done.

Reference: Toledo, A survey of out-of-core algorithms in numerical linear algebra, in External
Memory Algorithms, DIMACS 50 (1999) 161, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops.protocol import Array, Ops
from ..precision import Format
from .grid import Grid, extent
from .shares import by_strips, subtract_product
from .tasks import Program, Tile, product_workspace

__all__ = ["cholesky_program"]


def cholesky_program(
    grid: Grid, dtype: np.dtype[Any], fmt: Format, most: int | None = None
) -> Program:
    """Tiles ("L", i, k), i >= k, of a Hermitian matrix become those of its Cholesky factor.

    ("info", k) is the order of the first leading minor that is not positive, if it ends in the
    block column k, or 0. What is above the diagonal in tiles ("L", k, k) has no meaning. With
    `most`, only so many block columns.
    """
    program = Program(is_divided=fmt.is_native)  # products in others need workspace
    parts = grid.rows
    count = len(parts)
    factor = 4 if dtype.kind == "c" else 1
    options = {"fmt": fmt}
    for k, columns in enumerate(parts[:most]):
        width = extent(columns)
        column = {i: ("L", i, k) for i in range(k, count)}
        for i, key in column.items():
            program.tiles[key] = Tile((extent(parts[i]), width), dtype)
        for j in range(k):
            depth = extent(parts[j])
            program.add(
                subtract_square, reads=(("L", k, j),), updates=(column[k],), options=options,
                group=(k, j), flops=factor * depth * width**2,
                workspace=product_workspace(fmt, depth * width),
            )  # fmt: skip
            for i in range(k + 1, count):
                program.add(
                    subtract, reads=(("L", i, j), ("L", k, j)), updates=(column[i],),
                    options=options, group=(k, j),
                    flops=factor * 2.0 * extent(parts[i]) * depth * width,
                    workspace=product_workspace(fmt, (extent(parts[i]) + width) * depth),
                )  # fmt: skip
        info = ("info", k)
        program.tiles[info] = Tile((1,), np.dtype(np.int64), on_host=True)
        program.add(
            factor_diagonal, updates=(column[k],), writes=(info,),
            options={"first": columns.start}, flops=factor * width**3 / 3,
        )  # fmt: skip
        for i in range(k + 1, count):
            program.add(
                solve_right, reads=(column[k],), updates=(column[i],),
                flops=factor * extent(parts[i]) * width**2, group=(k,),
            )  # fmt: skip
        program.results.update([*column.values(), info])
    return program


# -- kernels -------------------------------------------------------------------------------------


def subtract_square(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format
) -> tuple[Array, ...]:
    """A[k, k] <- A[k, k] - L[k, j] L[k, j]^H, the lower triangle."""
    (left,), (a,) = reads, updates
    compute = None if fmt.is_native else fmt
    # by columns: A^T <- A^T - (L^T)^H L^T, the upper triangle
    ops.syrk(-1.0, left.T, 1.0, a.T, lower=False, trans="C", compute=compute)
    return ()


def subtract(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, fmt: Format
) -> tuple[Array, ...]:
    """A[i, k] <- A[i, k] - L[i, j] L[k, j]^H"""
    (left, right), (a,) = reads, updates
    if fmt.is_native:
        subtract_product(ops, left, right, a, "C")
    else:
        ops.gemm(-1.0, left, right, 1.0, a, transb="C", compute=fmt)
    return ()


def factor_diagonal(
    ops: Ops, reads: Sequence[Array], updates: Sequence[Array], *, first: int
) -> tuple[Array, ...]:
    """A[k, k] = L[k, k] L[k, k]^H"""
    (a,) = updates
    # by columns: A^T = U^H U with U = L^T
    info = ops.first_info([(first, ops.potrf(a.T, lower=False))])
    return (np.array([info]),)


def solve_right(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """L[i, k] = A[i, k] L[k, k]^-H"""
    (lower,), (a,) = reads, updates
    by_strips(
        ops, lambda part: ops.trsm("R", lower, a[part], lower=True, trans="C"), len(a),
        float(a.size * a.shape[1]),
    )  # fmt: skip
    return ()
