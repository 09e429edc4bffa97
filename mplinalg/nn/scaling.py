"""Gradients that overflow or grow too large: loss scaling, and clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..errors import LinAlgError
from ..ops import update_ops_for
from .checks import count, number
from .optim import Optimizer

Array = Any

__all__ = ["LossScaler", "clip_norm", "clip_value"]

_LARGEST, _SMALLEST = 2.0**127, 2.0**-24
"""Of scales: the last power of two in fp32; no gradient should need less than the other."""
_SAFE = 2.0**-960, math.inf
"""Sums of squares between these have lost nothing to underflow or overflow."""


class LossScaler:
    """A factor for the loss that keeps gradients in fp16 from underflow, and learns its size.

    The loss is multiplied by `scale` before it is differentiated. A step divides the gradients by
    it; if one of them is not finite, the step is left out and the scale reduced, and after
    `interval` steps without that it grows.

    Parameters
    ----------
    initial : float, optional
        The first scale.
    growth : float, optional
        At least 1.
    backoff : float, optional
        In (0, 1).
    interval : int, optional
        Steps without overflow that make the scale grow.

    Attributes
    ----------
    scale : float
    clean : int
        Steps in a row without overflow, since the scale grew.
    skipped : int
        Steps left out, in all.

    Raises
    ------
    TypeError, ValueError
        An option is not in its range.

    References
    ----------
    Micikevicius et al., ICLR 2018, arXiv:1710.03740, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import nn
    >>> net = nn.Linear(2, 3, rng=0)
    >>> optimizer, scaler = nn.optim.SGD(net.parameters(), lr=0.1), nn.LossScaler()
    >>> x, y = np.ones((4, 2), np.float32), np.array([0, 1, 2, 0])
    >>> with nn.precision_scope("fp16"):
    ...     scaler.scaled(nn.cross_entropy(net(x), y)).backward()
    >>> scaler.step(optimizer, max_norm=1.0)
    True

    A gradient that is not finite leaves the step out.

    >>> net.bias.grad[0] = np.inf
    >>> scaler.step(optimizer), scaler.scale, scaler.skipped
    (False, 32768.0, 1)
    """

    def __init__(
        self,
        initial: float = 65536.0,
        *,
        growth: float = 2.0,
        backoff: float = 0.5,
        interval: int = 2000,
    ) -> None:
        self.scale = number("initial", initial, _SMALLEST, _LARGEST)
        self.growth = number("growth", growth, 1)
        self.backoff = number("backoff", backoff, 0, 1, open_ends="()")
        self.interval = count("interval", interval)
        self.clean = self.skipped = 0

    def scaled(self, loss: Any) -> Any:
        """The loss times `scale`: what is to be differentiated.

        Parameters
        ----------
        loss : Tensor

        Returns
        -------
        Tensor
        """
        return loss * self.scale

    def step(
        self, optimizer: Optimizer, *, max_norm: float | None = None, max_value: float | None = None
    ) -> bool:
        """Unscale the gradients, look whether all are finite, clip, update, adapt the scale.

        Parameters
        ----------
        optimizer : Optimizer
            With the gradients of a `scaled` loss; they are changed in place.
        max_norm, max_value : float, optional
            As of `clip_norm` and `clip_value`.

        Returns
        -------
        bool
            False if the step was left out.

        Raises
        ------
        LinAlgError
            Gradients are not finite however small the scale is.
        """
        # one pass over the gradients scales them and sums up their squares
        _make_own(optimizer.parameters)
        total = _total(optimizer.parameters, 1.0 / self.scale)
        is_finite = math.isfinite(total)
        if is_finite:
            if max_norm is not None:
                clip_norm(optimizer.parameters, max_norm, norm=total)
            if max_value is not None:
                clip_value(optimizer.parameters, max_value)
            optimizer.step()
        self.update(is_finite)
        return is_finite

    def update(self, is_finite: bool) -> None:
        """Adapt the scale after a step.

        Parameters
        ----------
        is_finite : bool
            Whether all its gradients were.

        Raises
        ------
        LinAlgError
            As of `step`.
        """
        if not is_finite:
            self.skipped += 1
            self.clean = 0
            if self.scale * self.backoff < _SMALLEST:
                raise LinAlgError(
                    f"gradients are not finite at a loss scale of {self.scale:.3g} either, after "
                    f"{self.skipped} steps left out: the loss or the parameters have diverged"
                )
            self.scale *= self.backoff
            return
        self.clean += 1
        if self.clean >= self.interval:  # of a state that was loaded, also beyond
            self.clean = 0
            self.scale = min(self.scale * self.growth, _LARGEST)

    def state_dict(self) -> dict[str, Any]:
        """All that later steps depend on.

        Returns
        -------
        dict of str to number
        """
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises
        ------
        ValueError, TypeError
            It is not of a scaler; nothing is changed then.
        """
        if not isinstance(state, dict) or set(state) != set(vars(self)):
            raise ValueError("not the state of a LossScaler")
        options = {name: state[name] for name in ("growth", "backoff", "interval")}
        new = LossScaler(state["scale"], **options)
        new.clean = count("clean", state["clean"], 0)
        new.skipped = count("skipped", state["skipped"], 0)
        self.__dict__.update(vars(new))


def clip_norm(parameters: Iterable[Any], max_norm: float, *, norm: float | None = None) -> float:
    """Shorten the gradients, taken as one vector, to a length of at most `max_norm`.

    Parameters
    ----------
    parameters : iterable
        With arrays ``.grad``, or None, which are changed in place.
    max_norm : float
        Greater than 0.
    norm : float, optional
        The length, if it is known.

    Returns
    -------
    float
        The length before, in the 2-norm, computed in double precision.

    Raises
    ------
    LinAlgError
        A gradient is not finite; nothing is changed then.

    Notes
    -----
    The factor is max_norm / (norm + 1e-6), as of `torch.nn.utils.clip_grad_norm_`.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import Parameter, clip_norm
    >>> weight = Parameter([0.0, 0.0])
    >>> weight.grad = np.array([3.0, 4.0])
    >>> clip_norm([weight], 1.0)
    5.0
    >>> weight.grad.round(4)
    array([0.6, 0.8])
    """
    max_norm = number("max_norm", max_norm, open_ends="(")
    listed = list(parameters)
    if norm is None:
        norm = _total(listed, 1.0)
    if not math.isfinite(norm):
        raise LinAlgError(f"gradients cannot be clipped to a norm: {_culprit(listed)}")
    factor = max_norm / (norm + 1e-6)
    if factor < 1:
        _make_own(listed)
        for g in _gradients(listed):
            update_ops_for(g).scale(g, factor)
    return norm


def clip_value(parameters: Iterable[Any], max_value: float) -> None:
    """Bring every entry of the gradients into [-max_value, max_value]; NaN stays.

    Parameters
    ----------
    parameters : iterable
        As of `clip_norm`.
    max_value : float
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        `max_value` is not in its range.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import Parameter, clip_value
    >>> weight = Parameter([0.0, 0.0])
    >>> weight.grad = np.array([3.0, -0.5])
    >>> clip_value([weight], 1.0)
    >>> weight.grad
    array([ 1. , -0.5])
    """
    bound = number("max_value", max_value, open_ends="(")
    listed = list(parameters)
    _make_own(listed)
    for g in _gradients(listed):
        update_ops_for(g).clamp(g, bound)


def _make_own(parameters: Iterable[Any]) -> None:
    """Copies of gradients that are one array for several parameters, or read-only."""
    seen = set()
    for p in parameters:
        if p.grad is None:
            continue
        if id(p.grad) in seen or not getattr(p.grad.flags, "writeable", True):
            p.grad = p.grad.copy()
        seen.add(id(p.grad))


def _gradients(parameters: Iterable[Any]) -> list[Array]:
    return [p.grad for p in parameters if p.grad is not None]


def _total(parameters: Iterable[Any], factor: float) -> float:
    """The norm of the gradients, after they are multiplied by `factor`; not finite as they are."""
    gradients = _gradients(parameters)
    if not gradients:
        return 0.0
    ops = update_ops_for(*gradients)
    total = ops.sum_of_squares(gradients, factor)
    if math.isnan(total) or _SAFE[0] < total < _SAFE[1]:
        return math.sqrt(total)
    # squares left the range of fp64: once more, with the largest entry for unit
    largest = max((float(abs(g).max()) for g in gradients if g.size), default=0.0)
    if not math.isfinite(largest) or largest == 0.0:
        return largest
    return largest * math.sqrt(sum(float(((g / largest) ** 2).sum()) for g in gradients))


def _culprit(parameters: list[Any]) -> str:
    """Which gradient is not finite."""
    for k, p in enumerate(parameters):
        if p.grad is not None and not bool(update_ops_for(p.grad).xp.isfinite(p.grad).all()):
            name = getattr(p, "name", None)
            which = f"parameter {name!r}" if name else f"parameter {k}"
            return f"that of {which}, shape {p.grad.shape}, is not finite"
    return "they are too large"
