"""A = Q R of many matrices at once, by Householder reflections.

Three ways, by size. Matrices of up to `STRAIGHT` numbers stay in registers, in straight code for
each shape. Larger ones lie in a tile that is factored column by column; the reflectors it then
holds are replaced by Q from the last to the first, as in LAPACK's org2r. Where a tile does not fit
into the cache, LAPACK's geqrf and orgqr factor member by member.

All three choose the signs of LAPACK: the diagonal of R is real, and has the sign opposite to that
of the number it replaces, except where nothing is left to eliminate. (The last row of a real
square R, too, is what is left.)

Flops: 2 m n^2 - 2/3 n^3 for R and as many for the first n columns of Q (m >= n). Workspace: `width`
matrices, and m^2 numbers more each for a complete Q.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .. import routines
from ..calls import at, call
from ..jit import kernel
from .householder import factor_columns, factored, form_columns
from .lane_tiles import (
    Register,
    integer,
    lanes_for,
    load_tile,
    loop,
    put_lanes,
    reals_of,
    store_tile,
    tile_of,
    workspace,
)  # fmt: skip
from .packed import read_packed, write_packed
from .qr_stacks import by_lapack, fits_tiles, run_members, width_for

__all__ = ["qr_by_lapack", "qr_stack"]

types: Any = numba_types
Array = NDArray[Any]

STRAIGHT = 16
"""Most numbers of a matrix that is factored in straight code."""
_RATE = 1e10
"""Real operations a second, about."""


# -- in registers ---------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def _qr_in_registers(typingctx, m, n, columns, r_rows, a, q, r, checks, first):  # type: ignore[no-untyped-def]
    """Q and R of as many members as there are lanes, from `first` on; members are packed."""
    rows, cols, q_cols, height = (size.literal_value for size in (m, n, columns, r_rows))

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        is_complex = isinstance(signature.args[4].dtype, types.Complex)

        def reals(argument: int, stride: int) -> Any:
            array = reals_of(context, builder, signature.args[argument], values[argument])
            return builder.gep(array, [builder.mul(values[-1], integer(stride))])

        def put(rows: list[list[Any]], argument: int) -> None:
            numbers = [number for row in rows for number in row]
            write_packed(builder, reals(argument, (1 + is_complex) * len(numbers)), numbers)

        stride = (1 + is_complex) * rows * cols
        numbers = read_packed(builder, reals(4, stride), rows * cols, is_complex)
        q, r = factored([numbers[i * cols : (i + 1) * cols] for i in range(rows)], q_cols)
        put(r + [[r[0][0].constant(0.0)] * cols] * (height - len(r)), 6)
        if q_cols:
            put(q, 5)
        check = r[0][0].real * 0.0
        for i, row in enumerate(r):
            for number in row[i:]:
                check = check + number.magnitude() * 0.0
        write_packed(builder, reals(7, 1), [check])
        return context.get_dummy_value()

    return types.void(m, n, columns, r_rows, a, q, r, checks, types.intp), codegen


@functools.cache
def _straight_kernel(m: int, n: int, columns: int, r_rows: int) -> Any:
    """Compile for m-by-n matrices, so many columns of Q, 0 for R alone, and so many rows of R."""

    @kernel
    def qr_straight(count, a, q, r, checks):  # type: ignore[no-untyped-def]
        width = lanes_for(a)
        for group in range((count + width - 1) // width):
            first = min(group * width, count - width)
            _qr_in_registers(m, n, columns, r_rows, a, q, r, checks, first)

    return qr_straight


# -- in tiles -------------------------------------------------------------------------------------


@intrinsic
def _check_triangle(typingctx, t, rows, columns, ld, place):  # type: ignore[no-untyped-def]
    """Number `place` <- 0, or NaN where one on or above the diagonal is not finite."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, rows, columns, ld, place = values
        tile = tile_of(context, builder, signature.args[0], t)
        check = Register(builder, tile.zero().real)
        with loop(builder, 0, columns) as j:
            last = builder.add(j, integer(1))
            last = builder.select(builder.icmp_signed("<", last, rows), last, rows)
            column = tile.from_place(builder.mul(j, ld))
            with loop(builder, 0, last) as i:
                check.value = check.value + column[i].magnitude() * 0.0
        tile.set_real(place, check.value)
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size, size), codegen


@kernel
def _qr_tiles(count, m, n, columns, rows, a, q, r, checks):  # type: ignore[no-untyped-def]
    width, rank = lanes_for(a), min(m, n)
    tau = m * max(n, columns)
    check = tau + rank
    t = workspace(check + 1, a)
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        load_tile(0, t, a, first, m * n, n, 0, 1, m)
        factor_columns(t, m, n, m, tau)
        _check_triangle(t, rank, n, m, check)
        put_lanes(t, check, checks, first)
        store_tile(1, t, r, first, rows * n, n, 0, 1, m)
        if columns:
            form_columns(t, m, columns, rank, m, tau)
            store_tile(0, t, q, first, m * columns, columns, 0, 1, m)


# -- one by one -----------------------------------------------------------------------------------


@kernel
def _qr_members(geqrf, orgqr, count, m, n, columns, rows, lwork, a, q, r, checks):  # type: ignore[no-untyped-def]
    rank = min(m, n)
    work = np.empty(m * max(n, columns), a.dtype)  # by columns
    tau = np.empty(rank, a.dtype)
    space = np.empty(lwork, a.dtype)
    info = np.zeros(1, np.int32)
    zero = a.dtype.type(0)
    for member in range(count):
        start = member * m * n
        for i in range(m):
            for j in range(n):
                work[i + j * m] = a[start + i * n + j]
        call(geqrf, (m, n, at(work, 0), m, at(tau, 0), at(space, 0), lwork, at(info, 0)))
        start = member * rows * n
        check = checks.dtype.type(0)
        for i in range(rows):
            for j in range(n):
                number = work[i + j * m] if i <= j else zero
                r[start + i * n + j] = number
                check += (abs(number.real) + abs(number.imag)) * 0
        checks[member] = check
        if columns == 0:
            continue
        for j in range(n, columns):
            work[j * m : (j + 1) * m] = 0
        call(
            orgqr,
            (m, columns, rank, at(work, 0), m, at(tau, 0), at(space, 0), lwork, at(info, 0)),
        )
        start = member * m * columns
        for i in range(m):
            for j in range(columns):
                q[start + i * columns + j] = work[i + j * m]


def qr_by_lapack(a: Array, columns: int, q: Array, r: Array, checks: Array) -> None:
    """As `qr_stack`, by LAPACK, whatever the size."""
    (m, n), rows = a.shape[1:], r.shape[1]
    generator = "ungqr" if a.dtype.kind == "c" else "orgqr"
    geqrf, orgqr = (routines.address(name, a.dtype) for name in ("geqrf", generator))
    lwork = 64 * max(n, columns)

    def run(count: int, *arrays: Array) -> None:
        _qr_members(geqrf, orgqr, count, m, n, columns, rows, lwork, *arrays)

    by_lapack(run, (a,), (q, r, checks), _seconds(a, columns))


def _seconds(a: Array, columns: int) -> float:
    m, n = a.shape[1:]
    return (4 if a.dtype.kind == "c" else 1) * 2 * m * (n + columns) * min(m, n) / _RATE + 1e-8


def qr_stack(a: Array, columns: int, q: Array, r: Array, checks: Array) -> None:
    """A = Q R for each member.

    Parameters
    ----------
    a : array, shape (N, m, n)
        None of the three is 0. Any strides.
    columns : int
        Of Q, min(m, n) or m; 0 if R alone is wanted.
    q, r : array, shape (N, m, columns) and (N, rows, n)
        Receive the factors, R with as many rows as it has room for, min(m, n) or m. C-contiguous,
        of a's dtype.
    checks : array of reals, shape (N,)
        Receives NaN where R is not finite, else 0.
    """
    m, n = a.shape[1:]
    rows, numbers = r.shape[1], m * max(n, columns)
    if not fits_tiles(a, numbers):
        qr_by_lapack(a, columns, q, r, checks)
        return
    if numbers <= STRAIGHT:
        run: Any = _straight_kernel(m, n, columns, rows)
    else:
        run = functools.partial(_qr_in_tiles, m, n, columns, rows)
    run_members(run, (a,), (q, r, checks), _seconds(a, columns), width=width_for(a.dtype))


def _qr_in_tiles(m: int, n: int, columns: int, rows: int, count: int, *arrays: Array) -> None:
    _qr_tiles(count, m, n, columns, rows, *arrays)
