"""What `solve` promises on the gallery, judged by SciPy and by arithmetic of its own.

For every system one of four things happens: x whose backward error is that of working precision;
the best x that working precision gives, with a warning; LinAlgError; ValueError or TypeError.
The forward error is never much worse than that of SciPy's solve where neither warns.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import pytest
import scipy.linalg

from mplinalg import solve
from mplinalg.dense.rungs import LOW_PRECISION_FROM
from mplinalg.testing import gallery

from .oracle import N, Solved, U, answered, exact_solution, right_hand_side

mpmath = pytest.importorskip("mpmath")


# -- the oracle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize(("name", "n"), [("hilbert", 9), ("randsvd", 12), ("badly_scaled", 8)])
def test_the_oracle_against_mpmath(name, n, dtype):
    a = gallery.matrix(name, n, dtype, **({"cond": 1e12} if name == "randsvd" else {}))
    b = np.random.default_rng(0).standard_normal(n).astype(dtype)
    with mpmath.workprec(2400):
        exact = mpmath.lu_solve(mpmath.matrix(a.tolist()), mpmath.matrix(b.tolist()))
        x = np.array([complex(v) if dtype is complex else float(v) for v in exact])
    np.testing.assert_allclose(exact_solution(a, b), x, rtol=4 * U)


# -- the gallery ---------------------------------------------------------------------------------


def test_the_orders_below_see_low_precisions():
    assert LOW_PRECISION_FROM <= N


class Case(NamedTuple):
    name: str
    parameters: tuple = ()
    dtype: str = "float64"

    def matrix(self, n=N):
        return gallery.matrix(self.name, n, self.dtype, **dict(self.parameters))

    def __str__(self):
        values = "-".join(str(value) for _, value in self.parameters)
        return "-".join(filter(None, (self.name, values, self.dtype[0])))


def cases():
    for name in gallery.names():
        known = gallery.facts(name)
        if not known.finite or known.singular or name == "inverse_hilbert":  # overflows at N
            continue
        grid = [()]
        if name == "randsvd":
            modes = ("one_large", "one_small", "geometric", "arithmetic", "log_uniform")
            conds = (1e2, 1e5, 1e8, 1e11, 1e14)
            grid = [(("cond", c), ("mode", mode)) for mode in modes for c in conds]
        elif name in ("spd_geometric", "spd_clustered", "hermitian_indefinite"):
            grid = [(("cond", c),) for c in (1e3, 1e7, 1e12)]
        elif name in ("graded_rows", "graded_columns"):
            grid = [(("decades", d),) for d in (5.0, 12.0, 20.0, 200.0)]
        for parameters in grid:
            for dtype in ("float64", "complex128"):
                if dtype in known.dtypes:
                    yield Case(name, parameters, dtype)


CASES = list(cases())


class Verdict(NamedTuple):
    a: np.ndarray
    b: np.ndarray
    exact: np.ndarray | None
    ours: Solved
    scipys: Solved
    report: object


@functools.cache
def verdict(case):
    a = case.matrix()
    b = right_hand_side(a)
    exact = exact_solution(a, b)
    ours, report = answered(lambda a, b: solve(a, b, full_output=True), a, b, exact)
    try:
        scipys, _ = answered(scipy.linalg.solve, a, b, exact)
    except scipy.linalg.LinAlgError:  # some versions call exactly singular what others warn of
        scipys = Solved(np.full_like(b, np.nan), True, math.nan, math.nan)
    return Verdict(a, b, exact, ours, scipys, report)


def skeel(a, x):
    """|| |A^-1| |A| |x| || / ||x||: what a componentwise change of A by 1 does to x, at most."""
    rows = np.ldexp(1.0, -np.frexp(np.abs(a).max(axis=1))[1])
    cols = np.ldexp(1.0, -np.frexp(np.abs(rows[:, None] * a).max(axis=0))[1])
    s = rows[:, None] * a * cols
    size = np.abs(np.linalg.inv(s)) @ (np.abs(s) @ np.abs(x / cols))
    return float(np.max(cols * size) / np.max(np.abs(x)))


def unit(case):
    """u; twice that for complex data, whose parts are measured by |re| + |im|."""
    return 2 * U if case.dtype == "complex128" else U


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_error_is_scipys(case):
    """At most three times SciPy's, or 4 u: below that rounding hides the residual."""
    v = verdict(case)
    if not v.ours.warned:
        scipys = v.scipys.backward if np.isfinite(v.scipys.backward) else 0.0
        assert v.ours.backward <= max(3 * scipys, 4 * unit(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_error_is_scipys(case):
    """At most ten times SciPy's where neither warns.

    Or what a change of every entry of A and b by 4 u explains: on integers (minij) SciPy's
    elimination is exact, and no residual of working precision tells how to match that.
    """
    v = verdict(case)
    if v.ours.warned or v.scipys.warned or v.exact is None:
        return
    explained = 2 * 4 * unit(case) * max(skeel(v.a, v.exact), 1.0)
    assert v.ours.forward <= max(10 * v.scipys.forward, explained)


def test_forward_error_is_better_more_often_than_worse():
    """On most of the gallery refinement leaves a smaller error than SciPy's solve does."""
    ratios = [
        v.ours.forward / v.scipys.forward
        for v in map(verdict, CASES)
        if v.exact is not None and not v.ours.warned and v.scipys.forward > 0
    ]
    assert len(ratios) > 80
    assert np.median(ratios) <= 1
    assert np.mean(np.array(ratios) > 10) <= 0.03


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_error_bound_is_a_bound(case):
    v = verdict(case)
    if not v.ours.warned and v.exact is not None and v.report.forward_error_bound is not None:
        assert v.ours.forward <= v.report.forward_error_bound


@pytest.mark.parametrize("case", CASES, ids=str)
def test_condition_estimate_is_within_ten(case):
    v = verdict(case)
    with np.errstate(all="ignore"):
        kappa = np.linalg.cond(v.a / np.abs(v.a).max(), 1)
    if kappa < 1e15 and v.report.rcond is not None and np.abs(v.a).max() > 1e-300:
        assert 0.1 <= v.report.rcond * kappa <= 10


@pytest.mark.parametrize("case", CASES, ids=str)
def test_warnings_are_scipys(case):
    """Both warn or neither does, but for matrices within 20 of the line that divides them."""
    v = verdict(case)
    if v.ours.warned != v.scipys.warned:
        inverse_overflows = np.abs(v.a).max() < 1e-300
        if inverse_overflows or not np.isfinite(v.scipys.x).all():
            # SciPy warns of an overflow of its own on the way, not of A
            assert not v.ours.warned
            assert v.ours.backward <= 4 * unit(case)
            return
        with np.errstate(all="ignore"):
            kappas = [np.linalg.cond(v.a, p) * 2 * U for p in (1, np.inf)]  # SciPy's is either
        assert max(kappas) >= 0.05
        assert min(kappas) <= 20


@pytest.mark.parametrize("case", CASES, ids=str)
def test_report_says_what_is_true(case):
    """A success is reported when there was no warning; its backward error is the true one."""
    v = verdict(case)
    assert v.report.status.is_success == (not v.ours.warned)
    if not v.ours.warned:
        assert v.report.backward_error <= math.sqrt(N) * U
        assert v.ours.backward <= 4 * v.report.backward_error + 2 * unit(case)
