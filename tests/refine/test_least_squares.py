"""Refinement of least-squares solutions: the iteration, LSQR, and the walk up the ladder."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg.ops import ops_for
from mplinalg.precision import FP32, FP64, get_format, working_format
from mplinalg.refine.criterion import Verdict
from mplinalg.refine.ladder import Rung
from mplinalg.refine.least_squares import LeastSquares, iterate, refine
from mplinalg.refine.least_squares_ladder import factor, walk
from mplinalg.refine.lsqr import lsqr

mpmath = pytest.importorskip("mpmath")

OPS = ops_for(np.empty(0))
GRAM32, GRAM64 = Rung(FP32, "gram"), Rung(FP64, "gram")
QR16, QR32, QR64 = Rung(get_format("fp16"), "qr"), Rung(FP32, "qr"), Rung(FP64, "qr")
U = FP64.unit_roundoff


def problem(rng, m, n, cond, residual, k=1, dtype="d"):
    """A with geometric singular values, and b whose residual is `residual` times ||A x||."""
    u, _ = np.linalg.qr(rng.standard_normal((m, m)))
    v, _ = np.linalg.qr(rng.standard_normal((n, n)))
    a = (u[:, :n] * np.geomspace(1, 1 / cond, n)) @ v
    b = a @ rng.standard_normal((n, k))
    away = u[:, n:] @ rng.standard_normal((m - n, k))
    b = b + residual * np.linalg.norm(b, axis=0) * away / np.linalg.norm(away, axis=0)
    if np.dtype(dtype).kind == "c":
        a, b = a * np.exp(1j * np.arange(m))[:, None], b * np.exp(1j * np.arange(m))[:, None]
    return a.astype(dtype), np.asarray(b, dtype, order="F")


def truth(a, b):
    """The solution to 60 digits, by the normal equations, rounded to double precision."""
    with mpmath.workdps(60):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        big, rhs = exact(a), exact(b)
        g, h = big.T @ big, big.T @ rhs
        columns = [
            mpmath.lu_solve(mpmath.matrix(g.tolist()), mpmath.matrix(h[:, j].tolist()))
            for j in range(b.shape[1])
        ]
        return np.array([[float(v) for v in c] for c in columns]).T


def forward(x, exact):
    return (np.linalg.norm(x - exact, axis=0) / np.linalg.norm(exact, axis=0)).max()


@pytest.mark.parametrize(
    ("rung", "cond"),
    [(GRAM32, 1.0), (GRAM32, 1e2), (GRAM64, 1e4), (GRAM64, 1e6), (QR16, 1e1), (QR32, 1e3),
     (QR32, 1e5), (QR64, 1e8), (QR64, 1e12)],
)  # fmt: skip
@pytest.mark.parametrize("residual", [0.0, 1e-6, 1.0])
def test_as_accurate_as_gelsd(rng, rung, cond, residual):
    a, b = problem(rng, 80, 24, cond, residual, 2)
    exact = truth(a, b)
    made = factor(OPS, a, rung)
    assert made.outcome == ""
    state, outcome = refine(OPS, a, b, made.triangle, U)
    assert outcome == ""
    expected = forward(scipy.linalg.lstsq(a, b)[0], exact)
    assert forward(state.x, exact) <= 10 * max(expected, U)
    assert (state.omega <= np.sqrt(80) * U).all()


@pytest.mark.parametrize("method", ["classical", "lsqr", "auto"])
def test_methods_agree(rng, method):
    a, b = problem(rng, 200, 60, 1e5, 1e-3, 3)
    state, outcome = refine(OPS, a, b, factor(OPS, a, QR32).triangle, U, method=method)
    assert outcome == ""
    assert bool(state.inner) == (method == "lsqr")
    exact = scipy.linalg.lstsq(a, b)[0]
    assert forward(state.x, exact) < 1e-9


def test_lsqr_takes_over_where_corrections_contract_too_slowly(rng):
    a, b = problem(rng, 300, 128, 1e4, 1e-2, 2)
    made = factor(OPS, a, QR16)
    plain, outcome = refine(OPS, a, b, made.triangle, U, method="classical")
    assert outcome
    assert (plain.verdict != int(Verdict.CONVERGED)).any()
    assert plain.steps <= 4  # and it is seen within four steps
    state, outcome = refine(OPS, a, b, made.triangle, U)
    assert outcome == ""
    assert state.inner > 0
    assert forward(state.x, scipy.linalg.lstsq(a, b)[0]) < 1e-8


def test_hopeless_factors_are_given_up_soon(rng):
    a, b = problem(rng, 300, 128, 1e8, 0.0)
    state, outcome = refine(OPS, a, b, factor(OPS, a, QR16).triangle, U, method="classical")
    assert "stagnated" in outcome
    assert state.steps <= 4


def test_columns_freeze_one_by_one(rng):
    a, b = problem(rng, 100, 20, 1e3, 0.1, 4)
    b[:, 1] = 0
    b[:, 2] = a @ np.ones(20)
    b[:, 3] = scipy.linalg.null_space(a.T)[:, 0]
    made = factor(OPS, a, QR32)
    iteration = LeastSquares(OPS, a, b, made.triangle, U)
    state = iteration.init()
    assert state.verdict[1] == int(Verdict.CONVERGED)
    assert not iteration.done(state)
    state = iterate(iteration, state)
    assert (state.verdict == int(Verdict.CONVERGED)).all()
    assert not state.x[:, 1].any()
    assert np.allclose(state.x[:, 2], 1, rtol=1e-11)
    assert np.linalg.norm(state.x[:, 3]) < 1e3**2 * 100 * U  # kappa^2 u ||r||
    alone, _ = refine(OPS, a, b[:, :1], made.triangle, U)
    assert forward(state.x[:, :1], alone.x) < 1e-12


@pytest.mark.parametrize("where", ["a", "b", "r"])
def test_nan_never_counts_as_converged(rng, where):
    a, b = problem(rng, 50, 10, 10, 0.1, 2)
    made = factor(OPS, a, QR64)
    if where == "a":
        a[3, 4] = np.nan
    elif where == "b":
        b[3, 1] = np.nan
    else:
        made.triangle.r[0, 5] = np.nan
    state, outcome = refine(OPS, a, b, made.triangle, U)
    assert outcome
    assert state.verdict[1] == int(Verdict.DIVERGED)
    assert np.isnan(state.omega[1])
    if where == "b":
        assert state.verdict[0] == int(Verdict.CONVERGED)


def test_a_tolerance_stops_early(rng):
    a, b = problem(rng, 120, 40, 1e2, 0.1)
    made = factor(OPS, a, QR16)
    loose, _ = refine(OPS, a, b, made.triangle, U, tol=1e-3)
    tight, _ = refine(OPS, a, b, made.triangle, U)
    assert loose.steps < tight.steps
    assert loose.omega.max() <= 1e-3


@pytest.mark.parametrize("dtype", ["f", "d", "F", "D"])
@pytest.mark.parametrize("order", "CF")
def test_all_dtypes_and_layouts(rng, dtype, order):
    a, b = problem(rng, 90, 30, 20.0, 0.5, 2, dtype)
    a = np.asarray(a, order=order)
    working = working_format(dtype)
    rungs = [GRAM32] if working is FP32 else [GRAM64]
    found = walk(OPS, a, b, rungs, working.unit_roundoff, cond=np.finfo(dtype).eps)
    expected = scipy.linalg.lstsq(a.astype("D"), b.astype("D"))[0]
    assert found.state.x.dtype == dtype
    assert forward(found.state.x, expected) < 30 * 20**2 * working.unit_roundoff


# -- the walk -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cond", "last"), [(1e1, "fp32 gram"), (1e5, "fp64 gram"), (1e10, "fp64 qr"), (1e17, None)]
)
def test_climbs_as_far_as_needed(rng, cond, last):
    a, b = problem(rng, 160, 40, cond, 1e-3)
    found = walk(OPS, a, b, [GRAM32, GRAM64, QR64], U, cond=2 * U)
    if last is None:
        assert found.state is None
        assert len(found.rungs) == 3
        return
    end = found.rungs[-1]
    assert f"{end.format} {end.method}".startswith(last)
    assert end.outcome == "converged"
    assert found.workspace_bytes >= found.factored.triangle.r.nbytes
    assert set(found.seconds) == {"factor", "solve"}


@pytest.mark.parametrize("rung", [GRAM32, GRAM64, QR16, QR32, QR64])
@pytest.mark.parametrize("kind", ["exact", "rounded", "one_small", "zero column"])
def test_rank_deficiency_is_never_taken_for_full_rank(rng, rung, kind):
    a, _ = problem(rng, 150, 80, 10.0, 0.0)
    if kind == "exact":
        a[:, 7] = a[:, 3]
    elif kind == "rounded":
        a[:, 7] = a[:, :7] @ rng.standard_normal(7)
    elif kind == "one_small":
        u, s, vh = np.linalg.svd(rng.standard_normal((150, 80)), full_matrices=False)
        s[:] = 1
        s[-1] = 1e-17
        a = (u * s) @ vh
    else:
        a[:, 7] = 0
    assert factor(OPS, a, rung).outcome


def test_trust_does_not_depend_on_column_scaling(rng):
    a, b = problem(rng, 150, 40, 10.0, 0.1)
    d = np.ldexp(1.0, rng.integers(-15, 15, 40))
    for rung in (GRAM32, QR32):
        assert factor(OPS, a * d, rung).outcome == ""
    x = walk(OPS, a, b, [GRAM32], U).state.x
    y = walk(OPS, a * d, b, [GRAM32], U).state.x
    assert forward(y * d[:, None], x) < 1e-13


def test_rank_in_doubt_ends_the_walk(rng):
    a, b = problem(rng, 100, 30, 50.0, 0.0)
    found = walk(OPS, a, b, [GRAM32, GRAM64, QR64], U, cond=1e-2)
    assert found.state is None
    assert [r.outcome for r in found.rungs] == ["rank in doubt"]


def test_factors_are_kept_in_a_cache(rng):
    a, b = problem(rng, 100, 30, 10.0, 0.0)
    cache = {}
    first = walk(OPS, a, b, [GRAM32], U, cache=cache)
    again = walk(OPS, a, b, [GRAM32], U, cache=cache)
    assert first.factored is again.factored is cache[GRAM32]


# -- LSQR -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["d", "D"])
def test_lsqr_solves(rng, dtype):
    a, b = problem(rng, 60, 15, 5.0, 0.3, 3, dtype)
    b[:, 1] = 0
    before = b.copy()
    out = lsqr(np, lambda v: a @ v, lambda u: a.conj().T @ u, b, tol=1e-14, max_iter=60)
    assert forward(out.z[:, ::2], scipy.linalg.lstsq(a, b)[0][:, ::2]) < 1e-10
    assert not out.z[:, 1].any()
    assert np.array_equal(b, before)
    assert (out.reduction <= 1e-14).all()


def test_lsqr_ends_with_the_krylov_space(rng):
    """With B orthonormal one iteration is all there is, and nothing is divided by zero."""
    q, _ = np.linalg.qr(rng.standard_normal((20, 5)))
    f = q @ rng.standard_normal((5, 2))
    out = lsqr(np, lambda v: q @ v, lambda u: q.T @ u, f, tol=0.0, max_iter=10)
    assert np.allclose(q @ out.z, f)
    assert np.isfinite(out.z).all()
    assert lsqr(np, lambda v: q @ v, lambda u: q.T @ u, f, tol=0.0, max_iter=0).iterations == 0
