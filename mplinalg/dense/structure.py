"""What kind of matrix it is: `assume_a`, and detection where it is not given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import bandwidth, ishermitian

from ..factor.blocks import blocks
from ..ops import is_on_host, ops_for

GENERAL = "general"
POSITIVE_DEFINITE = "positive definite"
SYMMETRIC = "symmetric"
HERMITIAN = "hermitian"
MAYBE_POSITIVE_DEFINITE = "hermitian with positive diagonal"
"""Detected, not asserted: Cholesky may break down, and LU then takes over."""
DIAGONAL = "diagonal"
TRIDIAGONAL = "tridiagonal"
BANDED = "banded"
UPPER = "upper triangular"
LOWER = "lower triangular"

SPARSE_KINDS = (DIAGONAL, TRIDIAGONAL, BANDED, UPPER, LOWER)
"""Solved in O(n^2) or less: nothing for a lower precision to gain."""
ONE_TRIANGLE = (SYMMETRIC, HERMITIAN, POSITIVE_DEFINITE)
"""Asserted structures of which one triangle is read."""

_SHORT = {"gen": GENERAL, "sym": SYMMETRIC, "her": HERMITIAN, "pos": POSITIVE_DEFINITE}
_NAMES = {GENERAL, SYMMETRIC, HERMITIAN, POSITIVE_DEFINITE, *SPARSE_KINDS}


def asserted(assume_a: str | None) -> str | None:
    """The structure that the caller asserts; None if it is to be detected.

    Raises
    ------
    ValueError
        For names that SciPy does not know either.
    """
    if assume_a is None:
        return None
    if isinstance(assume_a, str):
        name = _SHORT.get(assume_a, assume_a)
        if name in _NAMES:
            return name
    raise ValueError(f"{assume_a} is not a recognized matrix structure")


_BLOCK = 1024
"""Rows that are compared with columns at once."""
DETECT_FROM = 40
"""Order below which looking for structure costs more than LU."""


def may_have_structure(a: NDArray[Any]) -> bool:
    """Whether `detect` could find anything: two corners tell most dense matrices from the rest."""
    if len(a) < DETECT_FROM:
        return False
    right, left = a[0, -1], a[-1, 0]
    return right == 0 or left == 0 or right == left.conjugate()


def detect(a: NDArray[Any]) -> str:
    """The structure of a square matrix, exactly; a dense one is recognised in O(n) reads.

    On a device, only matrices that Cholesky may factor are told from the rest.
    """
    if not is_on_host(a):
        return _detect_on_device(a)
    if not may_have_structure(a):
        return GENERAL
    n = a.shape[0]
    below, above = bandwidth(a)
    if below == 0 or above == 0:
        return DIAGONAL if below == above else (UPPER if below == 0 else LOWER)
    if below <= 1 and above <= 1 and n > 4:
        return TRIDIAGONAL
    if below + above + 1 <= n // 4:
        return BANDED
    diagonal = np.diagonal(a)
    if not np.all(diagonal.real > 0) or (a.dtype.kind == "c" and np.any(diagonal.imag)):
        return GENERAL
    # one off-diagonal pair tells most matrices that are not Hermitian
    if a[0, n - 1] != np.conj(a[n - 1, 0]) or not ishermitian(a):
        return GENERAL
    return MAYBE_POSITIVE_DEFINITE


def _detect_on_device(a: NDArray[Any]) -> str:
    if len(a) < DETECT_FROM or a[0, -1] != a[-1, 0].conj():
        return GENERAL
    xp = ops_for(a).xp
    diagonal = a.diagonal()
    seen = [(diagonal.real > 0).all() & (diagonal.imag == 0).all()]
    seen += [(a[k] == a[:, k].T.conj()).all() for k in blocks(len(a), _BLOCK)]
    return MAYBE_POSITIVE_DEFINITE if bool(xp.stack(seen).all()) else GENERAL
