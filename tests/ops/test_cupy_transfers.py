"""The CUDA backend: what crosses to the host, and which device, stream and thread has to wait."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mplinalg.factor.cholesky import cholesky
from mplinalg.factor.lu import lu
from mplinalg.ops import Counters
from mplinalg.precision import BF16, FP16, FP16X2, FP32

from ..cupy_on_host.install import Misuse, forbidden_transfers, recorded
from .cupy_backend import cupy, ops, put, stand_in
from .helpers import SINGLE, draw, is_small, norm, omegas, wide

__all__ = ["cupy", "ops", "put", "stand_in"]  # fixtures

SMALL = 256
"""Bytes of the largest transfer that a factorization or a solve may make."""


# -- transfers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("fmt", [FP16, BF16, FP16X2, FP32], ids=str)
@pytest.mark.parametrize("dtype", SINGLE)
def test_lu_and_a_solve_stay_on_the_device(stand_in, cupy, ops, rng, dtype, fmt, order):
    """Nothing as large as a column crosses, and the host waits once for the factorization."""
    n = 200
    x, y = draw(rng, (n, n), dtype), draw(rng, (n, 2), dtype)
    w, b = cupy.array(np.array(x, order=order), order="K"), cupy.array(y, order="F")
    with forbidden_transfers(SMALL), recorded() as ledger:
        factors = lu(ops, w, fmt, block=64)
        assert factors.info == 0
        waits = len(ledger.to_host)
        got = factors.solve(b)
        assert len(ledger.to_host) == waits
        assert 0 < factors.rcond(norm(wide(x).T), dtype) < 1
    assert waits == 1
    residual = omegas(wide(x), got.get(), y)
    assert is_small(residual, 30 * n * max(fmt.unit_roundoff, 2.0**-24))


@pytest.mark.parametrize("fmt", [FP16, FP32], ids=str)
@pytest.mark.parametrize("triangle", ["L", "U"])
def test_cholesky_stays_on_the_device(stand_in, cupy, ops, rng, triangle, fmt):
    n = 200
    x = wide(draw(rng, (n, n), "float32"))
    x = np.asarray(4 * np.eye(n) + x @ x.T / n, np.float32)
    y = draw(rng, (n, 2), "float32")
    w, b = cupy.array(x, order="F"), cupy.array(y, order="F")
    with forbidden_transfers(SMALL), recorded() as ledger:
        factors = cholesky(ops, w.copy, fmt, triangle=triangle, block=64)
        got = factors.solve(b)
    assert len(ledger.to_host) == 1
    assert is_small(omegas(x, got.get(), y), 30 * n * max(fmt.unit_roundoff, 2.0**-24))


def test_refinement_transfers_numbers_alone(stand_in, ops, put, rng):
    a, x, b = (put(draw(rng, s, "float64")).array for s in [(90, 90), (90, 3), (90, 3)])
    with forbidden_transfers(SMALL), recorded() as ledger:
        r, d = ops.residual(a, x, b)
        assert ledger.to_host == []
        ops.column_errors(x, r, d)
        assert len(ledger.to_host) == 1
        ops.trcon(a, lower=True)
        ops.gecon(a, 1.0)
        assert len(ledger.to_host) == 3
    assert ledger.to_device == []


def test_infos_are_read_together(stand_in, cupy, ops):
    def info(value):
        return cupy.full(1, value, np.int32)

    with recorded() as ledger:
        assert ops.first_info([(0, info(0)), (10, 0), (20, info(3)), (30, info(1))]) == 23
    assert len(ledger.to_host) == 1
    assert ops.first_info([]) == 0
    assert ops.first_info([(0, info(0))]) == 0
    assert ops.first_info([(7, 2), (1, info(1))]) == 9
    with pytest.raises(RuntimeError, match="argument 4"):
        ops.first_info([(0, info(-4))])


# -- devices, streams and threads ----------------------------------------------------------------


def test_arrays_of_different_devices_are_refused(stand_in, cupy, ops):
    here = cupy.ones((3, 3), order="F")
    with cupy.cuda.Device(1):
        there, pivots = cupy.ones((3, 3), order="F"), cupy.arange(3, dtype=np.int32)
    for call in (
        lambda: ops.gemm(1.0, here, there, 0.0, here),
        lambda: ops.residual(there, here, here),
        lambda: ops.getrs(here, pivots, here),
        lambda: ops.convert(here, there),
    ):
        with pytest.raises(ValueError, match="different devices, 0, 1"):
            call()
    for call in (lambda: ops.amax(there), lambda: ops.getrf(there)):
        with pytest.raises(ValueError, match="on device 1, but the current device is 0"):
            call()
    with cupy.cuda.Device(1):
        assert ops.amax(there) == 1.0


def solve_everything(ops, cupy, x, y):
    """Bits of a factorization, a solve and a residual."""
    w, a = cupy.array(x.astype(np.float32), order="C"), cupy.array(x, order="C")
    b = cupy.array(y, order="F")
    counters = Counters()
    z = lu(ops, w, FP16, block=48).solve(b)
    r, d = ops.residual(a, z, b)
    ops.syrk(1.0, w.T, 0.0, cupy.empty_like(w.T), lower=True, compute=FP16X2, counters=counters)
    errors = ops.column_errors(z, r, d)
    return b"".join(v.tobytes() for v in (z.get(), r.get(), d.get(), *errors))


def test_on_another_stream(cupy, ops, rng):
    """Every kernel and every call goes where the current stream says."""
    x, y = draw(rng, (130, 130), "float64"), draw(rng, (130, 2), "float64")
    alone = solve_everything(ops, cupy, x, y)
    with cupy.cuda.Stream(non_blocking=True):
        assert solve_everything(ops, cupy, x, y) == alone


def test_from_two_threads(cupy, ops, rng):
    x, y = draw(rng, (130, 130), "float64"), draw(rng, (130, 2), "float64")
    alone = solve_everything(ops, cupy, x, y)

    def run(_):
        with cupy.cuda.Stream(non_blocking=True):
            return solve_everything(ops, cupy, x, y)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, range(2))) == [alone, alone]


def test_work_beside_has_to_be_joined(stand_in, cupy, ops, rng):
    x = draw(rng, (70, 70), "float32")
    a = cupy.array(x, order="F")
    b, c = cupy.empty_like(a), cupy.empty_like(a)
    ops.gemm(1.0, a, a, 0.0, b)
    with ops.beside():
        ops.gemm(1.0, a, b, 0.0, c)  # begins when what came before is done
    ops.join()
    assert is_small(abs(c.get() - wide(x) @ wide(x) @ wide(x)), 1e-2)
    with ops.beside():
        ops.gemm(1.0, a, a, 0.0, c)
    with pytest.raises(Misuse, match="nothing orders the two"):
        ops.gemm(1.0, a, c, 0.0, b)
    ops.join()
    ops.gemm(1.0, a, c, 0.0, b)
    ops.join()  # again: nothing to wait for


def test_work_beside_is_joined_after_an_error(stand_in, cupy, ops):
    a = cupy.ones((5, 5), np.float32, order="F")

    def fails():
        with ops.beside():
            ops.gemm(1.0, a, a, 0.0, a.copy(order="F"))
            ops.gemm(1.0, a, a[:3], 0.0, a)

    with pytest.raises(ValueError, match="shapes"):
        fails()
    ops.join()
    a += 1
