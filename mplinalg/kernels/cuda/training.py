"""What layers do besides products, by the kernels nn_layers.cu, nn_loss.cu and nn_images.cu."""

from __future__ import annotations

import math

import cupy
import numpy as np

from . import loader
from .layout import Array
from .lines import TYPES, grid

_LARGEST = 2**31 - 2**24
"""Entries from which indices of 32 bits do not reach one step of all threads beyond the last."""
_ROWS_OF_A_BLOCK = 1024
"""Up to which one block computes a loss, and so its mean, too."""


def is_taken(*arrays: Array) -> bool:
    """Whether the kernels are for such arrays, and can be had."""
    return all(a.dtype.char in TYPES and 0 < a.size < _LARGEST for a in arrays)


def add_bias(y: Array, b: Array | None, *, relu: bool) -> None:
    """y <- y + b, max(that, 0); b along axis 1 of y, which is of any layout."""
    inner = math.prod(y.shape[2:])
    target = cupy.ascontiguousarray(y)
    loader.launch(
        f"add_bias<{_kind(y)}, {_word(relu)}>", grid(y.size), y.size, y.shape[1], inner, target, b
    )
    if target is not y:
        y[...] = target


def mask_and_sum(g: Array, y: Array | None) -> tuple[Array, Array]:
    """g where y > 0, in memory of its own if y is given, and its sums over all axes but axis 1."""
    g = cupy.ascontiguousarray(g)
    y = None if y is None else cupy.ascontiguousarray(y)
    masked = g if y is None else cupy.empty(g.shape, g.dtype)
    written = None if y is None else masked
    sums = cupy.empty(g.shape[1], g.dtype)
    ending = f"<{_kind(g)}, {_word(y is not None)}>"
    if g.ndim == 2:
        blocks = -(-g.shape[1] // 32)
        loader.launch(f"mask_columns{ending}", blocks, *g.shape, g, y, written, sums)
    else:
        inner = math.prod(g.shape[2:])
        loader.launch(
            f"mask_channels{ending}", g.shape[1], *g.shape[:2], inner, g, y, written, sums
        )
    return masked, sums


def softmax_loss(z: Array, labels: Array, dz: Array) -> Array:
    """The loss of rows of z, of no dimensions; dz <- its gradient, contiguous."""
    z = cupy.ascontiguousarray(z)
    labels = cupy.ascontiguousarray(labels, dtype=np.int64)
    losses, loss = cupy.empty(len(z), z.dtype), cupy.empty((), z.dtype)
    blocks = 1 if len(z) <= _ROWS_OF_A_BLOCK else -(-len(z) // 8)
    loader.launch(f"cross_entropy<{_kind(z)}>", blocks, *z.shape, z, labels, dz, losses, loss)
    if blocks > 1:
        loader.launch(f"mean_loss<{_kind(z)}>", 1, len(z), losses, loss)
    return loss


def im2col(x: Array, cols: Array, window: tuple[int, ...]) -> None:
    """The columns of patches; `window` has kernel, stride, padding and output, down and across."""
    image, line, unit = (step // cols.itemsize for step in cols.strides)
    assert unit == 1 or cols.shape[2] == 1
    loader.launch(
        f"im2col<{_kind(x)}>", grid(cols.size), cols.size, *x.shape[1:], x, cols, image, line,
        *window,
    )  # fmt: skip


def col2im(cols: Array, x: Array, window: tuple[int, ...]) -> None:
    """x <- the sums of columns."""
    image, line, unit = (step // cols.itemsize for step in cols.strides)
    assert unit == 1 or cols.shape[2] == 1
    loader.launch(
        f"col2im<{_kind(x)}>", grid(x.size), x.size, *x.shape[1:], cols, image, line, x, *window
    )


def max_pool(x: Array, window: tuple[int, ...]) -> Array:
    """The largest entries of windows."""
    x = cupy.ascontiguousarray(x)
    y = cupy.empty((*x.shape[:2], *window[-2:]), x.dtype)
    loader.launch(f"max_pool<{_kind(x)}>", grid(y.size), y.size, *x.shape[2:], x, y, *window)
    return y


def max_pool_gradient(g: Array, x: Array, y: Array, window: tuple[int, ...]) -> Array:
    """g at the first largest entry of each window, summed."""
    g, x = cupy.ascontiguousarray(g), cupy.ascontiguousarray(x)
    dx = cupy.empty(x.shape, x.dtype)
    loader.launch(
        f"max_pool_gradient<{_kind(x)}>", grid(x.size), x.size, *x.shape[2:], x, y, g, dx, *window
    )
    return dx


def _kind(a: Array) -> str:
    return TYPES[a.dtype.char]


def _word(value: bool) -> str:
    return str(value).lower()
