"""The report of a solve is true: errors as measured, rungs as walked, statuses as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mplinalg import LinAlgWarning, SolveReport, Status, cho_factor, lu_factor, solve, tiled
from mplinalg.testing import backward_error, componentwise_backward_error, forward_error, gallery

DTYPES = ["float32", "float64", "complex64", "complex128"]
PHASES = ["convert", "factor", "solve", "residual", "total"]
LOW = ["fp16", "bf16", "tf32", "fp16x2", "fp32"]


def roundoff(dtype):
    return np.finfo(dtype).eps / 2


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def agrees(reported, measured, floor):
    """Within a factor of 3, where the size is above what rounding makes of nothing."""
    reported, measured = np.asarray(reported), np.asarray(measured)
    return bool(np.all((reported <= 3 * measured + floor) & (measured <= 3 * reported + floor)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("precision", ["auto", *LOW])
@pytest.mark.parametrize("n", [5, 40, 260])
def test_errors_are_those_measured(rng, n, precision, dtype):
    a, b = normal(rng, (n, n), dtype), normal(rng, (n, 3), dtype)
    for refine in ("auto", None):
        if refine is None and precision == "auto":
            continue
        x, report = solve(a, b, precision=precision, refine=refine, full_output=True)
        u = roundoff(dtype)
        assert agrees(report.backward_error, backward_error(a, x, b), 2 * u)
        assert agrees(report.componentwise_error, componentwise_backward_error(a, x, b), 4 * u)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("cond", [10.0, 1e3, 1e5])
@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
@pytest.mark.filterwarnings("ignore:precision=:mplinalg.LinAlgWarning")
def test_the_forward_error_bound_holds(rng, dtype, cond, precision):
    n = 60
    a, b = gallery.randsvd(n, cond, dtype=dtype), normal(rng, (n, 2), dtype)
    x, report = solve(a, b, precision=precision, refine="classical", full_output=True)
    wide = np.result_type(dtype, "float64")
    truth = solve(a.astype(wide), b.astype(wide))
    if report.forward_error_bound is not None:
        assert np.all(forward_error(x, truth) <= report.forward_error_bound)
        assert np.all(report.forward_error_bound <= 100 * n * cond * roundoff(dtype))


@pytest.mark.parametrize("n", [60, 260])
@pytest.mark.parametrize("cond", [10.0, 1e3, 1e6])
def test_rcond(n, cond):
    a = gallery.randsvd(n, cond, "one_small")
    exact = 1 / np.linalg.cond(a, 1)
    for keywords in ({}, {"precision": "fp32"}, {"precision": "fp64"}, {"transposed": True}):
        report = solve(a, np.ones(n), full_output=True, **keywords)[1]
        assert exact / 10 <= report.rcond <= 10 * exact, keywords


def test_growth():
    """2^(n - 1) for the matrix that was made for it; U of the other order may be harmless."""
    a = gallery.matrix("gfpp", 20)
    report = solve(a.copy("C"), np.ones(20), precision="fp32", full_output=True)[1]
    assert report.growth == pytest.approx(2.0**19, rel=1e-5)
    calm = solve(np.eye(20) + 0.01, np.ones(20), precision="fp32", full_output=True)[1]
    assert calm.growth == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("precision", LOW)
def test_rungs_are_those_walked(precision):
    a, b = gallery.randsvd(80, 10.0), np.ones(80)
    report = solve(a, b, precision=precision, full_output=True)[1]
    assert report.precision == precision
    assert report.rungs[0].format == precision
    assert report.rungs[-1].outcome == "converged"
    assert report.status is Status.CONVERGED
    assert report.iterations >= 1


def test_gmres_counts_its_steps():
    a, b = gallery.randsvd(80, 1e4), np.ones(80)
    report = solve(a, b, precision="fp16", refine="gmres", full_output=True)[1]
    assert report.inner_iterations >= report.iterations >= 1
    assert report.rungs[-1].method.endswith("GMRES")
    report = solve(a, b, precision="fp32", refine="classical", full_output=True)[1]
    assert report.inner_iterations == 0


@pytest.mark.parametrize("precision", ["auto", *LOW, "fp64"])
@pytest.mark.parametrize("n", [1, 40, 300])
def test_seconds_add_up(rng, n, precision):
    a, b = normal(rng, (n, n)) + n * np.eye(n), normal(rng, n)
    seconds = solve(a, b, precision=precision, full_output=True)[1].seconds
    assert sorted(seconds) == sorted(PHASES)
    parts = [seconds[name] for name in PHASES[:-1]]
    assert min(parts) >= 0
    if n > 1:
        assert seconds["factor"] > 0
        assert 0 < sum(parts) <= 1.01 * seconds["total"] + 1e-4


def test_to_dict(rng):
    a, b = normal(rng, (40, 40)), normal(rng, (40, 2))
    for report in (
        solve(a, b, full_output=True)[1],
        solve(a, b, precision="fp16", full_output=True)[1],
        solve(np.stack([a, a]), b, full_output=True)[1],
        solve(a[:0, :0], b[:0], full_output=True)[1],
        lu_factor(a).report,
        cho_factor(a @ a.T).report,
    ):
        assert isinstance(report, SolveReport)
        data = json.loads(json.dumps(report.to_dict()))
        assert data["status"] == report.status.value
        assert "status" in str(report)


# -- statuses ------------------------------------------------------------------------------------


def test_direct():
    """Small systems, many right-hand sides, sparse structures and fp64 itself."""
    for a, b, keywords in [
        (gallery.matrix("random_normal", 20), np.ones(20), {}),
        (gallery.matrix("random_normal", 100), np.ones((100, 50)), {}),
        (np.diag(np.arange(1.0, 400)), np.ones(399), {}),
        (gallery.matrix("random_normal", 50), np.ones(50), {"precision": "fp64"}),
        (gallery.matrix("random_normal", 400, "float32"), np.ones(400, "float32"), {}),
        (np.array([[2.0]]), np.ones(1), {}),
    ]:
        report = solve(a, b, full_output=True, **keywords)[1]
        assert report.status is Status.DIRECT
        assert report.status.is_success


def test_converged():
    for name in ("random_normal", "spd_geometric"):
        report = solve(gallery.matrix(name, 600), np.ones(600), full_output=True)[1]
        assert (report.status, report.precision) == (Status.CONVERGED, "fp32")


@pytest.mark.parametrize("n", [20, 300])
@pytest.mark.parametrize("precision", ["auto", "fp64"])
@pytest.mark.filterwarnings("ignore::mplinalg.LinAlgWarning")
def test_ill_conditioned(n, precision):
    a = gallery.matrix("hilbert", n)
    report = solve(a, np.ones(n), precision=precision, full_output=True)[1]
    assert report.status is Status.ILL_CONDITIONED
    assert report.rcond < np.finfo(float).eps
    assert not report.status.is_success
    assert "Rescale" in report.status.advice


def test_stagnated():
    """An impossible tolerance."""
    with pytest.warns(LinAlgWarning, match="stagnated"):
        x, report = solve(np.eye(60) + 0.1, np.arange(60.0), tol=1e-300, full_output=True)
    assert report.status is Status.STAGNATED
    assert backward_error(np.eye(60) + 0.1, x, np.arange(60.0)) <= 60**0.5 * roundoff(float)


@pytest.mark.parametrize("n", [1, 40, 260])
def test_answers_out_of_range_have_no_small_error(rng, n):
    a, b = np.eye(n) + rng.uniform(0, 1 / n, (n, n)), rng.uniform(1, 2, n)
    for scale in (1e300, 1e-300):
        with pytest.warns(LinAlgWarning, match="flows the range"):
            report = solve(a * scale, b / scale, precision="fp32", full_output=True)[1]
        assert report.status is Status.STAGNATED
        assert not report.backward_error <= 0.5


# -- refine=None ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [20, 40, 260])
def test_without_refinement(n):
    """x is as good as the format, and the report says how good that is."""
    a, b = gallery.randsvd(n, 10.0), np.ones(n)
    errors = {}
    for precision in (*LOW, "fp64", "auto"):
        x, report = solve(a, b, precision=precision, refine=None, full_output=True)
        assert report.iterations == report.inner_iterations == 0
        assert len(report.rungs) == 1
        errors[precision] = backward_error(a, x, b)
        assert agrees(report.backward_error, errors[precision], 2 * roundoff(float))
    assert errors["fp64"] <= np.sqrt(n) * roundoff(float)
    assert errors["auto"] <= np.sqrt(n) * roundoff(float)
    assert errors["fp32"] <= np.sqrt(n) * 2.0**-24
    assert errors["fp64"] < errors["fp32"] < 2.0**-11
    if n > 128:  # one block has no low-precision products
        assert errors["fp16x2"] < errors["fp16"] < errors["bf16"]


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_extended_residuals_do_not_end_before_the_error_is_small(precision):
    """Whose corrections contract by 0.45: after thirty of them the error was 6e5 u, and is told."""
    a = np.round(2.0**24 * gallery.randsvd(256, 175101753.4909026, "one_small", rng=63))
    x, report = solve(
        a, a @ np.ones(256), residual="extended", precision=precision, full_output=True
    )  # integers: the right-hand side is exact
    assert report.status is Status.CONVERGED
    assert forward_error(x, np.ones(256)) < 100 * np.finfo(float).eps


@pytest.mark.filterwarnings("ignore::mplinalg.LinAlgWarning")
@pytest.mark.parametrize("exponent", [-4, -5])
@pytest.mark.parametrize("assume_a", ["pos", "gen"])
def test_rcond_is_not_that_of_factors_that_were_left(assume_a, exponent):
    """Those in bf16 tell nothing of these matrices but that they are ill conditioned."""
    for seed in range(4):
        q = np.linalg.qr(np.random.default_rng(seed).standard_normal((100, 100)))[0]
        a = (q * np.logspace(0, exponent, 100)) @ q.T
        a = (a + a.T) / 2
        _, report = solve(a, np.ones(100), assume_a=assume_a, precision="bf16", full_output=True)
        assert report.rcond is None or 0.1 < report.rcond * np.linalg.cond(a, 1) < 10


def test_the_error_of_pivots_that_grew_is_not_the_condition(rng):
    """Without a rung that does better: pivots grow to 2^149, and rcond of the factors is 0."""
    a = gallery.matrix("gfpp", 150)
    with pytest.warns(LinAlgWarning):
        _, report = tiled.solve(a, rng.standard_normal(150), full_output=True)
    assert report.status is Status.STAGNATED
