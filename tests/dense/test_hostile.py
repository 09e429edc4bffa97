"""What a hostile user found: each of these was answered wrongly once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mplinalg
from mplinalg import (
    LinAlgError,
    LinAlgWarning,
    Status,
    cho_factor,
    cho_solve,
    lstsq,
    lu_factor,
    lu_solve,
    qr,
    solve,
)
from mplinalg.dense.direct import is_certified
from mplinalg.factor.scaling import equilibrate
from mplinalg.ops import ops_for
from mplinalg.testing import backward_error, forward_error, gallery

U = np.finfo(float).eps / 2


def orthogonal(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


# -- singular, and not singular ------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 256])
def test_a_tiny_column_beside_a_huge_one(n):
    """Row scaling first makes the tiny column underflow; its entries are what decides."""
    a = np.eye(n) * 1e200
    a[0, :2], a[1, :2] = (1e200, 1e-200), (1e200, -1e-200)
    b = np.zeros(n)
    b[0] = 2.0
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        x = solve(a, b)
    np.testing.assert_allclose(x[:2], [1e-200, 1e200], rtol=1e-14)
    scaling = equilibrate(ops_for(a), a)
    scaled = scaling.rows[:, None] * (a * scaling.cols)
    assert np.all(np.abs(scaled).max(axis=0) > 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_singular_matrix_that_one_vector_cannot_see(seed):
    """The left null vector is orthogonal to one probe; the next right-hand side has another."""
    n = 300
    q = orthogonal(n, seed)
    z = np.random.default_rng(n).standard_normal(n)
    u = np.random.default_rng(seed + 50).standard_normal(n)
    u -= z * (u @ z) / (z @ z)
    u /= np.linalg.norm(u)
    a = q - np.outer(u, u @ q)
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        solve(a, a @ np.ones(n))


@pytest.mark.parametrize("n", [100, 300])
@pytest.mark.parametrize("order", ["C", "F"])
def test_grown_pivots_do_not_make_a_matrix_ill_conditioned(n, order):
    a = np.array(gallery.matrix("gfpp", n), order=order)
    x_true = np.random.default_rng(0).standard_normal(n)
    for b in (a @ np.ones(n), a @ x_true):
        x = solve(a, b)
        assert backward_error(a, x, b) <= np.sqrt(n) * U
        x = lu_solve(lu_factor(a), b)
        assert backward_error(a, x, b) <= np.sqrt(n) * U
    assert forward_error(x, x_true) <= 1e-12


# -- positive definite as asserted ---------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16", "fp16x2", "fp32"])
@pytest.mark.parametrize("least", [-0.01, -1e-6])
def test_an_indefinite_matrix_is_refused_in_every_precision(precision, least):
    q = orthogonal(300, 1)
    spectrum = np.linspace(1, 2, 300)
    spectrum[0] = least
    a = (q * spectrum) @ q.T
    a = (a + a.T) / 2
    with pytest.raises(LinAlgError, match="not positive definite"):
        solve(a, np.ones(300), assume_a="pos", precision=precision)
    with pytest.raises(LinAlgError, match="not positive definite"):
        cho_factor(a, precision=precision)


# -- extended residuals --------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
def test_extended_residuals_are_not_fooled_by_gmres(precision):
    """b is exact: x_true and A have so few bits that A x_true is a sum of exact products."""
    n = 256
    a = np.ldexp(np.rint(np.ldexp(gallery.randsvd(n, 1e13, "one_small"), 43)), -43)
    assert 1e11 < np.linalg.cond(a) < 1e15
    x_true = np.random.default_rng(2).choice([-1.0, 1.0], n)
    b = a @ x_true
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # a pinned precision may have to climb
        x, report = solve(a, b, precision=precision, residual="extended", full_output=True)
    assert report.status in (Status.CONVERGED, Status.DIRECT)
    assert forward_error(x, x_true) <= 4 * U


# -- certificates, statuses ----------------------------------------------------------------------


def test_no_column_slips_through_the_certificate_of_many():
    n, k = 100, 2000
    rng = np.random.default_rng(0)
    a, x = rng.standard_normal((n, n)), rng.standard_normal((n, k))
    b = np.asarray(a.astype(np.longdouble) @ x, dtype=float)
    assert is_certified(a, x, b, "general", False, "N")
    bound = np.sqrt(n) * U * (np.abs(a).sum(axis=1).max() * np.abs(x).max() + np.abs(b).max())
    b[3, 77] += 3 * bound
    assert not is_certified(a, x, b, "general", False, "N")


def test_an_unrefined_answer_is_not_called_converged():
    a = np.random.default_rng(0).standard_normal((300, 300)) + 30 * np.eye(300)
    _, report = solve(a, np.ones(300), precision="fp16", refine=None, full_output=True)
    assert report.status is Status.DIRECT
    assert report.backward_error > 1e-6


# -- certificates --------------------------------------------------------------------------------


def wilkinson(n):
    """Elimination with partial pivoting doubles its last column at every step."""
    w = np.eye(n) - np.tril(np.ones((n, n)), -1)
    w[:, -1] = 1
    return w


@pytest.mark.parametrize("assume_a", [None, "gen", "banded"])
@pytest.mark.parametrize("full_output", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, 6, 8, 14, 16, 40])
def test_columns_that_repeat_each_other_hide_no_error(rng, k, full_output, assume_a):
    """Signs that sum to zero let them cancel: 2e-2, and a report that called it a success."""
    n = 64
    w = wilkinson(n)
    b = np.repeat(rng.standard_normal((n, 1)), k, axis=1)
    x = solve(w, b, assume_a=assume_a, full_output=full_output)
    x = x[0] if full_output else x
    assert backward_error(w, x, b).max() <= np.sqrt(n) * U


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("step", [(slice(None, None, -1),) * 2, (slice(None, None, 2),) * 2])
def test_graded_columns_in_any_layout(rng, dtype, step):
    """The growth of the pivots was measured in layouts that the kernels do not read."""
    a = rng.standard_normal((62, 62)).astype(dtype)
    a[:, :2] *= 1e-20 if dtype != "float32" else 1e-9
    view = a[step]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        x = solve(view, np.ones(len(view), dtype))
        expected = solve(np.array(view), np.ones(len(view), dtype))
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_a_matrix_that_became_smaller_is_judged_by_its_norm_of_now(rng, trans, k):
    """The norm of the matrix that was factored let 4e-4 pass."""
    n = 50
    q = np.eye(n) + 0.01 * rng.standard_normal((n, n))
    a = q.copy()
    a[0] *= 1e14
    a = a.T.copy() if trans else a
    factors = lu_factor(a)
    b = np.ones((n, k))
    b[0] = 0
    rows = a.T if trans else a
    rows[0] = q[0]
    rows[1:] *= 1.001
    with pytest.raises(LinAlgError, match="modified"):
        lu_solve(factors, b, trans=trans)


def test_complex_diagonals_near_overflow():
    """A quotient of complex numbers overflows on the way. That |d| overflows gives a warning."""
    d = np.full(50, 1.2e308, complex)
    d[::2] *= 1 + 1j
    with pytest.warns(LinAlgWarning):
        x = solve(np.diag(d), np.full(50, 1e308, complex))
    expected = np.where(np.arange(50) % 2, 1 / 1.2, (1 - 1j) / 2.4)
    np.testing.assert_allclose(x, expected, rtol=1e-14)


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e-20), ("float64", 1e-290)])
@pytest.mark.parametrize("width", [1, 60])
@pytest.mark.parametrize("full_output", [False, True])
def test_substitution_that_underflows_is_seen(rng, dtype, scale, width, full_output):
    """Products of entries of A and x below the smallest normal number: 100 times the bound."""
    n = 60
    t = np.eye(n) + 0.1 * np.triu(np.tril(rng.standard_normal((n, n)), width), 1)
    t = (t * scale).astype(dtype)
    info = np.finfo(dtype)
    x_true = rng.standard_normal(n) * float(info.smallest_normal) / scale / 10
    b = (t.astype(np.longdouble) @ x_true.astype(np.longdouble)).astype(dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = solve(t, b, full_output=full_output)
    x = found[0] if full_output else found
    is_suspect = caught and not (full_output and found[1].status.is_success)
    assert backward_error(t, x, b) <= np.sqrt(n) * info.eps / 2 or is_suspect


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(
    "assumed", ["diagonal", "tridiagonal", "banded", "upper triangular", "lower triangular",
                "sym", "her", "pos", "gen", None]
)  # fmt: skip
@pytest.mark.parametrize("full_output", [False, True])
def test_an_x_that_underflows_to_zero_is_no_answer(dtype, assumed, full_output):
    """The certificate took a column of zeros to have the size 1."""
    n, info = 50, np.finfo(dtype)
    a = np.diag(np.full(n, float(info.max) / 1e8)).astype(dtype)
    b = np.full(n, float(info.smallest_normal) * 1e8, dtype)
    with pytest.warns(LinAlgWarning):
        solve(a, b, assume_a=assumed, full_output=full_output)


@pytest.mark.parametrize("assumed", ["diagonal", "upper triangular", "sym", "gen", None])
def test_a_right_hand_side_of_zeros_has_the_answer_zero(assumed):
    a = np.diag(np.full(50, 1e300))
    np.testing.assert_array_equal(solve(a, np.zeros(50), assume_a=assumed), np.zeros(50))


@pytest.mark.parametrize("assumed", ["gen", "pos", "sym", "banded", "upper triangular"])
@pytest.mark.parametrize("full_output", [False, True])
def test_condition_of_large_entries_in_single(rng, assumed, full_output):
    """Sums of entries leave the range of single precision, the entries and x do not."""
    n = 300
    q = rng.standard_normal((n, n)) / n**0.5
    a = 2 * np.eye(n) + (q + q.T) / 8
    if assumed == "upper triangular":
        a = np.triu(a)
    a = (a * 1.4e38).astype(np.float32)
    b = a.astype(float) @ np.ones(n) / 4
    assert abs(a.astype(float)).sum(axis=0).max() > np.finfo(np.float32).max
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = solve(a, b.astype(np.float32), assume_a=assumed, full_output=full_output)
    x = found[0] if full_output else found
    assert backward_error(a, x, b.astype(np.float32)) <= np.sqrt(n) * 2.0**-24


@pytest.mark.parametrize(("dtype", "small"), [("float64", 1e-15), ("float32", 1e-8)])
def test_r_has_the_signs_of_lapack_where_its_first_rows_are_small(rng, dtype, small):
    """The sign was read off a difference that rounding had made zero."""
    a = rng.standard_normal((3000, 200)).astype(dtype)
    a[:200] *= small
    r = mplinalg.qr(a, mode="r")[0]
    expected = np.linalg.qr(a, mode="r")
    assert np.array_equal(np.sign(r.diagonal()), np.sign(expected.diagonal()))


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_one_unknown_whose_modulus_overflows(dtype):
    large = np.finfo(dtype).max * 0.9
    x = solve(np.array([[2]], dtype), np.array([large * (1 + 1j)], dtype))
    np.testing.assert_allclose(x, [large / 2 * (1 + 1j)], rtol=1e-6)


@pytest.mark.parametrize("assume_a", ["pos", "sym", "her"])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("lower", [None, 0, "", 2, "yes"])
def test_lower_is_taken_for_its_truth(assume_a, order, lower):
    a = np.array([[4.0, 1], [2, 3]], order=order)
    expected = solve(a, np.ones(2), assume_a=assume_a, lower=bool(lower))
    assert np.array_equal(solve(a, np.ones(2), assume_a=assume_a, lower=lower), expected)


def test_factors_of_the_other_kind_are_refused(rng):
    a = np.array([[4.0, 1], [1, 3]])
    with pytest.raises(TypeError, match="takes factors of cho_factor; these are lu_factor's"):
        cho_solve(lu_factor(a), np.ones(2))
    with pytest.raises(TypeError, match="takes factors of lu_factor; these are cho_factor's"):
        lu_solve(cho_factor(a), np.ones(2))


@pytest.mark.filterwarnings("ignore::mplinalg.LinAlgWarning")
def test_rcond_of_a_batch_with_a_singular_member():
    rcond = lu_factor(np.stack([np.eye(3), np.zeros((3, 3)), np.diag([1, 1e-3, 1])])).rcond()
    np.testing.assert_allclose(rcond, [1, 0, 1e-3])


@pytest.mark.parametrize("n", [3, 600])
def test_numbers_that_double_precision_cannot_hold(n):
    a = np.eye(n, dtype=np.longdouble)
    a[0, 0] = np.longdouble(1e300) ** 2
    for function in (qr, lu_factor, lambda a: solve(a, np.ones(n)), lambda a: lstsq(a, np.ones(n))):
        with pytest.raises(ValueError, match="infs or NaNs"), np.errstate(over="ignore"):
            function(a)


@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-10])
def test_tol_holds_for_the_moduli_of_complex_numbers(tol, rng):
    """Also where errors are along the diagonals, in which |re| + |im| is 1.4 times as large."""
    worst = 0.0
    for _ in range(100):
        a = rng.standard_normal((20, 20)) + 1j * rng.standard_normal((20, 20))
        b = rng.standard_normal(20) + 1j * rng.standard_normal(20)
        worst = max(worst, backward_error(a, solve(a, b, precision="bf16", tol=tol), b))
    assert worst <= tol
