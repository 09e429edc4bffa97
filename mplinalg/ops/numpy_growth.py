"""Members whose pivots grew so much that LU is not stable: computed again by QR, which always is.

Reference: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, sections 9.4 and
19.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ..kernels.cpu import lapack
from ..precision import working_format

__all__ = ["mend_inverses", "mend_solutions"]

Array = NDArray[Any]
FACTOR = 30.0
"""Backward errors of LU without growth are below this many n u."""


@np.errstate(all="ignore")  # what leaves the range is seen in x
def mend_solutions(a: Array, b: Array, x: Array, info: Array, rcond: Array) -> None:
    """Replace the x, and rcond, of members whose backward error is large.

    Parameters
    ----------
    a, b, x : array, shape (k, n, n), (k, n, nrhs) and (k, n, nrhs)
    info, rcond : array, shape (k,)
        As `ops.batched.Judged` describes them; members whose `info` is not 0 have no x.
    """
    p, power = _to_size_one(a, (1, 2))
    q, right = _to_size_one(b, 1)
    y = _times_power(x, power - right)  # p y = q
    size = abs(p).sum(axis=2).max(axis=1)[:, None] * abs(y).max(axis=1) + abs(q).max(axis=1)
    error = (abs(q - p @ y).max(axis=1) / size).max(axis=1)
    bound = FACTOR * a.shape[-1] * working_format(a.dtype).unit_roundoff
    for k in np.flatnonzero((info == 0) & ~(error <= bound)).tolist():
        found = _by_qr(p[k], q[k])
        if found is not None:
            _accept(x, rcond, k, _times_power(found[0], right[k] - power[k]), found[1])


@np.errstate(all="ignore")
def mend_inverses(a: Array, x: Array, info: Array, rcond: Array) -> None:
    """The same for inverses: neither of whose residuals, X A - I and A X - I, is small."""
    identity = np.eye(a.shape[-1], dtype=a.dtype)
    p, power = _to_size_one(a, (1, 2))
    y = _times_power(x, power)
    size = _norms(p) * _norms(y)
    error = np.fmin(_norms(y @ p - identity), _norms(p @ y - identity)) / size
    bound = FACTOR * a.shape[-1] * working_format(a.dtype).unit_roundoff
    for k in np.flatnonzero((info == 0) & ~(error <= bound)).tolist():
        found = _by_qr(p[k], identity)
        if found is not None:
            _accept(x, rcond, k, _times_power(found[0], -power[k]), found[1])


def _accept(x: Array, rcond: Array, member: int, found: Array, its_rcond: float) -> None:
    """Unless it leaves the range, too: then that is what is to be said of it."""
    if np.isfinite(found).all():
        x[member], rcond[member] = found, its_rcond


def _by_qr(a: Array, b: Array) -> tuple[Array, float] | None:
    """The solution and rcond of one system; None if R is singular."""
    q, r = np.linalg.qr(a)
    try:
        x = scipy.linalg.solve_triangular(r, q.conj().T @ b, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    return x, float(lapack.trcon(np.asfortranarray(r), False))


def _norms(a: Array) -> Array:
    """Frobenius norms."""
    return np.sqrt((a.real**2 + a.imag**2).sum(axis=(1, 2)))


def _to_size_one(a: Array, axes: Any) -> tuple[Array, Array]:
    """a 2^-k, largest parts in [1/2, 1), and k."""
    largest = np.maximum(abs(a.real), abs(a.imag)).max(axis=axes, keepdims=True)
    exponent = np.where(np.isfinite(largest), np.frexp(largest)[1], 0)
    return _times_power(a, -exponent), exponent


def _times_power(a: Array, exponent: Array) -> Array:
    """a 2^exponent"""
    if a.dtype.kind != "c":
        return np.ldexp(a, exponent)
    scaled = np.empty_like(a)
    scaled.real, scaled.imag = np.ldexp(a.real, exponent), np.ldexp(a.imag, exponent)
    return scaled
