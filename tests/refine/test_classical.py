"""The refinement loop, on systems whose contraction is known column by column.

A = I and `correct` multiplies row i of the residual by 1 - rho_i: the error of a right-hand side
along e_i contracts by rho_i at every step. So the course of every column can be foretold.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mplinalg.factor.lu import lu
from mplinalg.ops import ops_for
from mplinalg.precision import FP32
from mplinalg.refine.classical import Refinement
from mplinalg.refine.criterion import Criterion, Verdict
from mplinalg.testing import gallery

given = pytest.importorskip("hypothesis").given
st = pytest.importorskip("hypothesis.strategies")

OPS = ops_for()
U = 2.0**-53
FEW = 4
"""Steps within which a hopeless column is given up."""


class Contracting:
    """x = b, refined with contraction rho_j in column j; remembers what it was asked."""

    def __init__(self, rhos, norm_a=1.0, tol=None, **keywords):
        self.rhos = np.asarray(rhos, float)
        k = self.rhos.size
        self.b = np.asfortranarray(np.diag(np.linspace(1.0, 2.0, k)))
        self.asked = []
        self.loop = Refinement(
            OPS, self.residual, self.correct, Criterion(OPS, k, norm_a, U, tol=tol), **keywords
        )

    def residual(self, x, columns):
        self.asked.append(list(columns))
        b = self.b[:, columns]
        return np.asfortranarray(b - x), np.abs(x) + np.abs(b)

    def correct(self, r):
        return (1 - self.rhos)[:, None] * r

    @np.errstate(over="ignore", invalid="ignore")
    def run(self, x=None):
        x = self.correct(self.b) if x is None else x
        return self.loop.run(np.asfortranarray(x), self.b)


def verdicts(state):
    return [Verdict(int(v)) for v in state.verdict]


# -- init, step, done ----------------------------------------------------------------------------


def test_columns_freeze_one_by_one_and_keep_their_bits():
    problem = Contracting([0.0, 1e-9, 1e-4, 1e-2, 0.1])
    loop = problem.loop
    state = loop.init(problem.correct(problem.b), problem.b)
    assert verdicts(state)[0] is Verdict.CONVERGED
    frozen, ends = {}, {}
    while not loop.done(state):
        loop.step(state)
        for j, verdict in enumerate(state.verdict):
            if verdict != Verdict.ACTIVE and j not in frozen:
                frozen[j], ends[j] = state.x[:, j].tobytes(), state.iterations
            if j in frozen:
                assert state.x[:, j].tobytes() == frozen[j]
    assert state.converged
    assert [ends[j] for j in range(5)] == sorted(ends.values())
    assert len(set(ends.values())) >= 4
    # a column that is frozen is not computed with either
    assert problem.asked[0] == [0, 1, 2, 3, 4]
    assert problem.asked[-1] == [4]
    assert all(set(later) <= set(one) for one, later in itertools.pairwise(problem.asked))


def test_together_is_as_alone():
    rhos = [1e-9, 0.2, 0.9, 1e-2, 3.0, 0.0]
    together = Contracting(rhos)
    state = together.run()
    for j in range(len(rhos)):
        b = np.asfortranarray(together.b[:, [j]])
        loop = Refinement(
            OPS,
            lambda x, _, b=b: (b - x, np.abs(x) + np.abs(b)),
            together.correct,
            together.loop.criterion,
        )
        alone = loop.run(together.correct(b), b)
        assert alone.x.tobytes() == state.x[:, j].tobytes()
        assert alone.verdict[0] == state.verdict[j]


def test_an_exact_start_takes_no_step():
    problem = Contracting([0.5, 0.9])
    state = problem.run(problem.b.copy())
    assert (state.iterations, state.converged) == (0, True)


def test_zero_right_hand_side():
    problem = Contracting([0.1, 0.1])
    problem.b[:] = 0
    state = problem.run(np.zeros((2, 2)))
    assert (state.iterations, state.converged) == (0, True)


def test_no_columns():
    problem = Contracting([])
    assert problem.run(np.zeros((0, 0))).converged


@pytest.mark.parametrize("max_iter", [0, 1, 5])
def test_max_iter(max_iter):
    problem = Contracting([0.1, 0.1], max_iter=max_iter, is_last=True)
    state = problem.run()
    assert state.iterations == max_iter
    assert verdicts(state) == [Verdict.STAGNATED] * 2
    assert len(state.history) == max_iter + 1


def test_history_is_the_error_of_every_step():
    state = Contracting([1e-3]).run()
    errors = [h[0] for h in state.history]
    assert len(errors) == state.iterations + 1
    for one, other in itertools.pairwise(errors):
        assert other == pytest.approx(1e-3 * one, rel=0.01, abs=2 * U)


def test_own_tolerance_stops_at_once():
    state = Contracting([0.1], tol=1e-5).run()
    assert state.iterations <= 5
    assert state.converged
    assert 1e-7 <= state.errors.omega[0] <= 1e-5
    # on any rung: what the caller calls enough is no reason to climb
    assert Contracting([0.1], tol=1e-5, is_last=True).run().iterations == state.iterations


# -- hopeless columns ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("rho", [0.55, 0.7, 0.9, 0.99, 1.0, 1.5, 2.0, 10.0, 1e200])
def test_hopeless_columns_are_given_up_within_a_few_steps(rho, is_last):
    problem = Contracting([rho], is_last=is_last)
    state = problem.run(np.zeros((1, 1)))
    assert verdicts(state)[0] in (Verdict.SLOW, Verdict.STAGNATED, Verdict.DIVERGED)
    assert state.iterations <= FEW
    assert np.isfinite(state.x).all()
    # and x is not much worse than it was
    assert state.errors.omega[0] <= 2.0


@pytest.mark.parametrize("rho", [0.4, 0.5])
def test_too_slow_to_end_in_time_is_given_up_at_once(rho):
    """log u / log rho is above 30: nothing is gained by waiting, unless nothing follows."""
    state = Contracting([rho]).run()
    assert verdicts(state) == [Verdict.SLOW]
    assert state.iterations <= 2


def test_a_poor_start_is_no_sign_of_slowness():
    """A correction 1e6 times x: hopeless if both are from the same solves, else only a poor x."""
    start = np.full((1, 1), 1e-6)
    assert verdicts(Contracting([1e-4]).run(start.copy())) == [Verdict.SLOW]
    told = Contracting([1e-4], foretold=lambda: [1e-4])
    assert told.run(start.copy()).converged
    warned = Contracting([1e-4], foretold=lambda: [0.9])
    assert verdicts(warned.run(start.copy())) == [Verdict.SLOW]
    assert warned.run(start.copy()).iterations == 1


@pytest.mark.parametrize("rho", [1e-6, 1e-3, 0.1, 0.25])
def test_progress_is_not_given_up(rho):
    state = Contracting([rho]).run()
    assert state.converged
    assert state.iterations <= 30
    assert state.errors.berr[0] <= 2 * U


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=4), st.booleans())
def test_any_contraction(rhos, is_last):
    problem = Contracting(rhos, is_last=is_last)
    state = problem.run()
    assert state.iterations <= 30
    for j, verdict in enumerate(verdicts(state)):
        error = np.abs(state.x[:, j] - problem.b[:, j]).max() / problem.b[j, j]
        assert verdict is not Verdict.ACTIVE
        assert np.isfinite(error)
        if verdict is Verdict.CONVERGED:
            assert error <= 10 * U * np.sqrt(len(rhos))
        if rhos[j] <= 0.2:
            assert verdict is Verdict.CONVERGED
    if min(rhos) > 0.55:
        assert state.iterations <= FEW


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_correction_that_is_not_finite_diverges_and_x_is_kept(bad):
    """And the other column goes on."""
    problem = Contracting([0.1, 0.1])
    plain = problem.correct

    def correct(r):
        d = plain(r)
        if r.shape[1] == 2:
            d[:, -1] = bad
        return d

    problem.loop.correct = correct
    start = plain(problem.b)
    state = problem.run(start.copy())
    assert verdicts(state) == [Verdict.CONVERGED, Verdict.DIVERGED]
    assert state.x[:, 1].tobytes() == start[:, 1].tobytes()
    assert not state.converged


def test_a_start_that_is_not_finite_diverges_at_once():
    problem = Contracting([0.1, 0.1])
    x = problem.correct(problem.b)
    x[0, 0] = np.nan
    state = problem.run(x)
    assert verdicts(state) == [Verdict.DIVERGED, Verdict.CONVERGED]
    assert all(0 not in columns for columns in problem.asked[1:])


def test_an_answer_that_is_good_is_not_spoilt():
    """A wild correction after omega is met is not taken: x stays, and counts as converged."""
    problem = Contracting([0.0])
    x = problem.b * (1 + 4 * U)  # berr = 2 u, a little above: one step is tried
    problem.loop.correct = lambda r: 1e3 * np.ones_like(r)
    state = problem.run(x.copy())
    assert state.iterations <= FEW
    assert state.x.tobytes() == x.tobytes()


def test_small_rows_are_refined_beyond_lapacks_test():
    """omega is met from the start, and the answer still far off: badly scaled rows."""
    b = np.array([[1.0], [1e-18]])
    loop = Refinement(
        OPS,
        lambda x, _: (b - x, np.abs(x) + np.abs(b)),
        lambda r: 0.99 * r,
        Criterion(OPS, 2, 1.0, U),
    )
    start = np.array([[1.0], [0.5e-18]])
    assert loop.criterion.is_met(loop.init(start.copy(), b).errors)[0]
    state = loop.run(start.copy(), b)
    assert state.converged
    np.testing.assert_allclose(state.x, b, rtol=4 * U)


# -- real factors --------------------------------------------------------------------------------


def fp32_refinement(a, b, extended):
    norm = OPS.lange("I", a)
    factors = lu(OPS, np.asfortranarray(a, dtype=np.float32), FP32)

    def residual(x, columns):
        return OPS.residual(a, x, np.asfortranarray(b[:, columns]), extended=extended)

    loop = Refinement(
        OPS, residual, factors.solve, Criterion(OPS, len(a), norm, U), extended=extended
    )
    return loop.run(factors.solve(b), b)


def test_extended_residuals_give_every_digit(rng):
    """Forward error near u at kappa 1e6, where plain refinement leaves near kappa u."""
    n = 100
    a = np.asfortranarray(np.rint(2.0**26 * gallery.randsvd(n, 1e5, "geometric")))
    x_true = np.asfortranarray(rng.integers(-(2**20), 2**20, (n, 2)).astype(float))
    b = a @ x_true  # integers below 2^53: exact
    extended, plain = (fp32_refinement(a, b, flag) for flag in (True, False))
    assert extended.converged
    assert plain.converged
    size = np.abs(x_true).max()
    assert np.abs(extended.x - x_true).max() <= 2 * U * size
    assert np.abs(plain.x - x_true).max() >= 20 * U * size
    assert extended.iterations <= 10
