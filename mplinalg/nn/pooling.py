"""Pooling of images (N, channels, height, width): MaxPool2d, AvgPool2d."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..ops import ops_for
from ..ops.dispatch import nn_ops_for
from ..ops.nn import Patches
from .autograd import Array, Operation, Tensor
from .geometry import Geometry, pair
from .layers import require_floats
from .module import Module

Pair = int | tuple[int, int]

__all__ = ["AvgPool2d", "MaxPool2d", "require_images", "short"]


def short(pair: tuple[int, int]) -> str:
    return str(pair[0] if pair[0] == pair[1] else pair)


def require_images(layer: Module, x: Tensor, channels: int | None, wanted: str) -> None:
    if x.ndim != 4 or (channels is not None and x.shape[1] != channels):
        raise ValueError(f"{layer.label()}: input has shape {x.shape}, {wanted}")


class MaxPooling(Operation):
    """The largest entry of each window; the first of equal ones has the gradient."""

    def __init__(self, windows: Patches) -> None:
        self.windows = windows

    def forward(self, x: Array) -> Array:
        self.x, self.y = x, nn_ops_for(x).max_pool(x, self.windows)
        return self.y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (nn_ops_for(grad).max_pool_gradient(grad, self.x, self.y, self.windows),)


class AvgPooling(Operation):
    """The mean of each window, zeros of the padding counted."""

    def __init__(self, windows: Patches) -> None:
        self.windows = windows

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        (above, left), (n, c, h, w) = self.windows.padding, x.shape
        if above or left:
            wide = ops_for(x).xp.zeros((n, c, h + 2 * above, w + 2 * left), x.dtype)
            wide[:, :, above : above + h, left : left + w] = x
            x = wide
        self.wide = x.shape
        taps = self.taps(x)
        y = next(taps).copy()
        for tap in taps:
            y += tap
        y *= 1.0 / math.prod(self.windows.kernel)
        return y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        dx = ops_for(grad).xp.zeros(self.wide, grad.dtype)
        grad = grad * (1.0 / math.prod(self.windows.kernel))
        for slot in self.taps(dx):
            slot += grad
        if self.wide == self.shape:
            return (dx,)
        (above, left), (_, _, h, w) = self.windows.padding, self.shape
        return (dx[:, :, above : above + h, left : left + w],)

    def taps(self, x: Array) -> Iterator[Array]:
        """For each place of a window, the entries that are there: (N, C, rows, columns)."""
        (kh, kw), (sh, sw), _, (rows, across) = self.windows
        h, w = (rows - 1) * sh + 1, (across - 1) * sw + 1
        for i in range(kh):
            for j in range(kw):
                yield x[:, :, i : i + h : sh, j : j + w : sw]


class MaxPool2d(Module):
    """The largest entry of each window.

    Parameters
    ----------
    kernel : int or (int, int)
    stride : int or (int, int), optional
        The kernel if not given.
    padding : int or (int, int), default 0
        On each side, half a kernel at most; it is never the largest.

    Raises
    ------
    ValueError
        Unknown options; when called, an input that is not (N, C, H, W), or smaller than a window.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import MaxPool2d
    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).data[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """

    is_max_pool = True
    pooling: type[MaxPooling | AvgPooling] = MaxPooling

    def __init__(self, kernel: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.kernel = pair(kernel, "kernel", 1)
        self.stride = self.kernel if stride is None else pair(stride, "stride", 1)
        self.padding = pair(padding, "padding", 0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise ValueError(f"padding is half a kernel at most; got {padding=} of {kernel=}")

    def forward(self, x: Tensor) -> Tensor:
        if self.pooling is AvgPooling or any(self.padding):  # there is no whole number below all
            require_floats(self, x)
        require_images(self, x, None, f"the kernel {self.kernel}")
        if any(x.shape[k + 2] + 2 * self.padding[k] < self.kernel[k] for k in (0, 1)):
            raise ValueError(
                f"{self.label()}: input has shape {x.shape}, the kernel {self.kernel}: too small"
            )
        return self.pooling(self._geometry(x.shape).patches)(x)

    def flops(self, shape: tuple[int, ...]) -> int:
        return math.prod(self._geometry(shape).y_shape) * math.prod(self.kernel)

    def _geometry(self, shape: tuple[int, ...]) -> Geometry:
        return Geometry.of(shape, (*shape[1:2] * 2, *self.kernel), self.stride, self.padding)

    def is_disjoint(self) -> bool:
        """Whether windows lie side by side, without zeros around."""
        return self.stride == self.kernel and self.padding == (0, 0)

    def settings(self) -> str:
        parts = [short(self.kernel)]
        parts += [f"stride={short(self.stride)}"] if self.stride != self.kernel else []
        parts += [f"padding={short(self.padding)}"] if self.padding != (0, 0) else []
        return ", ".join(parts)


class AvgPool2d(MaxPool2d):
    """The mean of each window; zeros of the padding count.

    Parameters
    ----------
    kernel : int or (int, int)
    stride : int or (int, int), optional
    padding : int or (int, int), default 0
        All three as of `MaxPool2d`.

    Raises
    ------
    ValueError
        As `MaxPool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import AvgPool2d
    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).data[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """

    pooling = AvgPooling
