"""Singular values of a square matrix in working precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ..errors import LinAlgError
from ..factor.band import upper_band
from ..kernels.cpu import lapack
from ..ops.dispatch import ops_for

Array = NDArray[Any]

_TWO_STAGES = {"f": 900, "d": 600}
_WIDTH = 24


def in_two_stages(n: int, dtype: np.dtype[Any]) -> bool:
    """Whether reduction to a band and then to a bidiagonal matrix is faster (measured)."""
    return n >= _TWO_STAGES[dtype.char.lower()]


def singular_values(r: Array) -> Array:
    """Singular values of R (n, n) in decreasing order, with errors of order n u ||R||.

    Notes
    -----
    8/3 n^3 flops for the band matrix, about 6 n^2 k for a bidiagonal one from a band of width k,
    and O(n^2) for its singular values by LAPACK's bdsqr.

    Raises
    ------
    LinAlgError
        If the iteration for the singular values does not converge.
    """
    try:
        if not in_two_stages(r.shape[0], r.dtype):
            return scipy.linalg.svdvals(r, check_finite=False)
    except scipy.linalg.LinAlgError as error:
        raise LinAlgError(str(error)) from None
    band = upper_band(ops_for(r), np.array(r, order="F"), _WIDTH)
    d, e = lapack.gbbrd(band)
    if lapack.bdsqr(d, e):
        raise LinAlgError("SVD did not converge")
    return d
