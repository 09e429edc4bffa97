"""Where the members of a batch lie, and how compiled code and BLAS reach them.

A batch has any number of dimensions, each with any stride, 0 and negative ones too; a list of
matrices has an address for each. Addresses are integers: whoever calls a kernel holds the arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray
from numba.core import types as numba_types
from numba.extending import intrinsic, register_jitable

from ..jit import kernel

types: Any = numba_types

__all__ = ["ANY", "BY_COLUMNS", "BY_ROWS", "copied", "copy_out", "entry", "lines", "place", "span"]

BY_ROWS, BY_COLUMNS, ANY = 0, 1, 2
"""How the entries of a matrix lie: contiguous rows, contiguous columns, or neither."""


@intrinsic
def _pointer(typingctx, address, like):  # type: ignore[no-untyped-def]
    """The address as a pointer to numbers of the type of `like`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(address, like), codegen


@register_jitable
def span(address, count, like):  # type: ignore[no-untyped-def]
    """The `count` numbers at an address, of the type of `like`, as an array that owns nothing."""
    return carray(_pointer(address, like), count)


@register_jitable
def entry(address, like):  # type: ignore[no-untyped-def]
    """The number at an address, of the type of `like`, as an array of one."""
    return span(address, 1, like)


@kernel
def place(t, shape, strides):  # type: ignore[no-untyped-def]
    """How far member t of a batch is from the first, in each of three operands, in bytes.

    `shape` is that of the batch, C order; `strides` its strides, shape (3, shape.size).
    """
    far_a = 0
    far_b = 0
    far_c = 0
    for d in range(shape.size - 1, -1, -1):
        i = t % shape[d]
        t = t // shape[d]
        far_a += i * strides[0, d]
        far_b += i * strides[1, d]
        far_c += i * strides[2, d]
    return far_a, far_b, far_c


@kernel
def copied(m, n, matrix, like):  # type: ignore[no-untyped-def]
    """The m-by-n matrix (address, steps in bytes, conjugate or not) in an array, by rows."""
    address, steps, conjugate = matrix
    room = np.empty(m * n, entry(address, like).dtype)
    for i in range(m):
        for j in range(n):
            number = entry(address + i * steps[0] + j * steps[1], like)[0]
            room[i * n + j] = np.conj(number) if conjugate else number
    return room


@kernel
def copy_out(m, n, room, matrix):  # type: ignore[no-untyped-def]
    """Back from an array to memory."""
    address, steps, _ = matrix
    like = room.dtype.type(0)
    for i in range(m):
        for j in range(n):
            entry(address + i * steps[0] + j * steps[1], like)[0] = room[i * n + j]


@kernel
def lines(m, n, steps, size):  # type: ignore[no-untyped-def]
    """Whether an m-by-n matrix is, for BLAS, one of contiguous rows or columns.

    Parameters
    ----------
    m, n : int
    steps : tuple of two ints
        From row to row and from column to column, in bytes.
    size : int
        Bytes of a number.

    Returns
    -------
    layout : int
        `BY_ROWS`, `BY_COLUMNS` or `ANY`.
    leading : int
        The leading dimension: how far its lines are apart, in numbers; 0 for `ANY`.
    """
    row, column = steps
    largest = 2**31 - 1  # BLAS counts in 32 bits
    if n == 1 or column == size:
        if m == 1:
            return BY_ROWS, n
        if row % size == 0 and n <= row // size <= largest:
            return BY_ROWS, row // size
    if m == 1 or row == size:
        if n == 1:
            return BY_COLUMNS, m
        if column % size == 0 and m <= column // size <= largest:
            return BY_COLUMNS, column // size
    return ANY, 0
