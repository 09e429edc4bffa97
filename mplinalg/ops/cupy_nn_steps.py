"""Training steps on a device that can be captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence

from ..kernels.cuda import stepping
from .nn_steps import Array

__all__ = ["CupySteps"]


class CupySteps:
    """`mplinalg.ops.nn_steps.StepOps` on CuPy arrays."""

    def recording(self) -> stepping.Recording:
        return stepping.Recording()

    def state(self, values: Sequence[float]) -> Array:
        return stepping.host_state(values)

    def take_rows(self, source: Array, order: Array | None, state: Array, target: Array) -> None:
        stepping.take_rows(source, order, state, target)

    def account(self, prediction: Array, labels: Array | None, loss: Array, state: Array) -> None:
        stepping.account(prediction, labels, loss, state)

    def verdict(
        self, gradients: Sequence[Array], state: Array, seed: Array, *, is_scaled: bool,
        rules: tuple[float, float, float], max_norm: float, betas: tuple[float, float],
    ) -> None:  # fmt: skip
        stepping.verdict(gradients, state, seed, is_scaled, rules, max_norm, betas)

    def update(
        self, name: str, tensors: Sequence[Sequence[Array]], state: Array, numbers: Sequence[float]
    ) -> None:
        stepping.update(name, tensors, state, numbers)
