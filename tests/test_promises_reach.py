"""What `solve` promises: extended residuals, any scale and growth, what each format reaches."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, LinAlgWarning, solve
from mplinalg.testing import backward_error, forward_error, gallery

from .oracle import N, U, answered, exact_solution, right_hand_side

# -- extended residuals --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["one_large", "one_small", "geometric", "arithmetic"])
@pytest.mark.parametrize("cond", [1e3, 1e6, 1e9, 1e12, 1e14])
def test_extended_residuals_give_x_to_the_last_digit(cond, mode):
    a = gallery.randsvd(N, cond, mode)
    b = right_hand_side(a)
    exact = exact_solution(a, b)
    x, report = solve(a, b, residual="extended", full_output=True)
    assert forward_error(x, exact) <= 2 * U
    assert forward_error(x, exact) <= report.forward_error_bound
    if cond >= 1e6:  # where plain refinement loses digits
        assert forward_error(solve(a, b), exact) >= 30 * U


@pytest.mark.parametrize("n", [3, 6, 9])
def test_extended_residuals_on_hilberts_matrix(n):
    a = gallery.matrix("hilbert", n)
    b = np.random.default_rng(0).standard_normal(n)
    assert forward_error(solve(a, b, residual="extended"), exact_solution(a, b)) <= 2 * U


def test_extended_residuals_in_complex():
    a = gallery.randsvd(N, 1e10, "geometric", complex)
    b = right_hand_side(a)
    x = solve(a, b, residual="extended")
    assert forward_error(x, exact_solution(a, b)) <= 2 * math.sqrt(2) * U


# -- scale ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp16x2"])
@pytest.mark.parametrize("power", [-200, -60, -3, 40, 200])
def test_scale_of_the_matrix_is_only_a_scale(power, precision):
    """c A x = b for c a power of two: the digits of x do not change."""
    a = gallery.randsvd(N, 1e2, "geometric")
    b = right_hand_side(a)
    x = solve(a, b, precision=precision)
    scaled = np.ldexp(solve(np.ldexp(a, power), b, precision=precision), power)
    assert forward_error(scaled, x) <= 1e4 * U  # kappa_1 u: below fp16's range A is equilibrated
    assert backward_error(a, scaled, b) <= 2 * U


@pytest.mark.parametrize("precision", ["auto", "fp16"])
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_scale_of_the_right_hand_side_is_only_a_scale(scale, precision):
    a = gallery.randsvd(N, 1e2, "geometric")
    b = right_hand_side(a)
    scaled = solve(a, b * scale, precision=precision)
    np.testing.assert_allclose(scaled / scale, solve(a, b, precision=precision), rtol=1e-10)


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
@pytest.mark.parametrize("decades", [3, 10])
@pytest.mark.parametrize("what", ["rows", "columns", "both"])
def test_rows_and_columns_of_any_size(what, decades, precision, rng):
    """D A C y = D b has the solution C^-1 x; judged in the norm in which x is well determined."""
    a = gallery.randsvd(N, 1e2, "geometric")
    x_true = rng.standard_normal(N)
    grades = 10.0 ** rng.integers(-decades, decades + 1, (2, N))
    d = grades[0] if what != "columns" else np.ones(N)
    c = grades[1] if what != "rows" else np.ones(N)
    scaled = d[:, None] * a * c
    b = scaled @ (x_true / c)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # kappa of the scaled matrix is enormous
        y, report = solve(scaled, b, precision=precision, full_output=True)
    assert report.componentwise_error <= 10 * math.sqrt(N) * U
    assert forward_error(y * c, exact_solution(scaled, b) * c) <= 1e5 * U
    if what == "rows":
        assert report.precision == ("fp32" if precision == "auto" else precision)


# -- growth --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("n", [60, 100, 300])
def test_wilkinsons_matrix_is_solved_where_scipy_is_silently_wrong(n, dtype):
    a = gallery.matrix("gfpp", n, dtype)
    b = right_hand_side(a)
    exact = exact_solution(a, b)
    scipys, _ = answered(scipy.linalg.solve, a, b, exact)
    assert not scipys.warned
    assert scipys.forward >= 1e-6
    ours, report = answered(lambda a, b: solve(a, b, full_output=True), a, b, exact)
    assert not ours.warned
    assert report.status.is_success
    assert ours.forward <= 100 * U
    assert ours.backward <= 4 * U


@pytest.mark.parametrize("precision", ["fp16", "fp32", "fp64"])
def test_wilkinsons_matrix_in_any_precision(precision):
    a = gallery.matrix("gfpp", 100)
    b = right_hand_side(a)
    ours, _ = answered(lambda a, b: solve(a, b, precision=precision), a, b, exact_solution(a, b))
    assert ours.forward <= 100 * U


# -- what each format reaches --------------------------------------------------------------------


REACH = [
    ("fp16", "classical", 1e3, "geometric"),
    ("fp16", "gmres", 1e4, "geometric"),
    ("fp16", "gmres", 1e5, "one_small"),
    ("fp16", "gmres", 1e8, "one_small"),
    ("fp16", "gmres", 1e5, "arithmetic"),
    ("fp16x2", "classical", 1e6, "geometric"),
    ("fp32", "classical", 1e6, "geometric"),
    ("fp32", "gmres", 1e8, "geometric"),
    ("fp16x2", "gmres", 1e8, "arithmetic"),
    ("fp32", "gmres", 1e10, "one_small"),
]


@pytest.mark.parametrize("refine", ["pinned", "auto"])
@pytest.mark.parametrize(("precision", "method", "cond", "mode"), REACH)
def test_a_format_reaches(precision, method, cond, mode, refine):
    """On its own rung, without warning and without climbing; "auto" finds a method itself."""
    a = gallery.randsvd(N, cond, mode)
    b = right_hand_side(a)
    keywords = {"refine": method} if refine == "pinned" else {}
    x, report = solve(a, b, precision=precision, fallback=False, full_output=True, **keywords)
    assert backward_error(a, x, b) <= 4 * U
    assert {step.format for step in report.rungs} == {precision}
    if method == "classical":
        assert report.inner_iterations == 0


@pytest.mark.parametrize(
    ("precision", "cond"), [("fp16", 1e6), ("fp16x2", 1e9), ("fp32", 1e9), ("bf16", 1e5)]
)
def test_classical_refinement_beyond_its_reach_fails_at_once(precision, cond):
    a = gallery.randsvd(N, cond, "geometric")
    b = right_hand_side(a)
    with pytest.raises(LinAlgError, match=precision):
        solve(a, b, precision=precision, refine="classical", fallback=False)
    with pytest.warns(LinAlgWarning, match=precision):
        x, report = solve(a, b, precision=precision, refine="classical", full_output=True)
    assert backward_error(a, x, b) <= 4 * U
    assert report.precision != precision
    assert report.iterations <= 4 + 15


@pytest.mark.parametrize(
    ("cond", "precision"),
    [
        (1e8, "fp16"),
        (1e8, "bf16"),
        *((1e11, f) for f in ("fp16", "bf16", "fp32")),
    ],
)
def test_low_precision_factors_do_not_vouch_for_themselves(cond, precision):
    """GMRES answers where kappa u_f is far above one; the factors look as if kappa were 1 / u_f."""
    a = gallery.randsvd(N, cond, "one_small")
    b = right_hand_side(a)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        x, report = solve(a, b, precision=precision, full_output=True)
    if report.rcond is None:  # what they cannot tell they leave open
        assert report.inner_iterations > 0
        assert report.forward_error_bound is None
    else:
        assert forward_error(x, exact_solution(a, b)) <= report.forward_error_bound
        assert 0.1 <= report.rcond * np.linalg.cond(a, 1) <= 10


# -- many right-hand sides -----------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
@pytest.mark.parametrize("dtype", [float, complex])
def test_right_hand_sides_of_every_difficulty(dtype, precision):
    """Along the largest and the smallest singular vector, tiny, huge, zero: all converge."""
    a = gallery.randsvd(N, 1e3, "geometric", dtype)
    _, _, vh = np.linalg.svd(a)
    rng = np.random.default_rng(3)
    plain = rng.standard_normal((N, 2)).astype(dtype)
    x_true = np.column_stack(
        [vh[0].conj(), vh[-1].conj(), plain, plain[:, 0] * 1e-250, plain[:, 1] * 1e250]
    )
    b = np.column_stack([a @ x_true, np.zeros(N), a[:, 0]])
    x, report = solve(a, b, precision=precision, full_output=True)
    assert report.status.is_success
    assert report.backward_error.shape == (8,)
    assert np.all(backward_error(a, x, b) <= 4 * U)
    for j in range(6):
        exact = exact_solution(a, b[:, j])
        assert forward_error(x[:, j], exact) <= min(1e-11, report.forward_error_bound[j])
    assert not x[:, 6].any()
    np.testing.assert_allclose(x[:, 7], np.eye(N)[0], atol=1e-11)
