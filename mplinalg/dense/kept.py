"""Factors in working precision, kept with their matrix: every solve with them is checked."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..errors import LinAlgError
from ..ops import direct_ops_for
from ..ops.protocol import Array, Checked
from ..precision import backward_bound, working_format
from . import messages
from .direct import is_suspicious, judge_cholesky, judge_lu

LOW_PRECISION_FROM = 1024
"""Order from which factors in single precision are kept: each solve with them costs refinement."""

_SEED = 20020101


@functools.lru_cache(maxsize=64)
def _known(n: int, dtype: np.dtype[Any]) -> Array:
    """The right-hand side by which a matrix is recognised, (n, 1)."""
    w = np.random.default_rng(_SEED).standard_normal((n, 1)).astype(dtype)
    w.flags.writeable = False
    return w


class Kept:
    """Factors of a regular, well-conditioned matrix, which is kept by reference.

    Made by `keep`. The solution of a known right-hand side tells later whether the factors are
    still good for it.
    """

    __slots__ = ("_a", "_lower", "_seen")

    def __init__(self, a: Array, seen: Checked, lower: bool | None) -> None:
        self._a = a
        self._seen = seen
        self._lower = lower

    def solve(self, b: Array, trans: str = "N") -> Array | None:
        """x of op(A) x = b, (n, nrhs); None if its backward error is not within sqrt(n) u.

        Raises
        ------
        LinAlgError
            That is because the matrix was changed.
        """
        if trans == "C":
            if self._a.dtype.kind == "c" and self._lower is None:
                x = self.solve(np.conj(b), "T")
                return None if x is None else np.conj(x)
            trans = "T" if self._lower is None else "N"
        x, omega = self._apply(b, trans)
        if omega <= self._bound:
            return x
        self.check_unchanged()
        return None

    def check_unchanged(self) -> None:
        """Raise LinAlgError if the matrix is not the one that was factored."""
        _, omega = self._apply(_known(len(self._a), self._a.dtype), "N")
        if not omega <= self._bound:
            raise LinAlgError(messages.MODIFIED)

    def as_scipy(self) -> tuple[Array, Any] | None:
        """What SciPy's `lu_factor` or `cho_factor` returns; None if A's transpose was factored."""
        if self._seen.transposed:
            return None
        factors = np.array(self._seen.factors, order="F")
        if self._lower is not None:
            return factors, self._lower
        assert self._seen.piv is not None
        return factors, self._seen.piv.copy()

    @property
    def _bound(self) -> float:
        return backward_bound(len(self._a), working_format(self._a.dtype).unit_roundoff)

    def _apply(self, b: Array, trans: str) -> tuple[Array, float]:
        ops, a = direct_ops_for(self._a), self._a
        if self._lower is not None:
            return ops.potrs_checked(a, self._seen, b, lower=self._lower)
        return ops.getrs_checked(a, self._seen, b, trans=trans)


def keep(a: Array, lower: bool | None, check_finite: bool) -> Kept | None:
    """Factor `a`, (n, n), by LU, or by Cholesky from one triangle (`lower` not None).

    None if anything about the matrix calls for the ladder: entries that are not finite, a large
    condition number, an answer that is not backward stable.

    Raises
    ------
    LinAlgError
        Exactly singular, or not positive definite.
    """
    n, dtype = len(a), a.dtype
    ops = direct_ops_for(a)
    w = _known(n, dtype)
    if lower is None:
        seen = ops.gesv(a, w, probe=False)
    else:
        seen = ops.posv(a, w, lower=lower, whole=check_finite, probe=False)
    if seen.info:
        if lower is None:
            raise LinAlgError(messages.singular(seen.info, n))
        raise LinAlgError(messages.not_definite(seen.info))
    eps = float(np.finfo(dtype).eps)
    if not seen.omega <= backward_bound(n, eps / 2):
        return None
    if is_suspicious(seen.kappa, n, eps):
        found = judge_lu(a, seen) if lower is None else judge_cholesky(a, seen, lower)
        if found.rcond is not None and not found.rcond >= eps:
            return None
    return Kept(a, seen, lower)
