"""Factors of lists and `Ragged`: member by member those of `lu_factor` and `cho_factor`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, LinAlgWarning, Status
from mplinalg.batched import Ragged, cho_factor, cho_solve, lu_factor, lu_solve

from .systems import FACTOR, backward_errors, definite, normal, regular

ORDERS = [3, 0, 10, 3, 1, 5, 10, 3]
FORMS = [list, Ragged.from_list]


def matrices(rng, draw, dtype="float64"):
    return [draw(rng, 1, n, dtype)[0] if n else np.zeros((0, 0), dtype) for n in ORDERS]


def sides(rng, kind, dtype="float64"):
    """Vectors, or matrices with one to three columns."""
    return [
        normal(rng, (n,) if kind == "vectors" else (n, 1 + k % 3), dtype)
        for k, n in enumerate(ORDERS)
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("kind", ["vectors", "matrices"])
def test_lu_is_that_of_single_matrices(rng, form, dtype, kind):
    a, b = matrices(rng, regular, dtype), sides(rng, kind, dtype)
    factors = lu_factor(form(a))
    lu, piv = factors
    assert len(factors) == 2
    assert type(lu) is type(piv) is type(form(a))
    assert factors.shapes.tolist() == [[n, n] for n in ORDERS]
    assert factors.dtype == dtype
    alone = [lu_factor(member) for member in a]
    for k, (want, rows) in enumerate(alone):
        assert np.array_equal(lu[k], want)
        assert np.array_equal(piv[k], rows)
        assert piv[k].dtype == np.int32
    for trans in (0, 1, 2):
        x, report = lu_solve(factors, form(b), trans, full_output=True)
        assert type(x) is type(form(b))
        for k, one in enumerate(alone):
            want, single = lu_solve(one, b[k], trans, full_output=True)
            assert np.array_equal(x[k], want)
            assert x[k].shape == b[k].shape
            assert report.backward_error[k] == single.backward_error
        for found in (factors.solve(form(b), trans), lu_solve((lu, piv), form(b), trans)):
            assert all(map(np.array_equal, found, x))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lower", [False, True])
def test_cholesky_is_that_of_single_matrices(rng, form, lower):
    a, b = matrices(rng, definite, "complex128"), sides(rng, "matrices", "complex128")
    factors = cho_factor(form(a), lower)
    c, is_lower = factors
    assert type(c) is type(form(a))
    assert is_lower is factors.lower is lower
    x, report = cho_solve(factors, form(b), full_output=True)
    for k, member in enumerate(a):
        alone = cho_factor(member, lower)
        want, single = cho_solve(alone, b[k], full_output=True)
        assert np.array_equal(c[k], next(iter(alone)))
        assert np.array_equal(x[k], want)
        assert report.backward_error[k] == single.backward_error
    for found in (factors.solve(form(b)), cho_solve((c, lower), form(b))):
        assert all(map(np.array_equal, found, x))


def test_scipys_tuples(rng):
    a, b = matrices(rng, regular), sides(rng, "matrices")
    a, b = ([m for m in members if m.size] for members in (a, b))
    lu, piv = zip(*map(scipy.linalg.lu_factor, a), strict=True)
    x, report = lu_solve((list(lu), list(piv)), b, full_output=True)
    assert report.backward_error is None
    for k, member in enumerate(a):
        assert np.all(backward_errors(member, x[k], b[k]) <= FACTOR)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128", "int64"])
def test_dtypes_of_right_hand_sides(rng, dtype):
    """x has the common dtype, and is as accurate as that."""
    a = matrices(rng, definite, "float32")
    drawn = "float64" if dtype == "int64" else dtype
    b = [(10 * side).astype(dtype) for side in sides(rng, "matrices", drawn)]
    for x in (lu_solve(lu_factor(a), b), cho_solve(cho_factor(a), b)):
        for member, found, right in zip(a, x, b, strict=True):
            assert found.dtype == np.result_type(member, right)
            if member.size:
                assert np.all(backward_errors(member, found, right) <= FACTOR)


def test_failures_are_numbered_as_in_the_list(rng):
    a = [regular(rng, 1, n)[0] for n in (2, 4, 2, 3, 4, 2)]
    b = [normal(rng, (len(m), 1 + k % 2)) for k, m in enumerate(a)]
    want = lu_solve(lu_factor(a), b)
    a[2][:, 1] = 0
    a[4][1] /= 1e19
    b[3][1] = np.nan
    with pytest.warns(LinAlgWarning, match=r"Singular: 1 of 6 members, \[2\]") as caught:
        factors = lu_factor(a)
    assert caught[0].filename == __file__
    names = [status.name for status in factors.status]
    assert names == ["DIRECT", "DIRECT", "SINGULAR", "DIRECT", "ILL_CONDITIONED", "DIRECT"]
    for f in (factors, tuple(factors)):
        with pytest.raises(LinAlgError, match=r"Singular: 1 of 6 .*\[2\].*NaN.*1 of 6 .*\[3\]"):
            lu_solve(f, b)
    with pytest.warns(LinAlgWarning, match=r"working precision: 1 of 6 .*\[4\]") as caught:
        x, report = lu_solve(factors, b, raise_on_failure=False, full_output=True)
    assert caught[0].filename == __file__
    assert report.failed.tolist() == [2, 3]
    assert np.isnan(x[2]).all()
    assert np.isnan(x[3]).all()
    assert all(np.array_equal(x[k], want[k]) for k in (0, 1, 5))
    a = [m @ m.T + np.eye(len(m)) for m in a]
    a[1] *= -1
    with pytest.raises(LinAlgError, match=r"Not positive definite: 1 of 6 members, \[1\]"):
        cho_factor(a)
    factors = cho_factor(a, raise_on_failure=False)
    assert factors.status[1] is Status.NOT_POSITIVE_DEFINITE


def test_no_members_and_pickles(rng):
    assert lu_solve(lu_factor([]), []) == []
    assert len(cho_solve(cho_factor(Ragged.from_list([])), Ragged.from_list([]))) == 0
    a, b = matrices(rng, definite), sides(rng, "vectors")
    for factors, solve in ((lu_factor(a), lu_solve), (cho_factor(a, True), cho_solve)):
        again = pickle.loads(pickle.dumps(factors))
        assert repr(again) == repr(factors)
        assert all(map(np.array_equal, solve(again, b), solve(factors, b)))
    assert repr(lu_factor(a)) == "ListedLU(Ragged(8 matrices, float64, shapes (0, 0) to (10, 10)))"


def test_the_matrices_are_left_as_they_are(rng):
    a, b = matrices(rng, regular), sides(rng, "vectors")
    ragged = Ragged.from_list(a)
    before = ragged.data.copy()
    lu_solve(lu_factor(ragged), b, full_output=True)
    assert np.array_equal(ragged.data, before)
    single = Ragged.from_list(a, "float16")  # computed in single precision
    assert lu_factor(single).dtype == "float32"


def test_bad_input(rng):
    a = [np.eye(2), 2 * np.eye(3)]
    factors, b = lu_factor(a), [np.ones(2), np.ones(3)]
    lu, piv = factors
    with pytest.raises(ValueError, match=r"square matrices, got a\[1\].shape=\(2, 3\)"):
        lu_factor([np.eye(2), np.ones((2, 3))])
    with pytest.raises(ValueError, match="factors of 2 matrices, and b has 1 members"):
        lu_solve(factors, b[:1])
    with pytest.raises(ValueError, match=r"factors\[0\].shape=\(2, 2\), b\[0\].shape=\(3,\)"):
        cho_solve(cho_factor(a), b[::-1])
    with pytest.raises(ValueError, match=r"factors\[0\].shape=\(2, 2\), piv\[0\].shape=\(3,\)"):
        lu_solve((lu, piv[::-1]), b)
    with pytest.raises(ValueError, match="and piv has 1"):
        lu_solve((lu, piv[:1]), b)
    with pytest.raises(ValueError, match="pivots must lie between 0 and 1"):
        lu_solve((lu, [p + 1 for p in piv]), b)
    with pytest.raises(TypeError, match="pivots must be integers"):
        lu_solve((lu, [p * 1.0 for p in piv]), b)
    with pytest.raises(TypeError, match="to a list belongs a list, but b is of type ndarray"):
        lu_solve(factors, np.ones(2))
    with pytest.raises(ValueError, match="masked"):
        lu_factor([np.eye(2), np.ma.ones((2, 2))])
