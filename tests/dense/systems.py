"""Systems to solve, and what is asked of answers."""

from __future__ import annotations

import warnings

import numpy as np
import scipy
import scipy.linalg

from mplinalg.testing import backward_error

DTYPES = ["float32", "float64", "complex64", "complex128"]
SCIPY = tuple(map(int, scipy.__version__.split(".")[:2]))


def roundoff(dtype):
    return np.finfo(dtype).eps / 2


def meets_the_test(a, x, b):
    """The normwise backward error of each column is within sqrt(n) u."""
    n, u = max(a.shape[-1], 4), roundoff(x.dtype)
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(n) * u))


def outcome(function, *args, **keywords):
    """("ok" | "warns" | the exception, x); any warning but LinAlgWarning is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", scipy.linalg.LinAlgWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # SciPy's, for exotic dtypes
        try:
            x = function(*args, **keywords)
        except scipy.linalg.LinAlgError:
            return "LinAlgError", None
        except Exception as error:
            return type(error).__name__, None
    return ("warns" if caught else "ok"), x


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)
