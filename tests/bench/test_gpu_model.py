"""The model of LU on a GPU: the tables of its page, and the launches that it counts."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mplinalg.bench import gpu_model
from mplinalg.precision import FP16

from ..cupy_on_host.install import cupy_on_host, recorded
from .gpu_harness import ROOT, quick

__all__ = ["cupy_on_host", "quick"]  # fixtures

PAGE = ROOT / "docs" / "algorithms" / "gpu-lu.md"


@pytest.mark.parametrize("name", gpu_model.page_tables())
def test_the_tables_of_the_page_are_those_of_the_model(name):
    assert f"\n\n{gpu_model.page_tables()[name]}\n\n" in PAGE.read_text()


@pytest.mark.parametrize("name", gpu_model.page_tables())
def test_each_table_is_said_to_be_predicted(name):
    before, _, _ = PAGE.read_text().partition(gpu_model.page_tables()[name])
    title = before.rstrip().rpartition("\n\n")[2]
    assert "predicted, not measured: no GPU has run this yet" in " ".join(title.split())


def test_products_are_bounded_by_traffic_or_by_flops():
    """275 TFLOP/s at k = 256, 550 at 512, all of the 790 from 735 on."""
    assert gpu_model.product_cap(256) / 1e12 == pytest.approx(275, abs=0.5)
    assert gpu_model.product_cap(512) / 1e12 == pytest.approx(550, abs=0.5)
    assert gpu_model.product_cap(734) < gpu_model.product_cap(735) == gpu_model.H200.low


@pytest.mark.parametrize(("m", "count"), [(1, 1), (256, 1), (257, 2), (2048, 2), (2049, 3)])
def test_rounds(m, count):
    assert gpu_model.rounds(m) == count


def test_a_prediction_adds_up():
    """Two steps: every term by hand, with round rates."""
    launch = 1e-5
    device = gpu_model.Device(
        "d", low=1e12, single=1e11, copy=1e10, launch=launch, column=1e-6, grid_column=1.0,
        inverse=1e-4,
    )  # fmt: skip
    found = gpu_model.predict(512, device, block=256)
    assert found.convert == pytest.approx(12 * 512**2 / 1e10)
    assert found.swaps == pytest.approx(2 * (32 * 256 * 256 / 1e10 + 9 * launch))
    flops = 256 * (256 + 128) * 256
    assert found.triangles == pytest.approx(flops / 1e11 + 2e-4 + 2 * 7 * launch)
    assert found.operands == pytest.approx(30 * 256 * 256 / 1e10 + 14 * launch)
    # 64 flops a byte: less than these take
    assert found.updates == pytest.approx(8 * 256**2 / 1e10 + 2 * launch)
    first, second = (gpu_model.panel(m, 256, device) for m in (512, 256))
    assert found.panels == pytest.approx(first + second)
    assert found.exposed == pytest.approx(first + max(0, second - found.updates))
    # two rounds and the rows of L
    leaf = 3 * (launch + 32e-6) + 12 * 512 * 32 / 1e10
    assert gpu_model.tournament_leaf(512, device) == pytest.approx(leaf)
    # 8 leaves; 7 nodes of 8 launches, and 4; flops take longer than traffic on 3 levels
    products = (512 * 256**2 - 256**3 / 3) / 1e11
    assert products > 4 * 512 * 256 * 3 / 1e10
    assert first == pytest.approx(8 * leaf + 60 * launch + products)
    application = 12 * 512**2 / 1e10 + 2 * 4 * 3 * launch
    assert found.refinement == pytest.approx(8 * application)
    assert found.seconds == pytest.approx(sum(found.phases.values()))
    assert found.rate == pytest.approx((2 / 3 * 512**3 + 2 * 512**2) / found.seconds)


def test_what_is_said_to_be_a_gain_is_one():
    for n in gpu_model.ORDERS:
        first, slower, *rates, last = (
            gpu_model.predict(n, *lever).rate for lever in gpu_model.LEVERS.values()
        )
        assert slower < first < min(rates)
        assert last > max(rates)


@pytest.mark.parametrize(("n", "nb"), [(192, 64), (384, 64)])
def test_an_lu_makes_the_launches_of_the_model(cupy_on_host, rng, n, nb):
    """Kernels, calls of cuBLAS, and functions of CuPy, each of one kernel."""
    from mplinalg.factor.lu import getrf
    from mplinalg.ops.cupy_ops import CupyOps

    def counted():
        a = cupy_on_host.asarray(rng.standard_normal((n, n)), dtype=np.float32)
        with recorded() as ledger:
            getrf(CupyOps(), a, FP16, block=nb)
        return [sum(c.values()) for c in (ledger.launches, ledger.calls, ledger.operations)]

    counted()  # what is made once is made
    assert sum(counted()) == gpu_model.launches(n, nb)


def test_the_model_prints_its_tables():
    done = subprocess.run(
        [sys.executable, "-m", "mplinalg.bench.gpu_model"], capture_output=True, text=True,
        check=True, cwd=ROOT,
    )  # fmt: skip
    for text in gpu_model.page_tables().values():
        assert text in done.stdout
