"""The CUDA backend on stacks of several dimensions, and of half precision."""

import numpy as np
import pytest

from mplinalg.precision import BF16

from ..cupy_on_host.install import forbidden_transfers, recorded
from ..device import is_stand_in
from .test_cupy_batched import cupy, ops, put, without_kernels

__all__ = ["cupy", "ops", "put", "without_kernels"]  # fixtures


def check_half(ops, cupy, put, rng):
    for m, n, k in [(3, 4, 2), (20, 33, 17), (70, 8, 16)]:
        a, b, before = (
            rng.standard_normal((3, *shape)).astype("e") for shape in ((m, k), (k, n), (m, n))
        )
        a[1] *= np.float16(2.0**12)  # as they are: nothing is scaled, and nothing overflows
        c = put(before)
        ops.gemm_batched(0.5, put(a), put(b.swapaxes(1, 2)), 2.0, c, transb="T")
        exact = a.astype("d") @ b.astype("d") / 2 + 2 * before.astype("d")
        size = abs(a.astype("d")) @ abs(b.astype("d")) / 2 + 2 * abs(before.astype("d"))
        assert c.dtype == np.float16
        bound = 2.0**-11 * abs(exact) + 2 * (k + 4) * 2.0**-24 * size + 2.0**-24
        assert (abs(c.get().astype("d") - exact) <= bound).all()


def test_half_precision(ops, cupy, put, rng):
    """Arrays of 16 bits: products in fp16, sums in fp32, rounded once."""
    check_half(ops, cupy, put, rng)
    a = put(np.ones((1, 2, 2), "e"))
    with pytest.raises(ValueError, match="multiplied in fp16, not in bf16"):
        ops.gemm_batched(1.0, a, a, 0.0, cupy.empty((1, 2, 2), "e"), compute=BF16)


@pytest.mark.filterwarnings("ignore:device 0. a kernel is replaced:scipy.linalg.LinAlgWarning")
def test_half_precision_without_kernels(ops, cupy, put, rng, without_kernels):
    check_half(ops, cupy, put, rng)


def test_stacks_of_several_dimensions(ops, cupy, put, rng):
    """Those whose strides make them one are one launch; others a few, and no copies."""
    if not is_stand_in(cupy):
        pytest.skip("asks what only the stand-in for CuPy can tell")
    a, b = put(rng.standard_normal((3, 1, 4, 5))), put(rng.standard_normal((1, 50, 5, 2)))
    left, right = (cupy.broadcast_to(x, (3, 50, *x.shape[2:])) for x in (a, b))
    c = cupy.full((3, 50, 4, 2), np.nan)
    turned = cupy.full((50, 3, 4, 2), np.nan).swapaxes(0, 1)
    whole = put(rng.standard_normal((3, 50, 4, 5)))
    for one, result, launches in ((left, c, 3), (left, turned, 3), (whole, c, 3)):
        with forbidden_transfers(0), recorded() as ledger:
            ops.gemm_batched(1.0, one, right, 0.0, result)
        assert sum(ledger.launches.values()) == launches
        assert not ledger.operations
        np.testing.assert_allclose(result.get(), one.get() @ b.get(), rtol=1e-13, atol=1e-13)
    with recorded() as ledger:
        ops.gemm_batched(1.0, whole, whole, 0.0, cupy.empty((3, 50, 4, 4)), transb="T")
    assert sum(ledger.launches.values()) == 1
    # too many of them: copies
    left, right = (
        cupy.broadcast_to(x, (70, 71, 2, 2))
        for x in (put(rng.standard_normal((70, 1, 2, 2))), put(rng.standard_normal((71, 2, 2))))
    )
    result = cupy.empty((70, 71, 2, 4))[..., ::2]
    with recorded() as ledger:
        ops.gemm_batched(1.0, left, right, 0.0, result)
    assert sum(ledger.launches.values()) == 1
    np.testing.assert_allclose(result.get(), left.get() @ right.get(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("flags", ["CN", "NC", "CC"])
def test_conjugates_of_stacks_whose_members_lie_side_by_side(ops, cupy, put, rng, flags):
    """Of one row or column each, which has unit stride whatever the strides are."""
    for m, n, k in ((70, 3, 1), (1, 70, 2), (3, 1, 70), (1, 1, 70)):
        shapes = [(m, k), (k, n)]
        given, wide = [], []
        for flag, shape in zip(flags, shapes, strict=True):
            rows, columns = shape if flag == "N" else shape[::-1]
            x = rng.standard_normal((rows, columns, 4, 2)).view(complex)[..., 0]
            given.append(put(x).transpose(2, 0, 1))
            x = x.transpose(2, 0, 1)
            wide.append(x if flag == "N" else x.conj().swapaxes(1, 2))
        c = cupy.empty((4, m, n), complex)
        ops.gemm_batched(1.0, *given, 0.0, c, transa=flags[0], transb=flags[1])
        np.testing.assert_allclose(c.get(), wide[0] @ wide[1], rtol=1e-12, atol=1e-12)
