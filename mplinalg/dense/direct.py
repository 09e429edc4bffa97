"""Plain working precision, by structure, and a certificate for the answer.

Small systems, many right-hand sides and structures that a lower precision cannot speed up come
here. An answer that fails its certificate goes up the ladder like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs

from ..errors import LinAlgError
from ..factor.blocks import blocks
from ..factor.columns import scaled_columns
from ..factor.condest import inverse_norm1
from ..factor.lu import LUFactors
from ..ops import direct_ops_for, ops_for
from ..ops.protocol import Checked
from ..precision import backward_bound, working_format
from . import messages
from . import structure as s
from .validate import to_lapack_layout

Array = NDArray[Any]

_MARGIN_SINGLE, _MARGIN_DOUBLE = 1e2, 1e4
"""By how much, times sqrt(n), a random bound on the condition number may fall short unnoticed."""
_GROWN = 1e6
"""Growth from which the factors say nothing of the condition of A."""
_BLOCK = 256


class Direct(NamedTuple):
    """An answer, and what came to light about it on the way."""

    x: Array
    method: str
    rcond: float | None
    """Estimated reciprocal condition number; NaN where the factors cannot tell; None if it was not
    asked for and a random right-hand side found A well conditioned."""
    is_certified: bool | None = None
    """Whether every column of x has a backward error within sqrt(n) u, where that was looked at."""


# what overflows is seen by the certificate
@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def solve_directly(
    a: Array, b: Array, structure: str, lower: bool, trans: str, *, estimate: bool = False
) -> Direct:
    """Solve op(A) x = b in working precision.

    Parameters
    ----------
    a : Array, shape (n, n)
    b : Array, shape (n, nrhs)
        Of the same LAPACK dtype.
    structure : str
        As `mplinalg.dense.structure` names it.
    lower : bool
        Triangle that is read of symmetric, Hermitian and positive definite matrices.
    trans : {"N", "T"}
    estimate : bool
        Estimate the condition number even where nothing suggests that it is large.

    Raises
    ------
    LinAlgError
        Exactly singular, or not positive definite where that was asserted.
    """
    checked = _SOLVERS_CHECKED.get(structure)
    if checked is not None:
        return checked(a, b, lower, trans, estimate)
    return _SOLVERS[structure](a, b, lower, trans)


def _norm1(a: Array) -> float:
    # a block at a time: no copy of A
    # in double, as a sum of single-precision numbers may leave their range
    sums = [np.abs(a[rows]).sum(axis=0, dtype=float) for rows in blocks(a.shape[0], _BLOCK)]
    return float(np.sum(sums, axis=0).max())


def _norm_inf(a: Array) -> float:
    # in double, as in _norm1
    sums = [np.abs(a[rows]).sum(axis=1, dtype=float) for rows in blocks(a.shape[0], _BLOCK)]
    return float(np.concatenate(sums).max())


def is_suspicious(kappa: float, n: int, eps: float) -> bool:
    """Whether a bound on the condition number from one random vector leaves room for 1 / eps."""
    margin = _MARGIN_DOUBLE if eps < 1e-10 else _MARGIN_SINGLE
    return not kappa * math.sqrt(n) * margin * eps < 1.0


def _general(a: Array, b: Array, lower: bool, trans: str, estimate: bool) -> Direct:
    a = to_lapack_layout(a)
    seen = direct_ops_for(a).gesv(a, b, trans=trans)
    if seen.info > 0:
        raise LinAlgError(messages.singular(seen.info, a.shape[0]))
    return judge_lu(a, seen, estimate=estimate)


@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def judge_lu(a: Array, seen: Checked, *, estimate: bool = False) -> Direct:
    """What `Ops.gesv` has found, with the condition number if that may be large."""
    n, eps = a.shape[0], float(np.finfo(a.dtype).eps)
    if not seen.omega < math.inf:  # nothing is known, and there may be no factors
        return Direct(seen.x, "LU", math.nan, False)
    certified = seen.omega <= backward_bound(n, eps / 2)
    if not (estimate or is_suspicious(seen.kappa, n, eps)):
        return Direct(seen.x, "LU", None, certified)
    ops, fmt = ops_for(a), working_format(a.dtype)
    assert seen.piv is not None
    factors = LUFactors(ops, seen.factors, seen.piv, fmt, seen.transposed)
    rcond = factors.rcond(_norm1(a), a.dtype)
    if not rcond >= eps and factors.growth(ops.amax(a)) > _GROWN:
        rcond = math.nan  # that of the factors, whose pivots have grown, not that of A
    return Direct(seen.x, "LU", rcond, certified)


def _positive_definite(a: Array, b: Array, lower: bool, trans: str, estimate: bool) -> Direct:
    seen = direct_ops_for(a).posv(a, b, lower=lower)
    if seen.info > 0:
        raise LinAlgError(messages.not_definite(seen.info))
    return judge_cholesky(a, seen, lower, estimate=estimate)


@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def judge_cholesky(a: Array, seen: Checked, lower: bool, *, estimate: bool = False) -> Direct:
    """What `Ops.posv` has found, with the condition number if that may be large."""
    n, eps = a.shape[0], float(np.finfo(a.dtype).eps)
    if not seen.omega < math.inf:  # nothing is known, and there may be no factors
        return Direct(seen.x, "Cholesky", math.nan, False)
    certified = seen.omega <= backward_bound(n, eps / 2)
    if not (estimate or is_suspicious(seen.kappa, n, eps)):
        return Direct(seen.x, "Cholesky", None, certified)
    c = seen.factors
    (pocon,) = get_lapack_funcs(("pocon",), (c,))
    flipped = not c.flags.f_contiguous  # conj(A), in the other triangle
    uplo = b"L" if lower != flipped else b"U"
    inverse, _ = pocon(c.T if flipped else c, 1.0, uplo=uplo)  # the norm may leave the range
    return Direct(seen.x, "Cholesky", float(inverse) / seen.norm, certified)


def _perhaps_definite(a: Array, b: Array, lower: bool, trans: str, estimate: bool) -> Direct:
    try:
        return _positive_definite(a, b, lower, trans, estimate)
    except LinAlgError:  # it only looked so
        return _general(a, b, lower, trans, estimate)


def _indefinite(hermitian: bool) -> Callable[[Array, Array, bool, str], Direct]:
    def solver(a: Array, b: Array, lower: bool, trans: str) -> Direct:
        family = "he" if hermitian and a.dtype.kind == "c" else "sy"
        sv, con, work = get_lapack_funcs((family + "sv", family + "con", family + "sv_lwork"), (a,))
        lwork = int(work(a.shape[0], lower=lower)[0].real)
        udut, piv, x, info = sv(a, b, lwork=max(lwork, 1), lower=lower)
        if info > 0:
            raise LinAlgError(
                f"A singular matrix detected: diagonal block {info} of {a.shape[0]} is exactly "
                "singular."
            )
        norm = _norm1(_full(np, a, lower, family == "sy"))
        inverse, _ = con(udut, piv, 1.0, lower=lower)  # the norm may leave the range
        return Direct(x, "Bunch-Kaufman", float(inverse) / norm if norm else 0.0)

    return solver


def _diagonal(a: Array, b: Array, lower: bool, trans: str) -> Direct:
    d = np.diagonal(a)
    zero = np.flatnonzero(d == 0)
    if zero.size:
        raise LinAlgError(messages.singular(int(zero[0]) + 1, d.size))
    size = np.abs(d / 2)  # of complex numbers it may overflow
    with np.errstate(over="ignore", invalid="ignore"):
        return Direct(b / d[:, None], "division", float(size.min() / size.max()))


def _triangular(is_lower: bool) -> Callable[[Array, Array, bool, str], Direct]:
    def solver(a: Array, b: Array, lower: bool, trans: str) -> Direct:
        trtrs, trcon = get_lapack_funcs(("trtrs", "trcon"), (a,))
        flipped = not a.flags.f_contiguous
        stored, stored_lower = (a.T, not is_lower) if flipped else (a, is_lower)
        x, info = trtrs(stored, b, lower=stored_lower, trans=int(flipped != (trans == "T")))
        if info > 0:
            raise LinAlgError(messages.singular(info, a.shape[0]))
        kind = b"I" if flipped else b"1"
        uplo = b"L" if stored_lower else b"U"
        rcond, _ = trcon(stored, norm=kind, uplo=uplo)
        if not rcond > 0:  # its norm may have left the range, which a factor of two changes not
            _, exponent = math.frexp(float(np.abs(stored).max()))
            rcond, _ = trcon(stored * a.dtype.type(2.0**-exponent), norm=kind, uplo=uplo)
        return Direct(x, "substitution", float(rcond))

    return solver


def _tridiagonal(a: Array, b: Array, lower: bool, trans: str) -> Direct:
    n = a.shape[0]
    if n < 3:  # some LAPACK wrappers want a second superdiagonal
        return _general(np.triu(np.tril(a, 1), -1), b, lower, trans, True)
    gttrf, gttrs, gtcon = get_lapack_funcs(("gttrf", "gttrs", "gtcon"), (a,))
    dl, d, du = (np.array(np.diagonal(a, k)) for k in (-1, 0, 1))
    norm = np.abs(d).astype(float)
    norm[1:] += np.abs(du)
    norm[:-1] += np.abs(dl)
    *factors, info = gttrf(dl, d, du)
    if info > 0:
        raise LinAlgError(messages.singular(info, n))
    dl, d, du, du2, ipiv = factors
    x, _ = gttrs(dl, d, du, du2, ipiv, b, trans=b"T" if trans == "T" else b"N")
    inverse, _ = gtcon(dl, d, du, du2, ipiv, 1.0)  # the norm may leave the range
    return Direct(x, "tridiagonal LU", float(inverse) / float(norm.max()))


def _banded(a: Array, b: Array, lower: bool, trans: str) -> Direct:
    from scipy.linalg import bandwidth

    n = a.shape[0]
    below, above = map(int, bandwidth(a))
    gbtrf, gbtrs = get_lapack_funcs(("gbtrf", "gbtrs"), (a,))
    band = np.zeros((2 * below + above + 1, n), a.dtype, order="F")
    for k in range(-below, above + 1):
        row = below + above - k
        band[row, max(k, 0) : n + min(k, 0)] = np.diagonal(a, k)
    norm = float(np.abs(band).sum(axis=0, dtype=float).max())
    lub, piv, info = gbtrf(band, below, above)
    if info > 0:
        raise LinAlgError(messages.singular(info, n))

    def apply(z: Array, flag: int = 0) -> Array:
        solution: Array = gbtrs(lub, below, above, z, piv, trans=flag)[0]
        return solution

    inverse = inverse_norm1(ops_for(a), n, a.dtype, apply, lambda z: apply(z, 2))
    rcond = 1.0 / (norm * inverse) if inverse else 0.0
    return Direct(apply(b, int(trans == "T")), "banded LU", rcond)


_SOLVERS_CHECKED = {
    s.GENERAL: _general,
    s.POSITIVE_DEFINITE: _positive_definite,
    s.MAYBE_POSITIVE_DEFINITE: _perhaps_definite,
}
_SOLVERS = {
    s.SYMMETRIC: _indefinite(hermitian=False),
    s.HERMITIAN: _indefinite(hermitian=True),
    s.DIAGONAL: _diagonal,
    s.TRIDIAGONAL: _tridiagonal,
    s.BANDED: _banded,
    s.UPPER: _triangular(is_lower=False),
    s.LOWER: _triangular(is_lower=True),
}


@np.errstate(over="ignore", invalid="ignore")
def is_certified(a: Array, x: Array, b: Array, structure: str, lower: bool, trans: str) -> bool:
    """Whether every column of x has a normwise backward error within sqrt(n) u."""
    a = effective_matrix(np, a, structure, lower)
    if trans == "T":
        a = a.T
    norm, x_size, b_size = _norm_inf(a), np.abs(x).max(axis=0), np.abs(b).max(axis=0)
    if not (norm < math.inf and np.isfinite(x_size).all() and np.isfinite(b_size).all()):
        return False
    # A and the columns scaled by powers of two, so that nothing that counts underflows
    a_exponent, x_exponents, b_exponents = (np.frexp(size)[1] for size in (norm, x_size, b_size))
    # columns of zeros have no exponent: their size is that of the other column
    x_exponents = np.where(x_size > 0, x_exponents, b_exponents - a_exponent)
    b_exponents = np.where(b_size > 0, b_exponents, a_exponent + x_exponents)
    exponents = np.maximum(a_exponent + x_exponents, b_exponents)
    a = scaled_columns(np, a, np.full(a.shape[1], -a_exponent))
    x = scaled_columns(np, x, a_exponent - exponents)
    b = scaled_columns(np, b, -exponents)
    size = _norm_inf(a) * np.abs(x).max(axis=0) + np.abs(b).max(axis=0)
    bound = backward_bound(a.shape[0], working_format(a.dtype).unit_roundoff)
    return bool(np.all(np.abs(b - a @ x).max(axis=0) <= bound * size))


def effective_matrix(xp: Any, a: Array, structure: str, lower: bool) -> Array:
    """The matrix that the entries read under `structure` stand for; `a` itself where all count."""
    matrix: Array = a
    if structure in s.ONE_TRIANGLE:
        return _full(xp, a, lower, symmetric=structure == s.SYMMETRIC)
    if structure == s.DIAGONAL:
        matrix = xp.diag(xp.diagonal(a))
    elif structure == s.TRIDIAGONAL:
        matrix = xp.triu(xp.tril(a, 1), -1)
    elif structure in (s.UPPER, s.LOWER):
        matrix = xp.triu(a) if structure == s.UPPER else xp.tril(a)
    return matrix


def _full(xp: Any, a: Array, lower: bool, symmetric: bool) -> Array:
    """The whole of a symmetric or Hermitian matrix of which one triangle counts."""
    strict = xp.tril(a, -1) if lower else xp.triu(a, 1)
    full: Array = strict + (strict.T if symmetric else strict.T.conj())
    diagonal = xp.diagonal(a)
    xp.fill_diagonal(full, diagonal if symmetric else diagonal.real)
    return full
