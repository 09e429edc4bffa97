"""Convolution as a matrix product: the patches of an image are the columns of its operand.

    y[n] = W X_n,    dX_n = W' dy[n],    dW = sum_n dy[n] X_n'

with W (O, C kh kw), X_n (C kh kw, Ho Wo) the columns of image n, and y[n] (O, Ho Wo). Columns are
made of a few images at a time, so that they stay in cache.
"""

from __future__ import annotations

from typing import Any

from ..ops.dispatch import batched_ops_for, nn_ops_for, ops_for
from ..precision import Format
from .geometry import Geometry, ranges

Array = Any

__all__ = ["forward", "input_gradient", "weight_gradient"]


def forward(x: Array, w: Array, g: Geometry, compute: Format | None) -> Array:
    """y, of contiguous x and w."""
    ops, products, xp = nn_ops_for(x, w), batched_ops_for(x, w), ops_for(x).xp
    y = xp.empty((g.images, g.filters, g.positions), x.dtype)
    matrix = w.reshape(1, g.filters, g.taps)
    step = _images(g, x, ops.column_bytes)
    space = xp.empty((0 if _is_plain(g) else step, g.taps, g.positions), x.dtype)
    for first, last in ranges(g.images, step):
        if _is_plain(g):
            cols = x[first:last].reshape(last - first, g.taps, g.positions)
        else:
            cols = space[: last - first]
            ops.im2col(x[first:last], cols, g.patches)
        # y[n] = W X_n
        every = xp.broadcast_to(matrix, (last - first, *matrix.shape[1:]))
        products.gemm_batched(1.0, every, cols, 0.0, y[first:last], compute=compute)
    return y.reshape(g.y_shape)


def input_gradient(grad: Array, w: Array, g: Geometry, compute: Format | None) -> Array:
    """dx, of contiguous dy and w."""
    ops, products, xp = nn_ops_for(grad, w), batched_ops_for(grad, w), ops_for(grad).xp
    dx = xp.empty(g.x_shape, grad.dtype)
    matrix = w.reshape(1, g.filters, g.taps)
    step = _images(g, grad, ops.column_bytes)
    space = xp.empty((step, g.taps, g.positions), grad.dtype)
    for first, last in ranges(g.images, step):
        # dX_n = W' dy[n]
        cols = space[: last - first]
        every = xp.broadcast_to(matrix, (last - first, *matrix.shape[1:]))
        dy = grad[first:last].reshape(last - first, g.filters, g.positions)
        products.gemm_batched(1.0, every, dy, 0.0, cols, transa="T", compute=compute)
        ops.col2im(cols, dx[first:last], g.patches)
    return dx


def weight_gradient(grad: Array, x: Array, g: Geometry, compute: Format | None) -> Array:
    """dw, of contiguous dy and x."""
    ops, dense, xp = nn_ops_for(grad, x), ops_for(grad, x), ops_for(x).xp
    dw = xp.zeros((g.filters, g.taps), x.dtype)
    step = _images(g, x, ops.column_bytes)
    space = xp.empty(g.taps * step * g.positions, x.dtype)
    for first, last in ranges(g.images, step):
        # dW <- dW + [dy_1 dy_2 ...] [X_1 X_2 ...]'
        wide = (last - first) * g.positions
        cols = space[: g.taps * wide].reshape(g.taps, last - first, g.positions)
        ops.im2col(x[first:last], cols.transpose(1, 0, 2), g.patches)
        dy = xp.ascontiguousarray(grad[first:last].transpose(1, 0, 2, 3)).reshape(g.filters, wide)
        dense.gemm(
            1.0, dy, cols.reshape(g.taps, wide), float(first > 0), dw, transb="T", compute=compute
        )
    return dw.reshape(g.w_shape)


def _images(g: Geometry, like: Array, most: int) -> int:
    """Images whose columns are made at a time."""
    return min(max(1, g.images), max(1, most // (g.taps * g.positions * like.itemsize)))


def _is_plain(g: Geometry) -> bool:
    """An image is its columns."""
    kernel, stride, padding, _ = g.patches
    return kernel == stride == (1, 1) and padding == (0, 0)
