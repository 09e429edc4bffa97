"""Layers on images (N, channels, height, width): Conv2d, BatchNorm2d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..ops import ops_for
from ..ops.dispatch import nn_ops_for
from . import convolution, init
from .autograd import Array, Operation, Tensor
from .checks import count, number
from .geometry import Geometry, pair
from .layers import affine_parameters, require_dtype
from .module import Module, Parameter, parameter_dtype
from .pooled import PooledConvolution, is_one
from .pooling import MaxPool2d, Pair, require_images, short
from .scopes import state

__all__ = ["BatchNorm2d", "Conv2d"]


# -- convolution ---------------------------------------------------------------------------------


class Convolution(Operation):
    """y = x * W + b (cross-correlation), and with `relu` max(y, 0)."""

    def __init__(self, relu: bool, options: dict[str, Any]) -> None:
        self.relu = relu
        self.options = options | {"precision": state.precision}

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        y = convolution.conv2d(x, w, **self.options)
        nn_ops_for(y).add_bias(y, b, self.relu)
        self.x, self.w, self.y = x, w, y if self.relu else None
        return y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        x, w, options = self.x, self.w, self.options
        dx = dw = db = None
        if self.relu or len(self.needs) == 3:
            grad, db = nn_ops_for(grad).bias_gradient(grad, self.y)
        if self.needs[0]:
            dx = convolution.conv2d_input_gradient(grad, w, x.shape, **options)
        if self.needs[1]:
            dw = convolution.conv2d_weight_gradient(grad, x, w.shape, **options)
        return (dx, dw, db)[: len(self.needs)]


class Conv2d(Module):
    """y[n, o] = sum_c x[n, c] * W[o, c] + b[o], * the cross-correlation in two dimensions.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel : int or (int, int)
        Height and width.
    stride : int or (int, int), default 1
    padding : int or (int, int), default 0
        Zeros on each side.
    bias : bool, default True
    algorithm : str, default "auto"
        How; see `mplinalg.nn.convolution.conv2d`.
    rng : numpy.random.Generator or int, optional
        Of the weights, uniform in +-1 / sqrt(channels_in kernel^2), as PyTorch's.
    dtype : dtype, default float32

    Attributes
    ----------
    weight : Parameter, shape (channels_out, channels_in, height, width)
    bias : Parameter, shape (channels_out,), or None

    Raises
    ------
    ValueError
        Unknown options; when called, an input of other shape, with the layer and both shapes.
    TypeError
        When called, without a precision set: x is not of the dtype of the weights.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import Conv2d
    >>> layer = Conv2d(1, 6, 5, padding=2, rng=0)
    >>> layer(np.ones((10, 1, 28, 28), np.float32)).shape
    (10, 6, 28, 28)
    >>> layer(np.ones((10, 3, 28, 28), np.float32))
    Traceback (most recent call last):
        ...
    ValueError: Conv2d(1, 6, 5, padding=2): input has shape (10, 3, 28, 28), weight (6, 1, 5, 5)
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: Pair, stride: Pair = 1,
        padding: Pair = 0, bias: bool = True, *, algorithm: str = "auto", rng: init.Seed = None,
        dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        self.kernel = pair(kernel, "kernel", 1)
        self.stride = pair(stride, "stride", 1)
        self.padding = pair(padding, "padding", 0)
        if algorithm not in convolution.ALGORITHMS:
            allowed = ", ".join(convolution.ALGORITHMS)
            raise ValueError(f"algorithm must be one of {allowed}; got {algorithm!r}")
        self.algorithm = algorithm
        self.weight, self.bias = affine_parameters(
            (channels_out, channels_in, *self.kernel), bias, np.random.default_rng(rng), dtype
        )

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return self._apply(x, False)

    def forward_relu(self, x: Tensor) -> Tensor:
        """max(y, 0)."""
        self._check(x)
        return self._apply(x, True)

    def forward_relu_pool(self, x: Tensor, pool: MaxPool2d) -> Tensor:
        """`forward_relu`, then `pool`."""
        weight, bias = self.weight, self.bias
        if bias is None or state.precision is not None or not pool.is_disjoint():
            return pool.forward(self.forward_relu(x))
        self._check(x)
        sizes = self.stride, self.padding, self.algorithm, pool.kernel
        if x.size and is_one(x.data, weight.data, *sizes):
            return PooledConvolution(self.padding, pool.kernel)(x, weight, bias)
        return pool.forward(self._apply(x, True))

    def _apply(self, x: Tensor, relu: bool) -> Tensor:
        options = {"stride": self.stride, "padding": self.padding, "algorithm": self.algorithm}
        if self.bias is None:
            return Convolution(relu, options)(x, self.weight)
        return Convolution(relu, options)(x, self.weight, self.bias)

    def _check(self, x: Tensor) -> None:
        weight = self.weight
        wanted = f"weight {weight.shape}"
        require_images(self, x, weight.shape[1], wanted)
        if any(x.shape[k] + 2 * self.padding[k - 2] < weight.shape[k] for k in (2, 3)):
            raise ValueError(f"{self.label()}: input has shape {x.shape}, {wanted}: too small")
        require_dtype(self, x, weight)

    def flops(self, shape: tuple[int, ...]) -> int:
        g = Geometry.of(shape, self.weight.shape, self.stride, self.padding)
        return g.flops + (0 if self.bias is None else math.prod(g.y_shape))

    def settings(self) -> str:
        out, channels, *_ = self.weight.shape
        parts = [str(channels), str(out), short(self.kernel)]
        parts += [f"stride={short(self.stride)}"] if self.stride != (1, 1) else []
        parts += [f"padding={short(self.padding)}"] if self.padding != (0, 0) else []
        parts += ["bias=False"] if self.bias is None else []
        return ", ".join(parts)


# -- normalisation -------------------------------------------------------------------------------

_AXES = (0, 2, 3)


class Normalization(Operation):
    """y = g (x - mean) / sqrt(var + eps) + b per channel, mean and var those of x."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, x: Array, g: Array, b: Array) -> Array:
        count = x.size // x.shape[1]
        self.mean = x.mean(axis=_AXES)
        y = x - self.mean[:, None, None]
        self.var = _dots(y, y) / count
        self.scale = 1 / ops_for(x).xp.sqrt(self.var + self.eps)
        y *= self.scale[:, None, None]
        self.y, self.g = y, g
        out = y * g[:, None, None]
        out += b[:, None, None]
        return out

    def backward(self, grad: Array) -> Sequence[Array | None]:
        # dx = g scale (dy - mean(dy) - y mean(dy y)), y normalised
        count = grad.size // grad.shape[1]
        db = grad.sum(axis=_AXES)
        dg = _dots(grad, self.y)
        dx = None
        if self.needs[0]:
            dx = self.y * (dg / -count)[:, None, None]
            dx += grad
            dx -= (db / count)[:, None, None]
            dx *= (self.g * self.scale)[:, None, None]
        return dx, dg, db


def _dots(a: Array, b: Array) -> Array:
    """The sum of a b for each channel."""
    n, c, h, w = a.shape
    shape = n, c, h * w
    images = ops_for(a).xp.einsum("nci,nci->nc", a.reshape(shape), b.reshape(shape))
    return images.sum(axis=0)


class BatchNorm2d(Module):
    """y = g (x - mean) / sqrt(var + eps) + b for each channel.

    In training, mean and var are those of the batch, and running ones follow them; else those.

    Parameters
    ----------
    channels : int
    eps : float, default 1e-5
        At least 0.
    momentum : float, default 0.1
        In [0, 1]: running <- (1 - momentum) running + momentum (that of the batch; var with N - 1).
    dtype : dtype, default float32

    Attributes
    ----------
    weight, bias : Parameter, shape (channels,)
        g, at first 1, and b, at first 0.
    running_mean, running_var : array, shape (channels,)
    num_batches_tracked : array, shape ()

    Raises
    ------
    ValueError, TypeError
        Options out of range. When called: an input of another shape; in training, one value a
        channel.

    References
    ----------
    Ioffe and Szegedy, ICML (2015), algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import BatchNorm2d
    >>> layer = BatchNorm2d(3)
    >>> x = 5 + 2 * np.random.default_rng(0).standard_normal((10, 3, 8, 8), np.float32)
    >>> y = layer(x).data
    >>> bool(abs(y.mean(axis=(0, 2, 3))).max() < 1e-6), bool(abs(y.std() - 1) < 1e-5)
    (True, True)
    """

    buffers = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(
        self, channels: int, eps: float = 1e-5, momentum: float = 0.1, *,
        dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        channels, dtype = count("channels", channels), parameter_dtype(dtype)
        self.eps, self.momentum = number("eps", eps), number("momentum", momentum, 0, 1)
        self.weight = Parameter(init.ones((channels,), dtype=dtype), "weight")
        self.bias = Parameter(init.zeros((channels,), dtype=dtype), "bias")
        self.running_mean: Array = init.zeros((channels,), dtype=dtype)
        self.running_var: Array = init.ones((channels,), dtype=dtype)
        self.num_batches_tracked: Array = np.zeros((), np.int64)

    def forward(self, x: Tensor) -> Tensor:
        require_images(self, x, self.weight.shape[0], f"weight {self.weight.shape}")
        if not self.training:
            scale = 1 / x.xp.sqrt(self.running_var + self.eps)
            g = self.weight * Tensor(scale)
            b = self.bias - g * Tensor(self.running_mean.copy())  # training changes it in place
            return x * g.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)
        self.require_values(x)
        size = x.size // x.shape[1]
        operation = Normalization(self.eps)
        y = operation(x, self.weight, self.bias)
        new = self.momentum
        self.running_mean *= 1 - new
        self.running_mean += new * operation.mean
        self.running_var *= 1 - new
        self.running_var += new * size / (size - 1) * operation.var
        self.num_batches_tracked += 1
        return y

    def require_values(self, x: Tensor) -> None:
        """Raise if an input has less than two values a channel, which have no variance."""
        if x.size // x.shape[1] < 2:
            raise ValueError(
                f"{self.label()}: input has shape {x.shape}: fewer than two values a channel"
            )

    def flops(self, shape: tuple[int, ...]) -> int:
        # sums, differences, squares and their sums, three factors and terms; or one of each
        return (7 if self.training else 2) * math.prod(shape)

    def settings(self) -> str:
        return str(self.weight.shape[0])
