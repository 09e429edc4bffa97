"""A network as it is used: judged and asked, not trained."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np

from ..errors import LinAlgError
from ..ops import ops_for
from .autograd import Array
from .data import DataLoader
from .history import Evaluation
from .module import Module
from .parallel import Alone
from .recipe import Recipe
from .scopes import no_grad, precision_scope, state
from .training import named_fault

__all__ = ["in_use", "judged", "predicted"]


@contextlib.contextmanager
def in_use(precision: str | None = None) -> Iterator[None]:
    """Layers as they are used, and no graph, in this thread; others may use or train them.

    Of what is not finite NumPy does not warn: it is in the result, and who cares looks there.
    """
    before, state.in_use = state.in_use, True
    try:
        with np.errstate(all="ignore"), no_grad(), precision_scope(precision):
            yield
    finally:
        state.in_use = before


def predicted(net: Module, x: Array, size: int, precision: str | None) -> Array:
    """What the network gives, in batches.

    Raises
    ------
    ValueError
        It does not give one result for each sample.
    """
    parts = []
    with in_use(precision):
        for k in range(0, max(len(x), 1), size):
            part = x[k : k + size]
            found = net(part).data
            if found.shape[:1] != part.shape[:1]:
                raise ValueError(
                    f"the network gives {found.shape} for x of shape {part.shape}, and not one "
                    "result for each sample"
                )
            parts.append(found)
    return ops_for(x).xp.concatenate(parts)


def judged(net: Module, recipe: Recipe, loader: DataLoader, ranks: Alone) -> Evaluation:
    """Means over the samples of a loader, of which this rank judges its shares.

    Raises
    ------
    LinAlgError
        A loss is not finite.
    """
    losses: list[float] = []
    seen = correct = 0
    with in_use(recipe.precision):
        for batch in loader:
            x, y = ranks.share(*batch)
            first, seen = seen, seen + len(batch[0])
            if not len(x):
                continue
            prediction = net(x)
            loss = float(recipe.loss(prediction, y).data)
            if not math.isfinite(loss):
                raise LinAlgError(
                    f"the loss of samples {first} to {seen - 1} is {loss}; "
                    + named_fault(net, x, y)
                )
            losses.append(loss * len(x))
            if recipe.has_labels:
                correct += int((prediction.data.argmax(axis=1) == y).sum())
    total, right = ranks.total(math.fsum(losses), correct)
    return Evaluation(total / seen, right / seen if recipe.has_labels else None)
