"""Stacks to multiply, and what is asked of products."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.ops import numpy_batched_plan as plan


@pytest.fixture(params=["straight", "blas"])
def route(request, monkeypatch):
    """Code for the size of the members, or BLAS, however small the batch is."""
    number = 0 if request.param == "straight" else float("inf")
    monkeypatch.setattr(plan, "STRAIGHT_FROM", number)
    monkeypatch.setattr(plan, "AHEAD_FROM", number)
    return request.param


def wide(x):
    return x.astype(np.clongdouble if x.dtype.kind == "c" else np.longdouble)


def size(x):
    return np.abs(x.real) + np.abs(x.imag)


def assert_product(found, a, b, alpha=1.0, c=None, beta=0.0):
    """found is alpha a b + beta c, but for one rounding of each operation."""
    u = np.finfo(found.dtype).eps / 2
    exact = alpha * (wide(a) @ wide(b))
    scale = size(np.asarray(alpha)) * (size(a) @ size(b))
    if c is not None:
        exact = exact + beta * wide(c)
        scale = scale + size(np.asarray(beta)) * size(c)
    assert found.shape == exact.shape
    # k products and sums; two more roundings each for complex products, for alpha, and for beta c
    assert np.all(np.abs(found - exact) <= (a.shape[-1] + 6) * u * scale)
