"""Matrices of `width` members in memory, number after number: what registers cannot hold.

A tile is a workspace of real numbers in which each number of a matrix has `width` places, one for
every member; a complex number has twice as many, first the real parts. Loops over rows and columns
run in the compiled kernel, so that one kernel serves all sizes; what they do to a number they do
to that of every member, with one or two instructions.

Places count numbers. A matrix with `ld` places a column has its number (i, j) at i + j ld; an odd
`ld` keeps the numbers of a row in different sets of the cache.

Functions here and in the modules that compute with tiles write down code while a kernel is
compiled (see `kernels.cpu.lanes`): their integers are LLVM's, loops are `loop`, and what changes in
a loop is a `Register`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core import types as numba_types
from numba.extending import intrinsic, register_jitable

from ..lanes import REGISTER_BYTES, ComplexLanes, Lanes, transposed, width_of

__all__ = [
    "Register", "Tile", "copysign", "integer", "lanes_for", "ld_of", "load_tile", "loop",
    "powers_of_two", "put_lanes", "reals_of", "store_tile", "tile_of", "workspace",
]  # fmt: skip

types: Any = numba_types

_INDEX = ir.IntType(64)
_PLACE = ir.IntType(32)


def integer(value: Any) -> Any:
    """A constant index; what is one of LLVM's already, as it is."""
    return ir.Constant(_INDEX, value) if isinstance(value, int) else value


def reals_of(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """The pointer to the first real number of an array argument of an intrinsic."""
    data = context.make_array(kind)(context, builder, array).data
    if isinstance(kind.dtype, types.Complex):
        real = context.get_data_type(kind.dtype.underlying_float)
        data = builder.bitcast(data, real.as_pointer())
    return data


@dataclass(frozen=True)
class Tile:
    """Lanes in memory, by place."""

    builder: Any
    pointer: Any
    is_complex: bool

    @property
    def width(self) -> int:
        """Members."""
        return width_of(self.pointer.type.pointee)

    def _offset(self, place: Any) -> Any:
        step = integer(self.width * (1 + self.is_complex))
        return self.builder.mul(integer(place), step)

    def _vector(self, place: Any, part: int) -> Any:
        kind = ir.VectorType(self.pointer.type.pointee, self.width)
        start = self.builder.add(self._offset(place), integer(part * self.width))
        return self.builder.bitcast(self.builder.gep(self.pointer, [start]), kind.as_pointer())

    def _part(self, place: Any, part: int) -> Lanes:
        vector = self._vector(place, part)
        return Lanes(self.builder, self.builder.load(vector, align=REGISTER_BYTES))

    def from_place(self, place: Any) -> Tile:
        """The same memory, counted from `place`."""
        start = self.builder.gep(self.pointer, [self._offset(place)])
        return Tile(self.builder, start, self.is_complex)

    def zero(self) -> Any:
        """Zero for every member."""
        kind = ir.VectorType(self.pointer.type.pointee, self.width)
        zero = Lanes(self.builder, ir.Constant(kind, [0.0] * self.width))
        return ComplexLanes(zero, zero) if self.is_complex else zero

    def __getitem__(self, place: Any) -> Any:
        if self.is_complex:
            return ComplexLanes(self._part(place, 0), self._part(place, 1))
        return self._part(place, 0)

    def __setitem__(self, place: Any, numbers: Any) -> None:
        parts = (numbers.real, numbers.imag) if self.is_complex else (numbers,)
        for k, part in enumerate(parts):
            self.builder.store(part.value, self._vector(place, k), align=REGISTER_BYTES)

    def set_real(self, place: Any, number: Lanes) -> None:
        """A real number at `place`."""
        zero = number.constant(0.0)
        self[place] = ComplexLanes(number, zero) if self.is_complex else number


def tile_of(context: Any, builder: Any, kind: Any, array: Any) -> Tile:
    """The tile that an array argument of an intrinsic is."""
    is_complex = isinstance(kind.dtype, types.Complex)
    return Tile(builder, reals_of(context, builder, kind, array), is_complex)


@contextmanager
def loop(builder: Any, start: Any, stop: Any) -> Iterator[Any]:
    """The code within is run for each index from `start` to `stop` - 1."""
    with cgutils.for_range(builder, integer(stop), start=integer(start)) as found:
        yield found.index


class Register:
    """Lanes that change in a loop."""

    def __init__(self, builder: Any, value: Any) -> None:
        self._builder = builder
        self._is_complex = isinstance(value, ComplexLanes)
        self._slots = [cgutils.alloca_once(builder, part.value.type) for part in self._parts(value)]
        self.value = value

    def _parts(self, value: Any) -> tuple[Any, ...]:
        return (value.real, value.imag) if self._is_complex else (value,)

    @property
    def value(self) -> Any:
        """What was last assigned."""
        parts = [Lanes(self._builder, self._builder.load(slot)) for slot in self._slots]
        return ComplexLanes(*parts) if self._is_complex else parts[0]

    @value.setter
    def value(self, value: Any) -> None:
        for slot, part in zip(self._slots, self._parts(value), strict=True):
            self._builder.store(part.value, slot)


# -- signs and exponents --------------------------------------------------------------------------


def copysign(size: Lanes, sign: Lanes) -> Lanes:
    """|size| with the sign of `sign`, also that of a zero."""
    kind = size.value.type
    bits = 64 if isinstance(kind.element, ir.DoubleType) else 32
    function = cgutils.get_or_insert_function(
        size.builder.module,
        ir.FunctionType(kind, [kind, kind]),
        f"llvm.copysign.v{kind.count}f{bits}",
    )
    return Lanes(size.builder, size.builder.call(function, [size.value, sign.value]))


def powers_of_two(size: Lanes) -> tuple[Lanes, Lanes]:
    """2^-e and 2^e, e the exponent of `size` >= 0; both normal and finite, whatever `size` is.

    So 2^-e size lies in [1, 2), or is 2 or more where size >= 2^1023, less than 1 if it is
    subnormal (2^127 in single precision).
    """
    builder, kind = size.builder, size.value.type
    bits, digits = (64, 52) if isinstance(kind.element, ir.DoubleType) else (32, 23)
    largest = (1 << (bits - 1 - digits)) - 1  # that of infinity
    word = ir.VectorType(ir.IntType(bits), kind.count)

    def exponent(value: int) -> Any:
        return ir.Constant(word, [value << digits] * kind.count)

    e = builder.and_(builder.bitcast(size.value, word), exponent(largest))
    low, high = exponent(1), exponent(largest - 2)
    e = builder.select(builder.icmp_unsigned("<", e, low), low, e)
    e = builder.select(builder.icmp_unsigned(">", e, high), high, e)
    opposite = builder.sub(exponent(largest - 1), e)
    return Lanes(builder, builder.bitcast(opposite, kind)), Lanes(builder, builder.bitcast(e, kind))


# -- workspaces, and the way in and out -----------------------------------------------------------


@register_jitable
def lanes_for(like):  # type: ignore[no-untyped-def]
    """Members that numbers of the dtype of `like` are computed for at a time."""
    return REGISTER_BYTES // like.real.itemsize


@register_jitable
def workspace(numbers, like):  # type: ignore[no-untyped-def]
    """A tile of so many numbers, of the dtype of `like`, at the beginning of a cache line."""
    memory = np.empty((numbers + 1) * lanes_for(like), like.dtype)
    # NumPy's memory begins at a multiple of 16 bytes, and so of the size of every number
    return memory[(-memory.ctypes.data % REGISTER_BYTES) // like.itemsize :]


@register_jitable
def ld_of(rows):  # type: ignore[no-untyped-def]
    """Places a column, for matrices of which rows are read as well."""
    return rows | 1


def _groups(
    builder: Any, count: Any, columns: Any, size: int, one_group: Any, one_number: Any
) -> None:
    """Cover ``range(count)`` by groups of `size` numbers; the last one may reach back.

    Calls ``one_group(first, places)`` in a loop, or, if there are fewer numbers than a group has,
    ``one_number(k, place)``. A place is (row, column) in a matrix of `columns` columns.
    """
    fewest = integer(size)

    def place(k: Any) -> tuple[Any, Any]:
        return builder.sdiv(k, columns), builder.srem(k, columns)

    with builder.if_else(builder.icmp_signed(">=", count, fewest)) as (many, few):
        with many:
            last = builder.sub(count, fewest)
            total = builder.sdiv(builder.add(count, integer(size - 1)), fewest)
            with loop(builder, 0, total) as group:
                first = builder.mul(group, fewest)
                first = builder.select(builder.icmp_signed("<", first, last), first, last)
                i, j = place(first)
                places = [(i, j)]
                for _ in range(size - 1):
                    j = builder.add(j, integer(1))
                    is_over = builder.icmp_signed(">=", j, columns)
                    j = builder.select(is_over, integer(0), j)
                    i = builder.select(is_over, builder.add(i, integer(1)), i)
                    places.append((i, j))
                one_group(first, places)
        with few, loop(builder, 0, count) as k:
            one_number(k, place(k))


def _target(builder: Any, place: tuple[Any, Any], base: Any, down: Any, across: Any) -> Any:
    """The place in a tile of the number (row, column)."""
    i, j = place
    return builder.add(base, builder.add(builder.mul(i, down), builder.mul(j, across)))


class _Members:
    """Members that lie one after the other in memory, `count` numbers each."""

    def __init__(self, builder: Any, pointer: Any, first: Any, count: Any, parts: int) -> None:
        self._builder, self._parts = builder, parts
        self._real = pointer.type.pointee
        self._bytes = REGISTER_BYTES // width_of(self._real)
        self._stride = builder.mul(count, integer(parts))
        self._start = builder.gep(pointer, [builder.mul(first, self._stride)])

    def pointer(self, member: int, number: Any, part: int = 0) -> Any:
        """To a number of a member."""
        builder = self._builder
        start = builder.mul(self._stride, integer(member))
        start = builder.add(start, builder.mul(number, integer(self._parts)))
        return builder.gep(self._start, [builder.add(start, integer(part))])

    def vector(self, member: int, number: Any) -> Any:
        """To as many reals as there are members, from a number of a member on."""
        kind = ir.VectorType(self._real, width_of(self._real))
        return self._builder.bitcast(self.pointer(member, number), kind.as_pointer())

    def load(self, pointer: Any) -> Any:
        return self._builder.load(pointer, align=self._bytes)

    def store(self, value: Any, pointer: Any) -> None:
        self._builder.store(value, pointer, align=self._bytes)


@intrinsic(prefer_literal=True)
def load_tile(typingctx, conjugate, t, a, first, count, columns, base, down, across):  # type: ignore[no-untyped-def]
    """Number (i, j) of each member to place ``base + i down + j across`` of the tile `t`.

    Parameters
    ----------
    conjugate : literal int
        Whether numbers are conjugated.
    t, a : 1-D array
        The workspace; members one after the other, each in C order.
    first : int
        The first of the members, as many as there are lanes.
    count, columns : int
        Numbers of a member, and how many of them make a row.
    base, down, across : int
        Where the first number goes, and from row to row and column to column of the tile.
    """
    flip = bool(conjugate.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, t, a, first, count, columns, base, down, across = values
        tile = tile_of(context, builder, signature.args[1], t)
        source = reals_of(context, builder, signature.args[2], a)
        width, parts = tile.width, 1 + tile.is_complex
        members = _Members(builder, source, first, count, parts)

        def keep(place: tuple[Any, Any], found: list[Any]) -> None:
            numbers: Any = Lanes(builder, found[0])
            if tile.is_complex:
                numbers = ComplexLanes(numbers, Lanes(builder, found[1]))
            target = _target(builder, place, base, down, across)
            tile[target] = numbers.conj() if flip else numbers

        def one_group(start: Any, places: list[Any]) -> None:
            rows = [members.load(members.vector(member, start)) for member in range(width)]
            found = transposed(builder, rows)
            for k, place in enumerate(places):
                keep(place, found[parts * k : parts * (k + 1)])

        def one_number(k: Any, place: tuple[Any, Any]) -> None:
            kind = ir.VectorType(tile.pointer.type.pointee, width)
            found = [ir.Constant(kind, ir.Undefined)] * parts
            for part in range(parts):
                for member in range(width):
                    number = members.load(members.pointer(member, k, part))
                    lane = ir.Constant(_PLACE, member)
                    found[part] = builder.insert_element(found[part], number, lane)
            keep(place, found)

        _groups(builder, count, columns, width // parts, one_group, one_number)
        return context.get_dummy_value()

    size = types.intp
    return types.void(conjugate, t, a, size, size, size, size, size, size), codegen


@intrinsic(prefer_literal=True)
def store_tile(typingctx, upper, t, a, first, count, columns, base, down, across):  # type: ignore[no-untyped-def]
    """What `load_tile` loads, back to members in C order; if `upper`, zero below the diagonal.

    Real parts alone where `a` is real.
    """
    triangle = bool(upper.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, t, a, first, count, columns, base, down, across = values
        tile = tile_of(context, builder, signature.args[1], t)
        target = tile_of(context, builder, signature.args[2], a)
        width, parts = tile.width, 1 + target.is_complex
        members = _Members(builder, target.pointer, first, count, parts)

        def numbers(place: tuple[Any, Any]) -> list[Any]:
            found = tile[_target(builder, place, base, down, across)]
            lanes = [found.real.value] + ([found.imag.value] if target.is_complex else [])
            if triangle:
                below = builder.icmp_signed(">", *place)
                zero = found.real.constant(0.0).value
                lanes = [builder.select(below, zero, part) for part in lanes]
            return lanes

        def one_group(start: Any, places: list[Any]) -> None:
            lanes = [part for place in places for part in numbers(place)]
            for member, row in enumerate(transposed(builder, lanes)):
                members.store(row, members.vector(member, start))

        def one_number(k: Any, place: tuple[Any, Any]) -> None:
            for part, lanes in enumerate(numbers(place)):
                for member in range(width):
                    one = builder.extract_element(lanes, ir.Constant(_PLACE, member))
                    members.store(one, members.pointer(member, k, part))

        _groups(builder, count, columns, width // parts, one_group, one_number)
        return context.get_dummy_value()

    size = types.intp
    return types.void(upper, t, a, size, size, size, size, size, size), codegen


@intrinsic
def put_lanes(typingctx, t, place, out, first):  # type: ignore[no-untyped-def]
    """out[first], ... <- the real part of the number at `place`, one for each member."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, place, out, first = values
        tile = tile_of(context, builder, signature.args[0], t)
        target = builder.gep(reals_of(context, builder, signature.args[2], out), [first])
        lanes = tile[place].real.value
        vector = builder.bitcast(target, lanes.type.as_pointer())
        builder.store(lanes, vector, align=REGISTER_BYTES // tile.width)
        return context.get_dummy_value()

    return types.void(t, types.intp, out, types.intp), codegen
