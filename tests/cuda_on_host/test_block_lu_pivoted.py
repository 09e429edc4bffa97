"""block_lu_pivoted.cu: a diagonal block with pivoting inside of it, as U and two inverses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from .module import LaunchError
from .mutation import barriers

FILE = "block_lu_pivoted.cu"
U = 2.0**-24
SIZES = [(64, 1), (64, 16), (64, 61), (64, 64), (128, 17), (128, 97), (128, 127), (128, 128)]


def block_of(rng, n):
    """In an array of NaN, with more columns than it has."""
    whole = np.full((n, n + 3), np.nan, np.float32)
    whole[:, :n] = rng.standard_normal((n, n))
    return whole, whole[:, :n]


def factor(module, order, a, *, offset=0, info=0, **options):
    """L^-1 P, U^-1 and info; U goes to `a`."""
    inverses = np.full((2, order, order), np.nan, np.float32)
    found = np.array([info], np.int32)
    module[f"block_lu_pivoted<{order}>"](
        1, 256, [len(a), a, a.strides[0] // 4, *inverses, offset, found],
        uninitialised=[3, 4], **options,
    )  # fmt: skip
    return *inverses, found[0]


def lapack(a):
    """P, L and U, of partial pivoting in double precision."""
    lu, piv = scipy.linalg.lu_factor(a.astype(float))
    rows = np.arange(len(a))
    for i, p in enumerate(piv):
        rows[[i, p]] = rows[[p, i]]
    return np.eye(len(a))[rows], np.tril(lu, -1) + np.eye(len(a)), np.triu(lu)


@pytest.mark.parametrize(("order", "n"), SIZES)
def test_inverses(compiled, rng, schedule, checked, order, n):
    """P is that of LAPACK; entry by entry within the bounds of elimination and substitution."""
    whole, a = block_of(rng, n)
    given = a.astype(float)
    module = compiled(FILE, checked=checked)
    lower_inverse, upper_inverse, info = factor(module, order, a, schedule=schedule)
    assert info == 0
    p, lower, upper = lapack(given)
    for inverse in (lower_inverse, upper_inverse):
        np.testing.assert_array_equal(inverse[n:], np.eye(order)[n:])
        np.testing.assert_array_equal(inverse[:, n:], np.eye(order)[:, n:])
    x, w = lower_inverse[:n, :n].astype(float), upper_inverse[:n, :n].astype(float)
    np.testing.assert_array_equal((x @ p.T)[np.triu_indices(n)], np.eye(n)[np.triu_indices(n)])
    assert not np.tril(w, -1).any()
    found = np.triu(a).astype(float)
    assert (abs(w @ found - np.eye(n)) <= 4 * n * U * abs(w) @ abs(found)).all()
    # L^-1 P A = U, and what is lost on the way to each of the two
    size = abs(x) @ p.T @ abs(lower) @ abs(upper)
    assert (abs(x @ given - found) <= 8 * n * U * size).all()
    np.testing.assert_array_equal(np.tril(a, -1), np.tril(given.astype(np.float32), -1))
    assert np.isnan(whole[:, n:]).all()


@pytest.mark.parametrize(("order", "n"), SIZES)
def test_two_barriers_a_column(emulated, rng, order, n):
    module, (_, a) = emulated(FILE), block_of(rng, n)
    factor(module, order, a)
    assert module.counts.barriers == 2 * n + 1


def test_the_same_in_every_run(compiled, rng):
    _, a = block_of(rng, 128)
    found = []
    for schedule in ("forward", "reverse", 3):
        lu = a.copy()
        found.append((*factor(compiled(FILE), 128, lu, schedule=schedule)[:2], lu))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("n", [2, 33, 64])
def test_a_permutation(compiled, rng, n):
    """Exactly, although all but one entry of a column are zeros."""
    rows = rng.permutation(n)
    a = 3 * np.eye(n, dtype=np.float32)[rows]
    lower_inverse, upper_inverse, info = factor(compiled(FILE, checked=True), 64, a)
    assert info == 0
    np.testing.assert_array_equal(lower_inverse[:n, :n], np.eye(n)[np.argsort(rows)])
    np.testing.assert_array_equal(upper_inverse[:n, :n], np.float32(1) / np.float32(3) * np.eye(n))
    np.testing.assert_array_equal(np.triu(a), 3 * np.eye(n))


def test_equal_candidates(compiled):
    """The first row wins, as in LAPACK."""
    a = np.array([[1, 2, 0], [-1, 1, 1], [1, 0, 5]], np.float32)
    lower_inverse, _, _ = factor(compiled(FILE), 64, a)
    np.testing.assert_array_equal(lower_inverse[0, :3], [1, 0, 0])


@pytest.mark.parametrize("place", [0, 15, 16, 70])
def test_zero_columns(compiled, rng, place):
    """The first one is told, and nothing that depends on it looks like numbers."""
    _, a = block_of(rng, 90)
    a[:, place] = a[:, 80] = 0
    lower_inverse, upper_inverse, info = factor(compiled(FILE), 128, a, offset=1000)
    assert info == 1000 + place + 1
    assert np.isfinite(upper_inverse[:place, :place]).all()
    assert not np.isfinite(upper_inverse[place, place:90]).any()
    assert not np.isfinite(lower_inverse[place + 1 : 90]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_seen(compiled, rng, value):
    _, a = block_of(rng, 50)
    a[30, 12] = value
    *_, info = factor(compiled(FILE), 64, a)
    assert 1 <= info <= 50


def test_pivots_whose_reciprocal_overflows(compiled):
    a = np.eye(3, dtype=np.float32)
    a[1, 1] = 1e-45
    assert factor(compiled(FILE), 64, a)[-1] == 2


@pytest.mark.parametrize(("before", "after"), [(0, 121), (5, 5), (500, 121)])
def test_info_keeps_the_first(compiled, rng, before, after):
    _, a = block_of(rng, 30)
    a[:, 20] = a[:, 25] = 0
    assert factor(compiled(FILE), 64, a, offset=100, info=before)[-1] == after


@pytest.mark.parametrize("edit", barriers(FILE))
def test_every_barrier_is_needed(broken, rng, edit):
    _, a = block_of(rng, 33)
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        factor(broken(FILE, edit, "block_lu_pivoted<64>"), 64, a)
