"""A^-1 of many matrices at once, with its exact condition number.

P A = L U with partial pivoting, and A^-1 = U^-1 (L^-1 P): the columns of the identity are solved
with, so that each column of the inverse has a small residual. Matrices up to `STRAIGHT` stay in
registers, in straight code for each order; larger ones lie in tiles; where tiles do not fit into
the cache, LAPACK's getrf and getri invert member by member.

Flops: 2/3 n^3 + 2 n^3, LAPACK's 2 n^3. Workspace: `width` times two matrices.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .. import routines
from ..calls import at, call
from ..jit import kernel
from ..lanes import where
from .careful import largest_part, power_inside
from .doubts import note_growth
from .elimination import put_constant
from .householder import unit_column
from .lane_tiles import (
    integer,
    lanes_for,
    ld_of,
    load_tile,
    put_lanes,
    reals_of,
    store_tile,
    tile_of,
    workspace,
)  # fmt: skip
from .packed import read_packed, write_packed
from .qr_stacks import by_lapack, fits_tiles, run_members, width_for
from .straight import largest_size, lu
from .straight import solve_upper as solve_in_registers
from .substitution import largest_column
from .tiled import getrf_tile, solve_upper

__all__ = ["getri_stack", "inverse_stack"]

types: Any = numba_types
Array = NDArray[Any]

STRAIGHT = 8
"""Largest order that is inverted in straight code."""
_RATE = 1e10
"""Real operations a second, about."""


# -- in registers ---------------------------------------------------------------------------------


def _one_norm(columns: list[list[Any]]) -> Any:
    """The 1-norm, with |re| + |im|; NaN where something is not finite."""
    zero = columns[0][0].real.constant(0.0)
    top = check = zero
    for column in columns:
        total = zero
        for number in column:
            total = total + number.magnitude()
        top = where(total > top, total, top)
        check = check + total * 0.0
    return top + check


def _rcond(norm: Any, inverse: Any) -> Any:
    """1 / (||A|| ||A^-1||); 0 where ||A|| is so near the ends of the range that U may exceed it."""
    most = largest_size(isinstance(norm.value.type.element, ir.FloatType))
    inside = (norm < most) & (norm > 1.0 / most)
    return where(inside, 1.0 / (norm * inverse), norm.constant(0.0))


@intrinsic(prefer_literal=True)
def _invert_in_registers(typingctx, n, a, x, rcond, first):  # type: ignore[no-untyped-def]
    """The inverses of as many members as there are lanes, from `first` on; members are packed."""
    order = n.literal_value

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        is_complex = isinstance(signature.args[1].dtype, types.Complex)
        stride = (1 + is_complex) * order * order

        def reals(argument: int, stride: int) -> Any:
            array = reals_of(context, builder, signature.args[argument], values[argument])
            return builder.gep(array, [builder.mul(values[-1], integer(stride))])

        numbers = read_packed(builder, reals(1, stride), order * order, is_complex)
        rows = [numbers[i * order : (i + 1) * order] for i in range(order)]
        norm = _one_norm([list(column) for column in zip(*rows, strict=True)])
        zero, one = numbers[0].constant(0.0), numbers[0].constant(1.0)
        columns = [[one if i == j else zero for i in range(order)] for j in range(order)]
        inverses, _ = lu(rows, columns, [])
        solve_in_registers(rows, inverses, columns)
        flat = [columns[j][i] for i in range(order) for j in range(order)]
        write_packed(builder, reals(2, stride), flat)
        write_packed(builder, reals(3, 1), [_rcond(norm, _one_norm(columns))])
        return context.get_dummy_value()

    return types.void(n, a, x, rcond, types.intp), codegen


@functools.cache
def _straight_kernel(n: int) -> Any:
    """Compile for matrices of order n."""

    @kernel
    def inverse_straight(count, a, x, rcond):  # type: ignore[no-untyped-def]
        width = lanes_for(a)
        for group in range((count + width - 1) // width):
            _invert_in_registers(n, a, x, rcond, min(group * width, count - width))

    return inverse_straight


# -- in tiles -------------------------------------------------------------------------------------


@intrinsic
def _put_rcond(typingctx, t, norm, inverse):  # type: ignore[no-untyped-def]
    """Number `norm` <- `_rcond` of itself and number `inverse`."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, norm, inverse = values
        tile = tile_of(context, builder, signature.args[0], t)
        tile.set_real(norm, _rcond(tile[norm].real, tile[inverse].real))
        return context.get_dummy_value()

    return types.void(t, types.intp, types.intp), codegen


@kernel
def _inverse_tiles(count, n, a, x, rcond):  # type: ignore[no-untyped-def]
    width, ld = lanes_for(a), ld_of(n)
    norm = 2 * n * ld
    t = workspace(norm + 2, a)
    ones, inverses = workspace(n, a), workspace(n, a)
    rows = np.empty((n, width), np.int64)
    found = np.empty(width, np.int64)
    for i in range(n):
        put_constant(ones, i, 1.0)
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        load_tile(0, t, a, first, n * n, n, 0, 1, ld)
        largest_column(t, 0, n, n, ld, norm)
        for j in range(n):
            unit_column(t, (n + j) * ld, n, j)
        # (A, I) <- (U, L^-1 P), and then U^-1 L^-1 P
        getrf_tile(t, n, ld, 2 * n, False, ones, inverses, rows, found)
        note_growth(t, n, ld, t, norm)
        solve_upper(t, 0, 1, ld, n, inverses, t, n * ld, ld, n)
        largest_column(t, n * ld, n, n, ld, norm + 1)
        _put_rcond(t, norm, norm + 1)
        put_lanes(t, norm, rcond, first)
        store_tile(0, t, x, first, n * n, n, n * ld, 1, ld)


# -- one by one -----------------------------------------------------------------------------------


@kernel
def _modulus(number):  # type: ignore[no-untyped-def]
    """|number| without overflow; where vector registers were in use, hypot may be very slow."""
    real, imag = abs(number.real), abs(number.imag)
    top, bottom = max(real, imag), min(real, imag)
    if bottom == 0:
        return top + bottom
    ratio = bottom / top
    return top * np.sqrt(1 + ratio * ratio)


@kernel
def _largest_column(a, n):  # type: ignore[no-untyped-def]
    """The 1-norm of a matrix by columns; NaN where something is not finite."""
    top, check = 0.0, 0.0
    for j in range(n):
        total = 0.0
        for i in range(n):
            total += _modulus(a[i + j * n])
        top = max(top, total)
        check += total * 0
    return top + check


@kernel
def _inverse_members(getrf, getri, count, n, lwork, a, x, rcond, info):  # type: ignore[no-untyped-def]
    piv = np.empty(n, np.int32)
    work = np.empty(n * n, a.dtype)  # by columns
    space = np.empty(lwork, a.dtype)
    for member in range(count):
        start = member * n * n
        # (power A)^-1 power: what U and sums of a column hold stays within the range
        size = largest_part(a[start : start + n * n])
        power = a.real.dtype.type(power_inside(size, a.real.itemsize == 4))
        for i in range(n):
            for j in range(n):
                work[i + j * n] = a[start + i * n + j] * power
        norm = _largest_column(work, n)
        code = info[member : member + 1]
        call(getrf, (n, n, at(work, 0), n, at(piv, 0), at(code, 0)))
        if code[0] == 0:
            call(getri, (n, at(work, 0), n, at(piv, 0), at(space, 0), lwork, at(code, 0)))
        rcond[member] = 0
        if code[0] == 0:
            rcond[member] = 1 / norm / _largest_column(work, n)
        check = 0.0
        for i in range(n):
            for j in range(n):
                number = work[i + j * n] * power
                x[start + i * n + j] = number
                check += (abs(number.real) + abs(number.imag)) * 0
        rcond[member] += check


def getri_stack(a: Array, x: Array, rcond: Array, info: Array) -> None:
    """As `inverse_stack`, by LAPACK whatever the size.

    Parameters
    ----------
    a, x : array
        As `inverse_stack`.
    rcond : array of float64, shape (N,)
        With true absolute values; 0 where `info` is not, NaN where the inverse is not finite.
    info : array of int32, shape (N,)
        Receives LAPACK's info: 0, or i > 0 where pivot i is exactly zero.
    """
    n = a.shape[1]
    addresses = [routines.address(name, a.dtype) for name in ("getrf", "getri")]

    def run(count: int, *arrays: Array) -> None:
        _inverse_members(*addresses, count, n, 64 * n, *arrays)

    by_lapack(run, (a,), (x, rcond, info), _seconds(a))


def _seconds(a: Array) -> float:
    return (4 if a.dtype.kind == "c" else 1) * 3 * a.shape[1] ** 3 / _RATE + 1e-8


def inverse_stack(a: Array, x: Array, rcond: Array) -> None:
    """The inverse of each member.

    Parameters
    ----------
    a : array, shape (N, n, n)
        n is not 0. Any strides.
    x : array, shape (N, n, n)
        Receives the inverses. C-contiguous, of a's dtype.
    rcond : array of reals, shape (N,)
        Receives the reciprocal condition numbers in the 1-norm, with |re| + |im| as the size of a
        complex number: up to half as large as they are. 0 or NaN where a pivot is zero, or
        something is not finite.
    """
    n = a.shape[1]
    if not fits_tiles(a, 2 * n * n):
        wide, info = np.empty(len(a)), np.empty(len(a), np.int32)
        getri_stack(a, x, wide, info)
        rcond[...] = wide
        return
    run = _straight_kernel(n) if n <= STRAIGHT else functools.partial(_in_tiles, n)
    run_members(run, (a,), (x, rcond), _seconds(a), width=width_for(a.dtype))


def _in_tiles(n: int, count: int, *arrays: Array) -> None:
    _inverse_tiles(count, n, *arrays)
