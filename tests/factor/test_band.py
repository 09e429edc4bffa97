"""Reduction to a band keeps the singular values and makes nothing but a band."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.band import upper_band
from mplinalg.ops import ops_for
from mplinalg.precision import working_format

OPS = ops_for(np.empty(0))


def dense(band, n):
    """The matrix of what `upper_band` returns."""
    width = len(band) - 1
    out = np.zeros((n, n), band.dtype)
    for i in range(min(width + 1, n)):
        out[np.arange(n - i), np.arange(i, n)] = band[width - i, i:]
    return out


@pytest.mark.parametrize("dtype", ["f", "d", "F", "D"])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 31, 64, 90])
@pytest.mark.parametrize("width", [1, 8, 24])
def test_singular_values_are_kept(rng, dtype, n, width):
    a = rng.standard_normal((n, n))
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal((n, n))
    a = a.astype(dtype)
    band = upper_band(OPS, np.array(a, order="F"), width)
    assert band.shape == (width + 1, n)
    assert band.dtype == a.dtype
    u = working_format(dtype).unit_roundoff
    expected = np.linalg.svd(a.astype("D"), compute_uv=False)
    found = np.linalg.svd(dense(band, n).astype("D"), compute_uv=False)
    assert np.abs(found - expected).max() <= 30 * n * u * expected[0]


def test_a_zero_matrix_stays_zero():
    assert not upper_band(OPS, np.zeros((20, 20), order="F"), 4).any()
