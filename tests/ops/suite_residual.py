"""residual, in the working precision and in twice of it."""

import numpy as np
import pytest

from .helpers import (
    DTYPES,
    LAYOUTS,
    NRHS,
    Suite,
    allowed,
    cabs1,
    draw,
    exact_residual,
    is_complex,
    is_small,
    op,
    real,
    same_bits,
    unit_roundoff,
    wide,
)

TRIANGLES = [None, "L", "U"]


def draw_matrix(rng, shape, dtype, triangle):
    """A, and what of it is stored: NaN where `residual` may not look."""
    a = draw(rng, shape, dtype)
    if triangle is None:
        return a, a
    a = np.tril(a) if triangle == "L" else np.triu(a)
    a = a + a.conj().T
    unread = np.triu(np.ones(shape, bool), 1)
    stored = np.where(unread if triangle == "L" else unread.T, np.asarray(np.nan, dtype), a)
    if is_complex(dtype):  # the diagonal of a Hermitian matrix is real, whatever is stored
        stored.imag[np.diag_indices(shape[0])] = np.nan
    return a, np.asarray(stored, dtype)


def sizes_of(a, x, b):
    """|A||x| + |b|."""
    return cabs1(a) @ cabs1(x) + cabs1(b)


def cancelling(rng, dtype):
    """A (6 x 7), x, b with b - A x about 1e-4 u as large as its terms: 1e-20 in float64."""
    a, x = draw(rng, (6, 7), dtype), draw(rng, (7, 1), dtype)
    a[:, 6], x[6] = 0, 1
    b = np.asarray(exact_residual(-a, x, np.zeros((6, 1), dtype)), dtype)
    a[:, 6] = 0.9999 * exact_residual(a, x, b)[:, 0]
    return a, x, b


class ResidualSuite(Suite):
    def residual(self, a, x, b, layout="F", **options):
        """(r, d) on the host, after checking what does not depend on the numbers."""
        placed = self.put(a, layout), self.put(x), self.put(b)
        r, d = self.ops.residual(*(p.array for p in placed), **options)
        for p in placed:
            p.assert_untouched()
        assert r.flags.f_contiguous
        r = self.to_host(r)
        assert r.dtype == b.dtype
        assert r.shape == b.shape
        if not options.get("magnitude", True):
            assert d is None
            return r, None
        assert d.flags.f_contiguous
        d = self.to_host(d)
        assert d.dtype == real(b.dtype)
        assert d.shape == b.shape
        return r, d

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("trans", ["N", "T", "C"])
    @pytest.mark.parametrize("triangle", TRIANGLES)
    def test_residual(self, rng, triangle, trans, dtype, layout):
        for n in [0, 1, 2, 7, 37]:
            a, stored = draw_matrix(rng, (n, n), dtype, triangle)
            for nrhs in NRHS:
                x, b = draw(rng, (n, nrhs), dtype), draw(rng, (n, nrhs), dtype)
                t = op(wide(a), trans)
                sizes = sizes_of(t, x, b)
                for extended in [False, True]:
                    for magnitude in [True, False]:
                        options = {
                            "trans": trans, "triangle": triangle, "magnitude": magnitude,
                            "extended": extended,
                        }  # fmt: skip
                        r, d = self.residual(stored, x, b, layout, **options)
                        bound = allowed(n, dtype) * sizes
                        assert is_small(cabs1(r - (wide(b) - t @ wide(x))), bound), (n, options)
                        if magnitude:
                            assert is_small(abs(d - sizes), bound), (n, options)

    @pytest.mark.parametrize("layout", ["F", "C"])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("triangle", TRIANGLES)
    def test_residual_of_a_large_matrix(self, rng, triangle, dtype, layout):
        """A backend may go through a large matrix a block at a time."""
        n = 523
        a, stored = draw_matrix(rng, (n, n), dtype, triangle)
        x, b = draw(rng, (n, 3), dtype), draw(rng, (n, 3), dtype)
        sizes = sizes_of(a, x, b)
        for extended in [False, True]:
            r, d = self.residual(stored, x, b, layout, triangle=triangle, extended=extended)
            bound = allowed(n, dtype) * sizes
            assert is_small(cabs1(r - (wide(b) - wide(a) @ wide(x))), bound)
            assert is_small(abs(d - sizes), bound)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(13, 5), (5, 13), (3, 0), (0, 3)])
    def test_residual_of_a_rectangular_matrix(self, rng, shape, dtype, layout):
        a = draw(rng, shape, dtype)
        for trans in ["N", "C"]:
            t = op(wide(a), trans)
            for nrhs in [1, 3]:
                x, b = draw(rng, (t.shape[1], nrhs), dtype), draw(rng, (t.shape[0], nrhs), dtype)
                sizes = sizes_of(t, x, b)
                bound = allowed(max(shape), dtype) * sizes
                for extended in [False, True]:
                    r, d = self.residual(a, x, b, layout, trans=trans, extended=extended)
                    assert is_small(cabs1(r - (wide(b) - t @ wide(x))), bound)
                    assert is_small(abs(d - sizes), bound)

    @pytest.mark.parametrize("trans", ["N", "T", "C"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_extended_residual_survives_cancellation(self, rng, dtype, layout, trans):
        """Its error is u |r|, where that of the plain one is as large as r."""
        a, x, b = cancelling(rng, dtype)
        r = wide(exact_residual(a, x, b))
        sizes, u = sizes_of(a, x, b), unit_roundoff(dtype)
        assert cabs1(r).max() <= 1e-3 * u * sizes.max()
        # op is its own inverse
        extended, _ = self.residual(op(a, trans), x, b, layout, trans=trans, extended=True)
        error = cabs1(wide(extended) - r)
        assert is_small(error, 30 * (u * cabs1(r) + 7 * u**2 * sizes))
        plain, _ = self.residual(op(a, trans), x, b, layout, trans=trans)
        assert np.median(cabs1(wide(plain) - r) / cabs1(r)) > 0.5

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("triangle", ["L", "U"])
    def test_extended_residual_from_one_triangle(self, rng, triangle, dtype, layout):
        n = 7
        a, stored = draw_matrix(rng, (n, n), dtype, triangle)
        x = draw(rng, (n, 1), dtype)
        b = np.asarray(exact_residual(-a, x, np.zeros((n, 1), dtype)), dtype)
        r = wide(exact_residual(a, x, b))
        sizes, u = sizes_of(a, x, b), unit_roundoff(dtype)
        assert cabs1(r).max() <= 2 * u * sizes.max()
        extended, _ = self.residual(stored, x, b, layout, triangle=triangle, extended=True)
        assert is_small(cabs1(wide(extended) - r), 30 * u * cabs1(r) + 30 * n * u**2 * sizes)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("where", ["a", "x", "b"])
    @pytest.mark.parametrize("nrhs", [1, 3])
    @pytest.mark.parametrize("triangle", TRIANGLES)
    @pytest.mark.parametrize("extended", [False, True])
    def test_residual_is_not_finite_where_its_terms_are_not(
        self, rng, extended, triangle, nrhs, where, bad
    ):
        for dtype in DTYPES:
            _, stored = draw_matrix(rng, (7, 7), dtype, triangle)
            x, b = draw(rng, (7, nrhs), dtype), draw(rng, (7, nrhs), dtype)
            expected = np.zeros((7, nrhs), bool)
            if where == "a":
                stored[3, 3] = bad
                expected[3] = True
            elif where == "x":
                x[2, 0] = bad
                expected[:, 0] = True
            else:
                b[5, 0] = bad
                expected[5, 0] = True
            r, d = self.residual(stored, x, b, triangle=triangle, extended=extended)
            assert np.array_equal(~np.isfinite(r), expected)
            assert np.array_equal(~np.isfinite(d), expected)

    @pytest.mark.parametrize("extended", [False, True])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_residual_of_zero_is_b(self, rng, dtype, extended):
        a, b = draw(rng, (7, 7), dtype), draw(rng, (7, 3), dtype)
        r, d = self.residual(a, np.zeros_like(b), b, extended=extended)
        assert same_bits(np.ascontiguousarray(r), b)
        assert is_small(abs(d - cabs1(b)), allowed(1, dtype) * cabs1(b))
