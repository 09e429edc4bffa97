"""C <- alpha op(A) op(B) + beta C for many matrices: straight code for small ones, BLAS for others.

A small product is written out for its size: rows of B stay in registers, each entry of A is spread
over a register and multiplies one of them. What takes time then is memory, so cache lines of the
members to come are asked for. Real ones of some tens are for `streamed`; other products are BLAS's,
called by address, and an operand without unit stride in either direction is copied, one member at a
time.

Flops: 2 m n k a member. Bytes moved: one read of A and of B, one write of C.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..calls import ADJOINT, NO, TRANSPOSE, at, call
from ..jit import kernel
from ..lanes import Lanes
from . import rows
from .members import BY_COLUMNS, BY_ROWS, copied, copy_out, entry, lines, place

types: Any = numba_types

__all__ = ["ADDED", "LARGEST", "PLAIN", "SCALED", "multiply_all", "multiply_listed", "small"]

NOTHING = np.uint8(0)
PLAIN, SCALED, ADDED = 0, 1, 2
"""C <- A B; alpha A B; alpha A B + beta C."""
LARGEST = {(8, 1): 15, (8, 2): 16, (4, 1): 20, (4, 2): 24}
"""Largest dimension of a small product by bytes of a real and reals of a number (measured)."""
_AHEAD = 1024
"""Bytes ahead that memory is asked for."""


# -- straight code -------------------------------------------------------------------------------


_Sums = list[list[Lanes]]
"""Of a row of A B: sum re(a) b and sum im(a) b, each by its vectors; the former if A is real."""


def _rows_of_product(
    a: rows.Matrix, b: rows.Matrix, shape: tuple[int, int, int], registers: int
) -> Iterator[tuple[int, _Sums]]:
    """The rows of A B, each with its number.

    B stays in registers if it takes no more than half of them. Otherwise several rows of A are
    multiplied by each row of B as it comes, in a loop at run time.
    """
    m, k, n = shape
    builder = a.builder
    pieces = len(b.row(0, n))  # what is not used is not compiled
    if k * pieces <= registers // 2:
        kept = [b.row(l, n) for l in range(k)]
        for i in range(m):
            sums = _products(a, i, 0, kept[0])
            for l in range(1, k):
                sums = _plus(sums, _products(a, i, l, kept[l]))
            yield i, sums
        return
    blocks = -(-m * pieces * a.pair // (registers * 3 // 4))
    height = -(-m // blocks)
    for start in range(0, m, height):
        together = range(start, min(start + height, m))
        row = b.row(0, n)
        places = {
            i: [
                [cgutils.alloca_once_value(builder, v.value) for v in part]
                for part in _products(a, i, 0, row)
            ]
            for i in together
        }
        one, last = (ir.Constant(ir.IntType(64), number) for number in (1, k))
        with cgutils.for_range(builder, last, start=one, intp=one.type) as loop:
            row = b.row(loop.index, n)
            for i in together:
                new = _plus(_loaded(builder, places[i]), _products(a, i, loop.index, row))
                for part, found in zip(places[i], new, strict=True):
                    for place, v in zip(part, found, strict=True):
                        builder.store(v.value, place)
        for i in together:
            yield i, _loaded(builder, places[i])


def _products(a: rows.Matrix, i: Any, l: Any, row: list[Lanes]) -> _Sums:
    """Each part of a[i, l] times a row of B."""
    return [rows.times([number], row) for number in a.number(i, l)]


def _plus(first: _Sums, second: _Sums) -> _Sums:
    return [
        [v + w for v, w in zip(*parts, strict=True)] for parts in zip(first, second, strict=True)
    ]


def _loaded(builder: Any, places: list[list[Any]]) -> _Sums:
    return [[Lanes(builder, builder.load(place)) for place in part] for part in places]


def _joined(sums: _Sums, signs: tuple[Any, Any]) -> list[Lanes]:
    """A row of a product of complex matrices, of which one or both are conjugated (sign -1)."""
    builder = sums[0][0].builder
    sign_a, sign_b = signs
    one = ir.Constant(sign_a.type, 1.0)
    both = builder.fneg(builder.fmul(sign_a, sign_b))
    return [
        re * rows.in_turn(re, one, sign_b) + rows.exchanged(im) * rows.in_turn(im, both, sign_a)
        for re, im in zip(*sums, strict=True)
    ]


@intrinsic(prefer_literal=True)
def _member(typingctx, m, k, n, pair, kinds, mode, a, b, c, steps, numbers):  # type: ignore[no-untyped-def]
    """One product.

    `kinds` is a number of three digits to base 3, the layouts of A, B and C; `steps` holds the
    distances of their rows and columns in reals, used for `ANY`; `numbers` alpha, beta, and the
    signs of the imaginary parts of A and B, the former two by their parts.
    """
    rows_a, inner, columns, parts, layouts, how = (
        value.literal_value for value in (m, k, n, pair, kinds, mode)
    )

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        real = context.get_value_type(signature.args[-1].dtype)
        given = [builder.extract_value(values[-2], i) for i in range(6)]
        number = [builder.extract_value(values[-1], i) for i in range(6)]
        alpha, beta, signs = number[:parts], number[2 : 2 + parts], (number[4], number[5])
        A, B, C = (
            rows.matrix(
                context, builder, values[6 + place], real, shape, parts, layouts // 3**place % 3,
                (given[2 * place], given[2 * place + 1]),
            )
            for place, shape in enumerate([(rows_a, inner), (inner, columns), (rows_a, columns)])
        )  # fmt: skip
        registers = rows.registers(context)[1]
        for i, sums in _rows_of_product(A, B, (rows_a, inner, columns), registers):
            row = sums[0] if parts == 1 else _joined(sums, signs)
            if how != PLAIN:
                row = rows.times(alpha, row)
            if how == ADDED:
                old = rows.times(beta, C.row(i, columns))
                row = [new + v for new, v in zip(row, old, strict=True)]
            C.put_row(i, row)
        return context.get_dummy_value()

    return types.void(m, k, n, pair, kinds, mode, a, b, c, steps, numbers), codegen


@functools.cache
def small(m: int, k: int, n: int, real_bytes: int, pair: int, kinds: int, mode: int) -> Any:
    """The kernel for products of one small size, of layouts `kinds` (as `_member`).

    It takes ``(first, last, shape, strides, a, b, c, steps, numbers)``: a range of members; the
    batch dimensions, and the strides of A, B and C along them, (3, r), in bytes; three addresses;
    and steps and numbers as `_member`.
    """
    bytes_a, bytes_b, bytes_c = (count * pair * real_bytes for count in (m * k, k * n, m * n))

    @kernel
    def run(first, last, shape, strides, a, b, c, steps, numbers):  # type: ignore[no-untyped-def]
        inner = shape[-1]
        step_a, step_b, step_c = strides[0, -1], strides[1, -1], strides[2, -1]
        while first < last:
            far_a, far_b, far_c = place(first, shape, strides)
            pa, pb, pc = a + far_a, b + far_b, c + far_c
            count = min(last - first, inner - first % inner)
            for _ in range(count):
                rows.prefetch(pa, _AHEAD, bytes_a, 0)
                rows.prefetch(pb, _AHEAD, bytes_b, 0)
                rows.prefetch(pc, _AHEAD, bytes_c, 1)
                _member(m, k, n, pair, kinds, mode, pa, pb, pc, steps, numbers)
                pa += step_a
                pb += step_b
                pc += step_c
            first += count

    return run


# -- BLAS, one call a member ---------------------------------------------------------------------

# A matrix comes as (address, steps, conjugate): steps from row to row and from column to column in
# bytes, and whether it is conjugated before it is used.


@kernel
def _operation(m, n, matrix, size):  # type: ignore[no-untyped-def]
    """How BLAS, which takes rows for columns, multiplies by a matrix: (op, leading dimension).

    op is 0 if it cannot: it conjugates only what it transposes.
    """
    _, steps, conjugate = matrix
    layout, leading = lines(m, n, steps, size)
    if layout == BY_ROWS and not conjugate:
        return NO, leading
    if layout == BY_COLUMNS:
        return (ADJOINT if conjugate else TRANSPOSE), leading
    return NOTHING, leading


@kernel
def _plan(m, k, n, a, b, c, size):  # type: ignore[no-untyped-def]
    """Operations of A and B, three leading dimensions, and whether BLAS can do without copies."""
    op_a, leading_a = _operation(m, k, a, size)
    op_b, leading_b = _operation(k, n, b, size)
    layout, leading_c = lines(m, n, c[1], size)
    direct = op_a != NOTHING and op_b != NOTHING and layout == BY_ROWS
    return op_a, op_b, leading_a, leading_b, leading_c, direct


@kernel
def _multiply(gemm, m, k, n, alpha, a, b, beta, c, plan):  # type: ignore[no-untyped-def]
    op_a, op_b, leading_a, leading_b, leading_c, direct = plan
    if not direct:
        _multiply_copies(gemm, m, k, n, alpha, a, b, beta, c)
        return
    # BLAS sees C^T = op(B)^T op(A)^T
    call(
        gemm,
        (op_b, op_a, n, m, k, alpha, at(entry(b[0], alpha), 0), leading_b,
         at(entry(a[0], alpha), 0), leading_a, beta, at(entry(c[0], alpha), 0), leading_c),
    )  # fmt: skip


@kernel
def _multiply_copies(gemm, m, k, n, alpha, a, b, beta, c):  # type: ignore[no-untyped-def]
    """With contiguous copies of all three."""
    first = copied(m, k, a, alpha)
    second = copied(k, n, b, alpha)
    result = copied(m, n, c, alpha) if beta != 0 else np.empty(m * n, first.dtype)
    call(
        gemm,
        (NO, NO, n, m, k, alpha, at(second, 0), n, at(first, 0), k, beta, at(result, 0), n),
    )
    copy_out(m, n, result, c)


@kernel
def _moved(matrix, far):  # type: ignore[no-untyped-def]
    return matrix[0] + far, matrix[1], matrix[2]


@kernel
def multiply_all(gemm, first, last, shape, strides, dimensions, alpha, a, b, beta, c):  # type: ignore[no-untyped-def]
    """C <- alpha A B + beta C for members first, ..., last - 1 of a batch.

    Parameters
    ----------
    gemm : int
        Address, for the dtype of alpha and beta.
    shape, strides : array
        Of the batch, as `members.place` takes them.
    dimensions : tuple of int
        m, k and n, none of them 0.
    a, b, c : tuple
        The first members. C overlaps neither A nor B.
    """
    m, k, n = dimensions
    plan = _plan(m, k, n, a, b, c, entry(c[0], alpha).itemsize)
    inner = shape[-1]
    step_a, step_b, step_c = strides[0, -1], strides[1, -1], strides[2, -1]
    while first < last:
        far_a, far_b, far_c = place(first, shape, strides)
        count = min(last - first, inner - first % inner)
        for _ in range(count):
            _multiply(
                gemm, m, k, n, alpha, _moved(a, far_a), _moved(b, far_b), beta, _moved(c, far_c),
                plan,
            )  # fmt: skip
            far_a += step_a
            far_b += step_b
            far_c += step_c
        first += count


@kernel
def multiply_listed(gemm, chosen, alpha, a, conj_a, b, conj_b, beta, c):  # type: ignore[no-untyped-def]
    """C <- alpha A B + beta C for the `chosen` of lists of matrices of any sizes.

    a, b and c are tables as `ragged` has them; one of one row is of all members.
    """
    for t in chosen:
        row_a, row_b = a[t if a.shape[0] > 1 else 0], b[t if b.shape[0] > 1 else 0]
        row_c = c[t]
        m, k, n = row_c[1], row_a[2], row_c[2]
        first = row_a[0], (row_a[3], row_a[4]), conj_a
        second = row_b[0], (row_b[3], row_b[4]), conj_b
        target = row_c[0], (row_c[3], row_c[4]), False
        if m > 0 and n > 0 and k > 0 and alpha != 0:
            plan = _plan(m, k, n, first, second, target, entry(row_c[0], alpha).itemsize)
            _multiply(gemm, m, k, n, alpha, first, second, beta, target, plan)
        else:
            _scale(m, n, beta, target)


@kernel
def _scale(m, n, beta, c):  # type: ignore[no-untyped-def]
    """C <- beta C; not read where beta is 0."""
    address, steps, _ = c
    for i in range(m):
        for j in range(n):
            number = entry(address + i * steps[0] + j * steps[1], beta)
            number[0] = beta * number[0] if beta != 0 else beta
