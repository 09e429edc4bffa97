"""Plain dense systems without ceremony: arrays in LAPACK's dtypes, every option at its default.

What `solve` does for all arrays and all options costs more than a system of a hundred unknowns.
This road goes up the same ladder in compiled code (single precision and refinement, then working
precision), takes only what is beyond doubt, and leaves everything else to the long road.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import direct_ops_for
from ..ops.protocol import Array, DirectOps
from ..precision import backward_bound
from . import structure as s
from .direct import is_suspicious, judge_cholesky, judge_lu
from .rungs import pays_low_precision

_EPS = {np.dtype(c): float(np.finfo(c).eps) for c in "fdFD"}


def solve_lean(
    a: Any, b: Any, assume_a: str | None, lower: bool, check_finite: bool
) -> Array | None:
    """x of a plain, well-conditioned system; None to take the long road."""
    if type(a) is not np.ndarray or type(b) is not np.ndarray:
        return None
    eps = _EPS.get(a.dtype)
    if eps is None or a.ndim != 2 or not 1 <= b.ndim <= 2:
        return None
    if b.dtype != a.dtype:
        if b.dtype not in _EPS or np.result_type(a, b) != a.dtype:
            return None
        b = b.astype(a.dtype)
    n = len(a)
    nrhs = 1 if b.ndim == 1 else b.shape[1]
    if n == 0 or nrhs == 0 or a.shape[1] != n or len(b) != n:
        return None
    asserted = s.asserted(assume_a)
    if n == 1:
        return _divide(a, b)
    if not (a.flags.forc and a.flags.aligned):
        return None
    structure = asserted or s.detect(a)
    ops = direct_ops_for(a)
    columns = b[:, None] if b.ndim == 1 else b
    if structure in s.SPARSE_KINDS:
        x = _structured(ops, a, columns, structure, eps) if check_finite else None
    else:
        if structure in (s.SYMMETRIC, s.HERMITIAN):
            a, is_finite = ops.filled_up(a, lower=lower, conjugate=structure == s.HERMITIAN)
            if check_finite and not is_finite:
                return None
            structure = s.GENERAL
        x = _dense(ops, a, columns, structure, lower, check_finite, eps)
    return x[:, 0] if x is not None and b.ndim == 1 else x


def _structured(ops: DirectOps, a: Array, b: Array, structure: str, eps: float) -> Array | None:
    x, info, kappa = ops.solve_structured(a, b, structure)
    return None if info or is_suspicious(kappa, len(a), eps) else x


def _dense(
    ops: DirectOps, a: Array, b: Array, structure: str, lower: bool, check_finite: bool, eps: float
) -> Array | None:
    n, nrhs = b.shape
    definite = structure != s.GENERAL
    if pays_low_precision(n, nrhs, a.dtype, structure):
        if nrhs > ops.refines_columns:
            return None
        x = _refined(ops, a, b, definite, lower, check_finite, eps)
        if x is not None:
            return x
    x = _direct(ops, a, b, definite, lower, check_finite, eps)
    if x is None and structure == s.MAYBE_POSITIVE_DEFINITE:  # it only looked definite
        x = _direct(ops, a, b, False, lower, check_finite, eps)
    return x


def _refined(
    ops: DirectOps, a: Array, b: Array, definite: bool, lower: bool, check_finite: bool, eps: float
) -> Array | None:
    if definite:
        seen = ops.posv_refined(a, b, lower=lower, whole=check_finite)
    else:
        seen = ops.gesv_refined(a, b)
    return seen.x if seen.converged and seen.kappa * eps < 1.0 else None


def _direct(
    ops: DirectOps, a: Array, b: Array, definite: bool, lower: bool, check_finite: bool, eps: float
) -> Array | None:
    seen = ops.posv(a, b, lower=lower, whole=check_finite) if definite else ops.gesv(a, b)
    n = len(a)
    if seen.info or not seen.omega <= backward_bound(n, eps / 2):
        return None
    if is_suspicious(seen.kappa, n, eps):
        found = judge_cholesky(a, seen, lower) if definite else judge_lu(a, seen)
        if found.rcond is not None and not found.rcond >= eps:
            return None
    return seen.x


def _divide(a: Array, b: Array) -> Array | None:
    """One unknown, nothing extreme."""
    low, high = (1e-15, 1e15) if a.dtype.char in "fF" else (1e-100, 1e100)
    try:
        if b.size == 1:
            least = top = abs(b.item())
        else:
            size = abs(b)
            least, top = float(size.min()), float(size.max())
        is_safe = low < least and top < high and low < abs(a.item()) < high
    except OverflowError:  # of Python's abs, where |z| overflows
        return None
    return b / a[0, 0] if is_safe else None
