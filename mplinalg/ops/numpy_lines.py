"""What the parts of `NumpyOps` share: arrays as contiguous lines, compiled kernels, addresses."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu import routines
from ..precision import real_dtype

Array = NDArray[Any]

ROW_BLOCK = 256
"""Rows of which a temporary copy is made at once."""
_TILED_FROM = 2**16
"""Size from which the cache does not hold what a transposition touches."""
_TILE = 64
UNIT = {"f": 2.0**-24, "d": 2.0**-53}
HERK = {"f": "syrk", "c": "herk"}


@functools.cache
def compiled(name: str) -> Any:
    """A module of compiled kernels; Numba is imported with the first of them."""
    return importlib.import_module(f"..kernels.cpu.{name}", __package__)


@functools.cache
def addresses(dtype: np.dtype[Any], *names: str) -> tuple[int, ...]:
    return tuple(routines.address(name, dtype) for name in names)


def real_lines(a: Array) -> tuple[Array, bool]:
    """`a` as real lines with contiguous last axis, and whether they are its rows."""
    if routines.is_f_like(a) and (a.shape[1] <= a.shape[0] or not routines.is_c_like(a)):
        return a.T.view(real_dtype(a.dtype)), False
    if routines.is_c_like(a):
        return a.view(real_dtype(a.dtype)), True
    raise ValueError(f"need unit stride in one dimension; got {a.shape=}, {a.strides=}")


def real_vector(x: Array) -> Array:
    return x.view(real_dtype(x.dtype))


def lines_of(a: Array, by_columns: bool | None = None) -> tuple[Array, Array, bool]:
    """Contiguous lines of a square matrix, the same as real numbers, and whether they are columns.

    A copy of what is not contiguous in the direction wanted (None: in either).
    """
    if by_columns is None:
        by_columns = not a.flags.c_contiguous
    lines = np.ascontiguousarray(a.T if by_columns else a)
    return lines, lines.view(real_dtype(a.dtype)), by_columns


def columns(b: Array) -> Array:
    """The columns of b as contiguous lines; b itself, transposed, if they are that already."""
    if b.flags.f_contiguous or b.size < _TILED_FROM:
        return np.ascontiguousarray(b.T)
    lines = np.empty(b.shape[::-1], b.dtype)
    for start in range(0, len(b), _TILE):  # a few cache lines of each column at a time
        lines[:, start : start + _TILE] = b[start : start + _TILE].T
    return lines


def is_by_rows(a: Array) -> bool:
    """Square, contiguous by rows only: factored by the library's own kernel, not by LAPACK."""
    return a.flags.c_contiguous and a.shape[0] == a.shape[1] > 1


def cabs1(a: Array) -> Array:
    """|a|, or |re| + |im| of a complex array."""
    if a.dtype.kind != "c":
        return np.abs(a)
    size = np.abs(a.real)
    size += np.abs(a.imag)
    return size


def hermitian_rows(a: Array, rows: slice, triangle: str, magnitude: bool = True) -> Array:
    """Rows of a Hermitian matrix of which one triangle is stored; C-ordered copy."""
    take = cabs1 if magnitude else np.asarray
    start = rows.start
    if triangle == "U":
        right, left = take(a[rows, start:]), take(a[:start, rows]).T.conj()
    else:
        right, left = take(a[start:, rows]).T.conj(), take(a[rows, :start])
    block = np.empty((rows.stop - start, a.shape[0]), right.dtype)
    block[:, :start] = left
    block[:, start:] = right
    square = block[:, rows]
    below = np.tril_indices(square.shape[0], -1)
    square[below] = square.T[below].conj()
    np.fill_diagonal(square, take(a.diagonal()[rows].real))
    return block
