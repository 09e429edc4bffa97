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
    is_streamed: bool
    """Members of some tens, for `kernels.cpu.batched.streamed`."""
    is_for_matmul: bool
    """numpy.matmul would call BLAS with what is there, and on one thread."""
    is_single_threaded: bool
    """BLAS multiplies a member on one thread."""


@functools.lru_cache(maxsize=512)
def gemm_plan(
    dtype: np.dtype[Any], alpha: complex, conj_a: bool, conj_b: bool, beta: complex,
    a: Layout, b: Layout, c: Layout, straight_from: int,
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
    is_worthwhile = count * m * n * k >= straight_from
    if is_small and is_worthwhile:
        mode = gemm.ADDED if beta != 0 else gemm.PLAIN if alpha == 1 else gemm.SCALED
        code = kinds[0] + 3 * kinds[1] + 9 * kinds[2]
        kernel = gemm.small(m, k, n, real.itemsize, pair, code, mode)
    parts = (part for number in map(complex, (alpha, beta)) for part in (number.real, number.imag))
    signs = (-1.0 if flag else 1.0 for flag in (conj_a, conj_b))
    row, column = c[1][-2:]
    rows, columns = (m, n) if column == dtype.itemsize else (n, m)  # C^T = B^T A^T
    is_streamed = (
        not is_small and is_worthwhile and pair == 1 and dtype.itemsize in (row, column)
        and bool(compiled("batched.streamed").takes(rows, k, columns, dtype.itemsize))
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
        is_streamed=is_streamed,
        is_for_matmul=is_single_threaded
        and len(shape) == 1
        and (alpha, beta, conj_a, conj_b) == (1, 0, False, False)
        and layouts.ANY not in kinds
        and kinds[2] == layouts.BY_ROWS,
        is_single_threaded=is_single_threaded,
    )
