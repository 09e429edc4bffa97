"""The model of LU without row interchanges: its terms, its launches, and the tables of the page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mplinalg.bench import butterfly_model as model
from mplinalg.bench import gpu_model
from mplinalg.ops.protocol import Counters
from mplinalg.precision import FP16, FP16X2, FP32

from ..cupy_on_host.install import cupy_on_host, recorded

__all__ = ["cupy_on_host"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "algorithms" / "gpu-lu.md"
DEVICE = gpu_model.Device("d", low=1e12, single=1e11, copy=1e10, launch=1e-5)


@pytest.mark.parametrize("name", model.page_tables())
def test_the_tables_of_the_page_are_those_of_the_model(name):
    before, table, _ = PAGE.read_text().partition(f"\n\n{model.page_tables()[name]}\n\n")
    assert table
    title = " ".join(before.rpartition("\n\n")[2].split())
    assert "predicted, not measured: no GPU has run this yet" in title


def test_the_model_prints_its_tables():
    done = subprocess.run(
        [sys.executable, "-m", "mplinalg.bench.butterfly_model"], capture_output=True, text=True,
        check=True, cwd=ROOT,
    )  # fmt: skip
    for text in model.page_tables().values():
        assert text in done.stdout


def test_a_block_row_by_hand():
    """Two diagonal blocks: two copies, two products with inverses, one product between."""
    copy = 1e-5 + 8 * 128 * 100 / 1e10
    inverse = 1e-5 + 2 * 128**2 * 100 / 1e11
    between = 1e-5 + 2 * 128**2 * 100 / 1e11
    found = model.block_row(2, 100, "fp16", DEVICE)
    assert found.launches == 5
    assert found.seconds == pytest.approx(2 * copy + 2 * inverse + between)
    assert found.operands == 0


def test_a_panel_by_hand():
    """Two blocks of 300 rows in all: the rest of 172 rows, then one of 44."""
    block = 1e-5 + 128 * 450 / 1.8e9
    below = [2e-5 + (8 * 128 / 1e10 + 2 * 128**2 / 1e11) * rows for rows in (172, 44)]
    row = model.block_row(1, 128, "fp32", DEVICE).seconds
    product = 1e-5 + max(2 * 172 * 128**2 / 1e11, 4 * (2 * 172 + 172 + 128) * 128 / 1e10)
    found = model.panel(300, 2, "fp32", DEVICE)
    assert found.launches == 2 * 3 + 2 + 1
    assert found.seconds == pytest.approx(2 * block + sum(below) + row + product)


def test_a_prediction_adds_up():
    """Three panels of one block: the second update hides the next panel, the first one does not."""
    n, nb = 384, 128
    p = model.predict(n, "fp16", DEVICE, block=nb)
    rows = [model.block_row(1, 128, "fp16", DEVICE).seconds] * 3
    assert p.triangles == pytest.approx(sum(rows))
    # rows of the first product, of the second, and of the third; each is bound by traffic
    rest = (256, 256, 128)
    updates = [1e-5 + 8 * left * 128 / 1e10 + 2 * 128 * (left + 128) / 1e10 for left in rest]
    assert p.updates == pytest.approx(sum(updates))
    converted = [(2 + 8) * 128 * (left + 128) / 1e10 + 9e-5 for left in rest]
    assert p.operands == pytest.approx(sum(converted))
    panels = [model.panel(m, 1, "fp16", DEVICE).total for m in (384, 256, 128)]
    assert p.panels == pytest.approx(sum(panels))
    second = rows[1] + updates[1] + converted[1]
    assert p.exposed == pytest.approx(panels[0] + max(0, panels[1] - second) + panels[2])
    assert p.convert == pytest.approx(36 * n**2 / 1e10)
    step = max(2 * n**2 / 1e10, 3 * 1.3e-6) + 2e-5
    assert p.refinement == pytest.approx(8 * (8 * n**2 / 1e10 + 2 * step + 2e-5))
    assert p.seconds == pytest.approx(sum(p.phases.values()))


def test_large_products_are_converted():
    large = model.block_row(32, 65536, "fp16", gpu_model.H200)
    assert large.launches > 3 * 32 - 1
    assert large.operands > 0
    assert large.total < model.block_row(32, 65536, "fp32", gpu_model.H200).total


@pytest.mark.parametrize("least", [2**31, 0])
@pytest.mark.parametrize("fmt", [FP16, FP16X2, FP32], ids=str)
@pytest.mark.parametrize(("n", "nb"), [(256, 128), (512, 256), (640, 640)])
def test_an_lu_makes_the_launches_of_the_model(cupy_on_host, monkeypatch, n, nb, fmt, least):
    """Kernels, calls of cuBLAS, and functions of CuPy, each of one kernel."""
    from mplinalg.factor.unpivoted import getrf_unpivoted
    from mplinalg.ops.cupy_ops import CupyOps

    monkeypatch.setattr("mplinalg.factor.unpivoted._CONVERTS_FROM", least)
    monkeypatch.setattr(model, "_CONVERTS_FROM", least)

    def counted():
        a = cupy_on_host.asarray(np.eye(n), dtype=np.float32)
        with recorded() as ledger:
            getrf_unpivoted(CupyOps(), a, fmt, block=nb, counters=Counters())
        return [sum(c.values()) for c in (ledger.launches, ledger.calls, ledger.operations)]

    counted()  # what is made once is made
    assert sum(counted()) == model.launches(n, nb, fmt.name)


def test_no_pivots_are_a_gain_in_the_same_format():
    """And fp16x2 is faster without them than fp16 with them, up to 32768."""
    for n in gpu_model.ORDERS:
        pivoted = gpu_model.predict(n).seconds
        rates = [model.predict(n, fmt.name).seconds for fmt in (FP16, FP16X2, FP32)]
        assert rates == sorted(rates)
        assert rates[0] < pivoted
        assert (rates[1] < pivoted) == (n <= 32768)


def test_constants_of_the_ladder_are_those_of_the_model():
    """Seconds a column besides products of the whole matrix, for orders where they matter."""
    from mplinalg.dense import rungs

    for n in (8192, 16384):
        pivoted, unpivoted = gpu_model.predict(n), model.predict(n)
        columns = (pivoted.exposed / n, (unpivoted.exposed + unpivoted.triangles) / n)
        assert columns[0] == pytest.approx(rungs._PIVOTED_COLUMN, rel=0.2)
        assert columns[1] == pytest.approx(rungs._UNPIVOTED_COLUMN, rel=0.2)
