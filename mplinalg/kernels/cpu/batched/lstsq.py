"""min ||b - A x|| for many matrices at once.

Matrices of full rank are solved by Householder QR, several members to a tile: with m >= n by that
of A, x = R^-1 (Q^H b); with m < n by that of A^H, x = Q R^-H b, which has the least norm. Is the
rank full beyond doubt? R^-1 is computed as well, a few columns at a time, and

    1 / cond_2(A) >= 1 / sqrt(||R||_1 ||R||_inf ||R^-1||_1 ||R^-1||_inf).

Members where this bound is not well above the cutoff for singular values, or where something is
not finite, are left to LAPACK's gelsd, one by one: there x, the rank and the residues are SciPy's.
Where a tile does not fit into the cache, LAPACK's geqrf, ormqr, trsm and trtri take the place of
the kernels for tiles.

Flops for m >= n: 2 m n^2 - 1/3 n^3 + 4 m n nrhs. Workspace: `width` times A and b.

References
----------
Golub and Van Loan, Matrix Computations, 4th ed., 2013, sections 5.3 and 5.6 (by QR).
Anderson et al., LAPACK Users' Guide, 3rd ed., 1999, section 2.3.2 (gelsd).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .. import routines
from ..calls import ADJOINT, LEFT, NO, TRANSPOSE, UPPER, at, call
from ..jit import kernel
from .householder import factor_columns, reflect_columns
from .lane_tiles import (
    Register,
    lanes_for,
    ld_of,
    load_tile,
    loop,
    put_lanes,
    store_tile,
    tile_of,
    workspace,
)  # fmt: skip
from .qr_stacks import by_lapack, fits_tiles, run_members, width_for
from .substitution import TOGETHER, bound_rcond, invert_diagonal, set_zero, solve_triangle

__all__ = ["gelsd_stack", "lstsq_stack"]

types: Any = numba_types
Array = NDArray[Any]

_RATE = 1e10
"""Real operations a second, about."""


# -- in tiles -------------------------------------------------------------------------------------


@intrinsic
def _squares(typingctx, t, first, rows, columns, ld, target):  # type: ignore[no-untyped-def]
    """Number `target` + j <- sum |c_ij|^2 of column j of a matrix; 0 of no rows."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, first, rows, columns, ld, target = values
        tile = tile_of(context, builder, signature.args[0], t)
        with loop(builder, 0, columns) as j:
            column = tile.from_place(builder.add(first, builder.mul(j, ld)))
            total = Register(builder, tile.zero().real)
            with loop(builder, 0, rows) as i:
                total.value = total.value + column[i].squared()
            tile.set_real(builder.add(target, j), total.value)
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size, size, size), codegen


@intrinsic
def _add_check(typingctx, t, first, rows, columns, ld, place):  # type: ignore[no-untyped-def]
    """Number `place` becomes NaN where one of a matrix is not finite."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        t, first, rows, columns, ld, place = values
        tile = tile_of(context, builder, signature.args[0], t)
        check = Register(builder, tile[place].real)
        with loop(builder, 0, columns) as j:
            column = tile.from_place(builder.add(first, builder.mul(j, ld)))
            with loop(builder, 0, rows) as i:
                check.value = check.value + column[i].magnitude() * 0.0
        tile.set_real(place, check.value)
        return context.get_dummy_value()

    size = types.intp
    return types.void(t, size, size, size, size, size), codegen


@kernel
def _lstsq_tiles(count, m, n, nrhs, a, b, x, squares, rcond):  # type: ignore[no-untyped-def]
    width, is_wide = lanes_for(a), m < n
    # A, or A^H, with more rows than columns; b and x behind its columns
    rows, rank = max(m, n), min(m, n)
    ld = ld_of(rows)
    right = rank * ld
    tau = right + nrhs * ld
    inverses = tau + rank
    bound = inverses + rank
    found = bound + 1
    scratch = found + nrhs
    t = workspace(scratch + TOGETHER * ld + rank + 1, a)
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        if is_wide:
            load_tile(1, t, a, first, m * n, n, 0, ld, 1)
            set_zero(t, right, nrhs * ld)
        else:
            load_tile(0, t, a, first, m * n, n, 0, 1, ld)
        load_tile(0, t, b, first, m * nrhs, nrhs, right, 1, ld)
        factor_columns(t, rows, rank, ld, tau)
        invert_diagonal(t, 0, ld, rank, inverses)
        if is_wide:
            # x <- Q (R^-H b, 0)
            solve_triangle(1, t, 0, ld, rank, inverses, right, nrhs)
            for k in range(rank - 1, -1, -1):
                place = k * ld + k
                reflect_columns(0, t, place, rows - k, tau + k, right + k, nrhs, ld)
            set_zero(t, found, nrhs)
        else:
            # x <- R^-1 (Q^H b)[:n]
            for k in range(rank):
                place = k * ld + k
                reflect_columns(1, t, place, rows - k, tau + k, right + k, nrhs, ld)
            solve_triangle(0, t, 0, ld, rank, inverses, right, nrhs)
            _squares(t, right + n, m - n, nrhs, ld, found)
        bound_rcond(t, 0, ld, rank, inverses, scratch, bound)
        _add_check(t, right, n, nrhs, ld, bound)
        put_lanes(t, bound, rcond, first)
        store_tile(0, t, x, first, n * nrhs, nrhs, right, 1, ld)
        store_tile(0, t, squares, first, nrhs, nrhs, found, 1, 1)


# -- one by one -----------------------------------------------------------------------------------


@kernel
def _sums(r, ld, n):  # type: ignore[no-untyped-def]
    """The largest sums of a column and of a row of an upper triangle; NaN if one is not finite."""
    rows = np.zeros(n)
    column, row, check = 0.0, 0.0, 0.0
    for j in range(n):
        total = 0.0
        for i in range(j + 1):
            size = abs(r[i + j * ld].real) + abs(r[i + j * ld].imag)
            total += size
            rows[i] += size
        column = max(column, total)
        check += total * 0
    for total in rows:
        row = max(row, total)
    return column + check, row + check


@kernel
def _lstsq_members(routines, count, m, n, nrhs, lwork, a, b, x, squares, rcond):  # type: ignore[no-untyped-def]
    geqrf, ormqr, trsm, trtri = routines
    is_wide = m < n
    rows, rank = max(m, n), min(m, n)
    factor = np.empty(rows * rank, a.dtype)  # by columns
    right = np.empty(rows * nrhs, a.dtype)
    tau = np.empty(rank, a.dtype)
    space = np.empty(lwork, a.dtype)
    info = np.zeros(1, np.int32)
    one = a.dtype.type(1)
    nothing = a.dtype.type(0)
    is_complex = a.itemsize > a.real.itemsize
    adjoint = ADJOINT if is_complex else TRANSPOSE
    for member in range(count):
        start = member * m * n
        for i in range(m):
            for j in range(n):
                number = a[start + i * n + j]
                if is_wide:
                    factor[i * rows + j] = np.conj(number)
                else:
                    factor[i + j * rows] = number
        start = member * m * nrhs
        for i in range(rows):
            for j in range(nrhs):
                right[i + j * rows] = b[start + i * nrhs + j] if i < m else nothing
        call(geqrf, (rows, rank, at(factor, 0), rows, at(tau, 0), at(space, 0), lwork, at(info, 0)))
        reflectors = (at(factor, 0), rows, at(tau, 0), at(right, 0), rows, at(space, 0), lwork)
        if not is_wide:
            call(ormqr, (LEFT, adjoint, rows, nrhs, rank, *reflectors, at(info, 0)))
        call(
            trsm,
            (LEFT, UPPER, adjoint if is_wide else NO, NO, rank, nrhs, one, at(factor, 0), rows,
             at(right, 0), rows),
        )  # fmt: skip
        if is_wide:
            call(ormqr, (LEFT, NO, rows, nrhs, rank, *reflectors, at(info, 0)))
        column, row = _sums(factor, rows, rank)
        call(trtri, (UPPER, NO, rank, at(factor, 0), rows, at(info, 0)))
        inverse_column, inverse_row = _sums(factor, rows, rank)
        bound = 0.0
        if info[0] == 0:
            bound = 1 / (np.sqrt(column) * np.sqrt(row))
            bound /= np.sqrt(inverse_column) * np.sqrt(inverse_row)
        check = 0.0
        start = member * n * nrhs
        for j in range(nrhs):
            total = 0.0
            for i in range(rows):
                number = right[i + j * rows]
                if i < n:
                    x[start + i * nrhs + j] = number
                    check += (abs(number.real) + abs(number.imag)) * 0
                else:
                    total += number.real**2 + number.imag**2
            squares[member * nrhs + j] = total
        rcond[member] = bound + check


@kernel
def _gelsd_members(gelsd, count, m, n, nrhs, cutoff, a, b, x, squares, ranks, info):  # type: ignore[no-untyped-def]
    rows, least = max(m, n), min(m, n)
    factor = np.empty(m * n, a.dtype)  # by columns
    right = np.empty(rows * nrhs, a.dtype)
    values = np.empty(least, a.real.dtype)
    space = np.empty(1, a.dtype)
    reals = np.empty(1, a.real.dtype)
    integers = np.empty(1, np.int32)
    outcome = np.zeros(2, np.int32)  # rank, info
    limit = values.dtype.type(cutoff)
    is_complex = a.itemsize > a.real.itemsize
    lwork = -1
    for step in range(count + 1):  # the first asks for the size of the workspaces
        member = max(step - 1, 0)
        start = member * m * n
        for i in range(m):
            for j in range(n):
                factor[i + j * m] = a[start + i * n + j]
        start = member * m * nrhs
        right[:] = 0
        for i in range(m):
            for j in range(nrhs):
                right[i + j * rows] = b[start + i * nrhs + j]
        head = (m, n, nrhs, at(factor, 0), m, at(right, 0), rows, at(values, 0), limit)
        tail = (at(outcome, 0), at(space, 0), lwork)
        if is_complex:
            call(gelsd, (*head, *tail, at(reals, 0), at(integers, 0), at(outcome, 1)))
        else:
            call(gelsd, (*head, *tail, at(integers, 0), at(outcome, 1)))
        if step == 0:
            lwork = max(1, int(space[0].real))
            if is_complex:
                reals = np.empty(max(1, int(reals[0])), reals.dtype)
            integers = np.empty(max(1, integers[0]), np.int32)
            space = np.empty(lwork, a.dtype)
            continue
        ranks[member], info[member] = outcome
        start = member * n * nrhs
        for i in range(n):
            for j in range(nrhs):
                x[start + i * nrhs + j] = right[i + j * rows]
        for j in range(nrhs):
            total = 0.0
            for i in range(m):
                number = b[(member * m + i) * nrhs + j]
                for k in range(n):
                    number -= a[(member * m + i) * n + k] * right[k + j * rows]
                total += number.real**2 + number.imag**2
            squares[member * nrhs + j] = total


def gelsd_stack(
    a: Array, b: Array, cutoff: float, x: Array, squares: Array, ranks: Array, info: Array
) -> None:
    """As `lstsq_stack`, by LAPACK's gelsd whatever the rank.

    Parameters
    ----------
    a, b, x, squares
        As `lstsq_stack`. All numbers are finite.
    cutoff : float
        Singular values below `cutoff` times the largest count as zero.
    ranks : array of int64, shape (N,)
    info : array of int32, shape (N,)
        Receives LAPACK's info: 0, or the SVD did not converge.
    """
    (m, n), nrhs = a.shape[1:], b.shape[2]
    run = functools.partial(_gelsd, routines.address("gelsd", a.dtype), m, n, nrhs, cutoff)
    by_lapack(run, (a, b), (x, squares, ranks, info), 10 * _seconds(a, nrhs))


def _gelsd(
    gelsd: int, m: int, n: int, nrhs: int, cutoff: float, count: int, *arrays: Array
) -> None:
    _gelsd_members(gelsd, count, m, n, nrhs, cutoff, *arrays)


def _seconds(a: Array, nrhs: int) -> float:
    m, n = a.shape[1:]
    flops = 2 * m * n * (min(m, n) + 2 * nrhs)
    return (4 if a.dtype.kind == "c" else 1) * flops / _RATE + 1e-7


def lstsq_stack(a: Array, b: Array, x: Array, squares: Array, rcond: Array) -> None:
    """x of least ||b - A x||, and of least norm among those, of members of full rank.

    Parameters
    ----------
    a : array, shape (N, m, n)
        Neither m nor n is 0. Any strides.
    b : array, shape (N, m, nrhs)
    x : array, shape (N, n, nrhs)
        C-contiguous, of a's dtype.
    squares : array of reals, shape (N, nrhs)
        Receives ||b - A x||^2, column by column.
    rcond : array of reals, shape (N,)
        Receives a lower bound on the reciprocal condition number of A in the 2-norm; NaN where x or
        the bound is not finite. What is not well above the unit roundoff leaves the rank in doubt,
        and x is not to be used.
    """
    (m, n), nrhs = a.shape[1:], b.shape[2]
    if not fits_tiles(a, max(m, n) * (min(m, n) + nrhs)):
        family = "un" if a.dtype.kind == "c" else "or"
        names = ("geqrf", family + "mqr", "trsm", "trtri")
        addresses = tuple(routines.address(name, a.dtype) for name in names)
        lwork = 64 * max(m, n, nrhs)
        run = functools.partial(_by_lapack, addresses, m, n, nrhs, lwork)
        by_lapack(run, (a, b), (x, squares, rcond), _seconds(a, nrhs))
        return
    tiles = functools.partial(_in_tiles, m, n, nrhs)
    run_members(tiles, (a, b), (x, squares, rcond), _seconds(a, nrhs), width=width_for(a.dtype))


def _in_tiles(m: int, n: int, nrhs: int, count: int, *arrays: Array) -> None:
    _lstsq_tiles(count, m, n, nrhs, *arrays)


def _by_lapack(
    routines: tuple[int, ...], m: int, n: int, nrhs: int, lwork: int, count: int, *arrays: Array
) -> None:
    _lstsq_members(routines, count, m, n, nrhs, lwork, *arrays)
