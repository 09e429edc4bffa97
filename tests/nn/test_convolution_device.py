"""Convolution of CuPy arrays: they stay on their device, and are told apart from NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.nn.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient

from ..device import cupy  # noqa: F401
from .images import convolved, gradients


@pytest.mark.parametrize("algorithm", ["auto", "gemm", "winograd"])
def test_arrays_of_a_device(algorithm, cupy, rng):  # noqa: F811
    x, w = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((4, 3, 3, 3))
    grad = rng.standard_normal((2, 4, 6, 7))
    there = [cupy.asarray(a) for a in (x, w, grad)]
    options = {"padding": 1, "algorithm": algorithm}
    found = (
        conv2d(there[0], there[1], **options),
        conv2d_input_gradient(there[2], there[1], x.shape, **options),
        conv2d_weight_gradient(there[2], there[0], w.shape, **options),
    )
    expected = (convolved(x, w, (1, 1), (1, 1)), *gradients(grad, x, w, (1, 1), (1, 1)))
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, cupy.ndarray)
        np.testing.assert_allclose(cupy.asnumpy(one), other, atol=1e-12)
    with pytest.raises(ValueError, match="on the CPU"):
        conv2d(there[0], there[1], algorithm="direct")
    with pytest.raises(TypeError, match="NumPy and CuPy"):
        conv2d(there[0], w)
