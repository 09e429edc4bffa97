"""Convolution with stride 1 straight from the images, by the verb `NnOps.correlate`.

The gradient with respect to the input is a convolution itself: of dy, with the kernel turned by
half a circle and channels and filters exchanged.
"""

from __future__ import annotations

from typing import Any

from ..ops.dispatch import nn_ops_for, ops_for
from ..precision import Format
from .geometry import Geometry

Array = Any

__all__ = ["exchanged", "forward", "input_gradient", "weight_gradient"]


def forward(x: Array, w: Array, g: Geometry, compute: Format | None) -> Array:
    """y, of contiguous x and w."""
    y = ops_for(x, w).xp.empty(g.y_shape, x.dtype)
    nn_ops_for(x).correlate(x, w, y, g.patches.padding, compute)
    return y


def input_gradient(grad: Array, w: Array, g: Geometry, compute: Format | None) -> Array:
    """dx, of contiguous dy and w."""
    return forward(*exchanged(grad, w, g), compute)


def weight_gradient(grad: Array, x: Array, g: Geometry, compute: Format | None) -> Array:
    """dw, of contiguous dy and x."""
    dw = ops_for(grad, x).xp.empty(g.w_shape, x.dtype)
    nn_ops_for(x).correlate_gradient(x, grad, dw, g.patches.padding, compute)
    return dw


def exchanged(grad: Array, w: Array, g: Geometry) -> tuple[Array, Array, Geometry]:
    """The convolution with stride 1 whose result is dx: its x, w and sizes.

    dx[q] = sum_u dy[q + p - u] w[u] = sum_u dy[q - (k - 1 - p) + u] w[k - 1 - u].
    """
    xp = ops_for(grad, w).xp
    turned = xp.ascontiguousarray(w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
    around = [k - 1 - p for k, p in zip(g.patches.kernel, g.patches.padding, strict=True)]
    # patches of nothing but padding give nothing
    crop = [max(0, -a) for a in around]
    if any(crop):
        down, right = (slice(c, n - c) for c, n in zip(crop, g.patches.out, strict=True))
        grad = xp.ascontiguousarray(grad[:, :, down, right])
    padding = (max(0, around[0]), max(0, around[1]))
    return grad, turned, Geometry.of(grad.shape, turned.shape, (1, 1), padding)
