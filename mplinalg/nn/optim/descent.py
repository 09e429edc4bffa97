"""Gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...ops.nn_updates import UpdateOps
from ..checks import number
from .base import Array, Optimizer

__all__ = ["GD", "SGD"]


class GD(Optimizer):
    """Gradient descent, x -= lr (g + weight_decay x).

    Parameters
    ----------
    parameters : iterable
        As of `Optimizer`.
    lr : float, optional
        At least 0, as all options here.
    weight_decay : float, optional

    Raises
    ------
    TypeError, ValueError
        As `Optimizer`.

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim
    >>> weight = Parameter([1.0])
    >>> optimizer = optim.GD([weight], lr=0.1)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (weight * weight).sum().backward()
    ...     optimizer.step()
    >>> weight.data.round(4)
    array([0.64])
    """

    _options: tuple[str, ...] = ("weight_decay",)

    def __init__(
        self, parameters: Iterable[Any], lr: float = 1e-3, *, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr)
        self.weight_decay = number("weight_decay", weight_decay)

    def _update(
        self, ops: UpdateOps, x: Array, g: Array, arrays: dict[str, Array], count: int
    ) -> None:
        ops.descend(x, g, lr=self.lr, decay=self.weight_decay)


class SGD(GD):
    """Gradient descent with momentum, v <- momentum v + g; x -= lr v.

    Here and in the other optimisers ``g + weight_decay x`` stands for g.

    Parameters
    ----------
    parameters : iterable
        As of `Optimizer`.
    lr : float, optional
        At least 0, as the others.
    momentum : float, optional
        0: no v is kept.
    nesterov : bool, optional
        x -= lr (g + momentum v) with the new v.
    weight_decay : float, optional

    Raises
    ------
    TypeError, ValueError
        As `Optimizer`; `nesterov` without momentum.

    Notes
    -----
    Those of `torch.optim.SGD` without dampening.

    References
    ----------
    Polyak, USSR Comput. Math. Math. Phys. 4 (1964) 1 (heavy ball). Sutskever, Martens, Dahl and
    Hinton, ICML 2013, section 2 (Nesterov's momentum in this form).

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim
    >>> weight = Parameter([1.0])
    >>> optimizer = optim.SGD([weight], lr=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (weight * weight).sum().backward()
    ...     optimizer.step()
    >>> weight.data.round(4)
    array([0.54])
    """

    _options = ("momentum", "nesterov", "weight_decay")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay=weight_decay)
        self.momentum = number("momentum", momentum)
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum greater than 0")

    def _update(
        self, ops: UpdateOps, x: Array, g: Array, arrays: dict[str, Array], count: int
    ) -> None:
        if not self.momentum:
            super()._update(ops, x, g, arrays, count)
            return
        (v,) = self._remembered(ops, x, arrays, "velocity")
        ops.descend_heavy(
            x, g, v, lr=self.lr, decay=self.weight_decay, beta=self.momentum, nesterov=self.nesterov
        )
