"""Operands in every layout, and their expected products, for the tests of cuBLAS on views."""

import re

import numpy as np
import pytest

from ...ops.helpers import Placed, draw, wide

SIZES = [(0, 0, 0), (0, 3, 2), (3, 0, 2), (1, 1, 1), (1, 5, 7), (5, 1, 7), (7, 5, 1), (13, 37, 31)]
"""m, n, k; those with k = 0 are tested apart."""
SCALARS = [(1.0, 0.0), (-1.0, 1.0), (2.5, -0.5)]


def shape(*numbers):
    return re.escape(str(numbers))


@pytest.fixture
def put(on_device):
    """put(x, "C-view"): `x` on the device in that layout."""
    return lambda x, layout="F": Placed(on_device, x, layout)


@pytest.fixture
def blas(cupy):
    from mplinalg.kernels.cuda import blas

    return blas


@pytest.fixture
def layout(cupy):
    from mplinalg.kernels.cuda import layout

    return layout


def low(rng, shape, kind):
    """Numbers of a format in float64 (complex128), and as they are passed."""
    if kind == "fp16":
        x = rng.standard_normal(shape).astype(np.float16)
        return x.astype(np.float64), x
    x = draw(rng, shape, "complex64" if kind == "tf32 complex" else "float32")
    keep = np.uint32(0xFFFF0000 if kind == "bf16" else 0xFFFFE000)
    bits = x.view(np.uint32)
    bits &= keep
    return wide(x), (bits >> 16).astype(np.uint16) if kind == "bf16" else x
