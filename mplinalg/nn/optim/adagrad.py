"""Steps divided by the gradients so far."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ...ops import update_ops_for
from ...ops.nn_updates import UpdateOps
from ..checks import number
from .base import Array, Optimizer

__all__ = ["Adagrad", "AdagradNorm"]


class Adagrad(Optimizer):
    """Adagrad, s += g^2; x -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps) in step t.

    Parameters
    ----------
    parameters : iterable
        As of `Optimizer`.
    lr : float, optional
        At least 0, as the others.
    lr_decay, weight_decay, eps : float, optional

    Raises
    ------
    TypeError, ValueError
        As `Optimizer`.

    References
    ----------
    Duchi, Hazan and Singer, J. Mach. Learn. Res. 12 (2011) 2121.

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim
    >>> weight = Parameter([1.0])
    >>> optimizer = optim.Adagrad([weight], lr=0.1)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (weight * weight).sum().backward()
    ...     optimizer.step()
    >>> weight.data.round(4)
    array([0.8331])
    """

    _options = ("lr_decay", "weight_decay", "eps")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-2,
        *,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(parameters, lr)
        self.lr_decay = number("lr_decay", lr_decay)
        self.weight_decay = number("weight_decay", weight_decay)
        self.eps = number("eps", eps)

    def _update(
        self, ops: UpdateOps, x: Array, g: Array, arrays: dict[str, Array], count: int
    ) -> None:
        (s,) = self._remembered(ops, x, arrays, "squares")
        lr = self.lr / (1 + (count - 1) * self.lr_decay)
        ops.adagrad(x, g, s, lr=lr, decay=self.weight_decay, eps=self.eps)


class AdagradNorm(Optimizer):
    """Adagrad's form with one number, x -= lr g / sqrt(eps + sum of ||g||^2 over the steps so far).

    The norm is that of all gradients of the step together.

    Parameters
    ----------
    parameters : iterable
        As of `Optimizer`.
    lr : float, optional
        At least 0.
    eps : float, optional
        Greater than 0.
    total : float, optional
        The sum to start from.

    Raises
    ------
    TypeError, ValueError
        As `Optimizer`.

    References
    ----------
    Ward, Wu and Bottou, J. Mach. Learn. Res. 21 (2020) 219, algorithm 1.

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim
    >>> weight = Parameter([1.0])
    >>> optimizer = optim.AdagradNorm([weight], lr=0.1)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (weight * weight).sum().backward()
    ...     optimizer.step()
    >>> weight.data.round(4)
    array([0.8331])
    """

    _options = ("eps", "total")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-2,
        *,
        eps: float = 1e-8,
        total: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        self.eps = number("eps", eps, open_ends="(")
        self.total = number("total", total)

    def _prepare(self, gradients: list[Array]) -> None:
        if gradients:
            self.total += update_ops_for(*gradients).sum_of_squares(gradients)

    def _update(
        self, ops: UpdateOps, x: Array, g: Array, arrays: dict[str, Array], count: int
    ) -> None:
        ops.descend(x, g, lr=self.lr / math.sqrt(self.eps + self.total), decay=0.0)
