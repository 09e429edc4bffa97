"""Steps divided by running means of squared gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...ops.nn_updates import UpdateOps
from ..checks import number
from .base import Array, Optimizer

__all__ = ["Adadelta", "RMSprop"]


class RMSprop(Optimizer):
    """RMSprop, s <- alpha s + (1 - alpha) g^2; x -= lr g / (sqrt(s) + eps).

    Parameters
    ----------
    parameters : iterable
        As of `Optimizer`.
    lr : float, optional
        At least 0, as the others.
    alpha : float, optional
        In [0, 1].
    eps, weight_decay : float, optional
    momentum : float, optional
        v <- momentum v + g / (sqrt(s) + eps); x -= lr v.
    centered : bool, optional
        The variance s - m^2, with m the running mean of g, in the place of s; where rounding makes
        it negative, zero.

    Raises
    ------
    TypeError, ValueError
        As `Optimizer`.

    References
    ----------
    Tieleman and Hinton, Neural Networks for Machine Learning, lecture 6.5 (2012). Graves,
    arXiv:1308.0850 (2013), equations 38 to 45 (centred).

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim
    >>> weight = Parameter([1.0])
    >>> optimizer = optim.RMSprop([weight], lr=0.01)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (weight * weight).sum().backward()
    ...     optimizer.step()
    >>> weight.data.round(4)
    array([0.8329])
    """

    _options = ("alpha", "eps", "weight_decay", "momentum", "centered")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        self.alpha = number("alpha", alpha, 0, 1)
        self.eps = number("eps", eps)
        self.weight_decay = number("weight_decay", weight_decay)
        self.momentum = number("momentum", momentum)
        self.centered = bool(centered)

    def _update(
        self, ops: UpdateOps, x: Array, g: Array, arrays: dict[str, Array], count: int
    ) -> None:
        (s,) = self._remembered(ops, x, arrays, "squares")
        m = v = None
        if self.centered:
            m, v = self._remembered(ops, x, arrays, "means", "velocity")
        elif self.momentum:
            (v,) = self._remembered(ops, x, arrays, "velocity")
        ops.rmsprop(
            x, g, s, m, v, lr=self.lr, decay=self.weight_decay, eps=self.eps, alpha=self.alpha,
            beta=self.momentum,
        )  # fmt: skip


class Adadelta(Optimizer):
    """Adadelta, x -= lr h with h = sqrt(d + eps) / sqrt(s + eps) g.

    s and d are the running means of g^2, that of this step included, and of h^2 before it.

    Parameters
    ----------
    parameters : iterable
        As of `Optimizer`.
    lr : float, optional
        At least 0, as the others.
    rho : float, optional
        In [0, 1]: the means are s <- rho s + (1 - rho) g^2.
    eps : float, optional
        Greater than 0, without which there would be no first step.
    weight_decay : float, optional

    Raises
    ------
    TypeError, ValueError
        As `Optimizer`.

    References
    ----------
    Zeiler, arXiv:1212.5701 (2012), algorithm 1.

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim
    >>> weight = Parameter([1.0])
    >>> optimizer = optim.Adadelta([weight])
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (weight * weight).sum().backward()
    ...     optimizer.step()
    >>> weight.data.round(4)
    array([0.9936])
    """

    _options = ("rho", "eps", "weight_decay")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1.0,
        *,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        self.rho = number("rho", rho, 0, 1)
        self.eps = number("eps", eps, open_ends="(")
        self.weight_decay = number("weight_decay", weight_decay)

    def _update(
        self, ops: UpdateOps, x: Array, g: Array, arrays: dict[str, Array], count: int
    ) -> None:
        s, d = self._remembered(ops, x, arrays, "squares", "changes")
        ops.adadelta(x, g, s, d, lr=self.lr, decay=self.weight_decay, eps=self.eps, rho=self.rho)
