"""What cannot be solved is refused or warned of; no input gives a silent wrong answer."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy
import scipy.linalg
import scipy.sparse

from mplinalg import LinAlgError, LinAlgWarning, Status, solve
from mplinalg.testing import backward_error, gallery

SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))
STRUCTURES = [
    None, "gen", "sym", "her", "pos", "upper triangular", "lower triangular", "diagonal",
    "tridiagonal", "banded",
]  # fmt: skip
SIZES = [1, 3, 40, 260]


def meets_the_test(a, x, b):
    n, u = max(a.shape[-1], 4), np.finfo(x.dtype).eps / 2
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(n) * u))


def error_of_scipy(a, b, **keywords):
    """The class of the exception that SciPy raises."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            scipy.linalg.solve(a, b, **keywords)
        except Exception as error:
            return type(error)
    return None


# -- not numbers ---------------------------------------------------------------------------------


NOT_NUMBERS = {
    "object": (np.array([[1, 2], [3, 4]], object), ValueError),
    "None": (None, ValueError),
    "str": (np.array([["a", "b"], ["c", "d"]]), TypeError),
    "bytes": (np.array([[b"a", b"b"], [b"c", b"d"]]), TypeError),
    "datetime": (np.array([[1, 2], [3, 4]], "M8[s]"), TypeError),
    "timedelta": (np.array([[1, 2], [3, 4]], "m8[s]"), TypeError),
    "structured": (np.zeros((2, 2), [("x", float)]), TypeError),
    "masked": (np.ma.array(np.eye(2)), ValueError),
    "sparse matrix": (scipy.sparse.csr_matrix(np.eye(2)), ValueError),
    "sparse array": (scipy.sparse.coo_array(np.eye(2)), ValueError),
    "ragged": ([[1, 2], [3]], ValueError),
}


@pytest.mark.parametrize("name", NOT_NUMBERS)
def test_not_numbers(name):
    bad, kind = NOT_NUMBERS[name]
    for a, b in ((bad, np.ones(2)), (np.eye(2), bad)):
        with pytest.raises(kind) as error:
            solve(a, b)
        assert not isinstance(error.value, LinAlgError)
        # of strings, SciPy (deprecated) tries to make numbers
        if SCIPY >= (1, 17) and name not in ("str", "bytes"):
            assert issubclass(error_of_scipy(a, b), kind)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("n", SIZES)
def test_not_finite_is_refused(rng, n, dtype, value):
    for structure in STRUCTURES:
        a, b = (2 * np.eye(n) + 1).astype(dtype), np.ones((n, 2), dtype)
        for i, j in ((0, 0), (n - 1, 0), (0, n - 1)):
            bad = a.copy()
            bad[i, j] = value
            for precision in ("auto", "fp32"):
                with pytest.raises(ValueError, match="array must not contain infs or NaNs"):
                    solve(bad, b, assume_a=structure, precision=precision)
        b[n // 2, 1] = value
        with pytest.raises(ValueError, match="array must not contain infs or NaNs"):
            solve(a, b, assume_a=structure)
    if dtype == "complex128":
        a[0, 0] = complex(1, value)
        with pytest.raises(ValueError, match="infs or NaNs"):
            solve(a, np.ones(n))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("precision", ["auto", "fp16", "fp64"])
@pytest.mark.parametrize("n", SIZES)
def test_not_finite_is_never_silent(rng, n, precision, value):
    """With check_finite=False it is an error, or a warning and an answer that shows it."""
    structures = STRUCTURES if n < 100 else [None, "sym", "pos"]
    for structure, where in itertools.product(structures, ("a", "b", "both")):
        a = rng.standard_normal((n, n))
        a = a + a.T + 4 * n * np.eye(n)
        b = rng.standard_normal((n, 2))
        if where != "b":
            a[n // 2, n // 2] = value
        if where != "a":
            b[n // 3, 0] = value
        clean = solve(a, b[:, 1], assume_a=structure, precision=precision) if where == "b" else None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("error")
            warnings.simplefilter("always", LinAlgWarning)
            try:
                x = solve(a, b, assume_a=structure, precision=precision, check_finite=False)
            except LinAlgError:
                continue
        assert caught, (structure, where)
        if where == "b":
            assert not np.isfinite(x[:, 0]).all(), structure
            # the other right-hand side is none the worse
            difference = abs(x[:, 1] - clean).max()
            assert difference <= n * np.finfo(float).eps * abs(clean).max(), structure


# -- singular ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("n", [3, 40, 260])
def test_exactly_singular(n, dtype):
    ones = np.ones((n, n), dtype)
    matrices = {name: gallery.matrix(name, n, dtype) for name in
                ("zero_row", "zero_column", "singular_integer")}  # fmt: skip
    matrices |= {"ones": ones, "zeros": 0 * ones, "triangle": np.triu(ones, 1)}
    for name, a in matrices.items():
        for order in "CF":
            given, b = np.asarray(a, order=order), np.arange(1, n + 1).astype(dtype)
            with pytest.raises(LinAlgError, match="singular"):
                solve(given, b)
            if n > 100:
                continue
            # scaled for fp16 and rounded, it may be regular by a hair
            with pytest.raises((LinAlgError, LinAlgWarning), match=r"singular|ill-conditioned"):
                solve(given, b, precision="fp16")
        if SCIPY >= (1, 17):
            assert issubclass(error_of_scipy(a, np.ones(n, dtype)), scipy.linalg.LinAlgError), name


def test_a_singular_scalar():
    for a in ([[0.0]], 0.0, [[0j]]):
        with pytest.raises(LinAlgError, match="singular"):
            solve(a, [1.0])


@pytest.mark.parametrize("n", [40, 260])
def test_singular_up_to_rounding_warns(n):
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        solve(gallery.matrix("singular_svd", n), np.ones(n))


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keywords",
    [
        {"precision": "fp8"}, {"precision": None}, {"precision": 16}, {"precision": "FP16"},
        {"refine": "jacobi"}, {"refine": 1}, {"refine": []}, {"refine": "Gmres"},
        {"residual": "quad"}, {"residual": None},
        {"tol": 0}, {"tol": -1e-3}, {"tol": np.nan}, {"tol": np.inf}, {"tol": 1.0}, {"tol": "1"},
        {"tol": [1e-3]}, {"tol": 1e-3j}, {"tol": True},
        {"max_iter": -1}, {"max_iter": 1.5}, {"max_iter": True}, {"max_iter": "3"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("n", [1, 3, 260])
def test_options_are_checked(keywords, n):
    (name,) = keywords
    with pytest.raises(ValueError, match=name):
        solve(np.eye(n), np.ones(n), **keywords)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_a_precision_wider_than_the_working_one(dtype):
    with pytest.raises(ValueError, match="wider"):
        solve(np.eye(3, dtype=dtype), np.ones(3, dtype), precision="fp64")
    assert solve(np.eye(3, dtype=dtype), np.ones(3), precision="fp64").dtype.itemsize >= 8


def test_unknown_keywords():
    with pytest.raises(TypeError):
        solve(np.eye(2), np.ones(2), sym_pos=True)


# -- numbers of extreme size ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("name", ["badly_scaled", "denormal", "graded_rows", "graded_columns"])
@pytest.mark.parametrize("n", [5, 40, 260])
def test_extreme_matrices_are_never_silent(rng, name, n, dtype):
    a = gallery.matrix(name, n, dtype)
    for size in (1.0, float(abs(a).max()), float(abs(a).min())):
        b = (size * rng.uniform(0.1, 1.0, n)).astype(dtype)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("error")
            warnings.simplefilter("always", LinAlgWarning)
            x = solve(a, b)
        assert caught or meets_the_test(a, x, b), size


@pytest.mark.parametrize("name", ["graded_rows", "graded_columns"])
@pytest.mark.parametrize("n", [40, 260])
def test_graded_matrices_are_solved_all_the_same(rng, name, n):
    a, b = gallery.matrix(name, n), rng.standard_normal(n)
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        x = solve(a, b)
    assert meets_the_test(a, x, b)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("n", SIZES)
def test_a_solution_out_of_range_warns(rng, n, dtype):
    big = np.dtype(dtype).type(1e300 if np.finfo(dtype).bits == 64 else 1e34)
    a = (rng.standard_normal((n, n)) + 3 * n * np.eye(n)).astype(dtype) / n
    b = rng.standard_normal(n).astype(dtype)
    diagonal = np.diag(a.diagonal())
    structures = [(a, None), (a, "gen"), (diagonal, None), (diagonal, "diagonal"),
                  (np.triu(a), "upper triangular"), (diagonal, "tridiagonal")]  # fmt: skip
    for m, structure in structures:
        with pytest.warns(LinAlgWarning, match="overflows"):
            x, report = solve(m / big, b * big, assume_a=structure, full_output=True)
        assert not np.isfinite(x).all()
        assert report.status is Status.STAGNATED
        with pytest.warns(LinAlgWarning, match="underflows"):
            x, report = solve(m * big, b / big, assume_a=structure, full_output=True)
        assert report.status is Status.STAGNATED


def test_numbers_at_the_ends_of_the_range():
    """Exact answers that are subnormal, or close to overflow, are no reason to warn."""
    tiny, huge = np.finfo(float).tiny / 8, np.finfo(float).max
    for n in (1, 3, 40, 260):
        for value in (tiny, huge):
            assert np.array_equal(solve(np.eye(n), np.full(n, value)), np.full(n, value))


# -- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [1, 3, 40, 260])
def test_inputs_are_left_alone(rng, n, order):
    for structure, precision in itertools.product(STRUCTURES, ("auto", "fp16", "fp32", "fp64")):
        a = np.asarray(rng.standard_normal((n, n)) + 4 * n * np.eye(n), order=order)
        a, b = a + a.T, np.asarray(rng.standard_normal((n, 2)), order=order)
        kept_a, kept_b = a.copy(), b.copy()
        x = solve(a, b, overwrite_a=True, overwrite_b=True, assume_a=structure, precision=precision)
        assert np.array_equal(a, kept_a)
        assert np.array_equal(b, kept_b)
        assert not np.may_share_memory(x, b)
        assert not np.may_share_memory(x, a)
