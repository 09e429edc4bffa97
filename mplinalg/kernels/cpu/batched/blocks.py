"""C <- alpha A B + beta C for matrices of some tens: C in registers, memory read ahead.

A block of C, some rows by two to four registers, stays in registers while all columns of A and rows
of B pass. Nothing is copied: a number of A is spread over a register, so that A may have any
strides; rows of B and C are contiguous. Where n is no multiple of a register, the last one of a
row begins n - width columns after its first, and a few entries are computed twice.

Such a matrix is too small for the processor to see where it leads, and a batch of them is in no
cache. So each step of a block asks for one line of each of the matrices that are needed next, which
arrive while this product is computed. BLAS reads memory and computes in turn.

Flops: 2 m n k. Bytes moved: one read of A and of B, one write of C, as long as they fit in a cache.
`kernels.cpu.batched.streamed` has the loops over batches.

After K. Goto and R. A. van de Geijn, ACM Transactions on Mathematical Software 34 (2008) 12,
without their copies, and A. Heinecke, G. Henry, M. Hutchinson and H. Pabst, SC 2016 (libxsmm), who
also write down such kernels at run time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..jit import kernel
from ..lanes import Lanes, ask_for
from . import rows
from .members import entry

types: Any = numba_types

__all__ = ["LEAST_ROWS", "multiply_blocks", "register_bytes"]

LEAST_ROWS = 6
"""Of C. Blocks of equal height have no fewer rows than half of the highest one, which has 12."""
_INDEX, _BYTE = ir.IntType(64), ir.IntType(8).as_pointer()
_NARROWEST = 2
"""Registers in a row of a block, at least."""
_KINDS = 32
"""A kind of block is its registers in a row, times this, plus its rows."""


def _widest(context: Any) -> int:
    """Registers in a row of a block, at most: with few in all, more would leave too few rows."""
    return 4 if rows.registers(context)[1] > 16 else 3


def _highest(context: Any, vectors: int) -> int:
    """Rows of a block, at most: three quarters of the registers hold sums."""
    return int(rows.registers(context)[1]) * 3 // 4 // vectors


def _number(value: int) -> Any:
    return ir.Constant(_INDEX, value)


@intrinsic
def register_bytes(typingctx):  # type: ignore[no-untyped-def]
    """Bytes of a vector register."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return _number(rows.registers(context)[0])

    return types.int64(), codegen


@intrinsic
def _widest_block(typingctx):  # type: ignore[no-untyped-def]
    """Registers in a row of a block, at most."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return _number(_widest(context))

    return types.int64(), codegen


@intrinsic
def _highest_block(typingctx, vectors):  # type: ignore[no-untyped-def]
    """Rows of a block of so many registers in a row, at most."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        found = _number(_highest(context, _NARROWEST))
        for wide in range(_NARROWEST + 1, _widest(context) + 1):
            is_it = builder.icmp_signed("==", values[0], _number(wide))
            found = builder.select(is_it, _number(_highest(context, wide)), found)
        return found

    return types.int64(vectors), codegen


class _Writer:
    """Writes down the code of blocks; the last register of a row begins `last` bytes in."""

    def __init__(self, context: Any, builder: ir.IRBuilder, real: Any, last: Any) -> None:
        self.builder, self.real, self.last = builder, real, last
        self.size = 8 if isinstance(real, ir.DoubleType) else 4
        self.bytes = rows.registers(context)[0]
        self.vector = ir.VectorType(real, self.bytes // self.size)

    def _row(self, pointer: Any, vectors: int) -> list[Any]:
        """Pointers to the registers of a row."""
        places = [_number(v * self.bytes) for v in range(vectors - 1)] + [self.last]
        kind = self.vector.as_pointer()
        return [self.builder.bitcast(self.builder.gep(pointer, [p]), kind) for p in places]

    def _load(self, pointer: Any, vectors: int) -> list[Lanes]:
        builder, size = self.builder, self.size
        return [Lanes(builder, builder.load(p, align=size)) for p in self._row(pointer, vectors)]

    def _put(self, pointer: Any, row: list[Lanes]) -> None:
        for place, number in zip(self._row(pointer, len(row)), row, strict=True):
            self.builder.store(number.value, place, align=self.size)

    def _lines(self, pointer: Any, step: Any, height: int) -> list[Any]:
        """Where the rows of a block begin, `step` bytes apart."""
        builder = self.builder
        return [builder.gep(pointer, [builder.mul(step, _number(i))]) for i in range(height)]

    def sums(self, shape: tuple[int, int], k: Any, a: Any, b: Any, ahead: Any) -> list[list[Lanes]]:
        """A block of A B of `shape`: a loop over columns of A and rows of B, `k` of them.

        a, b and three of `ahead`, the last to be written: a pointer to bytes and how far it goes in
        a step; of a, before that, how far its rows are apart.
        """
        builder, (height, vectors) = self.builder, shape
        before = builder.block
        body, after = (builder.append_basic_block(name) for name in ("step", "summed"))
        builder.branch(body)
        builder.position_at_end(body)

        def changing(kind: Any, first: Any) -> Any:
            phi = builder.phi(kind)
            phi.add_incoming(first, before)
            return phi

        left = changing(_INDEX, k)
        moving = [(changing(_BYTE, p), step) for p, step in [(a[0], a[2]), b, *ahead]]
        zero = ir.Constant(self.vector, [0.0] * self.vector.count)
        old = [[changing(self.vector, zero) for _ in range(vectors)] for _ in range(height)]
        for i, (place, _) in enumerate(moving[2:]):
            ask_for(builder, place, to_write=i == 2)
        row_of_b = self._load(moving[1][0], vectors)
        new = []
        for row, place in zip(old, self._lines(moving[0][0], a[1], height), strict=True):
            number = builder.load(builder.bitcast(place, self.real.as_pointer()), align=self.size)
            of_a = rows.splat(builder, number, self.vector.count)
            new.append([Lanes(builder, s) + of_a * v for s, v in zip(row, row_of_b, strict=True)])
        for place, step in moving:
            place.add_incoming(builder.gep(place, [step]), body)
        left.add_incoming(builder.sub(left, _number(1)), body)
        for row, sums in zip(old, new, strict=True):
            for phi, number in zip(row, sums, strict=True):
                phi.add_incoming(number.value, body)
        builder.cbranch(builder.icmp_signed(">", left, _number(1)), body, after)
        builder.position_at_end(after)
        return new

    def store(self, sums: list[list[Lanes]], alpha: Any, beta: Any, c: tuple[Any, Any]) -> None:
        """C <- alpha sums + beta C, which is not read where beta is 0."""
        builder, count = self.builder, self.vector.count
        places = self._lines(c[0], c[1], len(sums))
        scaled = [[rows.splat(builder, alpha, count) * s for s in row] for row in sums]
        is_new = builder.fcmp_ordered("==", beta, ir.Constant(self.real, 0.0))
        with builder.if_else(is_new) as (fresh, added):
            with fresh:
                for place, row in zip(places, scaled, strict=True):
                    self._put(place, row)
            with added:
                factor = rows.splat(builder, beta, count)
                for place, row in zip(places, scaled, strict=True):
                    # before any of it is written, as the last two registers may overlap
                    old = self._load(place, len(row))
                    self._put(place, [s + factor * v for s, v in zip(row, old, strict=True)])


@intrinsic
def _block(typingctx, kind, last, k, alpha, a, b, beta, c, ahead, steps):  # type: ignore[no-untyped-def]
    """One block of C <- alpha A B + beta C.

    `kind` as `_KINDS` says; a, b and c are addresses, and bytes from row to row, of A also from
    column to column; `ahead`, three addresses of what is asked for first, and `steps`, how many
    bytes further it goes with each of the k steps.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        kind, last, k, alpha, a, b, beta, c, ahead, steps = values

        def taken(given: Any, count: int) -> list[Any]:
            return [builder.extract_value(given, i) for i in range(count)]

        def pointed(address: Any, *more: Any) -> tuple[Any, ...]:
            return builder.inttoptr(address, _BYTE), *more

        a, b, c = (pointed(*taken(x, count)) for x, count in zip((a, b, c), (3, 2, 2), strict=True))
        far = [pointed(*x) for x in zip(taken(ahead, 3), taken(steps, 3), strict=True)]
        writer = _Writer(context, builder, alpha.type, last)
        done = builder.append_basic_block("done")
        choice = builder.switch(kind, done)
        for vectors in range(_NARROWEST, _widest(context) + 1):
            highest = _highest(context, vectors)
            for height in range(min(LEAST_ROWS, (highest + 1) // 2), highest + 1):
                builder.position_at_end(builder.append_basic_block(f"block{height}x{vectors}"))
                choice.add_case(_number(vectors * _KINDS + height), builder.block)
                writer.store(writer.sums((height, vectors), k, a, b, far), alpha, beta, c)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(kind, last, k, alpha, a, b, beta, c, ahead, steps), codegen


@kernel
def multiply_blocks(m, k, n, alpha, a, b, beta, c, ahead):  # type: ignore[no-untyped-def]
    """C <- alpha A B + beta C for real matrices.

    Parameters
    ----------
    m, k, n : int
        m is at least `LEAST_ROWS`, k at least 1; n numbers are more than a register.
    alpha, beta : float
        Of the type of the entries. C is not read if beta is 0.
    a, b, c : tuple of int
        Address, bytes from row to row, and of A also from column to column. Entries of a row of B
        and of C are contiguous. C overlaps neither A nor B.
    ahead : tuple of three pairs of int
        Addresses of what is needed next, two to be read and one to be written, and their bytes.
    """
    size = entry(c[0], alpha).itemsize
    wide_bytes = register_bytes()
    width = wide_bytes // size
    left = (n + width - 1) // width  # registers of a row
    stripes = (left + _widest_block() - 1) // _widest_block()
    place_b, place_c, bytes_left = b[0], c[0], n * size
    (far_a, bytes_a), (far_b, bytes_b), (far_c, bytes_c) = ahead
    highest = _highest_block((left + stripes - 1) // stripes)
    count = (m + highest - 1) // highest * stripes * k
    steps = bytes_a // count + 1, bytes_b // count + 1, bytes_c // count + 1
    for stripe in range(stripes):
        vectors = (left + stripes - stripe - 1) // (stripes - stripe)
        highest = _highest_block(vectors)
        blocks = (m + highest - 1) // highest
        height, higher = m // blocks, m % blocks
        last = min(vectors * wide_bytes, bytes_left) - wide_bytes
        place_a, target = a[0], place_c
        for block in range(blocks):
            lines = height + (block < higher)
            _block(
                vectors * _KINDS + lines, last, k, alpha, (place_a, a[1], a[2]),
                (place_b, b[1]), beta, (target, c[1]), (far_a, far_b, far_c), steps,
            )  # fmt: skip
            place_a += lines * a[1]
            target += lines * c[1]
            far_a += k * steps[0]
            far_b += k * steps[1]
            far_c += k * steps[2]
        left -= vectors
        bytes_left -= vectors * wide_bytes
        place_b += vectors * wide_bytes
        place_c += vectors * wide_bytes
