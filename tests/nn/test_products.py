"""Products in every format against double precision."""

import numpy as np
import pytest

from mplinalg.nn import product
from mplinalg.precision import get_format

from ..device import cupy  # noqa: F401  (a fixture)

FLAGS = [(False, False), (True, False), (False, True), (True, True)]
SHAPES = [(1, 1, 1), (5, 7, 3), (17, 33, 2), (4, 1, 6), (3, 5, 1)]
FORMATS = [None, "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"]


def operands(rng, batch, m, k, n, transa, transb, dtype=np.float32):
    a = rng.standard_normal((*batch, k, m) if transa else (*batch, m, k)).astype(dtype)
    b = rng.standard_normal((*batch, n, k) if transb else (*batch, k, n)).astype(dtype)
    return a, b


def op(a, is_transposed):
    return a.swapaxes(-1, -2) if is_transposed else a


def bound(a, b, k, unit):
    """(2 u + k u32) |A||B| and some: roundings of the operands, and of the sum."""
    fp32 = 2.0**-24
    return (2 * unit + unit**2 + 2 * (k + 1) * fp32) * (abs(a) @ abs(b)) + 1e-30


@pytest.mark.parametrize("batch", [(), (3,)], ids=["matrix", "stack"])
@pytest.mark.parametrize(("transa", "transb"), FLAGS)
@pytest.mark.parametrize("precision", FORMATS)
def test_products_are_as_accurate_as_their_format(rng, precision, transa, transb, batch):
    for m, k, n in SHAPES:
        a, b = operands(rng, batch, m, k, n, transa, transb)
        c = product(a, b, transa=transa, transb=transb, precision=precision)
        assert c.dtype == (np.float64 if precision == "fp64" else np.float32)
        wide_a, wide_b = op(a.astype(np.float64), transa), op(b.astype(np.float64), transb)
        unit = get_format(precision or "fp32").unit_roundoff
        assert (abs(c - wide_a @ wide_b) <= bound(wide_a, wide_b, k, unit)).all()


def test_double_precision_is_kept(rng):
    a, b = operands(rng, (), 20, 30, 10, False, True, np.float64)
    c = product(a, b, transb=True)
    assert c.dtype == np.float64
    assert (abs(c - a @ b.T) <= 60 * 2.0**-53 * (abs(a) @ abs(b.T))).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_operands_are_rounded(rng, precision):
    fmt = get_format(precision)
    a, b = operands(rng, (), 9, 40, 8, False, False)
    c = product(a, b, precision=precision)
    exact = fmt.round(a).astype(np.float64) @ fmt.round(b)
    assert (abs(c - exact) <= bound(abs(a), abs(b), 40, 0.0)).all()
    assert abs(c - a.astype(np.float64) @ b).max() > 4 * abs(c - exact).max()


def test_fp16_takes_numbers_beyond_its_range():
    a, b = np.full((2, 3), 1e6, np.float32), np.full((3, 2), 1e-9, np.float32)
    c = product(a, b, precision="fp16")
    assert (abs(c - 3e-3) <= 3 * 2.0**-10 * 3e-3).all()


@pytest.mark.parametrize("precision", ["fp16", "fp16x2"])
@pytest.mark.parametrize("batch", [(), (1,)], ids=["matrix", "stack"])
def test_large_operands_whose_products_vanish(precision, batch):
    a = np.diag(np.float32([1e30, 0, 1e30])).reshape(*batch, 3, 3)
    b = np.diag(np.float32([0, 1e30, 2e-3])).reshape(*batch, 3, 3)
    c = product(a, b, precision=precision)
    # 2e-3 is too small beside 1e30 for one factor of them all
    np.testing.assert_array_equal(c, np.zeros((*batch, 3, 3)))


def test_double_operands_of_a_low_format_give_single(rng):
    a, b = operands(rng, (), 4, 5, 6, False, False, np.float64)
    c = product(a, b, precision="fp16")
    assert c.dtype == np.float32
    assert np.array_equal(c, product(a.astype(np.float32), b.astype(np.float32), precision="fp16"))


def test_half_and_integers_become_single(rng):
    a, b = operands(rng, (), 4, 5, 6, False, False, np.float16)
    assert product(a, b).dtype == np.float32
    assert product(np.ones((2, 2), np.int8), np.ones((2, 2), np.float32)).dtype == np.float32


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("precision", [None, "fp16"])
def test_empty(shape, precision):
    m, k, n = shape
    c = product(np.ones((m, k), np.float32), np.ones((k, n), np.float32), precision=precision)
    assert np.array_equal(c, np.zeros((m, n)))


def test_operands_are_kept(rng):
    a, b = operands(rng, (), 6, 6, 6, False, False)
    copies = a.copy(), b.copy()
    for precision in FORMATS:
        product(a[::-1], b[:, ::2], precision=precision)
    assert np.array_equal(a, copies[0])
    assert np.array_equal(b, copies[1])


def test_any_strides(rng):
    a = rng.standard_normal((8, 10)).astype(np.float32)
    b = np.broadcast_to(np.float32(2), (10, 4))
    for precision in (None, "fp16"):
        for x in (a, a[::-1], a[:, ::-1], a.T[:8].T[:, :8], np.asfortranarray(a)):
            y = b[: x.shape[1]]
            exact = x.astype(np.float64) @ y
            c = product(x, y, precision=precision)
            unit = get_format(precision or "fp32").unit_roundoff
            assert (abs(c - exact) <= bound(abs(x), y, 10, unit)).all()


def test_shapes_that_do_not_fit():
    a, b = np.ones((3, 4), np.float32), np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(3, 4\) do not fit"):
        product(a, b)
    with pytest.raises(ValueError, match=r"\(3, 4\) transposed and \(3, 4\) transposed do not"):
        product(a, b, transa=True, transb=True)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and \(3, 4, 4\)"):
        product(np.ones((2, 3, 4)), np.ones((3, 4, 4)))


def test_unknown_precision():
    with pytest.raises(ValueError, match="fp16, bf16"):
        product(np.ones((2, 2)), np.ones((2, 2)), precision="fp8")


def test_complex_operands():
    with pytest.raises(TypeError, match="complex128"):
        product(np.ones((2, 2)), np.ones((2, 2), complex))


@pytest.mark.parametrize("batch", [(), (3,)], ids=["matrix", "stack"])
@pytest.mark.parametrize("precision", [None, "fp16", "bf16"])
def test_on_a_device(cupy, rng, precision, batch):  # noqa: F811
    for transa, transb in FLAGS:
        a, b = operands(rng, batch, 17, 33, 9, transa, transb)
        c = product(
            cupy.asarray(a), cupy.asarray(b), transa=transa, transb=transb, precision=precision
        )
        assert isinstance(c, cupy.ndarray)
        wide_a, wide_b = op(a.astype(np.float64), transa), op(b.astype(np.float64), transb)
        unit = get_format(precision or "fp32").unit_roundoff
        assert (abs(c.get() - wide_a @ wide_b) <= bound(wide_a, wide_b, 33, unit)).all()
    with pytest.raises(TypeError, match="nothing is moved"):
        product(cupy.asarray(a), a, transa=True)
