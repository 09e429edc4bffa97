"""What tensors, operations, layers and losses refuse, and what they take care of."""

import re

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import Parameter, Tensor, cross_entropy, mse_loss
from mplinalg.nn.operations import Exp

from .models import is_same
from .ranks import on_ranks, well

# -- tensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ma.masked_array([1.0, 2.0], mask=[0, 1]), "masked arrays"),
        ([Tensor([1.0]), Tensor([2.0])], "a tensor is no array"),
        (None, "object arrays"),
        (["1", "2"], "numeric"),
    ],
)
def test_what_holds_no_numbers_is_no_tensor(data, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Tensor(data)
    with pytest.raises((TypeError, ValueError), match=message):
        Parameter(data)


def test_gradients_are_real():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"Multiply.*complex128"):
        x * np.array([1j, 2.0])
    with pytest.raises(TypeError, match="the gradient is complex128"):
        (2 * x).backward(np.array([1j, 1j]))
    assert x.grad is None
    with pytest.raises(TypeError, match="complex128"):
        Parameter([1j, 2.0])


@pytest.mark.parametrize("exponent", [1j, np.array([1, 2]), "2", None, Tensor(2.0)])
def test_exponents_are_real_numbers(exponent):
    with pytest.raises(TypeError, match="the exponent"):
        Tensor([1.0, 2.0], requires_grad=True) ** exponent


def test_exponents_of_numpy_keep_the_dtype():
    assert (Tensor(np.ones(2, np.float32)) ** np.float64(2)).dtype == np.float32


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
def test_axes_may_be_integers_of_numpy(reduce, rng):
    x = Tensor(rng.standard_normal((2, 3)), requires_grad=True)
    getattr(x, reduce)(axis=np.int64(1)).sum().backward()
    found, x.grad = x.grad, None
    getattr(x, reduce)(axis=1).sum().backward()
    assert (found == x.grad).all()


@pytest.mark.parametrize("other", [1.0, np.ones(2), Tensor([1.0, 2.0]), [1.0, 2.0], "x"])
def test_tensors_are_not_compared_by_what_they_are(other):
    """x * (x == 1) would be 0 if that were False."""
    x = Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"compare arrays.*\.data"):
        x == other  # noqa: B015
    with pytest.raises(TypeError, match=r"compare arrays.*\.data"):
        other != x  # noqa: B015
    assert x == x
    assert x != None  # noqa: E711
    assert len({x, x, Tensor([1.0, 2.0])}) == 2


def test_an_operation_is_called_once():
    x = Tensor([1.0], requires_grad=True)
    operation = Exp()
    y = operation(x)
    with pytest.raises(RuntimeError, match="Exp was called before"):
        operation(Tensor([2.0]))
    y.backward()
    assert x.grad == np.exp([1.0])


def test_results_that_were_changed_are_not_differentiated():
    def changed():
        y = Tensor([1.0], requires_grad=True).exp()  # which Exp needs
        y.data *= 2
        y.version += 1
        return y

    with pytest.raises(RuntimeError, match="was changed after Exp had computed it"):
        changed().sum().backward()
    with pytest.raises(RuntimeError, match="was changed after Exp had computed it"):
        changed().backward()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sigmoid_of_negative_numbers_has_all_its_digits(dtype):
    x = Tensor(np.array([-80.0, -16.0, -5.0, -1.0, 0.0, 1.0, 30.0], dtype), requires_grad=True)
    y = x.sigmoid()
    y.sum().backward()
    exact = 1 / (1 + np.exp(-x.data.astype(np.longdouble)))
    unit, least = np.finfo(dtype).eps, 1 / np.finfo(dtype).max  # where e^-x is too large
    assert y.dtype == dtype
    assert (abs(y.data - exact) <= 3 * unit * exact + least).all()
    assert (abs(x.grad - exact * (1 - exact)) <= 5 * unit * exact + least).all()


def test_sigmoid_of_whole_numbers():
    x = np.array([0, 1, 200], np.uint8)
    assert (Tensor(x).sigmoid().data == Tensor(x.astype(np.float64)).sigmoid().data).all()
    assert np.isnan(Tensor([np.nan]).sigmoid().data).all()


# -- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [int, np.float16, complex, np.longdouble, ">f4"])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: nn.Linear(2, 3, dtype=dtype),
        lambda dtype: nn.Conv2d(2, 3, 3, dtype=dtype),
        lambda dtype: nn.BatchNorm2d(2, dtype=dtype),
    ],
)
def test_parameters_of_layers_are_float32_or_float64(make, dtype):
    with pytest.raises(TypeError, match="parameters are float32 or float64; got"):
        make(dtype)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_layer_with_a_forward_of_its_own_is_not_fused(place):
    layers = nn.Conv2d(1, 6, 3, rng=0), nn.ReLU(), nn.MaxPool2d(2)
    seen = []

    def forward(x):
        seen.append(x.shape)
        return type(layers[place]).forward(layers[place], x)

    net, x = nn.Sequential(*layers), np.ones((2, 1, 8, 8), np.float32)
    expected = net(x).data
    layers[place].forward = forward
    assert np.array_equal(net(x).data, expected)
    assert len(seen) == 1


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.MaxPool2d(1), nn.Softmax(), nn.Flatten()])
def test_layers_take_real_arrays(layer):
    """The larger of two complex numbers is not what anybody means."""
    with pytest.raises(TypeError, match=rf"{re.escape(repr(layer))}: input .* complex128"):
        nn.Sequential(layer)[0](np.ones((1, 1, 2, 2)) * 1j)


def test_parameters_have_the_byte_order_of_the_machine():
    weight = Parameter(np.arange(3, dtype=">f8"))
    assert weight.dtype.isnative
    assert weight.dtype == np.float64
    assert weight.data.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "options",
    [{"eps": -1.0}, {"eps": np.nan}, {"momentum": 7}, {"momentum": None}, {"channels": 0}],
)
def test_options_of_batch_normalisation(options):
    (name,) = options
    with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
        nn.BatchNorm2d(**{"channels": 2, **options})


def test_batch_normalisation_keeps_the_statistics_that_it_used(rng):
    layer = nn.BatchNorm2d(2)
    x = rng.standard_normal((4, 2, 3, 3), np.float32)

    def gradient(meanwhile):
        layer.zero_grad()
        loss = (layer.eval()(x) * x).sum()
        meanwhile()
        loss.backward()
        return layer.weight.grad

    expected = gradient(lambda: None)
    assert (gradient(lambda: layer.train()(x + 100)) == expected).all()


@pytest.mark.parametrize(
    "change", [lambda a: a * 1j, lambda a: a.astype(str), lambda a: np.ma.masked_array(a, a > 0)]
)
def test_a_state_dict_of_other_than_real_numbers(change):
    layer = nn.Linear(3, 2, rng=0)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="bias"):
        layer.load_state_dict({**before, "bias": change(before["bias"])})
    assert (layer.bias.data == before["bias"]).all()


def test_counters_in_a_state_dict_are_whole():
    layer = nn.BatchNorm2d(2)
    state = {**layer.state_dict(), "num_batches_tracked": np.array(3.7)}
    with pytest.raises(ValueError, match=r"num_batches_tracked is float64 .* int64 here"):
        layer.load_state_dict(state)


# -- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [0, None, np.int64(1)])
def test_labels_that_are_no_vector(labels):
    with pytest.raises(ValueError, match=r"logits have shape \(1, 3\)|object arrays"):
        cross_entropy(Tensor(np.ones((1, 3))), labels)


def test_masked_labels():
    with pytest.raises(ValueError, match="masked arrays"):
        cross_entropy(Tensor(np.ones((2, 3))), np.ma.masked_array([0, 1], [0, 1]))


def test_losses_take_arrays():
    assert cross_entropy(np.zeros((1, 4)), [0]).item() == pytest.approx(np.log(4))
    assert mse_loss(np.zeros(2), [1.0, 1.0]).item() == 1


def test_losses_are_of_real_numbers():
    with pytest.raises(TypeError, match="real numbers; got complex128"):
        cross_entropy(Tensor(np.ones((1, 3)) * 1j), [0])
    with pytest.raises(TypeError, match="real numbers; got complex128 and float64"):
        mse_loss(Tensor([1j]), [1.0])
    with pytest.raises(TypeError, match="real numbers; got float64 and complex128"):
        mse_loss(Tensor([1.0]), [1j])


# -- models --------------------------------------------------------------------------------------


class Holding(nn.Module):
    def __init__(self, **values):
        self.inner = nn.Linear(3, 2, rng=0)
        for name, value in values.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    "value",
    [
        [Parameter([1.0])],
        {"a": Parameter([1.0])},
        {"a": nn.Linear(3, 2)},
        [[nn.Linear(3, 2)]],
        (None, {"b": [nn.Linear(3, 2)]}),
    ],
)
def test_parameters_where_nobody_would_train_them(value):
    net = nn.Sequential(Holding(kept=value))
    optimizer = nn.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"0\.kept of Holding.*neither trained nor saved"):
        nn.Model(net).compile(optimizer, "mse")


def test_parameters_that_are_listed_once_more():
    net = Holding()
    net.mine, net.named = list(net.inner.parameters()), {"inner": net.inner}
    nn.Model(net).compile(nn.optim.SGD(net.parameters(), lr=0.1), "mse")


@pytest.mark.parametrize(
    ("n", "batch_size", "size", "drop_last", "fits"),
    [
        (9, 4, 1, False, False), (9, 4, 1, True, True), (8, 4, 1, False, True),
        (8, 1, 1, True, False), (8, 4, 2, False, True), (8, 4, 3, False, False),
        (10, 4, 2, False, False), (9, 8, 3, True, True),
    ],
)  # fmt: skip
def test_batches_that_cannot_be_normalised_are_found_before_training(
    n, batch_size, size, drop_last, fits
):
    """One image of one position is one value a channel."""
    pytest.importorskip("safetensors")

    def work(comm):
        net = nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), nn.BatchNorm2d(2), nn.Flatten())
        model = nn.Model(net).compile(nn.optim.SGD(net.parameters(), lr=0.1), "mse")
        before = net.state_dict()
        x, y = np.ones((n, 1, 3, 3)), np.ones((n, 2))
        options = {"drop_last": drop_last, "comm": comm}
        if fits:
            assert model.fit(x, y, 1, batch_size, **options).rows
            return
        with pytest.raises(ValueError, match=r"BatchNorm2d\(2\): input has shape \(1, 2, 1, 1\)"):
            model.fit(x, y, 1, batch_size, **options)
        assert is_same(net.state_dict(), before)

    well(on_ranks(size, work)[0])


# -- schedules -----------------------------------------------------------------------------------


def test_rates_that_are_too_large_for_a_number():
    optimizer = nn.optim.GD([Parameter([1.0])], lr=1.0)
    for schedule in (nn.schedules.Exponential(1e200), nn.schedules.Step(1, 1e200)):
        schedule.apply(optimizer, 1)
        with pytest.raises(ValueError, match=r"lr must be a finite number .*got inf"):
            schedule.apply(optimizer, 2)
        assert optimizer.lr == 1e200
