"""gesv and posv by single-precision factors: converged means what it says, or is not said."""

import math

import numpy as np
import pytest

from mplinalg.ops.numpy_ops import NumpyOps
from mplinalg.testing import backward_error, componentwise_backward_error, gallery

from ..ops.helpers import draw

OPS = NumpyOps()
U = 2.0**-53
ORDERS = [2, 3, 15, 16, 17, 33, 65, 129, 200, 400]


def orthogonal(rng, n, dtype="float64"):
    return np.linalg.qr(draw(rng, (n, n), dtype))[0]


def hermitian(q, spectrum):
    a = (q * spectrum) @ q.conj().T
    return (a + a.conj().T) / 2


def is_right(seen, a, b):
    """What a converged answer promises, judged in exact scaled arithmetic."""
    if not seen.converged:
        return True
    n = len(a)
    # magnitudes of complex numbers are compared by |re| + |im|: sqrt(2), here and there
    slack = 2.0 if b.dtype.kind == "c" else 1.1
    omega = np.max(backward_error(a, seen.x, b))
    berr = np.max(componentwise_backward_error(a, seen.x, b))
    # and the residual that was tested was rounded
    bound = slack * math.sqrt(n) * U
    return omega <= bound + 4 * U and berr <= 10 * bound + 4 * U


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_plain_systems_converge(rng, dtype, order):
    for n in ORDERS:
        a = np.array(draw(rng, (n, n), dtype) + n**0.5 * np.eye(n), order=order)
        x_true = draw(rng, (n, 3), dtype)
        seen = OPS.gesv_refined(a, a @ x_true)
        assert seen.converged, n
        assert is_right(seen, a, a @ x_true)
        assert np.abs(seen.x - x_true).max() <= 1e3 * n * U * np.abs(x_true).max()


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_plain_definite_systems_converge(rng, dtype, order, lower):
    for n in ORDERS:
        a = hermitian(orthogonal(rng, n, dtype), np.linspace(1, 50, n))
        unread = (np.triu if lower else np.tril)(np.ones((n, n), bool), 1 if lower else -1)
        hidden = np.array(np.where(unread, np.nan, a), order=order)
        b = draw(rng, (n, 2), dtype)
        seen = OPS.posv_refined(hidden, b, lower=lower)
        assert seen.converged, n
        assert is_right(seen, a, b)
        whole = OPS.posv_refined(hidden, b, lower=lower, whole=True)
        assert not whole.converged


@pytest.mark.parametrize("name", [n for n in gallery.names() if gallery.facts(n).finite])
def test_the_gallery(name):
    """Whatever converges is right; a singular matrix never does."""
    facts = gallery.facts(name)
    for dtype in ("float64", "complex128"):
        for n in (2, 7, 40, 130):
            try:
                a = np.asarray(gallery.matrix(name, n, dtype))
            except ValueError:
                continue
            for b in (np.ones((n, 1), dtype), a @ np.ones((n, 1), dtype)):
                seen = OPS.gesv_refined(a, b)
                assert is_right(seen, a, b), (dtype, n)
                assert not (facts.singular and seen.converged), (dtype, n)
                if facts.positive_definite:
                    assert is_right(OPS.posv_refined(a, b, lower=True), a, b), (dtype, n)


@pytest.mark.parametrize("mode", ["geometric", "one_small", "one_large", "arithmetic"])
def test_every_condition_number(rng, mode):
    """x is as accurate as a solve in double, or as changes of A by 4 u allow.

    Beyond 1 / u_single most is left to others.
    """
    for exponent in range(17):
        a = gallery.randsvd(100, 10.0**exponent, mode, rng=exponent)
        x_true = draw(rng, (100, 1), "float64")
        b = np.asarray(a.astype(np.longdouble) @ x_true.astype(np.longdouble), float)
        seen = OPS.gesv_refined(a, b)
        assert is_right(seen, a, b)
        if exponent <= 4:
            assert seen.converged
        if exponent >= 15:
            assert not seen.converged
        if seen.converged:
            error = np.abs(seen.x - x_true).max()
            allowed = 4 * U * np.linalg.cond(a, np.inf) * np.abs(x_true).max()
            assert error <= max(10 * np.abs(np.linalg.solve(a, b) - x_true).max(), allowed)


@pytest.mark.parametrize("scaled", ["rows", "columns", "both"])
@pytest.mark.parametrize("range_", [2, 8, 30, 200])
def test_graded_matrices(rng, scaled, range_):
    for n in (20, 80):
        a = draw(rng, (n, n), "float64")
        grades = 10.0 ** np.linspace(0, -range_, n)
        if scaled != "columns":
            a = a * grades[:, None]
        if scaled != "rows":
            a = a * grades[rng.permutation(n)]
        for b in (a @ np.ones((n, 1)), draw(rng, (n, 1), "float64")):
            assert is_right(OPS.gesv_refined(a, b), a, b)


@pytest.mark.parametrize("exponent", [-320, -300, -40, -30, -20, 0, 20, 32, 40, 300])
def test_scales_that_single_precision_holds_or_not(rng, exponent):
    n = 30
    plain = draw(rng, (n, n), "float64") + 5 * np.eye(n)
    definite = hermitian(orthogonal(rng, n), np.linspace(1, 5, n))
    scale = np.float64(f"1e{exponent}")
    for a, seen in [
        (plain * scale, lambda a, b: OPS.gesv_refined(a, b)),
        (definite * scale, lambda a, b: OPS.posv_refined(a, b, lower=False)),
    ]:
        for b_exponent in (-300, 0, 300):
            b = draw(rng, (n, 2), "float64") * 10.0**b_exponent
            found = seen(a, b)
            assert is_right(found, a, b)
            if abs(exponent) <= 20 and abs(b_exponent - exponent) <= 300:  # x has a scale, too
                assert found.converged, b_exponent
            if abs(exponent) >= 40:
                assert not found.converged


def test_entries_that_single_precision_loses(rng):
    a = draw(rng, (30, 30), "float64") + 5 * np.eye(30)
    a[3, 7] = 1e-42
    assert not OPS.gesv_refined(a, np.ones((30, 1))).converged
    a[3, 7] = 1e39
    assert not OPS.gesv_refined(a, np.ones((30, 1))).converged


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_does_not_converge(rng, bad):
    n = 40
    a = hermitian(orthogonal(rng, n), np.linspace(1, 5, n))
    b = draw(rng, (n, 3), "float64")
    for i, j in [(0, 0), (0, n - 1), (n - 1, 0), (n // 2, 3)]:
        a_bad, b_bad = a.copy(), b.copy()
        a_bad[i, j] = a_bad[j, i] = bad
        b_bad[i, 2] = bad
        for dtype in ("float64", "complex128"):
            assert not OPS.gesv_refined(a_bad.astype(dtype), b.astype(dtype)).converged
            assert not OPS.gesv_refined(a.astype(dtype), b_bad.astype(dtype)).converged
            assert not OPS.posv_refined(a_bad.astype(dtype), b.astype(dtype), lower=True).converged
            assert not OPS.posv_refined(a.astype(dtype), b_bad.astype(dtype), lower=True).converged


def test_right_hand_sides_of_every_size(rng):
    """Zero, tiny and huge columns, each to its own size."""
    n = 64
    a = draw(rng, (n, n), "float64") + 8 * np.eye(n)
    b = draw(rng, (n, 4), "float64") * np.array([0.0, 1e-305, 1e290, 1.0])
    seen = OPS.gesv_refined(a, b)
    assert seen.converged
    assert is_right(seen, a, b)
    assert not seen.x[:, 0].any()


def test_what_is_reported_is_what_was_reached(rng):
    """What converged meets both tests; the steps are counted, kappa is a lower bound."""
    n = 100
    a = gallery.randsvd(n, 1e5, "geometric", rng=3)
    b = draw(rng, (2, n), "float64")
    seen = OPS.gesv_refined(a, b.T)
    assert seen.converged
    assert 1 <= seen.steps <= 30
    assert np.max(backward_error(a, seen.x, b.T)) <= n**0.5 * U + 2 * U
    assert np.max(componentwise_backward_error(a, seen.x, b.T)) <= 10 * n**0.5 * U + 2 * U
    assert 1e2 < seen.kappa <= 1.01 * np.linalg.cond(a, np.inf)


# -- singular matrices, with b in their range ----------------------------------------------------


def test_singular_in_integers():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 80))
        a = rng.integers(-9, 10, (n, n)).astype(float)
        place = int(rng.integers(n))
        a[:, place] = np.delete(a, place, 1) @ rng.integers(-1, 2, n - 1)
        assert not OPS.gesv_refined(a, a @ np.ones((n, 1))).converged, seed
        gram = a.T @ a
        assert not OPS.posv_refined(gram, gram @ np.ones((n, 1)), lower=True).converged, seed


@pytest.mark.parametrize("rest", [1e0, 1e3, 1e5, 1e6, 1e7])
@pytest.mark.parametrize("definite", [False, True])
def test_rank_one_less(rest, definite):
    """The condition number of what is left of the matrix is `rest`.

    Single-precision factors of it look like those of a regular matrix of condition 1e8, and b is
    in the range: only what does not contract for a random right-hand side gives it away, and that
    is little beside what does if `rest` is large.
    """
    n = 64
    spectrum = np.ones(n)
    spectrum[-2:] = 1 / rest, 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        q = orthogonal(rng, n)
        if definite:
            a = hermitian(q, spectrum)
            seen = OPS.posv_refined(a, a @ np.ones((n, 1)), lower=False)
        else:
            a = (q * spectrum) @ orthogonal(rng, n)
            seen = OPS.gesv_refined(a, a @ np.ones((n, 1)))
        assert not seen.converged, seed


def test_an_indefinite_matrix_is_not_called_definite():
    """Its smallest eigenvalue is negative, and lost in the rounding to single precision."""
    n = 64
    for seed in range(100):
        rng = np.random.default_rng(seed)
        spectrum = np.ones(n)
        spectrum[-2:] = 10.0 ** -rng.uniform(0, 6), -(10.0 ** -rng.uniform(3, 12))
        a = hermitian(orthogonal(rng, n), spectrum)
        seen = OPS.posv_refined(a, a @ np.ones((n, 1)), lower=True)
        assert not seen.converged, (seed, spectrum[-2:])
