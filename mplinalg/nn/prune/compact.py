"""Networks without what pruning has made useless."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np

from ...ops import is_on_host, ops_for
from ..autograd import Tensor
from ..layers import Dropout, Flatten, Linear
from ..module import Module, Parameter
from ..pooling import AvgPool2d, MaxPool2d
from ..scopes import no_grad, precision_scope
from ..spatial import Conv2d
from .chain import Link, Weighted, links
from .masks import require_module
from .nesting import Nested

Array = Any
Net = TypeVar("Net", bound=Module)

__all__ = ["compact"]


def compact(net: Net) -> Net:
    """A copy without the units that do nothing; in use (`eval`), it gives what `net` gives.

    A unit is an output feature of a Linear, or a filter of a Conv2d: a row of W. It is taken out
    of its layer, of a BatchNorm2d, and of the columns of the next layer with weights,

    - if its row is 0: what it gives is a constant, act(b), which is multiplied by those columns
      and added to the bias of that layer, made if there is none;
    - if those columns are all 0.

    Layers between may be ReLU, Sigmoid, Tanh, Dropout, MaxPool2d, AvgPool2d, BatchNorm2d and
    Flatten. What goes may leave other units useless: it is repeated until none is.

    Parameters
    ----------
    net : Module
        With masks applied. It is not changed.

    Returns
    -------
    Module
        Of the same class, with the same names; smaller parameters, without gradients.

    Raises
    ------
    TypeError
        `net` is not a Module, or holds a `Nested`: its models are made compact one by one.

    Notes
    -----
    Units stay where they have to:

    - inputs and outputs of the network, and of any sequence of layers with another module after
      it, such as Softmax or a class of the caller's, or with weights that are used twice. Only
      layers of Sequentials are looked at, which other modules may hold, but not take apart;
    - a constant that is not 0 before a Conv2d or an AvgPool2d with padding: at the edge it is
      none. `structured(..., "row")` therefore masks the biases, too;
    - one unit of a layer of which all might go.

    Sums over fewer terms are rounded differently; constants are added up in double precision. In
    training it is another network: BatchNorm2d and Dropout do not act on constants any more. An
    optimiser has to be made anew. Waits for the device.

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Linear(8, 6, rng=0), nn.ReLU(), nn.Linear(6, 2, rng=1))
    >>> masks = nn.prune.structured(net, 0.5, "row").apply()
    >>> nn.prune.compact(net)
    Sequential(Linear(8, 3), ReLU(), Linear(3, 2))
    """
    require_module(net)
    if any(isinstance(module, Nested) for _, module in net.named_modules()):
        raise TypeError("net holds several models in one set of weights; give one: Nested.model")
    small = copy.deepcopy(net)
    small.zero_grad()
    modes = [(module, module.training) for _, module in small.named_modules()]
    small.eval()
    with no_grad(), precision_scope(None):
        is_done = False
        while not is_done:
            # back to front, all of them: fewer rows behind may leave units before them unused
            is_done = not sum(_shrink(link) for link in reversed(links(small)))
    for module, mode in modes:
        module.training = mode
    return small


def _shrink(link: Link) -> bool:
    """Take out the units of a link that do nothing; whether anything has changed."""
    rows = link.producer.weight.data
    units = len(rows)
    taken = _by_unit(link)
    is_dead = _host((rows.reshape(units, -1) == 0).all(axis=1))
    is_unused = _host((taken == 0).all(axis=(0, 2)))
    values, is_constant = _constants(link)
    goes = is_unused | (is_dead & is_constant)
    has_changed = False
    if goes.all():
        goes[0] = False
        if not is_dead[0]:
            # unused: it may be constant, and so needs nothing of what comes before
            rows[0] = 0
            has_changed = True
    if not goes.any():
        return has_changed
    xp = ops_for(rows).xp
    keep, folded = (xp.asarray(np.flatnonzero(which)) for which in (~goes, goes & ~is_unused))
    # b <- b + W[:, folded] c
    added = (taken[:, folded].astype(np.float64).sum(axis=2) * values[folded]).sum(axis=1)
    _add_to_bias(link.consumer, added)
    kept = xp.ascontiguousarray(taken[:, keep])
    if isinstance(link.consumer, Linear) and isinstance(link.producer, Linear):
        kept = xp.ascontiguousarray(kept.swapaxes(1, 2))
    kernel = link.consumer.weight.shape[2:]
    shape = (len(kept), len(keep), *kernel) if kernel else (len(kept), -1)
    link.consumer.weight = _like(link.consumer.weight, kept.reshape(shape))
    for layer in (link.producer, *link.between):
        for name in ("weight", "bias"):
            old = getattr(layer, name, None)
            if isinstance(old, Parameter):
                setattr(layer, name, _like(old, old.data[keep]))
        for name in layer.buffers:
            old = getattr(layer, name)
            if old.ndim:
                setattr(layer, name, old[keep])
    return True


def _by_unit(link: Link) -> Array:
    """The weights of the consumer by units of the producer, shape (rows, units, all else)."""
    w, units = link.consumer.weight.data, link.producer.weight.shape[0]
    if isinstance(link.consumer, Linear) and isinstance(link.producer, Linear):
        # Flatten of (N, ..., units) has the units last
        return w.reshape(len(w), -1, units).swapaxes(1, 2)
    return w.reshape(len(w), units, -1)


def _constants(link: Link) -> tuple[Array, np.ndarray]:
    """What units with zero rows give to the consumer, and whether it is the same everywhere."""
    producer = link.producer
    rows = producer.weight.data
    xp = ops_for(rows).xp
    values = xp.zeros(len(rows), rows.dtype) if producer.bias is None else producer.bias.data
    is_constant = np.ones(len(rows), bool)
    shape = (1, -1, 1, 1) if isinstance(producer, Conv2d) else (1, -1)
    for layer in (*link.between, link.consumer):
        if isinstance(layer, Conv2d | AvgPool2d) and layer.padding != (0, 0):
            is_constant &= _host(values == 0)
        if layer is link.consumer or isinstance(layer, MaxPool2d | Flatten | Dropout):
            continue
        values = layer.forward(Tensor(values.reshape(shape))).data.reshape(-1)
    return values.astype(np.float64), is_constant & _host(xp.isfinite(values))


def _add_to_bias(layer: Weighted, added: Array) -> None:
    if layer.bias is None:
        if not bool(added.any()):
            return
        layer.bias = Parameter(added.astype(layer.weight.dtype), "bias")
        return
    layer.bias = _like(layer.bias, (layer.bias.data + added).astype(layer.bias.dtype))


def _like(old: Parameter, data: Array) -> Parameter:
    new = Parameter(data, old.name)
    new.requires_grad = old.requires_grad
    return new


def _host(flags: Array) -> np.ndarray:
    return flags if is_on_host(flags) else flags.get()
