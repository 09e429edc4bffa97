"""Learning rates by epoch, or by step: whatever the caller counts from 0.

A schedule is a formula and does not count itself. `Schedule.apply` sets the rate of an optimiser
from its `initial_lr`; to go on with training it is enough to know the epoch. The exception is
`ReduceOnPlateau`, which has to be told what was measured and has a state.
"""

from __future__ import annotations

import math
from typing import Any

from ..arguments import choice
from .checks import count, number
from .optim import Optimizer

__all__ = [
    "Constant", "Cosine", "Exponential", "ReduceOnPlateau", "Schedule", "Step", "WarmUp",
]  # fmt: skip


class Schedule:
    """A learning rate that changes; the base of all schedules.

    Examples
    --------
    >>> from mplinalg.nn import Parameter, optim, schedules
    >>> optimizer = optim.SGD([Parameter([1.0])], lr=0.1)
    >>> schedules.Step(every=10, factor=0.5).apply(optimizer, epoch=25)
    >>> optimizer.lr
    0.025
    """

    def rate(self, initial: float, epoch: int) -> float:
        """The learning rate of an epoch, if that of the optimiser is `initial`.

        Parameters
        ----------
        initial : float
        epoch : int
            From 0.

        Returns
        -------
        float
        """
        raise NotImplementedError

    def apply(self, optimizer: Optimizer, epoch: int) -> None:
        """Set the learning rate of `optimizer` for an epoch.

        Parameters
        ----------
        optimizer : Optimizer
        epoch : int
            From 0.
        """
        optimizer.set_rate(self.rate(optimizer.initial_lr, count("epoch", epoch, 0)))

    def observe(self, value: float) -> None:
        """Take note of what an epoch ended with, such as the loss.

        Parameters
        ----------
        value : float
        """

    def state_dict(self) -> dict[str, Any]:
        """What `rate` depends on beside its arguments and options.

        Returns
        -------
        dict
            Of numbers and text.
        """
        return {"kind": type(self).__name__}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises
        ------
        ValueError
            It is not of this class; nothing is changed then.
        """
        if not isinstance(state, dict) or state.get("kind") != type(self).__name__:
            raise ValueError(f"not the state of a schedule {type(self).__name__}")


class Constant(Schedule):
    """The initial rate."""

    def rate(self, initial: float, epoch: int) -> float:
        return initial


class Step(Schedule):
    """``initial * factor**(epoch // every)``.

    Parameters
    ----------
    every : int
        At least 1.
    factor : float, optional
        At least 0.

    Raises
    ------
    TypeError, ValueError
        An option is not in its range: of all schedules.

    Examples
    --------
    >>> from mplinalg.nn import schedules
    >>> [schedules.Step(2, 0.5).rate(1.0, epoch) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, every: int, factor: float = 0.1) -> None:
        self.every, self.factor = count("every", every), number("factor", factor)

    def rate(self, initial: float, epoch: int) -> float:
        return initial * _power(self.factor, epoch // self.every)


class Exponential(Schedule):
    """``initial * factor**epoch``.

    Parameters
    ----------
    factor : float
    """

    def __init__(self, factor: float) -> None:
        self.factor = number("factor", factor)

    def rate(self, initial: float, epoch: int) -> float:
        return initial * _power(self.factor, epoch)


def _power(factor: float, times: int) -> float:
    """Infinite where it is too large, which optimisers refuse."""
    try:
        return factor**times
    except OverflowError:
        return math.inf


class Cosine(Schedule):
    """From the initial rate to `lowest` along half a cosine in `epochs` epochs, and there it stays.

    Parameters
    ----------
    epochs : int
        At least 1.
    lowest : float, optional

    References
    ----------
    Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983, equation 5, without restarts.

    Examples
    --------
    >>> from mplinalg.nn import schedules
    >>> [round(schedules.Cosine(4).rate(1.0, epoch), 3) for epoch in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    def __init__(self, epochs: int, lowest: float = 0.0) -> None:
        self.epochs, self.lowest = count("epochs", epochs), number("lowest", lowest)

    def rate(self, initial: float, epoch: int) -> float:
        way = min(epoch, self.epochs) / self.epochs
        return self.lowest + (initial - self.lowest) * (1 + math.cos(math.pi * way)) / 2


class WarmUp(Schedule):
    """From ``start * initial`` to the initial rate along a line; then another schedule.

    Parameters
    ----------
    epochs : int
        Of the line, at least 1: epoch `epochs` has the initial rate.
    start : float, optional
        In [0, 1].
    after : Schedule, optional
        Its epochs count from the end of the line.

    References
    ----------
    Goyal et al., arXiv:1706.02677 (2017), section 2.2.

    Examples
    --------
    >>> from mplinalg.nn import schedules
    >>> schedule = schedules.WarmUp(2, start=0.0, after=schedules.Exponential(0.5))
    >>> [schedule.rate(1.0, epoch) for epoch in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.25]
    """

    def __init__(self, epochs: int, start: float = 0.1, after: Schedule | None = None) -> None:
        self.epochs, self.start = count("epochs", epochs), number("start", start, 0, 1)
        if not isinstance(after, Schedule | None):
            raise TypeError(f"after must be a Schedule; got {after!r}")
        self.after = Constant() if after is None else after

    def rate(self, initial: float, epoch: int) -> float:
        if epoch >= self.epochs:
            return self.after.rate(initial, epoch - self.epochs)
        return initial * (self.start + (1 - self.start) * epoch / self.epochs)

    def observe(self, value: float) -> None:
        self.after.observe(value)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "after": self.after.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.after.load_state_dict(state.get("after", {}))


class ReduceOnPlateau(Schedule):
    """The rate times `factor` whenever what is observed has not improved for `patience` epochs.

    Parameters
    ----------
    mode : {"min", "max"}, optional
        Whether less or more is an improvement.
    factor : float, optional
        In [0, 1).
    patience : int, optional
        One epoch more without improvement reduces the rate.
    threshold : float, optional
        An improvement is larger than it, times the best value if `relative`.
    relative : bool, optional
    cooldown : int, optional
        Epochs after a reduction that are not counted.
    lowest : float, optional
        The rate stays at least there.

    Notes
    -----
    As `torch.optim.lr_scheduler.ReduceLROnPlateau`; NaN is no improvement.

    Examples
    --------
    >>> from mplinalg.nn import schedules
    >>> schedule = schedules.ReduceOnPlateau(patience=1)
    >>> for loss in (1.0, 0.5, 0.6, 0.5):
    ...     schedule.observe(loss)
    >>> schedule.rate(1.0, epoch=4)
    0.1
    """

    def __init__(
        self,
        *,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        relative: bool = True,
        cooldown: int = 0,
        lowest: float = 0.0,
    ) -> None:
        choice("mode", mode, ("min", "max"))
        self.mode = mode
        self.factor = number("factor", factor, 0, 1, open_ends=")")
        self.patience = count("patience", patience, 0)
        self.threshold = number("threshold", threshold)
        self.relative = bool(relative)
        self.cooldown = count("cooldown", cooldown, 0)
        self.lowest = number("lowest", lowest)
        self._best = math.inf if mode == "min" else -math.inf
        self._bad = self._cooling = self._reductions = 0

    def rate(self, initial: float, epoch: int) -> float:
        return max(initial * self.factor**self._reductions, min(self.lowest, initial))

    def observe(self, value: float) -> None:
        value = float(value)
        if self._is_better(value):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._cooling:
            self._cooling -= 1
            self._bad = 0
        if self._bad > self.patience:
            self._reductions += 1
            self._cooling, self._bad = self.cooldown, 0

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if not self.relative:
            return sign * value > sign * (self._best + sign * self.threshold)
        return sign * value > sign * self._best * (1 + sign * self.threshold)

    def state_dict(self) -> dict[str, Any]:
        own = {"best": self._best, "bad": self._bad, "cooling": self._cooling}
        return {**super().state_dict(), **own, "reductions": self._reductions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        try:
            best = float(state["best"])
            counts = [count(name, state[name], 0) for name in ("bad", "cooling", "reductions")]
        except (KeyError, TypeError):
            raise ValueError("not the state of a schedule ReduceOnPlateau") from None
        self._best, (self._bad, self._cooling, self._reductions) = best, counts
