"""StepOps: a training step of which the host knows nothing until it asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Array = Any

__all__ = ["STATE", "Recording", "StepOps"]

STATE = (
    "loss", "right", "steps", "first_bad", "lr", "scale", "factor", "goes", "clean", "skipped",
    "norm", "count", "rate", "root", "stopped", "unused",
)  # fmt: skip
"""What the numbers of a state are, in order: totals of losses and of labels that are right; steps;
the first one whose loss was not finite, from 1; learning rate and loss scale; the factor of the
gradients, and whether this step is done; steps since the scale grew, and those left out; the norm;
updates that were done, and what they make of Adam's means; whether gradients were not finite at
the smallest scale."""


class Recording(Protocol):
    """Work that is done, or written down and repeated."""

    def inside(self) -> AbstractContextManager[None]:
        """Where it is to be done."""

    def record(self, work: Callable[[], Any]) -> None:
        """Write down what was done inside once before; raises what `work` raises."""

    def launch(self) -> None:
        """Do what was written down."""


class StepOps(Protocol):
    """A backend that can repeat a step: what changes is in `state`, float64, as `STATE` says."""

    def recording(self) -> Recording:
        """One with nothing in it."""

    def state(self, values: Sequence[float]) -> Array:
        """A state of these numbers."""

    def take_rows(self, source: Array, order: Array | None, state: Array, target: Array) -> None:
        """target <- rows of source: those from steps * len(target) on, of `order` if given."""

    def account(self, prediction: Array, labels: Array | None, loss: Array, state: Array) -> None:
        """Count the step with its loss and the labels that are largest in their rows."""

    def verdict(
        self, gradients: Sequence[Array], state: Array, seed: Array, *, is_scaled: bool,
        rules: tuple[float, float, float], max_norm: float, betas: tuple[float, float],
    ) -> None:  # fmt: skip
        """As `LossScaler.step`, of growth, backoff and interval; max_norm 0: none.

        seed becomes the next scale. Without a scale gradients that are not finite stop all.
        """

    def update(
        self, name: str, tensors: Sequence[Sequence[Array]], state: Array, numbers: Sequence[float]
    ) -> None:
        """Gradients, parameters and what is remembered, of one dtype, contiguous.

        "descend": decay, beta, whether Nesterov's, bound of entries (0: none). "adam": decay,
        decay apart, eps, both betas, bound.
        """
