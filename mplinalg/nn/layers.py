"""Layers on features: Linear, activations, Softmax, Flatten, Dropout.

Weights start as PyTorch's do. Where they are random, `rng` is a generator or its seed: two layers
of one generator differ, two of one seed do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..ops import is_on_host, ops_for
from ..ops.dispatch import nn_ops_for
from . import init
from .autograd import Array, Operation, Tensor
from .checks import count, number
from .module import Module, Parameter, parameter_dtype
from .products import product
from .scopes import state

__all__ = ["Dropout", "Flatten", "Linear", "ReLU", "Sigmoid", "Softmax", "Tanh"]


class Affine(Operation):
    """y = x W^T + b, and with `relu` max(y, 0), on the last axis of x."""

    def __init__(self, relu: bool = False) -> None:
        self.relu, self.precision = relu, state.precision

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self.shape = x.shape
        if x.ndim != 2:
            x = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        y = product(x, w, transb=True, precision=self.precision)
        nn_ops_for(y).add_bias(y, b, self.relu)
        self.x, self.w, self.y = x, w, y if self.relu else None
        return y if len(self.shape) == 2 else y.reshape(*self.shape[:-1], len(w))

    def backward(self, grad: Array) -> Sequence[Array | None]:
        if grad.ndim != 2:
            grad = grad.reshape(len(self.x), len(self.w))
        dx = dw = db = None
        if self.relu or len(self.needs) == 3:
            grad, db = nn_ops_for(grad).bias_gradient(grad, self.y)
        if self.needs[0]:  # dx = dy W
            dx = product(grad, self.w, precision=self.precision)
            dx = dx if len(self.shape) == 2 else dx.reshape(self.shape)
        if self.needs[1]:  # dW = dy^T x
            dw = product(grad, self.x, transa=True, precision=self.precision)
        return (dx, dw, db)[: len(self.needs)]


class Linear(Module):
    """y = x W^T + b.

    Parameters
    ----------
    features_in, features_out : int
        x is (..., features_in), y is (..., features_out).
    bias : bool, default True
    rng : numpy.random.Generator or int, optional
        Of the weights, uniform in +-1 / sqrt(features_in), bias too: PyTorch's default.
    dtype : dtype, default float32
        Of the parameters: float32 or float64.

    Attributes
    ----------
    weight : Parameter, shape (features_out, features_in)
    bias : Parameter, shape (features_out,), or None

    Raises
    ------
    ValueError
        When called: x has another number of features; the message has the layer and both shapes.
    TypeError
        When called, without a precision set: x is not of the dtype of the weights.

    Notes
    -----
    One operation of the graph, also with a ReLU after it. 2 N in out flops forwards, twice that
    backwards; in the innermost `precision_scope`.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import Linear
    >>> layer = Linear(3, 2, rng=0)
    >>> y = layer(np.ones((5, 3), np.float32))
    >>> y.shape, y.dtype
    ((5, 2), dtype('float32'))
    >>> y.sum().backward()
    >>> layer.bias.grad
    array([5., 5.], dtype=float32)
    """

    def __init__(
        self, features_in: int, features_out: int, bias: bool = True, *,
        rng: init.Seed = None, dtype: DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        shape = count("features_out", features_out, 0), count("features_in", features_in, 0)
        self.weight, self.bias = affine_parameters(shape, bias, np.random.default_rng(rng), dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self._apply(x, False)

    def forward_relu(self, x: Tensor) -> Tensor:
        """max(y, 0)."""
        return self._apply(x, True)

    def _apply(self, x: Tensor, relu: bool) -> Tensor:
        weight = self.weight
        shape = x.data.shape
        if not shape or shape[-1] != weight.data.shape[1]:
            raise ValueError(f"{self.label()}: input has shape {shape}, weight {weight.shape}")
        require_dtype(self, x, weight)
        if self.bias is None:
            return Affine(relu)(x, weight)
        return Affine(relu)(x, weight, self.bias)

    def flops(self, shape: tuple[int, ...]) -> int:
        features_out, features_in = self.weight.shape
        each = 2 * features_in + (self.bias is not None)
        return math.prod(shape[:-1]) * features_out * each

    def settings(self) -> str:
        features_out, features_in = self.weight.shape
        return f"{features_in}, {features_out}{'' if self.bias is not None else ', bias=False'}"


def affine_parameters(
    shape: tuple[int, ...], bias: bool, rng: np.random.Generator, dtype: DTypeLike
) -> tuple[Parameter, Parameter | None]:
    """Weights of a shape and biases, initialised as PyTorch's."""
    if min(shape) < 1:
        raise ValueError(f"sizes of a layer are 1 at least; got weights of {shape=}")
    dtype = parameter_dtype(dtype)
    weight = init.kaiming_uniform(shape, rng=rng, slope=math.sqrt(5.0), dtype=dtype)
    bound = 1.0 / math.sqrt(math.prod(shape[1:]))
    start = init.uniform(shape[:1], bound, rng=rng, dtype=dtype) if bias else None
    return Parameter(weight, "weight"), None if start is None else Parameter(start, "bias")


def require_dtype(layer: Module, x: Tensor, weight: Parameter) -> None:
    """Refuse products that would change their dtype unasked."""
    if x.data.dtype != weight.data.dtype and state.precision is None:
        raise TypeError(
            f"{layer.label()}: input is {x.dtype}, weight {weight.dtype}; convert one of them"
        )


def require_floats(layer: Module, x: Tensor) -> None:
    """Refuse whole numbers where the result cannot be one."""
    if x.data.dtype.kind != "f":
        raise TypeError(
            f"{layer.label()}: input is {x.dtype}; convert it, as by astype(np.float32)"
        )


class _Elementwise(Module):
    """One function of every entry."""

    def flops(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape)


class ReLU(_Elementwise):
    """max(x, 0).

    Examples
    --------
    >>> from mplinalg.nn import ReLU
    >>> ReLU()([-1.0, 2.0])
    Tensor(array([0., 2.]))
    """

    is_relu = True

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


class Sigmoid(_Elementwise):
    """1 / (1 + e^-x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()


class Tanh(_Elementwise):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


class SoftmaxOf(Operation):
    """y_i = e^x_i / sum_j e^x_j along an axis, with the largest x taken off first."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Array) -> Array:
        xp = ops_for(x).xp
        y = x - x.max(axis=self.axis, keepdims=True)
        xp.exp(y, out=y)
        y /= y.sum(axis=self.axis, keepdims=True)
        self.y = y
        return y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        # dx = y (dy - sum_j dy_j y_j)
        dx = grad * self.y
        dx -= self.y * dx.sum(axis=self.axis, keepdims=True)
        return (dx,)


class Softmax(Module):
    """e^x_i / sum_j e^x_j along an axis; for training, `cross_entropy` has it within.

    Parameters
    ----------
    axis : int, default -1

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import Softmax
    >>> Softmax()(np.zeros((1, 4)))
    Tensor(array([[0.25, 0.25, 0.25, 0.25]]))
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        require_floats(self, x)
        return SoftmaxOf(self.axis)(x)

    def flops(self, shape: tuple[int, ...]) -> int:
        return 4 * math.prod(shape)  # -, exp, +, /

    def settings(self) -> str:
        return "" if self.axis == -1 else f"axis={self.axis}"


class Flatten(Module):
    """(N, ...) to (N, features)."""

    def forward(self, x: Tensor) -> Tensor:
        shape = x.data.shape
        if len(shape) == 2:
            return x
        if not shape:
            raise ValueError(f"{self.label()}: input has shape {shape}, not (N, ...)")
        return x.reshape(shape[0], math.prod(shape[1:]))

    def flops(self, shape: tuple[int, ...]) -> int:
        return 0


class Dropout(Module):
    """In training, entries become 0 with probability p, others x / (1 - p); else x.

    Parameters
    ----------
    p : float, default 0.5
        At least 0, less than 1.
    rng : numpy.random.Generator or int, optional
        Attribute `rng`, a generator: its state decides all that is drawn later, also on a device.

    Raises
    ------
    ValueError
        `p` is out of range.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, J. Mach. Learn. Res. 15 (2014)
    1929.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import Dropout
    >>> layer = Dropout(0.5, rng=0)
    >>> sorted({*layer(np.ones(100)).data.tolist()})
    [0.0, 2.0]
    >>> sorted({*layer.eval()(np.ones(100)).data.tolist()})
    [1.0]
    """

    def __init__(self, p: float = 0.5, *, rng: init.Seed = None) -> None:
        self.p = number("p", p, 0, 1, open_ends=")")
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        require_floats(self, x)
        if is_on_host(x.data):
            keeps: Any = self.rng.random(x.shape, dtype=np.float32) >= self.p
        else:
            words = _hashed(x.xp, x.size, [int(k) for k in self.rng.integers(2**32, size=2)])
            keeps = (words >= x.xp.uint32(self.p * 2.0**32)).reshape(x.shape)
        scale = x.dtype.type(1.0 / (1.0 - self.p))
        return x * Tensor(keeps * scale)

    def flops(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape) if self.training and self.p else 0

    def settings(self) -> str:
        return f"{self.p:g}"


def _hashed(xp: Any, count: int, keys: Sequence[int]) -> Array:
    """`count` random words of 32 bits, made where `xp` computes: two rounds of MurmurHash3's mix.

    So nothing but two numbers goes to the device, and they decide all words.
    """
    words = xp.arange(count, dtype=np.uint32)
    for key in keys:
        words ^= xp.uint32(key)
        words ^= words >> xp.uint32(16)
        words *= xp.uint32(0x85EBCA6B)
        words ^= words >> xp.uint32(13)
        words *= xp.uint32(0xC2B2AE35)
        words ^= words >> xp.uint32(16)
    return words
