"""A convolution, ReLU and max-pooling as one operation, where a backend has them as one."""

from __future__ import annotations

from collections.abc import Sequence

from ..ops import ops_for
from ..ops.dispatch import nn_ops_for
from ..ops.nn import Pair
from . import convolution
from .autograd import Array, Operation

__all__ = ["PooledConvolution", "is_one"]


def is_one(x: Array, w: Array, stride: Pair, padding: Pair, algorithm: str, window: Pair) -> bool:
    """Whether the sizes are those of `PooledConvolution`, and nothing else would be faster."""
    return convolution.is_direct(x, w, stride, padding, algorithm) and nn_ops_for(x, w).pools(
        x, w, padding, window
    )


class PooledConvolution(Operation):
    """The largest entry of each window of max(x * W + b, 0); the first of equal ones counts."""

    def __init__(self, padding: Pair, window: Pair) -> None:
        self.padding, self.window = padding, window

    def forward(self, x: Array, w: Array, b: Array) -> Array:
        xp = ops_for(x, w, b).xp
        x, self.w = xp.ascontiguousarray(x), w
        self.shape = x.shape
        sizes = [
            (length + 2 * zeros - k + 1) // step
            for length, zeros, k, step in zip(
                x.shape[2:], self.padding, w.shape[2:], self.window, strict=True
            )
        ]
        y = xp.empty((len(x), len(w), *sizes), x.dtype)
        self.kept = nn_ops_for(x).correlate_pool(x, w, b, y, self.padding, self.window)
        return y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        xp = ops_for(grad, self.w).xp
        dx = xp.empty(self.shape, grad.dtype) if self.needs[0] else None
        dw = xp.empty(self.w.shape, grad.dtype) if self.needs[1] else None
        db = nn_ops_for(grad).correlate_pool_gradient(
            xp.ascontiguousarray(grad), self.w, self.kept, self.padding, dx, dw
        )
        return dx, dw, db
