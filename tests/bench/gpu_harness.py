"""`mplinalg bench gpu` on the stand-in for CuPy: small, quick, and with solvers of the host."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mplinalg
import mplinalg.batched
import mplinalg.fem
import mplinalg.tiled
from mplinalg.bench import gpu, gpu_device, gpu_peers, row, stacks, timing
from mplinalg.bench.timing import interleave
from mplinalg.report import SolveReport, Status
from mplinalg.tiled import TiledReport, Traffic

ROOT = Path(__file__).parents[2]
N = 24
TILED = TiledReport(Status.CONVERGED, traffic=Traffic(loaded=N, predicted=N), tile=8)
REPORT = SolveReport(Status.CONVERGED, iterations=3, precision="fp16", backward_error=1e-17)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Short samples, small ceilings, and a folder to work in."""
    for module in (row, gpu_device):
        monkeypatch.setattr(module, "interleave", functools.partial(interleave, min_sample=1e-6))
    monkeypatch.setattr(timing, "METERED_SAMPLE", 1e-6)
    monkeypatch.setattr(gpu_device, "ORDER", 16)
    monkeypatch.setattr(gpu_device, "COPIED", 1000)
    monkeypatch.setattr(stacks, "SCALE", 1e-4)
    monkeypatch.setattr(gpu, "default_file", lambda: "gpu.jsonl")  # not among the results
    monkeypatch.setattr(gpu, "checkout", lambda: ROOT)  # also where a wheel is installed
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cupy(cupy_on_host, monkeypatch):
    """The stand-in, with solvers in the place of mplinalg's: these tests are of the harness."""

    def factors(a, mode="reduced"):
        q, r = (cupy_on_host.asarray(part) for part in np.linalg.qr(a.get()))
        return r if mode == "r" else (q, r)

    def least_squares(a, b):
        return cupy_on_host.asarray(np.linalg.lstsq(a.get(), b.get(), rcond=None)[0])

    def solve(a, b, full_output=False, **options):
        x = cupy_on_host.linalg.solve(a, b)
        return (x, REPORT) if full_output else x

    def our_qr(a, mode, full_output=False):
        return (*factors(a), REPORT) if full_output else factors(a)

    def lstsq(a, b, full_output=False):
        return SimpleNamespace(x=least_squares(a, b), report=REPORT)

    monkeypatch.setattr(cupy_on_host.linalg, "qr", factors)
    monkeypatch.setattr(mplinalg, "solve", solve)
    monkeypatch.setattr(mplinalg, "qr", our_qr)
    monkeypatch.setattr(mplinalg, "lstsq", lstsq)
    monkeypatch.setattr(mplinalg, "lu_factor", lambda a, precision: a)

    def tiled_solve(a, b, executor, full_output):
        return np.linalg.solve(a, b), TILED

    def gemm(a, b, out, precision="working"):
        return cupy_on_host.matmul(a, b, out=out)

    def verb(self, alpha, a, b, beta, c, transa="N", transb="N", compute=None):
        a, b = (x if flag == "N" else x.mT for x, flag in ((a, transa), (b, transb)))
        cupy_on_host.matmul(a, b, out=c)

    from mplinalg.ops.cupy_batched import CupyBatchedOps

    monkeypatch.setattr(mplinalg.batched, "gemm", gemm)
    monkeypatch.setattr(mplinalg.batched, "solve", lambda a, b, assume_a: solve(a, b))
    monkeypatch.setattr(mplinalg.tiled, "solve", tiled_solve)
    contract = functools.partial(cupy_on_host.einsum, optimize=True)
    monkeypatch.setattr(mplinalg.fem, "contract", contract)
    monkeypatch.setattr(CupyBatchedOps, "gemm_batched", verb)
    # what the stand-in does not have
    monkeypatch.setattr(gpu_peers, "cholesky_solve", cupy_on_host.linalg.solve)
    monkeypatch.setattr(gpu_peers, "least_squares", least_squares)
    monkeypatch.setattr(gpu_peers, "irs_least_squares", least_squares)
    # kernels take long on the host, and do nothing for these tests
    from mplinalg.kernels.cuda import loader, training
    from mplinalg.nn import recipe

    monkeypatch.setattr(training, "is_taken", lambda *arrays: False)
    monkeypatch.setitem(recipe.PRECISIONS, "fp16-mixed", None)

    monkeypatch.setattr(loader, "launch", lambda name, grid, *arguments: None)
    return cupy_on_host
