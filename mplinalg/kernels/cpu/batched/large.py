"""Systems too large for tiles, member by member, by LAPACK in one compiled loop.

As in tiles random right-hand sides are solved along, in place of an estimate of the condition
number, and say which members are to be looked at again.

LAPACK factors what it takes for the transpose, as rows are its columns: nothing is transposed.
"""

from __future__ import annotations

import numpy as np

from ..calls import LOWER, TRANSPOSE, at, call
from ..jit import kernel

__all__ = ["gesv_large", "posv_large"]


@kernel
def _copied(source, target, n):  # type: ignore[no-untyped-def]
    """target <- source; the largest sum of |re| + |im| of a row; NaN may get lost."""
    norm = 0.0
    for i in range(n):
        total = 0.0
        for j in range(i * n, (i + 1) * n):
            value = source[j]
            target[j] = value
            total += abs(value.real) + abs(value.imag)
        norm = max(norm, total)
    return norm


@kernel
def _put_columns(b, y, n, nrhs, probes, conjugate):  # type: ignore[no-untyped-def]
    """y, by columns, <- b and the random right-hand sides."""
    for i in range(n):
        for j in range(nrhs):
            value = b[i * nrhs + j]
            y[i + j * n] = np.conj(value) if conjugate else value
        for j in range(len(probes)):
            y[i + (nrhs + j) * n] = probes[j, i]


@kernel
def _take_columns(y, x, n, nrhs, conjugate):  # type: ignore[no-untyped-def]
    """x <- y; the size of the random ones' solutions, and a sum that is 0 if all are finite."""
    stretch = 0.0
    zero = 0.0
    for i in range(n):
        for j in range(y.size // n):
            value = y[i + j * n]
            size = abs(value.real) + abs(value.imag)
            zero += size * 0.0
            if j < nrhs:
                x[i * nrhs + j] = np.conj(value) if conjugate else value
            else:
                stretch = max(stretch, size)
    return stretch, zero


@kernel
def _is_fine(norm, stretch, zero, limit, most):  # type: ignore[no-untyped-def]
    """As `straight.is_fine`."""
    return norm * stretch < limit and norm > 1 / most and norm < most and zero == 0.0


@kernel
def _largest_upper(lu, n):  # type: ignore[no-untyped-def]
    """max |U|, |re| + |im| for complex, of what is by columns in the upper triangle."""
    top = 0.0
    for j in range(n):
        for i in range(j + 1):
            value = lu[i + j * n]
            top = max(top, abs(value.real) + abs(value.imag))
    return top


@kernel
def gesv_large(getrf, getrs, count, n, nrhs, limit, most, growth, probes, a, b, x, flags):  # type: ignore[no-untyped-def]
    """A x = b for each of `count` packed members.

    Parameters
    ----------
    getrf, getrs : int
        Addresses.
    count, n, nrhs : int
    limit, most : float
        See `straight.is_fine`.
    growth : float
        See `doubts.GROWTH`.
    probes : array, shape (k, n)
        Random right-hand sides.
    a, b, x : array
        Flat.
    flags : array of uint8, shape (count,)
        Receives 1 for members that must be solved again, with more care.
    """
    columns = nrhs + len(probes)
    lu, y = np.empty(n * n, a.dtype), np.empty(n * columns, a.dtype)
    ipiv, info = np.empty(n, np.int32), np.zeros(1, np.int32)
    for k in range(count):
        norm = _copied(a[k * n * n : (k + 1) * n * n], lu, n)
        call(getrf, (n, n, at(lu, 0), n, at(ipiv, 0), at(info, 0)))
        if info[0] != 0 or _largest_upper(lu, n) > growth * norm:
            flags[k] = 1
            continue
        _put_columns(b[k * n * nrhs : (k + 1) * n * nrhs], y, n, nrhs, probes, False)
        call(
            getrs,
            (TRANSPOSE, n, columns, at(lu, 0), n, at(ipiv, 0), at(y, 0), n, at(info, 0)),
        )
        target = x[k * n * nrhs : (k + 1) * n * nrhs]
        stretch, zero = _take_columns(y, target, n, nrhs, False)
        flags[k] = not _is_fine(norm, stretch, zero, limit, most)


@kernel
def posv_large(potrf, potrs, count, n, nrhs, limit, most, growth, probes, a, b, x, flags):  # type: ignore[no-untyped-def]
    """As `gesv_large`, A Hermitian positive definite, its upper triangle read.

    For LAPACK that is the lower triangle of the conjugate.
    """
    columns = nrhs + len(probes)
    c, y = np.empty(n * n, a.dtype), np.empty(n * columns, a.dtype)
    info = np.zeros(1, np.int32)
    for k in range(count):
        _copied(a[k * n * n : (k + 1) * n * n], c, n)
        trace = 0.0
        for i in range(n):
            trace += c[i * n + i].real
        call(potrf, (LOWER, n, at(c, 0), n, at(info, 0)))
        if info[0] != 0:
            flags[k] = 1
            continue
        _put_columns(b[k * n * nrhs : (k + 1) * n * nrhs], y, n, nrhs, probes, True)
        call(potrs, (LOWER, n, columns, at(c, 0), n, at(y, 0), n, at(info, 0)))
        target = x[k * n * nrhs : (k + 1) * n * nrhs]
        stretch, zero = _take_columns(y, target, n, nrhs, True)
        flags[k] = not _is_fine(trace, stretch, zero, limit, most)
