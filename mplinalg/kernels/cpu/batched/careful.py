"""LAPACK for single members: those that the kernels in lanes had doubts about.

Each is copied, scaled by a power of two if its numbers are near the ends of the range, and solved
by LAPACK as SciPy does it, with an estimate of its condition. So it is LAPACK that says which
matrix is singular, and whatever the lanes made of it is forgotten.

References
----------
Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 15 (estimates of
condition numbers).
"""

from __future__ import annotations

import numpy as np

from ..calls import LOWER, NO, at, call
from ..jit import exact_kernel

__all__ = [
    "NOT_FINITE",
    "gesv_one_by_one",
    "getrf_one_by_one",
    "largest_part",
    "posv_one_by_one",
    "potrf_one_by_one",
    "power_inside",
]

NOT_FINITE = -1
"""`info` of a member that holds NaN or infinity."""
_ONE_NORM = np.uint8(ord("1"))


@exact_kernel
def largest_part(numbers):  # type: ignore[no-untyped-def]
    """The largest |re| or |im|; NaN if there is one, and infinity."""
    top = 0.0
    for value in numbers:
        for part in (abs(value.real), abs(value.imag)):
            if not part <= top:
                top = part
                if np.isnan(part):
                    return top
    return np.float64(top)


@exact_kernel
def power_inside(size, is_single):  # type: ignore[no-untyped-def]
    """The power of two by which numbers of such a size get away from the ends of the range."""
    end = 2.0**96 if is_single else 2.0**960
    step = 2.0**24 if is_single else 2.0**64
    if size > end:
        return 1 / step
    return step if 0 < size < 1 / end else 1.0


@exact_kernel
def _to_columns(source, target, n, columns, power):  # type: ignore[no-untyped-def]
    """target <- power source, from contiguous rows to contiguous columns."""
    real = source.real
    factor = real.dtype.type(power)
    for i in range(n):
        for j in range(columns):
            target[i + j * n] = source[i * columns + j] * factor


@exact_kernel
def _to_rows(source, target, n, columns, first, second):  # type: ignore[no-untyped-def]
    """target <- source first second, from contiguous columns to contiguous rows."""
    real = source.real
    one, two = real.dtype.type(first), real.dtype.type(second)
    for i in range(n):
        for j in range(columns):
            target[i * columns + j] = source[i + j * n] * one * two


@exact_kernel
def _lower_to_columns(source, target, n, upper, power):  # type: ignore[no-untyped-def]
    """target <- power A in its lower triangle, A Hermitian with its upper or lower triangle given.

    Returns the largest |re| or |im| of that triangle, unscaled.
    """
    real = source.real
    factor = real.dtype.type(power)
    top = 0.0
    for j in range(n):
        for i in range(j, n):
            value = np.conj(source[j * n + i]) if upper else source[i * n + j]
            target[i + j * n] = value * factor
            for part in (abs(value.real), abs(value.imag)):
                if not part <= top:  # once NaN, top stays so
                    top = part if top == top else top
    return np.float64(top)


@exact_kernel
def _norm1(work, n, lower):  # type: ignore[no-untyped-def]
    """Largest column sum of moduli, of a Hermitian matrix with its lower triangle, if `lower`."""
    sums = np.zeros(n)
    for j in range(n):
        for i in range(j if lower else 0, n):
            size = abs(work[i + j * n])
            sums[j] += size
            if lower and i != j:
                sums[i] += size
    return sums.max()


@exact_kernel
def _solve(solver, flag, n, nrhs, lu, ipiv, b, y, x, power, info):  # type: ignore[no-untyped-def]
    """x <- A^-1 b with the factors of power A; x is as scaled as numbers allow meanwhile."""
    size = largest_part(b)
    shift = power_inside(size, y.real.itemsize == 4)
    _to_columns(b, y, n, nrhs, shift)
    if flag == NO:
        call(
            solver,
            (flag, n, nrhs, at(lu, 0), n, at(ipiv, 0), at(y, 0), n, at(info, 0)),
        )
    else:
        call(solver, (flag, n, nrhs, at(lu, 0), n, at(y, 0), n, at(info, 0)))
    _to_rows(y, x, n, nrhs, power, 1 / shift)


@exact_kernel
def _getrf(getrf, gecon, n, a, lu, ipiv, work, extra, found, info):  # type: ignore[no-untyped-def]
    """P (power A) = L U by columns; returns info, rcond and the power of two."""
    real = a.real
    size = largest_part(a)
    if not size < np.inf:
        return NOT_FINITE, np.nan, 1.0
    power = power_inside(size, real.itemsize == 4)
    _to_columns(a, lu, n, n, power)
    norm = real.dtype.type(_norm1(lu, n, False))
    call(getrf, (n, n, at(lu, 0), n, at(ipiv, 0), at(info, 0)))
    if info[0] != 0:
        return info[0], 0.0, power
    call(
        gecon,
        (_ONE_NORM, n, at(lu, 0), n, norm, at(found, 0), at(work, 0), at(extra, 0), at(info, 0)),
    )
    return 0, np.float64(found[0]), power


@exact_kernel
def _potrf(potrf, pocon, n, upper, a, c, work, extra, found, info):  # type: ignore[no-untyped-def]
    """power A = L L^H by columns; returns info, rcond and the power of two."""
    real = a.real
    size = _lower_to_columns(a, c, n, upper, 1.0)
    if not size < np.inf:
        return NOT_FINITE, np.nan, 1.0
    power = power_inside(size, real.itemsize == 4)
    _lower_to_columns(a, c, n, upper, power)
    norm = real.dtype.type(_norm1(c, n, True))
    call(potrf, (LOWER, n, at(c, 0), n, at(info, 0)))
    if info[0] != 0:
        return info[0], 0.0, power
    call(
        pocon,
        (LOWER, n, at(c, 0), n, norm, at(found, 0), at(work, 0), at(extra, 0), at(info, 0)),
    )
    return 0, np.float64(found[0]), power


@exact_kernel
def gesv_one_by_one(getrf, gecon, getrs, n, nrhs, extra, a, b, x, info, rcond):  # type: ignore[no-untyped-def]
    """A x = b for each member, with rcond; x is NaN where there is no answer.

    Parameters
    ----------
    getrf, gecon, getrs : int
        Addresses.
    n, nrhs : int
    extra : array
        2 n numbers of workspace, int32 for real matrices, real for complex ones.
    a, b, x : array
        Members packed.
    info : array of int32, shape (count,)
        Receives LAPACK's, or `NOT_FINITE`.
    rcond : array of float64, shape (count,)
    """
    lu, y = np.empty(n * n, a.dtype), np.empty(n * nrhs, a.dtype)
    work = np.empty(4 * n, a.dtype)
    found = np.empty(1, a.real.dtype)
    ipiv = np.empty(n, np.int32)
    state = np.zeros(1, np.int32)
    for k in range(info.size):
        here = a[k * n * n : (k + 1) * n * n]
        right = b[k * n * nrhs : (k + 1) * n * nrhs]
        target = x[k * n * nrhs : (k + 1) * n * nrhs]
        info[k], rcond[k], power = _getrf(
            getrf, gecon, n, here, lu, ipiv, work, extra, found, state
        )
        if info[k] == 0 and not largest_part(right) < np.inf:
            info[k] = NOT_FINITE
        if info[k] != 0:
            target[:] = np.nan
            continue
        _solve(getrs, NO, n, nrhs, lu, ipiv, right, y, target, power, state)


@exact_kernel
def posv_one_by_one(potrf, pocon, potrs, n, nrhs, extra, a, b, x, info, rcond):  # type: ignore[no-untyped-def]
    """As `gesv_one_by_one`, A Hermitian positive definite, its upper triangle read."""
    c, y = np.empty(n * n, a.dtype), np.empty(n * nrhs, a.dtype)
    work = np.empty(4 * n, a.dtype)
    found = np.empty(1, a.real.dtype)
    ipiv = np.empty(1, np.int32)
    state = np.zeros(1, np.int32)
    for k in range(info.size):
        here = a[k * n * n : (k + 1) * n * n]
        right = b[k * n * nrhs : (k + 1) * n * nrhs]
        target = x[k * n * nrhs : (k + 1) * n * nrhs]
        info[k], rcond[k], power = _potrf(potrf, pocon, n, True, here, c, work, extra, found, state)
        if info[k] == 0 and not largest_part(right) < np.inf:
            info[k] = NOT_FINITE
        if info[k] != 0:
            target[:] = np.nan
            continue
        _solve(potrs, LOWER, n, nrhs, c, ipiv, right, y, target, power, state)


@exact_kernel
def getrf_one_by_one(getrf, gecon, n, extra, a, lu, piv, info, rcond):  # type: ignore[no-untyped-def]
    """P A = L U for each member, with rcond; arguments as `gesv_one_by_one`, pivots 0-based.

    Where a pivot is zero L and U are LAPACK's; where A is not finite, NaN.
    """
    columns = np.empty(n * n, a.dtype)
    work = np.empty(4 * n, a.dtype)
    found = np.empty(1, a.real.dtype)
    ipiv = np.empty(n, np.int32)
    state = np.zeros(1, np.int32)
    for k in range(info.size):
        here, target = a[k * n * n : (k + 1) * n * n], lu[k * n * n : (k + 1) * n * n]
        info[k], rcond[k], power = _getrf(
            getrf, gecon, n, here, columns, ipiv, work, extra, found, state
        )
        if info[k] == NOT_FINITE:
            target[:] = np.nan
            for i in range(n):
                piv[k * n + i] = i
            continue
        _to_rows(columns, target, n, n, 1.0, 1.0)
        for i in range(n):
            piv[k * n + i] = ipiv[i] - 1
            for j in range(i, n):
                target[i * n + j] /= power


@exact_kernel
def potrf_one_by_one(potrf, pocon, n, upper, extra, a, c, info, rcond):  # type: ignore[no-untyped-def]
    """A = L L^H, or U^H U if `upper`, for each member, with rcond; NaN where there is no factor."""
    columns = np.empty(n * n, a.dtype)
    work = np.empty(4 * n, a.dtype)
    found = np.empty(1, a.real.dtype)
    state = np.zeros(1, np.int32)
    for k in range(info.size):
        here, target = a[k * n * n : (k + 1) * n * n], c[k * n * n : (k + 1) * n * n]
        info[k], rcond[k], power = _potrf(
            potrf, pocon, n, upper, here, columns, work, extra, found, state
        )
        if info[k] != 0:
            target[:] = np.nan
            continue
        root = power**-0.5  # the powers are even
        for j in range(n):
            for i in range(n):
                value = columns[i + j * n] * root if i >= j else 0
                if upper:
                    target[j * n + i] = np.conj(value)
                else:
                    target[i * n + j] = value
