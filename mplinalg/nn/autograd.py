"""Tensor: an array that can be differentiated, with the operators of arrays.

`graph` is how: operations that record what they were computed from.

    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    x.grad
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import operations
from .graph import Array, Node, Operation
from .operations import Axis
from .scopes import current_precision, no_grad, precision_scope

__all__ = [
    "Array", "Operation", "Tensor", "concatenate", "current_precision", "matmul", "no_grad",
    "precision_scope",
]  # fmt: skip


class Tensor(Node):
    """An array, and how it was computed.

    Parameters
    ----------
    data : array_like or Tensor
        NumPy and CuPy arrays are kept by reference; anything else becomes a NumPy array.
    requires_grad : bool, default False
        Whether `backward` sums gradients with respect to it in `grad`.

    Attributes
    ----------
    data : array
    grad : array or None
        Of the shape, dtype and device of `data`; summed over calls of `backward`. Only of tensors
        that were not computed from others.
    requires_grad : bool
    operation : Operation or None
        What computed it.
    version : int
        Greater by one for each change of `data` in place, as by a step of an optimiser: what was
        computed before cannot be differentiated any more.

    Examples
    --------
    >>> from mplinalg.nn import Tensor
    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4., 6.])
    """

    __slots__ = ()

    def detach(self) -> Tensor:
        """The same array without its graph."""
        return Tensor(self.data)

    # -- operations, elementwise ones with broadcasting -------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return operations.Add()(self, other)

    def __sub__(self, other: Any) -> Tensor:
        return operations.Subtract()(self, other)

    def __mul__(self, other: Any) -> Tensor:
        return operations.Multiply()(self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return operations.Divide()(self, other)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return operations.Add()(other, self)

    def __rsub__(self, other: Any) -> Tensor:
        return operations.Subtract()(other, self)

    def __rmul__(self, other: Any) -> Tensor:
        return operations.Multiply()(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return operations.Divide()(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(Tensor(other), self)

    def __pow__(self, exponent: float) -> Tensor:
        return operations.Power(exponent)(self)

    def __neg__(self) -> Tensor:
        return operations.Negative()(self)

    def __eq__(self, other: object) -> bool:
        if other is self or other is None:
            return other is self
        raise TypeError("tensors are not compared: compare arrays, x.data == y.data")

    __hash__ = Node.__hash__

    def __getitem__(self, key: Any) -> Tensor:
        return operations.Index(key)(self)

    @property
    def T(self) -> Tensor:
        """The axes in opposite order."""
        return self.transpose()

    def exp(self) -> Tensor:
        """e^x."""
        return operations.Exp()(self)

    def log(self) -> Tensor:
        """The natural logarithm."""
        return operations.Log()(self)

    def sqrt(self) -> Tensor:
        """The square root."""
        return operations.Sqrt()(self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent."""
        return operations.Tanh()(self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + e^-x)."""
        return operations.Sigmoid()(self)

    def relu(self) -> Tensor:
        """max(x, 0), with the gradient 0 at 0."""
        return operations.Relu()(self)

    def abs(self) -> Tensor:
        """The absolute value, with the gradient 0 at 0."""
        return operations.Abs()(self)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over all axes, or those given."""
        return operations.Sum(axis, keepdims)(self)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over all axes, or those given."""
        return operations.Mean(axis, keepdims)(self)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest entries; equal ones share the gradient evenly."""
        return operations.Max(axis, keepdims)(self)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The smallest entries; equal ones share the gradient evenly."""
        return -(-self).max(axis, keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """The same entries in another shape."""
        return operations.Reshape(_listed(shape))(self)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order; the opposite one if none is given."""
        return operations.Transpose(_listed(axes))(self)


def _listed(numbers: tuple[Any, ...]) -> Any:
    """Numbers that may come as one sequence."""
    return numbers[0] if len(numbers) == 1 and np.iterable(numbers[0]) else numbers


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one after another along an axis.

    Parameters
    ----------
    tensors : sequence of Tensor or array
    axis : int, default 0

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        Shapes that differ in another axis.

    Examples
    --------
    >>> from mplinalg.nn import Tensor, concatenate
    >>> concatenate([Tensor([1.0, 2.0]), Tensor([3.0])])
    Tensor(array([1., 2., 3.]))
    """
    return operations.Concatenate(axis)(*tensors)


def matmul(a: Tensor, b: Any) -> Tensor:
    """A B with the shapes of `numpy.matmul`, in the precision of the innermost `precision_scope`.

    Raises
    ------
    ValueError
        Shapes that do not fit, with both.
    """
    if not isinstance(b, Tensor):
        b = Tensor(b)
    if not a.ndim or not b.ndim:
        raise ValueError(f"@ of shapes {a.shape} and {b.shape}: numbers are multiplied by *")
    left = a.reshape(1, -1) if a.ndim == 1 else a
    right = b.reshape(-1, 1) if b.ndim == 1 else b
    c = operations.MatMul()(left, right)
    if a.ndim > 1 and b.ndim > 1:
        return c
    kept = (
        c.shape[:-2] + (c.shape[-2:-1] if a.ndim > 1 else ()) + (c.shape[-1:] if b.ndim > 1 else ())
    )
    return c.reshape(kept)


Operation.tensor = Tensor
