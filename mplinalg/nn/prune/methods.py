"""Pruning by size: single weights, rows, columns, blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...arguments import choice
from ...ops import ops_for
from ..checks import count
from ..module import Module, Parameter
from ..spatial import BatchNorm2d
from .chain import links
from .masks import Masks, weights
from .ranks import KINDS, descending, group_ranks, magnitudes
from .selection import Sparsity, kept, share, shares

Array = Any

__all__ = ["checked_kind", "magnitude", "ranked", "structured"]


def magnitude(net: Module, sparsity: Sparsity, *, scope: str = "layer") -> Masks:
    """The masks that keep the weights of largest magnitude. Nothing is changed: see `Masks.apply`.

    Parameters
    ----------
    net : Module
    sparsity : float or dict of str to float
        The share of weights that goes, in [0, 1): of all parameters of two dimensions at least, or
        of those named, by names of parameters or of layers. The count is rounded to the nearest
        integer, halves up, and one weight is kept at least.
    scope : {"layer", "network"}
        Whether that is the share of each parameter, or of all together; then some may lose all.

    Returns
    -------
    Masks
        Of equal magnitudes, the first is kept first.

    Raises
    ------
    ValueError, TypeError
        A share outside [0, 1); an unknown layer, or one without weights; entries that are not
        finite.

    References
    ----------
    Han, Pool, Tran and Dally, NeurIPS (2015), arXiv:1506.02626.

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Linear(6, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))
    >>> nn.prune.magnitude(net, {"0": 0.75})
    Masks(kept 0.weight: 6 of 24)
    """
    choice("scope", scope, ("layer", "network"))
    if scope == "layer":
        return _by_share(net, shares(net, sparsity, "weight"), "weight", None, False)
    found = weights(net)
    wanted = share(sparsity)
    parts = [magnitudes(p.data, name) for name, p in found.items()]
    ranks = descending(ops_for(*parts).xp.concatenate(parts))
    keep = ranks < kept(ranks.size, wanted)
    keeps, start = {}, 0
    for name, p in found.items():
        keeps[name] = keep[start : start + p.size].reshape(p.shape)
        start += p.size
    return Masks(found, keeps)


def structured(
    net: Module, sparsity: Sparsity, kind: str = "row", *, block: int | None = None,
    biases: bool = True,
) -> Masks:  # fmt: skip
    """The masks that keep the rows, columns or blocks of weights of largest L2 norm.

    Rows are W[i], what one output neuron or filter has; columns W[:, j], what goes out from one
    feature or channel. `compact` removes either; nothing is changed here: see `Masks.apply`.

    Parameters
    ----------
    net : Module
    sparsity : float or dict of str to float
        The share of rows, columns or blocks that goes, in [0, 1), rounded as by `magnitude`. A
        number is for all weights, but for rows of the last ones and columns of the first, which
        are the outputs and the inputs of the network. Otherwise by names of parameters or layers.
    kind : {"row", "column", "block"}
    block : int
        For blocks: the edge of the squares into which W, as a matrix (rows, all else), is divided.
        Those at its lower and right edge are smaller if it does not divide the shape.
    biases : bool
        For rows: the bias of a row, and those entries of a BatchNorm2d that follows, go with it,
        so that the unit gives 0.

    Returns
    -------
    Masks
        Of equal norms, the first is kept first.

    Raises
    ------
    ValueError, TypeError
        As by `magnitude`; an unknown kind; `block` missing, or given where there are none.

    References
    ----------
    Wen, Wu, Wang, Chen and Li, NeurIPS (2016), arXiv:1608.03665.

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Linear(6, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))
    >>> nn.prune.structured(net, 0.5, "row")
    Masks(kept 0.weight: 12 of 24, 0.bias: 2 of 4)
    """
    choice("kind", kind, KINDS[1:])
    checked_kind(kind, block)
    return _by_share(net, shares(net, sparsity, kind), kind, block, biases)


def checked_kind(kind: str, block: int | None) -> None:
    """Refuse options that do not belong together."""
    choice("kind", kind, KINDS)
    if kind == "block":
        count("block", block)
    elif block is not None:
        raise ValueError(f"block={block!r} is for kind='block', not {kind!r}")


def _by_share(
    net: Module, wanted: dict[str, float], kind: str, block: int | None, biases: bool
) -> Masks:
    parameters, keeps = {}, {}
    for name, parameter, ranks, groups, weight in ranked(net, wanted, kind, block, biases):
        parameters[name] = parameter
        keeps[name] = ranks < kept(groups, wanted[weight])
    return Masks(parameters, keeps)


def ranked(
    net: Module, names: Iterable[str], kind: str, block: int | None, biases: bool
) -> Iterable[tuple[str, Parameter, Array, int, str]]:
    """(name, parameter, ranks of its entries, number of groups, name of the weights that rank).

    With `biases`, what goes with the rows of weights has the ranks of those rows.
    """
    found = weights(net)
    follow = _followers(net) if biases and kind == "row" else {}
    for name in names:
        ranks, groups = group_ranks(found[name].data, kind, block, name)
        yield name, found[name], ranks, groups, name
        for other, parameter in follow.get(name, ()):
            yield other, parameter, ranks.reshape(groups, -1)[:, 0], groups, name


def _followers(net: Module) -> dict[str, list[tuple[str, Parameter]]]:
    """Biases, and parameters of BatchNorm2d, with an entry for each row of the weights named."""
    names = {id(p): name for name, p in net.named_parameters()}
    found: dict[str, list[tuple[str, Parameter]]] = {}
    for _, module in net.named_modules():
        weight, bias = (vars(module).get(key) for key in ("weight", "bias"))
        if not (isinstance(weight, Parameter) and isinstance(bias, Parameter)):
            continue
        if weight.ndim >= 2 and bias.shape == weight.shape[:1]:
            found.setdefault(names[id(weight)], []).append((names[id(bias)], bias))
    for link in links(net):
        own = found.setdefault(names[id(link.producer.weight)], [])
        for layer in link.between:
            if isinstance(layer, BatchNorm2d):
                own += [(names[id(p)], p) for p in (layer.weight, layer.bias)]
    return found
