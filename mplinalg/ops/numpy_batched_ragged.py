"""Lists of matrices of different sizes on the CPU: compiled loops over a table of addresses.

Members are not sorted by size: what a compiled loop spends on the next one, BLAS called by its
address, is a small part of what Python needs to look at an array.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels.cpu import crew, routines
from ..precision import Format, real_dtype, working_format
from . import numpy_batched_plan as plan
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
from .protocol import Array
from .ragged import Listed

_WORDS: dict[int, Any] = {
    1: np.uint8(0),
    2: np.uint16(0),
    4: np.uint32(0),
    8: np.uint64(0),
    16: np.complex128(0),
}
"""Numbers of the sizes that are copied, whatever their bits mean."""
_CALL = 100e-9
"""Seconds of a member beyond its arithmetic."""
_WORTHWHILE = 400e-6
"""Seconds of work that are worth two threads."""
_SHARE = 4
"""The part of what a thread has to do that a member may be to be computed by one."""
_PIECES = 64
"""Into so many pieces of about the same cost a list is cut."""
_WINDOW = 128
"""Members of a list that are sorted by cost among themselves: 64 to 256 are as good."""
_TRANSPOSED = [0, 2, 1, 4, 3]
_HEAD = object.__basicsize__
"""Bytes of an object's head in this build of Python."""


class BatchedRagged:
    """`mplinalg.ops.RaggedOps` on NumPy arrays."""

    def listed(self, arrays: Sequence[Array]) -> Listed | None:
        count, like = len(arrays), arrays[0]
        table = np.empty((count, 5), np.int64)
        if not 1 <= like.ndim <= 2:
            return None
        alike = False
        if type(like) is np.ndarray and _headers_are_known():
            alike = _read_headers(arrays, table)
        if not alike:  # perhaps equal dtypes that are not one object
            for a in arrays:
                if type(a) is not np.ndarray or not a.flags.aligned:
                    return None  # a masked array is not its data
                if a.dtype != like.dtype or a.ndim != like.ndim:
                    return None
            table[:] = [_described(a) for a in arrays]
        return Listed(like.dtype, like.ndim, table[:, 1:3], table, arrays)

    def listed_flat(self, data: Array, offsets: Array, shapes: Array) -> Listed:
        size = data.itemsize
        table = np.empty((len(offsets), 5), np.int64)
        table[:, 0] = pointer(data) + offsets * size
        table[:, 1:3] = shapes
        table[:, 3] = shapes[:, 1] * size
        table[:, 4] = size
        return Listed(data.dtype, 2, table[:, 1:3], table, data)

    def copy_listed(self, source: Listed, target: Listed) -> None:
        copy = compiled("batched.ragged").copy_listed
        like, words = _words(source.dtype)
        count = len(target.handle)
        first_words = source.handle, target.handle
        further = np.array([like.itemsize, 0, 0, 0, 0], np.int64)  # the steps stay
        tables = [first_words, *(
            tuple(table + k * further for table in first_words) for k in range(1, words)
        )]  # fmt: skip
        size = float(np.prod(target.shapes, axis=1).mean()) * source.dtype.itemsize if count else 0

        def run(first: int, last: int) -> None:
            for table in tables:
                copy(first, last, *table, like)

        compiled("batched.threads").run_chunks(run, count, 2 * size / BYTE_RATE, 1)

    def are_apart(self, out: Listed, others: Sequence[Listed]) -> bool:
        bottom, top = _span(out)
        spans = [(x, *_span(x)) for x in others]
        near = [x for x, first, last in spans if first < top and last > bottom]
        if isinstance(out.keep, np.ndarray) and not near:
            return True  # members of one buffer are apart
        low, high = _extents(out)
        order = np.argsort(low, kind="stable")
        low, high = low[order], high[order]
        if (low[1:] < high[:-1]).any():
            return False
        for x in near:
            first, last = _extents(x)
            before = np.searchsorted(low, last) - 1  # the last one that begins before x ends
            if low.size and (high[np.maximum(before, 0)] > first)[before >= 0].any():
                return False
        return True

    def gather(self, data: Array, offsets: Array, size: int) -> Array:
        stack = np.empty((len(offsets), size), data.dtype)
        like, words = _words(data.dtype)
        places = offsets * words if words > 1 else offsets
        compiled("batched.ragged").gather(data.view(like.dtype), places, stack.view(like.dtype))
        return stack

    def scatter(self, stack: Array, data: Array, offsets: Array) -> None:
        like, words = _words(data.dtype)
        places = offsets * words if words > 1 else offsets
        lines = np.ascontiguousarray(stack).view(like.dtype)
        compiled("batched.ragged").scatter(lines, data.view(like.dtype), places)

    def gemm_listed(
        self, alpha: complex, a: Listed, b: Listed, beta: complex, c: Listed, *,
        transa: str = "N", transb: str = "N", compute: Format | None = None,
    ) -> None:  # fmt: skip
        if compute is not None and compute != working_format(c.dtype):
            self._gemm_rounded(alpha, a, b, beta, c, transa, transb, compute)
            return
        table_a, conj_a = _operand(a, transa)
        table_b, conj_b = _operand(b, transb)
        multiply = compiled("batched.gemm").multiply_listed
        address = routines.address("gemm", c.dtype)
        alpha, beta = scalar(alpha, c.dtype), scalar(beta, c.dtype)
        m, n, k = c.handle[:, 1], c.handle[:, 2], table_a[:, 2]
        if max(int(x.max(initial=0)) for x in (m, n, k)) >= 2**31:
            raise ValueError("gemm: members with dimensions of 2^31 and more")
        products = m * n * k
        streamed = compiled("batched.streamed")
        is_streamed = np.zeros(len(products), bool)
        if c.dtype.kind == "f" and alpha != 0:
            is_streamed[:] = streamed.takes(m, k, n, c.dtype.itemsize)
            is_streamed &= c.handle[:, 4] == c.dtype.itemsize
            is_streamed &= float(products[is_streamed].sum(dtype=float)) >= plan.AHEAD_FROM

        def run_blas(chosen: Array) -> None:
            multiply(address, chosen, alpha, table_a, conj_a, table_b, conj_b, beta, c.handle)

        def run(chosen: Array) -> None:
            among = is_streamed[chosen]
            if not among.all():
                run_blas(chosen[~among])
            if among.any():
                rest = chosen[among]
                rest = rest[_similar_ones_together(products[rest])]
                streamed.multiply_listed(rest, alpha, table_a, table_b, beta, c.handle)

        _run_balanced(run, products, 2.0, (m + n) * k + 2 * m * n, c.dtype, run_blas)

    def trsm_listed(
        self, a: Listed, x: Listed, *, lower: bool, unit: bool = False, trans: str = "N"
    ) -> Array:
        table, conjugate = _operand(a, trans)
        lower = lower == (trans == "N")
        solve = compiled("batched.trsm").solve_listed
        addresses = routines.address("trsm", x.dtype), routines.address("trsv", x.dtype)
        one = x.dtype.type(1)
        info = np.zeros(len(x.handle), np.int32)
        n, columns = x.handle[:, 1], x.handle[:, 2]

        def run(chosen: Array) -> None:
            solve(*addresses, chosen, table, conjugate, lower, unit, x.handle, info, one)

        _run_balanced(run, n * n * columns, 1.0, n * n + 2 * n * columns, x.dtype)
        return info

    def _gemm_rounded(
        self, alpha: complex, a: Listed, b: Listed, beta: complex, c: Listed,
        transa: str, transb: str, fmt: Format,
    ) -> None:  # fmt: skip
        """As `gemm_listed`, from rounded copies of A and B."""
        low = fmt.dtype(c.dtype)
        parts_a, power_a = self._rounded(a, fmt, low)
        parts_b, power_b = self._rounded(b, fmt, low)
        data, starts, result = self._buffer(c.shapes, low)
        for number, (factor, i, j) in enumerate(TERMS if len(parts_a) > 1 else TERMS[-1:]):
            self.gemm_listed(
                factor, parts_a[i], parts_b[j], float(number > 0), result,
                transa=transa, transb=transb,
            )  # fmt: skip
        product = data.astype(c.dtype)
        reals = product.view(real_dtype(c.dtype))
        sizes = np.diff(starts, append=data.size) * (reals.size // max(data.size, 1))
        power = np.broadcast_to(power_a + power_b, sizes.shape)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            np.ldexp(reals, -np.repeat(power, sizes), out=reals)
            product *= alpha
            if beta != 0:
                old, _, old_members = self._buffer(c.shapes, c.dtype)
                self.copy_listed(c, old_members)
                product += beta * old
        self.copy_listed(self.listed_flat(product, starts, c.shapes), c)

    def _buffer(self, shapes: Array, dtype: np.dtype[Any]) -> tuple[Array, Array, Listed]:
        """A new buffer for matrices of these shapes, where in it they begin, and these."""
        ends = np.cumsum(np.prod(shapes, axis=1, dtype=np.int64))
        data = np.empty(ends[-1] if len(ends) else 0, dtype)
        starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        return data, starts, self.listed_flat(data, starts, shapes)

    def _rounded(self, a: Listed, fmt: Format, low: np.dtype[Any]) -> tuple[list[Listed], Array]:
        """Members times powers of two, rounded; and the powers, (N,)."""
        data, starts, members = self._buffer(a.shapes, a.dtype)
        self.copy_listed(a, members)
        reals = data.view(real_dtype(a.dtype))
        pair = data.itemsize // reals.itemsize
        sizes = np.where(np.isfinite(reals), np.abs(reals), 0.0)
        lengths = np.diff(starts, append=data.size) * pair
        top = np.zeros(len(starts), reals.dtype)
        filled = lengths > 0
        if filled.any():
            top[filled] = np.maximum.reduceat(sizes, starts[filled] * pair)
        power = powers_of_two(top, fmt)
        parts = rounded(reals, np.repeat(power, lengths), fmt, real_dtype(low))
        return [self.listed_flat(part.view(low), starts, a.shapes) for part in parts], power


def _extents(x: Listed) -> tuple[Array, Array]:
    """First bytes of the members that are not empty, and those after their last."""
    table = np.ascontiguousarray(x.handle.T)
    filled = (table[1] > 0) & (table[2] > 0)
    address, rows, columns, down, across = table if filled.all() else table[:, filled]
    down, across = (rows - 1) * down, (columns - 1) * across
    low = address + np.minimum(down, 0) + np.minimum(across, 0)
    return low, address + np.maximum(down, 0) + np.maximum(across, 0) + x.dtype.itemsize


def _span(x: Listed) -> tuple[int, int]:
    """The first byte of all members, and that after the last."""
    if isinstance(x.keep, np.ndarray):
        return pointer(x.keep), pointer(x.keep) + x.keep.nbytes
    low, high = _extents(x)
    return (int(low.min()), int(high.max())) if low.size else (0, 0)


def _similar_ones_together(cost: Array) -> Array:
    """An order in which a member is followed by one of about its cost, and nothing moves far.

    Members that were made one after the other are near each other in memory, so that the processor
    knows their pages.
    """
    rows = np.full((-(-cost.size // _WINDOW), _WINDOW), np.iinfo(np.int64).max)
    rows.flat[: cost.size] = cost
    order = np.argsort(rows, axis=1, kind="stable") + _WINDOW * np.arange(len(rows))[:, None]
    return order[order < cost.size]


def _words(dtype: np.dtype[Any]) -> tuple[Any, int]:
    """A number of the bytes that are copied at a time, and how many of them make one of `dtype`."""
    like = _WORDS[min(dtype.itemsize, 16)]
    return like, dtype.itemsize // like.itemsize


def _operand(a: Listed, trans: str) -> tuple[Array, bool]:
    """The table of op(A) without its conjugation, and whether it is to be conjugated."""
    table = a.handle if trans == "N" else np.ascontiguousarray(a.handle[:, _TRANSPOSED])
    return table, trans == "C" and a.dtype.kind == "c"


def _run_balanced(
    run: Callable[[Array], None], products: Array, flops: float, numbers: Array,
    dtype: np.dtype[Any], run_blas: Callable[[Array], None] | None = None,
) -> None:  # fmt: skip
    """`run` on the members of a list, in pieces of about the same cost, whatever their sizes.

    The largest pieces come first, as what is left at the end should be small. Members that BLAS
    computes with several threads are left to it, one after the other, if they are more than a
    share of the work; else BLAS is serial.

    Parameters
    ----------
    run : callable
        Takes the numbers of members.
    products : Array, shape (N,)
        m n k, or what corresponds.
    flops : float
        To be multiplied with it, for real numbers.
    numbers : Array, shape (N,)
        Read and written.
    run_blas : callable, optional
        In place of `run` for members that are left to BLAS's threads.
    """
    threads = compiled("batched.threads")
    flops *= 4.0 if dtype.kind == "c" else 1.0
    cost = _CALL + np.maximum(
        products * (flops / flop_rate(dtype)), numbers * (dtype.itemsize / BYTE_RATE)
    )
    large, count = products > SINGLE_THREADED, crew.crew_size()
    alone = large & (cost > cost.sum() / (_SHARE * count))
    if alone.any():
        (run if run_blas is None or count == 1 else run_blas)(np.flatnonzero(alone))
    small = np.flatnonzero(~alone)
    ends = np.cumsum(cost[small])
    total = float(ends[-1]) if small.size else 0.0
    if total < _WORTHWHILE or count == 1:
        if small.size:
            run(small)
        return
    bounds = np.searchsorted(ends, np.linspace(0.0, total, _PIECES + 1))
    bounds[0], bounds[-1] = 0, small.size
    pieces = [small[i:j] for i, j in itertools.pairwise(bounds.tolist()) if i < j]
    pieces.sort(key=lambda piece: float(cost[piece].sum()), reverse=True)

    def run_pieces(first: int, last: int) -> None:
        for piece in pieces[first:last]:
            run(piece)

    if large[small].any():
        crew.run_each(lambda k: run(pieces[k]), range(len(pieces)), total / len(pieces))
    else:
        threads.run_chunks(run_pieces, len(pieces), total / len(pieces), 1)


def _described(a: Array) -> tuple[int, ...]:
    """A row of the table."""
    if a.ndim == 1:
        return pointer(a), a.size, 1, a.strides[0], a.itemsize
    return (pointer(a), *a.shape, *a.strides)


def _read_headers(arrays: Sequence[Array], table: Array) -> bool:
    """Fill a table by the headers of arrays; whether all are as the first."""
    like, held = arrays[0], tuple(arrays)
    items = id(held) + tuple.__basicsize__
    read = compiled("batched.ragged").read_headers
    descr = id(like.dtype)
    return read(items, _HEAD, id(np.ndarray), descr, like.ndim, like.itemsize, table) < 0


@functools.cache
def _headers_are_known() -> bool:
    """Whether arrays lie in memory as `kernels.cpu.batched.ragged` reads them."""
    lists = [np.ones((3, 5)), np.ones((4, 6)).T[1:, ::-2]], [np.ones(7)[::2], np.ones(0)]
    for arrays in lists:
        table = np.zeros((len(arrays), 5), np.int64)
        if not _read_headers(arrays, table):
            return False
        if not np.array_equal(table, [_described(a) for a in arrays]):
            return False
    return True
