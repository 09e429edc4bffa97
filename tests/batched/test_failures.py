"""Members of a batch that fail, or are hard: they are named, and spoil no others."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mplinalg import LinAlgError, LinAlgWarning, Status
from mplinalg.batched import solve
from mplinalg.testing import gallery

from .systems import FACTOR, FEW_SIZES, backward_errors, definite, normal, regular, spoil, swept


@pytest.mark.parametrize("nrhs", [1, 5])
@pytest.mark.parametrize(("n", "dtype"), swept(FEW_SIZES, ["float64", "complex128"]))
def test_bad_members_spoil_no_others(rng, n, nrhs, dtype):
    a, b = regular(rng, 21, n, dtype), normal(rng, (21, n, nrhs), dtype)
    want = solve(a, b)
    bad = spoil(a, b)
    x, report = solve(a, b, raise_on_failure=False, full_output=True)
    good = np.setdiff1d(np.arange(21), list(bad))
    assert np.array_equal(x[good], want[good])
    assert np.isnan(x[list(bad)]).all()
    assert report.failed.tolist() == list(bad)
    for k, (status, info) in bad.items():
        assert report.status[k] is status
        assert report.info[k] == info
    assert all(report.status[k] is Status.DIRECT for k in good)
    assert np.array_equal(np.isnan(report.backward_error), np.isin(np.arange(21), list(bad)))
    with pytest.raises(LinAlgError, match=r"(?s)Singular: 2 of 21.*\[1, 4\].*NaN or inf.*\[9, 10,"):
        solve(a, b)


@pytest.mark.parametrize("n", FEW_SIZES)
def test_what_is_not_definite_is_named(rng, n):
    a, b = definite(rng, 19, n), normal(rng, (19, n, 1))
    want = solve(a, b, assume_a="pos")
    row = n // 2
    a[3, row, row] = -1.0
    a[8, 0, n - 1] = np.nan
    a[11] = 0.0
    a[16, 0, n - 1] = np.inf
    x, report = solve(a, b, assume_a="pos", raise_on_failure=False, full_output=True)
    bad = [3, 8, 11, 16]
    good = np.setdiff1d(np.arange(19), bad)
    assert np.array_equal(x[good], want[good])
    assert np.isnan(x[bad]).all()
    names = [report.status[k].name for k in bad]
    assert names == ["NOT_POSITIVE_DEFINITE", "NOT_FINITE"] * 2
    assert report.info[bad].tolist() == [row + 1, -1, 1, -1]
    with pytest.raises(LinAlgError, match=rf"(?s)\[3, 11\].*minor of order {row + 1} is not posit"):
        solve(a, b, assume_a="pos")


def test_a_bad_member_in_every_lane(rng):
    for n in (3, 9):
        a, b = regular(rng, 17, n), normal(rng, (17, n, 1))
        want = solve(a, b)
        for k in range(17):
            spoilt = a.copy()
            spoilt[k] = np.nan if k % 2 else 0.0
            x = solve(spoilt, b, raise_on_failure=False)
            assert np.array_equal(np.delete(x, k, 0), np.delete(want, k, 0))


def test_failures_are_named_as_users_index_them(rng):
    a = regular(rng, 24, 3)
    a[7] = 0
    with pytest.raises(LinAlgError, match=r"1 of 24 members, \[\(1, 3\)\]; pivot 1 of 3 is exact"):
        solve(a.reshape(6, 4, 3, 3), np.ones(3))
    with pytest.raises(LinAlgError, match=r"^Singular: the matrix; pivot 1 of 3 is exactly zero.$"):
        solve(a[7], np.ones(3))
    a[:] = 0
    with pytest.raises(LinAlgError, match=r"24 of 24 members, \[0, 1, .*8, 9, \.\.\.\]"):
        solve(a, np.ones(3))
    report = solve(a.reshape(6, 4, 3, 3), np.ones(3), raise_on_failure=False, full_output=True)[1]
    assert np.array_equal(report.failed, list(np.ndindex(6, 4)))


@pytest.mark.parametrize(
    ("dtype", "fine", "poor"),
    [("float64", 1e10, 1e19), ("float32", 1e3, 1e10), ("complex128", 1e10, 1e19)],
)
@pytest.mark.parametrize("n", [3, 10])
def test_singular_to_working_precision(rng, n, dtype, fine, poor):
    """A warning names them, as SciPy's does; others are left in peace."""
    a = np.stack([gallery.randsvd(n, fine, dtype=dtype, rng=rng) for _ in range(20)])
    b = normal(rng, (20, n, 1), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(a, b)
    for k in (2, 13):
        a[k, n // 2] /= poor  # no rounding error can make that exactly singular
    with pytest.warns(LinAlgWarning, match=r"working precision: 2 of 20.*\[2, 13\]") as caught:
        x, report = solve(a, b, full_output=True)
    assert caught[0].filename == __file__
    assert [k for k in range(20) if report.status[k] is Status.ILL_CONDITIONED] == [2, 13]
    assert np.all(backward_errors(a, x, b) <= FACTOR)
    with pytest.warns(LinAlgWarning):
        assert np.array_equal(solve(a, b), x)


@pytest.mark.parametrize("assume_a", ["gen", "pos"])
@pytest.mark.parametrize("power", [-1000, -990, 990, 1010])
def test_extreme_sizes(rng, power, assume_a):
    """Powers of two, so exact: the answers scale likewise, wherever the numbers are."""
    for n in (3, 8, 11):
        a = regular(rng, 13, n) if assume_a == "gen" else definite(rng, 13, n)
        b = normal(rng, (13, n, 1))
        scaled = np.ldexp(a, power)
        x = solve(scaled, np.ldexp(b, power // 2), assume_a=assume_a)
        y = np.ldexp(x, power - power // 2)
        assert np.all(backward_errors(a, y, b) <= FACTOR)
        # extreme members are solved by another way, and change nothing for the others
        mixed = a.copy()
        mixed[5] = scaled[5]
        x = solve(mixed, b, assume_a=assume_a)
        assert np.array_equal(np.delete(x, 5, 0), np.delete(solve(a, b, assume_a=assume_a), 5, 0))


@pytest.mark.parametrize("assume_a", ["gen", "pos"])
def test_subnormal_numbers(rng, assume_a):
    """Integers times 2^-1068, exactly."""
    for n in (3, 8, 11):
        a = rng.integers(-2, 3, (9, n, n)) + 9.0 * n * np.eye(n)
        a = a + a.swapaxes(1, 2)
        b = rng.integers(-9, 10, (9, n, 2)) * 1.0
        x = solve(np.ldexp(a, -1068), np.ldexp(b, -1068), assume_a=assume_a)
        assert np.all(backward_errors(a, x, b) <= FACTOR)


def test_numbers_of_all_sizes_in_one_matrix():
    """As SciPy: an answer to the last digits, and a warning, since rcond is tiny."""
    a = np.stack([np.diag([1e300, 1.0, 1e-5]), np.diag([1.0, 1e-310, 1.0]), np.eye(3)])
    with pytest.warns(LinAlgWarning, match=r"2 of 3 members, \[0, 1\]"):
        x = solve(a, np.ones(3) * 1e-5)
    want = np.array([[1e-305, 1e-5, 1.0], [1e-5, 1e305, 1e-5], [1e-5, 1e-5, 1e-5]])
    np.testing.assert_allclose(x, want, rtol=1e-12)


def test_answers_out_of_range(rng):
    a = regular(rng, 9, 3)
    a[4] *= 1e-300
    with pytest.warns(LinAlgWarning, match=r"exceed the range of their dtype: 1 of 9 mem.*\[4\]"):
        x, report = solve(a, np.ones(3) * 1e100, full_output=True)
    assert not np.isfinite(x[4]).any()
    assert np.isfinite(np.delete(x, 4, 0)).all()
    assert report.status[4] is Status.ILL_CONDITIONED
