"""Which lane of which group holds an element of a structured mesh.

Elements are numbered with x fastest. They are cut into slabs, layers across one dimension, and
each slab into groups of `width` elements. The slabs 0, 2, 4, ... have no node in common, nor have
the slabs 1, 3, 5, ...: one half after the other, they may be summed up by several threads, and
every sum is taken in the same order. Slabs depend on the mesh and the width only.

If the elements of a slab do not fill its groups, its first group takes elements of others along,
which it does not count: their factors are zero there. Where groups store instead of adding, what
it leaves for these is overwritten by the group that counts them, since that comes later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ENOUGH_LAYERS = 16
_SLABS = 64
_GROUPS = 8


@dataclass(frozen=True)
class Groups:
    """Groups of elements, slab by slab.

    Attributes
    ----------
    elements : ndarray of int64, shape (groups, width)
        Numbers of the elements, all different within a group.
    counted : ndarray of bool, shape (groups, width)
        Each element is counted once.
    joined : ndarray of uint8, shape (groups, width)
        1 where the element is the next in x to that in the lane before.
    slabs : list of (int, int)
        First group of each slab, and one more than its last.
    """

    elements: NDArray[np.int64]
    counted: NDArray[np.bool_]
    joined: NDArray[np.uint8]
    slabs: list[tuple[int, int]]


def make_groups(cells: tuple[int, ...], width: int) -> Groups:
    """Groups of the elements of a box of (nx, ny, nz) or fewer cells, at least `width` in all."""
    numbers = np.arange(math.prod(cells)).reshape(cells[::-1])
    elements: list[Any] = []
    counted: list[Any] = []
    slabs = []
    for slab in _slabs(numbers, width):
        start = sum(map(len, elements))
        spare = -slab.size % width
        if spare:
            elements.append(slab[None, :width])
            counted.append((np.arange(width) < width - spare)[None])
        rest = slab[width - spare if spare else 0 :]
        elements.append(rest.reshape(-1, width))
        counted.append(np.ones((rest.size // width, width), bool))
        slabs.append((start, start + bool(spare) + rest.size // width))
    lanes = np.concatenate(elements)
    joined = np.zeros(lanes.shape, np.uint8)
    joined[:, 1:] = (lanes[:, 1:] == lanes[:, :-1] + 1) & (lanes[:, 1:] % cells[0] != 0)
    return Groups(lanes, np.concatenate(counted), joined, slabs)


def _slabs(numbers: NDArray[np.int64], width: int) -> list[NDArray[np.int64]]:
    """The elements of each slab, at least `width` of them."""
    shape = numbers.shape
    axis = next((k for k, n in enumerate(shape) if n >= _ENOUGH_LAYERS), int(np.argmax(shape)))
    layers, layer = shape[axis], numbers.size // shape[axis]
    thickness = max(-(-layers // _SLABS), -(-_GROUPS * width // layer))
    count = max(1, layers // thickness)
    edges = [layers * k // count for k in range(count + 1)]
    parts = np.split(numbers, edges[1:-1], axis=axis)
    return [part.ravel() for part in parts]
