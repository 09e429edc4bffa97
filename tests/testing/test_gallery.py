"""The gallery: every family builds everywhere, and has the properties that its facts claim."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from mplinalg.testing import gallery

DTYPES = ("float32", "float64", "complex64", "complex128")
CASES = [(name, dtype) for name in gallery.names() for dtype in gallery.facts(name).dtypes]
DOUBLE_CASES = [case for case in CASES if case[1] in ("float64", "complex128")]
SEEDED = [name for name in gallery.names() if gallery.facts(name).random]
# At this order every Hermitian family is definite enough to be so after rounding to double.
SMALL = 6


def having(**wanted):
    return [
        case
        for case in DOUBLE_CASES
        if all(getattr(gallery.facts(case[0]), key) == value for key, value in wanted.items())
    ]


def exact_rank(a):
    """The rank in rational arithmetic; of a complex matrix by the real one of twice its size."""
    if np.iscomplexobj(a):
        return exact_rank(np.block([[a.real, -a.imag], [a.imag, a.real]])) // 2
    rows = [[Fraction(float(entry)) for entry in row] for row in a]
    rank = 0
    for column in range(a.shape[1]):
        pivot = next((r for r in range(rank, len(rows)) if rows[r][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for r in range(rank + 1, len(rows)):
            factor = rows[r][column] / rows[rank][column]
            rows[r] = [x - factor * y for x, y in zip(rows[r], rows[rank], strict=True)]
        rank += 1
    return rank


# -- every family --------------------------------------------------------------------------------


def test_the_families_asked_for_exist():
    wanted = set(
        """
        randsvd random_normal random_uniform orthogonal hilbert inverse_hilbert frank moler kahan
        lotkin lehmer minij pei kms chebyshev_differentiation cauchy vandermonde prolate gfpp
        circulant graded_rows graded_columns badly_scaled diagonally_dominant spd_clustered
        spd_geometric gaussian_kernel helmholtz_bem laplace_bem zero_row zero_column
        singular_integer singular_svd nan_entry inf_entry denormal large_scaled small_scaled
        identity permutation
    """.split()  # noqa: SIM905
    )
    assert wanted <= set(gallery.names())


@pytest.mark.parametrize(("name", "dtype"), CASES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 17])
def test_every_family_builds_in_every_dtype_and_order(name, dtype, n):
    a = gallery.matrix(name, n, dtype)
    assert a.shape == (n, n)
    assert a.dtype == dtype
    assert a.flags.c_contiguous
    assert a.flags.writeable
    assert np.isfinite(a).all() == (gallery.facts(name).finite or n == 0)


@pytest.mark.parametrize("name", gallery.names())
def test_facts_are_complete_and_frozen(name):
    known = gallery.facts(name)
    assert known.name == name
    assert known.description.endswith(".")
    assert known.source
    assert known.hermitian or not known.positive_definite
    assert not (known.singular and known.positive_definite)
    assert set(known.dtypes) <= set(DTYPES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        known.singular = True
    with pytest.raises(TypeError):
        known.parameters["rng"] = 1


def test_names_are_sorted_and_unique():
    names = gallery.names()
    assert isinstance(names, tuple)
    assert list(names) == sorted(set(names))


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_hermitian_exactly_when_the_facts_say_so(name, dtype):
    a = gallery.matrix(name, 7, dtype)
    assert np.array_equal(a, a.conj().T) == gallery.facts(name).hermitian


@pytest.mark.parametrize(("name", "dtype"), having(positive_definite=True))
@pytest.mark.parametrize("n", [1, 2, SMALL])
def test_positive_definite(name, dtype, n):
    assert np.linalg.eigvalsh(gallery.matrix(name, n, dtype)).min() > 0


@pytest.mark.parametrize(("name", "dtype"), having(hermitian=True, positive_definite=False))
def test_indefinite(name, dtype):
    eigenvalues = np.linalg.eigvalsh(gallery.matrix(name, SMALL, dtype))
    assert eigenvalues.min() < 0 < eigenvalues.max()


@pytest.mark.parametrize(("name", "dtype"), having(singular=False, finite=True))
def test_not_singular_unless_the_facts_say_so(name, dtype):
    assert exact_rank(gallery.matrix(name, SMALL, dtype)) == SMALL


@pytest.mark.parametrize("name", ["zero_row", "zero_column", "singular_integer"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_exactly_of_rank_n_minus_1(name, dtype, n):
    assert exact_rank(gallery.matrix(name, n, dtype, rng=n)) == n - 1


@pytest.mark.parametrize(("name", "dtype"), having(singular=True))
def test_singular_to_working_precision(name, dtype):
    s = np.linalg.svd(gallery.matrix(name, 30, dtype), compute_uv=False)
    assert s[-1] <= 30 * np.finfo(float).eps * s[0]
    assert s[-2] > 1e-6 * s[0]


@pytest.mark.parametrize(
    ("name", "dtype"), [case for case in DOUBLE_CASES if gallery.facts(case[0]).kappa]
)
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_condition_number_is_the_one_of_the_facts(name, dtype, n):
    kappa = gallery.facts(name).kappa(n)
    assert np.linalg.cond(gallery.matrix(name, n, dtype)) == pytest.approx(kappa, rel=0.05)


@pytest.mark.parametrize(
    "name",
    [n for n in gallery.names() if not gallery.facts(n).random and n != "helmholtz_bem"],
)
def test_complex_formulas_are_the_real_ones_times_powers_of_i(name):
    real, turned = gallery.matrix(name, 9), gallery.matrix(name, 9, complex)
    phases = np.array([1, 1j, -1, -1j])[np.arange(9) % 4]
    assert np.array_equal(turned, phases[:, None] * real * phases.conj())


@pytest.mark.parametrize(
    "name", [n for n in SEEDED if n not in ("permutation", "singular_integer")]
)
def test_complex_random_families_have_two_parts(name):
    a = gallery.matrix(name, 5, complex)
    assert np.count_nonzero(a.real) > 0
    assert np.count_nonzero(a.imag) > 0


# -- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_seed_determines_the_matrix(name, dtype):
    a = gallery.matrix(name, 8, dtype)
    np.testing.assert_array_equal(a, gallery.matrix(name, 8, dtype, rng=0))
    generator = np.random.default_rng(0)
    np.testing.assert_array_equal(a, gallery.matrix(name, 8, dtype, rng=generator))
    assert not np.array_equal(a, gallery.matrix(name, 8, dtype, rng=generator), equal_nan=True)
    assert not np.array_equal(a, gallery.matrix(name, 8, dtype, rng=1), equal_nan=True)


@pytest.mark.parametrize(
    "name", [n for n in gallery.names() if n not in ("badly_scaled", "denormal")]
)
def test_single_precision_is_the_double_matrix_rounded(name):
    wide, narrow = gallery.facts(name).dtypes[::-1][:2]
    rounded = gallery.matrix(name, 9, wide).astype(narrow)
    np.testing.assert_array_equal(gallery.matrix(name, 9, narrow), rounded)


# -- errors --------------------------------------------------------------------------------------


def test_unknown_name_lists_close_matches():
    with pytest.raises(ValueError, match="unknown matrix 'hilbrt'; did you mean 'hilbert'"):
        gallery.matrix("hilbrt", 3)
    with pytest.raises(ValueError, match="unknown matrix 'Hilbert'; did you mean 'hilbert'"):
        gallery.facts("Hilbert")
    with pytest.raises(ValueError, match=r"see gallery\.names"):
        gallery.matrix("zzzzzzzzzzz", 3)
    with pytest.raises(TypeError, match="got 3"):
        gallery.matrix(3, 3)


def test_unknown_parameter_names_those_allowed():
    with pytest.raises(
        TypeError, match="randsvd has no parameter 'kappa'; it has: cond, mode, rng"
    ):
        gallery.matrix("randsvd", 3, kappa=10)
    with pytest.raises(TypeError, match="hilbert has no parameter 'rng'; it has: none"):
        gallery.matrix("hilbert", 3, rng=0)


@pytest.mark.parametrize(
    ("n", "error"), [(-1, ValueError), (2.5, TypeError), ("3", TypeError), (None, TypeError)]
)
def test_bad_order_is_shown(n, error):
    with pytest.raises(error, match=f"n must .*got {n!r}"):
        gallery.matrix("hilbert", n)


@pytest.mark.parametrize("dtype", ["float16", "int64", "longdouble", "bool", ">f8"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(
        ValueError, match=r"hilbert does not exist in dtype .*choose float32, float64"
    ):
        gallery.matrix("hilbert", 3, dtype)


def test_helmholtz_is_complex_only():
    with pytest.raises(ValueError, match="helmholtz_bem does not exist in dtype float64"):
        gallery.matrix("helmholtz_bem", 4)


@pytest.mark.parametrize(("n", "dtype"), [(30, "float32"), (30, "complex64"), (204, "float64")])
def test_overflow_of_the_dtype_is_an_error(n, dtype):
    with pytest.raises(ValueError, match=f"inverse_hilbert overflows {dtype}|n={n}"):
        gallery.matrix("inverse_hilbert", n, dtype)
    with pytest.raises(ValueError, match="large_scaled overflows float32 for n=3"):
        gallery.matrix("large_scaled", 3, "float32", scale=1e39)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("randsvd", {"cond": 0.5}),
        ("randsvd", {"cond": np.inf}),
        ("randsvd", {"cond": np.nan}),
        ("randsvd", {"mode": "two_large"}),
        ("randsvd", {"mode": 6}),
        ("randsvd", {"mode": 0}),
        ("spd_clustered", {"clusters": 1}),
        ("spd_clustered", {"width": 1.0}),
        ("random_uniform", {"low": 1.0, "high": 1.0}),
        ("kahan", {"theta": 0.0}),
        ("kms", {"rho": 1.0}),
        ("prolate", {"w": 0.5}),
        ("gfpp", {"multiplier": 1.5}),
        ("cauchy", {"x": [1.0, 2.0]}),
        ("cauchy", {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0]}),
        ("vandermonde", {"points": [[1.0, 2.0, 3.0]]}),
        ("diagonally_dominant", {"margin": 0.0}),
        ("gaussian_kernel", {"length_scale": 0.0}),
        ("gaussian_kernel", {"nugget": -1.0}),
        ("graded_rows", {"decades": -1}),
        ("badly_scaled", {"decades": 301}),
        ("zero_row", {"row": 3}),
        ("zero_column", {"column": -1}),
        ("singular_integer", {"pivot": 3}),
        ("nan_entry", {"row": 3}),
        ("inf_entry", {"column": 3}),
    ],
)
def test_parameters_out_of_range(name, parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        gallery.matrix(name, 3, **parameters)


@pytest.mark.parametrize("rng", [None, 1.5, "0"])
def test_rng_is_a_seed_or_a_generator(rng):
    with pytest.raises(TypeError, match="rng must be an int seed"):
        gallery.matrix("orthogonal", 3, rng=rng)
