"""Pruning of 3 by 3 kernels to patterns of a small set."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np

from ...ops import is_on_host, ops_for
from ..checks import count
from ..module import Module, Parameter
from .masks import Masks, weights
from .ranks import magnitudes, squares
from .selection import weights_named

Array = Any

__all__ = ["natural_patterns", "pattern"]


def pattern(
    net: Module, patterns: Any = None, *, entries: int = 4, number: int = 8,
    layers: Iterable[str] | None = None,
) -> Masks:  # fmt: skip
    """The masks that leave each 3 by 3 kernel the pattern which keeps most of its L2 norm.

    Parameters
    ----------
    net : Module
    patterns : array_like of bool, shape (P, 3, 3), optional
        The set to choose from, NumPy's; by default ``natural_patterns(net, ...)``.
    entries, number : int
        Of the default set: entries that a pattern keeps, and how many patterns.
    layers : iterable of str, optional
        Names of parameters or layers; by default all that have 3 by 3 kernels.

    Returns
    -------
    Masks
        Of patterns that keep the same, the first.

    Raises
    ------
    ValueError, TypeError
        Kernels of another size among `layers`, or none of 3 by 3 at all, with the shapes; patterns
        that are none; an unknown layer.

    References
    ----------
    Niu, Ma, Lin, Wang, Qian, Lin, Wang and Ren, PatDNN, ASPLOS (2020), arXiv:2001.00138. Their
    patterns all have the entry in the middle; these need not.

    Examples
    --------
    >>> from mplinalg import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.ReLU(), nn.Conv2d(4, 8, 3, rng=1))
    >>> nn.prune.pattern(net, entries=4, number=6)
    Masks(kept 0.weight: 16 of 36, 2.weight: 128 of 288)
    """
    found = _kernels(net, layers)
    if patterns is None:
        patterns = natural_patterns(net, entries=entries, number=number, layers=layers)
    chosen = _checked(patterns)
    keeps = {}
    for name, p in found.items():
        xp = ops_for(p.data).xp
        taps = xp.asarray(chosen.reshape(len(chosen), 9))
        energy = squares(p.data, name).reshape(-1, 9)
        # what pattern p leaves of the square of the norm of kernel k: sum_i energy[k, i] taps[p, i]
        left = xp.stack([(energy * tap).sum(axis=1) for tap in taps], axis=1)
        keeps[name] = taps[left.argmax(axis=1)].reshape(p.shape)
    return Masks(found, keeps)


def natural_patterns(
    net: Module, *, entries: int = 4, number: int = 8, layers: Iterable[str] | None = None
) -> Array:
    """The most frequent of the patterns which single kernels would choose.

    A kernel would choose its `entries` entries of largest magnitude, of equal ones the first.

    Parameters
    ----------
    net : Module
    entries : int
        1 to 8.
    number : int
        The most patterns; there are fewer if kernels choose fewer.
    layers : iterable of str, optional
        As of `pattern`.

    Returns
    -------
    ndarray of bool, shape (P, 3, 3)
        The most frequent first; of equally frequent ones, in the order of their first entries.

    Raises
    ------
    ValueError, TypeError
        As `pattern`; numbers out of range.
    """
    if count("entries", entries) > 8:
        raise ValueError(f"entries must be 1 to 8 of the 9 of a kernel; got {entries}")
    number = count("number", number)
    # all patterns of so many entries, as numbers of nine bits, the first entry the highest
    bits = 1 << np.arange(8, -1, -1)
    every = sorted(int(bits[list(one)].sum()) for one in combinations(range(9), entries))[::-1]
    times = np.zeros(512, np.int64)
    for name, p in _kernels(net, layers).items():
        xp = ops_for(p.data).xp
        size = magnitudes(p.data, name).reshape(-1, 9)
        largest = xp.argsort(-size, axis=1, kind="stable")[:, :entries]
        codes = xp.bincount(xp.asarray(bits)[largest].sum(axis=1), minlength=512)
        times += codes if is_on_host(codes) else codes.get()
    ordered = sorted(every, key=lambda code: -times[code])  # stable
    chosen = [code for code in ordered[:number] if times[code]]
    return (np.array(chosen)[:, None] & bits != 0).reshape(-1, 3, 3)


def _kernels(net: Module, layers: Iterable[str] | None) -> dict[str, Parameter]:
    there = weights(net)
    if layers is None:
        found = {name: p for name, p in there.items() if p.shape[2:] == (3, 3)}
        if not found:
            shapes = ", ".join(f"{name} {p.shape}" for name, p in there.items())
            raise ValueError(f"patterns are for kernels of 3 by 3, and there are none: {shapes}")
        return found
    if isinstance(layers, str):
        raise TypeError(f"layers must be several names; got {layers!r}")
    found = {name: there[name] for name in weights_named(net, layers)}
    for name, p in found.items():
        if p.shape[2:] != (3, 3):
            raise ValueError(f"patterns are for kernels of 3 by 3; {name} has shape {p.shape}")
    return found


def _checked(patterns: Any) -> Array:
    given = np.asarray(patterns)
    if given.ndim != 3 or given.shape[1:] != (3, 3) or not len(given):
        raise ValueError(f"patterns must have shape (P, 3, 3), P at least 1; got {given.shape}")
    if given.dtype != bool and not np.isin(given, (0, 1)).all():
        raise ValueError(f"patterns must be boolean, or 0 and 1; got {given.dtype}")
    chosen = given.astype(bool)
    if not chosen.any(axis=(1, 2)).all():
        raise ValueError("a pattern keeps one entry at least; one of those given keeps none")
    return chosen
