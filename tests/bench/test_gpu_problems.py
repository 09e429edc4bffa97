"""Problems drawn on a GPU, and their errors judged there, on the stand-in for CuPy."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.bench import checks, gpu_checks, gpu_problems

from ..cupy_on_host.install import cupy_on_host
from .gpu_harness import cupy, quick

__all__ = ["cupy", "cupy_on_host", "quick"]  # fixtures


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_matrices_are_what_they_are_said_to_be(cupy, monkeypatch, dtype):
    monkeypatch.setattr(gpu_problems, "_AT_ONCE", 50)
    rng = np.random.default_rng(1)
    a = gpu_problems.normal(rng, (40, 30), dtype).get()
    assert a.dtype == dtype
    assert 0.8 < a.real.std() < 1.2
    assert len(np.unique(a)) == a.size
    spd = gpu_problems.positive_definite(rng, 33, dtype).get()
    np.testing.assert_array_equal(spd, spd.conj().T)
    assert np.linalg.eigvalsh(spd)[0] > 0.009
    given = gpu_problems.with_condition(rng, 40, 20, 1e5, dtype).get()
    assert np.linalg.cond(given) == pytest.approx(1e5)


def test_the_triangles_of_large_positive_definite_matrices_agree(cupy):
    a = cupy.asarray(np.random.default_rng(0).standard_normal((70, 70)))
    lower = np.tril(a.get())
    gpu_problems._symmetrise(a, step=16)
    np.testing.assert_array_equal(a.get(), lower + np.tril(lower, -1).T)


@pytest.mark.parametrize("nrhs", [None, 3])
def test_backward_errors_are_those_of_the_host(cupy, rng, monkeypatch, nrhs):
    monkeypatch.setattr(gpu_checks, "_ROWS", 7)
    a, b = rng.standard_normal((50, 50)), rng.standard_normal((50, nrhs) if nrhs else 50)
    x = np.linalg.solve(a, b)
    x.flat[0] *= 1 + 1e-9
    device = gpu_checks.solve_error(cupy.asarray(a), cupy.asarray(b))
    assert device(cupy.asarray(x)) == pytest.approx(checks.solve_error(a, b)(x), rel=1e-4)
    x.flat[1] = np.nan
    assert np.isnan(device(cupy.asarray(x)))
    assert np.isnan(device(x))  # not on the device
    assert np.isnan(device(cupy.asarray(x[:-1])))


def test_errors_of_factors_are_those_of_the_host(cupy, rng):
    a = rng.standard_normal((40, 10))
    q, r = np.linalg.qr(a)
    q[0, 0] += 1e-9
    found = gpu_checks.qr_error(cupy.asarray(a))((cupy.asarray(q), cupy.asarray(r)))
    assert found == pytest.approx(checks.qr_error(a)((q, r)), rel=1e-3)
    r[3, 1] = 1e-300
    assert np.isnan(gpu_checks.qr_error(cupy.asarray(a))((cupy.asarray(q), cupy.asarray(r))))


def test_errors_of_least_squares_are_those_of_the_host(cupy, rng):
    a, b = rng.standard_normal((40, 10)), rng.standard_normal(40)
    x = np.linalg.lstsq(a, b, rcond=None)[0] * (1 + 1e-7)
    found = gpu_checks.least_squares_error(cupy.asarray(a), cupy.asarray(b))(cupy.asarray(x))
    assert found == pytest.approx(checks.least_squares_error(a, b)(x), rel=1e-4)
