"""Diagonal, triangular, tridiagonal and banded systems, and triangles filled up, in one call each.

As in `gesv`, a random right-hand side is solved along and gives a lower bound on the condition
number. Each solver reads all of A once, and reports infinity if an entry, also one that does not
count, is not finite. Lines are rows of A, or its columns (`flipped`); right-hand sides and
solutions are lines too, x with one more than b.
"""

from __future__ import annotations

import numpy as np

from .calls import LOWER, NO, TRANSPOSE, UPPER, at, call
from .jit import shared_kernel
from .vectors import PROBE, copy, fill_random, largest, magnitude


@shared_kernel
def _is_finite(real):  # type: ignore[no-untyped-def]
    bad = 0
    for row in real:
        for value in row:
            bad += not abs(value) < np.inf
    return bad == 0


@shared_kernel
def _start(b, x):  # type: ignore[no-untyped-def]
    """x <- b and a random line; returns its size."""
    k = b.shape[0]
    for c in range(k):
        copy(b[c], x[c])
    fill_random(x[k], PROBE, b)
    return largest(x[k])


@shared_kernel
def _bound(real, norm, z_size, b, x):  # type: ignore[no-untyped-def]
    """The bound on the condition number; infinity if a solution may leave the range of a dtype.

    Substitution is backward stable as long as products of entries of A and x do not underflow.
    """
    k = b.shape[0]
    least, top = _range(real)
    if not least <= norm <= top:
        return np.inf
    for c in range(k):
        if not largest(b[c]) <= top or not largest(x[c]) <= top:
            return np.inf
        if largest(b[c]) > 0 and (largest(b[c]) < least or largest(x[c]) < least):
            return np.inf
    return norm * (largest(x[k]) / z_size)


@shared_kernel
def _range(real):  # type: ignore[no-untyped-def]
    """Sizes between which products lose nothing that counts."""
    return (1e-15, 1e15) if real.itemsize == 4 else (1e-130, 1e130)


@shared_kernel
def diagonal_lines(lines, real, b, x):  # type: ignore[no-untyped-def]
    """x <- D^-1 b. Returns (number of the first zero from 1, bound on the condition number)."""
    k, n = b.shape
    if not _is_finite(real):
        return 0, np.inf
    top, least = 0.0, np.inf
    for i in range(n):
        size = np.float64(abs(lines[i, i]))
        if size == 0:
            return i + 1, np.inf
        top = max(top, size)
        least = min(least, size)
    if not least >= _range(real)[0]:  # quotients of complex numbers overflow
        return 0, np.inf
    z_size = _start(b, x)
    for c in range(k + 1):
        for i in range(n):
            x[c, i] = x[c, i] / lines[i, i]
    return 0, _bound(real, top, z_size, b, x)


@shared_kernel
def triangular_lines(trsv, lines, real, lower, flipped, b, x):  # type: ignore[no-untyped-def]
    """x <- T^-1 b, or T^-T b if `flipped`, T a triangle of the lines. Returns as above."""
    k, n = b.shape
    if not _is_finite(real):
        return 0, np.inf
    sums = np.zeros(n)
    for i in range(n):
        if lines[i, i] == 0:
            return i + 1, np.inf
        first, last = (0, i + 1) if lower else (i, n)
        for j in range(first, last):
            sums[j if flipped else i] += magnitude(lines[i, j])
    z_size = _start(b, x)
    uplo = UPPER if lower else LOWER  # BLAS reads lines as columns
    op = NO if flipped else TRANSPOSE
    for c in range(k + 1):
        call(trsv, (uplo, op, NO, n, at(lines, 0), n, at(x, c * n), 1))
    return 0, _bound(real, largest(sums), z_size, b, x)


@shared_kernel
def tridiagonal_lines(gtsv, lines, real, flipped, b, x):  # type: ignore[no-untyped-def]
    """x <- T^-1 b by elimination with partial pivoting. Returns as above."""
    k, n = b.shape
    if not _is_finite(real):
        return 0, np.inf
    below = np.empty(n, lines.dtype)
    middle = np.empty(n, lines.dtype)
    above = np.empty(n, lines.dtype)
    sums = np.zeros(n)
    for i in range(n):
        middle[i] = lines[i, i]
        sums[i] += magnitude(middle[i])
        if i + 1 < n:
            below[i] = lines[i, i + 1] if flipped else lines[i + 1, i]
            above[i] = lines[i + 1, i] if flipped else lines[i, i + 1]
            sums[i] += magnitude(above[i])
            sums[i + 1] += magnitude(below[i])
    z_size = _start(b, x)
    info = np.zeros(1, np.int32)
    call(gtsv, (n, k + 1, at(below, 0), at(middle, 0), at(above, 0), at(x, 0), n, at(info, 0)))
    if info[0]:
        return np.int64(info[0]), np.inf
    return 0, _bound(real, largest(sums), z_size, b, x)


@shared_kernel
def banded_lines(gbsv, lines, real, flipped, b, x, unit):  # type: ignore[no-untyped-def]
    """x <- B^-1 b by elimination with partial pivoting. Returns as above.

    The bound is infinite also where the backward error exceeds sqrt(n) `unit`.
    """
    k, n = b.shape
    if not _is_finite(real):
        return 0, np.inf
    left, right = 0, 0  # of the lines
    for i in range(n):
        row = lines[i]
        j = 0
        while j < i - left and row[j] == 0:
            j += 1
        left = max(left, i - j)
        j = n - 1
        while j > i + right and row[j] == 0:
            j -= 1
        right = max(right, j - i)
    kl, ku = (right, left) if flipped else (left, right)
    height = 2 * kl + ku + 1
    band = np.zeros((n, height), lines.dtype)  # columns of the band
    sums = np.zeros(n)
    for i in range(n):
        for j in range(max(0, i - left), min(n, i + right + 1)):
            row, col = (j, i) if flipped else (i, j)
            band[col, kl + ku + row - col] = lines[i, j]
            sums[row] += magnitude(lines[i, j])
    norm = largest(sums)
    z_size = _start(b, x)
    piv = np.empty(n, np.int32)
    info = np.zeros(1, np.int32)
    call(
        gbsv,
        (n, kl, ku, k + 1, at(band, 0), height, at(piv, 0), at(x, 0), n, at(info, 0)),
    )
    if info[0]:
        return np.int64(info[0]), np.inf
    r = np.empty(n, b.dtype)
    for c in range(k):
        copy(b[c], r)
        for i in range(n):
            for j in range(max(0, i - left), min(n, i + right + 1)):
                row, col = (j, i) if flipped else (i, j)
                r[row] -= lines[i, j] * x[c, col]
        scale = norm * largest(x[c]) / 2 + largest(b[c])  # |re| + |im| is at most twice the modulus
        if not largest(r) <= np.sqrt(n) * unit * scale:
            return 0, np.inf
    return 0, _bound(real, norm, z_size, b, x)


@shared_kernel
def fill_up(lines, real, upper, conjugate, out):  # type: ignore[no-untyped-def]
    """out <- the matrix whose lines have this triangle; False if an entry is not finite."""
    n = lines.shape[0]
    for i in range(n):
        first, last = (i + 1, n) if upper else (0, i)
        for j in range(first, last):
            out[i, j] = lines[i, j]
            out[j, i] = np.conj(lines[i, j]) if conjugate else lines[i, j]
        out[i, i] = lines[i, i].real if conjugate else lines[i, i]
    return _is_finite(real)
