"""lu_factor and lu_solve: SciPy's tuples, working-precision answers, and a watched matrix."""

from __future__ import annotations

import itertools
import pickle
import warnings

import numpy as np
import pytest
import scipy
import scipy.linalg

from mplinalg import LU, LinAlgError, LinAlgWarning, Status, lu_factor, lu_solve
from mplinalg.testing import backward_error, factorization_error, gallery

DTYPES = ["float32", "float64", "complex64", "complex128"]
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
SIZES = [1, 5, 40, 260]


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def meets_the_test(a, x, b, u=None):
    n, u = max(a.shape[-1], 4), u or np.finfo(x.dtype).eps / 2
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(n) * u))


def applied(a, trans):
    return {0: a, 1: a.T, 2: a.conj().T}[trans]


# -- as SciPy's tuple ----------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (40, 40), (260, 260), (3, 5), (5, 3)], ids=str)
def test_unpacks_as_scipys(rng, shape, dtype, order):
    a = np.asarray(normal(rng, shape, dtype), order=order)
    factors = lu_factor(a)
    lu, piv = factors
    want_lu, want_piv = scipy.linalg.lu_factor(a)
    assert np.array_equal(piv, want_piv)
    # the same factors to rounding, which the elimination may amplify
    assert np.allclose(lu, want_lu, rtol=0, atol=1e3 * np.finfo(dtype).eps * abs(want_lu).max())
    assert (lu.dtype, piv.dtype) == (want_lu.dtype, want_piv.dtype)
    assert len(factors) == 2
    assert factors[0] is lu
    assert factors[1] is piv
    k, perm = min(shape), np.arange(shape[0])
    for i, p in enumerate(piv):
        perm[[i, p]] = perm[[p, i]]
    lower = np.tril(lu[:, :k], -1) + np.eye(shape[0], k)
    error = factorization_error(a, lower, np.triu(lu[:k]), perm=perm)
    assert error <= np.finfo(dtype).eps


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 0, 0)], ids=str)
def test_unpacks_empty_matrices(shape):
    lu, piv = lu_factor(np.zeros(shape))
    assert lu.shape == shape
    assert piv.shape == (*shape[:-2], min(shape[-2:]))


@pytest.mark.parametrize("trans", [0, 1, 2])
def test_plain_tuples_are_taken(rng, trans):
    a, b = normal(rng, (50, 50), complex), normal(rng, (50, 2), complex)
    plain = scipy.linalg.lu_factor(a)
    x = lu_solve(plain, b, trans)
    assert np.array_equal(x, scipy.linalg.lu_solve(plain, b, trans))
    again = scipy.linalg.lu_solve(tuple(lu_factor(a)), b, trans)
    np.testing.assert_allclose(again, x, rtol=1e-10)
    x, report = lu_solve(plain, b, trans, full_output=True)
    assert report.status is Status.DIRECT
    assert report.backward_error is None  # there is no matrix to measure it with


def test_scipy_takes_the_factors(rng):
    a, b = normal(rng, (50, 50)), normal(rng, 50)
    want = scipy.linalg.lu_solve(scipy.linalg.lu_factor(a), b)
    np.testing.assert_allclose(scipy.linalg.lu_solve(lu_factor(a), b), want, rtol=1e-10)


# -- solving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_solves_to_working_precision(rng, n, dtype, order):
    a = np.asarray(normal(rng, (n, n), dtype), order=order)
    factors = lu_factor(a)
    assert isinstance(factors, LU)
    assert factors.shape == (n, n)
    assert factors.dtype == dtype
    for trans, shape in itertools.product((0, 1, 2), ((n,), (n, 1), (n, 2))):
        b = normal(rng, shape, dtype)
        x = lu_solve(factors, b, trans)
        assert x.dtype == dtype
        assert x.shape == shape
        assert meets_the_test(applied(a, trans), x, b), (trans, shape)
        assert np.array_equal(x, factors.solve(b, trans))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_pinned_precisions(rng, precision, dtype):
    a = gallery.randsvd(80, 10.0, dtype=dtype)
    factors = lu_factor(a, precision=precision)
    assert factors.precision == precision
    for trans in (0, 1, 2):
        b = normal(rng, (80, 2), dtype)
        x, report = lu_solve(factors, b, trans, full_output=True)
        assert report.precision == precision
        assert meets_the_test(applied(a, trans), x, b)


def test_a_pinned_precision_that_cannot_deliver_warns(rng):
    a = gallery.randsvd(80, 1e10)
    with pytest.warns(LinAlgWarning, match="precision='fp16' could not deliver") as caught:
        factors = lu_factor(a, precision="fp16")
    assert caught[0].filename == __file__
    assert factors.precision in ("fp32", "fp64")
    b = normal(rng, 80)
    assert meets_the_test(a, lu_solve(factors, b), b)


@pytest.mark.parametrize("n", [5, 40, 260])
@pytest.mark.parametrize("single", ["float32", "complex64"])
def test_a_wider_right_hand_side_gets_a_wider_answer(rng, n, single):
    """As SciPy's, x has the common dtype; unlike SciPy's it is as accurate as that."""
    a = normal(rng, (n, n), single)
    factors = lu_factor(a)
    for dtype in ("float64", "complex128"):
        b = normal(rng, (n, 2), dtype)
        x = lu_solve(factors, b)
        assert x.dtype == np.result_type(a, b)
        assert meets_the_test(a, x, b)


@pytest.mark.parametrize("n", [5, 40, 260])
@pytest.mark.parametrize("trans", [0, 1, 2])
def test_complex_right_hand_sides_of_a_real_matrix(rng, n, trans):
    a, b = normal(rng, (n, n)), normal(rng, (n, 3), complex)
    x, report = lu_solve(lu_factor(a), b, trans, full_output=True)
    assert x.dtype == complex
    assert meets_the_test(applied(a, trans), x, b)
    assert report.backward_error.shape == (3,)


@pytest.mark.parametrize("kind", "?bhilBefdgFDG")
def test_dtypes_of_right_hand_sides(rng, kind):
    b = np.array([1, 0, 1]).astype(kind)
    for dtype in DTYPES:
        factors = lu_factor(np.eye(3, dtype=dtype))
        x = lu_solve(factors, b)
        assert np.array_equal(x, [1, 0, 1])
        if SCIPY >= (1, 17):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                want = scipy.linalg.lu_solve(scipy.linalg.lu_factor(np.eye(3, dtype=dtype)), b)
            assert x.dtype == want.dtype


@pytest.mark.parametrize("n", [5, 40, 260])
def test_the_answer_does_not_depend_on_earlier_ones(rng, n):
    a, b, other = normal(rng, (n, n)), normal(rng, n), normal(rng, (n, 30))
    factors = lu_factor(a)
    first = lu_solve(factors, b)
    for trans in (0, 1, 2):
        lu_solve(factors, other, trans)
    assert np.array_equal(first, lu_solve(factors, b))


@pytest.mark.parametrize("shape", [(40,), (40, 2), (3, 40, 2)])
def test_empty_right_hand_sides(rng, shape):
    factors = lu_factor(normal(rng, (40, 40)))
    empty = np.zeros((*shape[:-1], 0)) if len(shape) > 1 else np.zeros((40, 0))
    x = lu_solve(factors, empty)
    assert x.shape == empty.shape
    assert lu_solve(lu_factor(np.zeros((0, 0))), np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("refine", ["auto", "classical", "gmres", None])
def test_methods(rng, refine):
    a, b = gallery.randsvd(60, 10.0), normal(rng, 60)
    x, report = lu_solve(lu_factor(a, precision="fp32"), b, refine=refine, full_output=True)
    if refine is None:
        assert report.iterations == 0
        assert meets_the_test(a, x, b, u=2.0**-24)
        assert not meets_the_test(a, x, b)
    else:
        assert meets_the_test(a, x, b)
        assert bool(report.inner_iterations) == (refine == "gmres")


@pytest.mark.parametrize(("dtype", "big"), [("float64", 1e300), ("float32", 1e34)])
@pytest.mark.parametrize("n", [5, 260])
def test_extreme_sizes(rng, n, dtype, big):
    for size in (big, 1 / big):
        a = normal(rng, (n, n), dtype) * np.dtype(dtype).type(size)
        b = normal(rng, n, dtype) * np.dtype(dtype).type(size)
        factors = lu_factor(a)
        for trans in (0, 1):
            assert meets_the_test(applied(a, trans), lu_solve(factors, b, trans), b)


# -- singular ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 40, 260])
@pytest.mark.parametrize("name", ["zero_row", "zero_column", "singular_integer"])
def test_singular(name, n):
    a = gallery.matrix(name, n)
    with pytest.warns(scipy.linalg.LinAlgWarning, match="Singular matrix") as caught:
        factors = lu_factor(a)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for trans in (0, 1, 2):
        with pytest.raises(LinAlgError, match="pivot"):
            lu_solve(factors, np.ones(n), trans)
    assert factors.rcond() == 0.0
    lu, piv = factors  # without another warning
    with pytest.warns(scipy.linalg.LinAlgWarning):
        want = scipy.linalg.lu_factor(a)
    assert np.array_equal(lu, want[0])
    assert np.array_equal(piv, want[1])


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_rectangular(shape):
    factors = lu_factor(np.arange(15.0).reshape(shape) ** 2 + np.eye(*shape))
    with pytest.raises(ValueError, match="square"):
        lu_solve(factors, np.ones(shape[0]))
    with pytest.warns(scipy.linalg.LinAlgWarning, match="exactly zero"):
        _, _ = lu_factor(np.ones(shape))


def test_ill_conditioned(rng):
    a, b = gallery.matrix("hilbert", 20), normal(rng, 20)
    factors = lu_factor(a)
    assert factors.rcond() < np.finfo(float).eps
    with pytest.warns(LinAlgWarning, match="ill-conditioned") as caught:
        factors.solve(b)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("n", [20, 260])
@pytest.mark.parametrize("cond", [10.0, 1e4, 1e8])
def test_rcond(n, cond):
    """LAPACK's estimate is right to a small factor."""
    a = gallery.randsvd(n, cond, "one_small")
    exact = 1 / np.linalg.cond(a, 1)
    for precision in ("auto", "fp64"):
        estimate = lu_factor(a, precision=precision).rcond()
        assert exact / 3 <= estimate <= 10 * exact, precision


# -- the matrix is watched -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, 40, 260])
def test_a_changed_entry_is_found(rng, n, dtype):
    """No answer is for another matrix: it solves A as it is now, or there is an error."""
    a, b = normal(rng, (n, n), dtype), normal(rng, n, dtype)
    factors = lu_factor(a)
    x = lu_solve(factors, b)
    i, j = rng.integers(0, n, 2)
    old = a[i, j]
    a[i, j] += 1
    with pytest.raises(LinAlgError, match="modified"):
        lu_solve(factors, b)
    with pytest.raises(LinAlgError, match="modified"):
        tuple(factors)
    u = np.finfo(dtype).eps / 2
    for change in 2.0 ** np.arange(0, 16, 3) * u * abs(a).sum(axis=1).max():
        a[i, j] = old + np.dtype(dtype).type(change)
        try:
            answer = lu_solve(factors, b)
        except LinAlgError:
            continue
        assert meets_the_test(a, answer, b)
    a[i, j] = old
    assert np.array_equal(lu_solve(factors, b), x)
    for function in (np.transpose, np.flipud, np.negative, lambda m: 2 * m):
        old = a.copy()
        a[...] = function(old)
        with pytest.raises(LinAlgError, match="modified"):
            factors.solve(b)
        a[...] = old
    assert np.array_equal(lu_solve(factors, b), x)


def test_a_changed_matrix_is_found_by_a_wider_right_hand_side(rng):
    a = normal(rng, (30, 30), "float32")
    factors = lu_factor(a)
    a[3, 4] += 1
    with pytest.raises(LinAlgError, match="modified"):
        lu_solve(factors, np.ones(30))


@pytest.mark.parametrize("size", [1e300, 1e-300])
@pytest.mark.parametrize("n", [5, 260])
def test_a_changed_matrix_of_extreme_size_is_found(rng, n, size):
    """It is solved from a scaled copy."""
    a = normal(rng, (n, n)) * size
    factors = lu_factor(a)
    b = normal(rng, n) * size
    x = lu_solve(factors, b)
    a[1, 2] *= 1.5
    with pytest.raises(LinAlgError, match="modified"):
        lu_solve(factors, b)
    with pytest.raises(LinAlgError, match="modified"):
        tuple(factors)
    a[1, 2] /= 1.5
    a *= 2
    with pytest.raises(LinAlgError, match="modified"):
        lu_solve(factors, b)
    a /= 2
    assert np.array_equal(lu_solve(factors, b), x)


def test_strided_matrices_are_copied(rng):
    """They cannot be referred to, and are solved and unpacked as they were."""
    whole = normal(rng, (80, 80))
    a = whole[::2, ::2]
    kept, b = a.copy(), normal(rng, 40)
    factors = lu_factor(a)
    a[...] = 0
    assert meets_the_test(kept, lu_solve(factors, b), b)
    np.testing.assert_allclose(factors[0], scipy.linalg.lu_factor(kept)[0], rtol=1e-9)


# -- pickling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 5), (260, 260), (2, 3, 3), (3, 5)], ids=str)
def test_pickle(rng, shape, dtype):
    a = normal(rng, shape, dtype)
    factors = lu_factor(a)
    again = pickle.loads(pickle.dumps(factors))
    if shape[-1] == shape[-2]:
        b = normal(rng, (shape[-1], 2), dtype)
        assert np.array_equal(lu_solve(again, b), lu_solve(factors, b))
    assert all(map(np.array_equal, again, factors))
    assert again.precision == factors.precision
    assert repr(again) == repr(factors)


def test_a_pickle_holds_the_matrix_and_its_factors_once(rng):
    a = normal(rng, (400, 400))
    assert len(pickle.dumps(lu_factor(a, precision="fp32"))) <= 1.6 * a.nbytes


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trans", [3, -1, "N", "T", None])
def test_trans_is_checked(trans):
    for factors in (lu_factor(np.eye(2)), scipy.linalg.lu_factor(np.eye(2))):
        with pytest.raises(ValueError, match="trans must be"):
            lu_solve(factors, np.ones(2), trans)


def test_bad_arguments(rng):
    a = normal(rng, (4, 4))
    factors = lu_factor(a)
    for shape in ((3,), (3, 4), (), (2, 3, 1)):
        with pytest.raises(ValueError, match="incompatible"):
            lu_solve(factors, np.ones(shape))
    for bad in (np.ones(3), np.float64(1)):
        with pytest.raises(ValueError, match="ndim"):
            lu_factor(bad)
    with pytest.raises(ValueError, match="precision"):
        lu_factor(a, precision="fp8")
    with pytest.raises(ValueError, match="wider"):
        lu_factor(a.astype("f"), precision="fp64")
    with pytest.raises(ValueError, match="refine"):
        lu_solve(factors, np.ones(4), refine="jacobi")
    for tol in (0, -1, np.nan, 2):
        with pytest.raises(ValueError, match="tol"):
            lu_solve(factors, np.ones(4), tol=tol)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("n", [4, 260])
def test_not_finite(rng, n, value):
    a, b = normal(rng, (n, n)), normal(rng, (n, 2))
    factors = lu_factor(a)
    b[1, 0] = value
    with pytest.raises(ValueError, match="infs or NaNs"):
        lu_solve(factors, b)
    with pytest.warns(LinAlgWarning):
        x = lu_solve(factors, b, check_finite=False)
    assert not np.isfinite(x[:, 0]).all()
    assert meets_the_test(a, x[:, 1], b[:, 1])
    a[2, 1] = value
    with pytest.raises(ValueError, match="infs or NaNs"):
        lu_factor(a)
    with pytest.raises(ValueError, match="infs or NaNs"):
        lu_factor(a[:, :3])


@pytest.mark.parametrize("n", [4, 260])
def test_inputs_are_left_alone(rng, n):
    a, b = normal(rng, (n, n)), normal(rng, (n, 2))
    kept_a, kept_b = a.copy(), b.copy()
    factors = lu_factor(a, overwrite_a=True)
    lu_solve(factors, b, overwrite_b=True)
    assert np.array_equal(a, kept_a)
    assert np.array_equal(b, kept_b)
