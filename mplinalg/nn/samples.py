"""Data as users give them, made into what a network takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import as_array
from ..ops import ops_for
from .autograd import Array, Tensor
from .checks import count
from .data import DataLoader, check_labels
from .module import Module
from .recipe import Recipe
from .scopes import observed
from .spatial import BatchNorm2d
from .usage import in_use

__all__ = ["as_inputs", "pair", "tried_loader"]

_BATCH = 32


def as_inputs(x: Any, net: Module, name: str = "x") -> Array:
    """Real numbers in the dtype of the parameters, where these are.

    Raises
    ------
    TypeError, ValueError
        They are no real numbers, elsewhere than the parameters, or but one number.
    """
    array = _as_array(x, net, name)
    _, first = next(net.named_parameters(), (None, None))
    if first is None:
        return array
    with np.errstate(over="ignore"):  # infinite numbers are found by whoever computes with them
        return array.astype(first.dtype, copy=False)


def tried_loader(
    net: Module, recipe: Recipe, x: Any, y: Any, batch_size: int | None, *, whole: bool = False,
    shuffle: bool = False, drop_last: bool = False, ranks: int = 1,
) -> DataLoader:  # fmt: skip
    """Batches of data that fit: the first of them was tried, and all labels were looked at.

    Parameters
    ----------
    net, recipe
    x, y : array_like
    batch_size : int or None
        None: 32, or all of fewer samples.
    whole : bool
        A batch that is larger than the data is the data, and no error.
    shuffle, drop_last : bool
        As of `DataLoader`.
    ranks : int
        Among whom a batch is divided.

    Raises
    ------
    TypeError, ValueError
        Something does not fit.
    """
    size = _BATCH if batch_size is None else count("batch_size", batch_size)
    x = as_inputs(x, net)
    y = _as_array(y, net, "y")
    if not recipe.keeps_integers or (y.dtype.kind == "f" and not recipe.has_labels):
        y = as_inputs(y, net, "y")
    if whole or batch_size is None:
        size = min(size, max(len(x), 1))
    loader = DataLoader(x, y, size, shuffle, drop_last=drop_last)
    with in_use(recipe.precision):
        prediction = net(x[: loader.batch_size])
        if recipe.has_labels:
            if prediction.ndim != 2:
                raise ValueError(f"cross_entropy takes logits (N, classes); got {prediction.shape}")
            check_labels(y, prediction.shape[1])
        loss = recipe.loss(prediction, y[: loader.batch_size])
    if not isinstance(loss, Tensor):
        raise TypeError(f"the loss must be a Tensor of shape (); got {type(loss).__name__}")
    if loss.shape != ():
        raise ValueError(f"the loss must be one number, of shape (); got {loss.shape}")
    if not whole and _least_share(loader, ranks) == 1:
        _check_single(net, recipe, x[:1])
    return loader


def _least_share(loader: DataLoader, ranks: int) -> int:
    """The fewest samples of a batch that a rank trains on, if it has any."""
    last = 0 if loader.drop_last else len(loader.x) % loader.batch_size
    return min(max(1, size // ranks) for size in (loader.batch_size, last) if size)


def _check_single(net: Module, recipe: Recipe, x: Array) -> None:
    """Raise if training on one sample has nothing to normalise with."""

    def look(layer: Module, x: Tensor) -> Tensor:
        y = layer.forward(x)
        if isinstance(layer, BatchNorm2d):
            layer.require_values(x)
        return y

    if any(isinstance(module, BatchNorm2d) for _, module in net.named_modules()):
        with in_use(recipe.precision), observed(look):
            net(x)


def pair(validation_data: Any) -> tuple[Any, Any]:
    """Two, and if not an error that says so."""
    try:
        x, y = validation_data
    except (TypeError, ValueError):
        raise ValueError("validation_data must be a pair (x, y)") from None
    return x, y


def _as_array(a: Any, net: Module, name: str) -> Array:
    array = as_array(a.data if isinstance(a, Tensor) else a, name)
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must hold real numbers, got {array.dtype}")
    if not array.ndim:
        raise ValueError(f"{name} must have an axis of samples; it is one number")
    _, first = next(net.named_parameters(), (None, None))
    if first is not None:
        ops_for(array, first.data)  # raises where they are on different devices
    return array
