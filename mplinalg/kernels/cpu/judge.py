"""The certificate of a solution: its normwise backward error, computed from A, b and x alone.

A is taken as it is now, with its norm, whatever it was when it was factored.

Lines as in `gesv`. Flops: 2 n^2 for each line that is judged by itself, an eighth or a quarter of
that for each of many. Bytes moved: one read of A for each line up to `FEW`, and, if A is Hermitian,
for each of so few combinations; else BLAS multiplies A by up to `_BLOCK` of them at a time.
"""

from __future__ import annotations

import math

import numpy as np

from .calls import LEFT, LOWER, NO, TRANSPOSE, UPPER, at, call, larger
from .getrs import FEW
from .jit import shared_kernel
from .residual import multiply_add
from .vectors import FIRST_WEIGHTS, SECOND_WEIGHTS, fill_random, largest

HALF_ROOT = 0.5**0.5
_GROUP = 8
"""So many of more are checked together."""
_BLOCK = 64


@shared_kernel
def judge(gemm, hemm, real, flipped, triangle, upper, b, x, bound):  # type: ignore[no-untyped-def]
    """The largest normwise backward error of the lines of x, or a bound; infinity if unknown.

    Many lines are judged by combinations of them, each scaled by its size and a random weight in
    +-[3/4, 5/4). Weights of equal size would let the errors of columns that repeat each other
    cancel. Here, whatever the errors of the others, the chance that one t times too large stays
    within `bound` is at most 2 / t. So a combination must be well within `bound`, or another one of
    the same lines be within it too, or each of them by itself.

    Parameters
    ----------
    gemm, hemm : int
        Addresses, for A's dtype; `hemm` (symm of real numbers) if `triangle`.
    real : array, shape (n, n) or (n, 2 n)
        The lines of A as real numbers, or pairs of them.
    flipped : bool
        The lines are the columns of op(A).
    triangle, upper : bool
        A is Hermitian, and one triangle of its rows is read.
    b, x : array, shape (k, n)
        Right-hand sides and solutions as lines.
    bound : float
        What the backward error is wanted to meet.
    """
    k, n = b.shape
    a = (gemm, hemm, real, flipped, triangle, upper)
    lines = np.arange(k)
    if k <= FEW or n < _GROUP:
        return _alone(a, b, x, lines)
    norm = _norm(a, b[0])
    seen = _together(a, norm, b, x, lines, FIRST_WEIGHTS)
    lines = _of_groups(k, seen, 0.0 if k <= _GROUP else bound / _GROUP)
    again = _together(a, norm, b, x, lines, SECOND_WEIGHTS)
    for g in range(again.size):
        group = lines[g * _GROUP] // _GROUP
        seen[group] = larger(seen[group], again[g])
    # good lines may add up to more than the bound, or one of them be bad
    lines = _of_groups(k, seen, bound)
    for c in lines:
        seen[c // _GROUP] = 0
    return larger(largest(seen), _alone(a, b, x, lines))


@shared_kernel
def _of_groups(k, errors, bound):  # type: ignore[no-untyped-def]
    """The lines, of k, whose group has an error that is not within `bound`, or is not zero."""
    lines = np.empty(k, np.int64)
    count = 0
    for c in range(k):
        if not errors[c // _GROUP] <= bound:
            lines[count] = c
            count += 1
    return lines[:count]


@shared_kernel
def _scale(b, x, r, y):  # type: ignore[no-untyped-def]
    """r <- b and y <- x, scaled by a power of two to at most 1. Returns the sizes of y and r."""
    x_size, b_size = largest(x), largest(b)
    top = larger(x_size, b_size)
    if not top < np.inf:
        return np.inf, np.inf
    weight = math.ldexp(1.0, -max(math.frexp(top)[1], -1000))  # no rounding
    for i in range(b.size):
        r[i] = b[i] * weight
        y[i] = x[i] * weight
    return x_size * weight, b_size * weight


@shared_kernel
def judge_few(real, flipped, triangle, upper, b, x, lines):  # type: ignore[no-untyped-def]
    """As `judge`, of these lines only, each by a pass over A."""
    n = b.shape[1]
    r, y = np.empty(n, b.dtype), np.empty(n, b.dtype)
    ones, d = np.ones(n), np.empty(n)
    worst = 0.0
    for c in lines:
        x_size, b_size = _scale(b[c], x[c], r, y)
        d[:] = 0
        multiply_add(real, flipped, triangle, upper, y, ones, r, d)
        error = _error(largest(r), _norm_of(real, d), x_size, b_size)
        if not error < np.inf:
            return np.inf
        worst = max(worst, error)
    return worst


@shared_kernel
def _error(r_size, norm, x_size, b_size):  # type: ignore[no-untyped-def]
    """The normwise backward error; infinity if something is not finite."""
    if not r_size < np.inf or not norm < np.inf or not x_size < np.inf:
        return np.inf
    return r_size / (norm * x_size + b_size) if r_size > 0 else 0.0


@shared_kernel
def _norm_of(real, sums):  # type: ignore[no-untyped-def]
    """Infinity norm from row sums; of complex numbers 1 / sqrt(2) of that with |re| + |im|."""
    return largest(sums) * (HALF_ROOT if real.shape[1] > real.shape[0] else 1.0)


@shared_kernel
def _alone(a, b, x, lines):  # type: ignore[no-untyped-def]
    """The largest backward error of these lines, each by itself; infinity if unknown."""
    _, _, real, flipped, triangle, upper = a
    if lines.size <= FEW:
        return judge_few(real, flipped, triangle, upper, b, x, lines)
    n = b.shape[1]
    norm = _norm(a, b[0])
    block = min(lines.size, _BLOCK)
    r = np.empty((block, n), b.dtype)
    y = np.empty((block, n), b.dtype)
    sizes = np.empty((block, 2))
    worst = 0.0
    for start in range(0, lines.size, block):
        count = min(block, lines.size - start)
        for g in range(count):
            c = lines[start + g]
            sizes[g, 0], sizes[g, 1] = _scale(b[c], x[c], r[g], y[g])
        _subtract_product(a, y[:count], r[:count])
        for g in range(count):
            error = _error(largest(r[g]), norm, sizes[g, 0], sizes[g, 1])
            if not error < np.inf:
                return np.inf
            worst = max(worst, error)
    return worst


@shared_kernel
def _together(a, norm, b, x, lines, stream):  # type: ignore[no-untyped-def]
    """The backward errors of combinations of `_GROUP` of these lines; infinity if unknown.

    Their weights are of `stream`, as `vectors.fill_random` has it.
    """
    n = b.shape[1]
    omega = np.full(-(-lines.size // _GROUP), np.inf)
    block = max(1, min(omega.size, _BLOCK))
    r = np.empty((block, n), b.dtype)
    y = np.empty((block, n), b.dtype)
    random = np.empty(lines.size)
    fill_random(random, stream, b)
    for start in range(0, omega.size, block):
        count = min(block, omega.size - start)
        r[:] = 0
        y[:] = 0
        for g in range(count):
            for place in range((start + g) * _GROUP, min((start + g + 1) * _GROUP, lines.size)):
                c = lines[place]
                scale = norm * largest(x[c]) + largest(b[c])
                if not scale < np.inf:
                    return omega
                if scale > 0:
                    weight = (random[place] + math.copysign(1.5, random[place])) / 2.0 / scale
                    for i in range(n):
                        r[g, i] += b[c, i] * weight
                        y[g, i] += x[c, i] * weight
        _subtract_product(a, y[:count], r[:count])
        for g in range(count):
            error = largest(r[g])
            if error < np.inf:
                omega[start + g] = error
    return omega


@shared_kernel
def _norm(a, like):  # type: ignore[no-untyped-def]
    """The norm of op(A), as `_norm_of` has it; `like` is a vector of A's dtype."""
    _, _, real, flipped, triangle, upper = a
    zero = np.zeros(like.size, like.dtype)
    d = np.zeros(like.size)
    multiply_add(real, flipped, triangle, upper, zero, np.ones(like.size), zero.copy(), d)
    return _norm_of(real, d)


@shared_kernel
def _subtract_product(a, y, r):  # type: ignore[no-untyped-def]
    """Each line of r <- it - op(A) times that of y, some of them conjugated."""
    gemm, hemm, real, flipped, triangle, upper = a
    k, n = y.shape
    if triangle and k <= FEW:  # hemm is slow then
        ones, unused = np.ones(n), np.zeros(n)
        for c in range(k):
            multiply_add(real, flipped, triangle, upper, y[c], ones, r[c], unused)
        return
    # BLAS reads lines as columns
    one = y.dtype.type(1)
    if triangle:
        # of lines that are rows it sees conj(A)
        for c in range(k):
            for i in range(n):
                y[c, i] = np.conj(y[c, i])
                r[c, i] = np.conj(r[c, i])
        uplo = LOWER if upper else UPPER
        call(hemm, (LEFT, uplo, n, k, -one, at(real, 0), n, at(y, 0), n, one, at(r, 0), n))
    else:
        op = NO if flipped else TRANSPOSE
        call(gemm, (op, NO, n, k, n, -one, at(real, 0), n, at(y, 0), n, one, at(r, 0), n))
