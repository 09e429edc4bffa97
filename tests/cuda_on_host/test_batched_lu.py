"""batched_lu.cu: LU of many small matrices, a lane to a row."""

from __future__ import annotations

import pytest

from .batched_systems import Kernel, draw
from .module import LaunchError
from .mutation import barriers, barriers_of_header
from .suite_batched_lu import LuSuite, gesv

FILE = "batched_lu.cu"


class TestLu(LuSuite):
    ROUTINE = "lu"
    SIZES = (1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32)
    N = 11
    CHECKED = ((3, 33), (7, 17), (13, 9), (21, 5))

    @pytest.mark.parametrize("n", [1, 3, 4, 7, 15])
    def test_larger_instances(self, compiled, rng, n):
        """A member that leaves lanes idle is solved as in an instance of its size."""
        kernel = Kernel(compiled(FILE, checked=True), "lu")
        a, b = draw(rng, "d", 3, n, n), draw(rng, "d", 3, n, 2)
        expected = gesv(kernel, a, b)
        for order in (8, 16, 32):
            if order < n:
                continue
            for one, two in zip(expected, gesv(kernel, a, b, order=order), strict=True):
                assert (one == two).all()


@pytest.mark.parametrize("edit", [*barriers(FILE), *barriers_of_header("batched_rows.cuh")])
def test_every_barrier_is_needed(broken, rng, edit):
    a, b = draw(rng, "d", 2, 19, 19), draw(rng, "d", 2, 19, 2)
    kernel = Kernel(broken(FILE, edit, "batched_lu<double, 1, 32>"), "lu")
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        gesv(kernel, a, b)
