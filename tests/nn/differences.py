"""Gradients by finite differences in double precision."""

from __future__ import annotations

import numpy as np

from mplinalg.nn import Tensor

STEP = 2.0**-18
"""About u^(1/3): truncation, step^2, and rounding, u / step, are then alike."""
BOUND = 100 * 2.0**-36
"""Of the difference, relative to what was summed: 100 step^2, for third derivatives up to 600."""


def check_gradients(f, *arrays):
    """The gradients of a random combination of the results of `f`, entry by entry."""
    arrays = [np.array(a, dtype=np.float64) for a in arrays]
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    weights = np.random.default_rng(7).uniform(0.5, 1.5, y.shape)
    y.backward(weights)

    def value():
        terms = f(*map(Tensor, arrays)).data * weights
        return terms.sum(), abs(terms).sum()

    for a, tensor in zip(arrays, tensors, strict=True):
        assert tensor.grad.shape == a.shape
        flat, grad = a.reshape(-1), tensor.grad.reshape(-1)
        for k in range(flat.size):
            before = flat[k]
            flat[k] = before + STEP
            up, size = value()
            flat[k] = before - STEP
            down, _ = value()
            flat[k] = before
            difference = (up - down) / (2 * STEP)
            assert abs(difference - grad[k]) <= BOUND * (1 + size + abs(grad[k])), k
