"""How a network is trained: an optimiser, a loss, a precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arguments import choice
from .autograd import Tensor
from .data import DataLoader
from .losses import cross_entropy, mse_loss
from .module import Module, Parameter
from .optim import Optimizer
from .scaling import LossScaler, clip_norm, clip_value
from .schedules import Constant, Schedule

__all__ = ["Loss", "Recipe", "recipe_for"]

Loss = Callable[[Tensor, Any], Tensor]
PRECISIONS = {"fp32": None, "fp64": None, "fp16-mixed": "fp16", "bf16-mixed": "bf16"}
"""What each is to `precision_scope`."""


def _labelled(logits: Tensor, labels: Any) -> Tensor:
    return cross_entropy(logits, labels, validate=False)  # checked before training begins


LOSSES: dict[str, Loss] = {"cross_entropy": _labelled, "mse": mse_loss}


@dataclass(frozen=True)
class Recipe:
    """What `Model.compile` was told.

    Attributes
    ----------
    optimizer : Optimizer
    loss : callable
    has_labels : bool
        Whether y are labels.
    keeps_integers : bool
        Whether whole numbers among y stay what they are.
    name : str
        The precision, as users say it.
    schedule : Schedule
    scaler : LossScaler or None
    capture : bool or "auto"
        Whether steps on a device are a graph.
    """

    optimizer: Optimizer
    loss: Loss
    has_labels: bool = False
    keeps_integers: bool = False
    name: str = "fp32"
    schedule: Schedule = field(default_factory=Constant)
    scaler: LossScaler | None = None
    capture: bool | str = "auto"

    @property
    def precision(self) -> str | None:
        """Of products, as `precision_scope` takes it."""
        return PRECISIONS[self.name]

    def check(self, net: Module) -> None:
        """Raise unless the optimiser is of the parameters of `net`, in a dtype that fits."""
        wanted = np.dtype(np.float64 if self.name == "fp64" else np.float32)
        for name, parameter in net.named_parameters():
            if parameter.dtype != wanted:
                raise TypeError(
                    f"precision={self.name!r} is for {wanted} parameters; {name} is "
                    f"{parameter.dtype}: see Module.to"
                )
        _check_places(net)
        mine, there = {*map(id, self.optimizer.parameters)}, net.parameters()
        trained = {id(p) for p in there if p.requires_grad}
        if not trained <= mine <= {*map(id, there)}:
            raise ValueError(
                f"the optimizer has {len(mine)} parameters, and they are not the {len(there)} of "
                f"the network, nor the {len(trained)} with requires_grad"
            )
        if not trained:
            raise ValueError("no parameter of the network has requires_grad: none is trained")

    def described(self, epoch: int) -> dict[str, Any]:
        """What ranks that train together must share, from this epoch of the schedule on."""
        start = self.optimizer.initial_lr
        return {
            "loss": getattr(self.loss, "__qualname__", type(self.loss)),
            "precision": self.name,
            "schedule": [self.schedule.rate(start, epoch + k) for k in range(50)],
        }

    def begin(self, loader: DataLoader, seed: int, epoch: int, since: int) -> None:
        """Set the learning rate, scheduled from epoch `since` on, and the order of the samples."""
        self.schedule.apply(self.optimizer, epoch - since)
        loader.rng = np.random.default_rng([seed, epoch])

    def backward(self, loss: Tensor) -> None:
        """Gradients, of the scaled loss if it is to be scaled."""
        (loss if self.scaler is None else self.scaler.scaled(loss)).backward()

    def update(self, max_norm: float | None, max_value: float | None) -> bool:
        """A step of the optimiser with clipped gradients; False if it was left out."""
        if self.scaler is not None:
            return self.scaler.step(self.optimizer, max_norm=max_norm, max_value=max_value)
        if max_norm is not None:
            clip_norm(self.optimizer.parameters, max_norm)
        if max_value is not None:
            clip_value(self.optimizer.parameters, max_value)
        self.optimizer.step()
        return True


def _check_places(net: Module) -> None:
    """Refuse parameters in containers that modules do not look into."""
    known = {*map(id, net.parameters())}
    for place, module in net.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, (list, tuple, dict)) and any(
                id(p) not in known for p in _contained(value)
            ):
                raise TypeError(
                    f"{place}{'.' if place else ''}{name} of {type(module).__name__} holds "
                    "parameters that would be neither trained nor saved: parameters are "
                    "attributes of modules, and modules attributes or in lists"
                )


def _contained(value: Any) -> Iterator[Parameter]:
    if isinstance(value, Parameter):
        yield value
    elif isinstance(value, Module):
        yield from value.parameters()
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _contained(item)


def recipe_for(
    net: Module, optimizer: Optimizer, loss: str | Loss, precision: str,
    schedule: Schedule | None, scaler: LossScaler | None, capture: bool | str = "auto",
) -> Recipe:  # fmt: skip
    """The recipe of options that make sense; those of `Model.compile`.

    Raises
    ------
    TypeError, ValueError
        They do not.
    """
    choice("precision", precision, tuple(PRECISIONS))
    if capture != "auto" and not isinstance(capture, bool):
        raise ValueError(f"capture must be one of auto, True, False; got {capture!r}")
    if not callable(loss):
        choice("loss", loss, tuple(LOSSES))
    for kind, option, value in (
        (Optimizer, "optimizer", optimizer), (Schedule, "schedule", schedule or Constant()),
        (LossScaler, "scaler", scaler or LossScaler()),
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise TypeError(
                f"{option} must be of class {kind.__name__}; got {type(value).__name__}"
            )
    is_scaled = precision == "fp16-mixed"
    if scaler is not None and not is_scaled:
        raise ValueError(f"scaler is for precision='fp16-mixed', not {precision!r}")
    has_labels = loss in ("cross_entropy", cross_entropy)
    recipe = Recipe(
        optimizer,
        LOSSES["cross_entropy"] if has_labels else loss if callable(loss) else LOSSES[loss],
        has_labels=has_labels,
        keeps_integers=has_labels or loss not in (*LOSSES, *LOSSES.values()),
        name=precision,
        schedule=schedule or Constant(),
        scaler=(scaler or LossScaler()) if is_scaled else None,
        capture=capture,
    )
    recipe.check(net)
    return recipe
