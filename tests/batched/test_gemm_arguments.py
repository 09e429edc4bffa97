"""Products of stacks: which dtypes, alignments, shapes and options are taken."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.batched.gemm import gemm

from .products import assert_product, route
from .systems import normal

__all__ = ["route"]  # a fixture


@pytest.mark.parametrize(("given", "dtype"), [
    ("int32", "float64"), ("bool", "float64"), ("float16", "float32"), (">f8", "float64"),
    ("longdouble", "float64"), (">c8", "complex64"),
])  # fmt: skip
def test_dtypes(rng, given, dtype):
    a, b = (rng.integers(0, 5, (2, 6, 3, 3))).astype(given)
    found = gemm(a, b)
    assert found.dtype == dtype
    assert found.dtype.isnative
    assert np.array_equal(found, a.astype(dtype) @ b.astype(dtype))


def test_dtypes_are_joined(rng):
    a, b = normal(rng, (2, 6, 3, 3))
    assert gemm(a, b.astype("f4")).dtype == "float64"
    assert gemm(a.astype("f4"), b.astype("c8")).dtype == "complex64"
    assert gemm(a, b, 1j * a, beta=1.0).dtype == "complex128"
    assert gemm(a.tolist(), b.tolist()).shape == a.shape


@pytest.mark.parametrize("n", [0, 2, 30])
def test_overflow_is_silent(rng, route, n):
    """Whichever code multiplies: infinity, and no warning."""
    a, c = np.ones((5, 2, n), "f4"), np.full((5, 2, 2), 1e30, "f4")
    b = np.ones((5, n, 2), "f4")
    for factors in ({"alpha": 1e300}, {"beta": 1e300}, {"beta": 1e20}):
        found = gemm(a, b, c, **factors)
        assert np.all(found == (np.inf if n or "beta" in factors else 0))
        listed = gemm(list(a), list(b), list(c), **factors)
        assert np.array_equal(listed, found)


def test_not_aligned(rng):
    a = normal(rng, (6, 3, 3))
    memory = np.zeros(a.nbytes + 1, np.uint8)
    shifted = memory[1:].view(float).reshape(a.shape)
    shifted[...] = a
    assert not shifted.flags.aligned
    assert_product(gemm(shifted, a), a, a)
    with pytest.raises(ValueError, match="aligned"):
        gemm(a, a, out=shifted)


def test_shapes_that_do_not_fit(rng):
    a = normal(rng, (5, 2, 3))
    with pytest.raises(ValueError, match=r"a.shape=\(5, 2, 3\), .* b.shape=\(5, 2, 3\)"):
        gemm(a, a)
    with pytest.raises(ValueError, match="do not broadcast"):
        gemm(a, normal(rng, (4, 3, 2)))
    with pytest.raises(ValueError, match=r"c.shape=\(3, 3\) .* \(5, 2, 2\)"):
        gemm(a, a, np.ones((3, 3)), beta=1.0, transb=True)
    with pytest.raises(ValueError, match="ndim"):
        gemm(a, np.ones(3))
    with pytest.raises(ValueError, match=r"shape \(5, 2, 2\), got \(5, 2, 3\)"):
        gemm(a, a, transb=True, out=a)


def test_options_that_are_wrong(rng):
    a = normal(rng, (5, 3, 3))
    with pytest.raises(ValueError, match="transa must be"):
        gemm(a, a, transa="H")
    with pytest.raises(TypeError, match="alpha must be a number"):
        gemm(a, a, alpha="1")
    with pytest.raises(ValueError, match="needs a c"):
        gemm(a, a, beta=1.0)
    with pytest.raises(TypeError, match="dtype float64, got float32"):
        gemm(a, a, out=a.astype("f4"))
    fixed = a.copy()
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        gemm(a, a, out=fixed)
    with pytest.raises(ValueError, match="masked"):
        gemm(a, a, out=np.ma.zeros(a.shape))
    with pytest.raises(ValueError, match="in one place"):
        gemm(a, a, out=np.lib.stride_tricks.as_strided(a, a.shape, (0, 24, 8)))
