"""The layer Conv2d. Its algorithms have tests of their own."""

import numpy as np
import pytest

from mplinalg.nn import (
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Tensor,
    convolution,
    cross_entropy,
    no_grad,
    precision_scope,
)
from mplinalg.nn.spatial import Convolution
from mplinalg.precision import get_format

from .differences import check_gradients

pytest.importorskip("mplinalg.nn.convolution")

SETTINGS = [((1, 1), (0, 0)), ((2, 1), (0, 1)), ((1, 2), (2, 0))]


def correlated(x, w, b, stride, padding):
    """By loops over the kernel."""
    (sh, sw), (ph, pw) = stride, padding
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    rows = (x.shape[2] - w.shape[2]) // sh + 1
    columns = (x.shape[3] - w.shape[3]) // sw + 1
    y = np.zeros((len(x), len(w), rows, columns)) + b[:, None, None]
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            part = x[:, :, i : i + rows * sh : sh, j : j + columns * sw : sw]
            y += np.einsum("ncij,oc->noij", part[:, :, :rows, :columns], w[:, :, i, j])
    return y


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("stride", "padding"), SETTINGS)
def test_values_and_gradients(stride, padding, relu, rng):
    x, w = rng.standard_normal((2, 2, 4, 5)), rng.standard_normal((3, 2, 3, 2))
    b = rng.standard_normal(3)
    options = {"stride": stride, "padding": padding, "algorithm": "auto"}
    y = Convolution(relu, options)(*map(Tensor, (x, w, b))).data
    wanted = correlated(x, w, b, stride, padding)
    assert np.allclose(y, np.maximum(wanted, 0) if relu else wanted, rtol=0, atol=1e-13)
    check_gradients(lambda *t: Convolution(relu, options)(*t), x, w, b)
    check_gradients(lambda *t: Convolution(relu, options)(*t), x, w)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_products_are_in_the_precision_of_the_scope(precision, rng):
    layer = Conv2d(4, 5, 3, padding=1, rng=0)
    x = Tensor(rng.standard_normal((2, 4, 6, 6)).astype(np.float32), requires_grad=True)
    y = layer(x)
    with precision_scope(precision):
        low = layer(x)
    assert low.dtype == np.float32
    unit = 2.0**-11 if precision == "fp16" else 2.0**-8
    size = Conv2d(4, 5, 3, padding=1)
    size.weight.data[...], size.bias.data[...] = abs(layer.weight.data), 0
    with no_grad():
        bound = 3 * unit * size(abs(x.data)).data
    assert (abs(low.data - y.data) <= bound).all()
    assert abs(low.data - y.data).max() > 2.0**-20
    low.sum().backward()
    assert layer.weight.grad.dtype == x.grad.dtype == np.float32


@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_precision_of_a_scope(precision, stride, rng):
    """Values and gradients within (2 u + (k + 2) u32) of the sums of |terms|, in double."""
    layer = Conv2d(4, 5, 3, stride, padding=1, bias=False, rng=0)
    x = Tensor(rng.standard_normal((2, 4, 6, 6)).astype(np.float32), requires_grad=True)
    with precision_scope(precision):
        y = layer(x)
    grad = rng.standard_normal(y.shape).astype(np.float32)
    y.backward(grad)
    assert y.dtype == (np.float64 if precision == "fp64" else np.float32)
    w, options = layer.weight, {"stride": stride, "padding": 1}
    wide = [a.astype(np.float64) for a in (x.data, w.data, grad)]
    exact, sums = (convolved(*arrays, options) for arrays in (wide, map(abs, wide)))
    unit = get_format(precision).unit_roundoff
    for found, wanted, total in zip((y.data, x.grad, w.grad), exact, sums, strict=True):
        assert (abs(found - wanted) <= (2.1 * unit + 100 * 2.0**-24) * total).all()


def convolved(x, w, grad, options):
    """y, dx and dw."""
    return (
        convolution.conv2d(x, w, algorithm="gemm", **options),
        convolution.conv2d_input_gradient(grad, w, x.shape, algorithm="gemm", **options),
        convolution.conv2d_weight_gradient(grad, x, w.shape, algorithm="gemm", **options),
    )


def test_weights_start_as_those_of_pytorch():
    """Uniform in +-1 / sqrt(fan_in)."""
    layer = Conv2d(6, 50, (3, 5), rng=5)
    for parameter in (layer.weight, layer.bias):
        bound = 1 / np.sqrt(90)
        assert 0.9 * bound <= abs(parameter.data).max() <= bound * (1 + 2.0**-23)


def lenet(rng):
    return Sequential(
        Conv2d(1, 4, 3, padding=1, rng=rng), ReLU(), MaxPool2d(2), Conv2d(4, 6, 3, rng=rng), ReLU(),
        Flatten(), Linear(24, 3, rng=rng),
    )  # fmt: skip


def test_fused_layers_have_the_same_bits(rng):
    x = rng.standard_normal((6, 1, 8, 8)).astype(np.float32)
    grads = []
    for is_fused in (True, False):
        model = lenet(np.random.default_rng(0))
        y = model(x) if is_fused else Tensor(x)
        for layer in () if is_fused else model:
            y = layer(y)
        cross_entropy(y, np.arange(6) % 3).backward()
        grads.append([y.data, *(p.grad for p in model.parameters())])
    for a, b in zip(*grads, strict=True):
        assert np.array_equal(a, b)


def test_sizes_are_any_integers():
    two = np.int64(2)
    assert repr(Conv2d(1, 2, two, two, (two, 1))) == "Conv2d(1, 2, 2, stride=2, padding=(2, 1))"
    assert repr(MaxPool2d(two)) == "MaxPool2d(2)"


def test_errors():
    x = np.ones((2, 3, 4, 4), np.float32)
    with pytest.raises(
        ValueError, match=r"layer 0, Conv2d\(2, 5, 3\): .* \(2, 3, 4, 4\), weight \(5, 2, 3, 3\)"
    ):
        Sequential(Conv2d(2, 5, 3))(x)
    with pytest.raises(ValueError, match=r"too small"):
        Conv2d(3, 5, (5, 1))(x)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        Conv2d(3, 5, 3)(x[..., 0])
    with pytest.raises(TypeError, match="input is float64"):
        Conv2d(3, 5, 3)(x.astype(np.float64))
    with pytest.raises(ValueError, match="padding must be an integer >= 0, or two of them"):
        Conv2d(3, 5, 3, padding=-1)
    with pytest.raises(ValueError, match="fft"):
        Conv2d(3, 5, 3, algorithm="fast")
    text = "Conv2d(3, 5, (3, 1), stride=2, padding=1, bias=False)"
    assert repr(Conv2d(3, 5, (3, 1), 2, 1, bias=False)) == text
