"""Factorizations and systems of many small matrices on the device, by batched_*.cu.

Stacks are (N, rows, columns) of one LAPACK dtype, of any strides. Results are fresh and dense, on
the device; nothing here waits for it. Each function is one launch. Members of an order beyond what
the kernels take (`has_kernel`), or where these cannot be had, are factored by cuSOLVER one by one:
the functions of `batched_members` have the same names, arguments and results.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cupy
import numpy as np

from . import loader
from .catalogue_batched import BLOCK_ORDERS, QR_ORDERS, ROW_ORDERS
from .layout import Array
from .lines import REALS, TYPES

_WARPS = 4
"""Of a block whose members have a lane for a row."""
NONE, OWN, UNIT = 0, 1, 2
"""What `triangles` does with one of them: nothing; its diagonal is given, or 1."""
AS_GIVEN, LOWER, UPPER = 0, 1, 2
"""What the other triangle is made of: nothing, or the conjugates of this one."""


class Solved(NamedTuple):
    """What a kernel says of a batch of systems."""

    x: Array
    """(N, n, nrhs); NaN where info != 0."""
    info: Array
    """(N,) int32: 0; i for a pivot or minor that is zero or not positive, -i if not finite."""
    kappa: Array
    """(N,) real: estimates of max |A| max |A^-1|; not finite where an x is not."""


class Orthogonal(NamedTuple):
    """What a kernel says of the QR factorizations of a batch."""

    q: Array
    """(N, m, columns); without columns if only R was asked for."""
    r: Array
    info: Array
    """(N,) int32: 0, or 1 if something is not finite."""


class Factored(NamedTuple):
    """What a kernel says of a batch of matrices."""

    factors: Array
    piv: Array | None
    """(N, n) int32, from 0 on; None for Cholesky."""
    info: Array
    kappa: Array


def has_kernel(dtype: np.dtype[Any], n: int) -> bool:
    """Whether members of order n are within what the kernels take."""
    return n <= max(BLOCK_ORDERS[dtype.char])


def gesv(a: Array, b: Array) -> Solved:
    """A X = B by LU with partial pivoting."""
    x, info, kappa = _solution(b)
    _launch("lu", a, None, None, info, kappa, b.shape[2], *place(b), reals(x))
    return Solved(x, info, kappa)


def getrf(a: Array) -> Factored:
    """P A = L U with partial pivoting."""
    lu, piv = cupy.empty(a.shape, a.dtype), cupy.empty(a.shape[:2], np.int32)
    info, kappa = _verdict(a)
    _launch("lu", a, reals(lu), piv, info, kappa, 0, None, 0, 0, 0, None)
    return Factored(lu, piv, info, kappa)


def posv(a: Array, b: Array, *, lower: bool) -> Solved:
    """A X = B, A positive definite, one triangle of it read."""
    x, info, kappa = _solution(b)
    _launch("cholesky", a, int(not lower), None, info, kappa, b.shape[2], *place(b), reals(x))
    return Solved(x, info, kappa)


def potrf(a: Array, *, lower: bool) -> Factored:
    """A = L L^H or U^H U; zeros in the other triangle, which is not read."""
    factor = cupy.empty(a.shape, a.dtype)
    info, kappa = _verdict(a)
    _launch("cholesky", a, int(not lower), reals(factor), info, kappa, 0, None, 0, 0, 0, None)
    return Factored(factor, None, info, kappa)


def triangles(
    m: Array, b: Array, lower: int, upper: int, *, trans: str = "N", mirrored: int = AS_GIVEN,
    piv: Array | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """X = op(T)^-1 B and info for T the product of triangles of M, with interchanges `piv`.

    `lower` and `upper` say what is done with the triangles of M itself: T is L U, or P^T L U, also
    where op is a transpose. `mirrored` goes without one.
    """
    x, info, _ = _solution(b)
    if trans != "N":
        m, lower, upper = m.swapaxes(1, 2), upper, lower
    if piv is not None:
        piv = cupy.ascontiguousarray(piv)
    _launch(
        "triangles", m, lower, upper, mirrored, int(trans == "C"), piv, int(trans != "N"), info,
        b.shape[2], *place(b), reals(x),
    )  # fmt: skip
    return x, info


def getrs(lu: Array, piv: Array, b: Array, trans: str = "N") -> Array:
    """X = op(A)^-1 B with the factors of `getrf`."""
    return triangles(lu, b, UNIT, OWN, trans=trans, piv=piv)[0]


def potrs(c: Array, b: Array, *, lower: bool) -> Array:
    """X = A^-1 B with the factor of `potrf`, of which one triangle is read."""
    return triangles(c, b, OWN, OWN, mirrored=LOWER if lower else UPPER)[0]


def trsm(
    a: Array, b: Array, *, lower: bool, unit: bool = False, trans: str = "N"
) -> tuple[Array, Array]:
    """X = op(A)^-1 B, A triangular, and info."""
    how = UNIT if unit else OWN
    return triangles(a, b, how if lower else NONE, NONE if lower else how, trans=trans)


def has_qr_kernel(dtype: np.dtype[Any], m: int, n: int) -> bool:
    """Whether m by n members are within what `qr` takes."""
    return max(m, n) <= max(QR_ORDERS[dtype.char])


def qr(a: Array, mode: str) -> Orthogonal:
    """A = Q R by Householder reflections; `mode` is "reduced", "complete" or "r"."""
    count, m, n = a.shape
    rank = min(m, n)
    columns, rows = {"reduced": (rank, rank), "complete": (m, m), "r": (0, rank)}[mode]
    q, r = (cupy.empty((count, *shape), a.dtype) for shape in ((m, columns), (rows, n)))
    info, _ = _verdict(a)
    order = next(o for o in QR_ORDERS[a.dtype.char] if o >= max(m, n))
    loader.launch(
        f"batched_qr<{_type(a)}, {order}>", -(-count // (_WARPS * (32 // order))), count, m, n,
        *place(a), columns, reals(q) if columns else None, rows, reals(r), info,
    )  # fmt: skip
    return Orthogonal(q, r, info)


# -- launches -------------------------------------------------------------------------------------


def _launch(routine: str, a: Array, *arguments: Any) -> None:
    """One kernel on the members of A, whose arguments come first."""
    count, n, _ = a.shape
    rows = [order for order in ROW_ORDERS[a.dtype.char] if order >= n]
    if rows:
        name, grid = routine, -(-count // (_WARPS * (32 // rows[0])))
        first: tuple[int, ...] = (count, n)
    else:
        rows = [order for order in BLOCK_ORDERS[a.dtype.char] if order >= n]
        name, grid, first = f"{routine}_block", count, (n,)
    loader.launch(f"batched_{name}<{_type(a)}, {rows[0]}>", grid, *first, *place(a), *arguments)


def _type(a: Array) -> str:
    """How instances are called that take such numbers."""
    return f"{TYPES[REALS[a.dtype.char]]}, {2 if a.dtype.kind == 'c' else 1}"


def _verdict(a: Array) -> tuple[Array, Array]:
    """Room for info and kappa."""
    return cupy.empty(len(a), np.int32), cupy.empty(len(a), REALS[a.dtype.char])


def _solution(b: Array) -> tuple[Array, Array, Array]:
    return (cupy.empty(b.shape, b.dtype), *_verdict(b))


def place(a: Array) -> tuple[Array, int, int, int]:
    """How kernels are told of a stack: its numbers, and three strides."""
    size = a.itemsize
    if a.data.ptr % size or any(step % size for step in a.strides):
        a = cupy.ascontiguousarray(a)
    if a.data.ptr % size:  # complex numbers that begin between two
        a = a.copy()
    member, row, column = (step // size for step in a.strides)
    return reals(a), member, row, column


def reals(a: Array) -> Array:
    """A stack as real numbers, those of a complex one along another axis."""
    if a.dtype.kind != "c":
        return a
    real = np.dtype(REALS[a.dtype.char])
    return cupy.ndarray((*a.shape, 2), real, memptr=a.data, strides=(*a.strides, real.itemsize))
