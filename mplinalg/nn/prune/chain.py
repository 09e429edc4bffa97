"""Which layer takes the results of which, unit by unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ..layers import Dropout, Flatten, Linear, ReLU, Sigmoid, Tanh
from ..module import Module, Parameter, Sequential
from ..pooling import AvgPool2d, MaxPool2d
from ..spatial import BatchNorm2d, Conv2d

Weighted = Linear | Conv2d

__all__ = ["Link", "Weighted", "links"]

_ENTRYWISE = (ReLU, Sigmoid, Tanh, Dropout)
_OF_IMAGES = (MaxPool2d, AvgPool2d, BatchNorm2d)


@dataclass(frozen=True)
class Link:
    """A layer with weights, the next one, and the layers between them.

    Attributes
    ----------
    producer, consumer : Linear or Conv2d
        The units of `producer`, its rows, are features or channels of what `consumer` takes.
    between : list of Module
        They keep units apart, and the same in number.
    """

    producer: Weighted
    between: list[Module]
    consumer: Weighted


def links(net: Module) -> list[Link]:
    """All links within sequences of layers, front to back.

    There is none to or from a layer whose parameters are used twice, across a layer of another
    class, or where units would be mixed.
    """
    shared = _shared(net)
    found = []
    for layers in _chains(net):
        for k, layer in enumerate(layers):
            if type(layer) in (Linear, Conv2d) and not _has(layer, shared):
                link = _link(layer, layers[k + 1 :], shared)
                found += [] if link is None else [link]
    return found


def _link(producer: Module, rest: list[Module], shared: set[int]) -> Link | None:
    assert isinstance(producer, Weighted)
    units = producer.weight.shape[0]
    is_image = isinstance(producer, Conv2d)
    is_flat = False
    for k, layer in enumerate(rest):
        if type(layer) in (Linear, Conv2d):
            assert isinstance(layer, Weighted)
            taken = layer.weight.shape[1]
            if isinstance(layer, Conv2d):
                fits = is_image and not is_flat and taken == units
            else:
                fits = (taken % units == 0) if is_flat else not is_image and taken == units
            return Link(producer, rest[:k], layer) if fits and not _has(layer, shared) else None
        if type(layer) is Flatten:
            is_flat = True
        elif type(layer) in _OF_IMAGES:
            if not is_image or is_flat or _has(layer, shared):
                return None
        elif type(layer) not in _ENTRYWISE:
            return None
    return None


def _chains(module: Module) -> Iterator[list[Module]]:
    """Layers that follow one another, Sequentials within Sequentials written out."""
    if _is_sequence(module):
        layers = list(_written_out(module))
        yield layers
    else:
        layers = [child for _, child in module.children()]
    for layer in layers:
        yield from _chains(layer)


def _written_out(module: Module) -> Iterator[Module]:
    for _, child in module.children():
        if _is_sequence(child):
            yield from _written_out(child)
        else:
            yield child


def _is_sequence(module: Module) -> bool:
    """A subclass with a forward of its own may compute anything."""
    return isinstance(module, Sequential) and type(module).forward is Sequential.forward


def _shared(net: Module) -> set[int]:
    """Parameters that are used more than once."""
    uses = Counter(id(p) for _, module in net.named_modules() for p in _own(module))
    return {key for key, times in uses.items() if times > 1}


def _own(module: Module) -> list[Parameter]:
    return [value for value in vars(module).values() if isinstance(value, Parameter)]


def _has(layer: Module, shared: set[int]) -> bool:
    return any(id(p) in shared for p in _own(layer))
