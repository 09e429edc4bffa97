"""batched_cholesky.cu: Cholesky factorizations of many small matrices, a lane to a row."""

from __future__ import annotations

import pytest

from .batched_systems import Kernel, draw
from .module import LaunchError
from .mutation import barriers
from .suite_batched_cholesky import CholeskySuite, definite, posv

FILE = "batched_cholesky.cu"


class TestCholesky(CholeskySuite):
    ROUTINE = "cholesky"
    SIZES = (1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32)
    N = 11
    CHECKED = ((3, 33), (7, 17), (14, 9), (21, 5))


@pytest.mark.parametrize("edit", barriers(FILE))
def test_every_barrier_is_needed(broken, rng, edit):
    """Those of batched_rows.cuh: test_batched_lu.py."""
    kernel = Kernel(broken(FILE, edit, "batched_cholesky<double, 1, 8>"), "cholesky")
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        posv(kernel, definite(rng, "d", 2, 7), draw(rng, "d", 2, 7, 1))
