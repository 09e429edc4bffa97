"""Steps of elimination in tiles (see `lane_tiles`): matrices that registers cannot hold.

A step takes `BLOCK` columns, the panel. Inside it columns are eliminated one by one; what lies to
the right of it is then updated once, with the numbers of the panel's rows in registers: four
multiplications and additions for each number loaded and stored.

Tiles are arrays of the dtype of the matrices, complex ones too. A matrix M has its number (i, k) at
place ``base + i down + k across`` of its tile, so that a transpose is a matter of strides; Y has
(i, j) at ``y_base + i + j y_ld``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..lanes import Lanes, where
from .lane_tiles import Register, Tile, integer, loop, reals_of, tile_of

__all__ = [
    "BLOCK",
    "as_real",
    "backward",
    "conjugate",
    "eliminate",
    "eliminate_definite",
    "exchange",
    "forward",
    "invert",
    "put_constant",
    "search",
    "spread",
    "subtract_adjoint",
]

types: Any = numba_types

BLOCK = 4
"""Columns of a panel."""

_INT = types.intp
_PLACE = ir.IntType(32)


def spread(builder: Any, kind: Any, number: Any) -> Lanes:
    """An LLVM number as the same for every member."""
    row = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(_PLACE, 0))
    zeros = ir.Constant(ir.VectorType(_PLACE, kind.count), [0] * kind.count)
    return Lanes(builder, builder.shuffle_vector(row, row, zeros))


class _Largest:
    """The largest of some magnitudes, and where it was met, while a loop goes by."""

    def __init__(self, builder: Any, size: Lanes) -> None:
        self._size = Register(builder, size)
        self._place = Register(builder, size.constant(0.0))

    def see(self, size: Lanes, place: Any) -> None:
        """One more, met at an integer `place`. NaN is never larger."""
        is_larger = size > self._size.value
        kind = size.value.type
        here = spread(size.builder, kind, size.builder.sitofp(place, kind.element))
        self._size.value = where(is_larger, size, self._size.value)
        self._place.value = where(is_larger, here, self._place.value)

    def store(self, builder: Any, pointer: Any) -> None:
        """The places, as integers of 64 bits, lane by lane."""
        place = self._place.value.value
        kind = ir.VectorType(ir.IntType(64), place.type.count)
        number = builder.fptosi(place, kind)
        builder.store(number, builder.bitcast(pointer, kind.as_pointer()), align=8)


# -- single numbers ------------------------------------------------------------------------------


@intrinsic
def exchange(typingctx, t, first, second, lane):  # type: ignore[no-untyped-def]
    """The numbers that a member has at two places change places."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, first, second, lane = values
        tile = tile_of(context, builder, signature.args[0], t)
        starts = [builder.gep(tile.from_place(place).pointer, [lane]) for place in (first, second)]
        for part in range(1 + tile.is_complex):
            shift = integer(part * tile.width)
            here, there = (builder.gep(start, [shift]) for start in starts)
            one, other = builder.load(here), builder.load(there)
            builder.store(one, there)
            builder.store(other, here)
        return context.get_dummy_value()

    return types.void(t, _INT, _INT, _INT), codegen


@intrinsic
def put_constant(typingctx, t, place, number):  # type: ignore[no-untyped-def]
    """A real number, the same for every member, at a place."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, place, number = values
        tile = tile_of(context, builder, signature.args[0], t)
        kind = tile.zero().real.value.type
        tile.set_real(place, spread(builder, kind, as_real(builder, kind.element, number)))
        return context.get_dummy_value()

    return types.void(t, _INT, types.float64), codegen


@intrinsic
def invert(typingctx, t, place, inverses, k):  # type: ignore[no-untyped-def]
    """inverses[k] <- one over the number at a place."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, place, inverses, k = values
        tile = tile_of(context, builder, signature.args[0], t)
        tile_of(context, builder, signature.args[2], inverses)[k] = tile[place].inverse()
        return context.get_dummy_value()

    return types.void(t, _INT, inverses, _INT), codegen


@intrinsic
def conjugate(typingctx, t, place, count):  # type: ignore[no-untyped-def]
    """`count` numbers from a place on <- their conjugates."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, place, count = values
        tile = tile_of(context, builder, signature.args[0], t).from_place(place)
        if tile.is_complex:
            with loop(builder, 0, count) as i:
                tile[i] = tile[i].conj()
        return context.get_dummy_value()

    return types.void(t, _INT, _INT), codegen


def as_real(builder: Any, real: Any, number: Any) -> Any:
    """A double as a number of the type `real`."""
    return builder.fptrunc(number, real) if isinstance(real, ir.FloatType) else number


# -- one column ----------------------------------------------------------------------------------


@intrinsic
def search(typingctx, t, place, rows, found):  # type: ignore[no-untyped-def]
    """found[lane] <- which of `rows` numbers from `place` on is the largest, the first one."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, place, rows, found = values
        tile = tile_of(context, builder, signature.args[0], t).from_place(place)
        largest = _Largest(builder, tile[integer(0)].magnitude())
        with loop(builder, 1, rows) as i:
            largest.see(tile[i].magnitude(), i)
        largest.store(builder, reals_of(context, builder, signature.args[3], found))
        return context.get_dummy_value()

    return types.void(t, _INT, _INT, found), codegen


@intrinsic(prefer_literal=True)
def eliminate(typingctx, width, t, place, rows, ld, inverses, k, found):  # type: ignore[no-untyped-def]
    """Eliminate one column below its pivot at `place`, and update the `width` columns behind it.

    inverses[k] <- 1 / pivot, not finite where the pivot is zero; multipliers are zero there. The
    first of `rows` rows is that of the pivot. Where there is a next column, found[lane] is where it
    is largest, counted from the row behind that of the pivot.
    """
    columns = width.literal_value

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, t, place, rows, ld, inverses, k, found = values
        tile = tile_of(context, builder, signature.args[1], t).from_place(place)
        pivot = tile[integer(0)]
        inverse = pivot.inverse()
        tile_of(context, builder, signature.args[5], inverses)[k] = inverse
        inverse = where(pivot.magnitude().equals(0.0), inverse.constant(0.0), inverse)
        shifts = [builder.mul(ld, integer(q + 1)) for q in range(columns)]
        row = [tile[shift] for shift in shifts]
        largest = _Largest(builder, pivot.magnitude().constant(-1.0))
        with loop(builder, 1, rows) as i:
            factor = tile[i] * inverse
            tile[i] = factor
            for q, shift in enumerate(shifts):
                here = builder.add(i, shift)
                number = tile[here] - factor * row[q]
                tile[here] = number
                if q == 0:
                    largest.see(number.magnitude(), builder.sub(i, integer(1)))
        if columns:
            largest.store(builder, reals_of(context, builder, signature.args[7], found))
        return context.get_dummy_value()

    return types.void(width, t, _INT, _INT, _INT, inverses, _INT, found), codegen


@intrinsic(prefer_literal=True)
def eliminate_definite(typingctx, width, t, place, rows, ld, inverses, k):  # type: ignore[no-untyped-def]
    """As `eliminate`, of a Hermitian matrix of which rows from the diagonal down are kept.

    The column becomes one of L; inverses[k] <- 1 / L_kk, NaN or infinite where there is none.
    """
    columns = width.literal_value

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, t, place, rows, ld, inverses, k = values
        tile = tile_of(context, builder, signature.args[1], t).from_place(place)
        root = tile[integer(0)].real.sqrt()
        inverse = 1.0 / root
        tile.set_real(integer(0), root)
        tile_of(context, builder, signature.args[5], inverses).set_real(k, inverse)
        row = [(tile[integer(q + 1)] * inverse).conj() for q in range(columns)]
        shifts = [builder.mul(ld, integer(q + 1)) for q in range(columns)]
        with loop(builder, 1, rows) as i:
            factor = tile[i] * inverse
            tile[i] = factor
            for q, shift in enumerate(shifts):
                here = builder.add(i, shift)
                tile[here] = tile[here] - factor * row[q]
        return context.get_dummy_value()

    return types.void(width, t, _INT, _INT, _INT, inverses, _INT), codegen


# -- a block of columns --------------------------------------------------------------------------


class _Matrix:
    """Columns c, c + 1, ... of M."""

    def __init__(
        self, builder: Any, tile: Tile, down: Any, across: Any, c: Any, block: int
    ) -> None:
        self._builder, self._tile, self._down = builder, tile, down
        self._at = [builder.mul(builder.add(c, integer(q)), across) for q in range(block)]

    def __call__(self, i: Any, q: int) -> Any:
        start = self._builder.mul(i, self._down)
        return self._tile[self._builder.add(start, self._at[q])]


def _subtract(
    builder: Any, number: _Matrix, block: list[list[Any]], target: Tile, lines: list[Any],
    start: Any, stop: Any,
) -> None:  # fmt: skip
    """Y[i, j] -= sum over q of M[i, c + q] block[q][j]."""
    with loop(builder, start, stop) as i:
        factors = [number(i, q) for q in range(len(block))]
        for j, line in enumerate(lines):
            place = builder.add(i, line)
            value = target[place]
            for q, factor in enumerate(factors):
                value = value - factor * block[q][j]
            target[place] = value


def _substitution(is_backward: bool) -> Any:
    @intrinsic(prefer_literal=True)
    def operation(  # type: ignore[no-untyped-def]
        typingctx, block, width, m, base, down, across, inverses, c, y, y_base, y_ld, start, stop
    ):
        count, columns = block.literal_value, width.literal_value

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            m, base, down, across, inverses, c, y, y_base, y_ld, start, stop = values[2:]
            tile = tile_of(context, builder, signature.args[2], m).from_place(base)
            number = _Matrix(builder, tile, down, across, c, count)
            inverse = tile_of(context, builder, signature.args[6], inverses)
            target = tile_of(context, builder, signature.args[8], y).from_place(y_base)
            lines = [builder.mul(y_ld, integer(j)) for j in range(columns)]
            rows = [builder.add(c, integer(q)) for q in range(count)]
            order = list(range(count))[:: -1 if is_backward else 1]
            solved: list[list[Any]] = [[None] * columns for _ in range(count)]
            for p, q in enumerate(order):
                factors = {e: number(rows[q], e) for e in order[:p]}
                scale = inverse[rows[q]]
                for j, line in enumerate(lines):
                    place = builder.add(rows[q], line)
                    value = target[place]
                    for e, factor in factors.items():
                        value = value - factor * solved[e][j]
                    solved[q][j] = value * scale
                    target[place] = solved[q][j]
            _subtract(builder, number, solved, target, lines, start, stop)
            return context.get_dummy_value()

        integers = [_INT] * 3
        arguments = [block, width, m, *integers, inverses, _INT, y, *integers, _INT]
        return types.void(*arguments), codegen

    return operation


forward = _substitution(False)
"""``forward(block, width, M, base, down, across, inverses, c, Y, y_base, y_ld, start, stop)``

Y[C] <- M[C, C]^-1 Y[C], then Y[start:stop] -= M[start:stop, C] Y[C], C = c, ..., c + block - 1;
`width` columns of Y. M is lower triangular, with the inverses of its diagonal in `inverses`.
`block` and `width` are literals.
"""

backward = _substitution(True)
"""As `forward`, M upper triangular."""


@intrinsic(prefer_literal=True)
def subtract_adjoint(typingctx, block, width, t, ld, c, j, rows):  # type: ignore[no-untyped-def]
    """T[j:rows, J] -= T[j:rows, C] T[J, C]^H, C = c, ..., J = j, ...: `block`, `width` columns."""
    count, columns = block.literal_value, width.literal_value

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, ld, c, j, rows = values[2:]
        tile = tile_of(context, builder, signature.args[2], t)
        number = _Matrix(builder, tile, integer(1), ld, c, count)
        places = [builder.add(j, integer(p)) for p in range(columns)]
        lines = [builder.mul(place, ld) for place in places]
        across = [[number(place, q).conj() for place in places] for q in range(count)]
        _subtract(builder, number, across, tile, lines, j, rows)
        return context.get_dummy_value()

    return types.void(block, width, t, _INT, _INT, _INT, _INT), codegen
