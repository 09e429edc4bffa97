"""Random numbers for the tests of the measures."""

from __future__ import annotations

import numpy as np
import pytest


def drawn(seed, *shape, dtype=float):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(shape)
    return z + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else z


@pytest.fixture(params=["float64", "complex128"])
def dtype(request):
    return request.param
