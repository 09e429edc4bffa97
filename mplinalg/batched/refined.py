"""Stacks of systems with factors of a low precision, refined member by member.

Classical refinement, all members at once: those that are done, or hopeless, are left out of the
next step. The matrices are scaled by powers of two, rows and columns, before they are rounded to
the format of the factors; residuals are computed in working precision.

References
----------
Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 12.
Higham, Pranesh and Zounon, SIAM J. Sci. Comput. 41 (2019) A2536 (scaling for fp16).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ops import batched_ops_for, ops_for
from ..precision import Format, backward_bound, real_dtype, working_format
from .validate import on_host

__all__ = ["RefinedStack", "backward_errors", "solve_refined"]

Array = NDArray[Any]

_MOST_STEPS = 40
_STRIKES = 2
"""Steps that do not halve the backward error, until a member is given up."""
_LARGEST_FP16 = 12
"""Entries are scaled to 2^12 for fp16, theta = 0.06 of its largest number."""
_AT_ONCE = 2**21
"""Numbers of matrices whose residuals are computed together."""


class RefinedStack(NamedTuple):
    """What refinement made of a stack of systems."""

    x: Array
    """(N, n, nrhs), undefined for members that did not converge."""
    converged: Array
    """(N,) bool, on the host."""
    iterations: Array
    """(N,) int, on the host: corrections added to x."""


class _Factors:
    """Low-precision factors of diag(rows) A diag(cols), which solve with A."""

    def __init__(self, a: Array, definite: bool, fmt: Format) -> None:
        self._ops = batched_ops_for(a)
        xp, (count, n, _) = self._ops.xp, a.shape
        size = _parts(xp, a)
        if definite:
            diagonal = xp.abs(xp.diagonal(a, axis1=1, axis2=2).real)
            rows = cols = _half_powers(xp, diagonal)
        else:
            rows = _inverse_powers(xp, size.max(axis=2))
            cols = _inverse_powers(xp, (size * rows[:, :, None]).max(axis=1))
        self._rows, self._cols = rows[:, :, None], cols[:, :, None]
        self._power = 2.0**_LARGEST_FP16 if fmt.needs_scaling else 1.0
        self._dtype = fmt.dtype(a.dtype)
        scaled = a * self._rows * (cols * self._power)[:, None, :].astype(rows.dtype)
        low = xp.ascontiguousarray(scaled.astype(self._dtype))
        ops_for(low).round(low.reshape(count * n, n), fmt)
        if definite:
            self._factors = self._ops.potrf_batched(low, lower=False)
        else:
            self._factors = self._ops.getrf_batched(low)

    def correction(self, r: Array, chosen: Any) -> Array:
        """A^-1 r, roughly, for the members that are chosen."""
        xp = self._ops.xp
        r = r * self._rows[chosen]
        unit = _inverse_powers(xp, _parts(xp, r).max(axis=1))[:, None, :]
        low = (r * unit).astype(self._dtype)
        factors, piv = self._factors.factors[chosen], self._factors.piv
        if piv is None:
            d = self._ops.potrs_batched(factors, low, lower=False)
        else:
            d = self._ops.getrs_batched(factors, piv[chosen], low)
        return d.astype(r.dtype) * self._cols[chosen] * (self._power / unit)


def _parts(xp: Any, a: Array) -> Array:
    """The larger of |re| and |im|."""
    return xp.maximum(xp.abs(a.real), xp.abs(a.imag)) if a.dtype.kind == "c" else xp.abs(a)


def _exponents(xp: Any, size: Array) -> Array:
    """e such that size lies in [2^(e - 1), 2^e); 0 where it is zero or not finite."""
    return xp.where((size > 0) & xp.isfinite(size), xp.frexp(size)[1], 0)


def _inverse_powers(xp: Any, size: Array) -> Array:
    """Powers of two that bring `size` into [1/2, 1); 1 for zeros. Of sizes that are not extreme."""
    limit = 120 if size.dtype.itemsize == 4 else 1000
    e = xp.clip(_exponents(xp, size), -limit, limit)
    return xp.ldexp(xp.ones_like(size), -e)


def _half_powers(xp: Any, diagonal: Array) -> Array:
    """Powers of two whose squares bring `diagonal` into [1/4, 1]."""
    limit = 60 if diagonal.dtype.itemsize == 4 else 500
    e = xp.clip((_exponents(xp, diagonal) + 1) // 2, -limit, limit)
    return xp.ldexp(xp.ones_like(diagonal), -e)


# bad members go their own way
@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def solve_refined(
    a: Array, b: Array, *, definite: bool, fmt: Format, tol: float | None
) -> RefinedStack:
    """Solve A x = b for each member of a stack, with factors in the format `fmt`.

    Parameters
    ----------
    a, b : Array, shape (N, n, n) and (N, n, nrhs)
        Of one LAPACK dtype.
    definite : bool
        Whether A is Hermitian positive definite; its upper triangle is read.
    fmt : Format
        Below working precision.
    tol : float or None
        Normwise backward error at which a member is done; if None, it must be at most sqrt(n) u,
        and no longer be halved by another step.

    Notes
    -----
    Of every member a random right-hand side is refined along: a matrix that is singular to
    working precision shows itself by that, whatever b is, and does not count as converged.
    """
    ops = batched_ops_for(a, b)
    xp, (count, n, nrhs) = ops.xp, b.shape
    if definite:
        a = _whole(xp, a)
    # powers of two: sizes of A and b near 1
    power_a = _exponents(xp, _parts(xp, a).max(axis=(1, 2)))[:, None, None]
    power_b = _exponents(xp, _parts(xp, b).max(axis=1, keepdims=True))
    a, b = _ldexp(xp, a, -power_a), _ldexp(xp, b, -power_b)
    z = np.random.default_rng(n).uniform(0.5, 1.0, (n, 1))
    z[::2] *= -1
    z = xp.broadcast_to(xp.asarray(z, dtype=a.dtype), (count, n, 1))
    b = xp.concatenate([b, z], axis=2)
    norm = xp.abs(a).sum(axis=2).max(axis=1)
    unit = working_format(a.dtype).unit_roundoff
    bound = backward_bound(n, unit)
    target = bound if tol is None else max(tol, bound)
    factors = _Factors(a, definite, fmt)
    x, omega, iterations = _iterate(xp, a, b, norm, factors, target, tol is None)
    # a lower bound on the condition number, as everywhere in `batched`
    kappa = norm * _parts(xp, x[:, :, -1]).max(axis=1)
    x = _ldexp(xp, x[:, :, :nrhs], power_b - power_a)
    margin = 1e4 if unit < 2.0**-40 else 10.0
    converged = (omega <= target) & (kappa * (2 * unit * margin * n**0.5) < 1.0)
    converged &= xp.isfinite(x).all(axis=(1, 2))
    return RefinedStack(x, on_host(converged), on_host(iterations))


def _iterate(
    xp: Any, a: Array, b: Array, norm: Array, factors: _Factors, target: float, is_thorough: bool
) -> tuple[Array, Array, Array]:
    """Refinement: x, its backward errors, and the corrections that each member took."""
    x, r = xp.zeros_like(b), b.copy()
    size_b = xp.abs(b).max(axis=1)
    omega = xp.full(len(b), xp.inf)
    strikes, iterations = xp.zeros(len(b), int), xp.zeros(len(b), int)
    active = xp.arange(len(b))
    for step in range(_MOST_STEPS):
        # x <- x + A^-1 (b - A x)
        trial = x[active] + factors.correction(r[active], active)
        left = b[active] - a[active] @ trial
        error = _omega(xp, left, norm[active][:, None], trial, size_b[active]).max(axis=1)
        before = omega[active]
        is_better = error < before  # false for NaN
        is_halved = error <= before / 2
        x[active] = xp.where(is_better[:, None, None], trial, x[active])
        r[active] = xp.where(is_better[:, None, None], left, r[active])
        omega[active] = after = xp.where(is_better, error, before)
        iterations[active] = step
        strikes[active] = missed = xp.where(is_halved, 0, strikes[active] + 1)
        is_done = after <= target
        if is_thorough:
            is_done &= ~is_halved | (after == 0)
        active = active[~is_done & (missed < _STRIKES)]
        if not active.size:
            break
    return x, omega, iterations


def _whole(xp: Any, a: Array) -> Array:
    """Hermitian matrices of which the upper triangle is given; a diagonal counts as real."""
    above, k = xp.triu(a, 1), xp.arange(a.shape[-1])
    whole = above + above.conj().swapaxes(1, 2)
    whole[:, k, k] = a[:, k, k].real
    return whole


def _ldexp(xp: Any, a: Array, power: Array) -> Array:
    """a 2^power; in two steps, as 2^power alone may be out of range."""
    half = power // 2
    one = xp.ones((), real_dtype(a.dtype))
    return a * xp.ldexp(one, half) * xp.ldexp(one, power - half)


def _omega(xp: Any, r: Array, norm: Array, x: Array, size_b: Array) -> Array:
    """Normwise backward errors of the columns; 0 where r is."""
    size = xp.abs(r).max(axis=1)
    scale = norm * xp.abs(x).max(axis=1) + size_b
    return xp.where(size == 0, 0.0, size / scale)


@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def backward_errors(a: Array, x: Array, b: Array, *, definite: bool = False) -> Array:
    """Largest normwise backward error of a member's columns, (N,).

    Of stacks of one dtype; if `definite`, A is Hermitian with its upper triangle given. NaN where x
    is not finite.
    """
    ops = batched_ops_for(a, x, b)
    xp, (count, n, nrhs) = ops.xp, x.shape
    found = xp.zeros(count)
    if n == 0 or nrhs == 0:
        return found
    step = max(1, _AT_ONCE // (n * n))
    for first in range(0, count, step):
        some = slice(first, first + step)
        part = a[some]
        if definite:
            part = _whole(xp, part)
        power_a = _exponents(xp, _parts(xp, part).max(axis=(1, 2)))[:, None, None]
        power_b = _exponents(xp, _parts(xp, b[some]).max(axis=1, keepdims=True))
        part, right = _ldexp(xp, part, -power_a), _ldexp(xp, b[some], -power_b)
        y = _ldexp(xp, x[some], power_a - power_b)
        r = right - part @ y
        norm = xp.abs(part).sum(axis=2).max(axis=1)[:, None]
        found[some] = _omega(xp, r, norm, y, xp.abs(right).max(axis=1)).max(axis=1)
    return found
