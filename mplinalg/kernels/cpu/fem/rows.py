"""Short rows of several members, between memory and lanes.

A row is a few consecutive numbers of one member: the nodes of an element along x. Rows of `width`
members are loaded in pieces of 2^k numbers, which small transpositions in registers then sort into
one register for each place in the row. So nothing beyond a row is read or written, and all moves
are of whole pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from ..lanes import Lanes, shuffled, transposed

_PLACE = ir.IntType(32)


def _pieces(count: int, width: int) -> list[tuple[int, int]]:
    """(start, length) of powers of two that make up `count` numbers, largest first.

    >>> _pieces(13, 8)
    [(0, 8), (8, 4), (12, 1)]
    """
    pieces, start = [], 0
    while start < count:
        length = min(width, 1 << ((count - start).bit_length() - 1))
        pieces.append((start, length))
        start += length
    return pieces


def _covering(count: int, width: int) -> list[tuple[int, int]]:
    """As `_pieces`, but of one length: the last piece may reach back into the one before.

    >>> _covering(7, 8)
    [(0, 4), (3, 4)]
    """
    length = min(width, 1 << (count.bit_length() - 1))
    starts = [*range(0, count - length + 1, length)]
    if count % length:
        starts.append(count - length)
    return [(start, length) for start in starts]


def _vector(builder: Any, place: Any, start: int, length: int) -> tuple[Any, int]:
    """A pointer to `length` numbers as one value, and the alignment that is certain."""
    real = place.type.pointee
    place = builder.gep(place, [ir.Constant(ir.IntType(64), start)])
    kind = ir.VectorType(real, length) if length > 1 else real
    size = 8 if isinstance(real, ir.DoubleType) else 4
    return builder.bitcast(place, kind.as_pointer()), size


def _joined(builder: Any, parts: Sequence[Any]) -> Any:
    """One vector of several, a power of two of them; or of that many numbers."""
    if not isinstance(parts[0].type, ir.VectorType):
        whole = ir.Constant(ir.VectorType(parts[0].type, len(parts)), ir.Undefined)
        for k, part in enumerate(parts):
            whole = builder.insert_element(whole, part, ir.Constant(_PLACE, k))
        return whole
    while len(parts) > 1:
        every = range(2 * parts[0].type.count)
        parts = [
            shuffled(builder, first, second, every)
            for first, second in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _part(builder: Any, whole: Any, first: int, length: int) -> Any:
    if length == 1:
        return builder.extract_element(whole, ir.Constant(_PLACE, first))
    return shuffled(builder, whole, whole, range(first, first + length))


def read_rows(builder: Any, places: Sequence[Any], count: int) -> list[Lanes]:
    """The numbers ``places[l][0], ..., places[l][count - 1]`` in lane l.

    Parameters
    ----------
    builder : ir.IRBuilder
    places : sequence of LLVM values
        A pointer to float or double for each lane.
    count : int

    Returns
    -------
    list of Lanes, `count` of them
    """
    width = len(places)
    found: list[Any] = [None] * count
    for start, length in _covering(count, width):
        registers = []
        for i in range(length):  # the rows of the lanes i, i + length, i + 2 length, ...
            parts = []
            for place in places[i::length]:
                vector, size = _vector(builder, place, start, length)
                parts.append(builder.load(vector, align=size))
            registers.append(_joined(builder, parts))
        for k, register in enumerate(transposed(builder, registers)):
            found[start + k] = Lanes(builder, register)
    return found


def write_rows(builder: Any, places: Sequence[Any], numbers: Sequence[Lanes]) -> None:
    """Store what `read_rows` reads; places may be the same for lanes with the same numbers."""
    _store(builder, places, numbers, _covering(len(numbers), len(places)), adds=False)


def add_rows(builder: Any, places: Sequence[Any], numbers: Sequence[Lanes]) -> None:
    """Add to what `read_rows` reads; the rows of two lanes must not overlap."""
    _store(builder, places, numbers, _pieces(len(numbers), len(places)), adds=True)


def _store(
    builder: Any, places: Sequence[Any], numbers: Sequence[Lanes], pieces: list[tuple[int, int]],
    *, adds: bool,
) -> None:  # fmt: skip
    for start, length in pieces:
        columns = [number.value for number in numbers[start : start + length]]
        moves = []
        for i, register in enumerate(transposed(builder, columns)):
            for k, place in enumerate(places[i::length]):
                vector, size = _vector(builder, place, start, length)
                moves.append((_part(builder, register, k * length, length), vector, size))
        if adds:  # all loads before the first store, which they would wait for
            old = [builder.load(vector, align=size) for _, vector, size in moves]
            moves = [
                (builder.fadd(before, part), vector, size)
                for before, (part, vector, size) in zip(old, moves, strict=True)
            ]
        for part, vector, size in moves:
            builder.store(part, vector, align=size)
