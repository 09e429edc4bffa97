"""The climb: which rungs are tried, by which method, why they end, and which x is kept."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from mplinalg.factor.lu import lu
from mplinalg.ops import ops_for
from mplinalg.ops.protocol import Counters
from mplinalg.precision import FP16, FP32, FP64
from mplinalg.refine.ladder import Ladder, Rung, gmres_seconds
from mplinalg.refine.system import LinearSystem
from mplinalg.testing import backward_error, gallery

OPS = ops_for()
U = 2.0**-53
RUNGS = [Rung(FP16, "LU"), Rung(FP32, "LU"), Rung(FP64, "LU")]
FEW = 4
"""Steps within which a hopeless rung is left."""


class Counting:
    """Factors that count the vectors they are applied to."""

    def __init__(self, factors):
        self._factors = factors
        self.solved = 0

    def __getattr__(self, name):
        return getattr(self._factors, name)

    def solve(self, b, trans="N", *, upcast=False):
        self.solved += b.shape[1]
        return self._factors.solve(b, trans, upcast=upcast)


class Mistaken:
    """Factors of I whose solves are wrong by a factor 1 - rho; or that broke down."""

    method = "LU"
    counters = Counters()
    workspace_bytes = 0

    def __init__(self, rho=0.0, *, is_usable=True, rcond=1.0):
        self.rho, self.is_usable, self._rcond = rho, is_usable, rcond

    def solve(self, b, trans="N", *, upcast=False):
        return np.asfortranarray((1 - self.rho) * b)

    def rcond(self, norm1, dtype):
        return self._rcond

    def growth(self, amax):
        return 1.0


class Workshop:
    """A system, and the factors made for it, rung by rung."""

    def __init__(self, a, b, **system):
        self.a = np.asfortranarray(a)
        self.b = np.asfortranarray(np.reshape(b, (len(a), -1)))
        self.system = LinearSystem(OPS, self.a, self.b, OPS.lange("I", self.a), U, **system)
        self.made = []

    def factorize(self, rung):
        w = np.array(self.a, dtype=rung.format.dtype(self.a.dtype), order="F")
        self.made.append(Counting(lu(OPS, w, rung.format, block=64)))
        return self.made[-1]

    def climb(self, rungs=RUNGS, **keywords):
        return Ladder(self.system, rungs, self.factorize, **keywords).climb()


def walked(ascent):
    return [
        (step.format, step.method.removeprefix("LU + "), step.outcome) for step in ascent.walked
    ]


def on_identity(factors, refine="auto", **keywords):
    """The climb for I x = b over the given factors."""
    b = np.asfortranarray(np.linspace(1, 2, 6).reshape(3, 2))
    system = LinearSystem(OPS, np.eye(3, order="F"), b, 1.0, U)
    rest = iter(factors)
    ascent = Ladder(system, RUNGS, lambda rung: next(rest), refine, **keywords).climb()
    return ascent, b


# -- the course of a climb -----------------------------------------------------------------------


def test_the_first_rung_that_delivers_is_the_last(rng):
    shop = Workshop(gallery.randsvd(150, 10.0), rng.standard_normal(150))
    ascent = shop.climb()
    assert ascent.converged
    assert walked(ascent) == [("fp16", "classical", "converged")]
    assert ascent.rung.format is FP16
    assert ascent.rcond is None  # not needed, and not paid for
    assert ascent.inner_iterations == 0
    assert backward_error(shop.a, ascent.x[:, 0], shop.b[:, 0]) <= 2 * U


def test_gmres_is_tried_before_climbing_when_a_precision_is_pinned(rng):
    """No cost model: the rung is given every chance before it is left."""
    shop = Workshop(gallery.randsvd(150, 1e6, "one_small"), rng.standard_normal(150))
    ascent = shop.climb()
    assert ascent.converged
    assert [step[:2] for step in walked(ascent)] == [("fp16", "classical"), ("fp16", "GMRES")]
    assert walked(ascent)[-1][2] == "converged"
    assert ascent.inner_iterations > 0
    assert len(shop.made) == 1
    assert backward_error(shop.a, ascent.x[:, 0], shop.b[:, 0]) <= np.sqrt(150) * U


def test_gmres_is_skipped_where_climbing_is_cheaper(rng):
    shop = Workshop(gallery.randsvd(150, 1e6, "one_small"), rng.standard_normal(150))
    cost = gmres_seconds(shop.system)
    cheap = shop.climb(climb_cost=lambda rung: cost / 2)
    assert ("fp16", "GMRES") not in [step[:2] for step in walked(cheap)]
    assert walked(cheap)[0][:2] == ("fp16", "classical")
    assert cheap.rung.format is not FP16
    dear = shop.climb(climb_cost=lambda rung: cost * 2)
    assert ("fp16", "GMRES", "converged") in walked(dear)


def test_the_cost_of_gmres_grows_with_the_right_hand_sides(rng):
    a = rng.standard_normal((50, 50))
    one = Workshop(a, rng.standard_normal(50))
    six = Workshop(a, rng.standard_normal((50, 6)))
    assert gmres_seconds(six.system) == pytest.approx(6 * gmres_seconds(one.system))


@pytest.mark.parametrize(("cond", "last"), [(1e6, "fp32"), (1e12, "fp64")])
def test_climbs_to_the_rung_that_can(cond, last, rng):
    shop = Workshop(gallery.randsvd(150, cond, "geometric"), rng.standard_normal(150))
    ascent = shop.climb(climb_cost=lambda rung: 0.0)
    assert ascent.converged
    assert ascent.rung.format.name == last
    assert walked(ascent)[-1] == (last, "classical", "converged")
    for _, method, outcome in walked(ascent)[:-1]:
        assert method == "classical"
        assert outcome in ("slow", "stagnated", "diverged")


@pytest.mark.parametrize("cond", [1e5, 1e8, 1e12, 1e15])
@pytest.mark.parametrize("mode", ["geometric", "one_small", "arithmetic", "one_large"])
def test_no_rung_is_worked_on_in_vain(mode, cond, rng):
    """Classical refinement is given up within a few solves; GMRES within one outer step of two."""
    n = 120
    shop = Workshop(gallery.randsvd(n, cond, mode), rng.standard_normal(n))
    ascent = shop.climb(climb_cost=lambda rung: 0.0)
    for factors, (_, _, outcome) in zip(shop.made, walked(ascent), strict=True):
        estimates = 0 if outcome == "converged" else 7
        assert outcome == "converged" or factors.solved <= 1 + FEW + estimates


def test_gmres_goes_on_while_the_residual_grows_and_the_error_shrinks(rng):
    """b = A x with random x: the first residual is small already, and the first x is wrong.

    Corrections reduce the error, 1e-4 at a time, by way of larger residuals.
    """
    n = 210
    a = gallery.randsvd(n, 1e8, "arithmetic")
    x_true = rng.standard_normal(n)
    shop = Workshop(a, a @ x_true)
    ascent = shop.climb(rungs=RUNGS[1:], refine="gmres")
    assert walked(ascent) == [("fp32", "GMRES", "converged")]
    assert backward_error(shop.a, ascent.x[:, 0], shop.b[:, 0]) <= 4 * U
    assert np.abs(ascent.x[:, 0] - x_true).max() <= 1e8 * n * U


@pytest.mark.parametrize("cond", [1e7, 1e12])
def test_hopeless_gmres_is_left_after_one_correction(cond, rng):
    shop = Workshop(gallery.randsvd(150, cond, "geometric"), rng.standard_normal(150))
    ascent = shop.climb(rungs=[RUNGS[0], RUNGS[2]], refine="gmres")
    assert ascent.converged
    assert [step[1:] for step in walked(ascent)] == [("GMRES", "slow"), ("GMRES", "converged")]
    assert shop.made[0].solved <= 1 + 7 + 3 * (30 + 1) + 1


def test_columns_of_one_system_share_its_rungs(rng):
    """An easy right-hand side does not climb by itself, and is none the worse for climbing."""
    a = gallery.randsvd(120, 1e10, "geometric")
    _, _, vh = np.linalg.svd(a)
    easy = a @ vh[0]
    shop = Workshop(a, np.column_stack([easy, rng.standard_normal(120), 0 * easy]))
    ascent = shop.climb(climb_cost=lambda rung: 0.0)
    assert ascent.converged
    assert np.all(backward_error(shop.a, ascent.x, shop.b) <= 4 * U)
    assert not ascent.x[:, 2].any()


# -- keywords ------------------------------------------------------------------------------------


def test_without_fallback_the_first_rung_is_the_last(rng):
    shop = Workshop(gallery.randsvd(100, 1e12), rng.standard_normal(100))
    ascent = shop.climb(fallback=False)
    assert not ascent.converged
    assert {step.format for step in ascent.walked} == {"fp16"}
    assert len(shop.made) == 1
    assert np.isfinite(ascent.x).all()


@pytest.mark.parametrize("refine", ["classical", "gmres"])
def test_a_pinned_method_is_the_only_one(refine, rng):
    shop = Workshop(gallery.randsvd(120, 1e7, "geometric"), rng.standard_normal(120))
    ascent = shop.climb(refine=refine)
    assert ascent.converged
    assert {step[1] for step in walked(ascent)} == {"GMRES" if refine == "gmres" else refine}


def test_no_refinement_is_one_solve_as_good_as_the_format(rng):
    n = 120
    shop = Workshop(gallery.randsvd(n, 10.0), rng.standard_normal((n, 2)))
    ascent = shop.climb(refine=None)
    assert ascent.converged
    assert walked(ascent) == [("fp16", "LU", "converged")]
    assert ascent.iterations == 0
    assert [f.solved for f in shop.made] == [2]
    errors = backward_error(shop.a, ascent.x, shop.b)
    assert np.all((errors > FP32.unit_roundoff) & (errors <= np.sqrt(n) * FP16.unit_roundoff))


@pytest.mark.parametrize("max_iter", [0, 1])
def test_max_iter_holds_on_every_rung(max_iter, rng):
    shop = Workshop(gallery.randsvd(100, 1e3), rng.standard_normal(100))
    ascent = shop.climb(max_iter=max_iter, climb_cost=lambda rung: 0.0)
    assert ascent.iterations <= max_iter * len(shop.made)


@pytest.mark.parametrize("trans", ["N", "T", "C"])
@pytest.mark.parametrize("dtype", [float, complex])
def test_transposes(dtype, trans, rng):
    a = gallery.randsvd(90, 1e6, "one_small", dtype)
    op = {"N": a, "T": a.T, "C": a.conj().T}[trans]
    b = rng.standard_normal(90).astype(dtype)
    shop = Workshop(a, b, trans=trans)
    ascent = shop.climb()
    assert ascent.converged
    assert backward_error(op, ascent.x[:, 0], b) <= 4 * U


# -- breakdowns and choices ----------------------------------------------------------------------


def test_factors_that_broke_down_are_noted_and_passed_over():
    ascent, b = on_identity([Mistaken(is_usable=False), Mistaken(0.1)])
    assert walked(ascent) == [("fp16", "LU", "broke down"), ("fp32", "classical", "converged")]
    assert ascent.rung.format is FP32
    np.testing.assert_allclose(ascent.x, b, rtol=4 * U)


def test_none_if_the_only_rung_is_not_usable():
    ascent, _ = on_identity([Mistaken(is_usable=False) for _ in RUNGS], fallback=False)
    assert ascent is None


def test_no_gmres_where_the_estimate_gives_it_no_chance():
    hopeless = Mistaken(5.0, rcond=1e-30)
    ascent, _ = on_identity([hopeless, Mistaken(0.1)])
    assert ("fp16", "GMRES") not in [step[:2] for step in walked(ascent)]


@pytest.mark.parametrize("rho", [np.nan, np.inf])
def test_solves_that_are_not_finite_do_not_pass(rho):
    """Neither on a low rung, nor on the last."""
    with np.errstate(invalid="ignore", over="ignore"):
        ascent, b = on_identity([Mistaken(rho), Mistaken(0.1)])
        assert ascent.rung.format is FP32
        np.testing.assert_allclose(ascent.x, b, rtol=4 * U)
        ascent, _ = on_identity([Mistaken(rho) for _ in RUNGS])
    assert not ascent.converged
    assert walked(ascent)[-1][2] == "diverged"


def test_the_best_x_is_kept_when_a_higher_rung_does_worse():
    """refine=None leaves what one solve gives: errors 0.1, 1e-5 and 1 on the three rungs."""
    ascent, b = on_identity([Mistaken(0.1), Mistaken(1e-5), Mistaken(1.0)], refine=None)
    assert not ascent.converged
    assert ascent.rung.format is FP32
    np.testing.assert_allclose(ascent.x, b, rtol=2e-5)


def test_the_factors_of_a_rung_are_freed_before_the_next_is_made(rng):
    shop = Workshop(gallery.randsvd(100, 1e12), rng.standard_normal(100))
    references = []

    def factorize(rung):
        assert all(reference() is None for reference in references), "factors of two rungs held"
        made = lu(OPS, np.array(shop.a, dtype=rung.format.dtype(float), order="F"), rung.format)
        references.append(weakref.ref(made))
        return made

    assert Ladder(shop.system, RUNGS, factorize).climb().converged
    assert len(references) == 3


def test_seconds_are_kept_by_phase(rng):
    shop = Workshop(gallery.randsvd(100, 1e3), rng.standard_normal(100))
    shop.climb()
    assert set(shop.system.seconds) == {"solve", "residual"}
    assert all(value > 0 for value in shop.system.seconds.values())


def test_product_is_the_operator(rng):
    for trans in ("N", "T", "C"):
        a = rng.standard_normal((30, 30)) + 1j * rng.standard_normal((30, 30))
        shop = Workshop(a, np.ones(30, complex), trans=trans)
        z = np.asfortranarray(rng.standard_normal((30, 3)) + 0j)
        op = {"N": a, "T": a.T, "C": a.conj().T}[trans]
        np.testing.assert_allclose(shop.system.product(z), op @ z, atol=1e-12)


def test_unchanged_by_a_working_precision_rung_alone(rng):
    shop = Workshop(gallery.randsvd(100, 1e3), rng.standard_normal(100))
    ascent = shop.climb([Rung(FP64, "LU")])
    assert walked(ascent) == [("fp64", "classical", "converged")]
