"""Kernels for batches, with members, rows or columns more than 2^31 numbers apart.

Memory is that of a file with holes, of which a page is there when it is touched.
"""

from __future__ import annotations

import numpy as np
import pytest

from .batched_systems import Kernel, draw
from .suite_batched_cholesky import definite, posv
from .suite_batched_lu import gesv
from .suite_batched_triangles import OWN, matrices, solve
from .test_batched_gemm import gemm
from .test_batched_gemm_low import gemm as gemm_low
from .test_batched_qr import qr

FAR = {
    "members": (2**31 + 4096, 40, 1),
    "rows": (2**31 + 4096, 2**29 + 8, 1),
    "all": (2**31 + 4096, 2**29 + 8, 2**28 + 40),
}
"""Strides in numbers: with five rows or nine columns an index of 32 bits overflows."""


@pytest.fixture(params=["members", "rows", pytest.param("all", marks=pytest.mark.slow)])
def far(request, tmp_path):
    """far(x): a copy of x, in memory that reaches as far as these strides do."""
    files = []

    def copied(x):
        steps = FAR[request.param]
        span = 1 + sum(step * (size - 1) for step, size in zip(steps, x.shape, strict=True))
        files.append(tmp_path / f"{len(files)}")
        memory = np.memmap(files[-1], x.dtype, "w+", shape=(span,))
        strides = [step * x.itemsize for step in steps]
        view = np.ndarray(x.shape, x.dtype, memory, strides=strides)
        view[...] = x
        return view

    yield copied
    for file in files:
        file.unlink()


def assert_same(found, expected):
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("dtype", "n"), [("f", 9), ("D", 17)])
def test_systems(emulated, far, rng, dtype, n):
    """A lane to a row, and a block to a member."""
    a, b = definite(rng, dtype, 2, n), draw(rng, dtype, 2, n, 2)
    name = "_block" if dtype == "D" else ""
    for routine, run in (("lu", gesv), ("cholesky", posv)):
        kernel = Kernel(emulated(f"batched_{routine}{name}.cu"), routine + name)
        assert_same(run(kernel, far(a), far(b)), run(kernel, a, b))
    kernel = Kernel(emulated(f"batched_triangles{name}.cu"), f"triangles{name}")
    m = matrices(rng, dtype, 2, n)
    assert_same(solve(kernel, far(m), far(b), OWN), solve(kernel, m, b, OWN))


def test_orthogonal_factors(emulated, far, rng):
    a = draw(rng, "f", 2, 12, 10)
    module = emulated("batched_qr.cu")
    assert_same(qr(module, far(a)), qr(module, a))


@pytest.mark.parametrize("tile", [16, 64])
def test_products(emulated, far, rng, tile):
    """C, too, which the others write densely."""
    a, b, c = (draw(rng, "f", 2, 16, 16) for _ in range(3))
    for run, module, options in (
        (gemm, emulated("batched_gemm.cu"), {}),
        (gemm_low, emulated("batched_gemm_low.cu"), {"held": "float", "fmt": "half"}),
    ):
        expected = run(module, a, b, c.copy(), tile=tile, beta=1.0, **options)
        found = run(module, far(a), far(b), far(c), tile=tile, beta=1.0, **options)
        np.testing.assert_array_equal(found, expected)


def test_half_precision(emulated, far, rng):
    """Whose operands are copied to shared memory as they are."""
    a, b, c = (draw(rng, "f", 2, 16, 16).astype("e") for _ in range(3))
    module, options = emulated("batched_gemm_low.cu"), {"held": "half", "fmt": "half", "tile": 16}
    expected = gemm_low(module, a, b, c.copy(), beta=1.0, **options)
    found = gemm_low(module, far(a), far(b), far(c), beta=1.0, **options)
    np.testing.assert_array_equal(found, expected)
