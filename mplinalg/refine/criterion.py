"""When a column of x is finished: the stopping test of every refinement.

Per right-hand side, with r = b - A x in the residual precision and d = |A||x| + |b|:

    omega = ||r|| / (||A|| ||x|| + ||b||)        normwise backward error, infinity norms
    berr  = max_i |r_i| / d_i                    componentwise backward error

omega <= sqrt(n) u is LAPACK's test, and not enough alone: on badly scaled matrices x can still be
far from what a working-precision solve gives. So iteration goes on, as in xGERFS, until berr is a
small multiple of u or no longer halves.

References
----------
Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, sections 7.1 and 12.
Arioli, Demmel and Duff, SIAM J. Matrix Anal. Appl. 10 (1989) 165 (componentwise stopping).
Demmel et al., ACM Trans. Math. Softw. 32 (2006) 325 (stopping with extended residuals).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ops.protocol import Array, Ops

Columns = NDArray[np.float64]
"""One float a right-hand side, on the host."""

MACHINE_TARGET = 2.0
"""berr of this many u is as small as working precision makes it."""
LIMITING_ACCURACY = 10.0
"""A berr that stopped halving is accepted up to this times sqrt(n) u on the lower rungs."""


class Verdict(enum.IntEnum):
    """What is known of a column."""

    ACTIVE = 0
    CONVERGED = 1
    SLOW = 2
    STAGNATED = 3
    DIVERGED = 4
    UNPROVEN = 5
    """Its test is met, but A may be singular for all that its factors tell."""


def column_max(ops: Ops, x: Array) -> Columns:
    """max_i |x_ij|, |re| + |im| for complex, as host floats; NaN where a column has one."""
    if x.shape[0] == 0:
        return np.zeros(x.shape[1])
    size = abs(x) if x.dtype.kind != "c" else abs(x.real) + abs(x.imag)
    return np.asarray(size.max(axis=0).tolist(), dtype=np.float64)


@dataclass(frozen=True)
class Errors:
    """Backward errors of the columns, and the sizes they are made of."""

    omega: Columns
    berr: Columns
    x_size: Columns

    @property
    def is_finite(self) -> NDArray[np.bool_]:
        return np.isfinite(self.omega) & np.isfinite(self.berr) & np.isfinite(self.x_size)


@dataclass(frozen=True)
class Criterion:
    """The stopping test of a system A x = b.

    Attributes
    ----------
    ops : Ops
    n : int
        Order of A.
    norm_a : float
        ||A|| in the infinity norm, with |re| + |im| for complex entries.
    unit_roundoff : float
        u of the working precision.
    tol : float, optional
        Bound on omega; sqrt(n) u by default. For complex data omega is to be half of it, as the
        norms used here may differ from the Euclidean moduli by as much. If given, a column is
        finished as soon as omega meets it.
    """

    ops: Ops
    n: int
    norm_a: float
    unit_roundoff: float
    is_complex: bool = False
    tol: float | None = None

    @property
    def omega_bound(self) -> float:
        """The bound on omega."""
        bound = self.tol
        if bound is None:
            bound = max(math.sqrt(self.n), 1.0) * self.unit_roundoff
        return bound / 2 if self.is_complex and self.n > 4 else bound

    @property
    def limiting_accuracy(self) -> float:
        """Largest berr with which refinement from a lower precision may stop."""
        if self.tol is not None:
            return math.inf
        return LIMITING_ACCURACY * max(math.sqrt(self.n), 1.0) * self.unit_roundoff

    def measure(self, x: Array, r: Array, d: Array | None, b_size: Columns) -> Errors:
        """Backward errors of the columns of x, r = b - A x and d = |A||x| + |b|.

        Without d, berr is 1 (0 where r is): no more is known of it.
        """
        if d is None:
            d = abs(r) if r.dtype.kind != "c" else abs(r.real) + abs(r.imag)
        seen = self.ops.column_errors(x, r, d)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            a_x = self.norm_a * seen.x_size
            omega = _ratio(seen.r_size, a_x + b_size)
        # an overflowed denominator would hide any residual
        hidden = ~np.isfinite(seen.d_size) | ~np.isfinite(a_x)
        if hidden.any():
            seen.berr[hidden] = np.inf
            omega[hidden] = np.inf
        return Errors(omega, seen.berr, seen.x_size)

    def is_met(self, errors: Errors) -> NDArray[np.bool_]:
        """Columns whose omega is within its bound, every quantity finite."""
        met: NDArray[np.bool_] = errors.is_finite & (errors.omega <= self.omega_bound)
        return met

    def is_best(self, errors: Errors) -> NDArray[np.bool_]:
        """Columns that more steps would not improve (or that meet the caller's own tol)."""
        if self.tol is not None:
            return self.is_met(errors)
        return self.is_met(errors) & (errors.berr <= MACHINE_TARGET * self.unit_roundoff)


def _ratio(numerator: Columns, denominator: Columns) -> Columns:
    """numerator / denominator with 0/0 = 0, NaN where either is."""
    ratio = numerator / denominator
    ratio[(numerator == 0) & (denominator == 0)] = 0.0
    return ratio
