"""The certificate of a solution: its normwise backward error, computed from A, b and x alone.

Lines as in `gesv`. Flops: 2 n^2 for each line that is judged by itself, an eighth of that for each
of many. Bytes moved: one read of A for each line or combination of lines up to `FEW`; beyond, BLAS
multiplies A by `_BLOCK` of them at a time.
"""

from __future__ import annotations

import math

import numpy as np

from .calls import LEFT, LOWER, NO, TRANSPOSE, UPPER, at, call
from .getrs import FEW
from .jit import kernel
from .residual import multiply_add
from .vectors import fill_random, largest

HALF_ROOT = 0.5**0.5
_GROUP = 8
"""So many of more are checked together."""
_BLOCK = 64


@kernel
def judge(gemm, hemm, real, pair, flipped, triangle, upper, norm, b, x, bound):  # type: ignore[no-untyped-def]
    """The largest normwise backward error of the lines of x, or a bound; infinity if unknown.

    Many lines are judged by combinations of them, each scaled by its size and a random weight in
    +-[3/4, 5/4); one by one if a combination is not within `bound`. Weights of equal size would let
    the errors of columns that repeat each other cancel. Here, whatever the errors of the others,
    the chance that one t times too large stays within `bound` is at most 2 / t; its square if all
    lines are alike: then several combinations have to cancel.

    Parameters
    ----------
    gemm, hemm : int
        Addresses, for A's dtype; `hemm` (symm of real numbers) if `triangle`.
    real : array, shape (n, n) or (n, 2 n)
        The lines of A as real numbers, or pairs of them.
    pair : int
        1, or 2 for complex numbers.
    flipped : bool
        The lines are the columns of op(A).
    triangle, upper : bool
        A is Hermitian, and one triangle of its rows is read.
    norm : float
        Infinity norm of op(A), with |re| + |im| for complex.
    b, x : array, shape (k, n)
        Right-hand sides and solutions as lines.
    bound : float
        What the backward error is wanted to meet.
    """
    k, n = b.shape
    if pair == 2:
        norm *= HALF_ROOT  # of |re| + |im|: no more than that of the moduli
    a = (gemm, hemm, real, pair, flipped, triangle, upper)
    if k <= FEW or n < _GROUP:
        return largest(_errors(a, norm, b, x, b[0], 1))
    seen = _errors(a, norm, b, x, b[0], _GROUP)
    if seen.size == 1 and seen[0] <= bound:  # one combination: make it two
        seen[0] = max(seen[0], _errors(a, norm, b, x, x[0], _GROUP)[0])
    # good lines may add up to more than the bound, or one of them be bad
    doubtful = np.array([c for c in range(k) if not seen[c // _GROUP] <= bound])
    if doubtful.size > 0:
        seen[doubtful // _GROUP] = 0
        alone = _errors(a, norm, b[doubtful], x[doubtful], b[0], 1)
        return max(largest(seen), largest(alone))
    return largest(seen)


@kernel
def _errors(a, norm, b, x, salt, together):  # type: ignore[no-untyped-def]
    """The backward errors of the lines, or combinations of so many, infinity if unknown.

    `salt` as `vectors.fill_random`.
    """
    k, n = b.shape
    omega = np.full(-(-k // together), np.inf)
    block = min(omega.size, _BLOCK)
    r = np.empty((block, n), b.dtype)
    y = np.empty((block, n), b.dtype)
    share = np.empty(block)
    random = np.empty(k)
    fill_random(random, salt)
    for start in range(0, omega.size, block):
        groups = min(block, omega.size - start)
        for g in range(groups):
            first = (start + g) * together
            last = min(first + together, k)
            share[g] = _combine(b[first:last], x[first:last], norm, random[first:last], r[g], y[g])
        if not _subtract_product(a, y[:groups], r[:groups]):
            return omega
        for g in range(groups):
            error = largest(r[g]) / share[g]
            if error < np.inf and share[g] < np.inf:
                omega[start + g] = error
    return omega


@kernel
def _combine(b, x, norm, random, r, y):  # type: ignore[no-untyped-def]
    """r, y <- the sum of the lines of b, and of x, each scaled to ||A|| ||x|| + ||b|| near 1.

    Returns what that was scaled to for a single line (no rounding: a power of two), for several 1;
    infinity if a line is not finite.
    """
    together, n = b.shape
    r[:] = 0
    y[:] = 0
    share = 1.0
    for c in range(together):
        scale = norm * largest(x[c]) + largest(b[c])
        if not scale < np.inf:
            return np.inf
        if scale > 0:
            share, exponent = math.frexp(scale)
            weight = math.ldexp(1.0, -exponent)
            if together > 1:
                weight *= (random[c] + math.copysign(1.5, random[c])) / (2.0 * share)
                share = 1.0
            for i in range(n):
                r[i] += b[c, i] * weight
                y[i] += x[c, i] * weight
    return share


@kernel
def _subtract_product(a, y, r):  # type: ignore[no-untyped-def]
    """Each line of r <- it - op(A) times that of y, some of them conjugated; False: not finite."""
    gemm, hemm, real, pair, flipped, triangle, upper = a
    k, n = y.shape
    if k <= FEW:
        d = np.zeros(n)
        for c in range(k):
            multiply_add(
                real,
                pair,
                flipped,
                triangle,
                upper,
                y[c].view(real.dtype),
                r[c].view(real.dtype),
                d,
            )
        return largest(d) < np.inf
    # BLAS reads lines as columns
    one = y.dtype.type(1)
    if triangle:
        if pair == 2:  # of lines that are rows it sees conj(A)
            for c in range(k):
                for i in range(n):
                    y[c, i] = np.conj(y[c, i])
                    r[c, i] = np.conj(r[c, i])
        uplo = LOWER if upper else UPPER
        call(hemm, (LEFT, uplo, n, k, -one, at(real, 0), n, at(y, 0), n, one, at(r, 0), n))
    else:
        op = NO if flipped else TRANSPOSE
        call(gemm, (op, NO, n, k, n, -one, at(real, 0), n, at(y, 0), n, one, at(r, 0), n))
    return True
