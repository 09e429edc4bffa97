"""A x = b in working precision, checked, in one compiled call.

For orders up to a few hundred the calls between Python, NumPy and LAPACK cost as much as the
arithmetic. Here A is copied, measured and factored, the right-hand sides are solved, and the
answer is judged: its normwise backward error, and a lower bound on the condition number from one
more right-hand side, random. If z is uniform on [-1, 1]^n, the chance that ||A^-1 z|| / ||z|| falls
short of ||A^-1|| by a factor t is O(sqrt(n) / t): what this bound does not suspect, an estimate of
the condition need not look at (Dixon, SIAM J. Numer. Anal. 20 (1983) 812).

Lines as in `conversion`: the rows of a C-like A (op(A) is A), or the columns of an F-like one
(op(A) is the transpose of what the lines hold; `flipped`).
"""

from __future__ import annotations

import numpy as np

from .getrf import getrf_rows
from .getrs import FEW, getrs_rows, potrs_rows
from .jit import kernel
from .judge import judge
from .potrf import potrf_rows
from .residual import multiply_add
from .vectors import PROBE, fill_random, largest, magnitude


@kernel
def _copy_lines(lines, real, lu_real, pair, flipped):  # type: ignore[no-untyped-def]
    """lu <- lines; returns the infinity norm of op(A)."""
    n = lines.shape[0]
    sums = np.zeros(n)
    for i in range(n):
        source, target = real[i], lu_real[i]
        if flipped:
            for j in range(pair * n):
                target[j] = source[j]
            for j in range(n):
                sums[j] += magnitude(lines[i, j])
        else:
            total = 0.0
            for j in range(pair * n):
                target[j] = source[j]
                total += abs(source[j])
            sums[i] = total
    return largest(sums)


@kernel
def getrs_checked(gemm, trsv, trsm, real, flipped, lu, piv, b, x, bound):  # type: ignore[no-untyped-def]
    """Solve op(A) x = b with the factors of `getrf_rows`, and judge the answer.

    A few right-hand sides are refined once if they are not well within `bound`; of many, more care
    is taken.

    Parameters
    ----------
    gemm, trsv, trsm : int
        Addresses, for A's dtype.
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
    pair = real.shape[1] // n
    probes = x.shape[0] > k
    omega, stretch = np.inf, 0.0
    for careful in (False, True):
        x[:k] = b
        z_size = 1.0
        if probes:
            fill_random(x[k], PROBE, b)
            z_size = largest(x[k])
        getrs_rows(gemm, trsv, trsm, lu, piv, x, flipped, careful)
        stretch = largest(x[k]) / z_size if probes else largest(x[0]) / largest(b[0])
        omega = judge(gemm, 0, real, pair, flipped, False, False, b, x, bound)
        if omega <= bound or k <= FEW:
            break
    if k <= FEW and bound / 2 < omega < np.inf:
        r = np.empty((1, n), b.dtype)
        unused = np.zeros(n)
        for c in range(k):
            r[0] = b[c]
            x_real, r_real = x[c].view(real.dtype), r[0].view(real.dtype)
            multiply_add(real, pair, flipped, False, False, x_real, unused, r_real, unused)
            getrs_rows(gemm, trsv, trsm, lu, piv, r, flipped, False)
            x[c] += r[0]
        omega = judge(gemm, 0, real, pair, flipped, False, False, b, x, bound)
    return omega, stretch


@kernel
def potrs_checked(gemm, hemm, trsv, trsm, real, upper, c, b, x, bound):  # type: ignore[no-untyped-def]
    """As `getrs_checked`, with the factor of `potrf_rows`, A Hermitian, one triangle read."""
    k, n = b.shape
    pair = real.shape[1] // n
    probes = x.shape[0] > k
    omega, stretch = np.inf, 0.0
    for careful in (False, True):
        for row in range(k):
            for i in range(n):
                x[row, i] = np.conj(b[row, i])
        z_size = 1.0
        if probes:
            fill_random(x[k], PROBE, b)
            z_size = largest(x[k])
        potrs_rows(gemm, trsv, trsm, c, upper, x, careful)
        stretch = largest(x[k]) / z_size if probes else largest(x[0]) / largest(b[0])
        if pair == 2:
            for row in range(k):
                for i in range(n):
                    x[row, i] = np.conj(x[row, i])
        omega = judge(0, hemm, real, pair, False, True, upper, b, x, bound)
        if omega <= bound or k <= FEW:
            break
    return omega, stretch


@kernel
def gesv_lines(gemm, trsv, trsm, lines, real, flipped, b, x, lu, lu_real, piv, bound):  # type: ignore[no-untyped-def]
    """Solve op(A) x = b by LU with partial pivoting.

    Parameters as `getrs_checked`; `lines` is A as its own dtype, x has k + 1 lines, and lu,
    lu_real (the same as real numbers) and piv receive the factors.

    Returns
    -------
    info : int
        As `getrf_rows`; x is undefined if not 0.
    omega : float
        Largest normwise backward error; infinity if something is not finite.
    kappa : float
        A lower bound on the condition number in the infinity norm.
    norm : float
        Infinity norm of op(A), with |re| + |im| for complex.
    """
    pair = real.shape[1] // b.shape[1]
    norm = _copy_lines(lines, real, lu_real, pair, flipped)
    if not norm < np.inf:
        return 0, np.inf, np.inf, norm
    info = getrf_rows(gemm, lu, lu_real, piv)
    if info:
        return info, np.inf, np.inf, norm
    omega, stretch = getrs_checked(gemm, trsv, trsm, real, flipped, lu, piv, b, x, bound)
    return 0, omega, norm * stretch, norm


@kernel
def posv_lines(gemm, herk, hemm, trsv, trsm, lines, real, upper, whole, b, x, c, bound):  # type: ignore[no-untyped-def]
    """Solve A x = b by Cholesky, A Hermitian, one triangle of its lines read.

    As `gesv_lines`; the lines are rows of A, entry j of line i counts for j >= i (`upper`) or
    j <= i. If `whole`, NaN and infinity in the other triangle count as well. `c` receives the
    factor in one triangle, and what A has in the other.
    """
    n = b.shape[1]
    sums = np.zeros(n)
    for i in range(n):
        first, last = (i + 1, n) if upper else (0, i)
        total = abs(lines[i, i].real) + 0.0
        for j in range(first, last):
            size = magnitude(lines[i, j])
            total += size
            sums[j] += size
        c[i] = lines[i]
        sums[i] += total
        if whole:
            first, last = (0, i) if upper else (i + 1, n)
            bad = 0
            for j in range(first, last):
                bad += not magnitude(lines[i, j]) < np.inf
            if bad or not magnitude(lines[i, i]) < np.inf:
                return 0, np.inf, np.inf, np.inf
    norm = largest(sums)
    if not norm < np.inf:
        return 0, np.inf, np.inf, norm
    info = potrf_rows(gemm, herk, c, upper)
    if info:
        return info, np.inf, np.inf, norm
    omega, stretch = potrs_checked(gemm, hemm, trsv, trsm, real, upper, c, b, x, bound)
    return 0, omega, norm * stretch, norm
