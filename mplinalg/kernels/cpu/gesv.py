"""A x = b in working precision, checked, in three compiled calls.

For orders up to a few hundred the calls between Python, NumPy and LAPACK cost as much as the
arithmetic. Here A is copied and measured, `getrf` or `potrf` factors the copy, and the right-hand
sides are solved and the answer is judged. (All in one call would save a microsecond, and compile
every kernel once more.) The answer is judged by its normwise backward error, and by a lower bound
on the condition number from one more right-hand side, random. If z is uniform on [-1, 1]^n, the
chance that ||A^-1 z|| / ||z|| falls short of ||A^-1|| by a factor t is O(sqrt(n) / t): what this
bound does not suspect, an estimate of the condition need not look at (Dixon, SIAM J. Numer. Anal.
20 (1983) 812).

Lines as in `conversion`: the rows of a C-like A (op(A) is A), or the columns of an F-like one
(op(A) is the transpose of what the lines hold; `flipped`).
"""

from __future__ import annotations

import numpy as np

from .getrs import FEW, getrs_few, getrs_rows, potrs_few, potrs_rows
from .jit import shared_kernel
from .judge import judge, judge_few
from .residual import multiply_add
from .vectors import PROBE, copy, fill_random, largest, magnitude

__all__ = [
    "FEW", "copy_lines", "copy_triangle", "getrs_few_checked", "getrs_many_checked",
    "potrs_few_checked", "potrs_many_checked",
]  # fmt: skip


@shared_kernel
def copy_lines(lines, real, lu_real, flipped):  # type: ignore[no-untyped-def]
    """lu <- lines; returns the infinity norm of op(A), with |re| + |im| for complex.

    `real` and `lu_real` are lines and lu as real numbers, of shape (n, n) or (n, 2 n).
    """
    n = lines.shape[0]
    sums = np.zeros(n)
    for i in range(n):
        source, target = real[i], lu_real[i]
        if flipped:
            for j in range(source.size):
                target[j] = source[j]
            for j in range(n):
                sums[j] += magnitude(lines[i, j])
        else:
            total = 0.0
            for j in range(source.size):
                target[j] = source[j]
                total += abs(source[j])
            sums[i] = total
    return largest(sums)


@shared_kernel
def _start(b, x, conjugate):  # type: ignore[no-untyped-def]
    """x <- b, and a random line if there is room; returns the size of that, or of b's first."""
    k, n = b.shape
    for c in range(k):
        for i in range(n):
            x[c, i] = np.conj(b[c, i]) if conjugate else b[c, i]
    if x.shape[0] == k:
        return largest(b[0]) if k else 1.0
    fill_random(x[k], PROBE, b)
    return largest(x[k])


@shared_kernel
def _conjugate(x):  # type: ignore[no-untyped-def]
    for c in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[c, i] = np.conj(x[c, i])


@shared_kernel
def _stretch(b, x, z_size):  # type: ignore[no-untyped-def]
    """||A^-1 z|| / ||z|| of the line that `_start` measured; 0 if there is none."""
    if x.shape[0] == 0:
        return 0.0
    return largest(x[b.shape[0]] if x.shape[0] > b.shape[0] else x[0]) / z_size


@shared_kernel
def getrs_few_checked(trsv, real, flipped, lu, piv, b, x, bound):  # type: ignore[no-untyped-def]
    """Solve op(A) x = b with the factors of `getrf_rows`, and judge the answer.

    For up to `FEW` right-hand sides. They are refined once if they are not well within `bound`.

    Parameters
    ----------
    trsv : int
        Address, for A's dtype.
    real : array, shape (n, n) or (n, 2 n)
        The lines of A as real numbers.
    flipped : bool
        The lines are the columns of op(A).
    lu, piv
        Factors of the matrix that has these lines as rows.
    b, x : array, shape (k, n) and (k, n) or (k + 1, n)
        Right-hand sides as lines; solutions, and if there is room that of a random right-hand side.
    bound : float
        What omega is wanted to meet.

    Returns
    -------
    omega : float
        Largest normwise backward error; infinity if something is not finite.
    stretch : float
        ||A^-1 z|| / ||z|| of the random z; without it, of the first right-hand side.
    """
    k, n = b.shape
    lines = np.arange(k)
    z_size = _start(b, x, False)
    getrs_few(trsv, lu, piv, x, flipped)
    stretch = _stretch(b, x, z_size)
    omega = judge_few(real, flipped, False, False, b, x, lines)
    if bound / 2 < omega < np.inf:
        r = np.empty((1, n), b.dtype)
        unused = np.zeros(n)
        for c in range(k):
            copy(b[c], r[0])
            multiply_add(real, flipped, False, False, x[c], unused, r[0], unused)
            getrs_few(trsv, lu, piv, r, flipped)
            for i in range(n):
                x[c, i] += r[0, i]
        omega = judge_few(real, flipped, False, False, b, x, lines)
    return omega, stretch


@shared_kernel
def getrs_many_checked(gemm, trsv, trsm, real, flipped, lu, piv, b, x, bound):  # type: ignore[no-untyped-def]
    """As `getrs_few_checked`, any number of right-hand sides; once more with care if in doubt."""
    omega, stretch = np.inf, 0.0
    for careful in (False, True):
        z_size = _start(b, x, False)
        getrs_rows(gemm, trsv, trsm, lu, piv, x, flipped, careful)
        stretch = _stretch(b, x, z_size)
        omega = judge(gemm, 0, real, flipped, False, False, b, x, bound)
        if omega <= bound:
            break
    return omega, stretch


@shared_kernel
def potrs_few_checked(trsv, real, upper, c, b, x):  # type: ignore[no-untyped-def]
    """Solve A x = b with the factor of `potrf_rows`, A Hermitian, one triangle read, and judge it.

    As `getrs_few_checked`; nothing is refined, as Cholesky needs no pivots and has no growth.
    """
    z_size = _start(b, x, True)
    potrs_few(trsv, c, upper, x)
    _conjugate(x)
    return judge_few(real, False, True, upper, b, x, np.arange(b.shape[0])), _stretch(b, x, z_size)


@shared_kernel
def potrs_many_checked(gemm, hemm, trsv, trsm, real, upper, c, b, x, bound):  # type: ignore[no-untyped-def]
    """As `getrs_many_checked`, with the factor of `potrf_rows`, A Hermitian, one triangle read."""
    omega, stretch = np.inf, 0.0
    for careful in (False, True):
        z_size = _start(b, x, True)
        potrs_rows(gemm, trsv, trsm, c, upper, x, careful)
        _conjugate(x)
        stretch = _stretch(b, x, z_size)
        omega = judge(0, hemm, real, False, True, upper, b, x, bound)
        if omega <= bound:
            break
    return omega, stretch


@shared_kernel
def copy_triangle(lines, upper, whole, c):  # type: ignore[no-untyped-def]
    """c <- lines; returns the infinity norm of the Hermitian A of which they hold one triangle.

    Entry j of line i, a row of A, counts for j >= i (`upper`) or j <= i. If `whole`, NaN and
    infinity in the other triangle count as well, and make the norm infinite.
    """
    n = lines.shape[0]
    sums = np.zeros(n)
    for i in range(n):
        first, last = (i + 1, n) if upper else (0, i)
        total = abs(lines[i, i].real) + 0.0
        for j in range(first, last):
            size = magnitude(lines[i, j])
            total += size
            sums[j] += size
        copy(lines[i], c[i])
        sums[i] += total
        if whole:
            first, last = (0, i) if upper else (i + 1, n)
            bad = 0
            for j in range(first, last):
                bad += not magnitude(lines[i, j]) < np.inf
            if bad or not magnitude(lines[i, i]) < np.inf:
                return np.inf
    return largest(sums)
