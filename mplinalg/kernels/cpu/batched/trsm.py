"""op(T) X = B for many triangles T: straight code for small ones, BLAS for others.

A row of X is that of B, less multiples of the rows found before, divided by the diagonal:

    x[i] = (b[i] - sum_{j < i} t[i, j] x[j]) / t[i, i]

in registers along the right-hand sides, whatever the order of T's entries in memory; upper
triangles from the last row up. It is a division, not a multiplication by a reciprocal, which may
overflow where the quotient does not.

Flops: n^2 nrhs a member. Bytes moved: one read of T and of B, one write of X.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types as numba_types
from numba.extending import intrinsic

from ..calls import ADJOINT, LOWER, NO, TRANSPOSE, UNIT, UPPER, at, call
from ..jit import kernel
from ..lanes import Lanes, where
from . import rows
from .members import ANY, BY_ROWS, copied, entry, lines, place

types: Any = numba_types

__all__ = ["LARGEST", "small", "solve_all", "solve_listed"]

LARGEST = 16
"""Largest order, and number of right-hand sides, of straight code (measured)."""
_AHEAD = 1024
_RIGHT = np.uint8(ord("R"))
_WORD = ir.IntType(32)


# -- straight code -------------------------------------------------------------------------------


def _quotient(row: list[Lanes], number: list[Any]) -> list[Lanes]:
    """A row divided by a number, without squares that overflow (Smith 1962)."""
    parts = [[rows.splat(v.builder, part, v.value.type.count) for part in number] for v in row]
    if len(number) == 1:
        return [v / part for v, (part,) in zip(row, parts, strict=True)]
    found = []
    for v, (real, imag) in zip(row, parts, strict=True):
        larger = abs(real) >= abs(imag)
        ratio = where(larger, imag, real) / where(larger, real, imag)
        p, q = where(larger, v.constant(1.0), ratio), where(larger, ratio, v.constant(1.0))
        one = ir.Constant(number[0].type, 1.0)
        alternating = rows.in_turn(v, one, v.builder.fneg(one))
        found.append((v * p + rows.exchanged(v) * (q * alternating)) / (real * p + imag * q))
    return found


@intrinsic(prefer_literal=True)
def _member(typingctx, n, columns, pair, kinds, form, t, b, x, info, steps, sign):  # type: ignore[no-untyped-def]
    """Solve one system; returns nothing, and stores the first zero of the diagonal in `info`.

    `kinds` is a number of two digits to base 3, the layouts of T and B; `form` is 1 if T is upper
    triangular, and 2 more if its diagonal counts as ones; `steps` holds the distances of the rows
    and columns of T and B in reals, used for `ANY`; `sign` is -1 if T is conjugated.
    """
    order, width, parts, layouts, shape = (
        value.literal_value for value in (n, columns, pair, kinds, form)
    )
    upper, unit = bool(shape & 1), bool(shape & 2)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        real = context.get_value_type(signature.args[-1])
        given = [builder.extract_value(values[-2], i) for i in range(4)]
        T, B, X = (
            rows.matrix(context, builder, values[place], real, size, parts, layout, far)
            for place, size, layout, far in [
                (5, (order, order), layouts % 3, (given[0], given[1])),
                (6, (order, width), layouts // 3, (given[2], given[3])),
                (7, (order, width), BY_ROWS, (None, None)),
            ]
        )

        def number(i: int, j: int) -> list[Any]:
            found = T.number(i, j)
            return [found[0], *(builder.fmul(part, values[-1]) for part in found[1:])]

        solved: dict[int, list[Lanes]] = {}
        first = ir.Constant(_WORD, 0)
        for i in reversed(range(order)) if upper else range(order):
            row = B.row(i, width)
            for j, other in solved.items():
                row = [v - w for v, w in zip(row, rows.times(number(i, j), other), strict=True)]
            if not unit:
                row = _quotient(row, number(i, i))
            solved[i] = row
            X.put_row(i, row)
        for i in [] if unit else reversed(range(order)):
            zeros = [builder.fcmp_ordered("==", v, ir.Constant(real, 0.0)) for v in T.number(i, i)]
            is_zero = functools.reduce(builder.and_, zeros)
            first = builder.select(is_zero, ir.Constant(_WORD, i + 1), first)
        builder.store(first, builder.inttoptr(values[8], _WORD.as_pointer()))
        return context.get_dummy_value()

    return types.void(n, columns, pair, kinds, form, t, b, x, info, steps, sign), codegen


@functools.cache
def small(n: int, columns: int, real_bytes: int, pair: int, kinds: int, form: int) -> Any:
    """The kernel for systems of one small order, with `kinds` and `form` as `_member` has them.

    It takes ``(first, last, shape, strides, t, b, x, info, steps, sign)``: a range of members; the
    batch and its strides for T, B and X (as `members.place`); three addresses, X contiguous; that
    of an int32 for each member, which receives the number of the first zero on the diagonal, from
    1, or 0; and steps and sign as `_member`.
    """
    bytes_t, bytes_b = n * n * pair * real_bytes, n * columns * pair * real_bytes

    @kernel
    def run(first, last, shape, strides, t, b, x, info, steps, sign):  # type: ignore[no-untyped-def]
        inner = shape[-1]
        step_t, step_b, step_x = strides[0, -1], strides[1, -1], strides[2, -1]
        while first < last:
            far_t, far_b, far_x = place(first, shape, strides)
            pt, pb, px, flag = t + far_t, b + far_b, x + far_x, info + 4 * first
            count = min(last - first, inner - first % inner)
            for _ in range(count):
                rows.prefetch(pt, _AHEAD, bytes_t, 0)
                rows.prefetch(pb, _AHEAD, bytes_b, 0)
                rows.prefetch(px, _AHEAD, bytes_b, 1)
                _member(n, columns, pair, kinds, form, pt, pb, px, flag, steps, sign)
                pt += step_t
                pb += step_b
                px += step_x
                flag += 4
            first += count

    return run


# -- BLAS, one call a member ---------------------------------------------------------------------


@kernel
def _first_zero(n, matrix, like):  # type: ignore[no-untyped-def]
    """The number, from 1, of the first zero on a diagonal; 0 if there is none."""
    address, steps, _ = matrix
    for i in range(n):
        if entry(address + i * (steps[0] + steps[1]), like)[0] == 0:
            return i + 1
    return 0


@kernel
def _solve(trsm, trsv, n, columns, t, lower, unit, x, one):  # type: ignore[no-untyped-def]
    """X <- T^-1 X; returns the number of the first zero on the diagonal, or 0.

    Parameters
    ----------
    trsm, trsv : int
        Addresses, for the dtype of `one`.
    t : tuple
        (address, steps in bytes, conjugated or not).
    x : int
        Address; contiguous rows.
    """
    if n == 0 or columns == 0:
        return 0
    info = 0 if unit else _first_zero(n, t, one)
    numbers = entry(t[0], one)
    layout, leading = lines(n, n, t[1], numbers.itemsize)
    conjugate = t[2]
    # BLAS reads rows as columns. It finds T x = b, or X^T T^T = B^T; conj(T) is the adjoint of what
    # it sees where T lies by rows, and conj(T)^T where T lies by columns.
    vector = columns == 1 and (not conjugate or layout == BY_ROWS)
    if layout == ANY or (conjugate and layout == BY_ROWS and not vector):
        numbers, leading, layout, conjugate = copied(n, n, t, one), n, BY_ROWS, False
    by_rows = layout == BY_ROWS
    uplo = LOWER if lower != by_rows else UPPER
    diagonal = UNIT if unit else NO
    op = (ADJOINT if conjugate else TRANSPOSE) if by_rows == vector else NO
    target = entry(x, one)
    if vector:
        call(trsv, (uplo, op, diagonal, n, at(numbers, 0), leading, at(target, 0), 1))
    else:
        call(
            trsm,
            (_RIGHT, uplo, op, diagonal, columns, n, one, at(numbers, 0), leading,
             at(target, 0), columns),
        )  # fmt: skip
    return info


@kernel
def solve_all(trsm, trsv, first, last, shape, strides, n, columns, t, lower, unit, x, info, one):  # type: ignore[no-untyped-def]
    """X <- T^-1 X for members first, ..., last - 1 of a batch.

    `shape` and `strides` are as `members.place` takes them, for T, anything, and X; `t` and `x` are
    the first members, as `_solve` takes them, and `info` an array of int32, one for each member.
    """
    for s in range(first, last):
        far_t, _, far_x = place(s, shape, strides)
        matrix = t[0] + far_t, t[1], t[2]
        info[s] = _solve(trsm, trsv, n, columns, matrix, lower, unit, x + far_x, one)


@kernel
def solve_listed(trsm, trsv, chosen, t, conjugate, lower, unit, x, info, one):  # type: ignore[no-untyped-def]
    """X <- T^-1 X for the `chosen` of lists of systems of any sizes.

    t and x are tables as `ragged` has them, X by contiguous rows; a table t of one row is of all
    members.
    """
    for s in chosen:
        row = t[s if t.shape[0] > 1 else 0]
        matrix = row[0], (row[3], row[4]), conjugate
        info[s] = _solve(trsm, trsv, x[s, 1], x[s, 2], matrix, lower, unit, x[s, 0], one)
