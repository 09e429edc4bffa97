"""Systems to solve, and what is asked of answers, for the tests of batched systems."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg import Status

DTYPES = ["float32", "float64", "complex64", "complex128"]
# straight code, its end, tiles with whole blocks and with a rest
FEW_SIZES = [1, 3, 8, 9, 10, 19]
FACTOR = 30  # LAPACK's, for errors in units of n u


def normal(rng, shape, dtype="float64"):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def regular(rng, count, n, dtype="float64"):
    """Well-conditioned matrices that need their rows interchanged."""
    a = normal(rng, (count, n, n), dtype) + 3 * np.sqrt(n) * np.eye(n, dtype=dtype)[::-1]
    return a.astype(dtype)


def definite(rng, count, n, dtype="float64"):
    a = normal(rng, (count, n, n), dtype)
    return (a @ a.conj().swapaxes(1, 2) / n + np.eye(n, dtype=dtype)).astype(dtype)


def backward_errors(a, x, b):
    """Of members, in units of n u, in double precision."""
    u, n = np.finfo(x.dtype).eps / 2, a.shape[-1]
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    a, x, b = (np.asarray(v).astype(wide) for v in (a, x, b))
    size = abs(a).sum(-1).max(-1)[..., None] * abs(x).max(-2) + abs(b).max(-2)
    return (abs(b - a @ x).max(-2) / np.where(size == 0, 1, size)).max(-1) / (n * u)


def check_against_scipy(a, x, b, assume_a="gen"):
    """Backward errors of all members, and forward errors by the condition number."""
    assert np.all(backward_errors(a, x, b) <= FACTOR)
    u, n = np.finfo(x.dtype).eps / 2, a.shape[-1]
    for k in range(len(a)):
        want = scipy.linalg.solve(a[k], b[k], assume_a=assume_a)
        error = abs(x[k] - want).max() / abs(want).max()
        assert error <= FACTOR * n * u * np.linalg.cond(a[k], np.inf)


def spoil(a, b):
    """Six members made bad in all ways, and what they are then."""
    n = a.shape[-1]
    a[1] = 0
    a[4, :, n // 2] = 0
    a[9, n - 1, 0] = np.nan
    a[10, 0, n - 1] = -np.inf
    b[17, n // 2] = np.nan
    b[18, 0] = np.inf
    return {
        1: (Status.SINGULAR, 1), 4: (Status.SINGULAR, n // 2 + 1), 9: (Status.NOT_FINITE, -1),
        10: (Status.NOT_FINITE, -1), 17: (Status.NOT_FINITE, -1), 18: (Status.NOT_FINITE, -1),
    }  # fmt: skip


FEW = {"float32": [3], "complex64": [3], "complex128": [3, 10]}


def swept(sizes, dtypes):
    """All sizes in double precision; in the others a few, and all of them in the slow tests."""
    return [
        pytest.param(n, dtype, marks=[] if n in FEW.get(dtype, sizes) else pytest.mark.slow)
        for dtype in dtypes
        for n in sizes
    ]
