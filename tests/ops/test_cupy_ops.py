"""The CUDA backend: the conformance suite, and what only this backend promises.

Where there is no GPU it all runs on the stand-in for CuPy, kernels included. What only the stand-in
can tell (what crosses to the host, which stream has to wait for which) is asked of it alone.
"""

import re

import numpy as np
import pytest

from mplinalg.ops import Counters
from mplinalg.precision import BF16, FP16, FP16X2, FP32, TF32, get_format

from ..cupy_on_host.install import recorded
from .conformance import OpsConformance
from .cupy_backend import OnDevice, cupy, kernels, ops, put, stand_in
from .helpers import (
    DTYPES,
    LAYOUTS,
    allowed,
    cabs1,
    draw,
    exact_residual,
    is_small,
    omegas,
    op,
    same_bits,
    swapped,
    wide,
)
from .suite_residual import cancelling, sizes_of

__all__ = ["cupy", "kernels", "ops", "put", "stand_in"]  # fixtures


class TestCupyOps(OnDevice, OpsConformance):
    __init__ = object.__init__

    @pytest.fixture(autouse=True)
    def _backend(self, cupy, ops):
        self.cupy, self.ops = cupy, ops

    @pytest.mark.parametrize("trans", ["N", "T", "C"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_extended_residual_survives_cancellation(self, rng, dtype, layout, trans):
        """In single precision the plain one does too: all sums are in double precision."""
        if np.dtype(dtype).char in "dD":
            super().test_extended_residual_survives_cancellation(rng, dtype, layout, trans)
            return
        a, x, b = cancelling(rng, dtype)
        r = wide(exact_residual(a, x, b))
        bound = 30 * (2.0**-24 * cabs1(r) + 7 * 2.0**-48 * sizes_of(a, x, b))
        for extended in (False, True):
            found, _ = self.residual(op(a, trans), x, b, layout, trans=trans, extended=extended)
            assert is_small(cabs1(wide(found) - r), bound)


# -- products in low formats ---------------------------------------------------------------------


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("fmt", [FP16, BF16, TF32], ids=str)
def test_syrk_takes_half_of_the_flops(stand_in, ops, put, rng, fmt, lower):
    n, k = 1024, 4
    a, c = put(draw(rng, (n, k), "float32")), put(np.zeros((n, n), np.float32))
    with recorded() as ledger:
        ops.syrk(1.0, a.array, 0.0, c.array, lower=lower, compute=fmt)
    assert 0.5 < sum(ledger.flops.values()) / (2 * n * n * k) < 0.65


@pytest.mark.parametrize("name", ["fp16x2", "fp16"])
def test_complex_products_by_planes_take_bounded_memory(ops, put, rng, name, kernels, monkeypatch):
    """The same bits in blocks of rows as at once."""
    low = kernels["low"]
    x, y, z = (draw(rng, (23, 23), "complex64") for _ in range(3))
    found = []
    for size in (low._PLANES, 23 * 8 * 5):
        monkeypatch.setattr(low, "_PLANES", size)
        monkeypatch.setattr(low, "_launch_product", _unavailable)
        monkeypatch.setattr(low.fallbacks, "note", lambda reason: None)
        c = put(z, "C")
        ops.gemm(-1.0, put(x).array, put(y).array, 1.0, c.array, compute=get_format(name))
        found.append(c.host())
    assert same_bits(*found)


def _unavailable(*arguments):
    from mplinalg.kernels.cuda.loader import KernelUnavailable

    raise KernelUnavailable("taken away")


def test_counters_are_not_waited_for(stand_in, ops, put, rng):
    """A product, its scales and its counts stay on the device until they are read."""
    a, b, c = (put(draw(rng, (40, 40), "float32")).array for _ in range(3))
    counters = Counters()
    for fmt in (FP16, BF16, TF32, FP16X2):
        with recorded() as ledger:
            ops.gemm(-1.0, a, b, 1.0, c, compute=fmt, counters=counters)
        assert ledger.syncs == [], fmt
        assert ledger.to_host == []
    with recorded() as ledger:
        assert counters.overflows == 0
    assert ledger.to_host


# -- bounded buffers -----------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [3, 6])
@pytest.mark.parametrize("triangle", [None, "L", "U"])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_residuals_in_blocks(ops, put, rng, dtype, triangle, columns, kernels, monkeypatch):
    """A buffer of 8 rows gives what one of all rows gives."""
    a, x, b = (draw(rng, s, dtype) for s in [(37, 37), (37, columns), (37, columns)])
    found = []
    for size in (2**28, 1):
        monkeypatch.setattr(kernels["residual"], "_BUFFER", size)
        for layout in ("F", "C"):
            arrays = [put(a, layout).array, put(x).array, put(b).array]
            r, d = ops.residual(*arrays, trans="T", triangle=triangle)
            found.append((wide(r.get()), wide(d.get())))
            d = ops.magnitude(*arrays, trans="T", triangle=triangle)
            assert is_small(abs(d.get() - found[-1][1]), allowed(37, dtype) * found[-1][1])
    r, d = found[0]
    for other, size in found[1:]:
        assert is_small(cabs1(other - r), allowed(37, dtype) * d)
        assert is_small(abs(size - d), allowed(37, dtype) * d)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_interchanges_in_blocks_of_columns(ops, put, rng, dtype, layout, kernels, monkeypatch):
    monkeypatch.setattr(kernels["panels"], "_BUFFER", 300)
    x = draw(rng, (31, 23), dtype)
    piv = np.array([rng.integers(i, 31) for i in range(9)], np.int32)
    a = put(x, layout)
    ops.laswp(a.array, ops.xp.asarray(piv))
    assert same_bits(a.host(), swapped(x, piv))
    a.assert_rest_untouched()


def test_what_the_device_is_called(ops):
    assert re.fullmatch("[A-Za-z0-9-]+", ops.device)
    assert FP32 in ops.fast_formats
    ops.synchronize()


@pytest.mark.parametrize("nrhs", [1, 5, 17])
@pytest.mark.parametrize("order", ["C", "F"])
def test_solves_that_were_prepared(cupy, ops, rng, order, nrhs):
    n = 300
    x = draw(rng, (n, n), "float32")
    spd = np.asarray(wide(x) @ wide(x).T / n + np.eye(n), "float32")
    y = draw(rng, (n, nrhs), "float32")
    a = cupy.array(x, order=order)
    view = ops.getrf_view(a, FP16)
    v = view.get()
    piv, _ = ops.getrf(view)
    plan = ops.getrs_plan(view, piv)
    assert plan is not None
    for trans in ("N", "T"):
        b = cupy.array(y, order="F")
        ops.getrs(view, piv, b, trans=trans, plan=plan)
        assert is_small(omegas(op(v, trans), b.get(), y), allowed(n, "float32"))
    for lower in (True, False):
        c, b = cupy.array(spd, order="F"), cupy.array(y, order="F")
        ops.potrf(c, lower=lower)
        plan = ops.potrs_plan(c, lower=lower)
        assert plan is not None
        ops.potrs(c, b, lower=lower, plan=plan)
        assert is_small(omegas(spd, b.get(), y), allowed(n, "float32"))
    assert ops.getrs_plan(cupy.eye(n), cupy.arange(n, dtype=np.int32)) is None
