"""Straight vector code for one small matrix: a register holds part of a row.

The counterpart of `lanes`, where a register holds one number of each of several members. For
products and triangular solves of small matrices it would take longer to bring numbers into that
order than to compute with them. Rows need no order but the one they have in memory, and members any
distance from each other.

A row of 11 doubles is a vector of 8 and one of 3: what is no power of two is taken apart by the
compiler, and nothing is read or written beyond the row. Complex numbers lie in it as pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..lanes import Lanes, ask_for, shuffled
from .members import BY_COLUMNS, BY_ROWS

__all__ = ["Matrix", "exchanged", "in_turn", "matrix", "prefetch", "registers", "splat", "times"]

types: Any = numba_types

_INDEX = ir.IntType(64)
_PLACE = ir.IntType(32)
_FEW_REGISTERS = 16


def registers(context: Any) -> tuple[int, int]:
    """Bytes of a vector register of the processor compiled for, and how many there are."""
    triple, _, features = context.codegen().magic_tuple()
    if "+avx512f" in features:
        return 64, 2 * _FEW_REGISTERS
    if "+avx" in features:
        return 32, _FEW_REGISTERS
    return 16, _FEW_REGISTERS if triple.startswith(("x86_64", "i686")) else 2 * _FEW_REGISTERS


def _index(number: Any) -> Any:
    return ir.Constant(_INDEX, number) if isinstance(number, int) else number


def splat(builder: Any, number: Any, count: int) -> Lanes:
    """A vector of `count` times the same number."""
    kind = ir.VectorType(number.type, count)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(_PLACE, 0))
    return Lanes(builder, shuffled(builder, first, nothing, [0] * count))


def in_turn(row: Lanes, even: Any, odd: Any) -> Lanes:
    """Two numbers in turn, as many as a row holds: factors of real and of imaginary parts."""
    kind, builder = row.value.type, row.builder
    pair = ir.Constant(ir.VectorType(kind.element, 2), ir.Undefined)
    for place, number in enumerate((even, odd)):
        pair = builder.insert_element(pair, number, ir.Constant(_PLACE, place))
    return Lanes(builder, shuffled(builder, pair, pair, [k % 2 for k in range(kind.count)]))


def exchanged(row: Lanes) -> Lanes:
    """Real and imaginary parts, each in the other's place."""
    places = [k ^ 1 for k in range(row.value.type.count)]
    return Lanes(row.builder, shuffled(row.builder, row.value, row.value, places))


def times(number: Sequence[Any], row: Sequence[Lanes]) -> list[Lanes]:
    """A number, given by its one or two parts, times a row."""
    if len(number) == 1:
        return [splat(v.builder, number[0], v.value.type.count) * v for v in row]
    real, imag = number
    return [
        in_turn(v, real, real) * v + in_turn(v, v.builder.fneg(imag), imag) * exchanged(v)
        for v in row
    ]


@dataclass(frozen=True)
class Matrix:
    """A small matrix in memory.

    Attributes
    ----------
    builder : ir.IRBuilder
    pointer : LLVM value
        To the first real, of float or double.
    steps : tuple of (int or LLVM value)
        From a row to the next, and from a column to the next, in reals.
    pair : int
        1, or 2 for complex numbers.
    bytes : int
        Of a register.
    """

    builder: Any
    pointer: Any
    steps: tuple[Any, Any]
    pair: int
    bytes: int

    @property
    def _size(self) -> int:
        return 8 if isinstance(self.pointer.type.pointee, ir.DoubleType) else 4

    def _place(self, i: Any, j: Any, part: int) -> Any:
        offset = ir.Constant(_INDEX, part)
        for step, count in zip(self.steps, (i, j), strict=True):
            if isinstance(step, int) and isinstance(count, int):
                far = ir.Constant(_INDEX, step * count)
            else:
                far = self.builder.mul(*(_index(number) for number in (step, count)))
            offset = self.builder.add(offset, far)
        return self.builder.gep(self.pointer, [offset])

    def _pieces(self, count: int) -> list[tuple[int, int]]:
        """Where the vectors of a row of `count` reals begin, and how many they hold."""
        width = self.bytes // self._size
        return [(start, min(width, count - start)) for start in range(0, count, width)]

    def number(self, i: Any, j: Any) -> list[Any]:
        """The parts of entry (i, j): one real, or two. i and j may be LLVM values."""
        return [
            self.builder.load(self._place(i, j, part), align=self._size)
            for part in range(self.pair)
        ]

    def row(self, i: Any, count: int) -> list[Lanes]:
        """Row i, which may be an LLVM value, of `count` entries."""
        found = []
        for start, width in self._pieces(count * self.pair):
            kind = ir.VectorType(self.pointer.type.pointee, width)
            if self.steps[1] == self.pair:
                place = self._place(i, start // self.pair, 0)
                place = self.builder.bitcast(place, kind.as_pointer())
                vector = self.builder.load(place, align=self._size)
            else:
                vector = ir.Constant(kind, ir.Undefined)
                for k in range(width):
                    place = self._place(i, *divmod(start + k, self.pair))
                    real = self.builder.load(place, align=self._size)
                    vector = self.builder.insert_element(vector, real, ir.Constant(_PLACE, k))
            found.append(Lanes(self.builder, vector))
        return found

    def put_row(self, i: int, row: Sequence[Lanes]) -> None:
        """Store a row as `row` reads it."""
        start = 0
        for piece in row:
            width = piece.value.type.count
            if self.steps[1] == self.pair:
                place = self._place(i, start // self.pair, 0)
                place = self.builder.bitcast(place, piece.value.type.as_pointer())
                self.builder.store(piece.value, place, align=self._size)
            else:
                for k in range(width):
                    real = self.builder.extract_element(piece.value, ir.Constant(_PLACE, k))
                    place = self._place(i, *divmod(start + k, self.pair))
                    self.builder.store(real, place, align=self._size)
            start += width


def matrix(
    context: Any, builder: Any, address: Any, real: Any, shape: tuple[int, int], pair: int,
    layout: int, steps: tuple[Any, Any],
) -> Matrix:  # fmt: skip
    """The matrix at an address (an LLVM integer).

    Parameters
    ----------
    real : LLVM type
        float or double.
    shape : tuple of two ints
    pair : int
        Reals of a number.
    layout : int
        `members.BY_ROWS`, `BY_COLUMNS` or `ANY`.
    steps : tuple of two LLVM values
        For `ANY`: from row to row, and from column to column, in reals.
    """
    pointer = builder.inttoptr(address, real.as_pointer())
    m, n = shape
    if layout == BY_ROWS:
        steps = n * pair, pair
    elif layout == BY_COLUMNS:
        steps = pair, m * pair
    return Matrix(builder, pointer, steps, pair, registers(context)[0])


@intrinsic(prefer_literal=True)
def prefetch(typingctx, address, ahead, count, write):  # type: ignore[no-untyped-def]
    """Ask for `count` bytes, `ahead` bytes behind an address, that may lie anywhere.

    The processor sees where a stream leads only within a page; of three streams that alternate
    every few cache lines it loses sight.
    """
    far, size = ahead.literal_value, count.literal_value
    is_write = bool(write.literal_value)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        for line in range(0, size, 64):
            place = builder.add(values[0], ir.Constant(_INDEX, far + line))
            ask_for(builder, builder.inttoptr(place, byte), to_write=is_write)
        return context.get_dummy_value()

    return types.void(address, ahead, count, write), codegen
