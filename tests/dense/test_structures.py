"""assume_a: every name, both triangles, real and complex; what is not read does not matter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, solve
from mplinalg.testing import backward_error, gallery

DTYPES = ["float32", "float64", "complex64", "complex128"]
LONG = {"sym": "symmetric", "her": "hermitian", "pos": "positive definite"}
GARBAGE = 1e30
SIZES = [1, 2, 3, 4, 5, 33, 260]


def normal(rng, shape, dtype):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def meets_the_test(a, x, b):
    n, u = max(a.shape[-1], 4), np.finfo(x.dtype).eps / 2
    assert x.shape == b.shape
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(n) * u))


def one_triangle(rng, n, dtype, structure):
    """A matrix of the structure, well conditioned."""
    a = normal(rng, (n, n), dtype)
    if structure == "pos":
        return (a @ a.conj().T + n * np.eye(n)).astype(dtype)
    shift = 4 * np.sqrt(n) * np.diag(np.where(np.arange(n) % 3, 1, -1))
    if structure == "her":
        return ((a + a.conj().T) / 2 + shift).astype(dtype)
    return ((a + a.T) / 2 + shift).astype(dtype)


def with_garbage(a, lower, value=GARBAGE):
    """`a` with the triangle that is not read overwritten."""
    out = a.copy()
    n = len(a)
    out[np.triu_indices(n, 1) if lower else np.tril_indices(n, -1)] = value
    return out


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("structure", ["sym", "her", "pos"])
def test_one_triangle_is_read(rng, structure, dtype, n):
    a, b = one_triangle(rng, n, dtype, structure), normal(rng, (n, 2), dtype)
    for lower, order in itertools.product((False, True), "CF"):
        given = np.asarray(with_garbage(a, lower), order=order)
        keep = given.copy()
        x = solve(given, b, lower=lower, assume_a=structure)
        assert meets_the_test(a, x, b), (lower, order)
        assert np.array_equal(x, solve(given, b, lower=lower, assume_a=LONG[structure]))
        assert np.array_equal(given, keep)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("structure", ["sym", "her", "pos"])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp16x2", "fp32"])
def test_one_triangle_in_a_low_precision(rng, structure, dtype, precision):
    n = 70
    a, b = one_triangle(rng, n, dtype, structure), normal(rng, (n, 2), dtype)
    for lower, order, method in itertools.product((False, True), "CF", ("auto", "gmres")):
        given = np.asarray(with_garbage(a, lower), order=order)
        x, report = solve(
            given, b, lower=lower, assume_a=structure, precision=precision, refine=method,
            full_output=True,
        )  # fmt: skip
        assert meets_the_test(a, x, b), (lower, order, method)
        assert report.precision == precision
        assert np.all(report.backward_error <= np.sqrt(n) * np.finfo(dtype).eps / 2)


@pytest.mark.parametrize("structure", ["her", "pos"])
@pytest.mark.parametrize("n", [5, 260])
def test_the_imaginary_diagonal_of_a_hermitian_matrix_does_not_count(rng, structure, n):
    a, b = one_triangle(rng, n, "complex128", structure), normal(rng, n, "complex128")
    given = a + 5j * np.eye(n)
    for lower in (False, True):
        assert meets_the_test(a, solve(given, b, assume_a=structure, lower=lower), b)


@pytest.mark.parametrize("n", [5, 260])
def test_complex_symmetric_is_not_hermitian(rng, n):
    a, b = one_triangle(rng, n, "complex128", "sym"), normal(rng, n, "complex128")
    for lower in (False, True):
        x = solve(a, b, assume_a="sym", lower=lower)
        y = solve(a, b, assume_a="her", lower=lower)
        assert meets_the_test(a, x, b)
        assert not meets_the_test(a, y, b)


def sparse(rng, n, dtype, structure):
    a = normal(rng, (n, n), dtype) + 4 * np.sqrt(n) * np.eye(n)
    i, j = np.indices((n, n))
    keep = {
        "diagonal": i == j,
        "tridiagonal": abs(i - j) <= 1,
        "banded": (i - j <= 2) & (j - i <= 3),
        "upper triangular": i <= j,
        "lower triangular": i >= j,
        "general": i >= 0,
    }[structure]
    return np.where(keep, a, 0).astype(dtype), keep


SPARSE = ["diagonal", "tridiagonal", "banded", "upper triangular", "lower triangular", "general"]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("structure", SPARSE)
def test_sparse_structures(rng, structure, dtype, n):
    a, keep = sparse(rng, n, dtype, structure)
    b = normal(rng, (n, 2), dtype)
    given = a if structure in ("banded", "general") else np.where(keep, a, a.dtype.type(GARBAGE))
    for order, transposed in itertools.product("CF", (False, True)):
        stored = np.asarray(given, order=order)
        if transposed and a.dtype.kind == "c":
            with pytest.raises(NotImplementedError):
                solve(stored, b, assume_a=structure, transposed=True)
            continue
        target = a.T if transposed else a
        x, report = solve(
            stored, b, assume_a=structure, transposed=transposed, full_output=True
        )  # fmt: skip
        assert meets_the_test(target, x, b), (order, transposed)
        u = np.finfo(dtype).eps / 2
        assert np.all(report.backward_error <= np.sqrt(n) * u)
        # detected, it is the same system
        x = solve(np.asarray(a, order=order), b, transposed=transposed)
        assert meets_the_test(target, x, b)


@pytest.mark.parametrize("structure", SPARSE)
@pytest.mark.parametrize("precision", ["fp16", "fp32", "fp64"])
def test_sparse_structures_in_a_pinned_precision(rng, structure, precision):
    n = 60
    a, keep = sparse(rng, n, "float64", structure)
    b = normal(rng, (n, 2), "float64")
    given = a if structure in ("banded", "general") else np.where(keep, a, GARBAGE)
    for transposed in (False, True):
        x, report = solve(
            given, b, assume_a=structure, transposed=transposed, precision=precision,
            full_output=True,
        )  # fmt: skip
        assert meets_the_test(a.T if transposed else a, x, b)
        assert report.precision == precision


@pytest.mark.parametrize("n", [3, 40, 260])
def test_transposed_with_one_triangle(rng, n):
    for structure in ("sym", "her", "pos"):
        a, b = one_triangle(rng, n, "float64", structure), normal(rng, n, "float64")
        for lower in (False, True):
            given = with_garbage(a, lower)
            x = solve(given, b, assume_a=structure, lower=lower, transposed=True)
            assert meets_the_test(a, x, b)


def test_short_and_long_names_are_the_same(rng):
    a, b = one_triangle(rng, 20, "float64", "pos"), normal(rng, 20, "float64")
    for short, name in {**LONG, "gen": "general"}.items():
        assert np.array_equal(solve(a, b, assume_a=short), solve(a, b, assume_a=name))


@pytest.mark.parametrize(
    "name", ["GEN", "symm", "Upper triangular", "triangular", "", 3, ("gen",), []]
)
def test_other_names_are_errors(name):
    with pytest.raises(ValueError, match="is not a recognized matrix structure"):
        solve(np.eye(2), np.ones(2), assume_a=name)


# -- singular, or not what was asserted ----------------------------------------------------------


@pytest.mark.parametrize("n", [3, 40, 260])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_not_positive_definite(rng, n, dtype):
    a = one_triangle(rng, n, dtype, "pos")
    k = n // 2
    a[k, k] = -1
    for lower in (False, True):
        with pytest.raises(LinAlgError, match=rf"not positive definite.*order {k + 1} "):
            solve(a, np.ones(n, dtype), assume_a="pos", lower=lower)
    # not asserted, it is solved all the same
    assert meets_the_test(a, solve(a, np.ones(n, dtype)), np.ones(n, dtype))


@pytest.mark.parametrize("n", [3, 40, 260])
@pytest.mark.parametrize(
    "structure",
    ["gen", "sym", "her", "diagonal", "tridiagonal", "banded", "upper triangular",
     "lower triangular", None],
)  # fmt: skip
def test_singular(n, structure):
    k = n // 2
    a = 2 * np.eye(n)
    a[k, k] = 0
    with pytest.raises(LinAlgError, match="singular"):
        solve(a, np.ones(n), assume_a=structure)


@pytest.mark.parametrize("structure", ["diagonal", "upper triangular", "lower triangular"])
@pytest.mark.parametrize("n", [3, 260])
def test_the_pivot_is_named(structure, n):
    a = 2 * np.eye(n)
    a[1, 1] = 0
    with pytest.raises(LinAlgError, match=f"pivot 2 of {n}"):
        solve(a, np.ones(n), assume_a=structure)


@pytest.mark.parametrize(
    "structure", ["diagonal", "tridiagonal", "banded", "upper triangular", "lower triangular"]
)
@pytest.mark.parametrize("n", [20, 260])
def test_ill_conditioned_structures_warn(structure, n):
    a = np.diag(np.logspace(0, -20, n))
    with pytest.warns(scipy.linalg.LinAlgWarning, match="ill-conditioned"):
        solve(a, np.ones(n), assume_a=structure)


# -- detection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [40, 260])
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("minij", "Cholesky"),
        ("random_normal", "LU"),
        ("identity", "division"),
        ("kahan", "substitution"),
        ("lehmer", "Cholesky"),
        ("hermitian_indefinite", "LU"),
    ],
)
def test_what_is_found(name, method, n):
    """The report says how the structure was used."""
    keywords = {"theta": 1.57} if name == "kahan" else {}
    a = gallery.matrix(name, n, **keywords)
    report = solve(a, np.ones(n), full_output=True)[1]
    assert report.rungs[0].method.split(" + ")[0] == method


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("n", [40, 260])
def test_what_only_looks_definite(rng, n, dtype):
    """Hermitian with a positive diagonal, and indefinite: Cholesky breaks down, LU takes over."""
    a = one_triangle(rng, n, dtype, "her")
    np.fill_diagonal(a, abs(a.diagonal()) / 100)
    b = normal(rng, n, dtype)
    for precision in ("auto", "fp16", "fp32"):
        x = solve(a, b, precision=precision, fallback=True)
        assert meets_the_test(a, x, b), precision


def test_one_entry_that_breaks_the_structure_counts(rng):
    """Detection is exact: nothing is taken for zero or equal that is not."""
    n = 260
    for make, i, j in [
        (lambda: np.diag(np.arange(1.0, n + 1)), 0, n - 1),
        (lambda: np.triu(normal(rng, (n, n), "float64")) + 40 * np.eye(n), n - 1, 0),
        (lambda: one_triangle(rng, n, "float64", "pos"), 3, 7),
    ]:
        a = make()
        a[i, j] += 100.0
        b = normal(rng, n, "float64")
        assert meets_the_test(a, solve(a, b), b)
