"""The steps of an operator on `width` elements at once, emitted as straight code.

Values of a group of elements are kept in tiles: arrays of registers, one for each point, that hold
the number of each element. Steps work on lines of a tile: `start` is the first register, `step`
the distance of two. Sizes, steps and signs are literals, starts run-time integers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..lanes import Lanes, Mask, shuffled, where, width_of
from .lines import apply_line
from .rows import add_rows, read_rows, write_rows

types: Any = numba_types
_INDEX = ir.IntType(64)
_BYTE = ir.IntType(8)


def _emitted(sizes: int) -> Callable[[Callable[..., None]], Any]:
    """An intrinsic with that many literal integers first, then arrays and integers.

    The decorated function writes its code, given the builder, the literals, a pointer for each
    array and a value for each integer.
    """

    def decorate(write: Callable[..., None]) -> Any:
        def step(typingctx, *arguments):  # type: ignore[no-untyped-def]
            literals = [kind.literal_value for kind in arguments[:sizes]]

            def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                given = [
                    context.make_array(kind)(context, builder, value).data
                    if isinstance(kind, types.Array)
                    else value
                    for kind, value in zip(signature.args[sizes:], values[sizes:], strict=True)
                ]
                write(builder, *literals, *given)
                return context.get_dummy_value()

            rest = [k if isinstance(k, types.Array) else types.intp for k in arguments[sizes:]]
            return types.void(*arguments[:sizes], *rest), codegen

        # Numba wants to know the arguments one by one
        step.__signature__ = inspect.signature(write)  # type: ignore[attr-defined]
        return intrinsic(prefer_literal=True)(step)

    return decorate


class _Tile:
    """Registers of a tile from `start` on, `step` apart."""

    def __init__(self, builder: Any, pointer: Any, start: Any, step: int = 1) -> None:
        self.builder, self.step = builder, step
        real = pointer.type.pointee
        self.kind = ir.VectorType(real, width_of(real))
        self.pointer = builder.gep(builder.bitcast(pointer, self.kind.as_pointer()), [start])

    def place(self, k: int) -> Any:
        return self.builder.gep(self.pointer, [ir.Constant(_INDEX, k * self.step)])

    def __getitem__(self, k: int) -> Lanes:
        return Lanes(self.builder, self.builder.load(self.place(k), align=64))

    def read(self, count: int) -> list[Lanes]:
        return [self[k] for k in range(count)]

    def write(self, numbers: Sequence[Lanes]) -> None:
        for k, number in enumerate(numbers):
            self.put(k, number)

    def put(self, k: int, number: Lanes) -> None:
        self.builder.store(number.value, self.place(k), align=64)


def _ask(builder: Any, pointer: Any, writes: int) -> None:
    """Have a line of memory brought into the second level of the cache; any address will do."""
    byte, number = _BYTE.as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    # locality 2: the second level; 1: data
    arguments = [builder.bitcast(pointer, byte), number(writes), number(2), number(1)]
    builder.call(function, arguments)


def _places(builder: Any, array: Any, first: Any, group: Any, offset: Any) -> list[Any]:
    """Pointers to ``array[first[group + l] + offset]`` for each lane l."""
    places = []
    for lane in range(width_of(array.type.pointee)):
        index = builder.add(group, ir.Constant(_INDEX, lane))
        start = builder.load(builder.gep(first, [index]))
        places.append(builder.gep(array, [builder.add(start, offset)]))
    return places


# -- rows of elements ----------------------------------------------------------------------------


@_emitted(1)
def ask_row(builder, writes, array, first, group, offset):  # type: ignore[no-untyped-def]
    """Have the rows at `offset` in each element of a group brought into the cache."""
    for place in _places(builder, array, first, group, offset):
        _ask(builder, place, writes)


@_emitted(1)
def ask_ahead(builder, count, factors, place):  # type: ignore[no-untyped-def]
    """Have `count` registers of factors brought into the cache."""
    tile = _Tile(builder, factors, place)
    for k in range(count):
        _ask(builder, tile.place(k), 0)


@_emitted(2)
def load_row(builder, n, m, u, first, group, offset, table, tile, start):  # type: ignore[no-untyped-def]
    """tile <- M u for the row of n nodes at `offset` in each element; m = 0: tile <- u."""
    v = read_rows(builder, _places(builder, u, first, group, offset), n)
    _Tile(builder, tile, start).write(apply_line(builder, table, v, m, 1) if m else v)


@_emitted(2)
def store_row(builder, n, m, tile, start, table, out, first, group, offset):  # type: ignore[no-untyped-def]
    """The row of n nodes at `offset` in each element of out <- M' tile; m = 0: <- tile."""
    v = _Tile(builder, tile, start).read(m or n)
    v = apply_line(builder, table, v, n, 1) if m else v
    write_rows(builder, _places(builder, out, first, group, offset), v)


@_emitted(2)
def add_row(builder, n, m, tile, start, table, out, first, group, offset, joined, ends, end):  # type: ignore[no-untyped-def]
    """As `store_row`, added to out, where elements that are neighbours in x share a node.

    What lane l - 1 has for its last node is added to the first of lane l where joined[group + l]
    is not 0, and the last nodes of all lanes are put into `ends`, for lanes without a successor.
    """
    v = _Tile(builder, tile, start).read(m or n)
    v = apply_line(builder, table, v, n, 1) if m else v
    kind = v[0].value.type
    bytes_ = ir.VectorType(_BYTE, kind.count)
    flags = builder.bitcast(builder.gep(joined, [group]), bytes_.as_pointer())
    flags = builder.load(flags, align=1)
    shares = Mask(builder, builder.icmp_unsigned("!=", flags, ir.Constant(bytes_, None)))
    last = v[-1].value
    before = Lanes(builder, shuffled(builder, last, last, [0, *range(kind.count - 1)]))
    v[0] = v[0] + where(shares, before, before.constant(0.0))
    _Tile(builder, ends, end).write(v[-1:])
    add_rows(builder, _places(builder, out, first, group, offset), v[:-1])


# -- lines of tiles ------------------------------------------------------------------------------


@_emitted(6)
def apply_lines(builder, n, m, sign, step, to, adds, tile, start, table, out, at):  # type: ignore[no-untyped-def]
    """out <- M tile along lines of n, with steps `step` and `to`; if `adds`, out += M tile."""
    target = _Tile(builder, out, at, to)
    v = apply_line(builder, table, _Tile(builder, tile, start, step).read(n), m, sign)
    if adds:
        v = [target[k] + number for k, number in enumerate(v)]
    target.write(v)


@_emitted(4)
def weigh_line(builder, n, m, step, across, tile, start, interp, interp_t, factors, place):  # type: ignore[no-untyped-def]
    """tile <- B' diag(w) B tile along lines of n nodes, m points, or diag(w) tile if m = 0.

    The factors w lie `across` apart from point to point.
    """
    line = _Tile(builder, tile, start, step)
    v = line.read(n)
    v = apply_line(builder, interp, v, m, 1) if m else v
    w = _Tile(builder, factors, place, across)
    v = [w[k] * number for k, number in enumerate(v)]
    line.write(apply_line(builder, interp_t, v, n, 1) if m else v)


@_emitted(4)
def open_line(builder, n, m, step, to, tile, start, interp, slope, values, slopes, at):  # type: ignore[no-untyped-def]
    """values <- B tile, slopes <- D B tile along lines; m = 0: slopes <- D tile, n = points."""
    v = _Tile(builder, tile, start, step).read(n)
    if m:
        v = apply_line(builder, interp, v, m, 1)
        _Tile(builder, values, at, to).write(v)
    _Tile(builder, slopes, at, to).write(apply_line(builder, slope, v, len(v), -1))


@_emitted(4)
def close_line(builder, n, m, step, to, slopes, at, values, slope_t, interp_t, tile, start):  # type: ignore[no-untyped-def]
    """tile <- B' (values + D' slopes) along lines, the transpose of `open_line`."""
    points = m or n
    v = _Tile(builder, values, at, to).read(points)
    w = apply_line(builder, slope_t, _Tile(builder, slopes, at, to).read(points), points, -1)
    v = [first + second for first, second in zip(v, w, strict=True)]
    v = apply_line(builder, interp_t, v, n, 1) if m else v
    _Tile(builder, tile, start, step).write(v)


@_emitted(3)
def flux_row(  # type: ignore[no-untyped-def]
    builder, dim, m, asks, values, start, middle, at, last, slope, slope_t, factors, place, later
):
    """Along rows of m points in x: values <- D' w_x, middle <- w_y, last <- w_z, w = G grad u.

    Before, they hold u, du/dy and du/dz; in two dimensions du/dy is in `last`. G is symmetric: its
    upper triangle by rows is in `factors`, dim (dim + 1) / 2 registers for each point; `asks` for
    each point are asked for from `later` on.
    """
    row = _Tile(builder, values, start)
    others = [_Tile(builder, middle, at), _Tile(builder, last, start)][3 - dim :]
    along = apply_line(builder, slope, row.read(m), m, -1)
    count = dim * (dim + 1) // 2
    pairs = [(i, j) for i in range(dim) for j in range(i, dim)]
    metric, following = _Tile(builder, factors, place), _Tile(builder, factors, later)
    fluxes = []
    for k in range(m):
        for i in range(k * asks, (k + 1) * asks):
            _ask(builder, following.place(i), 0)
        g = {}
        for position, (i, j) in enumerate(pairs, start=k * count):
            g[i, j] = g[j, i] = metric[position]
        gradient = [along[k], *(other[k] for other in others)]
        flux = [_dot([g[i, j] for j in range(dim)], gradient) for i in range(dim)]
        fluxes.append(flux[0])
        for other, component in zip(others, flux[1:], strict=True):
            other.put(k, component)
    row.write(apply_line(builder, slope_t, fluxes, m, -1))


def _dot(first: Sequence[Lanes], second: Sequence[Lanes]) -> Lanes:
    total = first[0] * second[0]
    for x, y in zip(first[1:], second[1:], strict=True):
        total = total + x * y
    return total
