"""Several sparse models in one set of weights."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...arguments import choice
from ..autograd import Operation, Tensor
from ..init import Seed
from ..module import Module, Parameter
from .masks import Masks
from .methods import checked_kind, ranked
from .selection import kept, share, shares

Array = Any

__all__ = ["Nested", "nested"]

_DEFAULT = {"low": 0.5, "medium": 0.75, "high": 0.9}
_one_at_a_time = threading.RLock()
"""Masks stand in the places of the parameters for as long as a model computes."""


def nested(
    net: Module, sparsities: Mapping[str, float] | None = None, kind: str = "weight", *,
    block: int | None = None, biases: bool = True, rng: Seed = None,
) -> Nested:  # fmt: skip
    """Make models of several sparsities share the weights of `net`, each within the less sparse.

    Parameters
    ----------
    net : Module
        It becomes part of the result, and loses the weights that no model has.
    sparsities : dict of str to float
        Names of the models, and the share of weights, rows, columns or blocks that each goes
        without, in [0, 1); by default low 0.5, medium 0.75 and high 0.9.
    kind : {"weight", "row", "column", "block"}
        What goes, the smallest of each parameter first, as by `magnitude` or `structured`.
    block : int, optional
    biases : bool
        As of `structured`.
    rng : numpy.random.Generator or int, optional
        Of the order in which models are trained; see `Nested`.

    Returns
    -------
    Nested

    Raises
    ------
    ValueError, TypeError
        As by `structured`; no sparsities, or two alike.

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Linear(8, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))
    >>> both = nn.prune.nested(net, {"small": 0.75, "large": 0.25})
    >>> both.names
    ('large', 'small')
    >>> nn.prune.sparsity(both.model("small"))
    0.75
    """
    checked_kind(kind, block)
    given = dict(_DEFAULT if sparsities is None else sparsities)
    wanted = {name: share(value, f"sparsity of {name!r}") for name, value in given.items()}
    if not wanted or len(set(wanted.values())) < len(wanted):
        raise ValueError(f"sparsities must be some, and no two alike; got {given}")
    if len(wanted) > 255:
        raise ValueError(f"255 models at most; got {len(wanted)}")
    ordered = dict(sorted(wanted.items(), key=lambda one: one[1]))
    levels = {}
    for name, _, ranks, groups, _ in ranked(net, shares(net, 0.0, kind), kind, block, biases):
        # how many models keep an entry; those that do come first in `ordered`
        counts = [kept(groups, value) for value in ordered.values()]
        levels[name] = sum((ranks < n).astype(np.uint8) for n in counts)
    return Nested(net, tuple(ordered), levels, rng=rng)


class Kept(Operation):
    """x where it is kept, else 0."""

    def __init__(self, keep: Array) -> None:
        self.keep = keep

    def forward(self, x: Array) -> Array:
        return x * self.keep

    def backward(self, grad: Array) -> tuple[Array]:
        return (grad * self.keep,)


class Nested(Module):
    """A network that is several: `nested` makes it.

    There is one array for a parameter, whichever model is used; a model masks it. So weights that
    models have in common have the same bits at any time. A whole number for each entry, how many
    models keep it, gives all masks, and so each lies within that of the less sparse model.

    In training (`train`), each call computes one of the models, drawn at random, whose masks hold
    for the gradients: a step of the optimiser trains what this model has. In use (`eval`), it is
    the model that `use` said, at first the least sparse.

    Parameters
    ----------
    net : Module
        Loses the weights that no model has.
    names : tuple of str
        Of the models, the least sparse first.
    levels : mapping of str to array of integers
        By names of parameters, in their shapes: how many models keep an entry.
    rng : numpy.random.Generator or int, optional
        Draws the models to train, the same on ranks that train together if no layer has this
        generator, too; `Model.save` keeps its state.

    Attributes
    ----------
    net : Module
        Its weights are those of the least sparse model.
    names : tuple of str
    current : str
        The model in use.
    rng : numpy.random.Generator

    Notes
    -----
    All parameters without masks, and running means of BatchNorm2d, are shared. `state_dict` holds
    the numbers that give the masks.

    References
    ----------
    Yu, Yang, Xu, Yang and Huang, Slimmable neural networks, ICLR (2019), arXiv:1812.08928.
    """

    draws_alike = True

    def __init__(
        self, net: Module, names: tuple[str, ...], levels: Mapping[str, Array], *, rng: Seed = None
    ) -> None:
        self.net = net
        self.names = names
        self.current = names[0]
        self.rng = np.random.default_rng(rng)
        self.buffers = tuple(f"level.{name}" for name in levels)
        for name, level in levels.items():
            setattr(self, f"level.{name}", level)
        self.masks(names[0]).apply()

    def use(self, name: str) -> Nested:
        """Say which model is used. Returns the module."""
        self._number(name)
        self.current = name
        return self

    def masks(self, name: str) -> Masks:
        """Of a model."""
        number = self._number(name)
        there = dict(self.net.named_parameters())
        keeps = {key: getattr(self, f"level.{key}") > number for key in self._keys()}
        return Masks({key: there[key] for key in keeps}, keeps)

    def model(self, name: str) -> Module:
        """A model by itself: a copy of `net` with its masks applied."""
        masks = self.masks(name)
        alone = copy.deepcopy(self.net)
        alone.zero_grad()
        there = dict(alone.named_parameters())
        Masks({key: there[key] for key in masks}, masks).apply()
        return alone

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.draw() if self.training else self.current, x)

    def draw(self) -> str:
        """The model that is trained next."""
        return self.names[self.rng.integers(len(self.names))]

    def run(self, name: str, x: Any) -> Tensor:
        """What a model gives, in training too: the sum of several losses trains several."""
        with _one_at_a_time, self._masked(self._number(name)):
            return self.net(x)

    @contextlib.contextmanager
    def _masked(self, number: int) -> Iterator[None]:
        """Masked tensors in the places of the parameters."""
        masked = {}
        for key, parameter in self.net.named_parameters():
            if f"level.{key}" in self.buffers:
                masked[id(parameter)] = Kept(getattr(self, f"level.{key}") > number)(parameter)
        places = [
            (module, attribute, value)
            for _, module in self.net.named_modules()
            for attribute, value in vars(module).items()
            if isinstance(value, Parameter) and id(value) in masked
        ]
        try:
            for module, attribute, value in places:
                setattr(module, attribute, masked[id(value)])
            yield
        finally:
            for module, attribute, value in places:
                setattr(module, attribute, value)

    def _keys(self) -> list[str]:
        return [name.removeprefix("level.") for name in self.buffers]

    def _number(self, name: str) -> int:
        choice("model", name, self.names)
        return self.names.index(name)

    def settings(self) -> str:
        return f"{self.net!r}, {', '.join(self.names)}"
