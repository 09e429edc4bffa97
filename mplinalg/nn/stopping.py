"""Early stopping: the best epoch so far, and how long ago it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from .autograd import Array
from .checks import count, number
from .module import Module

__all__ = ["Best"]


class Best:
    """The least loss of the epochs so far, and the parameters that had it.

    Attributes
    ----------
    loss : float or None
        None before the first epoch.
    waited : int
        Epochs since then.
    values : dict
        The state of the network, as its `state_dict` gave it.
    """

    def __init__(self) -> None:
        self.loss: float | None = None
        self.waited = 0
        self.values: Mapping[str, Array] = {}

    def observe(self, loss: float, net: Module) -> None:
        """Take note of an epoch."""
        if self.loss is None or loss < self.loss:
            self.loss, self.waited, self.values = loss, 0, net.state_dict()
        else:
            self.waited += 1

    def is_over(self, patience: int | None) -> bool:
        """Whether so many epochs passed since."""
        return patience is not None and self.waited >= patience

    def restore(self, net: Module) -> None:
        """Give `net` the best parameters, if there was an epoch."""
        if self.loss is not None:
            net.load_state_dict(self.values)

    def state_dict(self) -> dict[str, Any]:
        """The numbers, without `values`."""
        return {"loss": self.loss, "waited": self.waited}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], values: Mapping[str, Array]) -> Self:
        """What `state_dict` described.

        Raises
        ------
        ValueError
            It is something else.
        """
        best = cls()
        try:
            best.waited = count("waited", state["waited"], 0)
            if state["loss"] is not None:
                best.loss, best.values = number("loss", state["loss"], -float("inf")), values
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of early stopping: {error}") from None
        return best
