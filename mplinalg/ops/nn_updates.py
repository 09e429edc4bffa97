"""The verbs of training: what a backend must be able to do with parameters and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Array = Any

__all__ = ["UpdateOps"]


class UpdateOps(Protocol):
    """A backend for the updates of optimisers.

    Arrays of one call have one shape and one dtype, float32 or float64, in any memory layout.
    x and what is remembered beside it are changed in place, g is only read. In all of them
    ``g + decay x`` stands for g.
    """

    @property
    def xp(self) -> Any:
        """The array namespace."""

    def descend(self, x: Array, g: Array, *, lr: float, decay: float) -> None:
        """x -= lr g."""

    def descend_heavy(
        self, x: Array, g: Array, v: Array, *, lr: float, decay: float, beta: float, nesterov: bool
    ) -> None:
        """v <- beta v + g; x -= lr v, or x -= lr (g + beta v) if `nesterov`."""

    def adagrad(self, x: Array, g: Array, s: Array, *, lr: float, decay: float, eps: float) -> None:
        """s += g^2; x -= lr g / (sqrt(s) + eps)."""

    def rmsprop(
        self, x: Array, g: Array, s: Array, m: Array | None, v: Array | None, *,
        lr: float, decay: float, eps: float, alpha: float, beta: float,
    ) -> None:  # fmt: skip
        """s <- alpha s + (1 - alpha) g^2; v <- beta v + g / (sqrt(s) + eps); x -= lr v.

        With m, the mean of the gradients, s - m^2 in the place of s; m asks for v. Without v,
        beta = 0.
        """

    def adadelta(
        self, x: Array, g: Array, s: Array, d: Array, *,
        lr: float, decay: float, eps: float, rho: float,
    ) -> None:  # fmt: skip
        """h = sqrt(d + eps) / sqrt(s + eps) g; x -= lr h; s, d: means of g^2 (first) and h^2."""

    def adam(
        self, x: Array, g: Array, m: Array, s: Array, *, lr: float, decay: float, shrink: float,
        eps: float, beta1: float, beta2: float, root: float,
    ) -> None:  # fmt: skip
        """x <- shrink x - lr m / (sqrt(s) / root + eps); m, s: means of g and g^2, first."""

    def scale(self, g: Array, factor: float) -> None:
        """g <- factor g."""

    def clamp(self, g: Array, bound: float) -> None:
        """g <- min(max(g, -bound), bound); NaN stays."""

    def sum_of_squares(self, arrays: Sequence[Array], factor: float = 1.0) -> float:
        """Of all entries, in double precision, after they are multiplied by `factor`, in place.

        The order of summation depends on the sizes only. NaN if there is a NaN.
        """
