"""Optimisers that hold masks."""

from __future__ import annotations

import copy
from typing import Any, Self

from ...ops import ops_for
from ..optim import Optimizer
from .masks import Masks

Array = Any

__all__ = ["Masked", "Wrapper"]

_OWN = "prune."


class Wrapper(Optimizer):
    """An optimiser that does something beside the steps of another one, `inner`.

    In place of `inner` in all respects: its parameters and its rate are those of `inner`.
    Subclasses define what they keep.
    """

    def __init__(self, inner: Optimizer) -> None:
        if not isinstance(inner, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer, got {type(inner).__name__}")
        self.inner = inner
        self.parameters = inner.parameters

    @property
    def lr(self) -> float:
        """The learning rate of `inner`."""
        return self.inner.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.inner.lr = value

    @property
    def initial_lr(self) -> float:  # type: ignore[override]
        """What schedules start from."""
        return self.inner.initial_lr

    def set_rate(self, lr: float) -> None:
        """Set `lr` and leave `initial_lr`."""
        self.inner.set_rate(lr)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    # -- what it keeps ---------------------------------------------------------------------------

    def _kept(self) -> dict[str, Array]:
        """Arrays by name, which are changed in place."""
        raise NotImplementedError

    def _numbers(self) -> dict[str, Any]:
        """Attributes that JSON holds."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """That of `inner`, and what this one keeps."""
        state = self.inner.state_dict()
        own = {_OWN + name: a.copy() for name, a in self._kept().items()}
        return {
            **state,
            "kind": type(self).__name__,
            "inner": state["kind"],
            "numbers": self._numbers(),
            "arrays": state["arrays"] | own,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises
        ------
        ValueError
            It does not fit; nothing is changed then.
        """
        inner, own = self._parts(state)
        self.inner._restored(inner)
        new = self._numbers_of(state)
        self.inner.load_state_dict(inner)
        self.__dict__.update(new)
        for name, a in self._kept().items():
            a[...] = ops_for(a).xp.asarray(own[name])

    def _restored(self, state: dict[str, Any]) -> Self:
        """A copy with the state of `inner`, made if all of it fits."""
        inner, _ = self._parts(state)
        new = copy.copy(self)
        new.inner = self.inner._restored(inner)
        new.__dict__.update(self._numbers_of(state))
        return new

    def _parts(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
        """The state of `inner`, and the arrays of this one, checked."""
        kind = type(self).__name__
        if not isinstance(state, dict) or not {"kind", "arrays"} <= state.keys():
            raise ValueError("not the state of an optimiser")
        if state["kind"] != kind or "inner" not in state:
            raise ValueError(f"the state of {state['kind']} does not fit {kind}")
        arrays = state["arrays"]
        own = {name[len(_OWN) :]: a for name, a in arrays.items() if name.startswith(_OWN)}
        kept = self._kept()
        if own.keys() != kept.keys():
            raise ValueError(f"the state of {kind} is of {sorted(own)}, here are {sorted(kept)}")
        for name, a in kept.items():
            if own[name].shape != a.shape or own[name].dtype != a.dtype:
                raise ValueError(
                    f"{name} is {own[name].dtype}, shape {own[name].shape}, in the state, "
                    f"{a.dtype}, shape {a.shape}, here"
                )
        rest = {name: a for name, a in arrays.items() if not name.startswith(_OWN)}
        return {**state, "kind": state["inner"], "arrays": rest}, own

    def _numbers_of(self, state: dict[str, Any]) -> dict[str, Any]:
        numbers = state.get("numbers")
        if not isinstance(numbers, dict) or numbers.keys() != self._numbers().keys():
            raise ValueError(f"the state of {type(self).__name__} lacks its numbers")
        return numbers


class Masked(Wrapper):
    """Hard pruning: an optimiser under which masked weights stay exactly 0.0.

    Gradients are masked before a step, weights after it, so that neither momentum nor weight decay
    brings a weight back; `Masks.apply` is called at once.

    Parameters
    ----------
    optimizer : Optimizer
        That takes the steps; any.
    masks : Masks
        Of some of its parameters.

    Attributes
    ----------
    inner : Optimizer
    masks : Masks

    Raises
    ------
    ValueError
        Masks of parameters that the optimiser does not have.

    Notes
    -----
    Its `state_dict` holds the masks, so that a checkpoint does; they replace those here when it is
    loaded. Gradients that are clipped before the step are clipped with those of masked weights.

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Linear(6, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))
    >>> masks = nn.prune.magnitude(net, 0.75)
    >>> optimizer = nn.prune.Masked(nn.optim.Adam(net.parameters()), masks)
    >>> model = nn.Model(net).compile(optimizer, "mse")
    """

    def __init__(self, optimizer: Optimizer, masks: Masks) -> None:
        super().__init__(optimizer)
        if not isinstance(masks, Masks):
            raise TypeError(f"masks must be Masks, got {type(masks).__name__}")
        known = {id(p) for p in self.parameters}
        if foreign := [name for name, p in masks.parameters.items() if id(p) not in known]:
            raise ValueError(f"masks of {', '.join(foreign)}, which the optimiser does not have")
        self.masks = masks.apply()

    def step(self) -> None:
        """Mask the gradients, take the step, mask the weights."""
        self.masks.apply_to_gradients()
        self.inner.step()
        self.masks.apply()

    def _kept(self) -> dict[str, Array]:
        return dict(self.masks)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`, with its masks.

        Raises
        ------
        ValueError
            It does not fit; nothing is changed then.
        """
        super().load_state_dict(state)
        self.masks.apply()
