"""gemm, syrk, trsm."""

import itertools

import numpy as np
import pytest

from mplinalg.ops import Counters
from mplinalg.precision import FP16, FP16X2, get_format

from .helpers import (
    DTYPES,
    F_LIKE,
    LAYOUTS,
    SINGLE,
    Suite,
    allowed,
    cabs1,
    draw,
    flags,
    is_complex,
    is_small,
    layouts,
    op,
    same_bits,
    wide,
)

LOW = ["fp16", "bf16", "tf32", "fp16x2"]
COMPUTE = [*itertools.product(["native"], DTYPES), *itertools.product(LOW, SINGLE)]
"""Formats, and the dtypes that hold them."""
SIZES = [(0, 0, 0), (0, 3, 2), (3, 0, 2), (1, 1, 1), (5, 1, 7), (1, 5, 7), (7, 5, 1), (13, 17, 31)]
"""m, n, k; those with k = 0 are tested apart."""
SCALARS = [(1.0, 0.0), (-1.0, 1.0), (2.5, -0.5), (0.0, 2.0)]
TRIANGULAR_SIZES = [(0, 3), (3, 0), (1, 1), (7, 1), (1, 5), (13, 5), (5, 31)]


def compute_format(name):
    return None if name == "native" else get_format(name)


def operands(rng, size, dtype, transa="N", transb="N"):
    m, n, k = size
    a = draw(rng, (m, k) if transa == "N" else (k, m), dtype)
    b = draw(rng, (k, n) if transb == "N" else (n, k), dtype)
    return a, b, draw(rng, (m, n), dtype)


def split(x, scale):
    """scale x = high + 2^-11 low, by definition; float64 results over `scale`."""
    if is_complex(x.dtype):
        (rh, rl), (ih, il) = split(x.real, scale), split(x.imag, scale)
        return rh + 1j * ih, rl + 1j * il
    x = x.astype(np.float64) * scale
    high = x.astype(np.float16).astype(np.float64)
    low = ((x - high) * 2.0**11).astype(np.float16).astype(np.float64)
    return high / scale, low * 2.0**-11 / scale


def low_precision_product(fmt, a, b, scale=2.0**10):
    """op(A) op(B) and |op(A)||op(B)| of the rounded operands, exact but for float64 roundoff.

    Any power of two will do for `scale`, if no entry is lost.
    """
    if fmt is FP16X2:
        (ah, al), (bh, bl) = split(a, scale), split(b, scale)
        return ah @ bh + (ah @ bl + al @ bh), cabs1(ah) @ cabs1(bh)
    if fmt is not FP16:
        scale = 1.0
    a, b = (wide(fmt.round(x * x.real.dtype.type(scale))) / scale for x in (a, b))
    return a @ b, cabs1(a) @ cabs1(b)


def accumulation(k, dtype):
    """Error of an fp32 sum of k products of low-precision numbers, relative to |A||B|.

    Twice as many products if complex; eight roundings more for alpha, beta, and the parts of
    fp16x2. It is far below the roundoff of every low format: operands that are not rounded, or
    rounded differently, show.
    """
    return ((2 * k if is_complex(dtype) else k) + 8) * 2.0**-24


def triangle(x, lower):
    return np.tril(x) if lower else np.triu(x)


def hermitian(x):
    return x + x.conj().T


class Level3Suite(Suite):
    # -- gemm ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("transb", ["N", "T", "C"])
    @pytest.mark.parametrize("transa", ["N", "T", "C"])
    def test_gemm(self, rng, transa, transb, dtype):
        """In every layout, on views in place."""
        for size in SIZES:
            x, y, z = operands(rng, size, dtype, transa, transb)
            for number, (la, lb, lc) in enumerate(layouts(3)):
                alpha, beta = SCALARS[number % 3]
                # what beta = 0 overwrites may be anything
                start = np.full_like(z, np.nan) if beta == 0 else z
                a, b, c = self.put(x, la), self.put(y, lb), self.put(start, lc)
                self.ops.gemm(alpha, a.array, b.array, beta, c.array, transa=transa, transb=transb)
                xw, yw, zw = op(wide(x), transa), op(wide(y), transb), wide(z)
                error = cabs1(c.host() - (alpha * (xw @ yw) + beta * zw))
                scale = abs(alpha) * (cabs1(xw) @ cabs1(yw)) + abs(beta) * cabs1(zw)
                assert is_small(error, allowed(size[2], dtype) * scale), (size, la, lb, lc)
                c.assert_rest_untouched()
                a.assert_untouched()
                b.assert_untouched()

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize(("name", "dtype"), COMPUTE)
    def test_gemm_of_nothing_scales_c(self, rng, name, dtype, layout):
        fmt = compute_format(name)
        for m, n in [(5, 3), (5, 1), (1, 3)]:
            z = draw(rng, (m, n), dtype)
            a, b = self.put(np.zeros((m, 0), dtype)), self.put(np.zeros((0, n), dtype))
            for beta in [1.0, -0.5, 0.0]:
                c = self.put(np.full_like(z, np.nan) if beta == 0 else z, layout)
                self.ops.gemm(1.0, a.array, b.array, beta, c.array, compute=fmt)
                assert np.array_equal(c.host(), 0 * z if beta == 0 else np.asarray(beta * z, dtype))
                c.assert_rest_untouched()

    @pytest.mark.parametrize("name", ["native", *LOW])
    @pytest.mark.parametrize("at", ["a", "b", "c"])
    def test_gemm_propagates_nan(self, rng, at, name):
        a, b, c = operands(rng, (7, 5, 3), "float32")
        {"a": a, "b": b, "c": c}[at][2, 1] = np.nan
        placed = self.put(c)
        self.ops.gemm(
            1.0, self.put(a).array, self.put(b).array, 1.0, placed.array,
            compute=compute_format(name),
        )  # fmt: skip
        expected = np.zeros((7, 5), bool)
        expected[{"a": (2, slice(None)), "b": (slice(None), 1), "c": (2, 1)}[at]] = True
        assert np.array_equal(np.isnan(placed.host()), expected)

    @pytest.mark.parametrize("trans", [("N", "N"), ("T", "N"), ("C", "T"), ("N", "C")], ids="".join)
    @pytest.mark.parametrize("dtype", SINGLE)
    @pytest.mark.parametrize("name", LOW)
    def test_gemm_in_a_low_format(self, rng, name, dtype, trans):
        fmt = get_format(name)
        for size in SIZES[3:]:
            x, y, z = operands(rng, size, dtype, *trans)
            for number, (la, lb, lc) in enumerate(layouts(3)):
                alpha, beta = SCALARS[number % 3]
                start = np.full_like(z, np.nan) if beta == 0 else z
                a, b, c = self.put(x, la), self.put(y, lb), self.put(start, lc)
                self.ops.gemm(
                    alpha, a.array, b.array, beta, c.array, transa=trans[0], transb=trans[1],
                    compute=fmt,
                )  # fmt: skip
                xy, sizes = low_precision_product(fmt, op(x, trans[0]), op(y, trans[1]))
                error = cabs1(c.host() - (alpha * xy + beta * wide(z)))
                scale = abs(alpha) * sizes + abs(beta) * cabs1(z)
                assert is_small(error, accumulation(size[2], dtype) * scale), (size, la, lb, lc)
                c.assert_rest_untouched()
                a.assert_untouched()
                b.assert_untouched()

    @pytest.mark.parametrize("dtype", SINGLE)
    @pytest.mark.parametrize("name", LOW)
    def test_gemm_in_a_low_format_is_as_good_as_the_format(self, rng, name, dtype):
        """|C - A B| <= (2 u + accumulation) |A||B|, and no better than the format allows."""
        fmt = get_format(name)
        x, y, z = operands(rng, (23, 29, 37), dtype)
        c = self.put(0 * z)
        self.ops.gemm(1.0, self.put(x).array, self.put(y).array, 0.0, c.array, compute=fmt)
        relative = cabs1(c.host() - wide(x) @ wide(y)) / (cabs1(x) @ cabs1(y))
        bound = 2.1 * fmt.unit_roundoff + accumulation(37, dtype)
        assert is_small(relative, bound)
        if fmt is not FP16X2:
            assert relative.max() > fmt.unit_roundoff / 50

    @pytest.mark.parametrize("exponents", [(0, 0), (40, -40), (-30, 12), (17, 60)])
    @pytest.mark.parametrize("name", ["fp16", "fp16x2"])
    def test_gemm_in_half_precision_knows_no_scale(self, rng, name, exponents):
        """2^i A times 2^j B has the bits of A times B."""
        fmt = get_format(name)
        x, y, z = operands(rng, (13, 11, 17), "float32")
        results = []
        for i, j in [(0, 0), exponents]:
            c, counters = self.put(0 * z), Counters()
            self.ops.gemm(
                1.0, self.put(np.ldexp(x, i)).array, self.put(np.ldexp(y, j)).array, 0.0, c.array,
                compute=fmt, counters=counters,
            )  # fmt: skip
            assert (counters.overflows, counters.underflows) == (0, 0)
            results.append(np.ldexp(c.host(), -i - j))
        assert same_bits(*results)

    @pytest.mark.parametrize("name", LOW)
    def test_gemm_counts_what_conversion_lost(self, rng, name):
        x, y, z = operands(rng, (5, 7, 11), "float32")
        x[1, 2], x[3, 3], y[4, 5] = 1e-14, 0.0, -1e-13
        counters = Counters(overflows=1, underflows=10)
        for _ in range(2):
            self.ops.gemm(
                1.0, self.put(x).array, self.put(y).array, 0.0, self.put(z).array,
                compute=get_format(name), counters=counters,
            )  # fmt: skip
        narrow = name in ("fp16", "fp16x2")
        assert (counters.overflows, counters.underflows) == (1, 14 if narrow else 10)

    @pytest.mark.parametrize("name", LOW)
    def test_gemm_wants_low_formats_in_single_precision(self, name):
        c = self.put(np.ones((3, 3)))
        one = self.put(np.ones((3, 3))).array
        with pytest.raises(TypeError, match="float64"):
            self.ops.gemm(1.0, one, one, 0.0, c.array, compute=get_format(name))
        c.assert_untouched()

    def test_gemm_refuses_shapes_that_do_not_fit(self):
        a, b, c = (self.put(np.ones(shape)).array for shape in [(3, 4), (5, 2), (3, 2)])
        with pytest.raises(ValueError, match=r"\(3, 4\).*\(5, 2\).*\(3, 2\)"):
            self.ops.gemm(1.0, a, b, 0.0, c)

    # -- syrk ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("trans", ["N", "C"])
    @pytest.mark.parametrize("lower", [True, False])
    @pytest.mark.parametrize(("name", "dtype"), COMPUTE)
    def test_syrk(self, rng, name, dtype, lower, trans):
        fmt = compute_format(name)
        for n, k in [(0, 3), (3, 0), (1, 1), (1, 5), (7, 1), (5, 3), (13, 31)]:
            x, z = draw(rng, (n, k), dtype), hermitian(draw(rng, (n, n), dtype))
            for number, (la, lc) in enumerate(itertools.product(F_LIKE, F_LIKE)):
                alpha, beta = SCALARS[number % 3]
                start = np.full_like(z, np.nan) if beta == 0 else triangle(z, lower)
                a, c = self.put(op(x, trans), la), self.put(start, lc)
                self.ops.syrk(alpha, a.array, beta, c.array, lower=lower, trans=trans, compute=fmt)
                if fmt is None:
                    xx, sizes = wide(x) @ wide(x).conj().T, cabs1(x) @ cabs1(x).T
                    bound = allowed(k, dtype)
                else:
                    xx, sizes = low_precision_product(fmt, x, x.conj().T)
                    bound = accumulation(k, dtype)
                error = triangle(cabs1(c.host() - (alpha * xx + beta * wide(z))), lower)
                scale = abs(alpha) * sizes + abs(beta) * cabs1(z)
                assert is_small(error, bound * scale), (n, k, la, lc)
                c.assert_rest_untouched()
                a.assert_untouched()

    # -- trsm ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("unit", [False, True])
    @pytest.mark.parametrize("lower", [True, False])
    @pytest.mark.parametrize("side", ["L", "R"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_trsm(self, rng, dtype, side, lower, unit):
        for trans in flags(dtype):
            for m, n in TRIANGULAR_SIZES:
                order = m if side == "L" else n
                y = draw(rng, (m, n), dtype)
                x = triangle(draw(rng, (order, order), dtype), lower)
                x /= x.real.dtype.type(max(order, 1))
                np.fill_diagonal(x, 1.0 if unit else 1.5)
                # the other triangle is not read, nor is a unit diagonal
                hidden = np.where(triangle(np.ones(x.shape), lower) == 0, np.nan, x)
                if unit:
                    np.fill_diagonal(hidden, np.nan)
                for la, lb in layouts(2):
                    a, b = self.put(np.asarray(hidden, dtype), la), self.put(y, lb)
                    self.ops.trsm(side, a.array, b.array, lower=lower, trans=trans, unit=unit)
                    t, got = op(wide(x), trans), wide(b.host())
                    product = t @ got if side == "L" else got @ t
                    sizes = cabs1(t) @ cabs1(got) if side == "L" else cabs1(got) @ cabs1(t)
                    error = cabs1(product - wide(y))
                    assert is_small(error, allowed(order, dtype) * sizes), (trans, m, n, la, lb)
                    b.assert_rest_untouched()
                    a.assert_untouched()

    def test_trsm_refuses_shapes_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"\(3, 3\).*\(4, 2\)"):
            self.ops.trsm(
                "L", self.put(np.eye(3)).array, self.put(np.ones((4, 2))).array, lower=True
            )
