"""Which members of a tile are to be looked at one by one: what `straight` says of registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..lanes import where
from .elimination import BLOCK, as_real, spread
from .lane_tiles import Register, integer, loop, reals_of, tile_of
from .straight import is_fine, largest_size, store_flags

__all__ = ["doubts", "extremes", "largest_row", "note_growth", "trace"]

GROWTH = 8.0
"""Of max |U| over the norm of A: beyond it LU may not be backward stable. Random matrices of order
128 come to about 1; straight code, up to order 8, to 2^7 / 8 at most."""

types: Any = numba_types

_INT = types.intp


@intrinsic
def largest_row(typingctx, t, n, ld, size):  # type: ignore[no-untyped-def]
    """size[0] <- the largest sum of the magnitudes of a row, of n rows and columns of a tile.

    Infinite where a number is; NaN may get lost.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, n, ld, size = values
        tile = tile_of(context, builder, signature.args[0], t)
        zero = tile.zero().real
        sums = [Register(builder, zero) for _ in range(BLOCK)]
        best = Register(builder, zero)
        best.value = zero

        def rows(first: Any, registers: list[Register]) -> None:
            for register in registers:
                register.value = zero
            with loop(builder, 0, n) as j:
                place = builder.add(first, builder.mul(j, ld))
                for q, register in enumerate(registers):
                    here = tile[builder.add(place, integer(q))]
                    register.value = register.value + here.magnitude()
            for register in registers:
                found = register.value
                best.value = where(found > best.value, found, best.value)

        groups = builder.sdiv(n, integer(BLOCK))
        with loop(builder, 0, groups) as group:
            rows(builder.mul(group, integer(BLOCK)), sums)
        with loop(builder, builder.mul(groups, integer(BLOCK)), n) as i:
            rows(i, sums[:1])
        target = tile_of(context, builder, signature.args[3], size)
        target.set_real(integer(0), best.value)
        return context.get_dummy_value()

    return types.void(t, _INT, _INT, size), codegen


@intrinsic
def note_growth(typingctx, t, n, ld, sizes, place):  # type: ignore[no-untyped-def]
    """sizes[place] <- infinity where U, in the upper triangle of a tile, is much larger than it.

    A member whose size is infinite is one to be looked at.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, n, ld, sizes, place = values
        tile = tile_of(context, builder, signature.args[0], t)
        zero = tile.zero().real
        tops = [Register(builder, zero) for _ in range(BLOCK)]
        for top in tops:
            top.value = zero

        def take(top: Register, at: Any) -> None:
            here = tile[at].magnitude()
            top.value = where(here > top.value, here, top.value)

        with loop(builder, 0, n) as j:
            start = builder.mul(j, ld)
            height = builder.add(j, integer(1))
            groups = builder.sdiv(height, integer(BLOCK))
            with loop(builder, 0, groups) as group:
                first = builder.add(start, builder.mul(group, integer(BLOCK)))
                for q, top in enumerate(tops):
                    take(top, builder.add(first, integer(q)))
            with loop(builder, builder.mul(groups, integer(BLOCK)), height) as i:
                take(tops[0], builder.add(start, i))
        largest = tops[0].value
        for top in tops[1:]:
            largest = where(top.value > largest, top.value, largest)
        target = tile_of(context, builder, signature.args[3], sizes)
        size = target[place].real
        limit = size * GROWTH
        target.set_real(place, where(largest > limit, size.constant(float("inf")), size))
        return context.get_dummy_value()

    return types.void(t, _INT, _INT, sizes, _INT), codegen


@intrinsic
def trace(typingctx, t, n, ld, size):  # type: ignore[no-untyped-def]
    """size[0] <- the sum of the diagonal of a tile: of definite matrices, their norm and more."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, n, ld, size = values
        tile = tile_of(context, builder, signature.args[0], t)
        total = Register(builder, tile.zero().real)
        total.value = tile.zero().real
        step = builder.add(ld, integer(1))
        with loop(builder, 0, n) as i:
            total.value = total.value + tile[builder.mul(i, step)].real
        target = tile_of(context, builder, signature.args[3], size)
        target.set_real(integer(0), total.value)
        return context.get_dummy_value()

    return types.void(t, _INT, _INT, size), codegen


@intrinsic
def doubts(typingctx, size, y, z, n, probes, columns, ld, limit, out, first):  # type: ignore[no-untyped-def]
    """out[first], ... <- 1 for members that are not fine, see `straight.is_fine`; else 0.

    Parameters
    ----------
    size : array
        A tile with the size of the matrix.
    y : array
        A tile with the solutions of the random right-hand sides, `probes` columns of n numbers,
        `ld` apart, from place `z` on; `columns` solutions follow.
    limit : float
        For the product of the sizes of the matrix and of its inverse.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        size, y, z, n, probes, columns, ld, limit, out, first = values
        norm = tile_of(context, builder, signature.args[0], size)[integer(0)].real
        tile = tile_of(context, builder, signature.args[1], y).from_place(z)
        stretch, zero = (Register(builder, norm) for _ in range(2))
        stretch.value = zero.value = norm.constant(0.0)
        with loop(builder, 0, builder.add(probes, columns)) as j:
            line = builder.mul(j, ld)
            with loop(builder, 0, n) as i:
                zero.value = zero.value + tile[builder.add(i, line)].magnitude() * 0.0
        with loop(builder, 0, probes) as j:
            line = builder.mul(j, ld)
            with loop(builder, 0, n) as i:
                found = tile[builder.add(i, line)].magnitude()
                stretch.value = where(found > stretch.value, found, stretch.value)
        kind = norm.value.type
        most = spread(builder, kind, as_real(builder, kind.element, limit))
        fine = is_fine(norm, stretch.value, zero.value, most)
        store_flags(builder, ~fine, reals_of(context, builder, signature.args[8], out), first)
        return context.get_dummy_value()

    return types.void(size, y, *[_INT] * 5, types.float64, out, _INT), codegen


@intrinsic
def extremes(typingctx, t, n, ld, out, first):  # type: ignore[no-untyped-def]
    """out[first], ... <- 1 where a number on the diagonal has an inverse that is not to be trusted.

    It is zero, not finite, or near the ends of the range.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, n, ld, out, first = values
        tile = tile_of(context, builder, signature.args[0], t)
        zero = tile.zero().real
        largest, least = Register(builder, zero), Register(builder, zero)
        largest.value = least.value = tile[integer(0)].magnitude()
        check = Register(builder, zero)
        check.value = zero
        step = builder.add(ld, integer(1))
        with loop(builder, 0, n) as i:
            size = tile[builder.mul(i, step)].magnitude()
            largest.value = where(size > largest.value, size, largest.value)
            least.value = where(size < least.value, size, least.value)
            check.value = check.value + size * 0.0
        most = largest_size(isinstance(zero.value.type.element, ir.FloatType))
        fine = (least.value > 1.0 / most) & (largest.value < most) & check.value.equals(0.0)
        store_flags(builder, ~fine, reals_of(context, builder, signature.args[3], out), first)
        return context.get_dummy_value()

    return types.void(t, _INT, _INT, out, _INT), codegen
