"""The operations behind the operators and methods of `Tensor`."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ops import ops_for
from .graph import Array, Node, Operation
from .products import product
from .scopes import current_precision

__all__ = [
    "Abs", "Add", "Axis", "Concatenate", "Divide", "Exp", "Index", "Log", "MatMul", "Max", "Mean",
    "Multiply", "Negative", "Power", "Relu", "Reshape", "Sigmoid", "Sqrt", "Subtract", "Sum",
    "Tanh", "Transpose",
]  # fmt: skip

Axis = int | tuple[int, ...] | None


def _folded(grad: Array, shape: tuple[int, ...]) -> Array:
    """Summed over the axes that were broadcast."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    axes = [k for k in range(grad.ndim) if k < extra or shape[k - extra] != grad.shape[k]]
    return grad.sum(axis=tuple(axes), keepdims=True).reshape(shape)


def _restored(x: Array, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Array:
    """Of a reduction, with the axes that it took away as axes of length 1."""
    if axis is None or keepdims:
        return x.reshape((1,) * len(shape)) if axis is None else x
    axes = [k % len(shape) for k in ((axis,) if isinstance(axis, int) else axis)]
    return x.reshape([1 if k in axes else length for k, length in enumerate(shape)])


# -- elementwise ---------------------------------------------------------------------------------


class Add(Operation):
    """a + b."""

    def forward(self, a: Array, b: Array) -> Array:
        self.shapes = a.shape, b.shape
        return a + b

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return [
            _folded(grad, s) if n else None for s, n in zip(self.shapes, self.needs, strict=True)
        ]


class Subtract(Operation):
    """a - b."""

    def forward(self, a: Array, b: Array) -> Array:
        self.shapes = a.shape, b.shape
        return a - b

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (
            _folded(grad, self.shapes[0]) if self.needs[0] else None,
            -_folded(grad, self.shapes[1]) if self.needs[1] else None,
        )


class Multiply(Operation):
    """a b, elementwise."""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return a * b

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (
            _folded(grad * self.b, self.a.shape) if self.needs[0] else None,
            _folded(grad * self.a, self.b.shape) if self.needs[1] else None,
        )


class Divide(Operation):
    """a / b, elementwise."""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return a / b

    def backward(self, grad: Array) -> Sequence[Array | None]:
        grad = grad / self.b
        return (
            _folded(grad, self.a.shape) if self.needs[0] else None,
            _folded(-grad * (self.a / self.b), self.b.shape) if self.needs[1] else None,
        )


class Power(Operation):
    """x^p with a number p."""

    def __init__(self, exponent: float) -> None:
        if not isinstance(exponent, numbers.Real):
            raise TypeError(
                "the exponent of ** is a real number; for tensors, (y * x.log()).exp(); "
                f"got {exponent!r}"
            )
        # of a number of NumPy, the one that keeps the dtype of x
        self.exponent: Any = exponent.item() if isinstance(exponent, np.generic) else exponent

    def forward(self, x: Array) -> Array:
        self.x = x
        return x**self.exponent

    def backward(self, grad: Array) -> Sequence[Array | None]:
        p = self.exponent
        return (grad * (p * self.x ** (p - 1)) if p != 0 else grad * 0,)


class Negative(Operation):
    """-x."""

    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (-grad,)


class Exp(Operation):
    """e^x."""

    def forward(self, x: Array) -> Array:
        self.y = ops_for(x).xp.exp(x)
        return self.y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (grad * self.y,)


class Log(Operation):
    """The natural logarithm."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return ops_for(x).xp.log(x)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (grad / self.x,)


class Sqrt(Operation):
    """The square root."""

    def forward(self, x: Array) -> Array:
        self.y = ops_for(x).xp.sqrt(x)
        return self.y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (grad / (2 * self.y),)


class Tanh(Operation):
    """The hyperbolic tangent."""

    def forward(self, x: Array) -> Array:
        self.y = ops_for(x).xp.tanh(x)
        return self.y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (grad * (1 - self.y * self.y),)


class Sigmoid(Operation):
    """1 / (1 + e^-x), to all digits; 0 where e^-x overflows."""

    def forward(self, x: Array) -> Array:
        xp = ops_for(x).xp
        with np.errstate(over="ignore"):
            y = xp.exp(-1.0 * x)
        y += 1
        self.y = xp.reciprocal(y)
        return self.y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (grad * (self.y * (1 - self.y)),)


class Relu(Operation):
    """max(x, 0)."""

    def forward(self, x: Array) -> Array:
        self.y = ops_for(x).xp.maximum(x, 0)
        return self.y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (ops_for(grad).xp.where(self.y > 0, grad, grad.dtype.type(0)),)


class Abs(Operation):
    """|x|."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return abs(x)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (grad * ops_for(grad).xp.sign(self.x),)


# -- reductions ----------------------------------------------------------------------------------


class _Reduction(Operation):
    def __init__(self, axis: Axis, keepdims: bool) -> None:
        if not (axis is None or isinstance(axis, (int, tuple))):
            axis = operator.index(axis)
        self.axis, self.keepdims = axis, keepdims


class Sum(_Reduction):
    """The sum over axes."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        grad = _restored(grad, self.shape, self.axis, self.keepdims)
        return (ops_for(grad).xp.broadcast_to(grad, self.shape),)


class Mean(_Reduction):
    """The mean over axes."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        y = x.mean(axis=self.axis, keepdims=self.keepdims)
        self.count = x.size // max(y.size, 1)
        return y

    def backward(self, grad: Array) -> Sequence[Array | None]:
        xp = ops_for(grad).xp
        grad = _restored(grad / self.count, self.shape, self.axis, self.keepdims)
        return (xp.broadcast_to(grad, self.shape),)


class Max(_Reduction):
    """The largest entries over axes."""

    def forward(self, x: Array) -> Array:
        self.x = x
        y = x.max(axis=self.axis, keepdims=True)
        self.y = y
        return y if self.keepdims else y.reshape(x.max(axis=self.axis).shape)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        is_top = self.x == self.y
        count = is_top.sum(axis=self.axis, keepdims=True)
        return ((grad.reshape(self.y.shape) / count).astype(grad.dtype) * is_top,)


# -- shapes --------------------------------------------------------------------------------------


class Reshape(Operation):
    """The same entries in another shape."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.new = tuple(shape)

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(self.new)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (grad.reshape(self.shape),)


class Transpose(Operation):
    """The axes in another order."""

    def __init__(self, axes: Sequence[int] = ()) -> None:
        self.axes = tuple(axes)

    def forward(self, x: Array) -> Array:
        axes = self.axes or tuple(range(x.ndim))[::-1]
        self.back = tuple(int(k) for k in np.argsort([k % max(x.ndim, 1) for k in axes]))
        return x.transpose(axes)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return (grad.transpose(self.back),)


class Index(Operation):
    """x[key]; entries that are taken several times get the sum of their gradients."""

    def __init__(self, key: Any) -> None:
        keys = key if isinstance(key, tuple) else (key,)
        self.key = tuple(k.data if isinstance(k, Node) else k for k in keys)

    def forward(self, x: Array) -> Array:
        self.x = x
        return x[self.key]

    def backward(self, grad: Array) -> Sequence[Array | None]:
        xp = ops_for(grad).xp
        whole = xp.zeros(self.x.shape, grad.dtype)
        if all(k is None or isinstance(k, (int, slice, type(...))) for k in self.key):
            whole[self.key] = grad
        else:
            xp.add.at(whole, self.key, grad)
        return (whole,)


class Concatenate(Operation):
    """Several tensors one after another."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *arrays: Array) -> Array:
        self.ends = np.cumsum([x.shape[self.axis] for x in arrays[:-1]]).tolist()
        return ops_for(*arrays).xp.concatenate(arrays, axis=self.axis)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        return ops_for(grad).xp.split(grad, self.ends, axis=self.axis)


# -- products ------------------------------------------------------------------------------------


class MatMul(Operation):
    """A B of matrices, or of stacks of them whose leading axes broadcast."""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b, self.precision = a, b, current_precision()
        return _multiply(a, b, False, False, self.precision)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        a, b, precision = self.a, self.b, self.precision
        # dA = dC B^T,   dB = A^T dC
        return (
            _folded(_multiply(grad, b, False, True, precision), a.shape) if self.needs[0] else None,
            _folded(_multiply(a, grad, True, False, precision), b.shape) if self.needs[1] else None,
        )


def _multiply(a: Array, b: Array, transa: bool, transb: bool, precision: str | None) -> Array:
    if a.ndim == b.ndim == 2:
        return product(a, b, transa=transa, transb=transb, precision=precision)
    xp = ops_for(a, b).xp
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    count = math.prod(batch)
    stacks = [
        xp.broadcast_to(x, batch + x.shape[-2:]).reshape(count, *x.shape[-2:]) for x in (a, b)
    ]
    c = product(*stacks, transa=transa, transb=transb, precision=precision)
    return c.reshape(batch + c.shape[-2:])
