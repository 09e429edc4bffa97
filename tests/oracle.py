"""Solutions in exact arithmetic, and what `solve` makes of a system."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import scipy.linalg

from mplinalg import LinAlgWarning
from mplinalg.precision import FP64
from mplinalg.testing import backward_error, forward_error

U = FP64.unit_roundoff
N = 270
"""Above the order from which low precisions are used, and no multiple of a block."""


def two_product(a, b):
    """p and e with p + e = a b exactly (Dekker 1971)."""

    def split(x):
        c = (2.0**27 + 1) * x
        high = c - (c - x)
        return high, x - high

    p = a * b
    (a_high, a_low), (b_high, b_low) = split(a), split(b)
    return p, a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)


def exact_residual(a, pieces, b):
    """b - A (x_0 + x_1 + x_2), each entry rounded once: products split, summed by math.fsum."""
    terms = [b[:, None]]
    for x in pieces:
        p, e = two_product(a, x)
        terms += [-p, -e]
    return np.array([math.fsum(row) for row in np.hstack(terms).tolist()])


def exact_solution(a, b):
    """x of A x = b to the last digit, or None where kappa u is not below one.

    Householder QR of the matrix equilibrated by powers of two; x is the sum of three doubles,
    refined with exact residuals until a correction is below 2^-70 of it.
    """
    if a.dtype.kind == "c":
        real = np.block([[a.real, -a.imag], [a.imag, a.real]])
        x = exact_solution(real, np.concatenate([b.real, b.imag]))
        return None if x is None else x[: len(b)] + 1j * x[len(b) :]

    def shifts(largest):
        return -np.frexp(np.where(largest > 0, largest, 1.0))[1]

    rows = shifts(np.abs(a).max(axis=1))
    s = np.ldexp(a, rows[:, None])
    cols = shifts(np.abs(s).max(axis=0))
    s = np.ldexp(s, cols)
    t = np.ldexp(b, rows)
    own = shifts(np.abs(t).max())
    t = np.ldexp(t, own)
    q, r = scipy.linalg.qr(s)
    if np.abs(np.diagonal(r)).min() == 0:
        return None
    x = np.zeros((3, len(t)))
    last = np.inf
    for step in range(100):
        d = scipy.linalg.solve_triangular(r, q.T @ exact_residual(s, x, t))
        size = np.abs(d).max()
        for i in range(2):  # x_i + d as a double and what it leaves for the next piece
            total = x[i] + d
            z = total - x[i]
            d = (x[i] - (total - z)) + (d - z)
            x[i] = total
        x[2] += d
        if size <= 2.0**-70 * np.abs(x[0]).max():
            return np.ldexp(x[0] + (x[1] + x[2]), cols - own)
        if step and not size <= 0.5 * last:
            return None
        last = size
    return None


# -- the gallery ---------------------------------------------------------------------------------


class Solved(NamedTuple):
    """An answer, whether it came with a warning, and its errors."""

    x: np.ndarray
    warned: bool
    backward: float
    forward: float
    """NaN where the exact solution is out of reach."""


def answered(function, a, b, exact):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        answer = function(a, b)
    kinds = {w.category for w in seen}
    assert kinds <= {LinAlgWarning, scipy.linalg.LinAlgWarning}, kinds
    x, report = answer if isinstance(answer, tuple) else (answer, None)
    error = math.nan if exact is None else forward_error(x, exact)
    return Solved(x, bool(seen), backward_error(a, x, b), error), report


def right_hand_side(a, seed=1):
    """A x for random x, so that x is no larger than it need be; random where that overflows."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(len(a)).astype(a.dtype)
    if a.dtype.kind == "c":
        x.imag = rng.standard_normal(len(a))
    with np.errstate(over="ignore", invalid="ignore"):
        b = a @ x
    return b if np.isfinite(b).all() else x
