"""The order in which groups of weights are kept, the largest first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ops import ops_for

Array = Any

__all__ = ["KINDS", "descending", "group_ranks", "magnitudes", "squares"]

KINDS = ("weight", "row", "column", "block")


def group_ranks(a: Array, kind: str, block: int | None, name: str) -> tuple[Array, int]:
    """For each entry of `a`, the rank of its group by the L2 norm, and the number of groups.

    Rank 0 is the largest; of equal ones the first comes first. To keep the `n` groups below rank
    n is the Euclidean projection on the arrays that have n groups at most.

    Parameters
    ----------
    a : array, shape (rows, columns, ...)
    kind : {"weight", "row", "column", "block"}
        Rows are a[i], columns a[:, i]; blocks are those of a as a matrix (rows, all else).
    block : int
        Edge of a block; those at the lower and right edge are smaller if it does not divide.
    name : str
        For messages.
    """
    if kind == "weight":
        return descending(magnitudes(a, name)).reshape(a.shape), a.size
    s = squares(a, name)
    if kind == "row":
        ranks = descending(s.reshape(len(s), -1).sum(axis=1))
        return _spread(ranks.reshape(-1, *[1] * (a.ndim - 1)), a.shape), ranks.size
    if kind == "column":
        ranks = descending(s.sum(axis=(0, *range(2, a.ndim))))
        return _spread(ranks.reshape(1, -1, *[1] * (a.ndim - 2)), a.shape), ranks.size
    assert block is not None
    xp = ops_for(a).xp
    rows, columns = len(a), math.prod(a.shape[1:])
    down, across = -(-rows // block), -(-columns // block)
    whole = xp.zeros((down * block, across * block), s.dtype)
    whole[:rows, :columns] = s.reshape(rows, columns)
    ranks = descending(whole.reshape(down, block, across, block).sum(axis=(1, 3)).reshape(-1))
    wide = _spread(ranks.reshape(down, 1, across, 1), (down, block, across, block))
    wide = wide.reshape(down * block, across * block)[:rows, :columns]
    return wide.reshape(a.shape), ranks.size


def descending(scores: Array) -> Array:
    """The rank of each entry, 0 for the largest; of equal ones the first comes first."""
    xp = ops_for(scores).xp
    ranks = xp.empty(scores.size, np.int64)
    ranks[xp.argsort(-scores.reshape(-1), kind="stable")] = xp.arange(scores.size)
    return ranks


def magnitudes(a: Array, name: str) -> Array:
    """|a|, flat.

    Raises
    ------
    ValueError
        Entries that are not finite.
    """
    size = abs(a).reshape(-1)
    if not bool(ops_for(a).xp.isfinite(size).all()):
        raise ValueError(f"{name}, shape {a.shape}, has entries that are not finite")
    return size


def squares(a: Array, name: str) -> Array:
    """a^2 in double precision, times a power of four that keeps it from overflow."""
    _, exponent = math.frexp(float(magnitudes(a, name).max()))
    scaled = a.astype(np.float64) * 2.0 ** min(max(-exponent, -1000), 1000)
    return scaled * scaled


def _spread(ranks: Array, shape: tuple[int, ...]) -> Array:
    return ops_for(ranks).xp.broadcast_to(ranks, shape)
