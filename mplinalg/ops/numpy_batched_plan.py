"""How a batch of products or triangular solves is done on the CPU: decided once for its layout.

Small members are computed in less time than Python takes to look at shapes and strides; so what
follows from these is kept for the next call.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ..precision import real_dtype
from .numpy_batched_common import BYTE_RATE, SINGLE_THREADED, compiled, flop_rate, scalar
from .protocol import Array

STRAIGHT_FROM = 20_000
"""Multiplications for which a call may compile code for the size of its members."""
AHEAD_FROM = 2**22
"""Multiplications from which members are read ahead: with fewer they are in a cache, and BLAS,
which is not compiled first, is as fast."""

Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""Shape and strides of a stack."""


def layout(a: Array) -> Layout:
    """How a stack lies in memory."""
    return a.shape, a.strides


def layout_of_batch(*stacks: Layout) -> tuple[Array, Array]:
    """Dimensions of a batch, and strides of each stack along them in bytes, as few as can be.

    Adjacent dimensions are joined where all stacks go through them in steps of one size.

    Returns
    -------
    shape : ndarray of int64, shape (r,), r >= 1
    strides : ndarray of int64, shape (len(stacks), r)
    """
    joined: list[tuple[int, list[int]]] = []
    for d, count in enumerate(stacks[0][0][:-2]):
        if count == 1:
            continue
        steps = [strides[d] for _, strides in stacks]
        if joined and joined[-1][1] == [step * count for step in steps]:
            joined[-1] = joined[-1][0] * count, steps
        else:
            joined.append((count, steps))
    joined = joined or [(1, [0] * len(stacks))]
    shape = np.array([count for count, _ in joined], np.int64)
    strides = np.array([steps for _, steps in joined], np.int64).T
    return shape, np.ascontiguousarray(strides)


def kind(stack: Layout, itemsize: int) -> int:
    """How members lie that are to be contiguous: `kernels.cpu.batched.members.BY_ROWS`, ..."""
    members = compiled("batched.members")
    (*_, m, n), (*_, row, column) = stack
    if (n == 1 or column == itemsize) and (m == 1 or row == n * itemsize):
        return members.BY_ROWS
    if (m == 1 or row == itemsize) and (n == 1 or column == m * itemsize):
        return members.BY_COLUMNS
    return members.ANY


class Called(NamedTuple):
    """What kernels for any size are called with, which have C by rows.

    If C is by columns, or neither, that is C^T = B^T A^T.
    """

    order: tuple[int, int, int]
    """Which of A, B and C are the three operands."""
    strides: Array
    dimensions: tuple[int, int, int]
    steps: tuple[tuple[int, int], ...]
    """Of each operand, from row to row and from column to column, in bytes."""
    conjugated: tuple[bool, ...]
    alpha: Any
    beta: Any


class GemmPlan(NamedTuple):
    """How a batch is multiplied."""

    members: int
    cost: float
    """Seconds of one of them, roughly."""
    shape: Array
    strides: Array
    """As `layout_of_batch`."""
    kernel: Any
    """Straight code; None if there is none, or it is not worth while."""
    steps: tuple[int, ...]
    numbers: tuple[Any, ...]
    """Arguments of the kernel."""
    called: Called
    """For what is neither straight code nor numpy.matmul."""
    is_streamed: bool
    """Members of some tens, for `kernels.cpu.batched.streamed`."""
    is_for_matmul: bool
    """numpy.matmul would call BLAS with what is there, and on one thread."""
    is_single_threaded: bool
    """BLAS multiplies a member on one thread."""


@functools.lru_cache(maxsize=512)
def gemm_plan(
    dtype: np.dtype[Any], alpha: complex, conj_a: bool, conj_b: bool, beta: complex,
    a: Layout, b: Layout, c: Layout, straight_from: int, ahead_from: int,
) -> GemmPlan:  # fmt: skip
    """How C <- alpha A B + beta C is computed for stacks with these layouts, none of them empty."""
    gemm, layouts = compiled("batched.gemm"), compiled("batched.members")
    *batch, m, n = c[0]
    k = a[0][-1]
    count = math.prod(batch)
    real = real_dtype(dtype)
    pair = dtype.itemsize // real.itemsize
    shape, strides = layout_of_batch(a, b, c)
    kinds = [kind(stack, dtype.itemsize) for stack in (a, b, c)]
    flops = 2.0 * m * n * k * pair**2
    numbers_moved = float(m * k + k * n + 2 * m * n)
    cost = max(flops / flop_rate(dtype), numbers_moved * dtype.itemsize / BYTE_RATE)
    kernel = None
    is_small = max(m, k, n) <= gemm.LARGEST[real.itemsize, pair]
    if is_small and count * m * n * k >= straight_from:
        mode = gemm.ADDED if beta != 0 else gemm.PLAIN if alpha == 1 else gemm.SCALED
        code = kinds[0] + 3 * kinds[1] + 9 * kinds[2]
        kernel = gemm.small(m, k, n, real.itemsize, pair, code, mode)
    parts = (part for number in map(complex, (alpha, beta)) for part in (number.real, number.imag))
    signs = (-1.0 if flag else 1.0 for flag in (conj_a, conj_b))
    called = _called(dtype, a, b, c, strides, (conj_a, conj_b, False), alpha, beta)
    is_streamed = (
        not is_small and pair == 1 and called.steps[2][1] == dtype.itemsize
        and count * m * n * k >= ahead_from
        and bool(compiled("batched.streamed").takes(*called.dimensions, dtype.itemsize))
    )  # fmt: skip
    is_single_threaded = m * n * k <= SINGLE_THREADED
    return GemmPlan(
        members=count,
        cost=cost + (3e-9 if kernel is not None else 30e-9),
        shape=shape,
        strides=strides,
        kernel=kernel,
        steps=tuple(step // real.itemsize for stack in (a, b, c) for step in stack[1][-2:]),
        numbers=tuple(scalar(number, real) for number in (*parts, *signs)),
        called=called,
        is_streamed=is_streamed,
        is_for_matmul=is_single_threaded
        and len(shape) == 1
        and (alpha, beta, conj_a, conj_b) == (1, 0, False, False)
        and layouts.ANY not in kinds
        and kinds[2] == layouts.BY_ROWS,
        is_single_threaded=is_single_threaded,
    )


def _called(
    dtype: np.dtype[Any], a: Layout, b: Layout, c: Layout, strides: Array,
    conjugated: tuple[bool, ...], alpha: complex, beta: complex,
) -> Called:  # fmt: skip
    stacks = a, b, c
    by_rows = c[1][-1] == dtype.itemsize
    order = (0, 1, 2) if by_rows else (1, 0, 2)
    (*_, m, k), (*_, n) = a[0], b[0]
    turn = 1 if by_rows else -1
    return Called(
        order=order,
        strides=np.ascontiguousarray(strides[list(order)]),
        dimensions=(m, k, n) if by_rows else (n, k, m),
        steps=tuple(stacks[i][1][-2:][::turn] for i in order),  # type: ignore[misc]
        conjugated=tuple(conjugated[i] for i in order),
        alpha=scalar(alpha, dtype),
        beta=scalar(beta, dtype),
    )
