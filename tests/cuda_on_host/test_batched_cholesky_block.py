"""batched_cholesky_block.cu: Cholesky, a block of threads to a matrix."""

from __future__ import annotations

import pytest

from .batched_systems import Kernel, draw
from .module import LaunchError
from .mutation import barriers
from .suite_batched_cholesky import CholeskySuite, definite, posv

FILE = "batched_cholesky_block.cu"


class TestCholeskyBlock(CholeskySuite):
    ROUTINE = "cholesky_block"
    SIZES = (1, 31, 64, 65, 100)
    BATCH = 2
    N = 21
    CHECKED = ((18, 2), (35, 1))


@pytest.mark.parametrize(("edit", "n"), list(zip(barriers(FILE), (20, 1), strict=True)))
def test_every_barrier_is_needed(broken, rng, edit, n):
    """Those of batched_block.cuh: test_batched_lu_block.py. The last one is there for order 1."""
    kernel = Kernel(broken(FILE, edit, "batched_cholesky_block<double, 1, 64>"), "cholesky_block")
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        posv(kernel, definite(rng, "d", 1, n), draw(rng, "d", 1, n, 1), schedule="reverse")
