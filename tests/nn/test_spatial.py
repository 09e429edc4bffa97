"""Pooling and batch normalisation; the layer Conv2d is in test_conv2d.py."""

import numpy as np
import pytest

from mplinalg.nn import (
    AvgPool2d,
    BatchNorm2d,
    MaxPool2d,
    Module,
    Sequential,
    Tensor,
    first_not_finite,
)
from mplinalg.nn.spatial import Normalization

from ..device import cupy  # noqa: F401  (a fixture)
from .differences import check_gradients

WINDOWS = [
    (2,), (3,), (5,), (2, 1), (3, 2), ((2, 3), (1, 2)), (3, 2, 1), ((1, 2), 1, (0, 1)),
    (3, 1, (1, 0)),
]  # fmt: skip


def pooled(x, layer, reduce, padding):
    """By a loop over windows."""
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel, layer.stride, layer.padding
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=padding)
    rows = range(0, x.shape[2] - kh + 1, sh)
    columns = range(0, x.shape[3] - kw + 1, sw)
    return np.stack(
        [
            np.stack([reduce(x[:, :, i : i + kh, j : j + kw], axis=(2, 3)) for j in columns], -1)
            for i in rows
        ],
        -2,
    )


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("make", [MaxPool2d, AvgPool2d])
def test_pooling(make, window, rng):
    layer = make(*window)
    x = rng.standard_normal((2, 3, 5, 6)) - 3  # padding with 0 would be the largest
    wanted = (
        pooled(x, layer, np.max, -np.inf) if make is MaxPool2d else pooled(x, layer, np.mean, 0.0)
    )
    y = layer(x)
    assert y.shape == wanted.shape
    assert np.allclose(y.data, wanted, rtol=0, atol=1e-14)
    check_gradients(layer, x)


def test_the_first_of_equal_entries_has_the_gradient():
    x = Tensor(np.zeros((1, 1, 3, 3)), requires_grad=True)
    MaxPool2d(2, 1)(x).backward(np.array([[[[1.0, 2.0], [4.0, 8.0]]]]))
    assert x.grad.tolist() == [[[[1, 2, 0], [4, 8, 0], [0, 0, 0]]]]


def test_pooling_keeps_the_dtype():
    x = Tensor(np.ones((1, 1, 4, 4), np.float32), requires_grad=True)
    for layer in (MaxPool2d(2, padding=1), AvgPool2d(2, padding=1)):
        y = layer(x)
        y.sum().backward()
        assert y.dtype == x.grad.dtype == np.float32


def test_batch_normalisation_in_training(rng):
    layer = BatchNorm2d(3, dtype=np.float64)
    x = rng.standard_normal((4, 3, 2, 5)) * 3 + 2
    y = layer(x).data
    assert np.allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-14)
    assert np.allclose(y.var(axis=(0, 2, 3)), 1, atol=1e-5)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    assert np.allclose(layer.running_mean, 0.1 * mean, rtol=1e-14)
    assert np.allclose(layer.running_var, 0.9 + 0.1 * var, rtol=1e-14)
    assert layer.num_batches_tracked == 1
    arrays = x, rng.standard_normal(3), rng.standard_normal(3)
    check_gradients(lambda *t: Normalization(1e-5)(*t), *arrays)


def test_batch_normalisation_in_use(rng):
    layer = BatchNorm2d(3, dtype=np.float64).eval()
    layer.running_mean[:] = [1, 2, 3]
    layer.running_var[:] = [4, 9, 16]
    layer.weight.data[:] = [1, 2, 3]
    layer.bias.data[:] = [5, 6, 7]
    x = rng.standard_normal((2, 3, 2, 2))
    scale = np.array([1, 2, 3]) / np.sqrt(np.array([4, 9, 16]) + 1e-5)
    wanted = (x - np.array([1, 2, 3])[:, None, None]) * scale[:, None, None]
    wanted += np.array([5, 6, 7])[:, None, None]
    assert np.allclose(layer(x).data, wanted, rtol=0, atol=1e-13)
    assert layer.num_batches_tracked == 0
    check_gradients(layer, x)
    layer.zero_grad()
    layer(x).sum().backward()
    normalised = (wanted - layer.bias.data[:, None, None]) / layer.weight.data[:, None, None]
    assert np.allclose(layer.weight.grad, normalised.sum(axis=(0, 2, 3)), atol=1e-12)


def test_batches_of_large_mean():
    """The mean is taken off before anything is squared."""
    x = (4096 + np.arange(8).reshape(8, 1, 1, 1) / 8).astype(np.float32)
    y = BatchNorm2d(1)(x).data.ravel()
    wanted = (np.arange(8) - 3.5) / np.sqrt(np.arange(8).var() + 64e-5)
    assert np.allclose(y, wanted, rtol=2.0**-20)


def test_buffers_are_saved():
    layer = BatchNorm2d(2)
    layer(np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32))
    state = layer.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    other = BatchNorm2d(2)
    other.load_state_dict(state)
    assert np.array_equal(other.running_var, layer.running_var)
    assert other.num_batches_tracked == 1
    assert len(layer.parameters()) == 2


def test_looking_for_what_is_not_finite_keeps_the_buffers():
    class Sink(Module):
        def forward(self, x):
            return x * np.inf

    layer = BatchNorm2d(2)
    before = layer.state_dict()
    x = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    assert first_not_finite(Sequential(layer, Sink()), x) == "layer 1, Sink()"
    for name, value in layer.state_dict().items():
        assert np.array_equal(value, before[name])


def test_errors():
    x = np.ones((2, 3, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"layer 0, MaxPool2d\(2\): .* \(2, 3, 4\)"):
        Sequential(MaxPool2d(2))(x[..., 0])
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\), the kernel \(5, 5\): too small"):
        MaxPool2d(5)(x)
    with pytest.raises(ValueError, match=r"half a kernel"):
        AvgPool2d(2, padding=2)
    with pytest.raises(ValueError, match="stride must be an integer >= 1, or two of them; got 0"):
        AvgPool2d(2, 0)
    with pytest.raises(ValueError, match="kernel must be an integer >= 1, or two of them"):
        MaxPool2d((2, 2, 2))
    with pytest.raises(ValueError, match=r"BatchNorm2d\(5\): .* \(2, 3, 4, 4\), weight \(5,\)"):
        BatchNorm2d(5)(x)
    with pytest.raises(ValueError, match=r"\(1, 3, 1, 1\): fewer than two values"):
        BatchNorm2d(3)(x[:1, :, :1, :1])
    assert repr(AvgPool2d(3, (2, 1), 1)) == "AvgPool2d(3, stride=(2, 1), padding=1)"


def test_on_a_device(cupy, rng):  # noqa: F811
    x = rng.standard_normal((2, 3, 5, 5)).astype(np.float32)
    results = []
    for a in (x, cupy.asarray(x)):
        model = Sequential(MaxPool2d(2, 1, 1), AvgPool2d(2, padding=1), BatchNorm2d(3))
        if a is not x:
            model.to("cuda")
        t = Tensor(a, requires_grad=True)
        y = model(t)
        (y * y * y).sum().backward()
        values = y.data, t.grad, model[2].weight.grad, model[2].running_var, model.eval()(a).data
        assert all(isinstance(v, type(a)) for v in values)
        results.append([v if a is x else v.get() for v in values])
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, rtol=2.0**-14, atol=2.0**-14)
