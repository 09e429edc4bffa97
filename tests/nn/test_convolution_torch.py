"""Convolution and its gradients against PyTorch's autodiff, in double precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mplinalg.nn.convolution import ALGORITHMS

from .images import all_three

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
def test_autodiff(algorithm, kernel, rng):
    if algorithm == "winograd" and kernel != 3:
        pytest.skip("3 by 3 kernels only")
    strides = [1] if algorithm in ("winograd", "direct") else [1, 2, 3]
    for stride, padding, (n, c, o) in itertools.product(
        strides, (0, 1, 2), ((1, 1, 1), (3, 6, 10))
    ):
        x, w = rng.standard_normal((n, c, 11, 9)), rng.standard_normal((o, c, kernel, kernel))
        there = [torch.from_numpy(a).requires_grad_() for a in (x, w)]
        y = torch.nn.functional.conv2d(*there, stride=stride, padding=padding)
        grad = rng.standard_normal(tuple(y.shape))
        y.backward(torch.from_numpy(grad))
        found = all_three(grad, x, w, stride=stride, padding=padding, algorithm=algorithm)
        expected = y.detach().numpy(), there[0].grad.numpy(), there[1].grad.numpy()
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
