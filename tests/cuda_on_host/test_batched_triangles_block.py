"""batched_triangles_block.cu: triangular systems in batches, a block of threads to a matrix."""

from __future__ import annotations

import pytest

from .batched_systems import Kernel, draw
from .module import LaunchError
from .mutation import barriers
from .suite_batched_triangles import OWN, TrianglesSuite, matrices, solve

FILE = "batched_triangles_block.cu"


class TestTrianglesBlock(TrianglesSuite):
    ROUTINE = "triangles_block"
    SIZES = (1, 33, 64, 65, 100)
    BATCH = 2
    N = 21
    CHECKED = ((18, 2), (35, 1))


@pytest.mark.parametrize("edit", barriers(FILE))
def test_every_barrier_is_needed(broken, rng, edit):
    """Those of batched_block.cuh: test_batched_lu_block.py."""
    kernel = Kernel(broken(FILE, edit, "batched_triangles_block<double, 1, 64>"), "triangles_block")
    m = matrices(rng, "d", 1, 20)
    m[0, 7, 7] = 0
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        solve(kernel, m, draw(rng, "d", 1, 20, 1), OWN, OWN)
