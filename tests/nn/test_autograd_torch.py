"""Gradients against PyTorch's, in double precision."""

import numpy as np
import pytest

from mplinalg.nn import Tensor, concatenate

torch = pytest.importorskip("torch")

BOUND = 1e-10

# The two libraries have one notation for these.
ONE = {
    "negative": lambda x: -x,
    "exp": lambda x: x.exp(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "relu": lambda x: x.relu(),
    "abs": lambda x: x.abs(),
    "power": lambda x: x**3,
    "sum": lambda x: x.sum(),
    "sum of axes": lambda x: x.sum((0, 2)),
    "mean": lambda x: x.mean(),
    "mean of an axis": lambda x: x.mean(1),
    "max": lambda x: x.max(),
    "min": lambda x: x.min(),
    "reshape": lambda x: x.reshape(4, -1),
    "index": lambda x: x[:, 1, ::2],
    "fancy index": lambda x: x[[0, 1, 0], [2, 1, 2]],
    "scalars": lambda x: 2.0 / (x * x + 1.0) - 3.0 * x + (1.0 - x) / 4.0,
}
POSITIVE = {
    "log": lambda x: x.log(),
    "sqrt": lambda x: x.sqrt(),
    "power 1.5": lambda x: x**1.5,
    "power -1": lambda x: x**-1,
}
TWO = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "both twice": lambda x, y: (x * y + x) / (y * y + 1.0) - y,
}
SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1, 3), (4, 1)), ((), (2,))]
PRODUCTS = [
    ((2, 3), (3, 4)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((2, 2, 3), (2, 3, 2)),
    ((2, 1, 2, 3), (3, 3, 1)), ((2, 3), (2, 3, 2)),
]  # fmt: skip


def compare(ours, theirs, *arrays, rng):
    x = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    y = [torch.tensor(a, requires_grad=True) for a in arrays]
    u, v = ours(*x), theirs(*y)
    assert u.shape == tuple(v.shape)
    assert np.allclose(u.data, v.detach().numpy(), rtol=BOUND, atol=BOUND)
    g = rng.standard_normal(u.shape)
    u.backward(g)
    v.backward(torch.tensor(g))
    for a, b in zip(x, y, strict=True):
        assert np.allclose(a.grad, b.grad.numpy(), rtol=BOUND, atol=BOUND)


@pytest.mark.parametrize("name", ONE)
def test_one_argument(name, rng):
    compare(ONE[name], ONE[name], rng.standard_normal((2, 3, 4)), rng=rng)


@pytest.mark.parametrize("name", POSITIVE)
def test_a_positive_argument(name, rng):
    compare(POSITIVE[name], POSITIVE[name], rng.uniform(0.1, 3, (2, 3)), rng=rng)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", TWO)
def test_two_arguments(name, shapes, rng):
    compare(TWO[name], TWO[name], *map(rng.standard_normal, shapes), rng=rng)


@pytest.mark.parametrize("shapes", PRODUCTS)
def test_products(shapes, rng):
    compare(lambda a, b: a @ b, lambda a, b: a @ b, *map(rng.standard_normal, shapes), rng=rng)


def test_functions_that_are_spelled_differently(rng):
    x = rng.standard_normal((2, 3, 4))
    compare(lambda a: a.max(axis=(0, 1)), lambda a: a.amax(dim=(0, 1)), x, rng=rng)
    compare(lambda a: a.transpose(2, 0, 1), lambda a: a.permute(2, 0, 1), x, rng=rng)
    compare(
        lambda a, b: concatenate([a, b], axis=1), lambda a, b: torch.cat([a, b], dim=1),
        x, x[:, :2] * 2, rng=rng,
    )  # fmt: skip


def test_equal_maxima(rng):
    x = rng.integers(0, 3, (4, 6)).astype(float)
    compare(lambda a: a.max(), lambda a: a.max(), x, rng=rng)
    compare(lambda a: a.max(axis=1), lambda a: a.amax(dim=1), x, rng=rng)


def test_a_node_with_many_consumers(rng):
    def f(x):
        y = x * x
        z = (y + x).tanh()
        return (y * z + z * z.exp() + x).sum() + (z * y).mean()

    compare(f, f, rng.standard_normal((3, 4)), rng=rng)
