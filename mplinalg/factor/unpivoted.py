"""A = L U that moves no rows: interchanges stay within diagonal blocks, and within their inverses.

    diag(P_1, P_2, ...) A = L U

For diagonal block k, of order s = `Ops.diagonal_block`, L_kk^-1 P_k and U_kk^-1 are kept. They
take the place of all triangular solves,

    U[k, t] = (L_kk^-1 P_k) A[k, t],    L[t, k] = A[t, k] U_kk^-1,

and with P_k in the first the rows of L may stay in the order of A. Entries grow more than they do
with pivots from whole columns, and less than without any: what a small pivot does, a diagonal block
that is nearly singular does, and there are n / s of these instead of n.

Panels of `Ops.panel_width` columns are factored by halves, down to diagonal blocks. Trailing
updates have operands rounded to the format, and are summed in fp32; so are, inside of panels and
block rows, products with flops enough to make up for the conversion.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ops.protocol import Array, Counters, Ops
from ..precision import Format
from .blocks import blocks

_CONVERTS_FROM = 2**31
"""Flops of a product inside a panel from which its operands are converted.

In fp32 that takes 30 us at 70 TFLOP/s; a conversion is seven launches.
"""


@dataclass
class _Factorization:
    """A matrix while it is factored; the methods are the steps.

    Not functions inside of one: those that call themselves hold what they see until the garbage
    collector comes by, and here that is the matrix.
    """

    ops: Ops
    a: Array
    fmt: Format
    lower: Array
    upper: Array
    info: Array
    counters: Counters | None

    def halves(self, k: slice) -> tuple[slice, slice]:
        """Of a range, in whole diagonal blocks; the second is empty if there is only one."""
        size = self.ops.diagonal_block
        middle = min(k.start + -(-(k.stop - k.start) // (2 * size)) * size, k.stop)
        return slice(k.start, middle), slice(middle, k.stop)

    def subtract(
        self, rows: slice, k: slice, columns: slice, compute: Format | None = None
    ) -> None:
        """A[rows, columns] <- A[rows, columns] - L[rows, k] U[k, columns]."""
        left, right, target = self.a[rows, k], self.a[k, columns], self.a[rows, columns]
        if compute is None and 2 * target.size * left.shape[1] >= _CONVERTS_FROM:
            compute = self.fmt
        self.ops.gemm(-1.0, left, right, 1.0, target, compute=compute, counters=self.counters)

    def solve(self, k: slice, columns: slice) -> None:
        """U[k, columns] = (L[k, k]^-1 P_k) A[k, columns]."""
        first, second = self.halves(k)
        if first == k:
            place = k.start // self.ops.diagonal_block
            inverse = self.lower[place : place + 1]
            self.ops.trsm_inverted(self.a[k, k], inverse, self.a[k, columns], lower=True)
            return
        self.solve(first, columns)
        self.subtract(second, first, columns)
        self.solve(second, columns)

    def factor(self, k: slice) -> None:
        """diag(P) A[k:, k] = L U."""
        a, n = self.a, len(self.a)
        first, second = self.halves(k)
        if first != k:
            self.factor(first)
            self.solve(first, second)
            self.subtract(slice(first.stop, n), first, second)
            self.factor(second)
            return
        place = k.start // self.ops.diagonal_block
        self.ops.getrf_block(a[k, k], self.lower[place], self.upper[place], self.info, k.start)
        if k.stop < n:
            # L[t, k] = A[t, k] U[k, k]^-1
            inverse, below = self.upper[place : place + 1], a[k.stop :, k]
            self.ops.trsm_inverted(a[k, k], inverse, below.T, lower=False, trans="T")

    def update(self, k: slice, columns: slice) -> None:
        """A[t, columns] <- A[t, columns] - L[t, k] U[k, columns]."""
        if columns.start < columns.stop:
            self.solve(k, columns)
            self.subtract(slice(k.stop, len(self.a)), k, columns, self.fmt)


def getrf_unpivoted(
    ops: Ops,
    a: Array,
    fmt: Format,
    *,
    block: int | None = None,
    counters: Counters | None = None,
) -> tuple[Array, Array, int]:
    """diag(P_1, P_2, ...) A = L U, in place on a square, C-like, real matrix in single precision.

    Parameters
    ----------
    ops : Ops
    a : Array, shape (n, n)
        Overwritten by U and by the blocks of L below the diagonal ones, whose rows are in the order
        of A.
    fmt : Format
        Format of the operands of updates.
    block : int, optional
        Columns of a panel, in whole diagonal blocks; by default the backend's.
    counters : Counters, optional
        Overflows and underflows of the conversions are added to it.

    Returns
    -------
    lower, upper : Array, shape (ceil(n / s), s, s)
        L_kk^-1 P_k and U_kk^-1, for `Ops.trsm_inverted`.
    info : int
        i > 0: pivot i is the first that is zero or not finite, or whose reciprocal is not.

    Notes
    -----
    2/3 n^3 flops, and n^2 s more for the products with inverses. Launches on a GPU, of a panel of q
    diagonal blocks: q for these; 2 q, a copy and a product each, for what is below them; and
    3/2 q log2(q) for block rows and products in between. Then, both for the columns of the next
    panel and for those that are left, 3 q - 1 for block rows, and ten for an update and the
    conversion of its operands. With q = 8 that is sixteen a diagonal block, half of them beside an
    update (`bench.butterfly_model`, which counts the conversions inside of panels, too). The host
    waits once.
    """
    n, size = len(a), ops.diagonal_block
    count = -(-n // size)
    lower, upper = (ops.xp.empty((count, size, size), a.dtype) for _ in range(2))
    info = ops.xp.zeros(1, ops.xp.int32)
    work = _Factorization(ops, a, fmt, lower, upper, info, counters)
    panels = list(blocks(n, max((block or ops.panel_width(n)) // size, 1) * size))
    for k, following in zip(panels, [*panels[1:], None], strict=True):
        if k is panels[0] or not ops.overlaps:
            work.factor(k)
        ops.join()
        done = k.stop
        if ops.overlaps and following is not None:
            # look-ahead: the next panel is factored beside the rest of the update
            work.update(k, following)
            with ops.beside():
                work.factor(following)
            done = following.stop
        work.update(k, slice(done, n))
    return lower, upper, int(info[0])
