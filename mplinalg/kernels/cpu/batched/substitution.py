"""Triangular systems and norms of many members at once, in tiles.

A triangle R is the upper one of the matrix at place `r` of a tile, `ld` places a column; of its
diagonal the inverses are read, which `invert_diagonal` leaves at place `inverses`. `ld` is odd
(`lane_tiles.ld_of`), as rows are read as well as columns.
"""

from __future__ import annotations

from typing import Any

from numba.core import types as numba_types
from numba.extending import intrinsic

from ..jit import kernel
from ..lanes import where
from .householder import unit_column
from .lane_tiles import Register, Tile, integer, loop, tile_of

__all__ = [
    "bound_rcond", "inverse_of_product", "invert_diagonal", "largest_column", "set_zero",
    "solve_triangle",
]  # fmt: skip

types: Any = numba_types

TOGETHER = 4
"""Right-hand sides that are solved together: each number of R is loaded once for them."""


@intrinsic
def copy_number(typingctx, t, source, target):  # type: ignore[no-untyped-def]
    """Number `target` <- number `source`."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, source, target = values
        tile = tile_of(context, builder, signature.args[0], t)
        tile[target] = tile[source]
        return context.get_dummy_value()

    return types.void(t, types.intp, types.intp), codegen


@intrinsic
def set_zero(typingctx, t, first, count):  # type: ignore[no-untyped-def]
    """The `count` numbers at place `first` <- 0."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, first, count = values
        tile = tile_of(context, builder, signature.args[0], t)
        target, zero = tile.from_place(first), tile.zero()
        with loop(builder, 0, count) as i:
            target[i] = zero
        return context.get_dummy_value()

    return types.void(t, types.intp, types.intp), codegen


@intrinsic
def invert_diagonal(typingctx, t, r, ld, n, inverses):  # type: ignore[no-untyped-def]
    """Number k at place `inverses` <- 1 / R[k, k]."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, r, ld, n, inverses = values
        tile = tile_of(context, builder, signature.args[0], t)
        source, target = tile.from_place(r), tile.from_place(inverses)
        step = builder.add(ld, integer(1))
        with loop(builder, 0, n) as k:
            target[k] = source[builder.mul(k, step)].inverse()
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size, size), codegen


@intrinsic(prefer_literal=True)
def solve_triangle(typingctx, adjoint, t, r, ld, n, inverses, x, columns):  # type: ignore[no-untyped-def]
    """X <- R^-1 X, or R^-H X if `adjoint`; X is `columns` columns at place x, `ld` places each."""
    flip = bool(adjoint.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, t, r, ld, n, inverses, x, columns = values
        tile = tile_of(context, builder, signature.args[1], t)
        triangle, diagonal = tile.from_place(r), tile.from_place(inverses)

        def solve(target: Tile, together: int) -> None:
            starts = [builder.mul(ld, integer(q)) for q in range(together)]
            with loop(builder, 0, n) as step:
                last = builder.sub(n, integer(1))
                k = step if flip else builder.sub(last, step)
                sums = [Register(builder, target[builder.add(k, start)]) for start in starts]
                # x_k <- (x_k - sum_i r_ki x_i) / r_kk, over what is solved already
                known = (0, k) if flip else (builder.add(k, integer(1)), n)
                with loop(builder, *known) as i:
                    row, column = (i, k) if flip else (k, i)
                    number = triangle[builder.add(row, builder.mul(column, ld))]
                    number = number.conj() if flip else number
                    for total, start in zip(sums, starts, strict=True):
                        total.value = total.value - number * target[builder.add(i, start)]
                inverse = diagonal[k].conj() if flip else diagonal[k]
                for total, start in zip(sums, starts, strict=True):
                    target[builder.add(k, start)] = total.value * inverse

        blocks = builder.sdiv(columns, integer(TOGETHER))
        done = builder.mul(blocks, integer(TOGETHER))
        with loop(builder, 0, blocks) as block:
            j = builder.mul(block, integer(TOGETHER))
            solve(tile.from_place(builder.add(x, builder.mul(j, ld))), TOGETHER)
        with loop(builder, done, columns) as j:
            solve(tile.from_place(builder.add(x, builder.mul(j, ld))), 1)
        return context.get_dummy_value()

    size = types.intp
    return types.void(adjoint, t, size, size, size, size, size, size), codegen


# -- norms, of |re| + |im|; NaN where something is not finite -------------------------------------


@intrinsic
def largest_column(typingctx, t, first, rows, columns, ld, place):  # type: ignore[no-untyped-def]
    """Number `place` <- the 1-norm of a matrix."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, first, rows, columns, ld, place = values
        tile = tile_of(context, builder, signature.args[0], t)
        zero = tile.zero().real
        top, check = Register(builder, zero), Register(builder, zero)
        with loop(builder, 0, columns) as j:
            column = tile.from_place(builder.add(first, builder.mul(j, ld)))
            total = Register(builder, zero)
            with loop(builder, 0, rows) as i:
                total.value = total.value + column[i].magnitude()
            top.value = where(total.value > top.value, total.value, top.value)
            check.value = check.value + total.value * 0.0
        tile.set_real(place, top.value + check.value)
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size, size, size), codegen


@intrinsic
def _add_sums(typingctx, t, first, column, columns, ld, sums, top):  # type: ignore[no-untyped-def]
    """Columns of an upper triangle, from number `column` on: |r_ij| to the sums of the rows.

    The largest sum of a column, if it exceeds number `top`, takes the place of that.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, first, column, columns, ld, sums, top = values
        tile = tile_of(context, builder, signature.args[0], t)
        rows = tile.from_place(sums)
        with loop(builder, 0, columns) as j:
            numbers = tile.from_place(builder.add(first, builder.mul(j, ld)))
            total = Register(builder, tile.zero().real)
            last = builder.add(builder.add(column, j), integer(1))
            with loop(builder, 0, last) as i:
                size = numbers[i].magnitude()
                rows.set_real(i, rows[i].real + size)
                total.value = total.value + size
            largest = tile[top].real
            tile.set_real(top, where(total.value > largest, total.value, largest))
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size, size, size, size), codegen


@intrinsic
def _mean(typingctx, t, sums, n, top):  # type: ignore[no-untyped-def]
    """Number `top` <- the geometric mean of itself and the largest of n sums."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, sums, n, top = values
        tile = tile_of(context, builder, signature.args[0], t)
        rows, zero = tile.from_place(sums), tile.zero().real
        largest, check = Register(builder, zero), Register(builder, zero)
        with loop(builder, 0, n) as i:
            found = rows[i].real
            largest.value = where(found > largest.value, found, largest.value)
            check.value = check.value + found * 0.0
        mean = tile[top].real.sqrt() * largest.value.sqrt()
        tile.set_real(top, mean + check.value)
        return context.get_dummy_value()

    return types.void(t, types.intp, types.intp, types.intp), codegen


@intrinsic
def inverse_of_product(typingctx, t, first, second):  # type: ignore[no-untyped-def]
    """Number `first` <- 1 / (first * second), real."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, first, second = values
        tile = tile_of(context, builder, signature.args[0], t)
        tile.set_real(first, 1.0 / (tile[first].real * tile[second].real))
        return context.get_dummy_value()

    return types.void(t, types.intp, types.intp), codegen


@kernel
def bound_rcond(t, r, ld, n, inverses, scratch, place):  # type: ignore[no-untyped-def]
    """Number `place` <- a lower bound on the reciprocal condition number of R in the 2-norm.

    ||R||_2^2 <= ||R||_1 ||R||_inf, and so for its inverse, which is computed a few columns at a
    time: n^3 / 3 flops. NaN where R or its inverse is not finite.

    Parameters
    ----------
    t : 1-D array
    r, ld, n, inverses
        The triangle.
    scratch : int
        The first of TOGETHER ld + n + 1 places.
    place : int
    """
    sums = scratch + TOGETHER * ld
    top = sums + n
    set_zero(t, sums, n + 1)
    _add_sums(t, r, 0, n, ld, sums, top)
    _mean(t, sums, n, top)
    copy_number(t, top, place)
    set_zero(t, sums, n + 1)
    for column in range(0, n, TOGETHER):
        columns = min(TOGETHER, n - column)
        for j in range(columns):
            unit_column(t, scratch + j * ld, column + columns, column + j)
        solve_triangle(0, t, r, ld, column + columns, inverses, scratch, columns)
        _add_sums(t, scratch, column, columns, ld, sums, top)
    _mean(t, sums, n, top)
    inverse_of_product(t, place, top)
