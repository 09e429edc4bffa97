"""Tournament pivoting: the winners, the interchanges, and how much it lets the factors grow."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.lu import getrf, lu
from mplinalg.factor.tournament import getrf_tournament, tournament_pivots
from mplinalg.ops import ops_for
from mplinalg.precision import FP16, FP32, FP64
from mplinalg.testing import gallery

OPS = ops_for()
# groups of at least 256 rows: one group, two, an odd number of them, a short last one
HEIGHTS = [1, 8, 255, 256, 257, 513, 1100]


def draw(rng, shape, is_complex=False):
    a = rng.standard_normal(shape)
    return np.asfortranarray(a + 1j * rng.standard_normal(shape) if is_complex else a)


def applied(piv, a):
    """`a` after the interchanges."""
    a = a.copy()
    for i, p in enumerate(piv):
        a[[i, p]] = a[[p, i]]
    return a


def product(packed):
    k = min(packed.shape)
    return (np.tril(packed[:, :k], -1) + np.eye(len(packed), k)) @ np.triu(packed[:k])


@pytest.mark.parametrize("m", HEIGHTS)
def test_winners_are_distinct_rows(m, rng):
    for width in (1, 8, 33):
        winners = tournament_pivots(OPS, draw(rng, (m, width)))
        assert winners.shape == (min(m, width),)
        assert len(set(winners.tolist())) == len(winners)
        assert 0 <= winners.min() <= winners.max() < m


def test_a_single_column_is_won_by_its_largest_entry(rng):
    for m in HEIGHTS:
        panel = draw(rng, (m, 1))
        assert tournament_pivots(OPS, panel)[0] == np.argmax(np.abs(panel))


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("m", HEIGHTS)
def test_panel_is_factored(m, is_complex, rng):
    for width in (1, 8, 33):
        a = draw(rng, (m, width), is_complex)
        packed = a.copy(order="F")
        piv, info = getrf_tournament(OPS, packed)
        assert info == 0
        assert piv.dtype == np.int32
        assert np.all((np.arange(piv.size) <= piv) & (piv < m))
        error = np.abs(applied(piv, a) - product(packed)).max()
        assert error <= 30 * width * FP64.unit_roundoff * np.abs(a).max() * np.abs(packed).max()


def test_one_group_pivots_as_lapack_does(rng):
    a = draw(rng, (200, 16))
    by_tournament, by_lapack = a.copy(order="F"), a.copy(order="F")
    piv, _ = getrf_tournament(OPS, by_tournament)
    expected, _ = OPS.getrf_panel(by_lapack)
    np.testing.assert_array_equal(piv, expected)
    np.testing.assert_allclose(by_tournament, by_lapack, atol=1e-13)


def test_interchanges_are_a_permutation(rng):
    n = 600
    a = draw(rng, (n, n))
    piv, info = getrf(OPS, a.copy(order="F"), FP64, pivoting="tournament", block=32)
    assert info == 0
    rows = applied(piv, np.arange(n))
    np.testing.assert_array_equal(np.sort(rows), np.arange(n))
    # a tournament was played: several groups do not always send LAPACK's pivots
    partial, _ = getrf(OPS, a.copy(order="F"), FP64)
    assert not np.array_equal(piv, partial)


@pytest.mark.parametrize("fmt", [FP16, FP32, FP64], ids=str)
def test_growth_is_near_that_of_partial_pivoting(fmt):
    """A factor 4, and multipliers below 8, for random matrices of several groups of rows."""
    n = 600
    for name in ("random_normal", "random_uniform", "orthogonal"):
        a = gallery.matrix(name, n, fmt.dtype(float))
        by_tournament = lu(OPS, a.copy(order="F"), fmt, pivoting="tournament", block=32)
        partial = lu(OPS, a.copy(order="F"), fmt, block=32)
        amax = np.abs(a).max()
        assert by_tournament.growth(amax) <= 4 * partial.growth(amax)
        assert np.abs(np.tril(by_tournament.lu, -1)).max() <= 8


@pytest.mark.parametrize("m", [40, 700])
def test_dependent_columns(m, rng):
    """Two equal columns: the pivot that cancels is reported, and the rest is factored."""
    a = np.asfortranarray(rng.integers(-4, 5, (m, 8)).astype(float))
    a[:, 5] = a[:, 2]
    a[:, 0] = np.where(np.arange(m) == m - 1, 8.0, 0.0)
    packed = a.copy(order="F")
    piv, info = getrf_tournament(OPS, packed)
    assert np.abs(applied(piv, a) - product(packed)).max() <= 1e-12
    smallest = np.abs(np.diagonal(packed)).min()
    assert smallest <= 1e-12
    assert (info > 0) == (smallest == 0)


@pytest.mark.parametrize("m", [40, 700])
def test_a_zero_panel(m):
    packed = np.zeros((m, 8), order="F")
    piv, info = getrf_tournament(OPS, packed)
    assert info == 1
    assert not packed.any()
    np.testing.assert_array_equal(np.sort(applied(piv, np.arange(m))), np.arange(m))


def test_a_wide_panel(rng):
    a = draw(rng, (8, 40))
    packed = a.copy(order="F")
    piv, info = getrf_tournament(OPS, packed)
    assert info == 0
    assert np.abs(applied(piv, a) - product(packed)).max() <= 1e-13


def test_nan_is_not_hidden(rng):
    a = draw(rng, (700, 8))
    a[350, 3] = np.nan
    packed = a.copy(order="F")
    getrf_tournament(OPS, packed)
    assert np.isnan(packed).any()
