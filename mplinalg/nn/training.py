"""One epoch of training: steps over batches, each checked before it changes anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import LinAlgError
from ..ops import is_on_host, ops_for
from ..ops.dispatch import nn_ops_for
from .autograd import Array
from .data import DataLoader
from .faults import first_not_finite
from .module import Module, generators
from .parallel import Alone
from .recipe import Recipe
from .scopes import no_grad, precision_scope

__all__ = ["bad_loss", "check_parameters", "named_fault", "train_epoch"]

_LOOK = 50
"""Steps on a device between looks at their losses, which wait for it."""


def train_epoch(
    net: Module, recipe: Recipe, loader: DataLoader, epoch: int, *,
    max_norm: float | None = None, max_value: float | None = None,
    ranks: Alone, advance: Callable[[int], Any] = lambda _: None,
) -> dict[str, float]:  # fmt: skip
    """Train on this rank's shares of all batches of a loader, and return the row of the history.

    Raises
    ------
    LinAlgError
        A loss is not finite; on the host, before its step changes anything. Or a parameter is not
        finite in the end.
    """
    net.train()
    waits = not is_on_host(loader.x)
    losses = _Losses(net, epoch, _LOOK if waits else 1)
    buffers = [] if waits else [place for _, place in net.named_buffers()]
    correct: Any = 0
    skipped = 0
    latest = loader.x[:0], None
    alike: list[Any] = [module for _, module in net.named_modules() if module.draws_alike]
    with ranks.drawing(generators(net, apart=True).values()), nn_ops_for(loader.x).in_a_row():
        for batch in loader:
            x, y = ranks.share(*batch)
            recipe.optimizer.zero_grad()
            # what is not finite is looked for, so that NumPy need not warn of it
            with np.errstate(all="ignore"), precision_scope(recipe.precision):
                if len(x):  # of a small batch, a rank may have nothing
                    latest = x, y
                    before = [getattr(*place).copy() for place in buffers]
                    prediction = net(x)
                    loss = recipe.loss(prediction, y)
                    try:
                        losses.add(loss.data, x, y)
                    except LinAlgError:
                        for place, value in zip(buffers, before, strict=True):
                            setattr(*place, value)
                        raise
                    recipe.backward(loss)
                    if recipe.has_labels:
                        correct = correct + (prediction.data.argmax(axis=1) == y).sum()
                else:
                    for module in alike:
                        module.draw()
                ranks.average(len(x) / len(batch[0]))
                skipped += not recipe.update(max_norm, max_value)
            advance(1)
    with precision_scope(recipe.precision):
        losses.look(*latest)
    total, right, samples = ranks.total(losses.total(), int(correct), losses.samples)
    ranks.unite(net, losses.samples / samples)
    check_parameters(net, epoch)
    row = {"loss": total / samples}
    if recipe.has_labels:
        row["accuracy"] = right / samples
    if recipe.scaler is not None:
        row |= {"skipped": skipped, "scale": recipe.scaler.scale}
    return row


def check_parameters(net: Module, epoch: int) -> None:
    """Raise unless all are finite; on a device, wait for it once."""
    named = list(net.named_parameters())
    xp = ops_for(*(parameter.data for _, parameter in named)).xp
    are_finite = xp.stack([xp.isfinite(parameter.data).all() for _, parameter in named]).tolist()
    for (name, _), is_finite in zip(named, are_finite, strict=True):
        if not is_finite:
            raise LinAlgError(
                f"{name} is not finite after epoch {epoch + 1}, while the last loss was: the "
                "gradients are not, or the learning rate is too large"
            )


class _Losses:
    """The losses of an epoch, looked at some steps at a time."""

    def __init__(self, net: Module, epoch: int, every: int) -> None:
        self.net, self.epoch, self.every = net, epoch, every
        self.samples = 0
        self._sums: list[float] = []
        self._waiting: list[tuple[Array, int]] = []

    def add(self, loss: Array, x: Array, y: Array) -> None:
        """That of a step on the batch x, y."""
        self._waiting.append((loss, len(x)))
        if len(self._waiting) == self.every:
            self.look(x, y)

    def look(self, x: Array, y: Array) -> None:
        """Fetch those that wait; x and y are the latest batch."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        values = [loss for loss, _ in waiting]
        found = [float(values[0])] if len(values) == 1 else ops_for(x).xp.stack(values).tolist()
        for k, (value, (_, count)) in enumerate(zip(found, waiting, strict=True)):
            if not math.isfinite(value):
                late = len(found) - 1 - k
                raise bad_loss(self.net, value, len(self._sums), self.epoch, x, y, late)
            self._sums.append(value * count)
            self.samples += count

    def total(self) -> float:
        """Summed over all samples."""
        return math.fsum(self._sums)


def bad_loss(
    net: Module, value: float, step: int, epoch: int, x: Array, y: Array, late: int = 0
) -> LinAlgError:
    """The error of a loss that is not finite; steps and epochs count from 0."""
    return LinAlgError(
        f"the loss is {value} in step {step + 1} of epoch {epoch + 1}; "
        + (f"{late} steps later, when it was looked at, " if late else "")
        + named_fault(net, x, y)
    )


def named_fault(net: Module, x: Array, y: Array) -> str:
    """Where NaN or infinity comes from, to say in a message."""
    with no_grad():
        where = first_not_finite(net, x)
    if where is not None:
        return f"first in {where}"
    is_known = y.dtype.kind != "f" or bool(ops_for(y).xp.isfinite(y).all())
    return "its layers are finite" if is_known else "first in the targets"
