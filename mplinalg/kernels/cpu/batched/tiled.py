"""Systems of matrices that registers cannot hold, in tiles of as many members as a register holds.

A tile has the columns of A first, `ld` places apart, then random right-hand sides, then others. See
`elimination` for the steps, `lane_tiles` for what a tile is.

Flops: those of LAPACK's routines of the same names, for a register's width of members at once.
Workspace: 64 bytes for each number of A, of the right-hand sides and of their multipliers; twice
that if complex. Rows are interchanged number by number, as pivots differ from member to member.
"""

from __future__ import annotations

import numpy as np

from ..jit import kernel
from .doubts import doubts, extremes, largest_row, note_growth, trace
from .elimination import (
    BLOCK,
    backward,
    conjugate,
    eliminate,
    eliminate_definite,
    exchange,
    forward,
    invert,
    put_constant,
    search,
    subtract_adjoint,
)
from .lane_tiles import lanes_for, ld_of, load_tile, store_tile, workspace

__all__ = [
    "exchange_rows",
    "gesv_tiles",
    "getrf_tile",
    "getrf_tiles",
    "getrs_tiles",
    "posv_tiles",
    "potrf_tile",
    "potrf_tiles",
    "potrs_tiles",
    "solve_lower",
    "solve_upper",
]


# -- steps ---------------------------------------------------------------------------------------


@kernel
def exchange_rows(t, ld, rows, k, stop, first, last):  # type: ignore[no-untyped-def]
    """Rows k, ..., stop - 1 of columns first, ..., last - 1 change places with rows[k], ....

    `rows` has a row of integers for each row of the matrix, one for each lane.
    """
    for j in range(first, last):
        for i in range(k, stop):
            for lane in range(rows.shape[1]):
                exchange(t, i + j * ld, rows[i, lane] + j * ld, lane)


@kernel
def solve_lower(m, base, down, across, n, inverses, y, y_base, y_ld, columns):  # type: ignore[no-untyped-def]
    """Y <- M^-1 Y, M lower triangular; arguments as `elimination.forward`."""
    whole = n - n % BLOCK
    for c in range(0, whole, BLOCK):
        j = 0
        while j + 4 <= columns:
            forward(4, 4, m, base, down, across, inverses, c, y, y_base + j * y_ld, y_ld, c + 4, n)
            j += 4
        if j + 2 <= columns:
            forward(4, 2, m, base, down, across, inverses, c, y, y_base + j * y_ld, y_ld, c + 4, n)
            j += 2
        if j < columns:
            forward(4, 1, m, base, down, across, inverses, c, y, y_base + j * y_ld, y_ld, c + 4, n)
    for c in range(whole, n):
        for j in range(columns):
            forward(1, 1, m, base, down, across, inverses, c, y, y_base + j * y_ld, y_ld, c + 1, n)


@kernel
def solve_upper(m, base, down, across, n, inverses, y, y_base, y_ld, columns):  # type: ignore[no-untyped-def]
    """Y <- M^-1 Y, M upper triangular; arguments as `elimination.forward`."""
    whole = n - n % BLOCK
    for c in range(n - 1, whole - 1, -1):
        for j in range(columns):
            backward(1, 1, m, base, down, across, inverses, c, y, y_base + j * y_ld, y_ld, 0, c)
    for c in range(whole - BLOCK, -1, -BLOCK):
        j = 0
        while j + 4 <= columns:
            backward(4, 4, m, base, down, across, inverses, c, y, y_base + j * y_ld, y_ld, 0, c)
            j += 4
        if j + 2 <= columns:
            backward(4, 2, m, base, down, across, inverses, c, y, y_base + j * y_ld, y_ld, 0, c)
            j += 2
        if j < columns:
            backward(4, 1, m, base, down, across, inverses, c, y, y_base + j * y_ld, y_ld, 0, c)


@kernel
def getrf_tile(t, n, ld, columns, keep, ones, inverses, rows, found):  # type: ignore[no-untyped-def]
    """P A = L U in the first n columns of a tile; L^-1 P is applied to those up to `columns`.

    Parameters
    ----------
    t : array
        The tile.
    n, ld, columns : int
    keep : bool
        Whether L is wanted with its rows in order, as LAPACK's.
    ones, inverses : array
        Tiles of n numbers: all 1; and what receives 1 / U_kk, not finite where U_kk is zero.
    rows : array of int64, shape (n, width)
        Receives the rows that were exchanged with row 0, 1, ..., lane by lane.
    found : array of int64, shape (width,)
        Scratch.
    """
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        # P A[first:, C] = L U, C = first, ..., last - 1
        search(t, first + first * ld, n - first, found)
        for k in range(first, last):
            for lane in range(found.size):
                rows[k, lane] = k + found[lane]
            exchange_rows(t, ld, rows, k, k + 1, first, last)
            place = k + k * ld
            behind = last - 1 - k
            if behind == 3:
                eliminate(3, t, place, n - k, ld, inverses, k, found)
            elif behind == 2:
                eliminate(2, t, place, n - k, ld, inverses, k, found)
            elif behind == 1:
                eliminate(1, t, place, n - k, ld, inverses, k, found)
            else:
                eliminate(0, t, place, n - k, ld, inverses, k, found)
        if keep:
            exchange_rows(t, ld, rows, first, last, 0, first)
        # A[C, J] <- L^-1 P A[C, J];  A[last:, J] -= L[last:, C] A[C, J]
        j = last
        if last - first == BLOCK:
            while j + 4 <= columns:
                exchange_rows(t, ld, rows, first, last, j, j + 4)
                forward(4, 4, t, 0, 1, ld, ones, first, t, j * ld, ld, last, n)
                j += 4
        while j < columns:
            exchange_rows(t, ld, rows, first, last, j, j + 1)
            if last - first == BLOCK:
                forward(4, 1, t, 0, 1, ld, ones, first, t, j * ld, ld, last, n)
            else:
                for c in range(first, last):
                    forward(1, 1, t, 0, 1, ld, ones, c, t, j * ld, ld, c + 1, n)
            j += 1


@kernel
def potrf_tile(t, n, ld, inverses):  # type: ignore[no-untyped-def]
    """A = L L^H in the lower triangle of a tile; inverses[k] <- 1 / L_kk, or NaN, or infinity."""
    for first in range(0, n, BLOCK):
        last = min(first + BLOCK, n)
        # A[first:, C] = L[first:, C] L[C, C]^H, C = first, ..., last - 1
        for k in range(first, last):
            place = k + k * ld
            behind = last - 1 - k
            if behind == 3:
                eliminate_definite(3, t, place, n - k, ld, inverses, k)
            elif behind == 2:
                eliminate_definite(2, t, place, n - k, ld, inverses, k)
            elif behind == 1:
                eliminate_definite(1, t, place, n - k, ld, inverses, k)
            else:
                eliminate_definite(0, t, place, n - k, ld, inverses, k)
        # A[J, J] -= L[J, C] L[J, C]^H, the lower triangle, J = last, ..., n - 1
        j = last
        while j + 4 <= n:
            subtract_adjoint(4, 4, t, ld, first, j, n)
            j += 4
        while j < n:
            subtract_adjoint(4, 1, t, ld, first, j, n)
            j += 1


@kernel
def _put_probes(t, place, ld, probes):  # type: ignore[no-untyped-def]
    """Random right-hand sides in the columns from a place on."""
    for p in range(len(probes)):
        for i in range(probes.shape[1]):
            put_constant(t, place + i + p * ld, probes[p, i])


@kernel
def _solve_definite(t, n, ld, inverses, columns):  # type: ignore[no-untyped-def]
    """Y <- L^-H L^-1 Y, for the columns behind L in a tile."""
    solve_lower(t, 0, 1, ld, n, inverses, t, n * ld, ld, columns)
    # L^H y = z is L^T conj(y) = conj(z)
    conjugate(t, n * ld, columns * ld)
    solve_upper(t, 0, ld, 1, n, inverses, t, n * ld, ld, columns)
    conjugate(t, n * ld, columns * ld)


# -- drivers -------------------------------------------------------------------------------------


@kernel
def gesv_tiles(count, n, nrhs, limit, probes, a, b, x, flags):  # type: ignore[no-untyped-def]
    """A x = b for each of `count` packed members, as many as a register has lanes or more.

    Parameters
    ----------
    count, n, nrhs : int
    limit : float
        See `doubts.doubts`.
    probes : array, shape (k, n)
        Random right-hand sides.
    a, b, x : array
        Flat.
    flags : array of uint8, shape (count,)
        Receives 1 for members that must be solved again, with more care.
    """
    width, tested = lanes_for(a), len(probes)
    ld = ld_of(n)
    behind = n + tested
    t = workspace(ld * (behind + nrhs), a)
    ones, inverses, size = workspace(n, a), workspace(n, a), workspace(1, a)
    rows = np.empty((n, width), np.int64)
    found = np.empty(width, np.int64)
    for i in range(n):
        put_constant(ones, i, 1.0)
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        load_tile(0, t, a, first, n * n, n, 0, 1, ld)
        load_tile(0, t, b, first, n * nrhs, nrhs, behind * ld, 1, ld)
        largest_row(t, n, ld, size)
        _put_probes(t, n * ld, ld, probes)
        getrf_tile(t, n, ld, behind + nrhs, False, ones, inverses, rows, found)
        note_growth(t, n, ld, size, 0)
        solve_upper(t, 0, 1, ld, n, inverses, t, n * ld, ld, tested + nrhs)
        doubts(size, t, n * ld, n, tested, nrhs, ld, limit, flags, first)
        store_tile(0, t, x, first, n * nrhs, nrhs, behind * ld, 1, ld)


@kernel
def posv_tiles(count, n, nrhs, limit, probes, a, b, x, flags):  # type: ignore[no-untyped-def]
    """As `gesv_tiles`, A Hermitian positive definite, its upper triangle read."""
    width, tested = lanes_for(a), len(probes)
    ld = ld_of(n)
    behind = n + tested
    t = workspace(ld * (behind + nrhs), a)
    inverses, size = workspace(n, a), workspace(1, a)
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        load_tile(1, t, a, first, n * n, n, 0, ld, 1)
        load_tile(0, t, b, first, n * nrhs, nrhs, behind * ld, 1, ld)
        trace(t, n, ld, size)
        _put_probes(t, n * ld, ld, probes)
        potrf_tile(t, n, ld, inverses)
        _solve_definite(t, n, ld, inverses, tested + nrhs)
        doubts(size, t, n * ld, n, tested, nrhs, ld, limit, flags, first)
        store_tile(0, t, x, first, n * nrhs, nrhs, behind * ld, 1, ld)


@kernel
def getrf_tiles(count, n, limit, probes, a, lu, piv, flags):  # type: ignore[no-untyped-def]
    """P A = L U for each member; arguments as `gesv_tiles`, pivots as LAPACK's from 0 on."""
    width, tested = lanes_for(a), len(probes)
    ld = ld_of(n)
    t = workspace(ld * (n + tested), a)
    ones, inverses, size = workspace(n, a), workspace(n, a), workspace(1, a)
    rows = np.empty((n, width), np.int64)
    found = np.empty(width, np.int64)
    for i in range(n):
        put_constant(ones, i, 1.0)
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        load_tile(0, t, a, first, n * n, n, 0, 1, ld)
        largest_row(t, n, ld, size)
        _put_probes(t, n * ld, ld, probes)
        getrf_tile(t, n, ld, n + tested, True, ones, inverses, rows, found)
        solve_upper(t, 0, 1, ld, n, inverses, t, n * ld, ld, tested)
        doubts(size, t, n * ld, n, tested, 0, ld, limit, flags, first)
        store_tile(0, t, lu, first, n * n, n, 0, 1, ld)
        for lane in range(width):
            for k in range(n):
                piv[(first + lane) * n + k] = rows[k, lane]


@kernel
def potrf_tiles(count, n, upper, limit, probes, a, c, flags):  # type: ignore[no-untyped-def]
    """A = L L^H, or U^H U if `upper`, for each member; arguments as `gesv_tiles`."""
    width, tested = lanes_for(a), len(probes)
    ld = ld_of(n)
    t = workspace(ld * (n + tested), a)
    inverses, size = workspace(n, a), workspace(1, a)
    # the transpose of A is its conjugate, and the factor of that the conjugate of L, and so U^T
    down, across = (ld, 1) if upper else (1, ld)
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        load_tile(0, t, a, first, n * n, n, 0, down, across)
        trace(t, n, ld, size)
        _put_probes(t, n * ld, ld, probes)
        potrf_tile(t, n, ld, inverses)
        _solve_definite(t, n, ld, inverses, tested)
        doubts(size, t, n * ld, n, tested, 0, ld, limit, flags, first)
        for j in range(1, n):
            for i in range(j):
                put_constant(t, i + j * ld, 0.0)
        store_tile(0, t, c, first, n * n, n, 0, down, across)


@kernel
def getrs_tiles(count, n, nrhs, trans, lu, piv, b, x, flags):  # type: ignore[no-untyped-def]
    """x = op(A)^-1 b with LAPACK's factors; `trans` is 0, 1 (transposed) or 2 (adjoint).

    Members whose diagonal has extreme numbers get a flag of 1: their x may be wrong.
    """
    width = lanes_for(lu)
    ld = ld_of(n)
    t = workspace(ld * (n + nrhs), lu)
    ones, inverses = workspace(n, lu), workspace(n, lu)
    rows = np.empty((n, width), np.int64)
    for i in range(n):
        put_constant(ones, i, 1.0)
    y = n * ld
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        load_tile(0, t, lu, first, n * n, n, 0, 1, ld)
        load_tile(0, t, b, first, n * nrhs, nrhs, y, 1, ld)
        extremes(t, n, ld, flags, first)
        for k in range(n):
            invert(t, k + k * ld, inverses, k)
            for lane in range(width):
                rows[k, lane] = piv[(first + lane) * n + k]
        if trans == 0:
            # L U x = P b
            exchange_rows(t, ld, rows, 0, n, n, n + nrhs)
            solve_lower(t, 0, 1, ld, n, ones, t, y, ld, nrhs)
            solve_upper(t, 0, 1, ld, n, inverses, t, y, ld, nrhs)
        else:
            # U^T L^T P x = b; of the adjoint, that of conj(b) for conj(x)
            if trans == 2:
                conjugate(t, y, nrhs * ld)
            solve_lower(t, 0, ld, 1, n, inverses, t, y, ld, nrhs)
            solve_upper(t, 0, ld, 1, n, ones, t, y, ld, nrhs)
            for k in range(n - 1, -1, -1):
                exchange_rows(t, ld, rows, k, k + 1, n, n + nrhs)
            if trans == 2:
                conjugate(t, y, nrhs * ld)
        store_tile(0, t, x, first, n * nrhs, nrhs, y, 1, ld)


@kernel
def potrs_tiles(count, n, nrhs, upper, c, b, x):  # type: ignore[no-untyped-def]
    """x = A^-1 b with A = L L^H, or U^H U if `upper`; the other triangle is not read."""
    width = lanes_for(c)
    ld = ld_of(n)
    t = workspace(ld * (n + nrhs), c)
    inverses = workspace(n, c)
    y = n * ld
    down, across = (ld, 1) if upper else (1, ld)
    for group in range((count + width - 1) // width):
        first = min(group * width, count - width)
        load_tile(0, t, c, first, n * n, n, 0, down, across)
        load_tile(0, t, b, first, n * nrhs, nrhs, y, 1, ld)
        for k in range(n):
            invert(t, k + k * ld, inverses, k)
        # a tile with U^T holds the factor of conj(A)
        if upper:
            conjugate(t, y, nrhs * ld)
        _solve_definite(t, n, ld, inverses, nrhs)
        if upper:
            conjugate(t, y, nrhs * ld)
        store_tile(0, t, x, first, n * nrhs, nrhs, y, 1, ld)
