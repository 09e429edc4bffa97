"""Parameters and gradients for the tests of optimisers, without the rest of a network."""

from __future__ import annotations

from typing import Any

import numpy as np


class Weight:
    """What an optimiser asks of a parameter."""

    def __init__(self, data: Any, grad: Any = None, name: str = "") -> None:
        self.data, self.grad, self.name = data, grad, name


def weights(rng: np.random.Generator, dtype: Any = np.float64) -> list[Weight]:
    shapes = [(5, 3), (7,), (), (2, 3, 2, 2)]
    return [Weight(np.asarray(rng.standard_normal(shape), dtype)) for shape in shapes]


def slope(x: Any, k: int, step: int) -> Any:
    """The gradient of a sum of (x - k)^2 / 2 - cos(3 x) / 3, and of a load that changes."""
    return np.asarray(x - k + np.sin(3 * x) + 0.1 * np.cos(step + x))


def train(optimizer: Any, steps: range) -> None:
    """Parameter 1 has a gradient in every other step only."""
    for step in steps:
        for k, p in enumerate(optimizer.parameters):
            g = slope(p.data, k, step)
            p.grad = None if k == 1 and step % 2 else g
        optimizer.step()
