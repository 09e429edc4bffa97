"""Tall matrices, and what is asked of least-squares solutions on a device."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from mplinalg import lstsq
from mplinalg.precision import working_format

DTYPES = ["float32", "float64", "complex64", "complex128"]
LOW = ["fp16", "bf16", "tf32", "fp16x2", "fp32"]
LOSS = 30.0


def draw(rng, shape, dtype="float64", order="C"):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return np.asarray(x, dtype, order)


def with_cond(rng, m, n, cond, dtype="float64"):
    """A with geometric singular values from 1 to 1 / cond."""
    wide = "complex128" if np.dtype(dtype).kind == "c" else "float64"
    u, _ = np.linalg.qr(draw(rng, (m, min(m, n)), wide))
    v, _ = np.linalg.qr(draw(rng, (n, min(m, n)), wide))
    return np.asarray((u * np.geomspace(1, 1 / cond, min(m, n))) @ v.conj().T, dtype)


def roundoff(dtype):
    return working_format(dtype).unit_roundoff


def norm(x):
    return float(np.linalg.norm(x))


def same_as_scipy(cupy, a, b, kappa, **keywords):
    """x, residues, rank and s, on the device, agree with SciPy's."""
    given, rhs = cupy.asarray(a), cupy.asarray(b)
    ours = lstsq(given, rhs, full_output=True, **keywords)
    x, squares, rank, s = scipy.linalg.lstsq(a, b, keywords.get("cond"))
    u = roundoff(x.dtype)
    for found in (ours.x, ours.residues, ours.s):
        assert isinstance(found, cupy.ndarray)
    found = cupy.asnumpy(ours.x)
    assert found.dtype == x.dtype
    assert found.shape == x.shape
    assert isinstance(ours.rank, np.int64)
    assert ours.rank == rank
    size = norm(x) + norm(b) / s[0]
    assert norm(found - x) <= LOSS * max(a.shape) * u * kappa**2 * size
    assert np.array_equal(cupy.asnumpy(given), a), "a was changed"
    assert np.array_equal(cupy.asnumpy(rhs), b), "b was changed"
    if rank == a.shape[1] < a.shape[0]:
        assert ours.residues.shape == np.shape(squares)
        assert np.allclose(
            cupy.asnumpy(ours.residues), squares, rtol=1e-3 if u > 1e-10 else 1e-9,
            atol=LOSS * u * norm(b) ** 2,
        )  # fmt: skip
    assert ours.s.shape == s.shape
    assert np.allclose(cupy.asnumpy(ours.s), s, rtol=0, atol=LOSS * max(a.shape) * u * s[0])
    return ours
