"""Kernels in straight code for systems of one small size: `straight` between memory and memory.

Kernels are closures over the size, which their intrinsics take as literals. All of them run over
`count` packed members, as many as a register has lanes or more; the last group may reach back.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..jit import kernel
from ..lanes import ComplexLanes, real_bytes, width_of
from . import straight
from .lane_tiles import integer, lanes_for, reals_of
from .packed import prefetch, read_packed, write_packed

__all__ = ["LARGEST", "gesv_kernel", "getrf_kernel", "posv_kernel", "potrf_kernel"]

types: Any = numba_types

LARGEST = 8
"""Order up to which a matrix is eliminated in registers; tiles are faster beyond (measured)."""
_AHEAD = 2**12
"""Bytes of matrices by which memory is asked for in advance: what comes much later is forgotten."""


class _Members:
    """Array arguments of an intrinsic, from member `first` on.

    The last two arguments are the last `first` that there will be, and `first`.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any) -> None:
        self._context, self.builder = context, builder
        self._signature, self._values = signature, values
        self.first = values[-1]

    def is_complex(self, argument: int) -> bool:
        return isinstance(self._signature.args[argument].dtype, types.Complex)

    def pointer(self, argument: int, count: int, first: Any = None) -> Any:
        """To the numbers of the members, `count` each, as reals."""
        kind = self._signature.args[argument]
        data = reals_of(self._context, self.builder, kind, self._values[argument])
        stride = integer(count * (1 + self.is_complex(argument)))
        first = self.first if first is None else first
        return self.builder.gep(data, [self.builder.mul(first, stride)])

    def prefetch(self, read: dict[int, int], written: dict[int, int]) -> None:
        """Ask for members to come.

        The numbers of a member in arguments that are read, the first one the matrix, and written.
        """
        builder, matrix = self.builder, next(iter(read))
        pair = 1 + self.is_complex(matrix)
        real = self.pointer(matrix, 1).type.pointee
        width = width_of(real)
        groups = max(1, _AHEAD // (pair * read[matrix] * width * real_bytes(real)))
        ahead, last = builder.add(self.first, integer(groups * width)), self._values[-2]
        ahead = builder.select(builder.icmp_signed("<", ahead, last), ahead, last)
        for counts in (read, written):
            for argument, count in counts.items():
                pointer = self.pointer(argument, count, ahead)
                prefetch(builder, pointer, pair * count, to_write=counts is written)

    def read(self, argument: int, count: int) -> list[Any]:
        pointer = self.pointer(argument, count)
        return read_packed(self.builder, pointer, count, self.is_complex(argument))

    def write(self, argument: int, numbers: list[Any]) -> None:
        if self.is_complex(argument):
            zero = numbers[0].real.constant(0.0)
            numbers = [z if isinstance(z, ComplexLanes) else ComplexLanes(z, zero) for z in numbers]
        write_packed(self.builder, self.pointer(argument, len(numbers)), numbers)


def _is_single(like: Any) -> bool:
    return isinstance(like.real.value.type.element, ir.FloatType)


def _probes(like: Any, n: int) -> list[list[Any]]:
    """Random right-hand sides, the same for all members."""
    return [list(map(like.constant, probe)) for probe in straight.probes(n, _is_single(like))]


def _doubtful(size: Any, probes: Any, columns: Any) -> Any:
    limit = straight.limit(len(probes[0]), _is_single(size))
    return straight.is_doubtful(size, probes, columns, limit)


def _rows(numbers: list[Any], n: int) -> list[list[Any]]:
    return [numbers[i * n : (i + 1) * n] for i in range(n)]


def _columns(numbers: list[Any], nrhs: int) -> list[list[Any]]:
    return [numbers[c::nrhs] for c in range(nrhs)]


def _lower(numbers: list[Any], n: int) -> list[list[Any]]:
    """The Hermitian matrix of which the upper triangle is given, by its lower one."""
    rows = _rows(numbers, n)
    return [[rows[j][i].conj() if j <= i else None for j in range(n)] for i in range(n)]


def _trace(a: list[list[Any]]) -> Any:
    total = a[0][0].real
    for k in range(1, len(a)):
        total = total + a[k][k].real
    return total


@intrinsic(prefer_literal=True)
def _solve(typingctx, definite, n, nrhs, a, b, x, flags, last, first):  # type: ignore[no-untyped-def]
    is_definite, order, count = (kind.literal_value for kind in (definite, n, nrhs))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        members = _Members(context, builder, signature, values)
        sides = order * count
        members.prefetch({3: order * order, 4: sides}, {5: sides})
        numbers = members.read(3, order * order)
        probes = _probes(numbers[0], order)
        columns = _columns(members.read(4, sides), count)
        if is_definite:
            matrix = _lower(numbers, order)
            size = _trace(matrix)
            inverses = straight.cholesky(matrix)
            straight.solve_definite(matrix, inverses, columns + probes)
        else:
            size = straight.magnitudes(numbers)
            matrix = _rows(numbers, order)
            inverses, _ = straight.lu(matrix, columns, probes)
            straight.solve_upper(matrix, inverses, columns + probes)
        found = [columns[c][i] for i in range(order) for c in range(count)]
        members.write(5, found)
        doubtful = _doubtful(size, probes, columns)
        straight.store_flags(builder, doubtful, members.pointer(6, 0), members.first)
        return context.get_dummy_value()

    return types.void(definite, n, nrhs, a, b, x, flags, types.intp, types.intp), codegen


@functools.cache
def gesv_kernel(n: int, nrhs: int) -> Any:
    """Compile ``gesv(count, a, b, x, flags)``: A x = b; flags: members to be solved again."""

    @kernel
    def gesv(count, a, b, x, flags):  # type: ignore[no-untyped-def]
        width = lanes_for(a)
        last = count - width
        for group in range((count + width - 1) // width):
            _solve(0, n, nrhs, a, b, x, flags, last, min(group * width, last))

    return gesv


@functools.cache
def posv_kernel(n: int, nrhs: int) -> Any:
    """As `gesv_kernel`, A Hermitian positive definite, its upper triangle read."""

    @kernel
    def posv(count, a, b, x, flags):  # type: ignore[no-untyped-def]
        width = lanes_for(a)
        last = count - width
        for group in range((count + width - 1) // width):
            _solve(1, n, nrhs, a, b, x, flags, last, min(group * width, last))

    return posv


@intrinsic(prefer_literal=True)
def _factor(typingctx, n, a, lu, rows, flags, last, first):  # type: ignore[no-untyped-def]
    order = n.literal_value

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        members = _Members(context, builder, signature, values)
        members.prefetch({1: order * order}, {2: order * order})
        numbers = members.read(1, order * order)
        size = straight.magnitudes(numbers)
        probes = _probes(numbers[0], order)
        matrix = _rows(numbers, order)
        inverses, exchanged = straight.lu(matrix, [], probes, keep=True)
        straight.solve_upper(matrix, inverses, probes)
        members.write(2, [number for row in matrix for number in row])
        pointer = reals_of(context, builder, signature.args[3], values[3])
        for k, row in enumerate(exchanged):
            kind = ir.VectorType(ir.IntType(64), row.value.type.count)
            place = builder.gep(pointer, [integer(k * kind.count)])
            number = builder.fptosi(row.value, kind)
            builder.store(number, builder.bitcast(place, kind.as_pointer()), align=8)
        doubtful = _doubtful(size, probes, matrix)
        straight.store_flags(builder, doubtful, members.pointer(4, 0), members.first)
        return context.get_dummy_value()

    return types.void(n, a, lu, rows, flags, types.intp, types.intp), codegen


@functools.cache
def getrf_kernel(n: int) -> Any:
    """Compile ``getrf(count, a, lu, piv, flags)``: P A = L U; flags: to be factored again."""

    @kernel
    def getrf(count, a, lu, piv, flags):  # type: ignore[no-untyped-def]
        width = lanes_for(a)
        last = count - width
        rows = np.empty(n * width, np.int64)
        for group in range((count + width - 1) // width):
            first = min(group * width, last)
            _factor(n, a, lu, rows, flags, last, first)
            for lane in range(width):
                for k in range(n):
                    piv[(first + lane) * n + k] = rows[k * width + lane]

    return getrf


@intrinsic(prefer_literal=True)
def _factor_definite(typingctx, upper, n, a, c, flags, last, first):  # type: ignore[no-untyped-def]
    is_upper, order = upper.literal_value, n.literal_value

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        members = _Members(context, builder, signature, values)
        members.prefetch({2: order * order}, {3: order * order})
        numbers = members.read(2, order * order)
        matrix = _lower(numbers, order) if is_upper else _rows(numbers, order)
        size = _trace(matrix)
        probes = _probes(numbers[0], order)
        inverses = straight.cholesky(matrix)
        straight.solve_definite(matrix, inverses, probes)
        zero = size.constant(0.0)
        found = [[matrix[i][j] if j <= i else zero for j in range(order)] for i in range(order)]
        if is_upper:
            found = [[found[j][i].conj() for j in range(order)] for i in range(order)]
        members.write(3, [number for row in found for number in row])
        doubtful = _doubtful(size, probes, [])
        straight.store_flags(builder, doubtful, members.pointer(4, 0), members.first)
        return context.get_dummy_value()

    return types.void(upper, n, a, c, flags, types.intp, types.intp), codegen


@functools.cache
def potrf_kernel(n: int, upper: bool) -> Any:
    """Compile ``potrf(count, a, c, flags)``: A = L L^H, or U^H U if `upper`."""
    is_upper = int(upper)

    @kernel
    def potrf(count, a, c, flags):  # type: ignore[no-untyped-def]
        width = lanes_for(a)
        last = count - width
        for group in range((count + width - 1) // width):
            _factor_definite(is_upper, n, a, c, flags, last, min(group * width, last))

    return potrf
