"""Convolutions of many small images, and those that are pooled at once."""

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import pooled
from mplinalg.nn.convolution import conv2d
from mplinalg.ops import numpy_nn_interleaved as interleaved
from mplinalg.ops.numpy_batched_common import rounded
from mplinalg.ops.numpy_nn import _rounded
from mplinalg.precision import get_format

from .differences import check_gradients
from .images import check_all

CASES = [  # images, channels, size, filters, kernel, padding
    (16, 1, (9, 7), 1, (2, 1), (0, 0)),
    (40, 6, (14, 14), 16, (5, 5), (0, 0)),
    (30, 3, (8, 11), 9, (3, 2), (2, 1)),
    (16, 2, (9, 23), 7, (7, 9), (3, 4)),
    (15, 2, (5, 5), 3, (5, 5), (4, 6)),
    (32, 2, (4, 6), 3, (2, 3), (5, 0)),
    (100, 1, (28, 28), 6, (5, 5), (2, 2)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_definition(case, dtype, rng):
    n, c, size, o, kernel, padding = case
    x = rng.standard_normal((n, c, *size)).astype(dtype)
    w = rng.standard_normal((o, c, *kernel)).astype(dtype)
    assert interleaved.takes(x.shape, w.shape, padding, x.itemsize)
    check_all("direct", x, w, (1, 1), padding)


def test_few_or_large_images_are_not_interleaved():
    assert not interleaved.takes((11, 1, 8, 8), (4, 1, 3, 3), (0, 0), 4)
    assert interleaved.takes((12, 1, 8, 8), (4, 1, 3, 3), (0, 0), 4)
    assert not interleaved.takes((12, 1, 8, 9), (4, 1, 3, 3), (0, 0), 4)  # 7 of 9 are outputs
    assert not interleaved.takes((16, 1, 8, 8), (4, 1, 1, 1), (0, 0), 4)
    assert not interleaved.takes((0, 1, 8, 8), (4, 1, 3, 3), (0, 0), 4)
    assert not interleaved.takes((16, 64, 28, 28), (64, 64, 3, 3), (1, 1), 4)


def test_the_number_of_threads_changes_nothing(rng):
    import threadpoolctl

    x = rng.standard_normal((100, 6, 14, 14)).astype(np.float32)
    found = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            found.append(trained(net(np.float32, 6), nn.Tensor(x, requires_grad=True)))
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


def net(dtype, channels, window=2, padding=1):
    layer = nn.Conv2d(channels, 5, (3, 4), padding=padding, rng=3, dtype=dtype)
    return nn.Sequential(layer, nn.ReLU(), nn.MaxPool2d(window))


def trained(layers, x, is_one=True):
    """y, dx, dw and db."""
    y = x
    if is_one:
        y = layers(x)
    else:
        for layer in layers:
            y = layer(y)
    x.grad = layers[0].weight.grad = layers[0].bias.grad = None
    y.backward(np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape))
    return [y.data, x.grad, layers[0].weight.grad, layers[0].bias.grad]


@pytest.mark.parametrize("window", [1, 2, 3, (2, 1), (1, 3), (11, 10)], ids=str)
@pytest.mark.parametrize("count", [13, 16, 30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pooled_at_once_has_the_same_bits(dtype, count, window, rng, monkeypatch):
    made = []
    monkeypatch.setattr(
        pooled.PooledConvolution, "__init__",
        lambda self, *sizes, old=pooled.PooledConvolution.__init__: made.append(old(self, *sizes)),
    )  # fmt: skip
    layers = net(dtype, 2, window)
    # few different numbers: equal ones in a window
    x = nn.Tensor(rng.integers(-1, 2, (count, 2, 11, 11)).astype(dtype), requires_grad=True)
    *found, db = trained(layers, x)
    *expected, other = trained(layers, x, is_one=False)
    assert len(made) == 1
    for one, two in zip(found, expected, strict=True):
        assert one.flags.c_contiguous
        np.testing.assert_array_equal(one, two)
    n, _, rows, columns = found[0].shape  # terms of at most 1, added up one after the other
    bound = np.finfo(dtype).eps * n * rows * columns * (rows * columns + n)
    assert np.abs(db - other).max() <= bound


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_scaling_by_products_is_exact(name, rng):
    """Large and small images, zeros, what is not finite: as by ldexp, which rounds once."""
    x = rng.standard_normal((9, 2, 3, 3)).astype(np.float32)
    x *= np.float32(2.0) ** np.array([0, 20, -30, 120, -120, -126, -140, 0, 0])[:, None, None, None]
    x[0] = 0
    x[7, 0, 0, 0], x[8, 1, 1, 1] = np.nan, -np.inf
    for some in (x, x[:5], x[:3]):  # powers that are normal numbers, and others
        fmt = get_format(name)
        found, power = _rounded(some, fmt, len(some))
        (expected,) = rounded(some, power.astype(np.int64), fmt, np.dtype(np.float32))
        np.testing.assert_array_equal(found, expected)
        if name == "fp16":
            top = np.abs(np.where(np.isfinite(found), found, 0)).max(axis=(1, 2, 3))
            assert all((t == 0) or 2**11 <= t <= 2**12 for t in top)


def test_gradients_by_differences(rng):
    layers = net(np.float64, 2)
    x, w, b = (
        rng.standard_normal(shape) for shape in ((8, 2, 5, 5), layers[0].weight.shape, (5,))
    )  # fmt: skip
    check_gradients(lambda *t: pooled.PooledConvolution((1, 1), (2, 2))(*t), x, w, b)


def test_nan_is_the_largest(rng):
    layers = net(np.float32, 1, padding=0)
    x = rng.standard_normal((16, 1, 8, 9)).astype(np.float32)
    x[3, 0, 2, 2], x[5, 0, 7, 8] = np.nan, np.inf
    y = layers(x).data
    expected = np.maximum(conv2d(x, layers[0].weight.data) + layers[0].bias.data[:, None, None], 0)
    expected = expected.reshape(16, 5, 3, 2, 3, 2).max(axis=(3, 5))
    np.testing.assert_array_equal(y, expected)
    assert np.isnan(y[3]).any()
    assert not np.isnan(y[[0, 1, 2, 4]]).any()


def test_what_is_not_pooled_at_once(rng, monkeypatch):
    """Windows that overlap, strides, no bias, a precision, few images, other algorithms."""
    monkeypatch.setattr(pooled.PooledConvolution, "forward", None)
    x = rng.standard_normal((16, 2, 9, 9)).astype(np.float32)
    for conv, pool in (
        ({}, (3, 2)), ({}, (2, 2, 1)), ({"stride": 2}, (2,)), ({"bias": False}, (2,)),
        ({"algorithm": "gemm"}, (2,)), ({"padding": 3}, (2,)), ({}, ((16, 16), 16, 8)),
    ):  # fmt: skip
        layers = nn.Sequential(nn.Conv2d(2, 3, 3, **conv, rng=0), nn.ReLU(), nn.MaxPool2d(*pool))
        y = layers(x)
        assert np.array_equal(y.data, layers[2](layers[1](layers[0](x))).data)
    layers = nn.Sequential(nn.Conv2d(2, 3, 3, rng=0), nn.ReLU(), nn.MaxPool2d(2))
    assert layers(x[:5]).shape == (5, 3, 3, 3)
    assert layers(x[:0]).shape == (0, 3, 3, 3)
    with nn.precision_scope("bf16"):
        assert layers(x).shape == (16, 3, 3, 3)
    with pytest.raises(ValueError, match="too small"):
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(8))(x)


def test_layouts(rng):
    """Fortran order, strides and read-only arrays, also of the gradient."""
    layers = net(np.float64, 2)
    plain = rng.standard_normal((16, 2, 8, 8))
    expected = layers(plain).data
    wide = np.zeros((32, 2, 8, 16))
    wide[::2, :, :, ::-2] = plain
    for x in (np.asfortranarray(plain), wide[::2, :, :, ::-2], np.broadcast_to(plain, plain.shape)):
        y = layers(x)
        assert np.array_equal(y.data, expected)
        y.sum().backward()
