"""Kernels that CuPy launches do the same as in the emulator: the stand-in runs them in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mplinalg.precision import get_format

from ..device import library
from . import (
    test_butterfly,
    test_convert,
    test_fragments,
    test_gemm,
    test_panel_lu_persistent,
    test_residual,
)
from .device_module import GUARD, DeviceModule
from .test_gemm import padded

BROKEN = Path(__file__).parent / "broken.cu"


@pytest.fixture
def cupy():
    with library("stand-in") as module:
        yield module


@pytest.fixture
def both(emulated, cupy):
    """both(file, action): what `action` returns of the file's kernels, here and there."""

    def results(file, action):
        return [action(module) for module in (emulated(file), DeviceModule(file, cupy))]

    return results


def assert_same_bits(found):
    for here, there in zip(*found, strict=True):
        assert (here.dtype, here.shape) == (there.dtype, there.shape)
        assert here.tobytes() == there.tobytes()


def test_conversion(both, rng):
    """Null pointers, sums and counts."""
    a = rng.standard_normal((7, 33)) * 10.0 ** rng.integers(-9, 9, (7, 33))

    def convert(module):
        target = np.empty(a.shape, np.float16)
        sums, lost = test_convert.launch(module, "double, half", a, target, get_format("fp16"))
        assert lost.all()
        return target, sums, lost

    assert_same_bits(both("convert.cu", convert))


def test_a_cooperative_panel(both, rng):
    a = padded(rng.standard_normal((90, 17)).astype(np.float32), 29, first=3)

    def factor(module):
        whole = a.base.copy()
        pivots, info = test_panel_lu_persistent.factor(module, whole[:, 3:20])
        assert (pivots != np.arange(17)).any()
        return whole, pivots, info

    assert_same_bits(both("panel_lu_persistent.cu", factor))


@pytest.mark.parametrize("name", test_gemm.TYPES)
def test_a_product_in_dynamic_shared_memory(both, rng, name):
    a, b, c = test_gemm.operands(rng, name, 70, 66, 37)

    def multiply(module):
        return (test_gemm.launch(module, name, 64, a, b, c.copy()),)

    assert_same_bits(both("gemm.cu", multiply))


@pytest.mark.parametrize("along", [False, True])
def test_residuals_of_padded_views(both, rng, along):
    """And arrays between launches."""
    whole, op, b, x = test_residual.data(rng, "D", 21, 45, along, 3)

    def launch(module):
        return test_residual.launch(module, whole, 45, b, x, along, len(op), extended=True)

    assert_same_bits(both("residual.cu", launch))


def test_arrays_that_share_memory(both, rng):
    """In place: two arguments are one array; and overlap, so that one starts within the other."""
    a, u = rng.standard_normal((44, 44)), test_butterfly.diagonals(rng, 44)
    groups = np.concatenate([u, u])

    def transform(module):
        x = a.copy()
        test_butterfly.transform(module, "double, double", x, x, groups[:11], groups[5:16])
        return (x,)

    found = both("butterfly.cu", transform)
    assert_same_bits(found)
    assert (found[0][0] != a).any()


def test_fragments_of_another_file(both):
    assert_same_bits(both(test_fragments.FILE, lambda module: [test_fragments.loaded(module)[0]]))


def test_entries_that_are_far_apart(both, cupy, rng, monkeypatch):
    """They are copied alone, with nothing between them."""
    monkeypatch.setattr(DeviceModule, "most_copied", 10_000)
    a, b, c = test_gemm.operands(rng, "half", 3, 3, 3)

    def multiply(module):
        far = padded(c, 5_000, first=2, fill=7)
        test_gemm.launch(module, "half", 64, padded(a, 9_000), padded(b, 9_000), far)
        return (far.base,)

    assert_same_bits(both("gemm.cu", multiply))


@pytest.mark.parametrize("limit", [None, 0], ids=["whole", "entries"])
@pytest.mark.parametrize(("first", "where"), [(32, "behind"), (-32, "before")])
def test_writes_beside_an_array_are_seen(cupy, monkeypatch, limit, first, where):
    if limit is not None:
        monkeypatch.setattr(DeviceModule, "most_copied", limit)
    text = 'extern "C" __global__ void write(float* x) { x[%d] = 1.0f; }'
    module = DeviceModule(test_fragments.FILE, cupy)
    module._raw = cupy.RawModule(code=text % first, options=("-std=c++17",))
    assert 4 * abs(first) < GUARD
    with pytest.raises(AssertionError, match=f"wrote {where}"):
        module["write"](1, 1, [np.zeros(32, np.float32)])


def test_what_is_not_launched(cupy):
    module = DeviceModule("panel_lu_persistent.cu", cupy)
    name = "panel_lu<16, 128, float>"
    with pytest.raises(ValueError, match="another way"):
        module[name](1, 64, [], cooperative=True)
    with pytest.raises(ValueError, match="another way"):
        module[name](1, 128, [])
    with pytest.raises(pytest.skip.Exception, match="holds 16 blocks at once, not 1000"):
        module[name](1000, 128, [], cooperative=True)
    assert name in module.names
    assert module.signature(name)[2] == "out:f4"
