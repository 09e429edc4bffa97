"""Lists of matrices of different sizes: where each one lies, and copies to and from one buffer.

A list is described by a table of int64 with a row for each matrix: address, rows, columns, and the
steps from row to row and from column to column in bytes. A vector is a column.

A Python loop over a list takes longer to ask each array for its address than a product of small
matrices takes. So `read_headers` reads what NumPy's C interface declares in `PyArrayObject_fields`
(numpy/core/include/numpy/ndarraytypes.h), an interface of C programs that NumPy keeps stable.
"""

from __future__ import annotations

import numpy as np

from ..jit import kernel
from .members import entry, span

__all__ = ["copy_listed", "gather", "read_headers", "scatter"]

_ALIGNED = 0x0100
_DATA, _NDIM, _SHAPE, _STRIDES, _DESCR, _FLAGS = 0, 8, 16, 24, 40, 48
"""Bytes from the end of an object's head."""


@kernel
def read_headers(items, head, type_, descr, ndim, itemsize, table):  # type: ignore[no-untyped-def]
    """Describe arrays by their headers.

    Parameters
    ----------
    items : int
        Where the addresses of the arrays lie; the caller holds the arrays.
    head : int
        Bytes of an object's head, of which the last word is the address of the type.
    type_, descr : int
        Addresses of the type, and of the dtype, that all are to have.
    ndim : int
        Dimensions that all are to have, 1 or 2.
    itemsize : int
    table : array of int64, shape (N, 5)

    Returns
    -------
    int
        The first object that is something else, or not aligned; -1 if there is none.
    """
    word = np.int64(0)
    short = np.int32(0)
    addresses = span(items, table.shape[0], word)
    for t in range(table.shape[0]):
        fields = addresses[t] + head
        if entry(fields - 8, word)[0] != type_:
            return t
        aligned = entry(fields + _FLAGS, short)[0] & _ALIGNED
        if (
            entry(fields + _DESCR, word)[0] != descr
            or entry(fields + _NDIM, short)[0] != ndim
            or not aligned
        ):
            return t
        shape, strides = entry(fields + _SHAPE, word)[0], entry(fields + _STRIDES, word)[0]
        table[t, 0] = entry(fields + _DATA, word)[0]
        table[t, 1] = entry(shape, word)[0]
        table[t, 3] = entry(strides, word)[0]
        table[t, 2] = entry(shape + 8, word)[0] if ndim == 2 else 1
        table[t, 4] = entry(strides + 8, word)[0] if ndim == 2 else itemsize
    return -1


@kernel
def copy_listed(first, last, source, target, like):  # type: ignore[no-untyped-def]
    """Copy matrices first, ..., last - 1 of one table to those of another, of the same shapes.

    A table `source` of one row is of all members. Numbers are of the type of `like`.
    """
    size = entry(target[0, 0], like).itemsize
    for t in range(first, last):
        a = source[t if source.shape[0] > 1 else 0]
        b = target[t]
        m, n = a[1], a[2]
        if a[4] == b[4] == size:
            if a[3] == b[3] == n * size:
                m, n = 1, m * n
            for i in range(m):
                row, row_out = span(a[0] + i * a[3], n, like), span(b[0] + i * b[3], n, like)
                for j in range(n):
                    row_out[j] = row[j]
        else:
            for i in range(m):
                place, place_out = a[0] + i * a[3], b[0] + i * b[3]
                for j in range(n):
                    entry(place_out + j * b[4], like)[0] = entry(place + j * a[4], like)[0]


@kernel
def gather(data, offsets, stack):  # type: ignore[no-untyped-def]
    """stack[t] <- data[offsets[t] : offsets[t] + stack.shape[1]]."""
    for t in range(offsets.size):
        start = offsets[t]
        for j in range(stack.shape[1]):
            stack[t, j] = data[start + j]


@kernel
def scatter(stack, data, offsets):  # type: ignore[no-untyped-def]
    """data[offsets[t] : offsets[t] + stack.shape[1]] <- stack[t]."""
    for t in range(offsets.size):
        start = offsets[t]
        for j in range(stack.shape[1]):
            data[start + j] = stack[t, j]
