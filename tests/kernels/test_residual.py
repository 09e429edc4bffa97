"""The residual kernels: every length of line, every kind of triangle, exact accumulation."""

from fractions import Fraction

import numpy as np
import pytest

from mplinalg.kernels.cpu import extended, residual

U = 2.0**-53


def draw(*shape, is_complex=False):
    rng = np.random.default_rng(shape)
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if is_complex else x


def cabs1(x):
    return abs(x.real) + abs(x.imag)


def apply(kernel, lines, x, w, b):
    """(r, d) of a kernel of the plain kind."""
    r, d = b.copy(), cabs1(b)
    kernel(lines.view(float), x.view(float), w, r.view(float), d)
    return r, d


def apply_extended(kernel, lines, x, b):
    high = b.copy()
    low = np.zeros_like(b)
    kernel(lines.view(float), x.view(float), high.view(float), low.view(float))
    return high + low


SHAPES = [(0, 3), (3, 0), *((m, n) for m in (1, 5) for n in range(1, 10)), (67, 1031), (1031, 67)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_rows_and_columns(shape, is_complex):
    a = draw(*shape, is_complex=is_complex)
    x, b = draw(shape[1], is_complex=is_complex), draw(shape[0] + 1, is_complex=is_complex)[1:]
    w = abs(draw(shape[1])) + cabs1(x)
    expected, sizes = b - a @ x, cabs1(a) @ w + cabs1(b)
    bound = 30 * max(shape) * U * sizes
    kind = "complex_" if is_complex else "real_"
    columns = np.ascontiguousarray(a.T)
    for direction, lines in [("along", a), ("across", columns)]:
        r, d = apply(getattr(residual, kind + direction), lines, x, w, b)
        assert np.all(cabs1(r - expected) <= bound)
        assert np.all(abs(d - sizes) <= bound)
        kernel = getattr(extended, ("extended_complex_" if is_complex else "extended_") + direction)
        assert np.all(cabs1(apply_extended(kernel, lines, x, b) - expected) <= bound)


@pytest.mark.parametrize("n", [1, 2, 7, 131])
@pytest.mark.parametrize("upper", [False, True])
def test_symmetric(n, upper):
    a = draw(n, n)
    a = a + a.T
    x, b = draw(n), draw(n, 1)[:, 0]
    lines = np.where(np.triu(np.ones((n, n), bool)) == upper, a, np.nan)
    np.fill_diagonal(lines, a.diagonal())
    w = abs(draw(n)) + abs(x)
    r, d = apply(lambda *args: residual.real_symmetric(args[0], upper, *args[1:]), lines, x, w, b)
    sizes = abs(a) @ w + abs(b)
    assert np.all(abs(r - (b - a @ x)) <= 30 * n * U * sizes)
    assert np.all(abs(d - sizes) <= 30 * n * U * sizes)


@pytest.mark.parametrize("n", [1, 2, 7, 131])
@pytest.mark.parametrize("conjugated", [False, True])
@pytest.mark.parametrize("upper", [False, True])
def test_hermitian(n, upper, conjugated):
    a = draw(n, n, is_complex=True)
    a = a + a.conj().T
    x, b = draw(n, is_complex=True), draw(n, 1, is_complex=True)[:, 0]
    read = np.triu(np.ones((n, n), bool)) if upper else np.tril(np.ones((n, n), bool))
    lines = np.where(read, a.conj() if conjugated else a, np.nan)

    def kernel(lines, *rest):
        residual.complex_hermitian(lines, upper, conjugated, *rest)

    w = abs(draw(n)) + cabs1(x)
    r, d = apply(kernel, lines, x, w, b)
    sizes = cabs1(a) @ w + cabs1(b)
    assert np.all(cabs1(r - (b - a @ x)) <= 30 * n * U * sizes)
    assert np.all(abs(d - sizes) <= 30 * n * U * sizes)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 203])
@pytest.mark.parametrize("direction", ["along", "across"])
def test_extended_is_as_accurate_as_twice_the_precision(direction, n):
    """Terms of all sizes, 1e20 times their sum (Ogita, Rump and Oishi 2005, corollary 5.7)."""
    rng = np.random.default_rng(n)
    a, x = (rng.standard_normal(n) * 10.0 ** rng.uniform(-8, 8, n) for _ in range(2))
    a[0], x[0] = 0, 1
    # b takes the sum away but for its rounding error, and a[0] all but 1e-4 of that
    terms = [Fraction(p) * Fraction(q) for p, q in zip(a, x, strict=True)]
    b = float(sum(terms))
    a[0] = 0.9999 * float(Fraction(b) - sum(terms))
    exact = Fraction(b) - sum(terms) - Fraction(a[0])
    size = float(sum(map(abs, terms))) + abs(b)
    assert 0 < abs(exact) < 1e-19 * size
    lines = a.reshape(1, n) if direction == "along" else a.reshape(n, 1)
    kernel = getattr(extended, f"extended_{direction}")
    r = apply_extended(kernel, lines, x, np.array([b]))[0]
    error = abs(float(Fraction(r) - exact))
    assert error <= U * abs(float(exact)) + 4 * n**2 * U**2 * size
    assert error <= 1e-5 * abs(float(exact))


@pytest.mark.parametrize("form", ["rows", "columns", "upper", "lower"])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_the_kernel_of_a_matrix_is_found(is_complex, form):
    """By the dtype of the vector, and by how the lines of A are to be read."""
    n = 9
    a = draw(n, n, is_complex=is_complex)
    if form in ("upper", "lower"):
        a = a + a.conj().T
        keep = np.triu(np.ones((n, n), bool)) if form == "upper" else np.tri(n, dtype=bool)
        lines = np.where(keep, a, np.nan)
    else:
        lines = a.T.copy() if form == "columns" else a
    x, b = draw(n, is_complex=is_complex), draw(n + 1, is_complex=is_complex)[1:]
    w, r, d = cabs1(x), b.copy(), cabs1(b)
    residual.multiply_add(
        lines.view(float), form == "columns", form in ("upper", "lower"), form == "upper",
        x, w, r, d,
    )  # fmt: skip
    sizes = cabs1(a) @ w + cabs1(b)
    assert np.all(cabs1(r - (b - a @ x)) <= 30 * n * U * sizes)
    assert np.all(abs(d - sizes) <= 30 * n * U * sizes)
