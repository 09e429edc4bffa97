"""Products of stacks whose operands are rounded to lower precisions."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.batched.gemm import gemm
from mplinalg.precision import get_format

from .products import size, wide
from .systems import normal

LOW = ["fp16", "bf16", "tf32", "fp16x2", "fp32"]


def of_one_size(rng, shape, dtype):
    """Numbers of nearly one size: none becomes subnormal in any format."""
    a = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 1.0, shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 1.0, shape)
    return a.astype(dtype)


def emulated(a, b, name):
    """The product of rounded operands, exact to double precision."""

    def parts(x):
        if name != "fp16x2":
            return [get_format(name).round(x)]
        x = x.astype(get_format("fp32").dtype(x.dtype))
        high = get_format("fp16").round(x)
        return [high, get_format("fp16").round((x - high) * np.float32(2.0**11))]

    a_parts, b_parts = ([wide(part) for part in parts(x)] for x in (a, b))
    product = a_parts[0] @ b_parts[0]
    if name == "fp16x2":
        product = product + (a_parts[1] @ b_parts[0] + a_parts[0] @ b_parts[1]) / 2.0**11
    return product


@pytest.mark.parametrize("name", LOW)
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
@pytest.mark.parametrize("n", [4, 31])
def test_operands_are_rounded(rng, name, dtype, n):
    a, b, c = (of_one_size(rng, (50, n, n), dtype) for _ in range(3))
    found = gemm(a, b, precision=name)
    assert found.dtype == dtype
    bound = (n + 6) * (2.0**-24 + np.finfo(dtype).eps) * (size(a) @ size(b))
    assert np.all(np.abs(found - emulated(a, b, name)) <= bound)
    found = gemm(a, b, c, transa="C", alpha=2.0, beta=0.5, precision=name)
    want = 2.0 * emulated(a.swapaxes(1, 2).conj(), b, name) + 0.5 * c
    assert np.all(np.abs(found - want) <= 3 * bound + size(c) * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", LOW)
def test_members_are_scaled_exactly(rng, name):
    a, b = (of_one_size(rng, (30, 5, 5), float) for _ in range(2))
    want = gemm(a, b, precision=name)
    left, right = rng.integers(-500, 500, (2, 30, 1, 1))
    found = gemm(np.ldexp(a, left), np.ldexp(b, right), precision=name)
    assert np.array_equal(found, np.ldexp(want, left + right))


@pytest.mark.parametrize("name", [*LOW, "fp64", "working"])
def test_precision_keeps_what_is_not_finite(rng, name):
    a, b = normal(rng, (2, 9, 4, 4))
    a[2, 0], b[5, 1:] = 1e300, 1e200
    a[2, 1, 1], b[5, 0, 3] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        want = a @ b
    found = gemm(a, b, precision=name)
    assert np.array_equal(np.isnan(found), np.isnan(want))
    assert np.array_equal(np.isinf(found), np.isinf(want))


@pytest.mark.parametrize("name", LOW)
def test_precision_of_a_single_matrix(rng, name):
    a, b = normal(rng, (2, 3, 3))
    c = normal(rng, (3, 3))
    want = gemm(a[None], b[None], c[None], beta=2.0, precision=name)[0]
    assert np.array_equal(gemm(a, b, c, beta=2.0, precision=name), want)
    assert gemm(a, b, c, beta=2.0, precision=name, out=c) is c
    assert np.array_equal(c, want)


def test_precision_of_wide_formats(rng):
    a, b = normal(rng, (2, 9, 4, 4))
    assert np.array_equal(gemm(a, b, precision="fp64"), gemm(a, b))
    single = a.astype("f4"), b.astype("f4")
    assert np.array_equal(gemm(*single, precision="fp32"), gemm(*single))
    with pytest.raises(ValueError, match="wider"):
        gemm(*single, precision="fp64")
    with pytest.raises(ValueError, match="precision must be one of"):
        gemm(a, b, precision="fp8")
