"""Solves with the factors of `getrf_rows` and `potrf_rows`, and the condition they show.

A few right-hand sides are solved by BLAS's trsv; more by `trsm`, or by BLAS's trsm where every
digit counts. Right-hand sides are lines: x[c] is one of them.
"""

from __future__ import annotations

import numpy as np

from .calls import ADJOINT, LEFT, LOWER, NO, TRANSPOSE, UNIT, UPPER, at, call
from .getrf import WIDTH
from .jit import shared_kernel
from .trsm import solve_triangle

FEW = 4
"""Up to so many right-hand sides are solved one by one."""


@shared_kernel
def _permute(x, piv, forward):  # type: ignore[no-untyped-def]
    n = piv.size
    for c in range(x.shape[0]):
        line = x[c]
        for step in range(n):
            i = step if forward else n - 1 - step
            p = piv[i]
            line[i], line[p] = line[p], line[i]


@shared_kernel
def _substitute(trsv, factors, lower, flipped, unit, flag, x):  # type: ignore[no-untyped-def]
    """Each line of x <- op(T)^-1 times it, one by one; parameters as `trsm.solve_triangle`."""
    n = x.shape[1]
    # BLAS reads lines as columns
    uplo = UPPER if lower else LOWER
    op = NO if flipped else flag
    diagonal = UNIT if unit else NO
    for c in range(x.shape[0]):
        call(trsv, (uplo, op, diagonal, n, at(factors, 0), n, at(x, c * n), 1))


@shared_kernel
def _apply(gemm, trsm, factors, lower, flipped, unit, flag, careful, x):  # type: ignore[no-untyped-def]
    """As `_substitute`, many lines at once; `careful`: not by inverses of diagonal blocks."""
    k, n = x.shape
    if n > WIDTH and not careful:
        solve_triangle(gemm, factors, lower, flipped, unit, flag, x)
        return
    uplo = UPPER if lower else LOWER
    op = NO if flipped else flag
    diagonal = UNIT if unit else NO
    one = x.dtype.type(1)
    call(trsm, (LEFT, uplo, op, diagonal, n, k, one, at(factors, 0), n, at(x, 0), n))


@shared_kernel
def getrs_few(trsv, lu, piv, x, flipped):  # type: ignore[no-untyped-def]
    """As `getrs_rows`, the lines of x one by one."""
    if not flipped:
        _permute(x, piv, True)
        _substitute(trsv, lu, True, False, True, TRANSPOSE, x)
        _substitute(trsv, lu, False, False, False, TRANSPOSE, x)
    else:
        _substitute(trsv, lu, False, True, False, TRANSPOSE, x)
        _substitute(trsv, lu, True, True, True, TRANSPOSE, x)
        _permute(x, piv, False)


@shared_kernel
def getrs_rows(gemm, trsv, trsm, lu, piv, x, flipped, careful):  # type: ignore[no-untyped-def]
    """Each line of x <- op(A)^-1 times it, with the factors of `getrf_rows`.

    op(A) is the matrix that was factored, or its transpose if `flipped`.
    """
    if x.shape[0] <= FEW + 1:
        getrs_few(trsv, lu, piv, x, flipped)
    elif not flipped:
        _permute(x, piv, True)
        _apply(gemm, trsm, lu, True, False, True, TRANSPOSE, careful, x)
        _apply(gemm, trsm, lu, False, False, False, TRANSPOSE, careful, x)
    else:
        _apply(gemm, trsm, lu, False, True, False, TRANSPOSE, careful, x)
        _apply(gemm, trsm, lu, True, True, True, TRANSPOSE, careful, x)
        _permute(x, piv, False)


@shared_kernel
def potrs_few(trsv, c, upper, x):  # type: ignore[no-untyped-def]
    """As `potrs_rows`, the lines of x one by one."""
    if upper:  # conj(A) = U^T conj(U)
        _substitute(trsv, c, False, True, False, ADJOINT, x)
        _substitute(trsv, c, False, False, False, ADJOINT, x)
    else:  # conj(A) = conj(L) L^T
        _substitute(trsv, c, True, False, False, ADJOINT, x)
        _substitute(trsv, c, True, True, False, ADJOINT, x)


@shared_kernel
def potrs_rows(gemm, trsv, trsm, c, upper, x, careful):  # type: ignore[no-untyped-def]
    """Each line of x <- conj(A)^-1 times it, with the factor of `potrf_rows`."""
    if x.shape[0] <= FEW + 1:
        potrs_few(trsv, c, upper, x)
    elif upper:
        _apply(gemm, trsm, c, False, True, False, ADJOINT, careful, x)
        _apply(gemm, trsm, c, False, False, False, ADJOINT, careful, x)
    else:
        _apply(gemm, trsm, c, True, False, False, ADJOINT, careful, x)
        _apply(gemm, trsm, c, True, True, False, ADJOINT, careful, x)


@shared_kernel
def inverse_norm(trsv, lu, piv, flipped):  # type: ignore[no-untyped-def]
    """A lower bound, rarely below a third, of ||op(A)^-1||_1; arguments as `getrs_few`.

    Higham, ACM Trans. Math. Softw. 14 (1988) 381, algorithm 2, as in `factor.condest`.
    """
    n = piv.size
    smallest = np.finfo(lu.dtype).tiny  # below, 1 / size overflows
    x = np.empty((1, n), lu.dtype)
    x[0, :] = 1.0 / n
    estimate = 0.0
    last = -1
    for step in range(5):
        getrs_few(trsv, lu, piv, x, flipped)
        total = 0.0
        for value in x[0]:
            total += abs(value)
        if not total < np.inf:
            return np.inf
        if step and total <= estimate:
            break
        estimate = total
        # z <- op(A)^-H sign(x);  what is conjugated twice is left
        for i in range(n):
            size = abs(x[0, i])
            x[0, i] = np.conj(x[0, i]) / size if size >= smallest else lu.dtype.type(1)
        getrs_few(trsv, lu, piv, x, not flipped)
        best = 0
        for i in range(n):
            if abs(x[0, i]) > abs(x[0, best]):
                best = i
        if best == last:
            break
        last = best
        x[0, :] = 0
        x[0, best] = 1
    # alternating signs catch matrices for which the above cancels
    for i in range(n):
        x[0, i] = (1 + i / max(n - 1, 1)) * (-1.0 if i % 2 else 1.0)
    getrs_few(trsv, lu, piv, x, flipped)
    total = 0.0
    for value in x[0]:
        total += abs(value)
    other = 2 * total / (3 * n)
    return other if not other < estimate else estimate
