"""What all optimisers have in common: parameters, their state, checks before a step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...ops import is_on_device, is_on_host, update_ops_for
from ...ops.nn_updates import UpdateOps
from ..checks import number

Array = Any

__all__ = ["Optimizer"]


class Optimizer:
    """Changes parameters in place by their gradients; the base of all optimisers.

    Subclasses say which options they take, which arrays they remember for a parameter, and what
    one update is.

    Parameters
    ----------
    parameters : iterable
        Objects with arrays ``.data`` (float32 or float64) and ``.grad`` (the same shape and dtype,
        or None: such a parameter is left alone). One that comes twice is updated once.
    lr : float
        The learning rate.

    Attributes
    ----------
    lr : float
        May be set; a schedule then starts from there.
    initial_lr : float
        What schedules start from.
    parameters : list

    Raises
    ------
    TypeError
        Something among `parameters` is no parameter, or of another dtype.
    ValueError
        There are none, or an option is not in its range.

    Examples
    --------
    One of one's own:

    >>> import numpy as np
    >>> from mplinalg.nn import Parameter, optim
    >>> class SignDescent(optim.Optimizer):
    ...     def _update(self, ops, x, g, arrays, count):
    ...         x -= self.lr * np.sign(g)
    >>> weight = Parameter([3.0, -2.0])
    >>> (weight * weight).sum().backward()
    >>> SignDescent([weight], lr=0.5).step()
    >>> weight.data
    array([ 2.5, -1.5])
    """

    _options: tuple[str, ...] = ()
    """Arguments of the constructor beside `parameters` and `lr`; attributes."""

    def __init__(self, parameters: Iterable[Any], lr: float) -> None:
        self.parameters = _listed(parameters)
        self.lr = lr
        self._arrays: list[dict[str, Array]] = [{} for _ in self.parameters]
        self._steps = [0] * len(self.parameters)

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = self.initial_lr = number("lr", value)

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor beside `parameters` and `lr`, as they are now."""
        return {name: getattr(self, name) for name in self._options}

    def memory(self) -> tuple[list[dict[str, Array]], list[int]]:
        """For each parameter, the arrays that are remembered, and how often it was updated.

        No copies: who updates parameters in the place of `step` changes these, too.
        """
        return self._arrays, self._steps

    def set_rate(self, lr: float) -> None:
        """Set `lr` and leave `initial_lr`: what schedules do."""
        self._lr = number("lr", lr)

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options().items())
        return f"{type(self).__name__}({len(self.parameters)} parameters, lr={self.lr!r}{options})"

    # -- a step ---------------------------------------------------------------------------------

    def zero_grad(self) -> None:
        """Forget the gradients: they become None."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises
        ------
        ValueError, TypeError
            A gradient has another shape or dtype than its parameter; nothing is changed then.
        """
        live = [k for k, p in enumerate(self.parameters) if p.grad is not None]
        for k in live:
            self._check(k)
        self._prepare([self.parameters[k].grad for k in live])
        for k in live:
            x, g = self.parameters[k].data, self.parameters[k].grad
            self._steps[k] += 1
            self._update(update_ops_for(x, g), x, g, self._arrays[k], self._steps[k])
            if hasattr(self.parameters[k], "version"):
                self.parameters[k].version += 1

    def _prepare(self, gradients: list[Array]) -> None:
        """Before the updates of a step."""

    def _update(
        self, ops: UpdateOps, x: Array, g: Array, arrays: dict[str, Array], count: int
    ) -> None:
        """One parameter; `count` numbers its updates from 1, `arrays` is what it remembers."""
        raise NotImplementedError

    def _remembered(
        self, ops: UpdateOps, x: Array, arrays: dict[str, Array], *names: str
    ) -> tuple[Array, ...]:
        """The arrays of these names, made of zeros at the first update."""
        for name in names:
            if name not in arrays:
                arrays[name] = ops.xp.zeros(x.shape, x.dtype)
        return tuple(arrays[name] for name in names)

    def _check(self, k: int) -> None:
        p = self.parameters[k]
        x, g = p.data, p.grad
        if not (is_on_host(g) or is_on_device(g)):
            raise TypeError(f"the gradient of {_name(p, k)} must be an array; got {type(g)}")
        if g.shape != x.shape:
            raise ValueError(
                f"the gradient of {_name(p, k)} has shape {g.shape}, the parameter {x.shape}"
            )
        if g.dtype != x.dtype:
            raise TypeError(
                f"the gradient of {_name(p, k)} is {g.dtype}, shape {g.shape}, "
                f"the parameter {x.dtype}, shape {x.shape}"
            )
        if is_on_host(x) and not x.flags.writeable:
            raise ValueError(f"{_name(p, k)}, shape {x.shape}, is read-only")
        for a in self._arrays[k].values():
            if a.shape != x.shape or a.dtype != x.dtype:
                raise ValueError(
                    f"{_name(p, k)} was {a.dtype}, shape {a.shape}, at its first update and is "
                    f"{x.dtype}, shape {x.shape}, now: make a new optimiser"
                )

    # -- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, beside the parameters.

        Returns
        -------
        dict
            ``kind`` (str), ``options`` (dict of numbers), ``initial_lr`` (float), ``steps`` (list
            of int), and ``arrays`` (dict of copies, by number of the parameter and name).
        """
        return {
            "kind": type(self).__name__,
            "options": {"lr": self.lr, **self.options()},
            "initial_lr": self.initial_lr,
            "steps": list(self._steps),
            "arrays": {
                f"{k}.{name}": a.copy()
                for k, arrays in enumerate(self._arrays)
                for name, a in arrays.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`, its options included.

        Parameters
        ----------
        state : dict
            Of an optimiser of the same class with parameters of the same shapes. Its arrays are
            copied to where the parameters are.

        Raises
        ------
        ValueError
            It does not fit; nothing is changed then.
        """
        self.__dict__.update(self._restored(state).__dict__)

    def _restored(self, state: dict[str, Any]) -> Optimizer:
        """A new optimiser of the same parameters in that state."""
        try:
            kind, steps, arrays = state["kind"], state["steps"], state["arrays"]
            options, initial_lr = state["options"], state["initial_lr"]
        except (KeyError, TypeError):
            raise ValueError("not the state of an optimiser") from None
        if kind != type(self).__name__:
            raise ValueError(f"the state of {kind} does not fit {type(self).__name__}")
        if len(steps) != len(self.parameters):
            raise ValueError(
                f"the state is of {len(steps)} parameters, {kind} has {len(self.parameters)}"
            )
        if unknown := set(options) ^ {"lr", *self._options}:
            raise ValueError(f"options {sorted(unknown)} do not belong to both states of {kind}")
        new = type(self)(self.parameters, **options)
        new.initial_lr = number("initial_lr", initial_lr)
        new._steps = [int(n) for n in steps]
        for key, a in arrays.items():
            place, _, name = key.partition(".")
            if not (place.isdigit() and int(place) < len(steps) and name):
                raise ValueError(f"the state has an array {key!r}, which no parameter remembers")
            x = self.parameters[int(place)].data
            if a.shape != x.shape or a.dtype != x.dtype:
                raise ValueError(
                    f"{name} of {_name(self.parameters[int(place)], int(place))} is {a.dtype}, "
                    f"shape {a.shape}, in the state, the parameter {x.dtype}, shape {x.shape}"
                )
            new._arrays[int(place)][name] = update_ops_for(x).xp.array(a, order="C")
        return new


def _listed(parameters: Iterable[Any]) -> list[Any]:
    if hasattr(parameters, "grad") or is_on_host(parameters) or is_on_device(parameters):
        raise TypeError("parameters must be an iterable of parameters, not one of them")
    listed = list({id(p): p for p in parameters}.values())
    if not listed:
        raise ValueError("there are no parameters to optimise")
    for k, p in enumerate(listed):
        x: Any = getattr(p, "data", None)
        if not hasattr(p, "grad") or not (is_on_host(x) or is_on_device(x)):
            raise TypeError(
                f"parameter {k} must have arrays .data and .grad; got {type(p).__name__}"
            )
        if x.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise TypeError(
                f"{_name(p, k)}, shape {x.shape}, must be float32 or float64; got {x.dtype}"
            )
    return listed


def _name(p: Any, k: int) -> str:
    name = getattr(p, "name", None)
    return f"parameter {name!r}" if name else f"parameter {k}"
