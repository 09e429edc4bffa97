"""The families one by one: each is the matrix that its description says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mplinalg.testing import gallery

mpmath = pytest.importorskip("mpmath")

DTYPES = ("float32", "float64", "complex64", "complex128")


def eliminated(a):
    """The upper triangle of Gaussian elimination with partial pivoting, without any blocking."""
    u = a.copy()
    for k in range(len(u)):
        p = k + np.argmax(np.abs(u[k:, k]))
        u[[k, p]] = u[[p, k]]
        if u[k, k] != 0:
            u[k + 1 :, k:] -= np.outer(u[k + 1 :, k] / u[k, k], u[k, k:])
    return u


def fractions(a):
    return np.array([[Fraction(float(entry)) for entry in row] for row in a], dtype=object)


# -- given singular values -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["one_large", "one_small", "geometric", "arithmetic", "log_uniform"]
)
@pytest.mark.parametrize("cond", [1, 10, 1e4, 1e10])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_randsvd_has_the_condition_number_asked_for(mode, cond, dtype):
    a = gallery.randsvd(40, cond, mode, dtype, rng=3)
    assert np.linalg.norm(a, 2) == pytest.approx(1)
    assert np.linalg.cond(a) == pytest.approx(cond, rel=0.02)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_randsvd_in_single_precision(dtype):
    a = gallery.randsvd(40, 1e4, "one_small", dtype).astype(complex)
    assert np.linalg.cond(a) == pytest.approx(1e4, rel=0.05)


def test_randsvd_singular_values_follow_the_mode():
    def values(mode):
        return np.linalg.svd(gallery.randsvd(5, 16, mode), compute_uv=False)

    np.testing.assert_allclose(values("one_large"), [1, 1 / 16, 1 / 16, 1 / 16, 1 / 16])
    np.testing.assert_allclose(values("one_small"), [1, 1, 1, 1, 1 / 16])
    np.testing.assert_allclose(values("geometric"), [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16])
    np.testing.assert_allclose(values("arithmetic"), [1, 49 / 64, 34 / 64, 19 / 64, 4 / 64])


def test_randsvd_modes_have_the_numbers_of_matlab():
    modes = ("one_large", "one_small", "geometric", "arithmetic", "log_uniform")
    for number, name in enumerate(modes, 1):
        by_number, by_name = (gallery.randsvd(6, 50, mode, rng=2) for mode in (number, name))
        np.testing.assert_array_equal(by_number, by_name)


def test_randsvd_function_and_family_agree():
    named = gallery.matrix("randsvd", 6, "complex64", cond=7.0, mode="arithmetic", rng=5)
    np.testing.assert_array_equal(gallery.randsvd(6, 7.0, "arithmetic", "complex64", 5), named)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_orthogonal(dtype):
    q = gallery.matrix("orthogonal", 30, dtype)
    np.testing.assert_allclose(q.conj().T @ q, np.eye(30), atol=1e-14)


def test_orthogonal_is_haar_distributed_also_for_one_dimension():
    # Without the correction of signs, a QR factorization gives the same sign every time.
    signs = {gallery.matrix("orthogonal", 1, rng=seed).item() for seed in range(20)}
    assert signs == {-1.0, 1.0}


def test_clustered_spectrum_has_as_many_clusters_as_asked_for():
    a = gallery.matrix("spd_clustered", 30, cond=1e4, clusters=3)
    eigenvalues = np.sort(np.linalg.eigvalsh(a))
    steps = eigenvalues[1:] / eigenvalues[:-1]
    assert np.count_nonzero(steps > 50) == 2
    assert np.count_nonzero(steps > 1.03) == 2


# -- formulas ------------------------------------------------------------------------------------


def test_hilbert_times_its_inverse_is_the_identity_exactly():
    n = 11  # the largest order whose inverse is exact in float64
    k = range(1, n + 1)
    exact = np.array([[Fraction(1, i + j - 1) for j in k] for i in k], dtype=object)
    product = exact @ fractions(gallery.matrix("inverse_hilbert", n))
    assert (product == np.eye(n, dtype=int)).all()
    np.testing.assert_array_equal(gallery.matrix("hilbert", n), exact.astype(float))


def test_inverse_hilbert_is_rounded_correctly_when_it_is_not_exact():
    n = 25
    with mpmath.workdps(120):
        inverse = mpmath.inverse(mpmath.hilbert(n))
        exact = [[float(mpmath.nint(inverse[i, j])) for j in range(n)] for i in range(n)]
    np.testing.assert_array_equal(gallery.matrix("inverse_hilbert", n), exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 20])
def test_gfpp_grows_by_2_at_every_step(dtype, n):
    a = gallery.matrix("gfpp", n, dtype)
    assert np.abs(eliminated(a)).max() / np.abs(a).max() == 2.0 ** (n - 1)


def test_gfpp_with_smaller_multipliers():
    growth = np.abs(eliminated(gallery.matrix("gfpp", 12, multiplier=0.5))).max()
    assert growth == pytest.approx(1.5**11)


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_chebyshev_differentiation_is_exact_for_polynomials(n):
    d = gallery.matrix("chebyshev_differentiation", n, boundary_condition=False)
    x = np.cos(np.pi * np.arange(n) / max(n - 1, 1))
    for degree in range(n):
        derivative = degree * x ** max(degree - 1, 0)
        np.testing.assert_allclose(d @ x**degree, derivative, atol=1e-12)


def test_chebyshev_differentiation_with_boundary_condition_integrates():
    n = 20
    d = gallery.matrix("chebyshev_differentiation", n)
    x = np.cos(np.pi * np.arange(1, n + 1) / n)
    np.testing.assert_allclose(np.linalg.solve(d, np.exp(x)), np.exp(x) - np.e, atol=1e-12)


@pytest.mark.parametrize("n", [4, 40, 400])
def test_chebyshev_differentiation_is_accurate_to_the_last_digits(n):
    a = gallery.matrix("chebyshev_differentiation", n, boundary_condition=False)
    with mpmath.workdps(40):
        x = [mpmath.cos(mpmath.pi * k / (n - 1)) for k in range(n)]
        first_row = [float(2 * (-1) ** k / (x[0] - x[k])) for k in range(1, n - 1)]
        diagonal = [float(-x[k] / (2 * (1 - x[k] ** 2))) for k in range(1, n - 1)]
    np.testing.assert_allclose(a[0, 1:-1], first_row, rtol=4e-15)
    np.testing.assert_allclose(np.diagonal(a)[1:-1], diagonal, rtol=4e-15, atol=1e-14)


def test_frank_has_determinant_1():
    a = fractions(gallery.matrix("frank", 9))
    determinant = Fraction(1)
    for k in range(9):
        pivot = next(r for r in range(k, 9) if a[r, k])
        if pivot != k:
            a[[k, pivot]] = a[[pivot, k]]
            determinant = -determinant
        determinant *= a[k, k]
        a[k + 1 :] -= np.outer(a[k + 1 :, k] / a[k, k], a[k])
    assert determinant == 1


@pytest.mark.parametrize("alpha", [-1.0, 0.5])
def test_moler_is_a_product_of_triangles(alpha):
    u = np.eye(8) + np.triu(np.full((8, 8), alpha), 1)
    np.testing.assert_array_equal(gallery.matrix("moler", 8, alpha=alpha), u.T @ u)


def test_kahan_is_upper_triangular_with_decreasing_diagonal():
    a = gallery.matrix("kahan", 6, theta=1.0)
    np.testing.assert_array_equal(a, np.triu(a))
    np.testing.assert_allclose(np.diagonal(a), np.sin(1.0) ** np.arange(6))
    assert a[2, 4] == pytest.approx(-np.cos(1.0) * np.sin(1.0) ** 2)


def test_lotkin_is_hilbert_but_for_a_row():
    a, h = gallery.matrix("lotkin", 5), gallery.matrix("hilbert", 5)
    np.testing.assert_array_equal(a[0], np.ones(5))
    np.testing.assert_array_equal(a[1:], h[1:])


def test_lehmer_condition_number_bounds():
    for n in (2, 10, 30):
        assert n <= np.linalg.cond(gallery.matrix("lehmer", n)) <= 4 * n**2


def test_minij_pei_and_kms_entries():
    i, j = np.mgrid[1:7, 1:7]
    np.testing.assert_array_equal(gallery.matrix("minij", 6), np.minimum(i, j))
    np.testing.assert_array_equal(gallery.matrix("pei", 6, alpha=2.5), 1 + 2.5 * np.eye(6))
    np.testing.assert_array_equal(gallery.matrix("kms", 6, rho=-0.5), (-0.5) ** np.abs(i - j))


def test_prolate_eigenvalues_crowd_at_0_and_1():
    eigenvalues = np.linalg.eigvalsh(gallery.matrix("prolate", 24, w=0.2))
    assert -1e-15 < eigenvalues[0] < 1e-8
    assert 1 - 1e-8 < eigenvalues[-1] < 1 + 1e-15


def test_cauchy_and_vandermonde_take_their_points():
    x, y = np.array([1.0, 2.0, 4.0]), np.array([0.0, 3.0, 9.0])
    np.testing.assert_array_equal(
        gallery.matrix("cauchy", 3, x=x, y=y), 1 / (x[:, None] + y[None, :])
    )
    v = gallery.matrix("vandermonde", 3, points=x)
    np.testing.assert_array_equal(v @ [5.0, -1.0, 2.0], 5 - x + 2 * x**2)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_circulant_is_diagonalised_by_the_fourier_transform(dtype):
    a = gallery.matrix("circulant", 9, dtype)
    v = np.random.default_rng(1).standard_normal(9)
    by_fft = np.fft.ifft(np.fft.fft(a[:, 0]) * np.fft.fft(v))
    np.testing.assert_allclose(a @ v, by_fft, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_diagonally_dominant_bounds_its_inverse(dtype):
    a = gallery.matrix("diagonally_dominant", 30, dtype, margin=0.5)
    sizes = np.abs(a)
    excess = 2 * np.diagonal(sizes) - sizes.sum(axis=1)
    np.testing.assert_allclose(excess, 0.5)
    assert np.linalg.norm(np.linalg.inv(a), np.inf) <= 2 * (1 + 1e-13)


def test_gaussian_kernel_without_nugget_has_unit_diagonal():
    a = gallery.matrix("gaussian_kernel", 12, length_scale=0.5, nugget=0.0, dimension=3)
    np.testing.assert_array_equal(np.diagonal(a), 1)
    assert ((a > 0) & (a <= 1)).all()


def test_permutation_permutes():
    p = gallery.matrix("permutation", 9)
    np.testing.assert_array_equal(np.sort(p @ np.arange(9)), np.arange(9))


# -- what solvers may fail on --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pivot", [0, 5, 11])
def test_singular_integer_meets_its_zero_pivot_exactly(dtype, pivot):
    a = gallery.matrix("singular_integer", 12, dtype, pivot=pivot)
    assert np.flatnonzero(np.diagonal(eliminated(a)) == 0).tolist() == [pivot]
    assert (np.abs(a) <= 12).all()


def test_graded_rows_and_columns_span_20_decades():
    sizes = np.abs(gallery.matrix("graded_rows", 11)).max(axis=1)
    np.testing.assert_allclose(np.log10(sizes), np.linspace(0, -20, 11), atol=1)
    sizes = np.abs(gallery.matrix("graded_columns", 11, decades=10)).max(axis=0)
    np.testing.assert_allclose(np.log10(sizes), np.linspace(0, -10, 11), atol=1)


@pytest.mark.parametrize(
    ("dtype", "decades"),
    [("float64", 300), ("complex128", 300), ("float32", 30), ("complex64", 30)],
)
def test_badly_scaled_spans_the_range_by_exact_powers_of_two(dtype, decades):
    a = gallery.matrix("badly_scaled", 12, dtype)
    size = np.log10(np.abs(a))
    assert size.max() == pytest.approx(decades, abs=2)
    assert size.min() == pytest.approx(-decades, abs=2)
    ratios = np.abs(a.real / gallery.matrix("badly_scaled", 12, dtype, decades=0).real)
    mantissas, exponents = np.frexp(ratios)
    np.testing.assert_array_equal(mantissas, 0.5)
    np.testing.assert_array_equal(exponents + exponents[0, 0], exponents[:, :1] + exponents[:1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormal_entries_are_below_the_normal_numbers(dtype):
    a = gallery.matrix("denormal", 10, dtype)
    sizes = np.maximum(np.abs(a.real), np.abs(a.imag))
    assert (sizes > 0).all()
    assert (sizes < np.finfo(dtype).smallest_normal).all()


def test_scaled_families_leave_the_range_of_fp16():
    with np.errstate(over="ignore"):
        assert np.isinf(gallery.matrix("large_scaled", 8).astype(np.float16)).any()
    assert not gallery.matrix("small_scaled", 8).astype(np.float16).any()
    normal = gallery.matrix("random_normal", 8)
    np.testing.assert_array_equal(gallery.matrix("large_scaled", 8, scale=4.0), 4 * normal)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "test"), [("nan_entry", np.isnan), ("inf_entry", np.isinf)])
def test_one_entry_is_not_finite(name, test, dtype):
    a = gallery.matrix(name, 7, dtype, row=2, column=6)
    assert np.argwhere(~np.isfinite(a)).tolist() == [[2, 6]]
    assert test(a[2, 6])


def test_the_zero_row_and_column_can_be_chosen():
    a = gallery.matrix("zero_row", 5, row=0)
    assert np.flatnonzero(~a.any(axis=1)).tolist() == [0]
    a = gallery.matrix("zero_column", 5, column=4)
    assert np.flatnonzero(~a.any(axis=0)).tolist() == [4]
