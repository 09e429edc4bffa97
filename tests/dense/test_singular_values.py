"""Singular values by two stages: as accurate as LAPACK's by one."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg.dense import singular_values as module
from mplinalg.dense.singular_values import singular_values
from mplinalg.errors import LinAlgError
from mplinalg.kernels.cpu import lapack
from mplinalg.precision import working_format


@pytest.fixture
def two_stages(monkeypatch):
    """Small matrices take the route of large ones."""
    monkeypatch.setattr(module, "_TWO_STAGES", {"f": 0, "d": 0})


@pytest.mark.parametrize("dtype", ["f", "d", "F", "D"])
@pytest.mark.parametrize("n", [1, 2, 23, 24, 25, 130])
@pytest.mark.parametrize("cond", [1.0, 1e4, 1e12, 1e30])
@pytest.mark.usefixtures("two_stages")
def test_against_lapack(rng, dtype, n, cond):
    u, _ = np.linalg.qr(rng.standard_normal((n, n)))
    v, _ = np.linalg.qr(rng.standard_normal((n, n)))
    a = ((u * np.geomspace(1, 1 / cond, n)) @ v).astype(dtype)
    if np.dtype(dtype).kind == "c":
        a *= np.exp(1j * np.arange(n, dtype=a.real.dtype))[:, None]
    kept = a.copy()
    s = singular_values(a)
    expected = scipy.linalg.svdvals(a.astype("D"))
    assert s.dtype == a.real.dtype
    assert np.array_equal(a, kept)
    assert (np.diff(s) <= 0).all()
    assert (s >= 0).all()
    assert np.abs(s - expected).max() <= 30 * n * working_format(dtype).unit_roundoff * expected[0]


@pytest.mark.usefixtures("two_stages")
def test_special_matrices():
    assert not singular_values(np.zeros((30, 30))).any()
    assert np.allclose(singular_values(np.eye(30)), 1, rtol=1e-15)
    d = np.geomspace(1e150, 1e-150, 30)
    assert np.allclose(singular_values(np.diag(d)), d, rtol=1e-14)


def test_what_does_not_converge_is_an_error(rng, two_stages, monkeypatch):
    monkeypatch.setattr(lapack, "bdsqr", lambda d, e: 1)
    with pytest.raises(LinAlgError, match="converge"):
        singular_values(rng.standard_normal((30, 30)))
