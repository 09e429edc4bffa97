"""LAPACK's recursive QR, and its singular values of band matrices, by pointer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg.kernels.cpu import lapack
from mplinalg.precision import working_format

DTYPES = ["f", "d", "F", "D"]


def random(rng, shape, dtype):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a, dtype=dtype, order="F")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (9, 4), (4, 9), (80, 70)])
@pytest.mark.parametrize("block", [1, 7, 64])
def test_geqrt_is_geqrf(rng, dtype, shape, block):
    a = random(rng, shape, dtype)
    mine, theirs = a.copy(order="F"), a.copy(order="F")
    t, tau = lapack.geqrt(mine, block), lapack.geqrf(theirs)
    k = min(shape)
    size = 30 * max(shape) * working_format(dtype).unit_roundoff * max(np.linalg.norm(a), 1)
    places = np.arange(k)
    assert t.shape == (min(block, max(k, 1)), k)
    assert np.linalg.norm(mine - theirs) <= size
    assert np.linalg.norm(t[places % len(t), places] - tau) <= size
    # Q^H A = R, Q R = A
    c = a.copy(order="F")
    lapack.gemqrt("C", mine, t, c)
    assert np.linalg.norm(c - np.triu(mine)) <= size
    lapack.gemqrt("N", mine, t, c)
    assert np.linalg.norm(c - a) <= size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [5, 32, 33, 100, 600])
def test_geqrf_recursive_is_geqrf(rng, dtype, n):
    base = random(rng, (n + 20, n + 3), dtype)
    mine, theirs = base.copy(order="F"), base.copy(order="F")
    tau = lapack.geqrf_recursive(mine[5:, 1:-2])
    expected = lapack.geqrf(theirs[5:, 1:-2])
    size = 30 * n * working_format(dtype).unit_roundoff * np.linalg.norm(base)
    assert tau.shape == expected.shape
    assert np.linalg.norm(tau - expected) <= size
    assert np.linalg.norm(mine - theirs) <= size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "width"), [(1, 0), (1, 3), (2, 1), (30, 0), (30, 1), (30, 5), (4, 9)]
)
def test_singular_values_of_a_band(rng, dtype, n, width):
    band = random(rng, (width + 1, n), dtype)
    a = np.zeros((n, n), dtype)
    for i in range(min(width + 1, n)):
        a[np.arange(n - i), np.arange(i, n)] = band[width - i, i:]
    d, e = lapack.gbbrd(band)
    assert d.dtype == e.dtype == a.real.dtype
    assert e.shape == (n - 1,)
    assert lapack.bdsqr(d, e) == 0
    expected = scipy.linalg.svdvals(a.astype("D"))
    assert np.abs(d - expected).max() <= 30 * n * working_format(dtype).unit_roundoff * expected[0]


def test_what_does_not_fit_is_refused(rng):
    a = random(rng, (9, 4), "d")
    t = lapack.geqrt(a, 4)
    with pytest.raises(ValueError, match="gemqrt"):
        lapack.gemqrt("N", a, t, np.zeros((8, 2), order="F"))
    with pytest.raises(ValueError, match="column-major"):
        lapack.geqrt(np.ones((9, 4)), 4)
    with pytest.raises(ValueError, match="bdsqr"):
        lapack.bdsqr(np.ones(5), np.ones(5))
    with pytest.raises(TypeError, match="gemqrt"):
        lapack.gemqrt("N", a, t, np.zeros((9, 2), "f", order="F"))
