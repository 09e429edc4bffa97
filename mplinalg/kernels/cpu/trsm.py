"""op(T)^-1 applied to many vectors: inverses of small diagonal blocks, and gemm for the rest.

OpenBLAS's trsm reaches a fraction of its gemm for triangles of a few hundred rows. The recursion
is that of `getrf`. Multiplying by the inverse of a block is as accurate as substitution unless
that block is ill conditioned (Du Croz and Higham, IMA J. Numer. Anal. 12 (1992) 1): callers check
what they compute.

Flops: n^2 a vector, and n WIDTH for the blocks.
"""

from __future__ import annotations

import numpy as np

from .calls import NO, at, call
from .getrf import WIDTH
from .jit import shared_kernel


@shared_kernel
def _invert(factors, first, width, lower, unit, inverse):  # type: ignore[no-untyped-def]
    """inverse <- that of the diagonal block at `first` of a triangle, of order `width`, padded."""
    block = np.zeros((WIDTH, WIDTH), factors.dtype)
    for i in range(WIDTH):
        block[i, i] = 1
    for i in range(width):
        if not unit:
            block[i, i] = factors[first + i, first + i]
        for j in range(i):
            if lower:
                block[i, j] = factors[first + i, first + j]
            else:
                block[i, j] = factors[first + j, first + i]
    work = np.zeros((WIDTH, WIDTH), factors.dtype)
    for i in range(WIDTH):
        work[i, i] = 1
        for k in range(i):
            factor = block[i, k]
            for j in range(k + 1):
                work[i, j] -= factor * work[k, j]
        diagonal = block[i, i]
        for j in range(i + 1):
            work[i, j] = work[i, j] / diagonal
    for i in range(WIDTH):
        for j in range(WIDTH):
            inverse[i, j] = work[i, j] if lower else work[j, i]


@shared_kernel
def solve_triangle(gemm, factors, lower, flipped, unit, flag, x):  # type: ignore[no-untyped-def]
    """Each line of x <- op(T)^-1 times it.

    Parameters
    ----------
    gemm : int
        Address, for the dtype of `factors`.
    factors : array, shape (n, n)
        Rows contiguous; T is one triangle.
    lower, unit : bool
        Which triangle; whether its diagonal counts as ones.
    flipped : bool
        op(T) is the transpose of T. Otherwise it is T, or, if `flag` is "C", its conjugate.
    flag : uint8
        "T" or "C"; only used if not `flipped`.
    x : array, shape (k, n)
        Rows contiguous.
    """
    k, n = x.shape
    ldt = factors.strides[0] // factors.itemsize
    ldx = x.strides[0] // x.itemsize
    one, minus, zero = factors.dtype.type(1), factors.dtype.type(-1), factors.dtype.type(0)
    inverse = np.empty((WIDTH, WIDTH), factors.dtype)
    scratch = np.empty(WIDTH * k, factors.dtype)
    count = (n + WIDTH - 1) // WIDTH
    forward = lower != flipped
    op = NO if flipped else flag
    for step in range(count):
        first = (step if forward else count - 1 - step) * WIDTH
        width = min(WIDTH, n - first)
        _invert(factors, first, width, lower, unit, inverse)
        for c in range(k):
            for i in range(width):
                scratch[c * WIDTH + i] = x[c, first + i]
        # BLAS reads rows as columns: the transposes of `inverse` and of blocks of T
        call(
            gemm,
            (op, NO, width, k, width, one, at(inverse, 0), WIDTH, at(scratch, 0), WIDTH, zero,
             at(x, first), ldx),
        )  # fmt: skip
        done = step + 1
        h = (done & -done) * WIDTH
        # rows start : end are done; the block of h rows that follows is updated
        if forward:
            end = min(first + WIDTH, n)
            start = first + WIDTH - h
            top, bottom = end, min(end + h, n)
        else:
            start = first
            end = min(first + h, n)
            top, bottom = max(first - h, 0), first
        if bottom > top:
            place = start * ldt + top if flipped else top * ldt + start
            call(
                gemm,
                (op, NO, bottom - top, k, end - start, minus, at(factors, place), ldt,
                 at(x, start), ldx, one, at(x, top), ldx),
            )  # fmt: skip
