"""Singular values of a square matrix in working precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LinAlgError
from ..factor.band import upper_band
from ..kernels.cpu import lapack
from ..ops import Ops, is_on_host, ops_for

Array = NDArray[Any]

_TWO_STAGES = {"f": 900, "d": 600}
_WIDTH = 24


def in_two_stages(n: int, dtype: np.dtype[Any]) -> bool:
    """Whether reduction to a band and then to a bidiagonal matrix is faster (measured)."""
    return n >= _TWO_STAGES[dtype.char.lower()]


def svd(ops: Ops, a: Array, *, vectors: bool = True) -> tuple[Array, Array, Array]:
    """`Ops.gesvd`, with the library's `LinAlgError`."""
    try:
        return ops.gesvd(a, vectors=vectors)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(str(error)) from None


def singular_values(r: Array) -> Array:
    """Singular values of R (n, n) in decreasing order, with errors of order n u ||R||.

    Notes
    -----
    8/3 n^3 flops for the band matrix, about 6 n^2 k for a bidiagonal one from a band of width k,
    and O(n^2) for its singular values by LAPACK's bdsqr. Of a small R, and on a device, by the SVD
    of LAPACK or cuSOLVER.

    Raises
    ------
    LinAlgError
        If the iteration for the singular values does not converge.
    """
    ops = ops_for(r)
    if not (is_on_host(r) and in_two_stages(r.shape[0], r.dtype)):
        return svd(ops, r, vectors=False)[1]
    band = upper_band(ops, np.array(r, order="F"), _WIDTH)
    d, e = lapack.gbbrd(band)
    if lapack.bdsqr(d, e):
        raise LinAlgError("SVD did not converge")
    return d
