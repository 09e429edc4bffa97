"""Stacks of several dimensions on the device as stacks of one, without copies where that pays.

The kernels take a stack by three strides, to the next member, row and column. Dimensions of a batch
whose strides make them one are made one; over others there is a launch for each of their places, if
these are few, and where they are many the operands are copied.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import cupy

from .protocol import Array

__all__ = ["as_stack", "stacks"]

_MOST = 64
"""Launches instead of a copy: what their start takes, some 5 µs each, moves a gigabyte."""


def as_stack(a: Array) -> Array:
    """(..., m, n) as (N, m, n); a view where it can be one."""
    return a if a.ndim == 3 else a.reshape(math.prod(a.shape[:-2]), *a.shape[-2:])


def stacks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Stacks (N, rows, columns), views, that make up arrays with the same dimensions of a batch.

    With `arrays` of (B1, B2, ..., rows, columns), none empty. Where that takes too many of them,
    nothing comes.
    """
    batch = arrays[0].shape[:-2]
    if len(batch) == 1:
        yield arrays
        return
    order = sorted(range(len(batch)), key=lambda axis: -abs(arrays[-1].strides[axis]))
    groups: list[tuple[int, tuple[int, ...]]] = []
    for axis in order:
        size, steps = batch[axis], tuple(a.strides[axis] for a in arrays)
        if size == 1:
            continue
        if groups and groups[-1][1] == tuple(size * step for step in steps):
            groups[-1] = groups[-1][0] * size, steps
        else:
            groups.append((size, steps))
    if not groups:
        groups = [(1, tuple(0 for _ in arrays))]
    groups.sort(key=lambda group: group[0])
    *outer, (count, members) = groups
    if math.prod(size for size, _ in outer) > _MOST:
        return
    for places in itertools.product(*(range(size) for size, _ in outer)):
        yield tuple(
            _view(
                a, sum(p * steps[k] for p, (_, steps) in zip(places, outer, strict=True)),
                count, members[k],
            )
            for k, a in enumerate(arrays)
        )  # fmt: skip


def _view(a: Array, offset: int, count: int, step: int) -> Any:
    """`count` matrices of `a`, `step` bytes apart, the first `offset` bytes from its own."""
    return cupy.ndarray(
        (count, *a.shape[-2:]), a.dtype, memptr=a.data + offset, strides=(step, *a.strides[-2:])
    )
