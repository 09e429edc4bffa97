"""Files as arrays: parts of them, mapped for as long as a tile is in memory; and memory maps of
users, which are read from their files, as pages that stay mapped would count as memory.
"""

from __future__ import annotations

import mmap
import os
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.dispatch import read_lines
from ..precision import real_dtype
from .heap import empty

__all__ = ["MappedFile", "file_part", "mapped_file", "unmapped"]

Array = NDArray[Any]
_LARGE = 2**18
"""Bytes from which on it takes less time to map a part of a file than to copy it."""
_MOST = 256
"""Parts that are mapped at a time: a process may have a thousand files open, as a rule."""
_ALIGNED = 16
_FEW = 64
"""Lines that the interpreter reads."""
_SAMPLE = 4096
"""Bytes of a line that tell whether a file still is the one that was mapped."""

_parts: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


@dataclass(frozen=True)
class MappedFile:
    """A matrix in a file, as lines of contiguous entries.

    Attributes
    ----------
    name : str
    identity : tuple of int
        Device and inode.
    place : int
        Of the first entry, in bytes.
    stride : int
        Bytes from one line to the next.
    by_columns : bool
        Lines are columns.
    shape : tuple of int
    dtype : dtype
    """

    name: str
    identity: tuple[int, int]
    place: int
    stride: int
    by_columns: bool
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, rows: slice, columns: slice) -> Array:
        """A rectangle, new.

        Raises
        ------
        OSError
            The file is gone, too short, or another one.
        """
        if self.by_columns:
            return self._lines(columns, rows).T
        return self._lines(rows, columns)

    def view(self, rows: slice, columns: slice) -> Array | None:
        """Whole rows without a copy, as `file_part`, where rows are lines; else None."""
        shape = rows.stop - rows.start, columns.stop - columns.start
        if self.by_columns or shape[1] * self.dtype.itemsize != self.stride:
            return None
        with open(self.name, "rb", buffering=0) as file:
            if _identity(file.fileno()) != self.identity:
                return None
            place = self.place + rows.start * self.stride
            part = file_part(file.fileno(), place, shape[0] * self.stride)
        return None if part is None else part.view(self.dtype).reshape(shape)

    def read_as(self, rows: slice, columns: slice, dtype: np.dtype[Any]) -> Array | None:
        """A rectangle, new, C-ordered, in a dtype that is as real as the file's.

        None if its rows are not lines, or if something is wrong, which `read` tells.
        """
        shape = rows.stop - rows.start, columns.stop - columns.start
        real, found = real_dtype(self.dtype), real_dtype(dtype)
        if self.by_columns or self.dtype.kind != dtype.kind or shape[0] < _FEW:
            return None
        part = empty(shape, dtype)
        line = np.empty(shape[1], self.dtype).view(real)
        place = self.place + rows.start * self.stride + columns.start * self.dtype.itemsize
        with open(self.name, "rb", buffering=0) as file:
            if _identity(file.fileno()) != self.identity:
                return None
            count = read_lines(file.fileno(), place, self.stride, line, part.view(found))
        return part if count == shape[0] else None

    def _lines(self, outer: slice, inner: slice) -> Array:
        size = self.dtype.itemsize
        part = empty((outer.stop - outer.start, inner.stop - inner.start), self.dtype)
        is_one = part.shape[1] * size == self.stride
        first = self.place + outer.start * self.stride + inner.start * size
        with open(self.name, "rb", buffering=0) as file:
            if _identity(file.fileno()) != self.identity:
                raise OSError(f"{self.name} is not the file any more that was mapped")
            for i, line in enumerate([part] if is_one else list(part)):
                left = line.reshape(-1).view(np.uint8).data
                place = first + i * self.stride
                while left:
                    count = os.preadv(file.fileno(), [left], place)
                    if not count:
                        raise OSError(f"{self.name} ends before its matrix does")
                    left, place = left[count:], place + count
        return part

    def is_like(self, a: Array) -> bool:
        """Whether some lines are those of `a`: another file may have taken the name."""
        lines = a.T if self.by_columns else a
        inner = slice(0, min(lines.shape[1], max(1, _SAMPLE // self.dtype.itemsize)))
        try:
            return all(
                self._lines(slice(i, i + 1), inner).tobytes() == lines[i, inner].tobytes()
                for i in {0, len(lines) // 2, len(lines) - 1}
            )
        except OSError as error:
            if error.errno is None:  # the TimeoutError of a signal's handler
                raise
            return False


def file_part(descriptor: int, place: int, size: int) -> NDArray[np.uint8] | None:
    """Bytes of a file without a copy, not to be written; mapped as long as the array is there.

    None if they are few, not all there, not aligned as numbers are, or cannot be mapped; or if many
    are: a descriptor is held for each. The pages are there when this returns, so that whoever
    computes with them does not wait for a disk.
    """
    begin = place - place % mmap.ALLOCATIONGRANULARITY
    if size < _LARGE or place % _ALIGNED or not hasattr(mmap, "MAP_POPULATE"):
        return None
    if len(_parts) >= _MOST:
        return None
    if os.fstat(descriptor).st_size < place + size:  # beyond its end there is nothing to touch
        return None
    try:
        pages = mmap.mmap(
            descriptor, place + size - begin, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE,
            prot=mmap.PROT_READ, offset=begin,
        )  # fmt: skip
    except (OSError, ValueError):
        return None
    _parts.add(pages)
    return np.frombuffer(pages, np.uint8, size, place - begin)


def mapped_file(a: Any) -> MappedFile | None:
    """The file of a memory map, or of a part of one whose rows or columns are contiguous.

    None of all else: what was written to a map in mode "c" is in no file.
    """
    owner = _map_of(a)
    if owner is None or owner.filename is None or a.size == 0:
        return None
    size = a.dtype.itemsize
    down, across = a.strides
    by_columns = not (across == size and down >= 0) and down == size and across >= 0
    if not by_columns and not (across == size and down >= 0):
        return None
    try:
        with open(owner.filename, "rb") as file:
            identity = _identity(file.fileno())
    except OSError as error:
        if error.errno is None:  # the TimeoutError of a signal's handler
            raise
        return None
    start = owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY
    place = start + _address(a) - _address(np.frombuffer(owner._mmap, np.uint8))
    found = MappedFile(
        str(owner.filename), identity, place, across if by_columns else down, by_columns,
        a.shape, a.dtype,
    )  # fmt: skip
    return found if found.is_like(a) else None


def unmapped(part: Any) -> Any:
    """A part of a memory map as a copy, and its pages let go; all else as it is."""
    owner = _map_of(part)
    if owner is None:
        return part
    part = np.array(part)
    if hasattr(mmap, "MADV_DONTNEED"):  # what they hold stays in the file
        owner._mmap.madvise(mmap.MADV_DONTNEED)
    return part


def _map_of(a: Any) -> Any:
    """The memory map that an array is, or is a part of, if its pages are those of the file."""
    while isinstance(a, np.ndarray) and not isinstance(a, np.memmap):
        a = a.base
    if not isinstance(a, np.memmap) or a.mode == "c":
        return None
    return a if isinstance(getattr(a, "_mmap", None), mmap.mmap) else None


def _address(a: Array) -> int:
    return int(a.__array_interface__["data"][0])


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
