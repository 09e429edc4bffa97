"""Which weights of a network are meant, and how many of them go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..checks import number
from ..module import Module
from .masks import weights

Sparsity = float | Mapping[str, float]

__all__ = ["Sparsity", "kept", "share", "shares", "weights_named"]


def share(value: Any, what: str = "sparsity") -> float:
    """A share that leaves something, in [0, 1)."""
    return number(what, value, 0.0, 1.0, open_ends=")")


def kept(groups: int, sparsity: float) -> int:
    """How many of `groups` are kept: `groups * sparsity` go, rounded; one stays at least.

    >>> kept(10, 0.24), kept(10, 0.25), kept(4, 0.9)
    (8, 7, 1)
    """
    return max(1, groups - math.floor(groups * sparsity + 0.5))


def shares(net: Module, sparsity: Sparsity, kind: str) -> dict[str, float]:
    """The share that goes, by names of weights.

    One number is for all weights. Rows of the last ones are the outputs of the network, and
    columns of the first ones its inputs: they go only if they are named.
    """
    if isinstance(sparsity, Mapping):
        found: dict[str, float] = {}
        for name, value in sparsity.items():
            names = weights_named(net, [name])
            if twice := [one for one in names if one in found]:
                raise ValueError(f"sparsity of {', '.join(twice)} is given twice")
            found |= dict.fromkeys(names, share(value, f"sparsity of {name!r}"))
        if not found:
            raise ValueError("sparsity names no weights")
        return found
    names = list(weights(net))
    if kind in ("row", "column"):
        names = names[:-1] if kind == "row" else names[1:]
        if not names:
            which = "outputs" if kind == "row" else "inputs"
            raise ValueError(
                f"{kind}s of the only weights are the {which} of {net!r}; to prune them, "
                "name them in sparsity"
            )
    return dict.fromkeys(names, share(sparsity))


def weights_named(net: Module, names: Iterable[str]) -> list[str]:
    """Names of weights for those of weights or of modules, which stand for all weights within.

    Raises
    ------
    ValueError
        An unknown name, or one of something without weights; the message lists those with weights.
    """
    there = weights(net)
    modules = dict(net.named_modules())
    parameters = dict(net.named_parameters())
    found: list[str] = []
    for name in names:
        within = [one for one in there if one == name or one.startswith(f"{name}.")]
        if not within:
            known = f"there are weights in {', '.join(there)}"
            if name in modules:
                raise ValueError(f"layer {name}, {modules[name]!r}, has no weights; {known}")
            if name in parameters:
                shape = parameters[name].shape
                raise ValueError(f"{name} has shape {shape}, weights two dimensions; {known}")
            raise ValueError(f"unknown layer {name!r}; {known}")
        found += within
    return list(dict.fromkeys(found))
