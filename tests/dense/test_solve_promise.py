"""solve: outcomes are SciPy's, and no failure is silent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy
import scipy.linalg

import mplinalg
from mplinalg import LinAlgError, LinAlgWarning, solve
from mplinalg.testing import forward_error, gallery

from .systems import DTYPES, SCIPY, meets_the_test, normal, outcome, roundoff

FINITE = [name for name in gallery.names() if gallery.facts(name).finite]
PRECISIONS = ["auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"]
METHODS = ["auto", "classical", "gmres"]
like_scipy = pytest.mark.skipif(SCIPY < (1, 17), reason="the oracle is SciPy 1.17 or later")


def built(name, n, dtype):
    try:
        return gallery.matrix(name, n, dtype)
    except ValueError:
        pytest.skip(f"{name} does not exist for {n=}, {dtype}")


# -- against SciPy -------------------------------------------------------------------------------


# SciPy gives NaN (with a warning): Gaussian elimination grows past the range of single precision.
# QR does not, and the answer meets the test.
BETTER = {("gfpp", 260, "float32"), ("gfpp", 260, "complex64")}
# Singular for every practical purpose: whether rounding leaves a pivot of zero, and so an error, or
# one of 1e-20, and so a warning, depends on whether A or its transpose is factored.
ZERO_BY_ROUNDING = {("frank", 260, "float32")}


@like_scipy
@pytest.mark.parametrize("name", FINITE)
@pytest.mark.parametrize("n", [30, 260])
def test_the_outcome_is_scipys(name, n):
    """Where SciPy warns or raises we do, and nowhere else; where neither does, x is as accurate."""
    b = np.random.default_rng(1).standard_normal(n)
    for dtype in gallery.facts(name).dtypes:
        try:
            a = gallery.matrix(name, n, dtype)
        except ValueError:
            continue  # it overflows
        right = b.astype(a.real.dtype)
        with np.errstate(all="ignore"):
            want, x_scipy = outcome(scipy.linalg.solve, a, right)
        got, x = outcome(solve, a, right)
        if (name, n, dtype) in BETTER:
            assert want == "warns"
            assert not np.isfinite(x_scipy).all()
            want = "ok"
        if (name, n, dtype) in ZERO_BY_ROUNDING:
            assert want == "warns"
            assert got in ("warns", "LinAlgError")
            continue
        assert got == want, dtype
        if got == "ok":
            assert meets_the_test(a, x, right)


@like_scipy
@pytest.mark.parametrize("name", FINITE)
def test_the_forward_error_is_not_ten_times_scipys(name):
    """In single precision, where a double-precision answer is the truth."""
    n = 120
    for dtype, wide in [("float32", "float64"), ("complex64", "complex128")]:
        if dtype not in gallery.facts(name).dtypes:
            continue
        try:
            a = gallery.matrix(name, n, dtype)
        except ValueError:
            continue
        b = np.ones(n, dtype)
        with np.errstate(all="ignore"):
            want, x_scipy = outcome(scipy.linalg.solve, a, b)
        got, x = outcome(solve, a, b)
        if want == got == "ok":
            truth = solve(a.astype(wide), b.astype(wide))
            allowed = 10 * forward_error(x_scipy, truth) + np.sqrt(n) * roundoff(dtype)
            assert forward_error(x, truth) <= allowed, dtype


def graded(n):
    return np.logspace(0, -20, n)[:, None] * np.random.default_rng(0).standard_normal((n, n))


def nearly_singular(n):
    a = np.random.default_rng(0).standard_normal((n, n))
    a[-1] = a[0] + 2.0**-50 * a[1]
    return a


@pytest.mark.parametrize("n", [14, 40, 250])
@pytest.mark.parametrize(
    "make",
    [lambda n: gallery.matrix("hilbert", n), graded, lambda n: graded(n).T.copy(), nearly_singular],
    ids=["hilbert", "graded rows", "graded columns", "nearly singular"],
)
def test_ill_conditioned_warns(n, make):
    with pytest.warns(scipy.linalg.LinAlgWarning, match="ill-conditioned") as caught:
        x = solve(make(n), np.ones(n))
    assert len(caught) == 1
    assert isinstance(caught[0].message, LinAlgWarning)
    assert caught[0].filename == __file__
    assert np.isfinite(x).all()


# -- the promise ---------------------------------------------------------------------------------


def check_promise(a, b, precision, refine):
    n = len(a)
    got, answer = outcome(solve, a, b, precision=precision, refine=refine, full_output=True)
    assert got in ("ok", "warns", "LinAlgError"), (precision, refine)
    if got == "ok":
        x, report = answer
        assert meets_the_test(a, x, b), (precision, refine)
        assert report.status.is_success
        assert precision in ("auto", report.precision)
    elif got == "warns":
        # a warning is no excuse for a finite x that solves nothing like the system
        x, report = answer
        assert not report.status.is_success or report.precision != precision
    if got == "LinAlgError" or n < 2:
        assert not is_well_conditioned(a), (precision, refine)


def is_well_conditioned(a):
    with np.errstate(all="ignore"):
        return np.linalg.cond(a.astype(np.complex128)) < 1e3 and 1e-3 < np.abs(a).max() < 1e3


def usable(precision, dtype):
    return precision != "fp64" or roundoff(dtype) < 1e-10


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("name", FINITE)
def test_never_a_silent_failure(name, dtype):
    n = 30
    a = built(name, n, dtype)
    b = normal(np.random.default_rng(1), (n, 1), dtype)
    for precision, refine in [*itertools.product(PRECISIONS, METHODS[:2]), ("fp16", "gmres")]:
        if usable(precision, dtype):
            check_promise(a, b, precision, refine)


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 200])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FINITE)
def test_never_a_silent_failure_anywhere(name, dtype, n):
    a = built(name, n, dtype)
    b = normal(np.random.default_rng(2), (n, 2), dtype)
    for precision, refine in itertools.product(PRECISIONS, METHODS):
        if usable(precision, dtype):
            check_promise(a, b, precision, refine)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["randsvd", "hilbert", "spd_geometric", "minij", "gfpp"])
def test_without_fallback_nothing_climbs(name, precision):
    n = 60
    a, b = gallery.matrix(name, n), np.ones(n)
    for refine in METHODS:
        keywords = {"precision": precision, "refine": refine, "fallback": False}
        got, answer = outcome(solve, a, b, **keywords, full_output=True)
        if got == "LinAlgError":
            continue
        x, report = answer
        assert {rung.format for rung in report.rungs} == {report.precision}
        assert report.precision == precision or precision == "auto"
        assert meets_the_test(a, x, b) or got == "warns"


def test_without_fallback_failure_is_an_error():
    a = gallery.randsvd(60, 1e10)
    with pytest.raises(LinAlgError, match="fallback=False"):
        solve(a, np.ones(60), precision="fp16", fallback=False)


def test_a_pinned_precision_that_is_left_warns():
    a = gallery.randsvd(60, 1e10)
    with pytest.warns(LinAlgWarning, match="precision='fp16' could not deliver"):
        x, report = solve(a, np.ones(60), precision="fp16", full_output=True)
    assert report.precision != "fp16"
    assert report.rungs[0].format == "fp16"
    assert meets_the_test(a, x, np.ones(60))


@pytest.mark.parametrize("n", [40, 250])
def test_extended_residuals_give_a_forward_error_near_u(n):
    a = gallery.randsvd(n, 1e8, rng=3)
    x_true = np.random.default_rng(0).integers(-9, 10, n).astype(float)
    exact = np.round(a * 2.0**40) / 2.0**40  # so that b below is exact
    wide = exact.astype(np.longdouble)
    b = wide @ x_true.astype(np.longdouble)
    if not np.array_equal(b.astype(float).astype(np.longdouble), b):
        b = np.array([int(v * 2**40) for v in b], dtype=object) / 2**40
    b = b.astype(float)
    x = solve(exact, b, residual="extended")
    assert forward_error(x, x_true) <= 4 * roundoff(float)
    assert forward_error(solve(exact, b), x_true) <= 1e8 * n * roundoff(float)


def test_tol_stops_early():
    a, b = gallery.randsvd(60, 1e4), np.ones(60)
    loose = solve(a, b, precision="fp32", tol=1e-6, full_output=True)[1]
    tight = solve(a, b, precision="fp32", full_output=True)[1]
    assert loose.backward_error <= 1e-6
    assert loose.iterations < tight.iterations


def test_the_leading_parameters_are_scipys():
    import inspect

    ours = list(inspect.signature(solve).parameters.values())
    theirs = list(inspect.signature(scipy.linalg.solve).parameters.values())
    assert [p.name for p in ours[: len(theirs)]] == [p.name for p in theirs]
    assert [p.default for p in ours[: len(theirs)]][:6] == [p.default for p in theirs][:6]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


def test_errors_and_warnings_are_scipys():
    assert issubclass(mplinalg.LinAlgError, scipy.linalg.LinAlgError)
    assert issubclass(mplinalg.LinAlgWarning, scipy.linalg.LinAlgWarning)


@pytest.mark.parametrize("full_output", [False, True])
def test_without_fallback_and_nothing_pinned_any_rung_may_answer(full_output):
    a = gallery.randsvd(300, 1e10)
    found = solve(a, np.ones(300), fallback=False, full_output=full_output)
    assert meets_the_test(a, found[0] if full_output else found, np.ones(300))
