"""Reverse-mode differentiation by a small graph of operations.

An operation is one short class: `forward` computes on arrays and keeps what `backward` needs,
`backward` takes the gradient of the result and returns those of the inputs:

    class Exp(Operation):
        def forward(self, x):
            self.y = ops_for(x).xp.exp(x)
            return self.y

        def backward(self, grad):
            return (grad * self.y,)

    y = Exp()(x)

What `backward` returns is a new array, `grad` itself, a view of it, or None for an input without a
gradient; it changes neither `grad` nor what was kept. Arrays are kept by reference: who changes one
in place says so by `version`, and a `backward` that would need what was there is refused.

References
----------
Griewank and Walther, Evaluating Derivatives (2008), chapter 3 (the reverse mode).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..arguments import as_array
from ..ops import is_on_device, ops_for
from .scopes import state

Array = Any

__all__ = ["Array", "Node", "Operation"]


class Operation:
    """A differentiable function of arrays; calling it, once, computes and records the graph.

    Attributes
    ----------
    inputs : tuple of Node
    versions : tuple of int
        Those of the inputs when they were used.
    needs : tuple of bool
        Which inputs need a gradient; known in `forward`. All False where nothing is recorded.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import Operation, Tensor
    >>> class Sine(Operation):
    ...     def forward(self, x):
    ...         self.x = x
    ...         return np.sin(x)
    ...
    ...     def backward(self, grad):
    ...         return (grad * np.cos(self.x),)
    >>> x = Tensor([0.0, np.pi], requires_grad=True)
    >>> Sine()(x).sum().backward()
    >>> x.grad
    array([ 1., -1.])
    """

    tensor: ClassVar[type[Node]]  # what results are; set by `autograd`
    inputs: tuple[Node, ...] = ()
    versions: tuple[int, ...] = ()
    needs: tuple[bool, ...] = ()
    is_freed = False

    def forward(self, *arrays: Array) -> Array:
        """The value."""
        raise NotImplementedError

    def backward(self, grad: Array) -> Sequence[Array | None]:
        """The gradients of the inputs, in their order and of their shapes."""
        raise NotImplementedError

    def __call__(self, *inputs: Any) -> Any:
        if self.inputs:  # what it keeps belongs to that result
            raise RuntimeError(f"{type(self).__name__} was called before: make another one")
        tensors = tuple([x if isinstance(x, Node) else _converted(x, inputs) for x in inputs])
        records = state.records
        self.needs = needs = tuple([records and x.requires_grad for x in tensors])
        try:
            y = self.tensor(self.forward(*[x.data for x in tensors]))
        except ValueError as error:
            shapes = " and ".join(str(x.shape) for x in tensors)
            raise ValueError(f"{type(self).__name__} of shapes {shapes}: {error}") from error
        if True in needs:
            if y.data.dtype.kind != "f":
                raise TypeError(
                    f"{type(self).__name__}: only real floating-point results have gradients; "
                    f"got {y.dtype}"
                )
            self.inputs = tensors
            self.versions = tuple([x.version for x in tensors])
            y.operation, y.requires_grad = self, True
        return y


class Node:
    """What `Tensor` is without its arithmetic; there it is described."""

    __slots__ = ("__weakref__", "data", "grad", "operation", "requires_grad", "version")
    __array_ufunc__ = None  # array + tensor is the tensor's business

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if type(data) is not np.ndarray:
            if isinstance(data, Node):
                data = data.data
            elif isinstance(data, np.number):  # as of reductions
                data = np.asarray(data)
            elif not is_on_device(data):
                data = as_array(data, "data")
        if requires_grad and data.dtype.kind != "f":
            raise TypeError(f"only real floating-point tensors have gradients; got {data.dtype}")
        self.data: Array = data
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.operation: Operation | None = None
        self.version = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.data.size

    @property
    def xp(self) -> Any:
        """The array namespace (numpy, cupy)."""
        return ops_for(self.data).xp

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Tensor({self.data!r}{', requires_grad=True' if self.requires_grad else ''})"

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        # or else NumPy makes an array of objects, number by number
        raise TypeError("a tensor is no array: take its data, as in np.asarray(x.data)")

    def item(self) -> float:
        """The number, of a tensor of one entry; waits for the device."""
        return self.data.item()

    def __float__(self) -> float:
        return float(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec else str(self), spec)

    def backward(self, grad: Any = None) -> None:
        """Add the gradients to `grad` of all tensors that this was computed from; free the graph.

        Parameters
        ----------
        grad : array, optional
            The gradient with respect to this tensor, of its shape; 1 for a tensor of one entry.

        Raises
        ------
        ValueError
            No `grad`, and more than one entry; a `grad` of another shape.
        RuntimeError
            Nothing was recorded, or the graph was freed by an earlier `backward`, or a tensor was
            changed in place after it was used, or after an operation had computed it.
        TypeError
            A `grad` that is complex.
        """
        if not self.requires_grad:
            raise RuntimeError("backward of a tensor that was computed from none with gradients")
        if grad is None:
            if self.data.size != 1:
                raise ValueError(f"backward needs the gradient of a tensor of shape {self.shape}")
            grad = self.xp.ones_like(self.data)
        else:
            grad = self.xp.asarray(grad.data if isinstance(grad, Node) else grad)
            if grad.dtype.kind == "c":
                raise TypeError(f"the gradient is {grad.dtype}, the tensor {self.dtype}")
            grad = grad.astype(self.dtype, copy=False)
            if grad.shape != self.shape:
                raise ValueError(f"the gradient has shape {grad.shape}, the tensor {self.shape}")
        if self.operation is None:
            _add_to_leaf(self, grad, False)
        else:
            if self.version:
                raise _changed(self, self.operation, "computed")
            _propagate(self.operation, grad)


def _converted(x: Any, others: Sequence[Any]) -> Any:
    """A number takes the dtype and the device of the tensor that it goes with."""
    if isinstance(x, (int, float)):
        like = next((y for y in others if isinstance(y, Node) and y.dtype.kind == "f"), None)
        if like is not None:
            return Operation.tensor(like.xp.asarray(x, like.dtype))
    return Operation.tensor(x)


def _propagate(root: Operation, grad: Array) -> None:
    """Gradients from `root` to the leaves, each operation once, after all that use its result."""
    waits = {root: 0}
    found = [root]
    for operation in found:  # grows
        if operation.is_freed:
            raise RuntimeError("the graph was freed by an earlier backward; compute it again")
        for x, version in zip(operation.inputs, operation.versions, strict=True):
            if x.version != version:
                raise _changed(x, operation, "used")
            if version and x.operation is not None:  # which may have kept its result
                raise _changed(x, x.operation, "computed")
        for x in operation.inputs:
            before = x.operation
            if before is not None:
                if before in waits:
                    waits[before] += 1
                else:
                    waits[before] = 1
                    found.append(before)
    sums: dict[Operation, tuple[Array, bool]] = {root: (grad, False)}
    ready = [root]
    while ready:
        operation = ready.pop()
        grad, _ = sums.pop(operation, (None, False))
        inputs = operation.inputs
        grads = (None,) * len(inputs) if grad is None else operation.backward(grad)
        if not isinstance(grads, tuple | list) or len(grads) != len(inputs):
            raise RuntimeError(
                f"backward of {type(operation).__name__} must return a tuple of {len(inputs)}, a "
                "gradient or None for each input"
            )
        for x, g in zip(inputs, grads, strict=True):
            if not x.requires_grad:
                continue
            before = x.operation
            if g is not None:
                if type(g) is not np.ndarray and not is_on_device(g):  # NumPy gives numbers
                    g = ops_for(x.data).xp.asarray(g.data if isinstance(g, Node) else g)
                if g.shape != x.data.shape:
                    raise RuntimeError(
                        f"{type(operation).__name__}: gradient of shape {g.shape} of an input of "
                        f"shape {x.data.shape}"
                    )
                is_new = g is not grad and g.base is None and sum(g is h for h in grads) == 1
                if before is None:
                    _add_to_leaf(x, g, is_new)
                elif before in sums:
                    sums[before] = _sum(*sums[before], g)
                else:
                    sums[before] = g, is_new
            if before is not None:
                waits[before] -= 1
                if not waits[before]:
                    ready.append(before)
        vars(operation).clear()  # inputs, and what forward kept
        operation.is_freed = True


def _changed(x: Node, operation: Operation, what: str) -> RuntimeError:
    return RuntimeError(
        f"{x!r} was changed after {type(operation).__name__} had {what} it: call backward before "
        "the step of the optimiser, or compute the result again"
    )


def _sum(a: Array, is_new: bool, b: Array) -> tuple[Array, bool]:
    if is_new and a.ndim and a.dtype == b.dtype:
        a += b
        return a, True
    total = a + b
    return (total if total.ndim else ops_for(a).xp.asarray(total)), True


def _add_to_leaf(x: Node, grad: Array, is_new: bool) -> None:
    """x.grad is an array of its own, so that optimisers may change it."""
    if x.grad is not None:
        x.grad += grad
    elif grad.dtype != x.data.dtype or not grad.ndim:
        x.grad = ops_for(x.data).xp.array(grad, x.data.dtype)
    else:
        x.grad = grad if is_new else grad.copy()
