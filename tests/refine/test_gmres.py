"""Corrections by preconditioned GMRES: exact in n steps, column by column independent."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.ops import ops_for
from mplinalg.refine.gmres import Gmres

OPS = ops_for()
U = 2.0**-53


def columnwise(m):
    """z -> M z, each column by itself: the bits of a column do not depend on its neighbours."""
    return lambda z: np.asfortranarray(np.column_stack([m @ z[:, j] for j in range(z.shape[1])]))


def gmres(a, preconditioner=None, **keywords):
    inverse = np.eye(len(a)) if preconditioner is None else preconditioner
    return Gmres(OPS, columnwise(a), columnwise(inverse), **keywords)


def draw(rng, shape, is_complex):
    a = rng.standard_normal(shape)
    return a + 1j * rng.standard_normal(shape) if is_complex else a


def reduction(a, d, r, m=None):
    """||M^-1 (r - A d)|| / ||M^-1 r||, column by column."""
    m = np.eye(len(a)) if m is None else m
    return np.linalg.norm(m @ (r - a @ d), axis=0) / np.linalg.norm(m @ r, axis=0)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("n", [1, 2, 13, 30])
def test_exact_in_n_steps(n, is_complex, rng):
    a = draw(rng, (n, n), is_complex) + 3 * np.sqrt(n) * np.eye(n)
    r = np.asfortranarray(draw(rng, (n, 1), is_complex))
    solver = gmres(a, tol=1e-13, restart=30, max_restarts=0)
    d = solver(r)
    assert d.dtype == r.dtype
    assert d.shape == r.shape
    assert solver.iterations <= n
    assert np.all(reduction(a, d, r) <= 2e-13)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("tol", [1e-1, 1e-4, 1e-10])
def test_stops_at_the_tolerance(tol, is_complex, rng):
    n = 60
    a = np.eye(n) + 0.3 * draw(rng, (n, n), is_complex) / np.sqrt(n)
    r = np.asfortranarray(draw(rng, (n, 3), is_complex))
    solver = gmres(a, tol=tol)
    error = reduction(a, solver(r), r)
    assert np.all(error <= tol * (1 + 1e-6))
    # no more steps than that takes: one fewer would not have done
    fewer = gmres(a, tol=1e-300, restart=solver.iterations - 1, max_restarts=0)
    if solver.iterations > 1:
        assert np.any(reduction(a, fewer(r), r) > tol)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_left_preconditioned(is_complex, rng):
    """With M = A the answer is there after one step, however ill-conditioned A is."""
    n = 40
    a = draw(rng, (n, n), is_complex) * np.geomspace(1, 1e8, n)[:, None]
    m = np.linalg.inv(a)
    r = np.asfortranarray(draw(rng, (n, 2), is_complex))
    solver = gmres(a, m)
    d = solver(r)
    assert solver.iterations <= 2
    assert np.all(reduction(a, d, r, m) <= 1e-4)


def test_a_low_rank_error_of_the_factors_costs_one_step_each(rng):
    """M^-1 A = I + rank k: k + 1 steps."""
    n, k = 80, 3
    a = np.eye(n) + 10 * rng.standard_normal((n, k)) @ rng.standard_normal((k, n)) / n
    solver = gmres(a, tol=1e-12)
    r = rng.standard_normal((n, 1))
    assert np.all(reduction(a, solver(r), r) <= 1e-11)
    assert solver.iterations <= k + 1


# -- many right-hand sides -----------------------------------------------------------------------


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("columns_at_once", [1, 3, 8])
def test_together_as_one_by_one(columns_at_once, is_complex, rng):
    """Right-hand sides of every difficulty: those that end early are frozen, none is changed."""
    n = 20
    values = np.repeat([1.0, 2.0, 5.0, -3.0], 5) + (0.5j if is_complex else 0)
    q, _ = np.linalg.qr(draw(rng, (n, n), is_complex))
    a = (q * values) @ q.conj().T
    easy = q[:, 0] + q[:, 1]  # one eigenvalue: one step
    two = q[:, 0] + q[:, 7]
    hard = q.sum(axis=1)
    zero = 0 * easy
    r = np.column_stack([hard, easy, zero, two, hard, easy, two, hard, hard * 1e-200, zero, easy])
    r = np.asfortranarray(r)
    together = gmres(a, tol=1e-10, columns_at_once=columns_at_once)(r)
    for j in range(r.shape[1]):
        alone = gmres(a, tol=1e-10)(np.asfortranarray(r[:, [j]]))
        np.testing.assert_array_equal(together[:, [j]], alone)


def test_frozen_columns_are_not_multiplied(rng):
    n = 30
    a = np.diag(np.linspace(1, 2, n))
    widths = []

    def product(z):
        widths.append(z.shape[1])
        return np.asfortranarray(a @ z)

    r = np.asfortranarray(np.column_stack([np.eye(n)[0], np.ones(n), np.eye(n)[3]]))
    solver = Gmres(OPS, product, lambda z: z.copy(order="F"), tol=1e-8)
    solver(r)
    assert widths[0] == 3
    assert set(widths[1:]) == {1}


def test_iterations_are_summed_over_calls(rng):
    n = 20
    a = np.eye(n) + 0.2 * rng.standard_normal((n, n)) / np.sqrt(n)
    solver = gmres(a)
    solver(rng.standard_normal((n, 1)))
    first = solver.iterations
    assert first > 0
    solver(rng.standard_normal((n, 1)))
    assert solver.iterations > first


def test_the_right_hand_side_is_left_alone(rng):
    r = np.asfortranarray(rng.standard_normal((9, 2)))
    before = r.copy()
    gmres(np.diag(np.linspace(1, 3, 9)))(r)
    np.testing.assert_array_equal(r, before)


# -- scale ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("power", [-830, -500, 500, 900])
def test_scale_is_only_a_scale(power, is_complex, rng):
    """A residual of 1e-250: norms, squares and reductions neither underflow nor overflow."""
    n = 25
    a = np.eye(n) + 0.3 * draw(rng, (n, n), is_complex) / np.sqrt(n)
    r = np.asfortranarray(draw(rng, (n, 2), is_complex))
    scaled = np.asfortranarray(np.ldexp(1.0, power) * r)
    np.testing.assert_array_equal(gmres(a)(scaled), np.ldexp(1.0, power) * gmres(a)(r))


def test_zero_right_hand_side(rng):
    solver = gmres(rng.standard_normal((7, 7)))
    assert not solver(np.zeros((7, 2), order="F")).any()
    assert solver.iterations == 0
    assert solver(np.zeros((7, 0), order="F")).shape == (7, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_column_that_is_not_finite_does_not_spoil_the_rest(bad, rng):
    n = 12
    a = np.eye(n) + 0.2 * rng.standard_normal((n, n))
    r = np.asfortranarray(rng.standard_normal((n, 3)))
    clean = gmres(a)(r)
    r[0, 1] = bad
    with np.errstate(invalid="ignore"):
        d = gmres(a)(r)
    np.testing.assert_array_equal(d[:, [0, 2]], clean[:, [0, 2]])


# -- restarts and breakdowns ---------------------------------------------------------------------


def test_restarts_go_on_to_the_tolerance(rng):
    n = 60
    a = np.eye(n) + 0.3 * rng.standard_normal((n, n)) / np.sqrt(n)
    r = rng.standard_normal((n, 2))
    solver = gmres(a, tol=1e-8, restart=4, max_restarts=20)
    assert np.all(reduction(a, solver(r), r) <= 1e-8 * (1 + 1e-6))
    assert solver.iterations > 4
    once = gmres(a, tol=1e-8, restart=4, max_restarts=0)
    once(r)
    assert once.iterations == 4


def test_tells_how_far_it_came(rng):
    """Of every column of the last call, also of those that are taken by turns."""
    n = 40
    a = np.eye(n) + 0.3 * rng.standard_normal((n, n)) / np.sqrt(n)
    r = rng.standard_normal((n, 5))
    r[:, 1] = 0
    for keywords in ({"tol": 1e-6}, {"tol": 1e-12, "restart": 3, "max_restarts": 0}):
        solver = gmres(a, columns_at_once=2, **keywords)
        solver(rng.standard_normal((n, 2)))
        d = solver(r)
        assert solver.reductions[1] == 0
        others = [0, 2, 3, 4]
        reached = reduction(a, d[:, others], r[:, others])
        np.testing.assert_allclose(np.array(solver.reductions)[others], reached, rtol=1e-3)


def test_restarts_end_when_a_cycle_gains_little():
    """A cyclic shift: GMRES gains nothing before step n, and nothing ever with restarts."""
    n = 40
    a = np.roll(np.eye(n), 1, axis=0)
    solver = gmres(a, restart=10, max_restarts=5)
    d = solver(np.asfortranarray(np.eye(n)[:, :1]))
    assert solver.iterations == 10
    assert np.isfinite(d).all()


def test_happy_breakdown():
    """A residual with two eigenvectors ends in two steps, and divides by no zero."""
    a = np.diag([1.0, 2.0, 2.0, 1.0])
    r = np.ones((4, 1), order="F")
    solver = gmres(a, tol=0.0)
    np.testing.assert_allclose(solver(r), r / np.diagonal(a)[:, None], rtol=8 * U)
    assert solver.iterations <= 4


def test_identity():
    solver = gmres(np.eye(5))
    r = np.arange(1.0, 6.0).reshape(5, 1)
    np.testing.assert_allclose(solver(r), r, rtol=4 * U)
    assert solver.iterations == 1


def test_a_singular_operator_gives_something_finite():
    a = np.zeros((4, 4))
    a[0, 1] = 1.0
    d = gmres(a)(np.asfortranarray(np.eye(4)[:, :2]))
    assert np.isfinite(d).all()


def test_preconditioner_that_breaks_down_is_not_hidden(rng):
    """NaN from M^-1: either no correction or NaN, never a plausible number."""
    solver = Gmres(OPS, lambda z: z.copy(order="F"), lambda z: np.full_like(z, np.nan))
    d = solver(rng.standard_normal((5, 1)))
    assert np.isnan(d).all() or not d.any()


def test_workspace():
    assert gmres(np.eye(2), restart=30).workspace_bytes(100, 3, 8) == 3 * 31 * 100 * 8
    assert gmres(np.eye(2), restart=30).workspace_bytes(100, 99, 8) == 8 * 31 * 100 * 8
