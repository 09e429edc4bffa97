"""A = U^H U or L L^H of a matrix of contiguous rows, one triangle, in place, by recursion.

The recursion is that of `getrf`: diagonal blocks of order `WIDTH` are factored and inverted, the
rows (or columns) beside them multiplied by the inverse, and all else is gemm and herk.

Flops: 1/3 n^3 + O(n^2 WIDTH log n).

Reference: Gustavson, IBM J. Res. Dev. 41 (1997) 737 (recursive Cholesky).
"""

from __future__ import annotations

import numpy as np

from .calls import ADJOINT, LOWER, NO, UPPER, at, call
from .getrf import WIDTH
from .jit import shared_kernel


@shared_kernel
def _factor_block(block):  # type: ignore[no-untyped-def]
    """Lower triangle of `block` <- its Cholesky factor. Returns the failing minor's order, or 0."""
    for k in range(block.shape[0]):
        pivot = block[k, k].real
        if not pivot > 0:
            return k + 1
        root = np.sqrt(pivot)
        block[k, k] = root
        for i in range(k + 1, block.shape[0]):
            block[i, k] = block[i, k] / root
        for j in range(k + 1, block.shape[0]):
            factor = np.conj(block[j, k])
            for i in range(j, block.shape[0]):
                block[i, j] -= block[i, k] * factor
    return 0


@shared_kernel
def _invert_lower(block, inverse):  # type: ignore[no-untyped-def]
    """inverse <- block^-1, lower triangular of order WIDTH."""
    inverse[:, :] = 0
    for i in range(WIDTH):
        diagonal = block[i, i]
        for k in range(i):
            factor = block[i, k]
            for j in range(k + 1):
                inverse[i, j] -= factor * inverse[k, j]
        for j in range(i):
            inverse[i, j] = inverse[i, j] / diagonal
        inverse[i, i] = 1 / diagonal


@shared_kernel
def potrf_rows(gemm, herk, a, upper):  # type: ignore[no-untyped-def]
    """A = U^H U (`upper`) or L L^H in place of one triangle of the square A of contiguous rows.

    Parameters
    ----------
    gemm, herk : int
        Addresses of the gemm and the herk (real: syrk) of A's dtype.
    a : array, shape (n, n)
        C-contiguous; the other triangle is neither read nor written.
    upper : bool

    Returns
    -------
    int
        i > 0: the leading minor of order i is not positive; the factorization stopped there.
    """
    n = a.shape[0]
    one, minus, zero = a.dtype.type(1), a.dtype.type(-1), a.dtype.type(0)
    real_one, real_minus = one.real, minus.real
    block = np.empty((WIDTH, WIDTH), a.dtype)
    inverse = np.empty((WIDTH, WIDTH), a.dtype)
    scratch = np.empty(WIDTH * n, a.dtype)
    for first in range(0, n, WIDTH):
        last = min(first + WIDTH, n)
        width = last - first
        for i in range(width):
            for j in range(i + 1):
                if upper:
                    block[i, j] = np.conj(a[first + j, first + i])
                else:
                    block[i, j] = a[first + i, first + j]
        failed = _factor_block(block[:width, :width])
        if failed:
            return first + failed
        for i in range(width):
            a[first + i, first + i] = block[i, i].real
            for j in range(i):
                if upper:
                    a[first + j, first + i] = np.conj(block[i, j])
                else:
                    a[first + i, first + j] = block[i, j]
        if last == n:
            return 0
        rest = n - last
        _invert_lower(block, inverse)
        if upper:
            # U[k, t] <- U[k, k]^-H A[k, t]
            for i in range(WIDTH):
                source = a[first + i]
                for j in range(rest):
                    scratch[i * rest + j] = source[last + j]
            call(
                gemm,
                (NO, NO, rest, WIDTH, WIDTH, one, at(scratch, 0), rest, at(inverse, 0), WIDTH,
                 zero, at(a, first * n + last), n),
            )  # fmt: skip
        else:
            # L[t, k] <- A[t, k] L[k, k]^-H
            for i in range(rest):
                source = a[last + i]
                for j in range(WIDTH):
                    scratch[i * WIDTH + j] = source[first + j]
            call(
                gemm,
                (ADJOINT, NO, WIDTH, rest, WIDTH, one, at(inverse, 0), WIDTH, at(scratch, 0), WIDTH,
                 zero, at(a, last * n + first), n),
            )  # fmt: skip
        done = last // WIDTH
        h = (done & -done) * WIDTH
        start, end = last - h, min(last + h, n)
        taken, beyond = end - last, n - end
        if upper:
            # A[r, r:] -= U[p, r]^H U[p, r:],  p = start : last, r = last : end
            call(
                herk,
                (LOWER, NO, taken, h, real_minus, at(a, start * n + last), n, real_one,
                 at(a, last * n + last), n),
            )  # fmt: skip
            if beyond:
                call(
                    gemm,
                    (NO, ADJOINT, beyond, taken, h, minus, at(a, start * n + end), n,
                     at(a, start * n + last), n, one, at(a, last * n + end), n),
                )  # fmt: skip
        else:
            # A[r:, r] -= L[r:, p] L[r, p]^H
            call(
                herk,
                (UPPER, ADJOINT, taken, h, real_minus, at(a, last * n + start), n, real_one,
                 at(a, last * n + last), n),
            )  # fmt: skip
            if beyond:
                call(
                    gemm,
                    (ADJOINT, NO, taken, beyond, h, minus, at(a, last * n + start), n,
                     at(a, end * n + start), n, one, at(a, end * n + last), n),
                )  # fmt: skip
    return 0
