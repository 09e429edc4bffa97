"""Which entries of parameters are kept; all others are exactly 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from ...ops import is_on_host
from ..module import Module, Parameter

Array = Any

__all__ = ["Masks", "nonzero", "require_module", "sparsity"]


class Masks(Mapping[str, Array]):
    """Boolean arrays by names of parameters, True where an entry is kept.

    Parameters
    ----------
    parameters : mapping of str to Parameter
    keeps : mapping of str to array of bool
        Of the same names, of the shapes of the parameters and on their devices.

    Raises
    ------
    ValueError
        Names that differ, or other shapes.
    TypeError
        Not boolean, or on another device.

    Notes
    -----
    What is masked is stored as zeros in the parameters, and so survives in every checkpoint;
    `nonzero` finds it again.

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Linear(6, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))
    >>> masks = nn.prune.magnitude(net, 0.75).apply()
    >>> masks["0.weight"].shape, masks.kept("0.weight"), masks.sparsity()
    ((4, 6), 6, 0.75)
    """

    def __init__(self, parameters: Mapping[str, Parameter], keeps: Mapping[str, Array]) -> None:
        if parameters.keys() != keeps.keys():
            raise ValueError(f"masks of {sorted(keeps)} for parameters {sorted(parameters)}")
        self.parameters = dict(parameters)
        self._keeps = dict(keeps)
        for name in keeps:
            self._check(name)

    def __getitem__(self, name: str) -> Array:
        return self._keeps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keeps)

    def __len__(self) -> int:
        return len(self._keeps)

    def __repr__(self) -> str:
        parts = (f"{name}: {self.kept(name)} of {keep.size}" for name, keep in self.items())
        return f"Masks(kept {', '.join(parts)})"

    def _check(self, name: str) -> None:
        keep, weight = self._keeps[name], self.parameters[name].data
        if keep.shape != weight.shape:
            raise ValueError(f"the mask of {name} has shape {keep.shape}, {name} {weight.shape}")
        if keep.dtype != bool:
            raise TypeError(f"the mask of {name} must be boolean; got {keep.dtype}")
        if is_on_host(keep) != is_on_host(weight):
            raise TypeError(f"{name} is not on the device of its mask: make masks after moving it")

    # -- what they do ----------------------------------------------------------------------------

    def apply(self) -> Self:
        """Set the entries that are not kept to 0.0, in place. Returns the masks."""
        for name, keep in self.items():
            self._check(name)
            self.parameters[name].version += 1
            weight = self.parameters[name].data
            bits = weight.view(_integer(weight))
            bits &= _ones(keep, weight)
        return self

    def apply_to_gradients(self) -> Self:
        """Set their gradients to 0.0; those arrays are replaced. Returns the masks."""
        for name, keep in self.items():
            parameter = self.parameters[name]
            if parameter.grad is not None:
                grad = parameter.grad
                bits = grad.view(_integer(grad)) & _ones(keep, grad)
                parameter.grad = bits.view(grad.dtype)
        return self

    # -- what is known of them -------------------------------------------------------------------

    def kept(self, name: str | None = None) -> int:
        """How many entries are kept: of one parameter, or of all that have masks."""
        return sum(int(self[key].sum()) for key in self._named(name))

    def sparsity(self, name: str | None = None) -> float:
        """The share of entries that are not kept: of one parameter, or of all with masks."""
        return 1 - self.kept(name) / sum(self[key].size for key in self._named(name))

    def _named(self, name: str | None) -> list[str]:
        if name is not None and name not in self:
            raise ValueError(f"there is no mask of {name!r}; there are {', '.join(self)}")
        return list(self) if name is None else [name]


def _ones(keep: Array, a: Array) -> Array:
    """All bits of an entry of `a` where it is kept, else none.

    By bits, as a product would make -0.0 of negative numbers, and leave NaN; and as quick.
    """
    ones = keep.astype(_integer(a))
    ones *= -1
    return ones


def _integer(a: Array) -> np.dtype[Any]:
    return np.dtype(f"i{a.dtype.itemsize}")


def require_module(net: Any) -> None:
    """Refuse what has no parameters by name."""
    if not isinstance(net, Module):
        raise TypeError(f"net must be a Module, got {type(net).__name__}")


def nonzero(net: Module) -> Masks:
    """The masks that keep the weights that are not 0: those of a pruned network, read from a file.

    Parameters
    ----------
    net : Module

    Returns
    -------
    Masks
        Of all weights, parameters of two dimensions at least.
    """
    found = weights(net)
    return Masks(found, {name: p.data != 0 for name, p in found.items()})


def sparsity(net: Module) -> float:
    """The share of the weights of `net` that are 0; parameters of two dimensions at least count.

    Parameters
    ----------
    net : Module

    Returns
    -------
    float

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Linear(8, 4))
    >>> masks = nn.prune.magnitude(net, 0.75).apply()
    >>> nn.prune.sparsity(net)
    0.75
    """
    return nonzero(net).sparsity()


def weights(net: Module) -> dict[str, Parameter]:
    """What is pruned: parameters of two dimensions at least, so no biases.

    Raises
    ------
    ValueError
        There are none.
    """
    require_module(net)
    found = {name: p for name, p in net.named_parameters() if p.ndim >= 2}
    if not found:
        raise ValueError(f"{net!r} has no weights to prune")
    return found
