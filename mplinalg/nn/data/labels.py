"""Numbers of classes."""

from __future__ import annotations

from typing import Any

from ...ops import ops_for
from ..checks import count

__all__ = ["check_labels"]


def check_labels(y: Any, classes: int) -> None:
    """Raise unless the labels are integers from 0 to classes - 1.

    Parameters
    ----------
    y : array, shape (n,)
    classes : int
        At least 1.

    Raises
    ------
    TypeError
        They are no integers.
    ValueError
        `y` is no vector, or a label is out of range; the first one is named.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.nn import check_labels
    >>> check_labels(np.array([0, 3, 2]), 3)
    Traceback (most recent call last):
        ...
    ValueError: label 3 of sample 1 is not one of 0, ..., 2
    """
    classes = count("classes", classes)
    xp = ops_for(y).xp
    if y.ndim != 1:
        raise ValueError(f"labels must be a vector; got shape {y.shape}")
    if y.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers; got {y.dtype}")
    if y.size and (int(y.min()) < 0 or int(y.max()) >= classes):
        k = int(xp.argmax((y < 0) | (y >= classes)))
        raise ValueError(f"label {int(y[k])} of sample {k} is not one of 0, ..., {classes - 1}")
