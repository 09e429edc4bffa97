"""What `batched` computes, by cuSOLVER and cuBLAS, one member after the other.

For orders beyond what the kernels take, and where these cannot be had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from . import blas, lapack
from .batched import AS_GIVEN, LOWER, NONE, OWN, UNIT, UPPER, Factored, Orthogonal, Solved
from .layout import Array
from .lines import REALS, cabs1

_PROBES = 2
"""Random right-hand sides."""


def gesv(a: Array, b: Array) -> Solved:
    """A X = B by LU with partial pivoting."""

    def solve(member: Array, columns: Array) -> Array:
        piv, info = lapack.getrf(member)
        lapack.getrs(member, piv, columns)
        return info

    return _solved(a, b, solve)


def posv(a: Array, b: Array, *, lower: bool) -> Solved:
    """A X = B, A positive definite, one triangle of it read."""

    def solve(member: Array, columns: Array) -> Array:
        info = lapack.potrf(member, lower)
        lapack.potrs(member, columns, lower)
        return info

    return _solved(a, b, solve)


def _solved(a: Array, b: Array, solve: Callable[[Array, Array], Array]) -> Solved:
    nrhs = b.shape[2]
    x = cupy.empty(b.shape, b.dtype)
    z = _probes(a)
    sizes, infos = [], []
    for member, (matrix, right) in enumerate(zip(a, b, strict=True)):
        columns = cupy.empty((len(matrix), nrhs + _PROBES), b.dtype, order="F")
        columns[:, :nrhs], columns[:, nrhs:] = right, z
        infos.append(solve(_by_columns(matrix), columns))
        x[member] = columns[:, :nrhs]
        sizes.append(_size(columns[:, nrhs:]) + 0 * _size(columns[:, :nrhs]))
    info = cupy.concatenate(infos)
    x[...] = cupy.where((info != 0)[:, None, None], np.nan, x)
    return Solved(x, info, cabs1(a).max(axis=(1, 2)) * cupy.stack(sizes))


def getrf(a: Array) -> Factored:
    """P A = L U with partial pivoting."""
    lu, piv = cupy.empty(a.shape, a.dtype), cupy.empty(a.shape[:2], np.int32)
    z, sizes, infos = _probes(a), [], []
    for member, matrix in enumerate(a):
        factors, columns = _by_columns(matrix), z.copy(order="F")
        piv[member], info = lapack.getrf(factors)
        lapack.getrs(factors, piv[member], columns)
        lu[member] = factors
        infos.append(info)
        sizes.append(_size(columns))
    return Factored(lu, piv, cupy.concatenate(infos), cabs1(a).max(axis=(1, 2)) * cupy.stack(sizes))


def potrf(a: Array, *, lower: bool) -> Factored:
    """A = L L^H or U^H U, with zeros in the other triangle."""
    factors = cupy.empty(a.shape, a.dtype)
    z, sizes, infos = _probes(a), [], []
    for member, matrix in enumerate(a):
        factor, columns = _by_columns(matrix), z.copy(order="F")
        infos.append(lapack.potrf(factor, lower))
        lapack.potrs(factor, columns, lower)
        factors[member] = cupy.tril(factor) if lower else cupy.triu(factor)
        sizes.append(_size(columns))
    diagonal = cabs1(a.diagonal(axis1=1, axis2=2)).max(axis=1)
    return Factored(factors, None, cupy.concatenate(infos), diagonal * cupy.stack(sizes))


def triangles(
    m: Array, b: Array, lower: int, upper: int, *, trans: str = "N", mirrored: int = AS_GIVEN,
    piv: Array | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """X = op(T)^-1 B and info for T the product of triangles of M, with interchanges `piv`."""
    x = cupy.empty(b.shape, b.dtype)
    for member, (matrix, right) in enumerate(zip(m, b, strict=True)):
        columns = _by_columns(right)
        _solve_triangles(
            _by_columns(matrix), None if piv is None else piv[member], columns, lower, upper,
            trans, mirrored,
        )  # fmt: skip
        x[member] = columns
    return x, _zeros_on_diagonal(m, x, OWN in (lower, upper))


def _solve_triangles(
    matrix: Array, piv: Array | None, columns: Array, lower: int, upper: int, trans: str,
    mirrored: int,
) -> None:  # fmt: skip
    if piv is not None:
        lapack.getrs(matrix, cupy.ascontiguousarray(piv), columns, trans)
        return
    if mirrored != AS_GIVEN:
        lapack.potrs(matrix, columns, mirrored == LOWER)
        return
    steps = [(True, lower), (False, upper)]
    for is_lower, how in steps if trans == "N" else steps[::-1]:
        if how != NONE:
            blas.trsm("L", matrix, columns, is_lower, trans, how == UNIT)


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


def qr(a: Array, mode: str) -> Orthogonal:
    """A = Q R, "reduced", "complete", or "r" alone."""
    found = cupy.linalg.qr(a, mode)
    q, r = found if mode != "r" else (cupy.empty((*a.shape[:2], 0), a.dtype), found)
    return Orthogonal(q, r, (~cupy.isfinite(r).all(axis=(1, 2))).astype(np.int32))


def _zeros_on_diagonal(m: Array, x: Array, is_read: bool) -> Array:
    """The number of the first one of each member, 0 if there is none; NaN for its x."""
    info = cupy.zeros(len(m), np.int32)
    if is_read:
        zeros = m.diagonal(axis1=1, axis2=2) == 0
        info[...] = cupy.where(zeros.any(axis=1), zeros.argmax(axis=1) + 1, 0)
        x[...] = cupy.where((info != 0)[:, None, None], np.nan, x)
    return info


def _by_columns(a: Array) -> Array:
    copy = cupy.empty(a.shape, a.dtype, order="F")
    copy[...] = a
    return copy


def _size(x: Array) -> Any:
    """Its largest magnitude; NaN or infinity if anything is."""
    return cabs1(x).max() if x.size else cupy.zeros((), REALS[x.dtype.char])


def _probes(a: Array) -> Array:
    """Numbers of either sign, in magnitude from 1/2 to 1, the same for all members."""
    z = np.random.default_rng(0).uniform(0.5, 1.0, (a.shape[1], _PROBES))
    z[1::2] *= -1
    return cupy.asarray(z.astype(a.dtype))
