"""A x = b with single-precision factors and classical refinement, each in a compiled call.

The common case of `refine.classical` on the first rung of the ladder, with the same tests, for one
matrix and a few right-hand sides. It stops at the first doubt: entries that single precision cannot
hold, rows or pivots of very different size, corrections that do not contract. Those of a random
right-hand side are tried first: they contract, all the way, only if A is regular.

Flops: those of the factorization in single precision, and 6 n^2 a step and right-hand side.
Bytes moved: 12 n^2 to convert; a step reads A, and its factors once (half the bytes of A).
"""

from __future__ import annotations

import math

import numpy as np

from .getrs import getrs_few, potrs_few
from .jit import shared_kernel
from .judge import HALF_ROOT
from .residual import multiply_add
from .vectors import PROBE, copy, fill_random, largest, magnitude, measure

_MAX_STEPS = 30
_ROW_RATIO = 2.0**10
_PIVOT_RATIO = 2.0**24
_UNSEEN = 2.0**-24
"""First correction of a random right-hand side times its last, relative to y = A^-1 z.

A singular A has a part of y along its null vector that no correction reduces. If kappa' is the
condition number of the rest, corrections show it unless the part of z along the left null vector is
below kappa' u_s times the last of them, and the first is about kappa' u_s.
"""
_LEAST, _LARGEST = 1e-25, 1e30


@shared_kernel
def convert(real, target, flipped):  # type: ignore[no-untyped-def]
    """target <- A's lines in single precision, both as real numbers, of shape (n, n) or (n, 2 n).

    Returns the norm of op(A); infinity if not even.
    """
    n = real.shape[0]
    pair = real.shape[1] // n
    along = np.zeros(n)
    across = np.zeros(n)
    small = 0
    for i in range(n):
        source, out = real[i], target[i]
        total = 0.0
        lost = 0
        for j in range(source.size):
            value = source[j]
            size = abs(value)
            out[j] = value
            total += size
            lost += (size < 1.1754943508222875e-38) & (size > 0.0)
        along[i] = total
        small += lost
        if flipped:
            if pair == 1:
                for j in range(n):
                    across[j] += abs(source[j])
            else:
                for j in range(n):
                    across[j] += abs(source[2 * j]) + abs(source[2 * j + 1])
    sums = across if flipped else along
    return np.inf if small else _even_norm(sums)


@shared_kernel
def _even_norm(sums):  # type: ignore[no-untyped-def]
    """The largest of the row sums; infinity if they, or their ratio, are extreme or not finite."""
    norm = largest(sums)
    least = norm
    for total in sums:
        if 0 < total < least:
            least = total
    if not _LEAST <= norm <= _LARGEST or norm > _ROW_RATIO * least:
        return np.inf
    return norm


@shared_kernel
def convert_triangle(lines, target, upper, whole):  # type: ignore[no-untyped-def]
    """As `convert`, one triangle of a Hermitian matrix."""
    n = lines.shape[0]
    sums = np.zeros(n)
    bad = 0
    for i in range(n):
        first, last = (i + 1, n) if upper else (0, i)
        diagonal = lines[i, i].real
        target[i, i] = diagonal
        total = abs(diagonal) + 0.0
        for j in range(first, last):
            value = lines[i, j]
            size = magnitude(value)
            target[i, j] = value
            total += size
            sums[j] += size
            bad += (size < 1.1754943508222875e-38) & (size > 0.0)
        sums[i] += total
        if whole:
            bad += not magnitude(lines[i, i]) < np.inf
            first, last = (0, i) if upper else (i + 1, n)
            for j in range(first, last):
                bad += not magnitude(lines[i, j]) < np.inf
    return np.inf if bad else _even_norm(sums)


@shared_kernel
def has_even_pivots(lu):  # type: ignore[no-untyped-def]
    """Whether the pivots are of like size; those of a singular matrix are not."""
    least, top = np.inf, 0.0
    for i in range(lu.shape[0]):
        size = np.float64(abs(lu[i, i]))
        least = min(least, size)
        top = max(top, size)
    return top <= _PIVOT_RATIO * least


@shared_kernel
def _solve(trsv, factors, piv, definite, flipped, upper, r, narrow, y):  # type: ignore[no-untyped-def]
    """y <- approximately op(A)^-1 r, the column scaled by a power of two."""
    n = r.size
    conjugate = definite
    top = 0.0
    for value in r:
        top = max(top, abs(value.real), abs(value.imag))
    exponent = math.frexp(top)[1] if top < np.inf else 0
    scale = math.ldexp(1.0, -min(max(exponent, -1000), 1000))
    for i in range(n):
        value = np.conj(r[i]) if conjugate else r[i]
        narrow[0, i] = value * scale
    if definite:
        potrs_few(trsv, factors, upper, narrow)
    else:
        getrs_few(trsv, factors, piv, narrow, flipped)
    for i in range(n):
        value = y.dtype.type(narrow[0, i])
        y[i] = (np.conj(value) if conjugate else value) / scale


@shared_kernel
def _errors(norm, b_size, x, r, d):  # type: ignore[no-untyped-def]
    """Normwise and componentwise backward error and size of x; infinities if not finite."""
    x_size = largest(x)
    scale = norm * x_size + b_size
    r_size = largest(r)
    if not scale < np.inf or not r_size < np.inf:
        return np.inf, np.inf, x_size
    worst = 0.0
    bad = 0
    for i in range(d.size):
        size = np.float64(magnitude(r[i]))
        if size > 0:
            ratio = size / d[i]
            worst = ratio if ratio > worst else worst
            bad += not d[i] < np.inf
    if bad:
        return np.inf, np.inf, x_size
    return (r_size / scale if r_size > 0 else 0.0), worst, x_size


@shared_kernel
def refine(  # type: ignore[no-untyped-def]
    trsv, real, flipped, definite, upper, norm, factors, piv, b, x
):
    """Refine until every line of x is finished.

    Returns whether each is, a lower bound on the condition number in the infinity norm, and the
    most steps of a line.
    """
    k, n = b.shape
    most = 0
    unit = 2.0**-53
    bound = math.sqrt(n) * unit
    limit = 10 * bound
    narrow = np.empty((1, n), factors.dtype)
    step = np.empty(n, b.dtype)
    new = np.empty(n, b.dtype)
    r = np.empty(n, b.dtype)
    r_new = np.empty(n, b.dtype)
    w = np.zeros(n)
    d = np.zeros(n)
    plain_norm = norm
    if real.shape[1] > n:  # complex
        norm *= HALF_ROOT
    # a random right-hand side: do its corrections contract?
    fill_random(r, PROBE, b)
    kappa = largest(r)
    _solve(trsv, factors, piv, definite, flipped, upper, r, narrow, step)
    y_size = largest(step)
    kappa = plain_norm * (y_size / kappa)
    last_size = y_size
    ratio = 0.0
    for correction in range(_MAX_STEPS):
        multiply_add(real, flipped, definite, upper, step, w, r, d)
        _solve(trsv, factors, piv, definite, flipped, upper, r, narrow, step)
        size = largest(step)
        if not size < 0.5 * last_size:
            return False, kappa, most
        if correction == 0:
            ratio = size / y_size
        if ratio * (size / y_size) <= _UNSEEN:
            break
        last_size = size
    for c in range(k):
        b_size = largest(b[c])
        copy(b[c], r)
        _solve(trsv, factors, piv, definite, flipped, upper, r, narrow, x[c])
        measure(b[c], d)
        measure(x[c], w)
        multiply_add(real, flipped, definite, upper, x[c], w, r, d)
        omega, berr, last_size = _errors(norm, b_size, x[c], r, d)
        if not omega < np.inf:
            return False, kappa, most
        steps = 0
        while not (omega <= bound and berr <= 2 * unit):
            if steps == _MAX_STEPS:
                return False, kappa, most
            _solve(trsv, factors, piv, definite, flipped, upper, r, narrow, step)
            step_size = largest(step)
            for i in range(n):
                new[i] = x[c, i] + step[i]
                r_new[i] = b[c, i]
            measure(b[c], d)
            measure(new, w)
            multiply_add(real, flipped, definite, upper, new, w, r_new, d)
            omega_new, berr_new, _ = _errors(norm, b_size, new, r_new, d)
            steps += 1
            met, was_met = omega_new <= bound, omega <= bound
            contracts = step_size <= 0.5 * last_size
            if not omega_new < np.inf or not (contracts or met or was_met):
                return False, kappa, most
            settled = (met and berr_new <= 2 * unit) or not berr_new <= 0.5 * berr
            better = berr_new <= berr if met or was_met else True
            if better:
                copy(new, x[c])
                copy(r_new, r)
                omega, berr = omega_new, berr_new
            last_size = step_size
            if settled and omega <= bound:
                if berr > limit:
                    return False, kappa, most
                break
        if b_size > 0:
            kappa = max(kappa, plain_norm * (largest(x[c]) / b_size))
        most = max(most, steps)
    return True, kappa, most
