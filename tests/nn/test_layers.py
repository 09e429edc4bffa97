"""Layers on features, modules, sequences."""

import numpy as np
import pytest

from mplinalg.nn import (
    AvgPool2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    Parameter,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Tensor,
    cross_entropy,
    first_not_finite,
    no_grad,
    observed,
    precision_scope,
    product,
)
from mplinalg.nn.layers import Affine
from mplinalg.ops.array_nn import ArrayNn
from mplinalg.ops.numpy_nn import NumpyNn

from ..device import cupy  # noqa: F401  (a fixture)
from .differences import check_gradients


def net(dtype=np.float32):
    rng = np.random.default_rng(0)
    layers = Linear(6, 5, rng=rng, dtype=dtype), ReLU(), Linear(5, 4, rng=rng, dtype=dtype), ReLU()
    return Sequential(*layers, Linear(4, 3, rng=rng, dtype=dtype))


# -- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 4), (4,), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_linear(rng, shape, relu, bias):
    x, w, b = rng.standard_normal(shape), rng.standard_normal((3, 4)), rng.standard_normal(3)
    arrays = (x, w, b) if bias else (x, w)
    y = Affine(relu)(*map(Tensor, arrays)).data
    wanted = x @ w.T + (b if bias else 0)
    wanted = np.maximum(wanted, 0) if relu else wanted
    assert y.shape == wanted.shape
    assert np.allclose(y, wanted, rtol=0, atol=1e-14)
    check_gradients(lambda *t: Affine(relu)(*t), *arrays)


@pytest.mark.parametrize("layer", [ReLU(), Sigmoid(), Tanh(), Softmax(), Softmax(1), Flatten()])
def test_gradients_of_activations(layer, rng):
    check_gradients(layer, rng.standard_normal((2, 3, 4)))


def test_linear_multiplies_in_the_precision_of_the_scope(rng):
    layer = Linear(20, 10, rng=1)
    a = rng.standard_normal((7, 20)).astype(np.float32)
    for precision in ("fp16", "bf16"):
        x = Tensor(a, requires_grad=True)
        layer.zero_grad()
        with precision_scope(precision):
            y = layer(x)
        g = rng.standard_normal((7, 10)).astype(np.float32)
        y.backward(g)
        w = layer.weight
        assert y.dtype == w.grad.dtype == x.grad.dtype == np.float32
        wanted = product(a, w.data, transb=True, precision=precision) + layer.bias.data
        assert np.array_equal(y.data, wanted)
        assert np.array_equal(x.grad, product(g, w.data, precision=precision))
        assert np.array_equal(w.grad, product(g, a, transa=True, precision=precision))
        assert np.array_equal(layer.bias.grad, g.sum(axis=0))
        assert not np.array_equal(y.data, layer(x).data)


def test_the_gradient_of_the_data_is_not_computed():
    layer = Linear(3, 2)
    y = layer(np.ones((4, 3), np.float32))
    assert y.operation.needs == (False, True, True)


def test_softmax_of_large_numbers():
    assert Softmax()(np.array([[1e30, 0.0, 1e30]])).data.tolist() == [[0.5, 0, 0.5]]


def test_flatten():
    assert Flatten()(np.ones((2, 3, 4, 5))).shape == (2, 60)
    assert Flatten()(np.ones(4)).shape == (4, 1)
    assert Flatten()(np.ones((0, 3, 4))).shape == (0, 12)
    with pytest.raises(ValueError, match="Flatten"):
        Flatten()(1.0)


def test_dropout(rng):
    layer, again = Dropout(0.3, rng=5), Dropout(0.3, rng=5)
    x = Tensor(np.full((200, 500), 2.0, np.float32), requires_grad=True)
    y = layer(x)
    assert y.dtype == np.float32
    kept = np.float32(1 / 0.7)
    assert set(np.unique(y.data)) == {np.float32(0), 2 * kept}
    zeros = (y.data == 0).mean()
    assert abs(zeros - 0.3) <= 5 * np.sqrt(0.3 * 0.7 / x.size)
    y.sum().backward()
    assert np.array_equal(x.grad, y.data / 2)
    assert np.array_equal(again(x).data, y.data)
    assert not np.array_equal(again(x).data, y.data)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match=str(p)):
            Dropout(p)


def test_errors_name_the_layer_and_both_shapes():
    model = net()
    with pytest.raises(ValueError, match=r"layer 0, Linear\(6, 5\).* \(2, 7\), .* \(5, 6\)"):
        model(np.ones((2, 7), np.float32))
    with pytest.raises(ValueError, match=r"layer 1, Linear\(4, 3\).* \(2, 5\), .* \(3, 4\)"):
        Sequential(Linear(6, 5), Linear(4, 3))(np.ones((2, 6), np.float32))
    with pytest.raises(TypeError, match=r"layer 0, Linear\(6, 5\): input is float64, .* float32"):
        model(np.ones((2, 6)))
    with pytest.raises(ValueError, match=r"\(0, 3\)"):
        Linear(3, 0)
    with pytest.raises(TypeError, match="layer 1 is no module"):
        Sequential(Linear(3, 3), np.tanh)

    class Two(Module):
        def __init__(self):
            self.last = Linear(3, 2)

        def forward(self, x):
            return self.last(x)

    with pytest.raises(ValueError, match=r"layer last, Linear\(3, 2\)"):
        Two()(np.ones((1, 4), np.float32))
    with pytest.raises(NotImplementedError, match="Module"):
        Module()(1.0)


# -- modules -------------------------------------------------------------------------------------


class Shared(Module):
    """A module with lists, a shared layer, and a parameter of its own."""

    def __init__(self):
        self.scale = Parameter(np.array(2.0, np.float32), "scale")
        self.blocks = [Linear(3, 3, rng=0), Sequential(Linear(3, 3, rng=1), ReLU())]
        self.again = self.blocks[0]
        self.mode = "sum"

    def forward(self, x):
        for block in (*self.blocks, self.again):
            x = block(x)
        return x * self.scale


def test_names_of_parameters():
    module = Shared()
    names = [name for name, _ in module.named_parameters()]
    assert names == [
        "scale", "blocks.0.weight", "blocks.0.bias", "blocks.1.0.weight", "blocks.1.0.bias",
    ]  # fmt: skip
    assert len(module.parameters()) == 5
    assert {"again.weight", "again.bias"} <= module.state_dict().keys()


def test_shared_layers_have_one_gradient(rng):
    module = Shared().to(dtype=np.float64)
    x = rng.standard_normal((2, 3))
    module(x).sum().backward()
    w = module.again.weight
    grad = w.grad[1, 2]
    values = []
    for step in (2.0**-18, -(2.0**-18)):
        w.data[1, 2] += step
        values.append(module(x).data.sum())
        w.data[1, 2] -= step
    assert abs((values[0] - values[1]) * 2.0**17 - grad) <= 100 * 2.0**-36 * (1 + abs(grad))


def test_state_dict(rng):
    x = rng.standard_normal((4, 6)).astype(np.float32)
    first, second = net(), net()
    for parameter in second.parameters():
        parameter.data += 1
    kept = second.parameters()
    second.load_state_dict(first.state_dict())
    assert np.array_equal(first(x).data, second(x).data)
    assert kept[0] is second.layers[0].weight
    state = first.state_dict()
    state["0.weight"] += 1  # a copy
    assert np.array_equal(first(x).data, second(x).data)


def test_a_state_dict_that_does_not_fit_changes_nothing():
    model = net()
    before = model.state_dict()
    good = {name: value + 1 for name, value in before.items()}
    for change, message in (
        ({"2.weight": np.ones((4, 4))}, r"2.weight has shape \(4, 4\) .* \(4, 5\)"),
        ({"9.weight": np.ones(1)}, r"unknown \['9.weight'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            model.load_state_dict(good | change)
    del good["0.bias"]
    with pytest.raises(ValueError, match=r"without \['0.bias'\]"):
        model.load_state_dict(good)
    for name, value in model.state_dict().items():
        assert np.array_equal(value, before[name])


def test_training_mode_reaches_all_modules():
    model = Sequential(Sequential(Dropout()), Linear(2, 2))
    assert model.training
    assert model.eval() is model
    assert not model[0][0].training
    assert model.train()[0][0].training


def test_dtype_of_parameters():
    model = net().to(dtype=np.float64)
    assert all(p.dtype == np.float64 for p in model.parameters())
    assert Parameter([1, 2]).dtype == np.float32
    with pytest.raises(TypeError, match="float16"):
        model.to(dtype=np.float16)
    with pytest.raises(ValueError, match="cpu or cuda"):
        model.to("gpu")


def test_reprs():
    model = Sequential(Linear(2, 3, bias=False), Flatten(), Softmax(1), Dropout(0.25))
    assert repr(model) == (
        "Sequential(Linear(2, 3, bias=False), Flatten(), Softmax(axis=1), Dropout(0.25))"
    )
    assert len(model) == 4
    assert [type(layer).__name__ for layer in model][-1] == "Dropout"
    assert repr(model[0].weight) == "Parameter('weight', (3, 2), float32)"


# -- sequences -----------------------------------------------------------------------------------


def test_fused_layers_have_the_same_bits(rng):
    x = rng.standard_normal((9, 6)).astype(np.float32)
    grads = []
    for is_fused in (True, False):
        model = net()
        t = Tensor(x, requires_grad=True)
        y = model(t) if is_fused else t
        for layer in () if is_fused else model:
            y = layer(y)
        cross_entropy(y, np.arange(9) % 3).backward()
        grads.append([y.data, t.grad, *(p.grad for p in model.parameters())])
    for a, b in zip(*grads, strict=True):
        assert np.array_equal(a, b)


def test_layers_are_fused():
    y = net()(np.ones((1, 6), np.float32))
    names = []
    while y.operation is not None:
        names.append(type(y.operation).__name__)
        y = y.operation.inputs[0]
    assert names == ["Affine"] * 3


def test_subclasses_are_not_fused():
    class Half(Linear):
        def forward(self, x):
            return super().forward(x) * 0.5

    class Leaky(ReLU):
        def forward(self, x):
            return x.relu() - (-x).relu() * 0.1

    x = np.ones((1, 3), np.float32)
    half, linear = Half(3, 2, rng=0), Linear(3, 2, rng=0)
    assert np.array_equal(Sequential(half, ReLU())(x).data, half(x).relu().data)
    assert np.array_equal(Sequential(linear, Leaky())(x).data, Leaky()(linear(x)).data)


def test_observers_see_each_layer():
    seen = []

    def look(layer, x):
        y = layer.forward(x)
        seen.append((repr(layer), x.shape, y.shape))
        return y

    model = Sequential(Linear(3, 2), ReLU(), Sequential(Linear(2, 1)))
    with observed(look), no_grad():
        model(np.ones((5, 3), np.float32))
    model(np.ones((5, 3), np.float32))
    assert [entry[0] for entry in seen] == [
        "Linear(3, 2)", "ReLU()", "Linear(2, 1)", "Sequential(Linear(2, 1))", repr(model),
    ]  # fmt: skip
    assert seen[0][1:] == ((5, 3), (5, 2))


def test_first_layer_that_is_not_finite():
    model = Sequential(Linear(6, 5, rng=0), ReLU(), Sequential(Linear(5, 4, rng=1), Tanh()))
    x = np.ones((2, 6), np.float32)
    assert first_not_finite(model, x) is None
    inner = model[2][0].weight.data
    inner[1, 1] = np.nan
    assert first_not_finite(model, x) == "layer 2.0, Linear(5, 4)"
    model[0].weight.data[0, 0] = np.inf
    assert first_not_finite(model, x) == "layer 0, Linear(6, 5)"
    assert first_not_finite(model[0], x) == "Linear(6, 5)"
    x[1, 3] = np.nan
    assert first_not_finite(model, x) == "the input"


@pytest.mark.parametrize("precision", [None, "fp16", "bf16"])
def test_training_lowers_the_loss(precision, rng):
    x = rng.standard_normal((40, 6)).astype(np.float32)
    labels = (x[:, :3] @ np.ones(3, np.float32) > 0).astype(int) + (x[:, 5] > 0)
    model = net()
    losses = []
    for _ in range(200):
        with precision_scope(precision):
            loss = cross_entropy(model(x), labels)
        model.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            parameter.data -= 0.5 * parameter.grad
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


# -- devices -------------------------------------------------------------------------------------


def test_on_a_device(cupy, rng):  # noqa: F811
    x = rng.standard_normal((9, 6)).astype(np.float32)
    host, device = net(), net().to("cuda")
    device.load_state_dict(host.state_dict())  # from the host: asked for
    for precision in (None, "fp16"):
        grads = []
        for model, a in ((host, x), (device, cupy.asarray(x))):
            model.zero_grad()
            with precision_scope(precision):
                y = Softmax()(model(a).tanh())
            y.sum(axis=0).max().backward()
            grads.append([p.grad for p in model.parameters()])
        for a, b in zip(*grads, strict=True):
            assert isinstance(b, cupy.ndarray)
            assert np.allclose(a, b.get(), rtol=2.0**-14, atol=2.0**-18)
    assert all(isinstance(p.data, np.ndarray) for p in device.to("cpu").parameters())


def test_dropout_on_a_device(cupy):  # noqa: F811
    layers = Dropout(0.3, rng=5), Dropout(0.3, rng=5)
    x = Tensor(cupy.ones((100, 500), np.float32))
    first, second = (layer(x).data.get() for layer in layers)
    assert np.array_equal(first, second)
    zeros = first == 0
    third = layers[0](x).data.get() == 0
    deviation = np.sqrt(0.3 * 0.7 / zeros.size)
    assert abs(zeros.mean() - 0.3) <= 5 * deviation
    # independent of one another, of neighbours, and of the next call
    for other in (third, np.roll(zeros, 1), np.roll(zeros, 1, axis=0)):
        assert abs((zeros & other).mean() - 0.09) <= 5 * deviation


SHAPES = [(0, 3), (7, 1), (5, 130), (4, 3, 2, 5), (2, 1, 1, 1), (0, 2, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_biases_and_relu_in_one_pass(shape, dtype, rng):
    """Compiled and by slices of arrays: the same bits, NaN stays, y = 0 has no gradient."""
    y = rng.integers(-2, 3, shape).astype(dtype)
    b = rng.integers(-1, 2, shape[1]).astype(dtype)
    grad = rng.integers(-4, 5, shape).astype(dtype)  # sums of integers are exact
    if y.size > 9:
        y.flat[3] = np.nan
        grad.flat[4], y.flat[4] = np.inf, -9
    ours, other = NumpyNn(), ArrayNn(np)
    for relu in (False, True):
        found, expected = y.copy(), y.copy()
        ours.add_bias(found, b, relu)
        other.add_bias(expected, b, relu)
        np.testing.assert_array_equal(found, expected)
        like = found if relu else None
        for g in (grad, np.asfortranarray(grad)):
            before = g.copy()
            for one, two in zip(
                ours.bias_gradient(g, like), other.bias_gradient(g, like), strict=True
            ):
                np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(g, before)


@pytest.mark.parametrize("shape", [(200_000, 1), (200_000, 1, 1, 1)])
def test_gradients_of_biases_of_many_rows(shape):
    """Summed up one by one they would be wrong in the third digit."""
    grad = np.full(shape, 0.1, np.float32)
    _, db = NumpyNn().bias_gradient(grad, None)
    assert db == pytest.approx(len(grad) * float(np.float32(0.1)), rel=1e-4)


@pytest.mark.parametrize("layer", [MaxPool2d(3, 2, 1), AvgPool2d(2), Softmax(), Dropout(0.2)])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_])
def test_whole_numbers_are_not_rounded_to(layer, dtype):
    with pytest.raises(TypeError, match=f"{type(layer).__name__}.*: input is {np.dtype(dtype)}"):
        layer(np.ones((1, 1, 4, 4), dtype))


def test_whole_numbers_that_stay_what_they_are():
    x = np.arange(16, dtype=np.int8).reshape(1, 1, 4, 4) - 20
    np.testing.assert_array_equal(MaxPool2d(2)(x).data[0, 0], [[-15, -13], [-7, -5]])
    for layer in (Dropout(0.0), Dropout(0.5).eval()):
        np.testing.assert_array_equal(layer(x).data, x)


def test_a_class_whose_modules_do_not_train_at_first():
    class Still(Dropout):
        training = False

    layer = Still(0.5, rng=0)
    assert (layer(np.ones(50)).data == 1).all()
    assert (layer.train()(np.ones(50)).data != 1).all()


@pytest.mark.parametrize("sizes", [(3.0, 2), ("3", 2), (2, None), (True, 2), (-1, 2)])
def test_sizes_that_are_none(sizes):
    with pytest.raises((TypeError, ValueError), match="features_"):
        Linear(*sizes)
