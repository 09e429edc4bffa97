"""Sizes of vectors."""

import math

import numpy as np
import pytest

from mplinalg.kernels.cpu.vectors import largest

from ..ops.helpers import DTYPES, draw


@pytest.mark.parametrize("dtype", DTYPES)
def test_largest(rng, dtype):
    for n in (1, 2, 7, 8, 9, 64, 100):
        v = draw(rng, (n,), dtype) * np.geomspace(1e-20, 1e20, n).astype(dtype)
        rng.shuffle(v)
        assert largest(v) == pytest.approx(np.abs(v).max(), rel=1e-6)
    assert largest(np.zeros(0, dtype)) == 0.0
    assert math.copysign(1, largest(-np.zeros(3, dtype))) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_is_the_largest(rng, dtype):
    for n in (1, 9, 40):
        for place in {0, n // 2, n - 1}:
            v = draw(rng, (n,), dtype)
            v[place] = -np.inf
            assert largest(v) == np.inf
            for nan in (np.nan, -np.nan):
                v[-1 - place] = nan
                assert math.isnan(largest(v))
