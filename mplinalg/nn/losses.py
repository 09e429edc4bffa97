"""Losses: numbers in single precision at least, whatever comes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import as_array
from ..ops import ops_for
from ..ops.dispatch import nn_ops_for
from .autograd import Array, Operation, Tensor
from .data.labels import check_labels

__all__ = ["cross_entropy", "mse_loss"]


class CrossEntropy(Operation):
    """mean_i (log sum_j e^z_ij - z_i,label(i)), and its gradient (softmax(z) - one-hot) / N."""

    def __init__(self, labels: Array) -> None:
        self.labels = labels

    def forward(self, z: Array) -> Array:
        ops = nn_ops_for(z, self.labels)
        self.gradient = ops.xp.empty(z.shape, np.promote_types(z.dtype, np.float32))
        self.dtype = z.dtype
        return ops.softmax_loss(z, self.labels, self.gradient)

    def backward(self, grad: Array) -> Sequence[Array | None]:
        dz = self.gradient  # not needed again
        dz *= grad
        return (dz.astype(self.dtype, copy=False),)


class SquaredError(Operation):
    """The mean of (x - y)^2."""

    def forward(self, x: Array, y: Array) -> Array:
        wide = np.promote_types(np.promote_types(x.dtype, y.dtype), np.float32)
        self.difference = ops_for(x, y).xp.subtract(x, y, dtype=wide)
        self.dtypes = x.dtype, y.dtype
        flat = self.difference.reshape(-1)
        return flat @ flat / flat.size

    def backward(self, grad: Array) -> Sequence[Array | None]:
        d = self.difference * (grad * 2 / self.difference.size)
        return (
            d.astype(self.dtypes[0], copy=False) if self.needs[0] else None,
            (-d).astype(self.dtypes[1], copy=False) if self.needs[1] else None,
        )


def cross_entropy(logits: Tensor, labels: Any, *, validate: bool = True) -> Tensor:
    """The mean of ``log sum_j e^z_ij - z_i,label(i)``: softmax and negative log-likelihood in one.

    Parameters
    ----------
    logits : Tensor or array, shape (N, classes)
        z, before any softmax.
    labels : array of int, shape (N,)
        0 to classes - 1, on the device of the logits.
    validate : bool, default True
        Check the range of the labels, which on a device waits for it. Who has checked them once,
        by `check_labels`, may say False.

    Returns
    -------
    Tensor, shape ()
        Of float64 for float64 logits, else float32.

    Raises
    ------
    ValueError
        Other shapes, with both; no rows; labels out of range, with the first one.
    TypeError
        Labels that are not integers; complex logits.

    Notes
    -----
    The largest logit of a row is taken off first, so that nothing overflows (Blanchard, D. Higham
    and N. Higham, IMA J. Numer. Anal. 41 (2021) 2311, section 4). The gradient is
    ``(softmax(z) - one-hot(labels)) / N``.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import Tensor, cross_entropy
    >>> logits = Tensor(np.zeros((2, 4)), requires_grad=True)
    >>> loss = cross_entropy(logits, np.array([0, 3]))
    >>> bool(abs(loss.item() - np.log(4)) < 1e-15)
    True
    >>> loss.backward()
    >>> logits.grad[0]
    array([-0.375,  0.125,  0.125,  0.125])
    """
    logits = logits if isinstance(logits, Tensor) else Tensor(logits)
    if isinstance(labels, Tensor):
        labels = labels.data
    if type(labels) is not np.ndarray:
        is_array = hasattr(labels, "dtype")  # or else it goes to where the logits are
        labels = as_array(labels, "labels")
        labels = labels if is_array else logits.xp.asarray(labels)
    shape = logits.shape
    if len(shape) != 2 or labels.shape != shape[:1]:
        raise ValueError(
            f"cross_entropy: logits have shape {shape}, labels {labels.shape}; "
            "wanted (N, classes) and (N,)"
        )
    if logits.dtype.kind == "c":
        raise TypeError(f"cross_entropy is of real numbers; got {logits.dtype}")
    if not logits.size:
        raise ValueError(f"cross_entropy of no rows or no classes: logits have shape {shape}")
    if validate:
        check_labels(labels, shape[1])
    elif labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers; got {labels.dtype}")
    return CrossEntropy(labels)(logits)


def mse_loss(prediction: Tensor, target: Any) -> Tensor:
    """The mean of (prediction - target)^2 over all entries.

    Parameters
    ----------
    prediction, target : Tensor or array
        Of one shape: nothing is broadcast.

    Returns
    -------
    Tensor, shape ()
        Of float64 where one of them is, else float32.

    Raises
    ------
    ValueError
        Shapes that differ, with both; no entries.
    TypeError
        Complex numbers.

    Examples
    --------
    >>> from mplinalg.nn import Tensor, mse_loss
    >>> mse_loss(Tensor([1.0, 2.0]), [1.0, 4.0]).item()
    2.0
    """
    prediction = prediction if isinstance(prediction, Tensor) else Tensor(prediction)
    target = target if isinstance(target, Tensor) else Tensor(target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"mse_loss: prediction has shape {prediction.shape}, target {target.shape}"
        )
    if "c" in (prediction.dtype.kind, target.dtype.kind):
        raise TypeError(f"mse_loss is of real numbers; got {prediction.dtype} and {target.dtype}")
    if not prediction.size:
        raise ValueError(f"mse_loss of no entries: shape {prediction.shape}")
    return SquaredError()(prediction, target)
