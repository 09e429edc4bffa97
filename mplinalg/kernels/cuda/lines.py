"""A matrix as kernels see it: real lines of unit stride, and how many blocks go over them."""

from __future__ import annotations

from dataclasses import dataclass

import cupy

from . import loader
from .layout import Array, is_c_like, is_f_like

_BLOCKS_EACH = 8
"""Of a multiprocessor: as many as it holds at once, of 256 threads."""
_NUMBERS_EACH = 1024
"""That a block goes over at a time."""

REALS = {"f": "f", "F": "f", "d": "d", "D": "d"}
"""The letter of the real dtype."""
TYPES = {"f": "float", "d": "double"}
"""What a real dtype is called in the sources."""


@dataclass(frozen=True)
class Lines:
    """The rows of a C-like matrix, or the columns of an F-like one."""

    reals: Array
    """(count, parts * length), unit stride along the last axis; a view."""
    along: bool
    """They are rows."""
    count: int
    length: int
    """Entries of a line."""
    parts: int
    """Real numbers of an entry: 2 if complex."""
    stride: int
    """Real numbers from one line to the next."""

    @property
    def matrix(self) -> tuple[int, int, Array, int]:
        """Lines, entries, array and stride: how the arguments of most kernels begin."""
        return self.count, self.length, self.reals, self.stride

    @property
    def numbers(self) -> tuple[int, int, Array, int]:
        """The same, counting the real numbers of a line instead of its entries."""
        return self.count, self.parts * self.length, self.reals, self.stride

    @property
    def kind(self) -> str:
        """The type of the numbers, as the sources name it."""
        return TYPES[self.reals.dtype.char]

    @property
    def blocks(self) -> int:
        """For a kernel that goes over all numbers."""
        return grid(self.count * self.length * self.parts)


def lines_of(a: Array, along: bool | None = None) -> Lines:
    """The lines of `a`: rows if `along`, columns if not; by default the longer ones of two."""
    if along is None:
        along = not (is_f_like(a) and (a.shape[1] <= a.shape[0] or not is_c_like(a)))
    if not (is_c_like(a) if along else is_f_like(a)):
        raise ValueError(f"need unit stride in one dimension; got {a.shape=}, {a.strides=}")
    view = a if along else a.T
    reals = view.view(REALS[a.dtype.char])
    count, length = view.shape
    parts = 2 if a.dtype.kind == "c" else 1
    # the stride of an only line means nothing
    stride = reals.strides[0] // reals.itemsize if count > 1 else parts * length
    return Lines(reals, along, count, length, parts, stride)


def grid(numbers: int) -> int:
    """Blocks for a kernel that goes over so many numbers, whatever their number."""
    return min(-(-numbers // _NUMBERS_EACH), _BLOCKS_EACH * loader.multiprocessors())


def cabs1(a: Array) -> Array:
    """|a|, or |re| + |im| of a complex array."""
    if a.dtype.kind != "c":
        return abs(a)
    size = abs(a.real)
    size += abs(a.imag)
    return size


def lost_counters() -> Array:
    """Zeros in which kernels count overflows and underflows."""
    return cupy.zeros(2, cupy.uint64)
