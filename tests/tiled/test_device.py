"""Programs on a GPU: the same answers, transfers that race with nothing, memory within the limit.

On the stand-in for CuPy every access to device memory is held against those of the other streams,
so a copy that a kernel did not wait for, or memory that was given up too early, fails a test.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from mplinalg import LinAlgError, LinAlgWarning
from mplinalg.testing import backward_error
from mplinalg.tiled import (
    LimitTooSmall,
    LocalExecutor,
    TiledMatrix,
    cho_factor,
    gemm,
    lu_factor,
    qr,
    solve,
    svd,
)

from ..cupy_on_host import memory
from ..device import cupy, stand_in

__all__ = ["cupy", "stand_in"]

N = 150
SLACK = 64 * 2**20
DTYPES = ["float32", "float64", "complex64", "complex128"]


def draw(rng, shape, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    if x.dtype.kind == "c":
        x = (x + 1j * rng.standard_normal(shape)).astype(dtype)
    return x


def definite(rng, n, dtype):
    x = draw(rng, (n, n), "complex128" if np.dtype(dtype).kind == "c" else "float64")
    return (x @ x.conj().T / n + np.eye(n)).astype(dtype)


def meets_the_test(a, x, b):
    u = np.finfo(x.dtype).eps / 2
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(len(a)) * u))


def on_device(limit="1MB", **options):
    return LocalExecutor(limit, device="cuda", **options)


@pytest.mark.parametrize("assume_a", ["gen", "pos"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_solve(cupy, rng, dtype, assume_a):
    a = definite(rng, N, dtype) if assume_a == "pos" else draw(rng, (N, N), dtype)
    b = draw(rng, (N, 3), dtype)
    x, report = solve(a, b, assume_a=assume_a, tile=40, executor=on_device(), full_output=True)
    assert isinstance(x, np.ndarray)
    assert meets_the_test(a, x, b)
    assert 0.95 * report.traffic.predicted < report.traffic.moved <= report.traffic.predicted


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp16x2", "fp32", "fp64"])
@pytest.mark.parametrize("assume_a", ["gen", "pos"])
def test_every_format(cupy, rng, precision, assume_a):
    a = definite(rng, N, "float64")
    b = a @ np.ones(N)
    x, report = solve(
        a, b, assume_a=assume_a, tile=64, precision=precision, executor=on_device("2MB"),
        full_output=True,
    )  # fmt: skip
    assert meets_the_test(a, x, b)
    assert report.precision == precision


def test_tensor_cores_are_taken_first(cupy, rng):
    a = definite(rng, N, "float64")
    assert lu_factor(a, executor=on_device()).precision == "fp16"
    assert cho_factor(a, executor=on_device()).precision == "fp16"


def test_a_matrix_that_half_precision_cannot_do_is_climbed(cupy, rng):
    u, _ = np.linalg.qr(draw(rng, (N, N), "float64"))
    v, _ = np.linalg.qr(draw(rng, (N, N), "float64"))
    a = (u * np.logspace(0, -10, N)) @ v
    b = a @ np.ones(N)
    x, report = solve(a, b, tile=40, executor=on_device(), full_output=True)
    assert meets_the_test(a, x, b)
    assert len(report.rungs) > 1


def test_tiles_that_are_dropped_and_read_again(cupy, rng):
    """The factors do not fit: 150^2 single-precision numbers are 90 kB."""
    a, b = draw(rng, (N, N), "float64"), draw(rng, N, "float64")
    executor = on_device("75kB")
    x, report = solve(a, b, tile=20, executor=executor, precision="fp32", full_output=True)
    assert meets_the_test(a, x, b)
    assert report.traffic.reloaded > 0
    assert report.traffic.peak <= executor.memory_limit


def test_no_more_memory_than_the_limit(stand_in, cupy, rng, monkeypatch):
    """Without the slack: what the plan says is all there is, whatever kernels allocate."""
    from mplinalg.ops import cupy_staging

    monkeypatch.setattr(cupy_staging, "SLACK", 2**14)
    a, b = draw(rng, (400, 400), "float64"), draw(rng, 400, "float64")
    memory.reset_peak()
    before = memory.held()
    executor = on_device("600kB")
    for assume_a, matrix in (("gen", a), ("pos", a @ a.T / 400 + np.eye(400))):
        x = solve(matrix, b, assume_a=assume_a, tile=64, executor=executor)
        assert meets_the_test(matrix, x, b)
    assert memory.peak() - before <= executor.memory_limit + 2**14


def test_a_limit_that_is_too_small(cupy, rng):
    with pytest.raises(LimitTooSmall, match="bytes are needed"):
        solve(draw(rng, (N, N), "float64"), np.ones(N), tile=50, executor=on_device(2000))


def test_factors_solve_again_and_transposed_conditions(cupy, rng):
    a = draw(rng, (N, N), "complex128")
    factors = lu_factor(a, tile=40, executor=on_device())
    for _ in range(2):
        b = draw(rng, (N, 2), "complex128")
        assert meets_the_test(a, factors.solve(b), b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_and_factorizations(cupy, rng, dtype):
    a, b = draw(rng, (70, 50), dtype), draw(rng, (50, 60), dtype)
    eps = np.finfo(dtype).eps
    c = gemm(a, b, alpha=2.0, tile=20, executor=on_device()).to_array()
    assert abs(c - 2 * (a @ b)).max() <= 4 * 50 * eps * (abs(a) @ abs(b)).max()
    q, r = qr(a, tile=16, executor=on_device())
    q, r = q.to_array(), r.to_array()
    assert np.linalg.norm(q.conj().T @ q - np.eye(50)) <= 50 * 70 * eps
    assert np.linalg.norm(q @ r - a) <= 50 * 70 * eps * np.linalg.norm(a)
    u, s, vh = svd(a, 50, executor=on_device())
    assert np.allclose(s, np.linalg.svd(a, compute_uv=False), rtol=0, atol=70 * eps * s[0])
    assert np.linalg.norm((u * s) @ vh - a) <= 70 * 50 * eps * s[0]


def test_workdir_and_resume(cupy, rng, tmp_path):
    a, b = draw(rng, (N, N), "float64"), draw(rng, N, "float64")
    first = solve(a, b, tile=40, executor=on_device(), workdir=tmp_path)
    again, report = solve(
        a, b, tile=40, executor=on_device(), workdir=tmp_path, resume=True, full_output=True
    )
    assert np.array_equal(first, again)
    assert report.traffic.saved < 4 * N * N, "no tile was made again"


@pytest.mark.parametrize("seconds", [0, 0.3])  # until tasks before have been handed over
def test_a_function_that_raises_in_the_middle(stand_in, cupy, seconds):
    def entries(rows, columns):
        if rows[0] > 60 and columns[0] > 60:
            time.sleep(seconds)
            raise ZeroDivisionError("in the function")
        return np.ones((rows.size, columns.size)) + 9 * np.equal.outer(rows, columns)

    solve(np.eye(N), np.ones(N), tile=20, executor=on_device())
    held = memory.held()  # what kernels keep for the next call
    matrix = TiledMatrix.from_function(entries, (N, N))
    with pytest.raises(ZeroDivisionError, match="in the function"):
        solve(matrix, np.ones(N), tile=20, executor=on_device())
    assert memory.held() == held


def test_singular_and_not_definite(cupy, rng):
    a = draw(rng, (N, N), "float64")
    a[:, 70] = 0
    with pytest.raises(LinAlgError, match="singular"):
        solve(a, np.ones(N), tile=40, executor=on_device())
    with pytest.raises(LinAlgError, match="positive definite"):
        solve(-definite(rng, N, "float64"), np.ones(N), assume_a="pos", tile=40,
              executor=on_device())  # fmt: skip
    nearly = draw(rng, (N, N), "float64")
    nearly[0] = nearly[1] + 1e-17 * nearly[2]
    with pytest.warns(LinAlgWarning):
        solve(nearly, np.ones(N), tile=40, executor=on_device())


@pytest.mark.parametrize("assume_a", ["gen", "pos"])
def test_managed_memory(cupy, rng, assume_a):
    a, b = definite(rng, N, "float64"), draw(rng, N, "float64")
    executor = on_device("1MB", memory="managed")
    assert (
        repr(executor) == "LocalExecutor(memory_limit=1,000,000, device='cuda', memory='managed')"
    )
    assert meets_the_test(a, solve(a, b, assume_a=assume_a, tile=40, executor=executor), b)


def test_arrays_on_the_device_are_not_taken_for_large_ones(cupy, rng):
    with pytest.raises(TypeError, match=r"mplinalg\.solve"):
        solve(cupy.ones((4, 4)), np.ones(4), executor=on_device())


def test_options():
    with pytest.raises(ValueError, match="device must be one of"):
        LocalExecutor(device="tpu")
    with pytest.raises(ValueError, match="memory must be one of"):
        LocalExecutor(memory="swapped")
    with pytest.raises(ValueError, match="give device='cuda', too"):
        LocalExecutor(memory="managed")


def test_a_device_that_is_not_there(monkeypatch):
    import importlib.util

    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed")
    with pytest.raises(ImportError, match="needs CuPy"):
        LocalExecutor(device="cuda")
