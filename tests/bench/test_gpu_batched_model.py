"""What many small problems are predicted to cost: the page, and the kernels that it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from mplinalg.bench import gpu_batched_model as model
from mplinalg.kernels.cuda.catalogue import KERNELS, Kernel
from mplinalg.kernels.cuda.catalogue_batched import products_at_once

PAGE = Path(__file__).parents[2] / "docs" / "algorithms" / "gpu-batched.md"


@pytest.mark.parametrize("name", model.page_tables())
def test_the_tables_of_the_page_are_those_of_the_model(name):
    assert f"\n\n{model.page_tables()[name]}\n\n" in PAGE.read_text()


@pytest.mark.parametrize("name", model.page_tables())
def test_each_table_is_said_to_be_predicted(name):
    before, _, _ = PAGE.read_text().partition(model.page_tables()[name])
    title = before.rstrip().rpartition("\n\n")[2]
    assert "predicted, not measured: no GPU has run this yet" in " ".join(title.split())


def test_products_are_bound_by_bytes_up_to_some_order():
    """3 s n^2 bytes and 2 n^3 flops: from n = 1.5 s times the flops a byte on by arithmetic."""
    product = model.FAMILIES["product"]
    for size in (4, 8):
        equal = 1.5 * size * model.RATES[size] / model.H200.copy
        assert 93 < equal < 96
        for n, is_by_bytes in ((int(equal), True), (int(equal) + 1, False)):
            by_bytes, by_flops = model.members_per_second(product, n, size)
            assert (by_bytes < by_flops) == is_by_bytes


def test_blocks_that_a_multiprocessor_holds():
    """By whatever is used up first; registers are given by eights."""

    def found(registers, threads, shared=0):
        kernel = Kernel("x.cu", "x", "", threads, registers, dynamic=shared)
        held = model.resident(kernel)
        return held.blocks, held.warps, held.bound

    assert found(128, 128) == (4, 16, "registers")
    assert found(129, 128) == (3, 12, "registers")  # as 136
    assert found(32, 128) == (16, 64, "registers")
    assert found(24, 128) == (16, 64, "warps")
    assert found(16, 32) == (32, 32, "blocks")
    assert found(32, 128, 75 * 1024) == (3, 12, "shared memory")
    assert found(32, 128, 76 * 1024) == (2, 8, "shared memory")  # 1 KiB besides


def test_every_family_of_kernels_is_in_the_table():
    """With as many members a block as the launches are made for."""
    shown = dict(model.KERNELS)
    files = {kernel.file for kernel in KERNELS if kernel.file.startswith("batched_")}
    by_name = {kernel.name: kernel for kernel in KERNELS}
    assert {by_name[name].file for name in shown} == files
    for name, members in shown.items():
        routine, _, rest = name.partition("<")
        order = int(rest.rstrip(">").split(", ")[-1])
        if routine.endswith("_block") or (routine == "batched_gemm_low" and order == 64):
            assert members == 1
        elif routine == "batched_gemm":
            assert members == products_at_once(order)
        else:
            assert members == (4 if routine == "batched_gemm_low" else 128 // order)
