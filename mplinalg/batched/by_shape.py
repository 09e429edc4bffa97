"""Lists of matrices of different sizes, one stack for each size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import common_dtype, to_dtype
from ..ops import Judged, batched_ops_for
from .ragged import Group, Ragged, group_by_shape

__all__ = ["as_ragged", "dtype_of", "in_form_of", "run_by_shape"]

Array = NDArray[Any]


def as_ragged(x: Any, name: str, ndim: int | None = None) -> Ragged:
    """A list as a `Ragged`; members of `ndim` dimensions, if that is given.

    Raises
    ------
    TypeError
        If it is neither a list nor a `Ragged`.
    ValueError
        If members have other dimensions.
    """
    if not isinstance(x, Ragged | list | tuple):
        raise TypeError(f"to a list belongs a list, but {name} is of type {type(x).__name__}")
    found = x if isinstance(x, Ragged) else Ragged.from_list(x)
    if ndim is not None and found.ndim != ndim and len(found):
        raise ValueError(f"{name} must hold matrices, got {name}[0].shape={found[0].shape}")
    return found


def dtype_of(*operands: Ragged) -> np.dtype[Any]:
    """The LAPACK dtype that lists are computed in."""
    return common_dtype(*(operand.data for operand in operands))


def in_form_of(x: Any, found: Ragged) -> Any:
    """A `Ragged` for a `Ragged`, a list for a list."""
    return found if isinstance(x, Ragged) else found.to_list()


def run_by_shape(
    function: Callable[..., tuple[tuple[Array, ...], Judged]], operands: Sequence[Ragged],
    dtype: np.dtype[Any] | None, results: Sequence[Any],
) -> tuple[list[Ragged], Judged]:  # fmt: skip
    """``function(*stacks)`` for the members of each combination of shapes.

    Parameters
    ----------
    function : callable
        Takes a stack (G, ...) of each operand; returns several of them and what is judged.
    operands : sequence of Ragged
        Of the same length.
    dtype : dtype or None
        Of the stacks; None leaves to each its own.
    results : sequence of dtype
        Of what `function` returns: for lists without members.

    Returns
    -------
    list of Ragged
        The results, members in the order of the operands.
    Judged
        Members numbered as in the operands.
    """
    count = len(operands[0])
    shapes = np.concatenate([operand.shapes for operand in operands], axis=1)
    groups = group_by_shape(shapes)
    parts: list[tuple[Array, ...]] = []
    judged: list[Judged] = []
    for group in groups:
        stacks, start = [], 0
        for operand in operands:
            shape = group.shape[start : start + operand.ndim]
            start += operand.ndim
            stack = operand.stack(Group(shape, group.members))
            stacks.append(stack if dtype is None else to_dtype(stack, dtype))
        part, seen = function(*stacks)
        parts.append(part)
        judged.append(seen._replace(members=group.members[seen.members]))
    joined = [_joined(groups, parts, k, count, kind) for k, kind in enumerate(results)]
    return joined, _merged(judged)


def _joined(
    groups: list[Group], parts: list[tuple[Array, ...]], k: int, count: int, dtype: Any
) -> Ragged:
    """Result k of all groups; of none, nothing of a dtype."""
    if not groups:
        return Ragged.from_list([], dtype)
    shapes = np.empty((count, parts[0][k].ndim - 1), np.int64)
    for group, part in zip(groups, parts, strict=True):
        shapes[group.members] = part[k].shape[1:]
    first = parts[0][k]
    joined = Ragged.empty(shapes, first.dtype, xp=batched_ops_for(first).xp)
    for group, part in zip(groups, parts, strict=True):
        joined.put(Group(part[k].shape[1:], group.members), part[k])
    return joined


def _merged(judged: list[Judged]) -> Judged:
    """What is known of the members of all groups, in order."""
    if not judged:
        return Judged(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0))
    members, info, rcond = (np.concatenate(field) for field in zip(*judged, strict=True))
    order = np.argsort(members)
    return Judged(members[order], info[order], rcond[order])
