"""Steps along running means of gradients, divided by those of their squares."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ...ops.nn_updates import UpdateOps
from ..checks import number
from .base import Array, Optimizer

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam, x -= lr m' / (sqrt(s') + eps).

    m and s are running means of g and g^2; m' = m / (1 - beta1^t) and s' = s / (1 - beta2^t) in
    step t, so that their start from zero does not show.

    Parameters
    ----------
    parameters : iterable
        As of `Optimizer`.
    lr : float, optional
        At least 0, as the others.
    betas : (float, float), optional
        Each in [0, 1): m <- beta1 m + (1 - beta1) g, and s with beta2.
    eps : float, optional
    weight_decay : float, optional
        ``g + weight_decay x`` stands for g.

    Raises
    ------
    TypeError, ValueError
        As `Optimizer`.

    References
    ----------
    Kingma and Ba, ICLR 2015, arXiv:1412.6980, algorithm 1.

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim
    >>> weight = Parameter([1.0])
    >>> optimizer = optim.Adam([weight], lr=0.1)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (weight * weight).sum().backward()
    ...     optimizer.step()
    >>> weight.data.round(4)
    array([0.8004])
    """

    _options = ("betas", "eps", "weight_decay")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise ValueError(f"betas must be two numbers; got {betas!r}") from None
        self.betas = (
            number("betas[0]", beta1, 0, 1, open_ends=")"),
            number("betas[1]", beta2, 0, 1, open_ends=")"),
        )
        self.eps = number("eps", eps)
        self.weight_decay = number("weight_decay", weight_decay)

    def _decays(self) -> tuple[float, float]:
        """What of x is added to g, and what x is multiplied by."""
        return self.weight_decay, 1.0

    def _update(
        self, ops: UpdateOps, x: Array, g: Array, arrays: dict[str, Array], count: int
    ) -> None:
        m, s = self._remembered(ops, x, arrays, "means", "squares")
        beta1, beta2 = self.betas
        decay, shrink = self._decays()
        ops.adam(
            x, g, m, s, lr=self.lr / (1 - beta1**count), decay=decay, shrink=shrink, eps=self.eps,
            beta1=beta1, beta2=beta2, root=math.sqrt(1 - beta2**count),
        )  # fmt: skip


class AdamW(Adam):
    """Adam with its weight decay apart, x <- (1 - lr weight_decay) x before the step.

    Parameters
    ----------
    parameters : iterable
        As of `Optimizer`.
    lr, betas, eps : optional
        As of `Adam`.
    weight_decay : float, optional

    Raises
    ------
    TypeError, ValueError
        As `Optimizer`.

    References
    ----------
    Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101, algorithm 2.

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim
    >>> weight = Parameter([1.0])
    >>> optimizer = optim.AdamW([weight], lr=0.1, weight_decay=0.5)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (weight * weight).sum().backward()
    ...     optimizer.step()
    >>> weight.data.round(4)
    array([0.7082])
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _decays(self) -> tuple[float, float]:
        return 0.0, 1.0 - self.lr * self.weight_decay
