"""Products of many matrices of some tens: while one is computed, the next one is read.

The loops around `blocks.multiply_blocks`, over a batch and over lists of different sizes. A matrix
B that is large, or has rows that are not contiguous, is copied, one member at a time.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types as numba_types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from ..jit import kernel
from ..lanes import transposed
from . import rows
from .blocks import LEAST_ROWS, multiply_blocks, register_bytes
from .members import entry, place, span

types: Any = numba_types

__all__ = [
    "LINE", "bytes_of_line", "copy_by_rows", "multiply_listed", "multiply_stack", "place_in",
    "takes",
]  # fmt: skip

_LARGEST = 3 * 2**20
"""Bytes of A, B and C together: with more, BLAS, which copies A, too, is as fast."""
_COPIED, _OFTEN = 2**16, 32
"""Bytes and rows of A from which on B is copied in any case: its rows are far apart in memory, and
every block goes through all of them."""
LINE = 64
"""Bytes of a line of the cache."""
_INDEX = ir.IntType(64)


@functools.cache
def _register_bytes() -> int:
    return int(rows.registers(cpu_target.target_context)[0])


def takes(m: Any, k: Any, n: Any, itemsize: int) -> Any:
    """Whether m by k times k by n, of real numbers of `itemsize` bytes, is for these kernels.

    Takes arrays of sizes, too. Entries of a row of C must be contiguous.
    """
    bytes_ = (m * k + k * n + m * n) * itemsize
    is_large = (m >= LEAST_ROWS) & (n * itemsize > _register_bytes()) & (k > 0)
    return is_large & (bytes_ <= _LARGEST)


@intrinsic
def _transpose_square(typingctx, source, step, target, target_step, like):  # type: ignore[no-untyped-def]
    """Write the columns of a square of as many rows as a register holds numbers as rows."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        source, step, target, target_step, like = values
        size = 8 if isinstance(like.type, ir.DoubleType) else 4
        width = rows.registers(context)[0] // size
        kind = ir.VectorType(like.type, width).as_pointer()

        def line(first: Any, far: Any, i: int) -> Any:
            address = builder.add(first, builder.mul(far, ir.Constant(_INDEX, i)))
            return builder.inttoptr(address, kind)

        square = [builder.load(line(source, step, i), align=size) for i in range(width)]
        for i, row in enumerate(transposed(builder, square)):
            builder.store(row, line(target, target_step, i), align=size)
        return context.get_dummy_value()

    return types.void(source, step, target, target_step, like), codegen


@kernel
def bytes_of_line(n, size):  # type: ignore[no-untyped-def]
    """Of a row of a copy: an odd number of lines, so that rows are in all sets of the cache."""
    return ((n * size + LINE - 1) // LINE | 1) * LINE


@kernel
def _room_for(m, k, n, b, size):  # type: ignore[no-untyped-def]
    """Numbers of the room for a copy of B; 0 if it is multiplied by as it is."""
    if b[1][1] == size and (k * n * size < _COPIED or m < _OFTEN):
        return 0
    return (k * bytes_of_line(n, size) + LINE) // size


@kernel
def place_in(room):  # type: ignore[no-untyped-def]
    """Where in a room for it the copy of B begins, a line of the cache."""
    return (np.int64(room.ctypes.data) + LINE - 1) // LINE * LINE


@kernel
def copy_by_rows(k, n, b, target, line, like):  # type: ignore[no-untyped-def]
    """Copy B, of any steps, by contiguous rows, `line` bytes apart. n are more than a register."""
    address, (down, across) = b
    size = entry(target, like).itemsize
    width = register_bytes() // size
    if down == size and k >= width:
        # by squares; the last ones begin a register before the end
        for column in range(0, n, width):
            j = min(column, n - width)
            for row in range(0, k, width):
                i = min(row, k - width)
                source = address + i * size + j * across
                _transpose_square(source, across, target + i * line + j * size, line, like)
    elif across == size:
        for i in range(k):
            row_in, row_out = span(address + i * down, n, like), span(target + i * line, n, like)
            for j in range(n):
                row_out[j] = row_in[j]
    else:
        for i in range(k):
            row_out = span(target + i * line, n, like)
            for j in range(n):
                row_out[j] = entry(address + i * down + j * across, like)[0]


@kernel
def _multiply(m, k, n, alpha, a, b, beta, c, ahead, room, is_there):  # type: ignore[no-untyped-def]
    """One product; a, b and c are addresses and the steps of rows and columns, in bytes.

    `is_there`: whether `room` has the copy of B already.
    """
    address, line = b[0], b[1][0]
    if _room_for(m, k, n, b, room.itemsize):
        address, line = place_in(room), bytes_of_line(n, room.itemsize)
        if not is_there:
            copy_by_rows(k, n, b, address, line, room[0])
    multiply_blocks(
        m, k, n, alpha, (a[0], a[1][0], a[1][1]), (address, line), beta, (c[0], c[1][0]), ahead
    )


@kernel
def multiply_stack(first, last, shape, strides, dimensions, alpha, a, b, beta, c):  # type: ignore[no-untyped-def]
    """C <- alpha A B + beta C for members first, ..., last - 1 of a batch.

    Parameters
    ----------
    shape, strides : array
        Of the batch, as `members.place` takes them.
    dimensions : tuple of int
        m, k and n, which `takes` is true of.
    alpha, beta : float
        Of the type of the entries.
    a, b, c : tuple
        Of the first members: address, and steps from row to row and from column to column in bytes.
        C overlaps neither A nor B.
    """
    m, k, n = dimensions
    like = entry(c[0], alpha)
    size = like.itemsize
    room = np.empty(_room_for(m, k, n, b, size), like.dtype)
    inner = shape[-1]
    step_a, step_b, step_c = strides[0, -1], strides[1, -1], strides[2, -1]
    bytes_a, bytes_b, bytes_c = m * k * size, k * n * size, m * n * size
    held = -1  # address of the B that is copied
    while first < last:
        far_a, far_b, far_c = place(first, shape, strides)
        pa, pb, pc = a[0] + far_a, b[0] + far_b, c[0] + far_c
        count = min(last - first, inner - first % inner)
        for t in range(count):
            onwards = 1 if t < count - 1 else 0
            ahead = (
                (pa + onwards * step_a, bytes_a),
                (pb + onwards * step_b, bytes_b),
                (pc + onwards * step_c, bytes_c),
            )
            _multiply(
                m, k, n, alpha, (pa, a[1]), (pb, b[1]), beta, (pc, c[1]), ahead, room, pb == held
            )
            held = pb
            pa += step_a
            pb += step_b
            pc += step_c
        first += count


@kernel
def multiply_listed(chosen, alpha, a, b, beta, c):  # type: ignore[no-untyped-def]
    """C <- alpha A B + beta C for the `chosen` of lists of matrices.

    a, b and c are tables as `ragged` has them; one of one row is of all members. What follows
    another in `chosen` should be of about its size, as it is read in the other's time.
    """
    like = entry(c[0, 0], alpha)
    size = like.itemsize
    room = np.empty(0, like.dtype)
    each_a, each_b = min(a.shape[0] - 1, 1), min(b.shape[0] - 1, 1)
    is_there = False  # in `room`, the copy of the only B
    for s in range(chosen.size):
        t, u = chosen[s], chosen[min(s + 1, chosen.size - 1)]
        i, j, next_i, next_j = t * each_a, t * each_b, u * each_a, u * each_b
        m, k, n = c[t, 1], a[i, 2], c[t, 2]
        second = b[j, 0], (b[j, 3], b[j, 4])
        if room.size < _room_for(m, k, n, second, size):
            room = np.empty(_room_for(m, k, n, second, size), like.dtype)
            is_there = False
        ahead = (
            (a[next_i, 0], a[next_i, 1] * a[next_i, 2] * size),
            (b[next_j, 0], b[next_j, 1] * b[next_j, 2] * size),
            (c[u, 0], c[u, 1] * c[u, 2] * size),
        )
        _multiply(
            m, k, n, alpha, (a[i, 0], (a[i, 3], a[i, 4])), second, beta,
            (c[t, 0], (c[t, 3], c[t, 4])), ahead, room, is_there,
        )  # fmt: skip
        is_there = each_b == 0 and _room_for(m, k, n, second, size) > 0
