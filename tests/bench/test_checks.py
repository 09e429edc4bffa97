"""How an answer is judged before it is timed."""

import numpy as np
import pytest
import scipy.linalg

from mplinalg.bench import checks, row
from mplinalg.bench.problems import normal, positive_definite, with_condition
from mplinalg.bench.suite import Problem
from mplinalg.testing import backward_error


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("nrhs", [None, 1, 3, 40])
@pytest.mark.parametrize("n", [1, 2, 70])
def test_a_good_solution_passes_and_a_bad_one_does_not(rng, dtype, nrhs, n):
    a, b = normal(rng, (n, n), dtype), normal(rng, n if nrhs is None else (n, nrhs), dtype)
    error, bound = checks.solve_error(a, b), checks.bound(n, dtype)
    x = np.linalg.solve(a, b)
    assert error(x) <= bound
    for place in range(x.reshape(n, -1).shape[1]):  # also in a column that is checked plainly
        wrong = x.copy().reshape(n, -1)
        wrong[0, place] += np.abs(x).max() / 10
        assert not error(wrong.reshape(x.shape)) <= bound


def test_the_error_is_the_backward_error(rng):
    a, b = rng.standard_normal((50, 50)), rng.standard_normal((50, 3))
    x = np.linalg.solve(a, b) + 1e-10
    assert checks.solve_error(a, b)(x) == pytest.approx(np.max(backward_error(a, x, b)))


def test_what_is_no_answer(rng):
    a, b = rng.standard_normal((5, 5)), rng.standard_normal(5)
    error = checks.solve_error(a, b)
    assert np.isnan(error(np.full(5, np.nan)))
    assert np.isnan(error(np.zeros((5, 1))))
    assert np.isnan(error(np.zeros(4)))


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("nrhs", [1, 8, 40])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_wrong(rng, dtype, nrhs, bad):
    a, b = normal(rng, (20, 20), dtype), normal(rng, (20, nrhs), dtype)
    x, bound = np.linalg.solve(a, b), checks.bound(20, dtype)
    for place in range(nrhs):
        wrong = x.copy()
        wrong[rng.integers(20), place] = bad
        problem = Problem(
            ours=lambda x=wrong: x, peers={}, report=None, error=checks.solve_error(a, b),
            bound=bound, dtype=dtype, flops=None,
        )  # fmt: skip
        assert np.isnan(problem.error(wrong)), place
        assert row._judged(problem.ours, problem)["status"] == row.WRONG


def test_an_answer_whose_residual_overflows_is_wrong(rng):
    a, b = rng.standard_normal((20, 20)), rng.standard_normal((20, 8))
    x = np.linalg.solve(a, b)
    for place in range(8):
        wrong = x.copy()
        wrong[:, place] = 1e308
        with np.errstate(over="ignore", invalid="ignore"):
            assert not checks.solve_error(a, b)(wrong) <= checks.bound(20, "d")


def test_columns_of_zeros(rng):
    a, b = rng.standard_normal((20, 20)), np.zeros((20, 8))
    assert checks.solve_error(a, b)(np.zeros((20, 8))) == 0


def test_the_bound_by_hand():
    assert checks.bound(100, "d") == 30 * 2.0**-53
    assert checks.bound(10_000, "D") == 100 * 2.0**-53
    assert checks.bound(100, "f") == 30 * 2.0**-24


def exact_backward_error(a, b, x):
    """Higham, Accuracy and Stability (2002), theorem 20.5, with b weighted by theta."""
    theta = np.linalg.norm(a) / np.linalg.norm(b)
    r, size = b - a @ x, np.linalg.norm(x)
    mu = (theta * size) ** 2 / (1 + (theta * size) ** 2)
    ratio = np.linalg.norm(r) ** 2 / size**2 * mu
    shifted = a @ a.T - mu * np.outer(r, r) / size**2
    return np.sqrt(max(ratio + min(np.linalg.eigvalsh(shifted)[0], 0), 0)) / np.linalg.norm(a)


@pytest.mark.parametrize("cond", [1e1, 1e6])
@pytest.mark.parametrize("distance", [1e-3, 1e-6])
@pytest.mark.parametrize("residual", [1e-4, 1.0])
def test_the_backward_error_of_least_squares(rng, cond, distance, residual):
    a = with_condition(rng, 40, 8, cond, "float64")
    b = a @ rng.standard_normal(8) + residual * rng.standard_normal(40)
    x = scipy.linalg.lstsq(a, b)[0]
    x = x * (1 + distance * rng.standard_normal(8))
    exact, estimate = exact_backward_error(a, b, x), checks.least_squares_error(a, b)(x)
    if exact > 1e-9:  # below, the difference of squares has lost it
        assert exact / 3 <= estimate <= 3 * exact


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("cond", [1e1, 1e4])
def test_least_squares_of_lapack_pass(rng, dtype, cond):
    a, b = with_condition(rng, 120, 30, cond, dtype), normal(rng, 120, dtype)
    error = checks.least_squares_error(a, b)
    x = scipy.linalg.lstsq(a, b, lapack_driver="gelsy")[0]
    assert error(x) <= checks.bound(120, dtype)
    away = rng.standard_normal(30) * np.abs(x).max() / 100
    assert not error(x + away) <= checks.bound(120, dtype)
    assert np.isnan(error(x[:-1]))
    assert np.isnan(error(np.full(30, np.inf)))


def test_normal_equations_do_not_pass(rng):
    """An error that is small beside the condition number is found all the same."""
    a, b = with_condition(rng, 120, 30, 1e6, "float64"), rng.standard_normal(120)
    x = np.linalg.solve(a.T @ a, a.T @ b)
    assert not checks.least_squares_error(a, b)(x) <= checks.bound(120, "float64")


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (60, 20), (30, 30)])
def test_qr(rng, dtype, shape):
    a = normal(rng, shape, dtype)
    error, bound = checks.qr_error(a), checks.bound(shape[0], dtype)
    q, r = scipy.linalg.qr(a, mode="economic")
    assert error((q, r)) <= bound
    assert not error((q * np.array(1.001, q.real.dtype), r)) <= bound
    assert not error((q, r * np.array(1.001, q.real.dtype))) <= bound
    if shape[1] > 1:
        turned = np.linalg.qr(normal(rng, (shape[1], shape[1]), dtype))[0]
        assert np.isnan(error((q @ turned, turned.conj().T @ r)))  # A = Q R, but R is full


def test_the_error_of_qr_by_hand():
    a = np.eye(3, 2)  # norm 1
    error = checks.qr_error(a)
    assert error((a, np.eye(2))) == 0
    # A - Q R = diag(0, -1), of norm 1, over n = 2; I - Q^T Q = diag(0, -3), over m = 3
    assert error((a * [1, 2], np.eye(2))) == 1
    # A - Q R = diag(0, -4), over n = 2
    assert error((a, np.diag([1.0, 5.0]))) == 2
    for bad in (np.nan, np.inf):
        assert np.isnan(error((a, np.array([[1, bad], [0, 1]]))))
        assert np.isnan(error((np.diag([1, bad, 0])[:, :2], np.eye(2))))


def test_drawn_matrices(rng):
    assert np.linalg.cond(with_condition(rng, 60, 20, 1e5, "complex128")) == pytest.approx(1e5)
    a = positive_definite(rng, 50, "complex128")
    assert np.array_equal(a, a.conj().T)
    assert np.linalg.eigvalsh(a)[0] > 0.009
    assert np.linalg.cond(a) < 1e3
