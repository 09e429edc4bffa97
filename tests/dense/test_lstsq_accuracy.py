"""lstsq: errors and ranks are those of SciPy's drivers; mpmath is the oracle."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg

from mplinalg.dense import least_squares
from mplinalg.dense.lstsq import lstsq

from .tall import LOSS, draw, with_cond

mpmath = pytest.importorskip("mpmath")


def solved_without_svd(result):
    return "gels" not in result.report.rungs[-1].method


# -- accuracy -------------------------------------------------------------------------------------


def exact_solution(a, b):
    with mpmath.workdps(60):
        exact = np.vectorize(mpmath.mpf, otypes=[object])
        big, rhs = exact(a), exact(b)
        x = mpmath.lu_solve(
            mpmath.matrix((big.T @ big).tolist()), mpmath.matrix((big.T @ rhs).tolist())
        )
        return np.array([float(v) for v in x])


@pytest.mark.parametrize("exponent", range(0, 15, 2))
@pytest.mark.parametrize("residual", [0.0, 1e-4, 1.0])
@pytest.mark.parametrize("shape", [(90, 30), (36, 30)])
def test_error_is_at_most_ten_times_that_of_gelsd(rng, exponent, residual, shape):
    """On the rungs of large problems, which `refine` pinned makes a small one take."""
    m, n = shape
    a = with_cond(rng, m, n, 10.0**exponent)
    away = scipy.linalg.null_space(a.T) @ rng.standard_normal(m - np.linalg.matrix_rank(a))
    b = a @ rng.standard_normal(n)
    b += residual * np.linalg.norm(b) * away / np.linalg.norm(away)
    exact = exact_solution(a, b)

    def error(x):
        return np.linalg.norm(x - exact) / np.linalg.norm(exact)

    theirs = scipy.linalg.lstsq(a, b)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = lstsq(a, b, refine="classical" if exponent < 11 else "auto", full_output=True)
    assert ours.rank == theirs[2]
    assert error(ours.x) <= 10 * max(error(theirs[0]), 2.0**-53)
    if exponent <= 10:
        assert solved_without_svd(ours)


@pytest.mark.parametrize("exponent", range(0, 17, 2))
@pytest.mark.parametrize("residual", [0.0, 1e-4, 1.0])
@pytest.mark.parametrize("work", [0.0, np.inf])
def test_error_is_at_most_ten_times_that_of_gels(rng, exponent, residual, work, monkeypatch):
    """On the way that large problems take by themselves: all rungs, or Householder QR alone."""
    monkeypatch.setattr(least_squares, "_LEAST_WORK", 0.0)
    monkeypatch.setattr(least_squares, "_FEW", work)
    monkeypatch.setattr(least_squares, "_LARGE", work)
    monkeypatch.setattr(least_squares, "in_two_stages", lambda n, dtype: True)
    a = with_cond(rng, 90, 30, 10.0**exponent)
    away = scipy.linalg.null_space(a.T) @ rng.standard_normal(90 - np.linalg.matrix_rank(a))
    b = a @ rng.standard_normal(30)
    b += residual * np.linalg.norm(b) * away / np.linalg.norm(away)
    exact = exact_solution(a, b)

    def error(x):
        return np.linalg.norm(x - exact) / np.linalg.norm(exact)

    ours = lstsq(a, b, 1e-30, full_output=True)
    assert solved_without_svd(ours) == (exponent < 15)
    peer = scipy.linalg.lapack.dgels(a, b[:, None])[1][:30, 0]
    if exponent > 15:  # no R tells the rank, and the way is that of gelsd
        peer = scipy.linalg.lstsq(a, b, 1e-30)[0]
    assert error(ours.x) <= 10 * max(error(peer), 2.0**-53)


def test_the_bound_of_the_report_holds(rng):
    for cond in (1.0, 1e3, 1e6, 1e9):
        a = with_cond(rng, 60, 20, cond)
        b = a @ np.ones(20) + 1e-3 * rng.standard_normal(60)
        ours = lstsq(a, b, refine="classical", full_output=True)
        exact = exact_solution(a, b)
        error = np.linalg.norm(ours.x - exact) / np.linalg.norm(exact)
        assert error <= ours.report.forward_error_bound
        assert 1 / (3 * cond) <= ours.report.rcond <= 3 / cond


@pytest.mark.parametrize("p", [1e300, 1e150, 1e-150, 1e-300, 5e-308])
@pytest.mark.parametrize("q", [1e300, 1.0, 1e-300])
@pytest.mark.parametrize("pinned", ["auto", "fp16", "fp32"])
def test_scale_invariance(rng, p, q, pinned):
    a, b = with_cond(rng, 400, 120, 30.0), draw(rng, 400)
    x = lstsq(a, b, precision=pinned).x
    with np.errstate(over="ignore", under="ignore"):
        ours = lstsq(a * p, b * q, precision=pinned)
        assert ours.rank == 120
        expected = x * q / p if q / p < 1e290 else x * (q / p)
        assert np.allclose(ours.x, expected, rtol=1e-10, atol=0) or not np.isfinite(expected).all()


def test_graded_columns(rng):
    a, b = with_cond(rng, 400, 120, 10.0), draw(rng, 400)
    d = np.geomspace(1, 1e-7, 120)
    ours = lstsq(a * d, b, full_output=True)
    assert solved_without_svd(ours)
    assert np.allclose(ours.x * d, lstsq(a, b).x, rtol=1e-9)


# -- rank -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["duplicate", "zero", "combination", "rank one"])
@pytest.mark.parametrize("shape", [(400, 120), (200, 200), (20, 5)])
@pytest.mark.parametrize("pinned", ["auto", "fp64"])
def test_rank_deficient_is_scipys(rng, kind, shape, pinned):
    a, b = draw(rng, shape), draw(rng, (shape[0], 2))
    if kind == "rank one":
        a = np.outer(a[:, 0], a[0])
    else:
        a[:, 3] = {"duplicate": a[:, 1], "zero": 0 * a[:, 1], "combination": a[:, :3] @ [1, 2, 3]}[
            kind
        ]
    # with the default cond, rounding decides what SciPy's own rank is
    ours, theirs = lstsq(a, b, 1e-12, precision=pinned), scipy.linalg.lstsq(a, b, 1e-12)
    assert ours.rank == theirs[2] < shape[1]
    assert np.allclose(ours.x, theirs[0], rtol=1e-8, atol=1e-10)
    assert np.isnan(ours.residues).all() or shape[0] == shape[1]
    assert ours.residues.shape == ((2,) if shape[0] > shape[1] else (0,))


@pytest.mark.parametrize("dtype", ["d", "D"])
@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
@pytest.mark.parametrize("shape", [(400, 120), (280, 280)])
@pytest.mark.parametrize("kappa", [1e8, 1e30])
def test_doubtful_rank_is_decided_by_the_svd_of_r(rng, dtype, scale, shape, kappa):
    """gelsd on R has the rank, the solution and the residues of gelsd on A."""
    a, b = with_cond(rng, *shape, kappa, dtype) * scale, draw(rng, (shape[0], 2), dtype)
    cond = 2e-9 if kappa < 1e20 else 3e-11  # between two singular values
    ours, theirs = lstsq(a, b, cond, full_output=True), scipy.linalg.lstsq(a, b, cond)
    assert [r.method for r in ours.report.rungs][-2:] == ["qr", "gelsd"]
    assert ours.rank == theirs[2] == (shape[1] if kappa < 1e20 else ours.rank)
    u = 2.0**-53
    assert np.allclose(ours.s, theirs[3], rtol=0, atol=shape[0] * u * theirs[3][0])
    # the least residual, by an x of the same size
    for x in (ours.x, theirs[0]):
        rest = np.linalg.norm(a @ x - b, axis=0)
        best = np.linalg.norm(a @ theirs[0] - b, axis=0)
        size = np.linalg.norm(a / scale) * np.linalg.norm(x * scale, axis=0)
        assert (rest <= best + LOSS * np.sqrt(shape[0]) * u * (size + np.linalg.norm(b))).all()
    assert np.linalg.norm(ours.x * scale) <= 2 * np.linalg.norm(theirs[0] * scale)
    assert ours.residues.shape == np.shape(theirs[1]) or ours.rank < shape[1]
    if shape[0] > shape[1] and ours.rank == shape[1]:
        assert np.allclose(ours.residues, theirs[1], rtol=1e-6)


def test_what_is_foreseen_is_not_tried(rng):
    a, b = with_cond(rng, 1200, 200, 1e9), draw(rng, 1200)
    report = lstsq(a, b, full_output=True).report
    assert [r.method for r in report.rungs] == ["gram", "qr + classical"]
    assert "foreseen" in report.rungs[0].outcome
    pinned = lstsq(with_cond(rng, 1200, 200, 50.0), b, precision="fp32", full_output=True).report
    assert [r.format for r in pinned.rungs] == ["fp32"]


@pytest.mark.parametrize("cond", [None, 1e-14, 1e-8, 1e-5, 1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("kappa", [1e1, 1e2, 1e4, 1e6, 1e9])
def test_rank_agrees_for_any_cond(rng, cond, kappa):
    a, b = with_cond(rng, 300, 130, kappa), draw(rng, 300)
    ours, theirs = lstsq(a, b, cond), scipy.linalg.lstsq(a, b, cond)
    # where a singular value is the cutoff itself, rounding decides
    at_cutoff = cond is not None and np.any(abs(theirs[3] / theirs[3][0] - cond) <= 1e-9 * cond)
    assert abs(ours.rank - theirs[2]) <= (1 if at_cutoff else 0)
    if cond is not None and cond * kappa > 1.5:
        assert ours.rank < 130


@pytest.mark.parametrize("driver", ["gelsd", "gelsy", "gelss"])
def test_a_driver_is_scipys(rng, driver):
    for shape in [(300, 130), (20, 5), (5, 20)]:
        a, b = draw(rng, shape), draw(rng, (shape[0], 2))
        for full in (False, True):
            ours = lstsq(a, b, lapack_driver=driver, full_output=full)
            theirs = scipy.linalg.lstsq(a, b, lapack_driver=driver)
            assert np.array_equal(ours.x, theirs[0])
            assert ours.residues.shape == np.shape(theirs[1])
            assert (ours.s is None) == (driver == "gelsy")


def test_the_bound_holds_where_the_matrix_is_well_conditioned(rng):
    """There rounding alone makes the error."""
    a, b = rng.standard_normal((2000, 120)), rng.standard_normal((2000, 3))
    ours = lstsq(a, b, full_output=True)
    wide = a.astype(np.longdouble)
    exact = ours.x.astype(np.longdouble)
    for _ in range(3):
        exact += np.linalg.lstsq(a, (b - wide @ exact).astype(float), rcond=None)[0]
    error = np.linalg.norm((ours.x - exact).astype(float), axis=0) / np.linalg.norm(ours.x, axis=0)
    assert np.all(error <= ours.report.forward_error_bound)
    assert np.all(ours.report.forward_error_bound <= 100 * 2.0**-53)
