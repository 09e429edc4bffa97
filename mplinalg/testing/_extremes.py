"""Families that a solver may fail on: badly scaled, singular, or not finite."""

from __future__ import annotations

import math
import operator

import numpy as np

from mplinalg.testing._draw import Draw
from mplinalg.testing._registry import Matrix, family


def _position(label: str, index: int | None, n: int, default: int) -> int:
    if index is None:
        return default
    k = operator.index(index)
    if not 0 <= k < n:
        raise ValueError(f"{label} must lie in 0..{n - 1}, got {index!r}")
    return k


def _grades(n: int, decades: float) -> Matrix:
    if not 0 <= decades <= 300:
        raise ValueError(f"decades must lie in [0, 300], got {decades!r}")
    grades: Matrix = np.logspace(0, -decades, n)
    return grades


@family("Higham (2002), section 9.8; Knight, Ruiz and Ucar (2014) on undoing it")
def graded_rows(draw: Draw, n: int, *, decades: float = 20.0) -> Matrix:
    """Normal entries; row i times 10^(-decades (i - 1) / (n - 1))."""
    return _grades(n, decades)[:, None] * draw.normal(n, n)


@family("Higham (2002), section 9.8; Knight, Ruiz and Ucar (2014) on undoing it")
def graded_columns(draw: Draw, n: int, *, decades: float = 20.0) -> Matrix:
    """Normal entries; column j times 10^(-decades (j - 1) / (n - 1))."""
    return _grades(n, decades) * draw.normal(n, n)


@family("this gallery; Knight, Ruiz and Ucar (2014) on undoing it")
def badly_scaled(draw: Draw, n: int, *, decades: float | None = None) -> Matrix:
    """R G C: G normal, R and C powers of 2; entries 1e-300..1e300, in single 1e-30..1e30."""
    single = draw.real_format.bits == 32
    limit = 30.0 if single else 300.0
    if decades is None:
        decades = limit
    if not 0 <= decades <= limit:
        raise ValueError(f"decades must lie in [0, {limit:g}] in this dtype, got {decades!r}")
    half = decades * math.log2(10) / 2
    exponents = np.floor(np.linspace(-half, half, n)).astype(int)
    rows, columns = draw.rng.permutation(exponents), draw.rng.permutation(exponents)
    return draw.normal(n, n) * np.exp2(rows)[:, None] * np.exp2(columns)


@family("this gallery: beyond the largest number of fp16, 65504")
def large_scaled(draw: Draw, n: int, *, scale: float = 1e5) -> Matrix:
    """Normal entries times scale: overflows in fp16."""
    return scale * draw.normal(n, n)


@family("this gallery: below the smallest number of fp16, 6e-8")
def small_scaled(draw: Draw, n: int, *, scale: float = 1e-9) -> Matrix:
    """Normal entries times scale: underflows to 0 in fp16."""
    return scale * draw.normal(n, n)


@family("this gallery; Demmel (1984), SIAM J. Sci. Statist. Comput. 5, on gradual underflow")
def denormal(draw: Draw, n: int) -> Matrix:
    """Uniform entries, each below the smallest normal number of the dtype."""
    return draw.uniform(-0.5, 0.5, n, n) * float(draw.real_format.smallest_normal)


@family("this gallery", singular=True)
def zero_row(draw: Draw, n: int, *, row: int | None = None) -> Matrix:
    """Normal entries; one row (the middle one unless given, from 0) is zero."""
    a = draw.normal(n, n)
    if n:
        a[_position("row", row, n, n // 2)] = 0
    return a


@family("this gallery", singular=True)
def zero_column(draw: Draw, n: int, *, column: int | None = None) -> Matrix:
    """Normal entries; one column (the middle one unless given, from 0) is zero."""
    a = draw.normal(n, n)
    if n:
        a[:, _position("column", column, n, n // 2)] = 0
    return a


@family("this gallery", singular=True)
def singular_integer(draw: Draw, n: int, *, pivot: int | None = None) -> Matrix:
    """L U in small integers, rank n - 1 exactly: partial pivoting meets a pivot of 0, exactly."""
    # Both triangles are unit with -1, 0, 1 elsewhere, so the diagonal is always a largest entry
    # of its column and no step of the elimination rounds. U[pivot, pivot] = 0 loses the rank.
    lower, upper = draw.rng.integers(-1, 2, (2, n, n)).astype(float)
    unit: Matrix = np.eye(n)
    lower, upper = np.tril(lower, -1) + unit, np.triu(upper, 1) + unit
    if n:
        k = _position("pivot", pivot, n, n - 1)
        upper[k, k] = 0
    a: Matrix = lower @ upper
    return a


@family("this gallery", finite=False)
def nan_entry(draw: Draw, n: int, *, row: int | None = None, column: int | None = None) -> Matrix:
    """Normal entries; one of them (at n // 2, n // 3 unless given, from 0) is NaN."""
    return _with_entry(draw.normal(n, n), row, column, math.nan)


@family("this gallery", finite=False)
def inf_entry(draw: Draw, n: int, *, row: int | None = None, column: int | None = None) -> Matrix:
    """Normal entries; one of them (at n // 2, n // 3 unless given, from 0) is +Inf."""
    return _with_entry(draw.normal(n, n), row, column, math.inf)


def _with_entry(a: Matrix, row: int | None, column: int | None, value: float) -> Matrix:
    n = len(a)
    if n:
        a[_position("row", row, n, n // 2), _position("column", column, n, n // 3)] = value
    return a
