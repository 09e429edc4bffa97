"""The errors of factorizations agree with their definitions, for numbers of any size."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.testing import factorization_error, gallery, orthogonality_error

from .drawn import drawn, dtype

__all__ = ["dtype"]  # a fixture


def test_factorization_error_is_the_definition(dtype):
    a, f, g = drawn(0, 6, 4, dtype=dtype), drawn(1, 6, 3, dtype=dtype), drawn(2, 3, 4, dtype=dtype)
    perm = np.array([3, 0, 5, 1, 2, 4])
    expected = np.linalg.norm(a[perm] - f @ g, np.inf) / (4 * np.linalg.norm(a, np.inf))
    got = factorization_error(a, f, g, perm=perm)
    assert isinstance(got, float)
    assert got == pytest.approx(expected)
    assert factorization_error(a, f, np.eye(3), g, perm=perm) == pytest.approx(expected)


def test_factorization_error_accepts_good_factors_and_not_bad_ones():
    a = drawn(0, 30, 30)
    q, r = np.linalg.qr(a)
    assert factorization_error(a, q, r) < 1e-16
    r[3, 5] += 1e-8
    expected = 1e-8 * np.abs(q[:, 3]).max() / (30 * np.linalg.norm(a, np.inf))
    assert expected / 4 < factorization_error(a, q, r) < expected * 4
    a = a @ a.T
    lower = np.linalg.cholesky(a)
    assert factorization_error(a, lower, lower.T) < 1e-16


@pytest.mark.parametrize("k", [-1000, 1000])
def test_factorization_error_of_huge_and_tiny_matrices(k):
    a, f = drawn(0, 5, 5), drawn(1, 5, 5)
    expected = factorization_error(a, f, np.eye(5))
    c = 2.0**k
    assert factorization_error(c * a, c * f, np.eye(5)) == expected
    assert factorization_error(c * a, f, c * np.eye(5)) == expected
    assert factorization_error(a, c * f, np.eye(5) / c) == expected


def test_factorization_error_when_the_product_vanishes():
    a = np.eye(2)
    f, g = np.diag([2.0**600, 0]), np.diag([0, 2.0**600])
    assert factorization_error(a, f, g) == 0.5
    assert factorization_error(np.zeros((2, 2)), f, g) == 0
    assert factorization_error(np.zeros((2, 2)), a, a) == np.inf
    assert factorization_error(np.zeros((0, 0)), np.zeros((0, 0))) == 0


def test_factorization_error_of_a_batch_is_a_loop():
    a, f, g = drawn(0, 4, 5, 5), drawn(1, 5, 3), drawn(2, 4, 3, 5)
    perm = np.stack([np.random.default_rng(seed).permutation(5) for seed in range(4)])
    got = factorization_error(a, f, g, perm=perm)
    assert got.tolist() == [factorization_error(a[k], f, g[k], perm=perm[k]) for k in range(4)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_factorization_error_of_what_is_not_finite(bad):
    broken = np.diag([1.0, bad])
    assert np.isnan(factorization_error(np.eye(2), broken))
    assert np.isnan(factorization_error(broken, np.eye(2)))
    assert np.isnan(factorization_error(np.eye(2), np.eye(2), broken))


def test_factorization_error_refuses_what_does_not_fit():
    a = np.ones((3, 4))
    with pytest.raises(ValueError, match="at least one factor"):
        factorization_error(a)
    with pytest.raises(ValueError, match=r"a.shape=\(3, 4\), factors \[\(3, 2\), \(3, 4\)\]"):
        factorization_error(a, np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(ValueError, match="shapes do not fit"):
        factorization_error(a, np.ones(3))
    for perm in ([0, 1], [0, 1, 1], [0.0, 1.0, 2.0], [1, 2, 3]):
        with pytest.raises(ValueError, match="perm must hold"):
            factorization_error(a, a, perm=perm)


def test_orthogonality_error_is_the_definition(dtype):
    q = drawn(0, 2, 6, 4, dtype=dtype)
    expected = [np.linalg.norm(np.eye(4) - z.conj().T @ z, np.inf) for z in q]
    np.testing.assert_allclose(orthogonality_error(q), expected)
    assert orthogonality_error(gallery.matrix("orthogonal", 40, dtype)) < 1e-14
    assert orthogonality_error(np.zeros((3, 0))) == 0
    assert orthogonality_error(np.zeros((3, 2))) == 1


@pytest.mark.parametrize(
    ("bad", "isbad"), [(np.nan, np.isnan), (np.inf, np.isnan), (1e300, np.isinf)]
)
def test_orthogonality_error_is_never_small_for_what_overflows(bad, isbad):
    assert isbad(orthogonality_error(np.array([[1.0, 0.0], [0.0, bad]])))


def test_orthogonality_error_needs_a_matrix():
    with pytest.raises(ValueError, match=r"got q.shape=\(3,\)"):
        orthogonality_error(np.ones(3))
