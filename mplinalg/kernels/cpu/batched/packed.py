"""Members that lie one behind the other in memory, from there to lanes and back.

The distance from one member to the next is the length of a member. Numbers change places between
registers by shuffles, of which a processor does one at a time; so there are as few as can be: half
registers are put together while they are loaded, and members much shorter than a register are
loaded many at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from ..lanes import ComplexLanes, Lanes, ask_for, real_bytes, shuffled, transposed, width_of

__all__ = ["prefetch", "read_packed", "write_packed"]

_INDEX = ir.IntType(64)


def _is_short(count: int, width: int) -> bool:
    """Whether gathering every register from `count` others takes fewer shuffles than by rows."""
    return 2 * count * (count - 1) < 3 * width


def read_packed(builder: Any, pointer: Any, count: int, is_complex: bool) -> list[Any]:
    """The `count` numbers of each of the members that lie packed behind a pointer to reals.

    Returns `count` Lanes or ComplexLanes.
    """
    if is_complex:
        reals = read_packed(builder, pointer, 2 * count, False)
        return [ComplexLanes(*pair) for pair in zip(reals[::2], reals[1::2], strict=True)]
    width = width_of(pointer.type.pointee)
    if _is_short(count, width):
        whole = [_load(builder, pointer, k * width, width, count * width) for k in range(count)]
        return [
            Lanes(builder, _gathered(builder, whole, [m * count + k for m in range(width)]))
            for k in range(count)
        ]
    half = width // 2
    found: list[Any] = [None] * count
    for start in _starts(count, half):
        taken = min(half, count - start)
        rows = []
        for i in range(half):
            first, second = (
                _load(builder, pointer, m * count + start, half, count * width)
                for m in (i, i + half)
            )
            rows.append(shuffled(builder, first, second, range(width)))
        for k, row in enumerate(transposed(builder, rows)[:taken]):
            found[start + k] = Lanes(builder, row)
    return found


def write_packed(builder: Any, pointer: Any, numbers: Sequence[Any]) -> None:
    """Store what `read_packed` reads."""
    if numbers and isinstance(numbers[0], ComplexLanes):
        write_packed(builder, pointer, [part for z in numbers for part in (z.real, z.imag)])
        return
    width, count = width_of(pointer.type.pointee), len(numbers)
    registers = [number.value for number in numbers]
    if _is_short(count, width):
        for r in range(count):
            places = [divmod(r * width + lane, count) for lane in range(width)]
            row = _gathered(builder, registers, [k * width + m for m, k in places])
            _store(builder, pointer, r * width, row, width)
        return
    half = width // 2
    for start in _starts(count, half):
        taken = min(half, count - start)
        rows = registers[start : start + taken]
        rows += [ir.Constant(registers[0].type, ir.Undefined)] * (half - taken)
        for i, row in enumerate(transposed(builder, rows)):
            for member, first in ((i, 0), (i + half, half)):
                part = shuffled(builder, row, row, range(first, first + half))
                _store(builder, pointer, member * count + start, part, taken)


def prefetch(builder: Any, pointer: Any, count: int, *, to_write: bool = False) -> None:
    """Fetch into the cache what `read_packed` of `count` reals would read."""
    width = width_of(pointer.type.pointee)
    for line in range(count):  # a number each of all members fills a line of the cache
        place = builder.gep(pointer, [ir.Constant(_INDEX, line * width)])
        ask_for(builder, place, to_write=to_write)


def _starts(count: int, length: int) -> list[int]:
    """Where pieces of `length` of `count` numbers begin; the last may reach back into another."""
    starts = list(range(0, count - length + 1, length))
    if count % length:
        starts.append(max(count - length, 0))
    return starts


def _gathered(builder: Any, registers: Sequence[Any], places: Sequence[int]) -> Any:
    """The numbers at `places` of registers counted on one after the other."""
    width = registers[0].type.count
    needed = sorted({place // width for place in places})
    row = registers[needed[0]]
    # lane l of `row` is right when the register of its number has been merged in
    order = [place % width if place // width == needed[0] else 0 for place in places]
    for n, register in enumerate(needed[1:]):
        order = [
            width + place % width if place // width == register
            else (order[lane] if n == 0 else lane)
            for lane, place in enumerate(places)
        ]  # fmt: skip
        row = shuffled(builder, row, registers[register], order)
    return row if len(needed) > 1 else shuffled(builder, row, row, order)


def _place(builder: Any, pointer: Any, offset: int, kind: Any) -> Any:
    place = builder.gep(pointer, [ir.Constant(_INDEX, offset)])
    return builder.bitcast(place, kind.as_pointer())


def _load(builder: Any, pointer: Any, offset: int, length: int, end: int) -> Any:
    """`length` numbers; what would lie at `end` or behind it is not read, and undefined."""
    real = pointer.type.pointee
    kind = ir.VectorType(real, length)
    back = max(offset + length - end, 0)
    place = _place(builder, pointer, offset - back, kind)
    row = builder.load(place, align=real_bytes(real))
    if back:
        row = shuffled(builder, row, row, [min(k + back, length - 1) for k in range(length)])
    return row


def _store(builder: Any, pointer: Any, offset: int, row: Any, taken: int) -> None:
    """The first `taken` numbers of `row`, in pieces of 2^k."""
    real, first, length = row.type.element, 0, row.type.count
    while taken:
        if length <= taken:
            whole = length == row.type.count
            piece = row if whole else shuffled(builder, row, row, range(first, first + length))
            place = _place(builder, pointer, offset + first, piece.type)
            builder.store(piece, place, align=real_bytes(real))
            first, taken = first + length, taken - length
        length //= 2
