"""The stopping test: what it measures, and what it never lets pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mplinalg.ops import ops_for
from mplinalg.refine.criterion import Criterion, column_max

given = pytest.importorskip("hypothesis").given
st = pytest.importorskip("hypothesis.strategies")

OPS = ops_for()
U = 2.0**-53
BAD = [np.nan, np.inf, -np.inf]


def criterion(n=4, norm_a=1.0, **keywords):
    return Criterion(OPS, n, norm_a, U, **keywords)


def measured(x, r, d, b_size, norm_a=1.0, **keywords):
    """Errors of one column."""
    x, r, d = (np.asfortranarray(np.reshape(v, (-1, 1))) for v in (x, r, d))
    c = criterion(len(x), norm_a, **keywords)
    return c, c.measure(x, r, d, np.array([b_size]))


def passes(c, errors):
    return bool(c.is_met(errors)[0]), bool(c.is_best(errors)[0])


# -- what is measured ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_the_formulas(dtype, rng):
    n, k = 7, 3

    def draw(*shape):
        z = rng.standard_normal(shape)
        z = z + 1j * rng.standard_normal(shape) if dtype.startswith("c") else z
        return np.asarray(z, dtype, order="F")

    def size(z):
        z = z.astype(complex)
        return np.abs(z.real) + np.abs(z.imag)

    a, x, b = draw(n, n), draw(n, k), draw(n, k)
    r = np.asfortranarray(b - a @ x)
    d = np.asfortranarray(size(a) @ size(x) + size(b), dtype=a.real.dtype)
    norm = float(size(a).sum(axis=1).max())
    errors = criterion(n, norm).measure(x, r, d, column_max(OPS, b))
    rel = 1e-5 if d.dtype == np.float32 else 1e-13
    omega = size(r).max(axis=0) / (norm * size(x).max(axis=0) + size(b).max(axis=0))
    np.testing.assert_allclose(errors.omega, omega, rtol=rel)
    np.testing.assert_allclose(errors.berr, (size(r) / d).max(axis=0), rtol=rel)
    np.testing.assert_allclose(errors.x_size, size(x).max(axis=0), rtol=rel)
    assert all(e.dtype == np.float64 for e in (errors.omega, errors.berr, errors.x_size))


@pytest.mark.parametrize("n", [1, 4, 5, 10_000])
def test_the_bound_is_lapacks(n):
    assert criterion(n).omega_bound == max(math.sqrt(n), 1) * U
    assert criterion(n, tol=1e-9).omega_bound == 1e-9
    # moduli may be larger than these norms
    assert criterion(n, is_complex=True, tol=1e-9).omega_bound == (5e-10 if n > 4 else 1e-9)
    # |re| + |im| may exceed the modulus by sqrt 2: never looser than the test in moduli
    assert criterion(n, is_complex=True).omega_bound <= criterion(n).omega_bound


def test_empty():
    c = criterion(0)
    errors = c.measure(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(2))
    assert passes(c, errors) == (True, True)
    c = criterion(3)
    errors = c.measure(np.zeros((3, 0)), np.zeros((3, 0)), np.zeros((3, 0)), np.zeros(0))
    assert c.is_met(errors).shape == (0,)


def test_best_asks_for_more_than_met():
    """omega passes, berr does not: one row is wrong by far more than its own size allows."""
    c, errors = measured(x=[1.0, 1e-10], r=[0.0, 1e-17], d=[2.0, 1e-10], b_size=1.0)
    assert passes(c, errors) == (True, False)
    c, errors = measured(x=[1.0, 1e-10], r=[0.0, 1e-26], d=[2.0, 1e-10], b_size=1.0)
    assert passes(c, errors) == (True, True)


def test_own_tolerance_is_enough():
    c, errors = measured(x=[1.0], r=[1e-7], d=[1.0], b_size=1.0, tol=1e-6)
    assert passes(c, errors) == (True, True)
    c, errors = measured(x=[1.0], r=[1e-5], d=[1.0], b_size=1.0, tol=1e-6)
    assert passes(c, errors) == (False, False)


# -- zeros ---------------------------------------------------------------------------------------


def test_zero_solution_of_zero_right_hand_side():
    c, errors = measured(x=[0.0, 0.0], r=[0.0, 0.0], d=[0.0, 0.0], b_size=0.0)
    assert (errors.omega[0], errors.berr[0]) == (0, 0)
    assert passes(c, errors) == (True, True)


def test_zero_is_no_solution_of_anything_else():
    c, errors = measured(x=[0.0, 0.0], r=[1.0, 0.0], d=[1.0, 0.0], b_size=1.0)
    assert (errors.omega[0], errors.berr[0]) == (1, 1)
    assert passes(c, errors) == (False, False)


def test_a_row_of_zeros_counts_as_zero():
    _, errors = measured(x=[1.0, 1.0], r=[1e-17, 0.0], d=[1.0, 0.0], b_size=1.0)
    assert errors.berr[0] == 1e-17


def test_a_residual_where_nothing_was_is_infinite():
    c, errors = measured(x=[1.0, 1.0], r=[0.0, 5e-324], d=[1.0, 0.0], b_size=1.0)
    assert errors.berr[0] == np.inf
    assert passes(c, errors) == (False, False)
    c, errors = measured(x=[0.0], r=[1.0], d=[0.0], b_size=0.0)
    assert errors.omega[0] == np.inf
    assert passes(c, errors) == (False, False)


# -- what is not finite --------------------------------------------------------------------------


@pytest.mark.parametrize("tol", [None, 0.5])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize(
    ("where", "bad"), [(w, bad) for w in "xrd" for bad in BAD if (w, bad) != ("d", -np.inf)]
)
def test_nan_and_infinity_never_pass(where, bad, is_complex, tol):
    """The test LAPACK writes, rnrm > xnrm * cte, takes a NaN residual for a small one."""
    arrays = {"x": [1.0, 1.0], "r": [0.0, 0.0], "d": [1.0, 1.0]}
    for place in (0, 1):
        given_arrays = {name: np.array(values) for name, values in arrays.items()}
        if is_complex:
            given_arrays["x"], given_arrays["r"] = given_arrays["x"] + 0j, given_arrays["r"] + 0j
        if is_complex and where != "d":
            given_arrays[where][place] = complex(0.0, bad)
        else:
            given_arrays[where][place] = bad
        c, errors = measured(**given_arrays, b_size=1.0, tol=tol)
        assert passes(c, errors) == (False, False), (place, errors)


@pytest.mark.parametrize("b_size", [np.nan, np.inf])
def test_nor_does_a_right_hand_side_that_is_not_finite(b_size):
    c, errors = measured(x=[1.0], r=[0.0], d=[b_size], b_size=b_size)
    assert passes(c, errors) == (False, False)


def test_an_overflow_of_the_denominator_hides_no_residual():
    """||A|| ||x|| = inf makes r / inf = 0."""
    for tol in (None, 0.5):
        c, errors = measured([1e200], [1e100], [1e300], 1.0, norm_a=1e200, tol=tol)
        assert passes(c, errors) == (False, False)
        c, errors = measured([1.0], [1.0], [np.inf], 1.0, tol=tol)
        assert passes(c, errors) == (False, False)
        c, errors = measured([1.0], [0.0], [1.0], 1.0, norm_a=np.inf, tol=tol)
        assert passes(c, errors) == (False, False)


def test_a_bad_column_leaves_its_neighbours():
    x = np.array([[1.0, np.nan, 1.0]])
    c = criterion(1)
    errors = c.measure(x, 0 * x, np.abs(x), np.ones(3))
    np.testing.assert_array_equal(c.is_best(errors), [True, False, True])


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=3, max_size=3),
    st.lists(st.floats(min_value=0, allow_nan=False), min_size=3, max_size=3),
    st.floats(min_value=0, allow_nan=False),
)
def test_whatever_passes_has_a_small_finite_residual(x, d, norm_a):
    """Any x, d and ||A||: a residual of the size of d passes only if d is zero."""
    c, errors = measured(x=x, r=d, d=d, b_size=1.0, norm_a=norm_a)
    if c.is_best(errors)[0]:
        assert max(d) == 0
        assert np.isfinite(x).all()


# -- sizes ---------------------------------------------------------------------------------------


def test_column_max():
    x = np.array([[1.0, -3.0, np.nan], [2.0, 0.0, 9.0]])
    np.testing.assert_array_equal(column_max(OPS, x), [2, 3, np.nan])
    np.testing.assert_array_equal(column_max(OPS, np.array([[3 - 4j], [5j]])), [7])
    np.testing.assert_array_equal(column_max(OPS, np.zeros((0, 2))), [0, 0])
