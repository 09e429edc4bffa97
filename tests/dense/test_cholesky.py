"""cho_factor and cho_solve: SciPy's tuples, working-precision answers, one triangle."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import scipy.linalg

from mplinalg import Cholesky, LinAlgError, LinAlgWarning, Status, cho_factor, cho_solve
from mplinalg.testing import backward_error, gallery

DTYPES = ["float32", "float64", "complex64", "complex128"]
DEFINITE = [n for n in gallery.names() if gallery.facts(n).positive_definite]


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def definite(rng, n, dtype=float):
    a = normal(rng, (n, n), dtype)
    return (a @ a.conj().T + n * np.eye(n)).astype(dtype)


def with_garbage(a, lower):
    out = a.copy()
    n = len(a)
    out[np.triu_indices(n, 1) if lower else np.tril_indices(n, -1)] = 1e30
    return out


def meets_the_test(a, x, b):
    n, u = max(a.shape[-1], 4), np.finfo(x.dtype).eps / 2
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(n) * u))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 40, 260])
def test_solves_and_unpacks(rng, n, dtype, lower, order):
    a = definite(rng, n, dtype)
    given = np.asarray(with_garbage(a, lower), order=order)
    factor = cho_factor(given, lower)
    assert isinstance(factor, Cholesky)
    assert factor.lower is lower
    for shape in ((n,), (n, 1), (n, 2)):
        b = normal(rng, shape, dtype)
        x = cho_solve(factor, b)
        assert x.dtype == dtype
        assert x.shape == shape
        assert meets_the_test(a, x, b)
        assert np.array_equal(x, factor.solve(b))
    c, is_lower = factor
    want, _ = scipy.linalg.cho_factor(given, lower)
    triangle = np.tril if lower else np.triu
    assert c.dtype == dtype
    size = 100 * np.finfo(dtype).eps * abs(triangle(want)).max()
    np.testing.assert_allclose(triangle(c), triangle(want), rtol=0, atol=size)
    assert bool(is_lower) is lower
    b = normal(rng, n, dtype)
    assert meets_the_test(a, scipy.linalg.cho_solve(factor, b), b)


@pytest.mark.parametrize("lower", [False, True])
def test_plain_tuples_are_taken(rng, lower):
    a, b = definite(rng, 30, complex), normal(rng, (30, 2), complex)
    plain = scipy.linalg.cho_factor(a, lower)
    x, report = cho_solve(plain, b, full_output=True)
    assert np.array_equal(x, scipy.linalg.cho_solve(plain, b))
    assert report.status is Status.DIRECT


@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_pinned_precisions(rng, precision, dtype):
    a = gallery.matrix("spd_geometric", 80, dtype, cond=10.0)
    for lower in (False, True):
        factor = cho_factor(with_garbage(a, lower), lower, precision=precision)
        assert factor.precision == precision
        b = normal(rng, (80, 2), dtype)
        assert meets_the_test(a, cho_solve(factor, b), b)


@pytest.mark.parametrize("name", DEFINITE)
@pytest.mark.parametrize("n", [30, 260])
def test_the_gallery(rng, name, n):
    """Every definite matrix is solved to working precision, warned of, or refused as by SciPy."""
    try:
        a = gallery.matrix(name, n)
    except ValueError:
        pytest.skip(f"{name} does not exist for {n=}")
    b = normal(rng, n)
    try:
        scipy.linalg.cho_factor(a)
    except scipy.linalg.LinAlgError:
        with pytest.raises(LinAlgError, match="not positive definite"):
            cho_factor(a)
        return
    factor = cho_factor(a)
    if factor.rcond() < np.finfo(float).eps:
        with pytest.warns(LinAlgWarning):
            factor.solve(b)
    else:
        assert meets_the_test(a, factor.solve(b), b)


@pytest.mark.parametrize("n", [5, 40, 260])
@pytest.mark.parametrize("single", ["float32", "complex64"])
def test_a_wider_right_hand_side_gets_a_wider_answer(rng, n, single):
    a = definite(rng, n, single)
    factor = cho_factor(with_garbage(a, True), lower=True)
    for dtype in ("float64", "complex128"):
        b = normal(rng, (n, 2), dtype)
        x = cho_solve(factor, b)
        assert x.dtype == np.result_type(a, b)
        # the imaginary part that rounding left on the diagonal does not count
        exact = np.tril(a, -1) + np.tril(a, -1).conj().T + np.diag(a.diagonal().real)
        assert meets_the_test(exact, x, b)


@pytest.mark.parametrize("n", [5, 260])
def test_complex_right_hand_sides_of_a_real_matrix(rng, n):
    a, b = definite(rng, n), normal(rng, (n, 3), complex)
    assert meets_the_test(a, cho_solve(cho_factor(a), b), b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 40, 260])
def test_not_positive_definite(rng, n, dtype):
    a = definite(rng, n, dtype)
    k = n // 2
    a[k, k] = -1
    for lower, precision in itertools.product((False, True), ("auto", "fp16", "fp32")):
        with pytest.raises(LinAlgError, match=rf"not positive definite.*order {k + 1} "):
            cho_factor(a, lower, precision=precision)
    assert issubclass(LinAlgError, scipy.linalg.LinAlgError)


def test_semidefinite():
    for n in (3, 40, 260):
        with pytest.raises(LinAlgError, match="not positive definite"):
            cho_factor(np.zeros((n, n)))


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("n", [5, 40, 260])
def test_a_changed_matrix_is_found(rng, n, lower):
    """In the triangle that is read; the other one is free."""
    a, b = definite(rng, n), normal(rng, n)
    factor = cho_factor(a, lower)
    x = factor.solve(b)
    a[(0, n - 1) if lower else (n - 1, 0)] += 5
    assert np.array_equal(factor.solve(b), x)
    i, j = (n - 1, 0) if lower else (0, n - 1)
    a[i, j] += 1e-3
    with pytest.raises(LinAlgError, match="modified"):
        factor.solve(b)
    with pytest.raises(LinAlgError, match="modified"):
        tuple(factor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 5), (260, 260), (2, 3, 3)], ids=str)
def test_pickle(rng, shape, dtype):
    a = np.broadcast_to(definite(rng, shape[-1], dtype), shape).copy()
    factor = cho_factor(a)
    again = pickle.loads(pickle.dumps(factor))
    b = normal(rng, (shape[-1], 2), dtype)
    assert np.array_equal(cho_solve(again, b), cho_solve(factor, b))
    assert np.array_equal(np.triu(again[0]), np.triu(factor[0]))
    assert np.array_equal(again[1], factor[1])


def test_empty():
    factor = cho_factor(np.zeros((0, 0)))
    assert factor.solve(np.zeros(0)).shape == (0,)
    assert factor.solve(np.zeros((0, 2))).shape == (0, 2)
    assert factor[0].shape == (0, 0)
    assert cho_factor(np.eye(3)).solve(np.zeros((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("n", [4, 260])
def test_not_finite(rng, n, value):
    a, b = definite(rng, n), normal(rng, (n, 2))
    factor = cho_factor(a)
    b[1, 0] = value
    with pytest.raises(ValueError, match="infs or NaNs"):
        cho_solve(factor, b)
    with pytest.warns(LinAlgWarning):
        x = cho_solve(factor, b, check_finite=False)
    assert not np.isfinite(x[:, 0]).all()
    assert meets_the_test(a, x[:, 1], b[:, 1])
    for i, j in ((1, 2), (2, 1), (3, 3)):  # as SciPy, also where it is not read
        bad = a.copy()
        bad[i, j] = value
        with pytest.raises(ValueError, match="infs or NaNs"):
            cho_factor(bad)


def test_bad_arguments(rng):
    factor = cho_factor(definite(rng, 4))
    for shape in ((3,), (3, 4), (), (2, 3, 1)):
        with pytest.raises(ValueError, match="incompatible"):
            cho_solve(factor, np.ones(shape))
    for shape in ((3,), (3, 4), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"square|ndim"):
            cho_factor(np.ones(shape))
    with pytest.raises(ValueError, match="precision"):
        cho_factor(np.eye(2), precision="fp8")
    with pytest.raises(ValueError, match="refine"):
        cho_solve(factor, np.ones(4), refine="cg")


@pytest.mark.parametrize(("dtype", "big"), [("float64", 1e300), ("float32", 1e34)])
@pytest.mark.parametrize("n", [5, 260])
def test_extreme_sizes(rng, n, dtype, big):
    for size in (big, 1 / big):
        scale = np.dtype(dtype).type(size / n)
        a, b = definite(rng, n, dtype) * scale, normal(rng, n, dtype) * scale
        assert meets_the_test(a, cho_factor(a).solve(b), b)


def test_inputs_are_left_alone(rng):
    for n in (4, 260):
        a, b = definite(rng, n), normal(rng, (n, 2))
        kept_a, kept_b = a.copy(), b.copy()
        cho_solve(cho_factor(a, overwrite_a=True), b, overwrite_b=True)
        assert np.array_equal(a, kept_a)
        assert np.array_equal(b, kept_b)
