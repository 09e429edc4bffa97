"""What the kernels for batches do per launch, counted, is what their heads say.

The checker counts accesses to memory, global, shared, and that by which lanes exchange values. So a
launch is compared with one that does the same and something more.
"""

from __future__ import annotations

import numpy as np
import pytest

from .batched_systems import Kernel, draw
from .suite_batched_cholesky import definite, posv
from .suite_batched_lu import gesv
from .suite_batched_triangles import OWN, solve
from .test_batched_gemm import gemm


@pytest.fixture
def kernels(emulated):
    """kernels("lu"): its launches, with the access checker."""
    return lambda name: Kernel(emulated(f"batched_{name}.cu", checked=True), name)


def accesses(kernel):
    return kernel.module.counts.accesses


@pytest.mark.parametrize("n", [5, 16, 32])
def test_members_of_rows_wait_in_their_warp(kernels, rng, n):
    """No barrier of the block, and as many barriers of a warp for eight members as for one."""
    kernel = kernels("lu")
    found = []
    for batch in (1, 32 // max(4, 1 << (n - 1).bit_length())):
        gesv(kernel, draw(rng, "d", batch, n, n), draw(rng, "d", batch, n, 1))
        assert kernel.module.counts.barriers == 0
        found.append(kernel.module.counts.collectives)
    assert found[0] == found[-1]


@pytest.mark.parametrize("n", [17, 33, 64])
def test_barriers_of_a_block(kernels, rng, n):
    """LU two a column, Cholesky one, and one for each step of a substitution of 16 columns."""
    a = definite(rng, "d", 1, n)
    for columns, passes in [(0, 0), (1, 1), (16, 1), (17, 2)]:
        b = draw(rng, "d", 1, n, columns) if columns else None
        kernel = kernels("lu_block")
        gesv(kernel, a, b, probed=False)
        assert kernel.module.counts.barriers == 2 * n + 2 * n * passes
        kernel = kernels("cholesky_block")
        posv(kernel, a, b, probed=False)
        assert kernel.module.counts.barriers == n + (1 + 2 * n * passes if columns else 0)
        if columns:
            kernel = kernels("triangles_block")
            solve(kernel, a, b, OWN)
            assert kernel.module.counts.barriers == 2 + n * passes


@pytest.mark.parametrize("n", [5, 8, 31])
def test_an_entry_is_read_once(kernels, rng, n):
    """By columns a lane reads its row, and nothing passes through shared memory on the way."""
    for name, run in (("lu", gesv), ("cholesky", posv)):
        kernel = kernels(name)
        a = definite(rng, "d", 1, n)
        run(kernel, a, factors=False)
        by_rows = accesses(kernel)
        run(kernel, np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2), factors=False)
        by_columns = accesses(kernel)
        order = max(4, 1 << (n - 1).bit_length())
        width = min(order, 16)
        # every place of the tiles is written once and read once, whatever n is
        through_shared = 2 * 32 * width * -(-order // width)
        assert by_rows - by_columns == through_shared


@pytest.mark.parametrize("name", ["lu_block", "cholesky_block"])
def test_an_entry_is_written_once(kernels, rng, name):
    run, a = (gesv, posv)[name.startswith("chol")], definite(rng, "d", 1, 20)
    kernel = kernels(name)
    run(kernel, a, factors=False)
    bare = accesses(kernel)
    run(kernel, a)
    pivots = 20 if name == "lu_block" else 0
    assert accesses(kernel) - bare == 20 * 20 + pivots


@pytest.mark.parametrize("tile", [4, 8, 32, 64])
def test_c_is_read_with_beta_alone(emulated, tile):
    module = emulated("batched_gemm.cu", checked=True)
    found = []
    for beta in (0.0, 1.0):
        a, b, c = np.ones((2, 3, 1)), np.ones((2, 1, 5)), np.ones((2, 3, 5))
        gemm(module, a, b, c, tile=tile, beta=beta)
        found.append(module.counts.accesses)
    assert found[1] - found[0] == c.size
