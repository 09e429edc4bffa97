"""How wrong an answer is, in the terms of its suite; every method is judged before it is timed.

Bounds follow LAPACK's test programs, whose ratios pass up to 30 (in units of the unit roundoff u),
and the square root of n that `mplinalg.solve` promises where that is more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray

from mplinalg.precision import working_format
from mplinalg.testing import backward_error, factorization_error, orthogonality_error

__all__ = ["bound", "least_squares_error", "qr_error", "solve_error"]

Array = NDArray[Any]

_TRUSTED_COLUMNS = 4
_LAPACK_RATIO = 30.0


def bound(n: int, dtype: DTypeLike) -> float:
    """The largest error of a good answer: max(30, sqrt(n)) u."""
    return max(_LAPACK_RATIO, math.sqrt(n)) * working_format(dtype).unit_roundoff


def solve_error(a: Array, b: Array) -> Callable[[Array], float]:
    """The normwise backward error of a given x, as a function of x.

    `mplinalg.testing.backward_error`, the largest of four columns spread over b. Every other column
    has its residual computed in plain double precision, and counts as far as it is above the
    rounding of that, n 2^-53. NaN for an x of another shape, or with a NaN or an infinity.
    """
    columns = b[:, None] if b.ndim == 1 else b
    n, nrhs = columns.shape
    trusted = sorted({round(p) for p in np.linspace(0, nrhs - 1, _TRUSTED_COLUMNS)})

    def error(x: Array) -> float:
        found = np.asarray(x)
        if found.shape != b.shape or not np.isfinite(found).all():
            return math.nan
        y = found[:, None] if found.ndim == 1 else found
        worst = float(np.max(backward_error(a, y[:, trusted], columns[:, trusted])))
        if nrhs > len(trusted):
            plain = _plain_backward_error(a, y, columns) - n * 2.0**-53
            worst = float(np.maximum(worst, plain))  # unlike max, lets NaN through
        return worst

    return error


def _plain_backward_error(a: Array, x: Array, b: Array) -> float:
    wide = np.result_type(a.dtype, np.float64)
    norm = float(np.abs(a).sum(axis=1, dtype=np.float64).max())
    with np.errstate(over="ignore", invalid="ignore"):
        residual = np.abs(b - a.astype(wide, copy=False) @ x.astype(wide, copy=False)).max(axis=0)
        size = norm * np.abs(x).max(axis=0) + np.abs(b).max(axis=0)
        ratio = np.divide(residual, size, out=np.zeros_like(residual), where=residual != 0)
    return float(np.max(ratio))


def qr_error(a: Array) -> Callable[[tuple[Array, Array]], float]:
    """The larger one of LAPACK's two ratios of a given (Q, R), times u.

    ||A - Q R|| / (n ||A||) and ||I - Q^H Q|| / m in the inf-norm; NaN if R is not triangular, or
    if Q or R has a NaN or an infinity.
    """

    def error(factors: tuple[Array, Array]) -> float:
        q, r = factors
        if not (np.isfinite(q).all() and np.isfinite(r).all()) or np.tril(r, -1).any():
            return math.nan
        rebuilt, departure = factorization_error(a, q, r), orthogonality_error(q)
        return float(np.maximum(rebuilt, departure / a.shape[0]))

    return error


def least_squares_error(a: Array, b: Array) -> Callable[[Array], float]:
    r"""The normwise backward error of a given x as a solution of min ||b - A x||.

    The size of the smallest relative change of A and b (in the Frobenius norm) for which x is
    exact, by an estimate that is within a small factor of it:

    .. math:: \frac{\theta}{\sqrt{1 + \theta^2 \|x\|^2}} \; \| R_\mu^{-H} A^H r \| / \|A\|_F

    with r = b - A x, theta = ||A||_F / ||b||, mu = theta ||r|| / sqrt(1 + theta^2 ||x||^2), and
    R_mu^H R_mu = A^H A + mu^2 I.

    References
    ----------
    J. F. Grcar, M. A. Saunders and Z. Su, Estimates of optimal backward perturbations for linear
    least squares problems, report SOL 2007-1, Stanford, 2007. S. Gratton, P. Jiranek and D.
    Titley-Peloquin, SIAM J. Matrix Anal. Appl. 33 (2012) 822.
    """
    wide = np.result_type(a.dtype, np.float64)
    a, b = a.astype(wide, copy=False), b.astype(wide, copy=False)
    n = a.shape[1]
    (r_of_a,) = scipy.linalg.qr(a, mode="r", check_finite=False)
    top = r_of_a[:n]
    size = float(np.linalg.norm(top))
    theta = size / float(np.linalg.norm(b))

    def error(x: Array) -> float:
        found = np.asarray(x)
        if found.shape != (n,) or not np.isfinite(found).all():
            return math.nan
        r = b - a @ found
        weight = theta / math.sqrt(1 + (theta * float(np.linalg.norm(found))) ** 2)
        mu = weight * float(np.linalg.norm(r))
        (both,) = scipy.linalg.qr(np.vstack([top, mu * np.eye(n)]), mode="r", check_finite=False)
        z = scipy.linalg.solve_triangular(both[:n], a.conj().T @ r, trans="C", check_finite=False)
        return weight * float(np.linalg.norm(z)) / size

    return error
