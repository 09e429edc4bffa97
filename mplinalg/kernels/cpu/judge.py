"""The certificate of a solution: its normwise backward error, computed from A, b and x alone.

A is taken as it is now, with its norm, whatever it was when it was factored.

Lines as in `gesv`. Flops: 2 n^2 for each line that is judged by itself, an eighth or a quarter of
that for each of many. Bytes moved: one read of A for each line or combination of lines up to `FEW`;
beyond, BLAS multiplies A by `_BLOCK` of them at a time.
"""

from __future__ import annotations

import math

import numpy as np

from .calls import LEFT, LOWER, NO, TRANSPOSE, UPPER, at, call, larger
from .getrs import FEW
from .jit import kernel
from .residual import multiply_add
from .vectors import FIRST_WEIGHTS, SECOND_WEIGHTS, fill_random, largest

HALF_ROOT = 0.5**0.5
_GROUP = 8
"""So many of more are checked together."""
_BLOCK = 64


@kernel
def judge(gemm, hemm, real, pair, flipped, triangle, upper, b, x, bound):  # type: ignore[no-untyped-def]
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
    pair : int
        1, or 2 for complex numbers.
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
    a = (gemm, hemm, real, pair, flipped, triangle, upper)
    lines = np.arange(k)
    if k <= FEW or n < _GROUP:
        return _alone(a, b, x, lines)
    norm = _norm(a)
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


@kernel
def _of_groups(k, errors, bound):  # type: ignore[no-untyped-def]
    """The lines, of k, whose group has an error that is not within `bound`, or is not zero."""
    lines = np.empty(k, np.int64)
    count = 0
    for c in range(k):
        if not errors[c // _GROUP] <= bound:
            lines[count] = c
            count += 1
    return lines[:count]


@kernel
def _alone(a, b, x, lines):  # type: ignore[no-untyped-def]
    """The largest backward error of these lines, each by itself; infinity if unknown."""
    n = b.shape[1]
    block = max(1, min(lines.size, _BLOCK))
    r = np.empty((block, n), b.dtype)
    y = np.empty((block, n), b.dtype)
    x_size = np.empty(block)
    b_size = np.empty(block)
    worst = 0.0
    for start in range(0, lines.size, block):
        count = min(block, lines.size - start)
        for g in range(count):
            c = lines[start + g]
            x_size[g] = largest(x[c])
            b_size[g] = largest(b[c])
            top = larger(x_size[g], b_size[g])
            if not top < np.inf:
                return np.inf
            weight = math.ldexp(1.0, -max(math.frexp(top)[1], -1000))  # no rounding
            x_size[g] *= weight
            b_size[g] *= weight
            for i in range(n):
                r[g, i] = b[c, i] * weight
                y[g, i] = x[c, i] * weight
        norm = _subtract_product(a, y[:count], r[:count])
        for g in range(count):
            r_size = largest(r[g])
            if not r_size < np.inf or not norm < np.inf:
                return np.inf
            if r_size > 0:
                worst = max(worst, r_size / (norm * x_size[g] + b_size[g]))
    return worst


@kernel
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


@kernel
def _norm(a):  # type: ignore[no-untyped-def]
    """Infinity norm of op(A); of complex numbers 1 / sqrt(2) of that with |re| + |im|."""
    _, _, real, pair, flipped, triangle, upper = a
    n = real.shape[0]
    zero = np.zeros(pair * n, real.dtype)
    d = np.zeros(n)
    multiply_add(real, pair, flipped, triangle, upper, zero, np.ones(n), zero.copy(), d)
    return largest(d) * HALF_ROOT if pair == 2 else largest(d)


@kernel
def _subtract_product(a, y, r):  # type: ignore[no-untyped-def]
    """Each line of r <- it - op(A) times that of y, some of them conjugated. Returns `_norm`."""
    gemm, hemm, real, pair, flipped, triangle, upper = a
    k, n = y.shape
    if k <= FEW:
        ones = np.ones(n)
        d = np.empty(n)
        for c in range(k):
            d[:] = 0
            y_real, r_real = y[c].view(real.dtype), r[c].view(real.dtype)
            multiply_add(real, pair, flipped, triangle, upper, y_real, ones, r_real, d)
        return largest(d) * HALF_ROOT if pair == 2 else largest(d)
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
    return _norm(a)
