"""Solves with float32 factors and few right-hand sides: one launch a triangle.

Iterative refinement solves for one to four columns again and again with the same factors. What
depends on the factors alone is a plan, made once: the inverses of the diagonal blocks, and the row
interchanges of LU as one permutation, which the kernel (triangle_solve.cu) applies to what it reads
or writes. Nothing waits for the device.

The functions raise `KernelUnavailable`, with the right-hand sides unchanged, where a kernel cannot
be had, and take float32 alone: LAPACK's other dtypes are left to cuBLAS.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import cupy
import numpy as np

from . import blas, lapack, loader, panels
from .layout import (
    Array,
    is_c_like,
    is_f_like,
    lapack_dtype,
    leading_dimension,
    require_f_like,
    require_shapes,
    require_views,
)

__all__ = ["WIDE", "CholeskyPlan", "Plan", "getrs", "plan", "potrs", "potrs_plan"]

WIDE = 16
"""Columns from which cuBLAS and cuSOLVER take less time.

By the model of triangle_solve.cu, whose time is that of reading T, or of n / 128 steps of a
microsecond or two, for each `_COLUMNS` columns.
"""

_COLUMNS = 4
"""Of the instance for more than one."""
_ORDER = 128
"""Of the diagonal blocks."""


@dataclass(frozen=True, eq=False)
class Triangle:
    """One triangle of a matrix with the inverses of its diagonal blocks."""

    rows: Array
    """The matrix, or its transpose, C-like."""
    is_transpose: bool
    """`rows` is the transpose."""
    lower: bool
    """Of `rows`."""
    inverses: Array
    """(blocks, 128, 128), of the blocks of `rows`."""

    def solve(
        self, b: Array, x: Array, state: Array, most: int, *, transposed: bool,
        sources: Array | None = None, targets: Array | None = None, answer: Array | None = None,
    ) -> None:  # fmt: skip
        """op(T) X = B for up to `most` F-like columns, 1 or `_COLUMNS`.

        Row i of B is b[sources[i]], and row i of X goes to answer[targets[i]], too.
        """
        n, columns = x.shape
        flag = str(transposed != self.is_transpose).lower()
        loader.launch(
            f"triangle_solve<{most}, {flag}>", len(self.inverses), n, self.rows,
            leading_dimension(self.rows.T), self.inverses, int(self.lower), columns, b,
            leading_dimension(b), sources, x, leading_dimension(x), targets, answer,
            0 if answer is None else leading_dimension(answer), state,
        )  # fmt: skip


class _States:
    """Memory by which the blocks of a launch wait for each other.

    Launches of one stream can share it. A stream is told by its address and, as there is one that
    each thread has for itself under the same address, by the thread.
    """

    def __init__(self, blocks: int) -> None:
        self._words = 1 + blocks
        self._found: dict[tuple[int, int], Array] = {}

    def current(self) -> Array:
        key = threading.get_ident(), cupy.cuda.get_current_stream().ptr
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = cupy.zeros(self._words, np.uint32)
        return found


@dataclass(frozen=True, eq=False)
class Plan:
    """What `getrs` makes use of. It holds the factors, which must not be changed meanwhile.

    Of n rows it takes 1028 n bytes beside them, and 4 + n / 32 for each stream that it is used on.
    """

    lu: Array
    piv: Array
    lower: Triangle
    upper: Triangle
    order: Array
    """Row i after the interchanges is row order[i] before them."""
    states: _States = field(repr=False)


@dataclass(frozen=True, eq=False)
class CholeskyPlan:
    """What `potrs` makes use of: 512 n bytes beside the factor."""

    c: Array
    lower: bool
    factor: Triangle
    states: _States = field(repr=False)


def plan(lu: Array, piv: Array) -> Plan:
    """For solves with P A = L U, in either layout; pivots are 0-based, int32, on the device."""
    n = _order("getrs_plan", lu)
    require_shapes(piv.shape == (n,), "getrs_plan", lu, piv)
    if not isinstance(piv, cupy.ndarray) or piv.dtype != np.int32:
        raise TypeError(
            f"getrs_plan takes int32 pivots on the device; got {type(piv)}, {piv.dtype}"
        )
    is_transpose = not is_c_like(lu)
    rows = lu.T if is_transpose else lu
    if is_transpose:
        lower, upper = (_transposed(x) for x in _inverted(*_transposed_blocks(rows), n))
    else:
        lower, upper = _inverted(rows, leading_dimension(rows.T), n)
    return Plan(
        lu, piv, Triangle(rows, is_transpose, not is_transpose, lower),
        Triangle(rows, is_transpose, is_transpose, upper), _order_of_rows(piv), _States(len(lower)),
    )  # fmt: skip


def potrs_plan(c: Array, lower: bool) -> CholeskyPlan:
    """For solves with A = L L^T or U^T U, one triangle in either layout."""
    n = _order("potrs_plan", c)
    is_transpose = not is_c_like(c)
    rows = c.T if is_transpose else c
    lower_in_rows = lower != is_transpose
    # block_lu.cu divides by the diagonal of an upper triangle, and takes a lower one for unit
    if lower_in_rows:
        inverses = _transposed(_inverted(*_transposed_blocks(rows), n, lower=False)[1])
    else:
        inverses = _inverted(rows, leading_dimension(rows.T), n, lower=False)[1]
    triangle = Triangle(rows, is_transpose, lower_in_rows, inverses)
    return CholeskyPlan(c, lower, triangle, _States(len(inverses)))


def getrs(plan: Plan, b: Array, trans: str = "N") -> None:
    """B <- op(A)^-1 B of an F-like B, two launches for every four columns.

    From `WIDE` columns on it is cuBLAS that solves, or cuSOLVER.
    """
    _require_columns("getrs", plan.lu, b)
    if b.size == 0:
        return
    if b.shape[1] >= WIDE:
        _getrs_wide(plan, b, trans)
        return
    state = plan.states.current()
    for x, z, most in _groups(b):
        if trans == "N":  # P A = L U
            plan.lower.solve(x, z, state, most, transposed=False, sources=plan.order)
            plan.upper.solve(z, x, state, most, transposed=False)
        else:  # A^T = U^T L^T P
            plan.upper.solve(x, z, state, most, transposed=True)
            plan.lower.solve(z, z, state, most, transposed=True, targets=plan.order, answer=x)


def potrs(plan: CholeskyPlan, b: Array) -> None:
    """B <- A^-1 B of an F-like B, likewise."""
    _require_columns("potrs", plan.c, b)
    if b.size == 0:
        return
    if b.shape[1] >= WIDE:
        c = plan.c
        if is_f_like(c):
            lapack.potrs(c, b, plan.lower)
        else:
            lapack.potrs(c.T, b, not plan.lower)
        return
    state = plan.states.current()
    for x, z, most in _groups(b):
        plan.factor.solve(x, z, state, most, transposed=not plan.lower)
        plan.factor.solve(z, x, state, most, transposed=plan.lower)


def _getrs_wide(plan: Plan, b: Array, trans: str) -> None:
    lu, piv = plan.lu, plan.piv
    if is_f_like(lu):
        lapack.getrs(lu, piv, b, trans)
        return
    if trans == "N":
        panels.laswp(b, piv)
    for lower in (True, False) if trans == "N" else (False, True):
        blas.trsm("L", lu, b, lower, trans, lower)
    if trans != "N":
        panels.laswp(b, piv, forward=False)


# -- right-hand sides -----------------------------------------------------------------------------


def _groups(b: Array) -> Iterator[tuple[Array, Array, int]]:
    """Columns that are solved for together, space for what one triangle leaves for the other.

    And of the instance of the kernel how many columns it takes. It is the same for all, so that if
    it cannot be had nothing was changed yet.
    """
    n, count = b.shape
    most = 1 if count == 1 else _COLUMNS
    space = cupy.empty((n, min(count, most)), np.float32, order="F")
    for start in range(0, count, most):
        columns = b[:, start : start + most]
        yield columns, space[:, : columns.shape[1]], most


def _require_columns(routine: str, factors: Array, b: Array) -> None:
    _require_single(routine, b)
    require_f_like(routine, b)
    require_shapes(len(b) == len(factors), routine, factors, b)


# -- factors --------------------------------------------------------------------------------------


def _require_single(routine: str, a: Array) -> None:
    if lapack_dtype(routine, a) != np.float32:
        raise TypeError(f"{routine} by a plan takes float32; got {a.dtype}")


def _order(routine: str, a: Array) -> int:
    _require_single(routine, a)
    require_views(routine, a)
    require_shapes(a.shape == (len(a), len(a)), routine, a)
    return len(a)


def _order_of_rows(piv: Array) -> Array:
    n = len(piv)
    order, moved = cupy.empty(n, np.int32), cupy.empty(1, np.int32)
    rows, sources = cupy.empty(2 * n, np.int32), cupy.empty(2 * n, np.int32)
    if n:
        piv = cupy.ascontiguousarray(piv)
        loader.launch("permutation", 1, n, n, piv, 0, 0, order, rows, sources, moved)
    return order


def _inverted(rows: Array, leading: int, n: int, *, lower: bool = True) -> tuple[Array, Array]:
    """Of the diagonal blocks of L\\U, by rows: L^-1, if wanted, and U^-1.

    Nobody is told of a zero on the diagonal of U: what is divided by it is infinite or NaN, as by
    substitution.
    """
    blocks = -(-n // _ORDER)
    shape = blocks, _ORDER, _ORDER
    left = cupy.empty(shape, np.float32) if lower else None
    right = cupy.empty(shape, np.float32)
    unused = cupy.zeros(1, np.int32)
    loader.launch(
        f"triangle_inverse<{_ORDER}>", blocks, n, rows, leading, left, right, None, 0, unused
    )
    return left, right


def _transposed_blocks(rows: Array) -> tuple[Array, int]:
    """The diagonal blocks of a C-like matrix, transposed, and the leading dimension of these.

    They stand one after the other where the kernel would look for the diagonal blocks of a matrix
    with so few numbers to a row that its rows overlap.
    """
    n = len(rows)
    whole, rest = divmod(n, _ORDER)
    found = cupy.empty((whole + 1, _ORDER + 1, _ORDER), np.float32)
    if whole:
        row, entry = rows.strides
        along = cupy.ndarray(
            (whole, _ORDER, _ORDER), np.float32, rows.data, (_ORDER * (row + entry), row, entry)
        )
        found[:whole, :_ORDER] = along.swapaxes(1, 2)
    if rest:
        last = slice(n - rest, n)
        found[whole, :rest, :rest] = rows[last, last].T
    return found, _ORDER


def _transposed(blocks: Array) -> Array:
    return cupy.ascontiguousarray(blocks.swapaxes(1, 2))
