"""The estimate of ||A^-1||_1 against the norm itself, over the gallery."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg.factor.condest import inverse_norm1
from mplinalg.factor.lu import lu
from mplinalg.ops import ops_for
from mplinalg.precision import FP16X2, FP32, FP64
from mplinalg.testing import gallery

OPS = ops_for()
ORDERS = (1, 2, 5, 16, 45)


def gallery_cases(largest_kappa, dtypes=("float64", "complex128")):
    """Matrices of the gallery, their 1-norm condition numbers at most `largest_kappa`."""
    for name in gallery.names():
        known = gallery.facts(name)
        if known.singular or not known.finite or name in ("badly_scaled", "denormal"):
            continue
        for dtype in set(dtypes) & set(known.dtypes):
            for n in ORDERS:
                a = gallery.matrix(name, n, dtype)
                kappa = np.linalg.cond(a, 1)
                if kappa <= largest_kappa:
                    yield f"{name} {n} {dtype}", a, kappa


def solves(a):
    factors = scipy.linalg.lu_factor(a)
    return (
        lambda z: scipy.linalg.lu_solve(factors, z),
        lambda z: scipy.linalg.lu_solve(factors, z, trans=2),
    )


def test_a_lower_bound_rarely_below_a_third():
    """Never above the norm, never below a tenth of it, and below a third at most once in fifty."""
    ratios = []
    for label, a, _ in gallery_cases(1e12):
        exact = np.linalg.norm(np.linalg.inv(a), 1)
        estimate = inverse_norm1(OPS, len(a), a.dtype, *solves(a))
        assert exact / 10 <= estimate <= exact * (1 + 1e-3), label
        ratios.append(estimate / exact)
    assert len(ratios) > 200
    assert np.mean(np.array(ratios) < 1 / 3) <= 0.02


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("fmt", "largest_kappa"), [(FP64, 1e12), (FP32, 1e5), (FP16X2, 1e4)], ids=str
)
def test_rcond_of_factors_is_within_ten(fmt, largest_kappa, order):
    for label, a, kappa in gallery_cases(largest_kappa):
        f = lu(OPS, np.array(a, dtype=fmt.dtype(a.dtype), order=order), fmt, block=16)
        if f.growth(float(np.abs(a).max())) * fmt.unit_roundoff > 0.1:
            assert label.startswith("gfpp")  # grown pivots: such factors say nothing of A
            continue
        estimate = f.rcond(OPS.lange("1", np.asfortranarray(a)), a.dtype)
        assert 1 / kappa / 2 <= estimate <= 10 / kappa, label


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_matrices_that_cancel_on_the_way_are_caught(n):
    """A^-1 = I + theta C with C orthogonal to all vectors visited: Higham (1988), section 3."""
    c = np.eye(n) - np.ones((n, n)) / n  # annihilates the first vector, all ones
    inverse = np.eye(n) + 1e6 * c
    estimate = inverse_norm1(OPS, n, float, lambda z: inverse @ z, lambda z: inverse.T @ z)
    assert np.linalg.norm(inverse, 1) / 10 <= estimate <= np.linalg.norm(inverse, 1) * (1 + 1e-12)


def test_few_solves():
    calls = []
    rng = np.random.default_rng(0)
    for n in (1, 10, 300):
        inverse = rng.standard_normal((n, n))

        def apply(z, inverse=inverse):
            assert z.shape == (len(inverse), 1)
            calls.append(1)
            return inverse @ z

        calls.clear()
        inverse_norm1(OPS, n, float, apply, lambda z, m=inverse: m.T @ z)
        assert len(calls) <= 7


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_gives_infinity(bad):
    """NaN in a solve must not be taken for a small norm."""

    def solve(z):
        return np.full_like(z, bad)

    assert inverse_norm1(OPS, 5, float, solve, solve) == np.inf


def test_infinity_that_shows_late():
    def solve(z):
        return z if z[0, 0] == z[-1, 0] else np.full_like(z, np.nan)

    assert inverse_norm1(OPS, 5, float, solve, solve) == np.inf


def test_empty():
    assert inverse_norm1(OPS, 0, float, lambda z: z, lambda z: z) == 0.0


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64", "complex128"])
def test_vectors_have_the_dtype_asked_for(dtype):
    def solve(z):
        assert z.dtype == dtype
        return 3 * z

    assert inverse_norm1(OPS, 6, np.dtype(dtype), solve, solve) == pytest.approx(3.0, rel=1e-6)
