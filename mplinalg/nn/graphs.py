"""Epochs of training, by a CUDA graph where that can be; and why it cannot elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..ops import is_on_host
from ..ops.dispatch import step_ops_for
from .captured import CapturedTraining, NoGradient, key_of
from .data import DataLoader
from .layers import Dropout
from .losses import mse_loss
from .module import Module, own_generators
from .optim import GD, SGD, Adam, AdamW
from .parallel import Alone
from .recipe import Recipe
from .scaling import LossScaler
from .training import train_epoch

__all__ = ["Graphs"]

_OPTIMIZERS = (GD, SGD, Adam, AdamW)
_OWN = __name__.rpartition(".")[0]


class Graphs:
    """Epochs by graphs where that can be; a graph is kept as long as it is that of the steps.

    Attributes
    ----------
    note : str
        Why the steps of the last epoch were no graph; "" if they were, or there was none yet.
    """

    def __init__(self) -> None:
        self.note = ""
        self._last: CapturedTraining | None = None

    def epoch(
        self, net: Module, recipe: Recipe, loader: DataLoader, epoch: int,
        max_norm: float | None, max_value: float | None, ranks: Alone,
        advance: Callable[[int], Any],
    ) -> dict[str, Any]:  # fmt: skip
        """As `train_epoch`, and the row has ``seconds``, and of a graph ``captured``.

        With ``recipe.capture`` True, layers and losses that this library does not know are
        captured, too: what they do on the host is then done once.

        Raises
        ------
        LinAlgError
            As of `train_epoch`; by a graph, the network is as it was before this step.
        ValueError
            ``recipe.capture`` is True, but cannot be; says why.
        """
        began = time.perf_counter()
        self.note = _obstacle(net, recipe, loader, ranks, max_norm)
        row = None
        if not self.note:
            row = self._captured(net, recipe, loader, epoch, max_norm, max_value, advance)
        if row is None:
            self._last = None
            if recipe.capture is True and not is_on_host(loader.x):
                raise ValueError(f"capture=True: {self.note}")
            row = train_epoch(
                net, recipe, loader, epoch, max_norm=max_norm, max_value=max_value, ranks=ranks,
                advance=advance,
            )  # fmt: skip
        return row | {"seconds": time.perf_counter() - began, "lr": recipe.optimizer.lr}

    def _captured(
        self, net: Module, recipe: Recipe, loader: DataLoader, epoch: int,
        max_norm: float | None, max_value: float | None, advance: Callable[[int], Any],
    ) -> dict[str, Any] | None:  # fmt: skip
        """None: there is a reason against it after all, and nothing was done."""
        if self._last is None or self._last.key != key_of(net, recipe, loader, max_norm, max_value):
            self._last = None  # its memory first
            self._last = CapturedTraining(net, recipe, loader, max_norm, max_value)
        before = loader.rng.bit_generator.state
        try:
            return self._last.epoch(loader, epoch, advance)
        except NoGradient as reason:  # in the first step, before anything is changed
            self.note, loader.rng.bit_generator.state = str(reason), before
            return None
        finally:
            self.note = self.note or self._last.note


def _obstacle(
    net: Module, recipe: Recipe, loader: DataLoader, ranks: Alone, max_norm: float | None
) -> str:
    """Why there can be no graph, or ""."""
    optimizer, is_asked = recipe.optimizer, recipe.capture is True
    arrays = [p.data for p in optimizer.parameters]
    if recipe.capture is False:
        return "capture=False"
    if is_on_host(loader.x):
        return "the data are on the host"
    if ranks.size > 1:
        return "several ranks train together, and add up their gradients in each step"
    if step_ops_for(loader.x, *arrays) is None or loader.y is None:
        return "the data are not on a device that takes the kernels of training"
    if "step" in vars(optimizer) or type(recipe.scaler) not in (type(None), LossScaler):
        return "the optimiser's step, or the scaler, is not this library's"
    if type(optimizer) not in _OPTIMIZERS:
        known = ", ".join(kind.__name__ for kind in _OPTIMIZERS)
        return f"updates of {type(optimizer).__name__} are not captured; those of {known} are"
    if len({a.dtype for a in arrays}) > 1 or not all(a.flags.c_contiguous for a in arrays):
        return "parameters are of several dtypes, or not contiguous"
    if max_norm is not None and arrays[0].dtype.char != "f":
        return "norms of gradients in double precision may overflow where they are not looked at"
    if loader.transform is not None or len(loader.x) < 2 * loader.batch_size:
        return "there is no second batch of the same size"
    if len(set(optimizer.memory()[1])) > 1:
        return "parameters were updated unequally often"
    for name, module in net.named_modules():
        if own_generators(module) and not (isinstance(module, Dropout) and module.p == 0):
            return f"layer {name}, {module!r}, draws new numbers in each step"
        if any(getattr(module, buffer) is not None for buffer in module.buffers):
            return f"layer {name}, {module!r}, renews its buffers in each step"
        if getattr(module, "algorithm", None) == "fft":
            return f"layer {name}, {module!r}, transforms by plans that others may have replaced"
        if not is_asked and not type(module).__module__.startswith(f"{_OWN}."):
            return f"layer {name}, {module!r}, is not one of this library's; see capture=True"
    if not (is_asked or recipe.has_labels or recipe.loss is mse_loss):
        return "the loss is not one of this library's; see capture=True"
    return ""
