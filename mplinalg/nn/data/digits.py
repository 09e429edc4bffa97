"""scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["digits"]


def digits(dtype: DTypeLike = np.float32) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """1797 handwritten digits of 8 by 8 pixels, which come with scikit-learn.

    Parameters
    ----------
    dtype : dtype, optional
        Floating point.

    Returns
    -------
    x : ndarray, shape (1797, 1, 8, 8)
        In [0, 1].
    y : ndarray of int64, shape (1797,)
        Labels 0 to 9.

    Raises
    ------
    ValueError
        Another dtype.
    ImportError
        scikit-learn is not installed.

    References
    ----------
    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository (1998).

    Examples
    --------
    >>> from mplinalg.nn import data
    >>> x, y = data.digits()
    >>> x.shape, y[:5]
    ((1797, 1, 8, 8), array([0, 1, 2, 3, 4]))
    """
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"dtype must be of floating point; got {np.dtype(dtype)}")
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("digits need scikit-learn: pip install 'mplinalg[nn]'") from error
    found = load_digits()
    x = (found.images[:, None] / 16).astype(dtype)
    return x, np.asarray(found.target, np.int64)
