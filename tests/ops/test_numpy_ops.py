"""The CPU backend: the conformance suite, and what only this backend promises."""

import numpy as np
import pytest

from mplinalg.ops import Counters
from mplinalg.ops.numpy_ops import NumpyOps
from mplinalg.precision import FP16, FP16X2

from .conformance import DirectOpsConformance

OPS = NumpyOps()


class TestNumpyOps(DirectOpsConformance):
    ops = OPS

    @staticmethod
    def to_device(x):
        return np.array(x, order="K")

    @staticmethod
    def to_host(x):
        return np.asarray(x)


@pytest.mark.parametrize("fmt", [FP16, FP16X2], ids=str)
@pytest.mark.parametrize("largest", [1e-30, 1e-5, 1.0, 65504.0, 1e30])
def test_operands_are_scaled_to_a_tenth_of_the_range(fmt, largest):
    """The largest entry comes to lie in (3275, 6550.4], by a power of two.

    Which power shows in the smallest entry that is not lost: 2^-14 after scaling.
    """
    scale = 2.0 ** np.floor(np.log2(6550.4 / largest))
    for offset, underflows in [(0.0, 0), (2.0**-20, 1)]:
        a = np.array([[largest], [(2.0**-14 - offset) / scale]], np.float32)
        counters = Counters()
        OPS.gemm(
            1.0, a, np.ones((1, 1), np.float32), 0.0, np.zeros((2, 1), np.float32), compute=fmt,
            counters=counters,
        )  # fmt: skip
        assert (counters.overflows, counters.underflows) == (0, underflows)


@pytest.mark.parametrize("fmt", [FP16, FP16X2], ids=str)
def test_operands_of_zeros_are_left_alone(fmt):
    c, counters = np.ones((3, 2), np.float32), Counters()
    OPS.gemm(
        1.0, np.zeros((3, 4), np.float32), np.ones((4, 2), np.float32), 1.0, c, compute=fmt,
        counters=counters,
    )  # fmt: skip
    assert np.array_equal(c, np.ones((3, 2)))
    assert (counters.overflows, counters.underflows) == (0, 0)


def test_read_only_inputs_are_welcome():
    x = np.random.default_rng(0).standard_normal((7, 7))
    a, b = np.asfortranarray(x), np.asfortranarray(x[:, :3])
    for array in (a, b):
        array.flags.writeable = False
    r, _ = OPS.residual(a, b, b)
    assert np.array_equal(r, OPS.residual(a.copy("F"), b.copy("F"), b.copy("F"))[0])
    low = np.zeros((7, 7), np.float32, order="F")
    assert OPS.convert(a, low).overflows == 0
    assert np.array_equal(low, x.astype(np.float32))
    assert OPS.amax(a) == np.max(abs(x))


def test_strides_that_blas_cannot_express_are_refused():
    a = np.zeros((8, 8))[::2, ::2]
    for call in (OPS.amax, OPS.getrf, OPS.geqrf, lambda a: OPS.potrf(a, lower=True)):
        with pytest.raises(ValueError, match=r"\(4, 4\)"):
            call(a)


def test_copies_that_do_not_fit_are_refused():
    ops, a = NumpyOps(), np.ones((128, 64))
    with pytest.raises(ValueError, match="lacpy"):
        ops.lacpy(a, np.zeros((120, 60), order="F"))
    with pytest.raises(TypeError, match="lacpy"):
        ops.lacpy(a, np.zeros((128, 64), np.float32))
    places = np.arange(4)
    with pytest.raises(ValueError, match="copy_rows"):
        ops.copy_rows(a, places, np.zeros((8, 60)), places)
    with pytest.raises(ValueError, match="copy_rows"):
        ops.copy_rows(a, places, np.zeros((8, 64)), places[:3])
    for wrong in (places + 5, places - 1):
        with pytest.raises(IndexError, match="of 8"):
            ops.copy_rows(a, places, np.zeros((8, 64)), wrong)
