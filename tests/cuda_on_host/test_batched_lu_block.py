"""batched_lu_block.cu: LU of many matrices of middling order, a block of threads to each."""

from __future__ import annotations

import pytest

from .batched_systems import Kernel, draw
from .module import LaunchError
from .mutation import barriers, barriers_of_header
from .suite_batched_lu import LuSuite, gesv

FILE = "batched_lu_block.cu"


class TestLuBlock(LuSuite):
    ROUTINE = "lu_block"
    SIZES = (17, 33, 64, 65, 128)
    BATCH = 2
    N = 21
    CHECKED = ((18, 2), (35, 1))


@pytest.mark.parametrize("edit", [*barriers(FILE), *barriers_of_header("batched_block.cuh")])
def test_every_barrier_is_needed(broken, rng, edit):
    a, b = draw(rng, "d", 1, 35, 35), draw(rng, "d", 1, 35, 17)
    kernel = Kernel(broken(FILE, edit, "batched_lu_block<double, 1, 64>"), "lu_block")
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        gesv(kernel, a, b)
