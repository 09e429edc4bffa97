"""Winograd's F(2x2, 3x3): 16 multiplications for 4 outputs, where their definition has 36.

For 4 by 4 patches d of the input that overlap by two, and 3 by 3 kernels w,

    Y = A' [ sum_c (G w_c G') * (B' d_c B) ] A        (* entry by entry)

are 2 by 2 outputs. For each of the 16 entries the sum over channels is a matrix product:
M_k = U_k V_k with U_k (O, C), V_k (C, tiles). The gradient with respect to w is its transpose,
dU_k = (A dy A')_k V_k', dw = G' dU G.

References
----------
Winograd, Arithmetic Complexity of Computations, SIAM (1980). Lavin and Gray, CVPR (2016) 4013.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.dispatch import batched_ops_for, nn_ops_for, ops_for
from ..precision import Format
from .correlation import exchanged
from .geometry import Geometry, ranges

Array = Any

__all__ = ["forward", "input_gradient", "takes", "weight_gradient"]

_G = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])
_KERNELS = np.kron(_G, _G)
"""G x G, (16, 9)."""
_TILES = 128
"""Columns of V from which products are efficient."""


def takes(g: Geometry) -> bool:
    """Whether it is a 3 by 3 convolution with stride 1."""
    return g.patches.kernel == (3, 3) and g.patches.stride == (1, 1)


def forward(x: Array, w: Array, g: Geometry, compute: Format | None) -> Array:
    """y, of contiguous x and w."""
    ops, products, xp = nn_ops_for(x, w), batched_ops_for(x, w), ops_for(x).xp
    y = xp.empty(g.y_shape, x.dtype)
    # U = (G x G) w
    u = xp.empty((16, g.filters * g.channels), x.dtype)
    ops_for(x).gemm(1.0, ops.constant(_KERNELS, x.dtype), w.reshape(-1, 9), 0.0, u, transb="T")
    u = u.reshape(16, g.filters, g.channels)
    across, rows, blocks = _blocks(g, x)
    images = xp.empty(16 * g.channels * rows * across, x.dtype)
    outputs = xp.empty(16 * g.filters * rows * across, x.dtype)
    for begin, end in blocks:
        v = _first(images, g.channels, (end - begin) * across)
        m = _first(outputs, g.filters, (end - begin) * across)
        ops.image_tiles(x, v, g.patches, begin, end)
        # M_k = U_k V_k
        products.gemm_batched(1.0, u, v, 0.0, m, compute=compute)
        ops.output_from_tiles(m, y, begin, end)
    return y


def input_gradient(grad: Array, w: Array, g: Geometry, compute: Format | None) -> Array:
    """dx, of contiguous dy and w."""
    return forward(*exchanged(grad, w, g), compute)


def weight_gradient(grad: Array, x: Array, g: Geometry, compute: Format | None) -> Array:
    """dw, of contiguous dy and x."""
    ops, products, xp = nn_ops_for(grad, x), batched_ops_for(grad, x), ops_for(x).xp
    du = xp.zeros((16, g.filters, g.channels), x.dtype)
    across, rows, blocks = _blocks(g, x)
    images = xp.empty(16 * g.channels * rows * across, x.dtype)
    outputs = xp.empty(16 * g.filters * rows * across, x.dtype)
    for begin, end in blocks:
        v = _first(images, g.channels, (end - begin) * across)
        dm = _first(outputs, g.filters, (end - begin) * across)
        ops.image_tiles(x, v, g.patches, begin, end)
        ops.output_tiles(grad, dm, begin, end)
        # dU_k <- dU_k + dM_k V_k'
        products.gemm_batched(1.0, dm, v, float(begin > 0), du, transb="T", compute=compute)
    # dw = (G x G)' dU
    dw = xp.empty((g.filters * g.channels, 9), x.dtype)
    kernels = ops.constant(_KERNELS, x.dtype)
    ops_for(x).gemm(1.0, du.reshape(16, -1), kernels, 0.0, dw, transa="T")
    return dw.reshape(g.w_shape)


def _first(space: Array, channels: int, tiles: int) -> Array:
    """The beginning of flat memory as tiles (16, channels, tiles)."""
    return space[: 16 * channels * tiles].reshape(16, channels, tiles)


def _blocks(g: Geometry, like: Array) -> tuple[int, int, Any]:
    """Tiles in a tile row, how many rows are transformed at a time, and the ranges of rows."""
    down, across = (-(-size // 2) for size in g.patches.out)
    row = 16 * (g.channels + g.filters) * across * like.itemsize
    rows = max(nn_ops_for(like).tile_bytes // row, -(-_TILES // across))
    rows = min(rows, g.images * down)
    return across, rows, ranges(g.images * down, rows)
