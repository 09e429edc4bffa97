"""Refinement of least-squares solutions: min ||b - A x|| from an approximate R of A = Q R.

The augmented system of Bjorck (1967),

    r + A x = b,    A^H r = 0,

is refined with r eliminated: r is recomputed as b - A x in working precision, so that the first
equation holds to rounding, and what is left of the second, g = A^H r, is corrected by

    R^H R dx = g.

Q is not needed, and R may come from Householder QR, a reduction tree or a Gram matrix in any
precision. With (A + E) = Q R the error of x shrinks in the norm ||R x|| by the factor
||R^-H (A^H A - R^H R) R^-1|| in a step: about kappa(A) u_f for Householder QR in precision u_f,
about kappa(A)^2 u_f for Cholesky of a Gram matrix formed in it. Where that is not small, dx is
found instead by LSQR preconditioned with R: min ||r - A R^-1 z||, dx = R^-1 z, restarted with r
recomputed.

The limit is set by the rounding of r and g in working precision and not by R:
||R (x - x*)|| of order u (||A|| ||x|| + kappa(A) ||r||), which is the sensitivity of the problem
itself to relative changes of size u in A and b (Higham 2002, theorem 20.1). Hence the test

    omega = ||R^-H A^H r|| / (||A|| ||x|| + ||b|| + kappa ||r||) <= tol,

the size of the smallest relative changes of A and b, to first order, that can explain the error
of x. Iteration goes on while ||R^-H A^H r|| at least halves.

References
----------
Bjorck, BIT 7 (1967) 257; Linear Algebra Appl. 88/89 (1987) 31 (corrected seminormal equations).
Carson, Higham and Pranesh, SIAM J. Sci. Comput. 42 (2020) A4063 (low-precision QR).
Epperly, SIAM J. Matrix Anal. Appl. 45 (2024) 1734 (forward stability of such iterations).
Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, chapter 20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..factor.triangle import Triangle
from ..ops import is_on_host
from ..ops.protocol import Array, Ops
from .criterion import Verdict
from .lsqr import lsqr

__all__ = ["LeastSquares", "State", "column_norms", "iterate", "refine"]

Columns = NDArray[Any]

_SLOW = 0.1
"""A contraction above this is left to LSQR, which needs fewer passes over A."""
_HALVING = 0.5
_INNER_TOL = 1e-5
MAX_STEPS = 12
_KRYLOV_STEPS = 6
_FEWEST_INNER, _MOST_INNER = 12, 60


def normal_product(ops: Ops, a: Array, r: Array) -> Array:
    """A^H r, as conj(A^T conj(r)) so that A is not copied to be conjugated."""
    xp = ops.xp
    g = xp.zeros((a.shape[1], r.shape[1]), r.dtype, order="F")
    if r.dtype.kind != "c":
        ops.gemm(1.0, a, r, 0.0, g, transa="T")
        return g
    ops.gemm(1.0, a, xp.conj(r), 0.0, g, transa="T")
    return xp.conj(g, out=g)


def column_norms(ops: Ops, *arrays: Array) -> Columns:
    """The 2-norms of the columns of each array, as rows of an array of the host; one transfer."""
    norms = ops.xp.stack([ops.xp.linalg.norm(a, axis=0) for a in arrays])
    return norms if is_on_host(norms) else np.array(norms.tolist(), norms.dtype)


@dataclass
class State:
    """An iterate, and per column, on the host, what is known of it.

    `energy` is ||R^-H A^H r||, an estimate of ||A (x - x*)||; `verdict` holds `Verdict` values.
    """

    x: Array
    r: Array
    y: Array
    energy: Columns
    omega: Columns
    verdict: Columns
    rate: Columns
    steps: int = 0
    inner: int = 0


class LeastSquares:
    """The iteration: ``state = init()``, then ``step(state)`` until ``done(state)``.

    A device is waited for once a step, and once for each iteration of LSQR.

    Parameters
    ----------
    ops : Ops
    a : array, shape (m, n)
    b : array, shape (m, k)
        Both in working precision and scaled so that products of entries stay in its range.
    triangle : Triangle
    unit_roundoff : float
        Of the working precision.
    tol : float, optional
        Bound on omega; by default sqrt(m) u. If given, a column is finished as soon as omega
        meets it.
    inner : int
        0 for corrections from R alone; otherwise the most LSQR iterations of a correction.
    """

    def __init__(
        self, ops: Ops, a: Array, b: Array, triangle: Triangle, unit_roundoff: float, *,
        tol: float | None = None, inner: int = 0,
    ) -> None:  # fmt: skip
        self.ops, self.a, self.b, self.triangle = ops, a, b, triangle
        self.unit_roundoff = unit_roundoff
        self.stop_early = tol is not None
        self.tol = math.sqrt(max(a.shape[0], 4)) * unit_roundoff if tol is None else tol
        self.inner = inner
        (self._b_norm,) = column_norms(ops, b)

    def init(self, x: Array | None = None) -> State:
        """The state at x, by default zero."""
        xp, k, n = self.ops.xp, self.b.shape[1], self.a.shape[1]
        state = State(
            x=xp.zeros((n, k), self.b.dtype, order="F") if x is None else x,
            r=xp.array(self.b, order="F"),
            y=xp.zeros((n, k), self.b.dtype, order="F"),
            energy=np.full(k, np.inf), omega=np.full(k, np.inf),
            verdict=np.full(k, int(Verdict.ACTIVE)), rate=np.ones(k),
        )  # fmt: skip
        self._measure(state, np.arange(k), zero=x is None)
        return state

    def step(self, state: State) -> State:
        """One correction of the active columns, and a new look at them. Changes `state`."""
        xp = self.ops.xp
        columns = np.flatnonzero(state.verdict == int(Verdict.ACTIVE))
        part = _part(columns, state.verdict.size)
        z = self._krylov(state, part) if self.inner else xp.array(state.y[:, part], order="F")
        self.triangle.solve(z)
        old = xp.array(state.x[:, part], order="F")
        new = old + z
        before, before_omega = state.energy[columns], state.omega[columns]
        state.x[:, part] = new
        state.steps += 1
        z_size, new_size = self._measure(state, columns, z, new)
        # after a correction whose successor would not be seen in the last digit of x, stop
        successor = z_size * np.minimum(state.rate[columns], 1.0)
        tiny = successor <= self.unit_roundoff / 2 * new_size
        with np.errstate(all="ignore"):
            rate = state.energy[columns] / np.where(before > 0, before, 1)
        state.rate[columns] = rate
        active = state.verdict[columns] == int(Verdict.ACTIVE)
        accepted = state.omega[columns] <= self.tol
        stalled = ~(rate <= _HALVING)
        verdict = np.where(stalled, int(Verdict.STAGNATED), int(Verdict.ACTIVE))
        if not self.inner:
            verdict = np.where(~(rate <= _SLOW) & ~accepted, int(Verdict.SLOW), verdict)
        verdict = np.where(accepted & (tiny | stalled), int(Verdict.CONVERGED), verdict)
        verdict = np.where(~(rate <= 2.0) & ~accepted, int(Verdict.DIVERGED), verdict)
        state.verdict[columns] = np.where(active, verdict, state.verdict[columns])
        is_worse = ~(rate <= 1.0) & (before_omega <= self.tol)
        if is_worse.any():  # at the limiting accuracy either is good; keep the one measured better
            worse = columns[is_worse]
            state.x[:, worse] = old[:, np.flatnonzero(is_worse)]
            self._measure(state, worse, keep=True)
            state.verdict[worse] = int(Verdict.CONVERGED)
        return state

    def done(self, state: State) -> bool:
        """Whether no column is active any more, or the steps are used up."""
        left = bool((state.verdict == int(Verdict.ACTIVE)).any())
        return not left or state.steps >= MAX_STEPS

    def _measure(
        self, state: State, columns: Columns, *more: Array, zero: bool = False, keep: bool = False
    ) -> list[Columns]:
        """r = b - A x, y = R^-H A^H r, and the sizes that decide; norms of columns of `more`."""
        xp, part = self.ops.xp, _part(columns, state.verdict.size)
        x = xp.asfortranarray(state.x[:, part])
        r = state.r
        if not zero:
            b = xp.asfortranarray(self.b[:, part])
            r, _ = self.ops.residual(self.a, x, b, magnitude=False)
            state.r[:, part] = r
        y = normal_product(self.ops, self.a, r)
        self.triangle.solve(y, "C")
        state.y[:, part] = y
        with np.errstate(all="ignore"):
            energy, x_norm, r_norm, *norms = column_norms(self.ops, y, x, r, *more)
            rcond = self.triangle.rcond
            size = self.triangle.largest * x_norm + self._b_norm[columns]
            size = size + r_norm / rcond if rcond > 0 else size
            omega = np.where(energy == 0, 0.0, energy / np.where(size == 0, 1, size))
        finite = np.isfinite(energy) & np.isfinite(x_norm) & np.isfinite(omega)
        state.energy[columns] = np.where(finite, energy, np.nan)
        state.omega[columns] = np.where(finite, omega, np.nan)
        if not keep:
            finished = finite & ((energy == 0) | (self.stop_early & (omega <= self.tol)))
            verdict = np.where(finished, int(Verdict.CONVERGED), state.verdict[columns])
            state.verdict[columns] = np.where(finite, verdict, int(Verdict.DIVERGED))
        return norms

    def _krylov(self, state: State, part: Any) -> Array:
        """z of min ||r - A R^-1 z||."""
        xp, ops, a = self.ops.xp, self.ops, self.a

        def matvec(v: Array) -> Array:
            w = xp.array(v, order="F")
            self.triangle.solve(w)
            product = xp.zeros((a.shape[0], v.shape[1]), v.dtype, order="F")
            ops.gemm(1.0, a, w, 0.0, product)
            return product

        def rmatvec(u: Array) -> Array:
            g = normal_product(ops, a, u)
            self.triangle.solve(g, "C")
            return g

        f = xp.asfortranarray(state.r[:, part])
        found = lsqr(xp, matvec, rmatvec, f, tol=_INNER_TOL, max_iter=self.inner)
        state.inner += found.iterations
        return xp.asfortranarray(found.z)


def _part(columns: Columns, count: int) -> Any:
    """What takes `columns` of an array of `count`; all of them as a view."""
    return slice(None) if columns.size == count else columns


def iterate(problem: LeastSquares, state: State) -> State:
    """Step until done."""
    while not problem.done(state):
        state = problem.step(state)
    return state


def refine(
    ops: Ops, a: Array, b: Array, triangle: Triangle, unit_roundoff: float, *,
    method: str | None = "auto", tol: float | None = None, x: Array | None = None,
    is_stable: bool = False,
) -> tuple[State, str]:  # fmt: skip
    """Solutions from one R: the state, and "" or why it does not meet the test.

    `method` is "classical" (corrections from R alone), "lsqr", "auto" (the first, then the second
    for what it leaves), or None (one correction and no test). An x that `is_stable`, the solution
    by a backward stable method, is not corrected where it meets the test.
    """
    n = a.shape[1]
    inner = min(max(n // 10, _FEWEST_INNER), _MOST_INNER)
    problem = LeastSquares(
        ops, a, b, triangle, unit_roundoff, tol=tol, inner=inner if method == "lsqr" else 0
    )
    problem.stop_early |= is_stable
    state = problem.init(x)
    problem.stop_early = tol is not None
    if method is None:
        return (problem.step(state) if x is None else state), ""
    state = iterate(problem, state)
    slow = int((state.verdict != int(Verdict.CONVERGED)).sum())
    if slow and method == "auto":
        problem.inner = inner
        finite = np.isfinite(state.energy)
        again = (state.verdict != int(Verdict.CONVERGED)) & finite
        state.verdict[again] = int(Verdict.ACTIVE)
        state.steps = min(state.steps, MAX_STEPS - _KRYLOV_STEPS)
        state = iterate(problem, state)
    bad = ~(state.omega <= problem.tol)
    if not bool(bad.any()):
        return state, ""
    return state, f"{int(bad.sum())} of {bad.size} columns stagnated"
