"""Convolution of CuPy arrays: they stay on their device, and are told apart from NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.nn.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient

from ..cupy_on_host.install import recorded
from ..device import cupy, stand_in  # noqa: F401
from .images import convolved, gradients


@pytest.mark.parametrize("algorithm", ["auto", "gemm", "winograd", "fft"])
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


def test_what_never_changes_is_sent_once(stand_in, rng):  # noqa: F811
    x, w = (stand_in.asarray(rng.standard_normal(s)) for s in ((2, 3, 6, 7), (4, 3, 3, 3)))
    conv2d(x, w, algorithm="winograd")
    with recorded() as ledger:
        conv2d(x, w, algorithm="winograd")
    assert not ledger.to_device
    with stand_in.cuda.Stream(non_blocking=True):  # its values are there
        first = conv2d(stand_in.asarray(x.get()), stand_in.asarray(w.get()), algorithm="winograd")
        np.testing.assert_array_equal(first.get(), conv2d(x, w, algorithm="winograd").get())
