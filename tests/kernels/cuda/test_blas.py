"""cuBLAS on views: in every layout, in place, without waiting for the device."""

import itertools

import numpy as np
import pytest

from ...cupy_on_host.install import recorded
from ...ops.helpers import (
    DTYPES,
    LAYOUTS,
    allowed,
    cabs1,
    draw,
    flags,
    is_complex,
    is_small,
    layouts,
    op,
    wide,
)
from .operands import SCALARS, SIZES, blas, layout, put

__all__ = ["blas", "layout", "put"]  # fixtures

TRIANGULAR_SIZES = [(0, 3), (3, 0), (1, 1), (7, 1), (1, 5), (13, 5), (5, 31), (37, 2)]


def triangle(x, lower):
    return np.tril(x) if lower else np.triu(x)


# -- layouts -------------------------------------------------------------------------------------


def test_f_like_and_c_like(cupy, layout):
    a = cupy.zeros((6, 8), order="F")
    for view in (a, a[1:4], a[:, 2:5], a[2:3], a[:, 3:4], a[:0], a[:, :0], a[:, ::2]):
        assert layout.is_f_like(view), view.strides
        assert layout.is_c_like(view.T), view.strides
    for view in (a[::2], a[::-1], a[:, ::-1], a.T, a[::2, ::2]):
        assert not layout.is_f_like(view), view.strides
        assert not layout.is_c_like(view.T), view.strides
    one, row, column = a[3:4, 4:5], cupy.zeros((1, 5)), cupy.zeros((5, 1))
    for view in (one, row, column):
        assert layout.is_f_like(view)
        assert layout.is_c_like(view)
    for view in (cupy.broadcast_to(row, (4, 5)), cupy.broadcast_to(column, (5, 4))):
        assert not layout.is_f_like(view)
        assert not layout.is_c_like(view)
    for view in (cupy.broadcast_to(one, (1, 5)), cupy.broadcast_to(one, (5, 1))):
        assert not layout.is_f_like(view)
        assert not layout.is_c_like(view)


def test_leading_dimensions_are_what_blas_accepts(cupy, layout):
    a = cupy.zeros((6, 8), order="F")
    for view, expected in [
        (a, 6), (a[1:4], 6), (a[:, ::2], 12), (a[2:3], 6), (a[2:3, 1:2], 1), (a[1:4, 5:6], 3),
        (a[:0, :1], 1), (a[:, :0], 6), (cupy.zeros((1, 5)), 1), (cupy.zeros((5, 1)), 5),
    ]:  # fmt: skip
        assert layout.leading_dimension(view) == expected, view.strides
        assert layout.leading_dimension(view.T, turned=True) == expected, view.strides


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("trans", ["N", "T", "C"])
def test_operands_are_copied_only_where_blas_has_no_flag(cupy, layout, rng, trans, dtype):
    x = draw(rng, (6, 8), dtype)
    f, c, steps = cupy.asarray(np.asfortranarray(x)), cupy.asarray(x), cupy.asarray(x)[::2, ::2]
    for a, turned in itertools.product((f, c, steps), (False, True)):
        found = layout.operand(a, trans, turned=turned)
        meant, like, other = (a.T, c, f) if turned else (a, f, c)
        copied = a is steps or (a is other and trans == "C" and is_complex(dtype))
        assert (found.pointer != a.data.ptr) == copied
        uncopied = meant if a is like else meant.T
        seen = found.array if copied else uncopied
        assert layout.is_f_like(seen)
        assert found.leading == layout.leading_dimension(seen)
        assert np.array_equal(op(seen.get(), found.trans), op(meant.get(), trans))


# -- gemm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transb", ["N", "T", "C"])
@pytest.mark.parametrize("transa", ["N", "T", "C"])
def test_gemm(blas, put, rng, transa, transb, dtype):
    for m, n, k in SIZES:
        x = draw(rng, (m, k) if transa == "N" else (k, m), dtype)
        y = draw(rng, (k, n) if transb == "N" else (n, k), dtype)
        z = draw(rng, (m, n), dtype)
        xw, yw = op(wide(x), transa), op(wide(y), transb)
        for number, (la, lb, lc) in enumerate(layouts(3)):
            alpha, beta = SCALARS[number % 3]
            if is_complex(dtype):
                alpha, beta = alpha * (1 - 2j), beta * (0.5 + 1j)
            # what beta = 0 overwrites may be anything
            a, b, c = put(x, la), put(y, lb), put(np.full_like(z, np.nan) if beta == 0 else z, lc)
            blas.gemm(alpha, a.array, b.array, beta, c.array, transa, transb)
            error = cabs1(c.host() - (alpha * (xw @ yw) + beta * wide(z)))
            scale = cabs1(alpha) * (cabs1(xw) @ cabs1(yw)) + cabs1(beta) * cabs1(wide(z))
            assert is_small(error, allowed(k, dtype) * scale), (m, n, k, la, lb, lc)
            c.assert_rest_untouched()
            a.assert_untouched()
            b.assert_untouched()


def test_gemm_of_all_sizes_and_dtypes_in_turn(blas, put, rng):
    for size, dtype in itertools.product(range(1, 38), DTYPES):
        m, n, k = size, 38 - size, 1 + 7 * size % 37
        x, y = draw(rng, (m, k), dtype), draw(rng, (k, n), dtype)
        c = put(np.zeros((m, n), dtype), LAYOUTS[size % 4])
        blas.gemm(1.0, put(x, LAYOUTS[size // 4 % 4]).array, put(y, "F").array, 0.0, c.array)
        error, scale = cabs1(c.host() - wide(x) @ wide(y)), cabs1(x) @ cabs1(y)
        assert is_small(error, allowed(k, dtype) * scale), (size, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", LAYOUTS)
def test_gemm_of_nothing_scales_c(blas, cupy, put, rng, where, dtype):
    z = draw(rng, (5, 3), dtype)
    a, b = cupy.zeros((5, 0), dtype), cupy.zeros((0, 3), dtype)
    for beta, start, expected in [
        (0.0, np.full_like(z, np.nan), np.zeros_like(z)), (1.0, z, z), (2.0, z, 2 * z),
    ]:  # fmt: skip
        c = put(start, where)
        with recorded() as ledger:
            blas.gemm(1.0, a, b, beta, c.array)
        assert not ledger.calls  # what cuBLAS makes of k = 0 is not said
        assert np.array_equal(c.host(), expected)
        c.assert_rest_untouched()


def test_gemm_takes_operands_of_any_strides(blas, cupy, rng):
    x, y = draw(rng, (10, 14), "float64"), draw(rng, (14, 6), "float64")
    c = cupy.zeros((5, 3))
    row = cupy.broadcast_to(cupy.asarray(y[0, ::2]), (7, 3))
    for a, b in [
        (cupy.asarray(x)[::2, ::-2], cupy.asarray(y)[::-2, ::2]), (cupy.asarray(x[::2, ::2]), row),
    ]:  # fmt: skip
        blas.gemm(1.0, a, b, 0.0, c)
        a, b = a.get(), b.get()
        assert is_small(abs(c.get() - a @ b), allowed(7, "float64") * (abs(a) @ abs(b)))


def test_products_do_not_wait(blas, put, rng, nothing_crosses):
    for dtype, where in itertools.product(DTYPES, ["F", "C-view"]):
        x, y = draw(rng, (7, 7), dtype), draw(rng, (7, 7), dtype)
        a, b, c = put(x, where), put(y, "F"), put(y, "C")
        with nothing_crosses():
            blas.gemm(1.0, a.array, b.array, -1.0, c.array, "C", "T")
            blas.syrk(1.0, a.array, -1.0, c.array, True)
            blas.trsm("L", a.array, c.array, True, "C")


# -- trsm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("side", ["L", "R"])
def test_trsm(blas, put, rng, side, lower, dtype):
    """The other triangle, and a unit diagonal, are not read."""
    for (m, n), trans, unit in itertools.product(TRIANGULAR_SIZES, flags(dtype), [False, True]):
        order = m if side == "L" else n
        x = draw(rng, (order, order), dtype) / max(order, 1)
        x[np.arange(order), np.arange(order)] = 1 + rng.random(order)
        full = wide(triangle(x, lower))
        x[triangle(np.ones((order, order)), lower) == 0] = np.nan
        if unit:
            np.fill_diagonal(full, 1)
            np.fill_diagonal(x, np.nan)
        full = op(full, trans)
        y = draw(rng, (m, n), dtype)
        for number, (la, lb) in enumerate(layouts(2)):
            alpha = [1.0, -0.5][number % 2] * ((1 + 2j) if is_complex(dtype) else 1)
            a, b = put(x, la), put(y, lb)
            blas.trsm(side, a.array, b.array, lower, trans, unit, alpha)
            z = wide(b.host())
            residual = (full @ z if side == "L" else z @ full) - alpha * wide(y)
            size = (cabs1(full), cabs1(z)) if side == "L" else (cabs1(z), cabs1(full))
            scale = np.matmul(*size) + cabs1(alpha) * cabs1(y)
            assert is_small(cabs1(residual), allowed(order, dtype) * scale), (m, n, trans, la, lb)
            b.assert_rest_untouched()
            a.assert_untouched()


@pytest.mark.parametrize("order", ["C", "F"])
def test_trsm_takes_a_triangle_of_any_strides(blas, cupy, rng, order):
    x, y = draw(rng, (10, 10), "complex64"), draw(rng, (5, 3), "complex64")
    x += 10 * np.eye(10, dtype=x.dtype)
    a, b = cupy.asarray(x)[::2, ::2], cupy.array(y, order=order)
    blas.trsm("L", a, b, False, "C")
    full, z = wide(np.triu(x[::2, ::2]).conj().T), b.get()
    bound = allowed(5, "complex64") * (cabs1(full) @ cabs1(z) + cabs1(y))
    assert is_small(cabs1(full @ z - y), bound)


# -- syrk ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("trans", ["N", "C"])
def test_syrk(blas, put, rng, monkeypatch, trans, lower, dtype):
    monkeypatch.setattr(blas, "_HERK_ROWS", 8)  # the last block is never whole
    for n, k in [(0, 3), (1, 1), (1, 5), (5, 1), (7, 31), (37, 5)]:
        x = draw(rng, (n, k) if trans == "N" else (k, n), dtype)
        z = draw(rng, (n, n), dtype)
        z = z + z.conj().T
        xw = wide(x) if trans == "N" else wide(x).conj().T
        for number, (la, lc) in enumerate(layouts(2)):
            alpha, beta = SCALARS[number % 3]
            start = np.full_like(z, np.nan) if beta == 0 else z.copy()
            if is_complex(dtype):  # what is left on the diagonal by other roundings is not meant
                start.imag[np.arange(n), np.arange(n)] = 1
            a, c = put(x, la), put(start, lc)
            blas.syrk(alpha, a.array, beta, c.array, lower, trans)
            error = cabs1(c.host() - (alpha * (xw @ xw.conj().T) + beta * wide(z)))
            scale = abs(alpha) * (cabs1(xw) @ cabs1(xw).T) + abs(beta) * cabs1(z)
            meant = triangle(np.ones((n, n), bool), lower)
            bound = allowed(k, dtype) * scale
            assert is_small(error[meant], bound[meant]), (n, k, la, lc)
            assert np.all(np.diagonal(c.host()).imag == 0)
            c.assert_rest_untouched()
            a.assert_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
def test_syrk_of_nothing_scales_c(blas, cupy, put, rng, dtype):
    z = draw(rng, (5, 5), dtype)
    for lower, beta in itertools.product([True, False], [0.0, 2.0]):
        c = put(np.full_like(z, np.nan) if beta == 0 else z, "F-view")
        blas.syrk(1.0, cupy.zeros((5, 0), dtype), beta, c.array, lower)
        expected = np.zeros_like(z) if beta == 0 else beta * z
        assert np.array_equal(triangle(c.host(), lower), triangle(expected, lower))
        c.assert_rest_untouched()
