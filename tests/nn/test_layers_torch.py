"""Layers, losses and state dicts against PyTorch's."""

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn.spatial import Convolution

torch = pytest.importorskip("torch")

BOUND = 1e-10
FLAT = {
    "Linear": (lambda: nn.Linear(4, 3), lambda: torch.nn.Linear(4, 3), (5, 4)),
    "Linear without bias": (
        lambda: nn.Linear(4, 3, bias=False), lambda: torch.nn.Linear(4, 3, bias=False), (5, 4),
    ),
    "Linear of three axes": (lambda: nn.Linear(4, 3), lambda: torch.nn.Linear(4, 3), (2, 5, 4)),
    "ReLU": (nn.ReLU, torch.nn.ReLU, (5, 4)),
    "Sigmoid": (nn.Sigmoid, torch.nn.Sigmoid, (5, 4)),
    "Tanh": (nn.Tanh, torch.nn.Tanh, (5, 4)),
    "Softmax": (nn.Softmax, lambda: torch.nn.Softmax(-1), (5, 4)),
    "Softmax of axis 1": (lambda: nn.Softmax(1), lambda: torch.nn.Softmax(1), (2, 3, 4)),
    "Flatten": (nn.Flatten, torch.nn.Flatten, (2, 3, 4)),
}  # fmt: skip
IMAGES = {
    "MaxPool2d": ((2,), torch.nn.MaxPool2d, nn.MaxPool2d),
    "MaxPool2d with overlap": ((3, 2, 1), torch.nn.MaxPool2d, nn.MaxPool2d),
    "MaxPool2d oblong": (((2, 3), (1, 2), (1, 0)), torch.nn.MaxPool2d, nn.MaxPool2d),
    "AvgPool2d": ((2,), torch.nn.AvgPool2d, nn.AvgPool2d),
    "AvgPool2d with overlap": ((3, 2, 1), torch.nn.AvgPool2d, nn.AvgPool2d),
    "AvgPool2d oblong": (((2, 3), (1, 2), (1, 0)), torch.nn.AvgPool2d, nn.AvgPool2d),
    "BatchNorm2d": ((3,), torch.nn.BatchNorm2d, nn.BatchNorm2d),
    "BatchNorm2d, settings": ((3, 1e-3, 0.3), torch.nn.BatchNorm2d, nn.BatchNorm2d),
}
CONVOLUTIONS = [
    ((3, 4, 3), {}), ((3, 4, 3), {"padding": 1}), ((3, 2, 5), {"stride": 2, "padding": 2}),
    ((3, 4, (1, 3)), {"stride": (2, 1), "padding": (0, 1), "bias": False}),
]  # fmt: skip


def close(a, b):
    b = b.detach().numpy()
    assert a.shape == b.shape
    assert np.allclose(a, b, rtol=BOUND, atol=BOUND)


def compare(ours, theirs, x, rng):
    """With the weights of PyTorch's: values, gradients, and state afterwards."""
    ours.to(dtype=np.float64)
    theirs.double()
    ours.load_state_dict(theirs.state_dict())
    a = nn.Tensor(x.copy(), requires_grad=True)
    b = torch.tensor(x, requires_grad=True)
    u, v = ours(a), theirs(b)
    close(u.data, v)
    g = rng.standard_normal(u.shape)
    u.backward(g)
    v.backward(torch.tensor(g))
    close(a.grad, b.grad)
    gradients = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        close(gradients[name].grad, parameter.grad)
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        close(state[name], value)
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})


@pytest.mark.parametrize("name", FLAT)
def test_layers_on_features(name, rng):
    ours, theirs, shape = FLAT[name]
    compare(ours(), theirs(), rng.standard_normal(shape), rng)


@pytest.mark.parametrize("name", IMAGES)
def test_layers_on_images(name, rng):
    arguments, theirs, ours = IMAGES[name]
    x = rng.standard_normal((2, 3, 6, 7))
    compare(ours(*arguments), theirs(*arguments), x, rng)
    compare(ours(*arguments).eval(), theirs(*arguments).eval(), x, rng)


@pytest.mark.parametrize(("arguments", "options"), CONVOLUTIONS)
def test_convolutions(arguments, options, rng):
    pytest.importorskip("mplinalg.nn.convolution")
    ours, theirs = nn.Conv2d(*arguments, **options), torch.nn.Conv2d(*arguments, **options)
    compare(ours, theirs, rng.standard_normal((2, 3, 7, 8)), rng)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_cross_entropy(dtype, rng):
    z, labels = 5 * rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    a, b = nn.Tensor(z, requires_grad=True), torch.tensor(z, requires_grad=True)
    ours = nn.cross_entropy(a, labels.astype(dtype))
    theirs = torch.nn.functional.cross_entropy(b, torch.tensor(labels))
    close(ours.data, theirs)
    ours.backward(np.array(3.0))
    theirs.backward(torch.tensor(3.0, dtype=torch.float64))
    close(a.grad, b.grad)


def test_mse_loss(rng):
    x, y = rng.standard_normal((2, 5, 3))
    a, b = ([make(v) for v in (x, y)] for make in (
        lambda v: nn.Tensor(v, requires_grad=True), lambda v: torch.tensor(v, requires_grad=True),
    ))  # fmt: skip
    ours, theirs = nn.mse_loss(*a), torch.nn.functional.mse_loss(*b)
    close(ours.data, theirs)
    ours.backward()
    theirs.backward()
    for one, other in zip(a, b, strict=True):
        close(one.grad, other.grad)


def networks(dtype):
    rng = np.random.default_rng(0)
    ours = nn.Sequential(
        nn.Linear(8, 16, rng=rng), nn.ReLU(), nn.Linear(16, 12, rng=rng), nn.Tanh(),
        nn.Linear(12, 4, rng=rng),
    )  # fmt: skip
    theirs = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 12), torch.nn.Tanh(),
        torch.nn.Linear(12, 4),
    ).to(torch.float64)  # fmt: skip
    ours.to(dtype=dtype)
    theirs.load_state_dict({n: torch.from_numpy(v) for n, v in ours.state_dict().items()})
    return ours, theirs


def train(ours, theirs, steps, rng):
    """Gradient descent with one rate and the same batches; returns both sets of weights."""
    x, labels = rng.standard_normal((32, 8)), rng.integers(0, 4, 32)
    dtype = ours[0].weight.dtype
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.1)
    for _ in range(steps):
        ours.zero_grad()
        nn.cross_entropy(ours(x.astype(dtype)), labels).backward()
        for parameter in ours.parameters():
            parameter.data -= 0.1 * parameter.grad
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels)).backward()
        optimiser.step()
    return ours.state_dict(), {n: v.numpy() for n, v in theirs.state_dict().items()}


def test_the_same_weights_after_training(rng):
    ours, theirs = train(*networks(np.float64), 60, rng)
    for name, value in ours.items():
        assert np.allclose(value, theirs[name], rtol=0, atol=1e-12), name


def test_single_precision_follows_double(rng):
    ours, theirs = train(*networks(np.float32), 60, rng)
    for name, value in ours.items():
        assert value.dtype == np.float32
        # 60 steps, each with a relative error of the gradient of some tens of u
        assert np.allclose(value, theirs[name], rtol=0, atol=60 * 32 * 2.0**-24), name


def test_fused_convolution_and_relu(rng):
    pytest.importorskip("mplinalg.nn.convolution")
    x, w, b = (rng.standard_normal(s) for s in ((2, 3, 5, 5), (4, 3, 3, 3), (4,)))
    a = [nn.Tensor(v, requires_grad=True) for v in (x, w, b)]
    c = [torch.tensor(v, requires_grad=True) for v in (x, w, b)]
    options = {"stride": (1, 1), "padding": (1, 1), "algorithm": "auto"}
    u, v = Convolution(True, options)(*a), torch.nn.functional.conv2d(*c, padding=1).relu()
    close(u.data, v)
    g = rng.standard_normal(u.shape)
    u.backward(g)
    v.backward(torch.tensor(g))
    for one, other in zip(a, c, strict=True):
        close(one.grad, other.grad)
