"""cuBLAS on views: products of low-precision operands."""

import numpy as np
import pytest

from ...ops.helpers import allowed, cabs1, draw, is_small, layouts, op, same_bits, wide
from .operands import SCALARS, SIZES, blas, layout, low, put

__all__ = ["blas", "layout", "put"]  # fixtures

LOW = ["fp16", "bf16", "tf32", "tf32 complex"]


def among_nan(cupy, x, layout):
    """`x` on the device in that layout, in a larger array of NaN if it is a view."""
    nan = 0x7FC0 if x.dtype == np.uint16 else np.nan
    m, n = x.shape
    window = np.s_[2 : 2 + m, 1 : 1 + n] if layout.endswith("view") else np.s_[:, :]
    shape = (m + 5, n + 3) if layout.endswith("view") else (m, n)
    around = cupy.array(np.full(shape, nan, x.dtype), order=layout[0])
    around[window] = cupy.asarray(x)
    return around[window]


@pytest.mark.parametrize("kind", LOW)
@pytest.mark.parametrize(("transa", "transb"), ["NN", "NT", "TN", "TT", "CC"])
def test_gemm_low(blas, cupy, put, rng, transa, transb, kind):
    """Sums of exact products in fp32, whichever way alpha and beta are given."""
    dtype = "complex64" if kind == "tf32 complex" else "float32"
    for m, n, k in SIZES:
        xw, x = low(rng, (m, k) if transa == "N" else (k, m), kind)
        yw, y = low(rng, (k, n) if transb == "N" else (n, k), kind)
        xw, yw = op(xw, transa), op(yw, transb)
        z = draw(rng, (m, n), dtype)
        for number, (la, lb, lc) in enumerate(layouts(3)):
            alpha, beta = SCALARS[number % 3]
            a, b = among_nan(cupy, x, la), among_nan(cupy, y, lb)
            c = put(np.full_like(z, np.nan) if beta == 0 else z, lc)
            given = [alpha, beta]
            for place in (0, 1):
                if number // 3 >> place & 1:
                    given[place] = cupy.asarray(given[place : place + 1], "float32")
            tf32 = kind.startswith("tf32")
            blas.gemm_low(given[0], a, b, given[1], c.array, transa, transb, tf32=tf32)
            error = cabs1(c.host() - (alpha * (xw @ yw) + beta * wide(z)))
            scale = abs(alpha) * (cabs1(xw) @ cabs1(yw)) + abs(beta) * cabs1(wide(z))
            assert is_small(error, allowed(k, dtype) * scale), (m, n, k, la, lb, lc)
            c.assert_rest_untouched()
            assert same_bits(a.get(), x)
            assert same_bits(b.get(), y)


def test_tf32_sees_the_leading_bits(blas, cupy, rng):
    """Eleven of them: an error between those of fp32 and of bf16."""
    x, y = draw(rng, (31, 31), "float32"), draw(rng, (31, 31), "float32")
    c = cupy.zeros((31, 31), "float32")
    blas.gemm_low(1.0, cupy.asarray(x), cupy.asarray(y), 0.0, c, tf32=True)
    error = abs(c.get() - wide(x) @ wide(y)) / (abs(wide(x)) @ abs(wide(y)))
    assert allowed(31, "float32") < np.max(error) <= 2 * 2.0**-10


def test_gemm_low_of_nothing_scales_c(blas, cupy, put, rng):
    z = draw(rng, (5, 3), "float32")
    a, b = cupy.zeros((5, 0), "float16"), cupy.zeros((0, 3), "float16")
    for beta in (0.0, 2.0):
        for given in (beta, cupy.asarray([beta], "float32")):
            c = put(z if beta else np.full_like(z, np.nan), "C-view")
            blas.gemm_low(1.0, a, b, given, c.array)
            assert np.array_equal(c.host(), beta * z)
            c.assert_rest_untouched()


def test_scalars_on_the_device_are_not_waited_for(blas, cupy, rng, nothing_crosses):
    _, x = low(rng, (7, 7), "fp16")
    a, c = cupy.asarray(x), cupy.zeros((7, 7), "float32")
    alpha = cupy.asarray([0.5], "float32")
    blas.gemm_low(alpha, a, a, 1.0, c)  # makes the constant, once
    with nothing_crosses():
        blas.gemm_low(alpha, a, a, 1.0, c)
        blas.gemm_low(alpha, a, a, 0.25, c)
    expected = 2 * 0.5 * (wide(x) @ wide(x))
    expected = 0.25 * expected + 0.5 * (wide(x) @ wide(x))
    assert is_small(abs(c.get() - expected), allowed(7, "float32") * (abs(wide(x)) @ abs(wide(x))))


def test_constants_serve_all_streams(blas, cupy, rng):
    """What one stream made is there for another, which does not wait for the first."""
    _, x = low(rng, (7, 7), "fp16")
    a, alpha = cupy.asarray(x), cupy.asarray([0.5], "float32")
    results = [cupy.empty((7, 7), "float32") for _ in range(2)]
    cupy.cuda.Device().synchronize()
    for c in results:
        with cupy.cuda.Stream(non_blocking=True):
            blas.gemm_low(alpha, a, a, 0.0, c)
    cupy.cuda.Device().synchronize()
    assert np.array_equal(*(c.get() for c in results))
