"""Where the entries of a matrix come from: memory, files, other libraries' arrays, functions.

A source gives any rectangle of the matrix, as a new array; it is asked from one thread at a time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arguments import lapack_dtype
from ..factor.scaling import Scaling
from ..ops.dispatch import is_on_device
from .heap import empty
from .mapped import mapped_file, unmapped
from .tasks import Key

__all__ = ["ArraySource", "Blocks", "FunctionSource", "Named", "Source", "as_source", "scaled"]

Array = NDArray[Any]
Function = Callable[[Array, Array], Any]


class Source(Protocol):
    """A matrix of which rectangles can be read."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, float64, complex64 or complex128: what `read` gives."""

    @property
    def is_sendable(self) -> bool:
        """Whether another process can read it, too, when it is sent there: a file, a function."""

    @property
    def is_fresh(self) -> bool:
        """Whether `read` gives arrays that nobody else has."""

    def read(self, rows: slice, columns: slice) -> Array:
        """A rectangle; the caller may not change it unless it is fresh."""


def working_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype that a matrix of this dtype is solved in."""
    if np.dtype(dtype).kind not in "biufc":
        raise TypeError(f"a must be numeric, got dtype {np.dtype(dtype)}")
    return lapack_dtype(dtype)


class ArraySource:
    """Anything with a shape, a dtype and slices: NumPy, memory maps, HDF5, zarr, Dask.

    Parameters
    ----------
    a : array_like, shape (m, n)
        Kept by reference, and read piece by piece; of a memory map no pages stay mapped.
    """

    def __init__(self, a: Any) -> None:
        if len(a.shape) != 2:
            raise ValueError(f"a matrix has two dimensions; got a of shape {tuple(a.shape)}")
        if any(size != size for size in a.shape):  # Dask's, where chunks are of unknown sizes
            raise ValueError("a has chunks of unknown sizes; call a.compute_chunk_sizes() first")
        self.a = a
        self.shape = (int(a.shape[0]), int(a.shape[1]))
        self.dtype = working_dtype(a.dtype)
        self._file = mapped_file(a)

    @property
    def is_sendable(self) -> bool:
        """Of files that are memory-mapped."""
        return self._file is not None

    @property
    def is_fresh(self) -> bool:
        """Of files, which are read, not mapped."""
        return self._file is not None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "a": self.a if self._file is None else None}

    def in_one_step(self, rows: slice, columns: slice, dtype: np.dtype[Any]) -> Array | None:
        """A rectangle of a file whose rows are contiguous, in a dtype; None of all else.

        Without a copy, and not to be written to, where the file has it in one piece.
        """
        if self._file is None or self._file.dtype != self.dtype:
            return None
        part = self._file.view(rows, columns) if dtype == self.dtype else None
        return self._file.read_as(rows, columns, dtype) if part is None else part

    def read(self, rows: slice, columns: slice) -> Array:
        if self._file is not None:
            return self._file.read(rows, columns).astype(self.dtype, copy=False)
        part = self.a[rows, columns]
        if hasattr(part, "compute"):  # Dask's
            # chunks that a cluster holds are to be had by its client alone
            part = part.compute(scheduler=None if _is_on_cluster() else "synchronous")
        return np.asarray(unmapped(part)).astype(self.dtype, copy=False)


def _is_on_cluster() -> bool:
    """Whether Dask computes by a client of a cluster unless it is told otherwise."""
    from dask import config

    return config.get("scheduler", None) in ("dask.distributed", "distributed")


class FunctionSource:
    """A matrix that is made where it is asked for.

    Parameters
    ----------
    function : callable
        ``function(rows, columns)`` of two arrays of int64 indices gives the entries
        ``a[rows[:, None], columns]``.
    shape : tuple of int
    dtype : dtype
    """

    def __init__(
        self, function: Function, shape: tuple[int, int], dtype: DTypeLike = np.float64
    ) -> None:
        self.function = function
        try:
            rows, columns = map(operator.index, shape)
        except (TypeError, ValueError):
            raise TypeError(f"shape must be two whole numbers, got {shape!r}") from None
        if min(rows, columns) < 0:
            raise ValueError(f"shape must not be negative, got {shape!r}")
        self.shape = (rows, columns)
        self.dtype = working_dtype(dtype)

    is_sendable = True
    is_fresh = False

    def read(self, rows: slice, columns: slice) -> Array:
        part = np.asarray(self.function(np.arange(rows.start, rows.stop),
                                        np.arange(columns.start, columns.stop)))  # fmt: skip
        wanted = (rows.stop - rows.start, columns.stop - columns.start)
        if part.shape != wanted:
            raise ValueError(
                f"the function of the matrix gave a block of shape {part.shape} for rows "
                f"{rows.start}:{rows.stop} and columns {columns.start}:{columns.stop}; "
                f"its shape should be {wanted}"
            )
        if part.dtype.kind == "c" and self.dtype.kind != "c":
            raise TypeError(
                f"the function of the matrix gave {part.dtype} entries; its dtype is {self.dtype}"
            )
        return part.astype(self.dtype, copy=False)


def as_source(a: Any) -> Source:
    """`a` as a source.

    Raises
    ------
    TypeError, ValueError
        It is no matrix, or lies where it cannot be read.
    """
    if all(hasattr(a, name) for name in ("read", "shape", "dtype", "is_sendable", "is_fresh")):
        source: Source = a  # arrays of other libraries have a `read`, too, but another one
        return source
    if is_on_device(a):
        raise TypeError("matrices on a device are solved by mplinalg.solve; this one fits there")
    if isinstance(a, np.ma.MaskedArray):
        raise ValueError("masked arrays are not supported (a)")
    if type(a).__module__.startswith("scipy.sparse"):
        raise ValueError("sparse matrices are not supported (a)")
    if not (hasattr(a, "shape") and hasattr(a, "dtype") and hasattr(a, "__getitem__")):
        a = np.asarray(a)
    return ArraySource(a)


_STRIP_BYTES = 2**24
"""Of a block, that are read at once."""


class Blocks:
    """Blocks of diag(rows) A diag(cols) as the inputs of a program, by the numbers in their keys.

    Parameters
    ----------
    source : Source
    rows, columns : list of slice
        Of the blocks; a key ends in the numbers of both, or in that of the rows if there is but
        one block column.
    dtype : dtype
        Of the blocks, which are C-ordered, and new if they may be written to.
    scaling : Scaling, optional
    is_checked : bool
        NaN and infinity are a ValueError.
    """

    def __init__(
        self, source: Source, rows: list[slice], columns: list[slice], dtype: np.dtype[Any],
        scaling: Scaling | None, *, is_checked: bool = False,
    ) -> None:  # fmt: skip
        self.is_checked = is_checked
        self.source, self.rows, self.columns = source, rows, columns
        self.dtype, self.scaling = dtype, scaling

    def __call__(self, key: Key) -> Array:
        rows, columns = self._place(key)
        factors = self._factors(rows, columns)
        return Reading(self.source, rows, columns, factors, self.dtype, self.is_checked)()

    def remote(self, client: Any, key: Key) -> Any:
        """A block for a worker of a Dask cluster: a future, or a function that reads it there, or
        an array if only this process can read it.
        """
        rows, columns = self._place(key)
        factors = self._factors(rows, columns)
        if isinstance(self.source, ArraySource) and hasattr(self.source.a, "dask"):
            part = client.compute(self.source.a[rows, columns])
            return client.submit(scaled, part, *factors, self.dtype, self.is_checked, pure=False)
        if self.source.is_sendable:
            return Reading(self.source, rows, columns, factors, self.dtype, self.is_checked)
        return self(key)

    def _place(self, key: Key) -> tuple[slice, slice]:
        down, across = (*key[1:], 0)[:2]
        return self.rows[down], self.columns[across]

    def _factors(self, rows: slice, columns: slice) -> tuple[Array | None, Array | None]:
        if self.scaling is None:
            return None, None
        return self.scaling.rows[rows], self.scaling.cols[columns]


@dataclass(frozen=True)
class Reading:
    """A block that is read where it is called for."""

    source: Source
    rows: slice
    columns: slice
    factors: tuple[Array | None, Array | None]
    dtype: np.dtype[Any]
    is_checked: bool

    def __call__(self) -> Array:
        is_plain = self.factors[0] is None and not self.is_checked
        if is_plain and isinstance(self.source, ArraySource):
            part = self.source.in_one_step(self.rows, self.columns, self.dtype)
            if part is not None:
                return part
        m, n = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        height = max(1, _STRIP_BYTES // max(1, n * self.source.dtype.itemsize))
        if m <= height:
            return self._strip(slice(0, m), copies=not self.source.is_fresh)
        # what is read is wider than the block, or scaled: not all of it twice in memory
        block = empty((m, n), self.dtype)
        for start in range(0, m, height):
            strip = slice(start, min(start + height, m))
            block[strip] = self._strip(strip, copies=False)
        return block

    def _strip(self, strip: slice, *, copies: bool) -> Array:
        first = self.rows.start
        part = self.source.read(slice(first + strip.start, first + strip.stop), self.columns)
        rows, columns = self.factors
        rows = None if rows is None else rows[strip]
        return scaled(part, rows, columns, self.dtype, self.is_checked, copies=copies)


class Named:
    """Inputs by the letters of their keys: blocks of matrices, and functions that give vectors."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        self._inputs = inputs

    def __call__(self, key: Key) -> Array:
        return self._inputs[key[0]](key)

    def remote(self, client: Any, key: Key) -> Any:
        """As `Blocks.remote`; vectors are arrays."""
        given = self._inputs[key[0]]
        if isinstance(given, Blocks):
            return given.remote(client, key)
        return given(key)


def scaled(
    part: Array, rows: Array | None, columns: Array | None, dtype: np.dtype[Any],
    is_checked: bool = False, *, copies: bool = True,
) -> Array:  # fmt: skip
    """diag(rows) part diag(columns): C-ordered, in `dtype`; finite, if `is_checked`.

    Without `copies` it may be `part`.
    """
    if is_checked and not np.isfinite(part).all():
        raise ValueError("array must not contain infs or NaNs")
    if rows is not None and columns is not None:
        part = part * rows[:, None]
        part *= columns
    if not copies and part.dtype == dtype and part.flags.c_contiguous:
        return part
    found = empty(part.shape, dtype)
    found[...] = part
    return found
