"""Products and triangular solves of stacks on the CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.cpu import crew, routines
from ..precision import Format, real_dtype, working_format
from . import numpy_batched_plan as plan
from .batched import Judged, SolvedBatch
from .numpy_batched_common import (
    BYTE_RATE,
    SINGLE_THREADED,
    TERMS,
    compiled,
    flop_rate,
    pointer,
    powers_of_two,
    rounded,
    scalar,
)  # fmt: skip
from .numpy_batched_ragged import BatchedRagged
from .protocol import Array

_WORKING = frozenset(map(np.dtype, "fdFD"))
_STRAIGHT = {"d": 15, "f": 20, "D": 16, "F": 24}
"""Dimensions up to which code may be straight (`kernels.cpu.batched.gemm.LARGEST`)..."""
_TIMES = 12
"""...beyond, so many times the multiplications that may compile it are BLAS's, on one thread."""
_CHUNK = 2**18
"""Numbers that are rounded at a time."""


def _operand(a: Array, trans: str) -> tuple[Array, bool]:
    """op(A) without its conjugation, and whether it is to be conjugated."""
    if trans == "N":
        return a, False
    return a.swapaxes(-1, -2), trans == "C" and a.dtype.kind == "c"


def small_product(a: Any, b: Any) -> Array | None:
    """A B of two stacks (N, m, k) and (N, k, n), few and small, by one call; else None.

    What there is to find out about operands takes ten times as long as such a product.
    """
    if type(a) is not np.ndarray or type(b) is not np.ndarray or a.ndim != 3 or b.ndim != 3:
        return None
    (count, m, k), (count_b, k_b, n), dtype = a.shape, b.shape, a.dtype
    if count != count_b or k != k_b or dtype != b.dtype or dtype not in _WORKING:
        return None
    times = 1 if max(m, n, k) <= _STRAIGHT.get(dtype.char, 0) else _TIMES
    if a.size * n >= times * plan.STRAIGHT_FROM:
        return None
    with np.errstate(all="ignore"):  # as no other route warns
        return np.matmul(a, b)


class BatchedGemm(BatchedRagged):
    """The verbs gemm and trsm of `mplinalg.ops.BatchedOps`."""

    def gemm_batched(
        self, alpha: complex, a: Array, b: Array, beta: complex, c: Array, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
    ) -> None:  # fmt: skip
        a, conj_a = _operand(a, transa)
        b, conj_b = _operand(b, transb)
        m, n = c.shape[-2:]
        k = a.shape[-1]
        if a.shape[:-1] != (*c.shape[:-2], m) or b.shape != (*c.shape[:-2], k, n):
            raise ValueError(f"gemm: shapes {a.shape}, {b.shape} and {c.shape} do not fit")
        if max(m, n, k) >= 2**31:
            raise ValueError(f"gemm: dimensions of 2^31 and more: {a.shape=}, {b.shape=}")
        if c.size == 0:
            return
        if k == 0 or alpha == 0:  # A and B are not read
            with np.errstate(all="ignore"):  # as no other route warns
                c[...] = scalar(beta, c.dtype) * c if beta != 0 else 0
        elif compute is not None and compute != working_format(c.dtype):
            _multiply_rounded(alpha, a, conj_a, b, conj_b, beta, c, compute)
        else:
            _multiply(alpha, a, conj_a, b, conj_b, beta, c)

    def trsm_batched(
        self, a: Array, b: Array, *, lower: bool, unit: bool = False, trans: str = "N"
    ) -> SolvedBatch:
        a, conjugate = _operand(a, trans)
        lower = lower == (trans == "N")
        n, columns = b.shape[-2:]
        if a.shape[:-1] != (*b.shape[:-2], n) or a.shape[-1] != n:
            raise ValueError(f"trsm: shapes {a.shape} and {b.shape} do not fit")
        if max(n, columns) >= 2**31:
            raise ValueError(f"trsm: dimensions of 2^31 and more: {b.shape=}")
        x, info = np.empty(b.shape, b.dtype), np.zeros(math.prod(b.shape[:-2]), np.int32)
        if b.size:
            _solve_triangles(a, conjugate, lower, unit, b, x, info)
        bad = np.flatnonzero(info)
        return SolvedBatch(x, Judged(bad, info[bad], np.zeros(bad.size)))


def _multiply(
    alpha: complex, a: Array, conj_a: bool, b: Array, conj_b: bool, beta: complex, c: Array
) -> None:
    how = plan.gemm_plan(
        c.dtype, alpha, conj_a, conj_b, beta, plan.layout(a), plan.layout(b), plan.layout(c),
        plan.STRAIGHT_FROM, plan.AHEAD_FROM,
    )  # fmt: skip
    run: Callable[[int, int], None]
    if how.kernel is not None:
        run = _straight(a, b, c, how)
    elif how.is_streamed and (how.is_single_threaded or how.members >= crew.crew_size()):
        run = _streamed(a, b, c, how)
    elif how.is_for_matmul:
        stacks = (_stack(x, how.members, s) for x, (s,) in zip((a, b, c), how.strides, strict=True))
        run = functools.partial(_matmul, *stacks)
    else:
        run = _blas(a, b, c, how)
        if not how.is_single_threaded:
            crew.run_batch(run, how.members, how.cost)
            return
    compiled("batched.threads").run_chunks(run, how.members, how.cost, 1)


def _straight(a: Array, b: Array, c: Array, how: plan.GemmPlan) -> Callable[[int, int], None]:
    """What multiplies a range of members by the kernel for their size."""
    places = pointer(a), pointer(b), pointer(c)

    def run(first: int, last: int) -> None:
        how.kernel(first, last, how.shape, how.strides, *places, how.steps, how.numbers)

    return run


def _streamed(a: Array, b: Array, c: Array, how: plan.GemmPlan) -> Callable[[int, int], None]:
    """What multiplies a range of members while the next ones are read."""
    call, given, shape = how.called, (a, b, c), how.shape
    order, strides, dimensions, steps, _, alpha, beta = call
    places = (pointer(given[k]) for k in order)
    first_a, first_b, first_c = zip(places, steps, strict=True)
    multiply = compiled("batched.streamed").multiply_stack

    def run(first: int, last: int) -> None:
        multiply(first, last, shape, strides, dimensions, alpha, first_a, first_b, beta, first_c)

    return run


def _blas(a: Array, b: Array, c: Array, how: plan.GemmPlan) -> Callable[[int, int], None]:
    """What multiplies a range of members by BLAS."""
    call, given, shape = how.called, (a, b, c), how.shape
    order, strides, dimensions, steps, conjugated, alpha, beta = call
    places = (pointer(given[k]) for k in order)
    first_a, first_b, first_c = zip(places, steps, conjugated, strict=True)
    multiply, address = compiled("batched.gemm").multiply_all, routines.address("gemm", c.dtype)

    def run(first: int, last: int) -> None:
        multiply(
            address, first, last, shape, strides, dimensions, alpha, first_a, first_b, beta,
            first_c,
        )  # fmt: skip

    return run


def _stack(a: Array, count: int, step: int) -> Array:
    """A batch of `count` members, `step` bytes apart, as a stack (N, m, n)."""
    if a.ndim == 3:
        return a
    shape, strides = (count, *a.shape[-2:]), (step, *a.strides[-2:])
    return np.lib.stride_tricks.as_strided(a, shape, strides)


def _matmul(a: Array, b: Array, c: Array, first: int, last: int) -> None:
    """NumPy's own loop over BLAS, for what it takes as it is: it comes with a newer BLAS."""
    with np.errstate(all="ignore"):  # as no other route warns
        np.matmul(a[first:last], b[first:last], out=c[first:last])


def _solve_triangles(
    a: Array, conjugate: bool, lower: bool, unit: bool, b: Array, x: Array, info: Array
) -> None:
    trsm, threads = compiled("batched.trsm"), compiled("batched.threads")
    n, columns = b.shape[-2:]
    real = real_dtype(b.dtype)
    pair = b.itemsize // real.itemsize
    cost = max(
        n * n * columns * pair**2 / flop_rate(b.dtype),
        float(n * n + 3 * n * columns) * b.itemsize / BYTE_RATE,
    )
    if max(n, columns) <= trsm.LARGEST and info.size * n * n * columns >= plan.STRAIGHT_FROM:
        shape, strides = plan.layout_of_batch(*map(plan.layout, (a, b, x)))
        form = (0 if lower else 1) + (2 if unit else 0)
        kind_a, kind_b = (plan.kind(plan.layout(y), b.itemsize) for y in (a, b))
        kernel = trsm.small(n, columns, real.itemsize, pair, kind_a + 3 * kind_b, form)
        places = pointer(a), pointer(b), pointer(x), pointer(info)
        steps = tuple(s // real.itemsize for y in (a, b) for s in y.strides[-2:])
        sign = real.type(-1.0 if conjugate else 1.0)

        def run(first: int, last: int) -> None:
            kernel(first, last, shape, strides, *places, steps, sign)

        threads.run_chunks(run, info.size, cost + 5e-9, 1)
        return
    np.copyto(x, b)
    shape, strides = plan.layout_of_batch(*map(plan.layout, (a, x, x)))
    addresses = routines.address("trsm", b.dtype), routines.address("trsv", b.dtype)
    first_a, place, one = (pointer(a), a.strides[-2:], conjugate), pointer(x), b.dtype.type(1)

    def run_blas(first: int, last: int) -> None:
        trsm.solve_all(
            *addresses, first, last, shape, strides, n, columns, first_a, lower, unit, place,
            info, one,
        )  # fmt: skip

    if n * n * columns <= SINGLE_THREADED:
        threads.run_chunks(run_blas, info.size, cost + 100e-9, 1)
    else:
        crew.run_batch(run_blas, info.size, cost)


# -- low precision -------------------------------------------------------------------------------


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def _multiply_rounded(
    alpha: complex, a: Array, conj_a: bool, b: Array, conj_b: bool, beta: complex, c: Array,
    fmt: Format,
) -> None:  # fmt: skip
    """As `_multiply`, with operands rounded to a format; some members at a time."""
    if c.ndim == 2:  # a batch without dimensions has no indices
        a, b, c = a[None], b[None], c[None]
    batch = c.shape[:-2]
    count = math.prod(batch)
    low = fmt.dtype(c.dtype)
    step = max(1, _CHUNK // max(x.shape[-1] * x.shape[-2] for x in (a, b, c)))
    for first in range(0, count, step):
        members = np.unravel_index(np.arange(first, min(first + step, count)), batch)
        parts_a, power_a = _rounded_stack(a[members], fmt, low)
        parts_b, power_b = _rounded_stack(b[members], fmt, low)
        product = np.empty((len(power_a), *c.shape[-2:]), low)
        for number, (factor, i, j) in enumerate(TERMS if len(parts_a) > 1 else TERMS[-1:]):
            _multiply(factor, parts_a[i], conj_a, parts_b[j], conj_b, float(number > 0), product)
        result = product.astype(c.dtype)
        lines = result.view(real_dtype(c.dtype))
        np.ldexp(lines, -(power_a + power_b), out=lines)
        result *= alpha
        if beta != 0:
            result += beta * c[members]
        c[members] = result


def _rounded_stack(a: Array, fmt: Format, low: np.dtype[Any]) -> tuple[list[Array], Array]:
    """Each member times a power of two, rounded; and the powers, (N, 1, 1).

    What is infinite or NaN has no influence on the power.
    """
    numbers = np.ascontiguousarray(a).view(real_dtype(a.dtype))
    sizes = np.abs(numbers)
    top = np.max(sizes, axis=(1, 2), keepdims=True, initial=0.0, where=np.isfinite(sizes))
    power = powers_of_two(top, fmt)
    parts = rounded(numbers, power, fmt, real_dtype(low))
    return [part.view(low) for part in parts], power
