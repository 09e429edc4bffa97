"""The graph: gradients by finite differences, order, memory."""

import gc
import weakref

import numpy as np
import pytest

from mplinalg.nn import (
    Operation,
    Tensor,
    concatenate,
    no_grad,
)

from ..device import cupy  # noqa: F401  (a fixture)
from .differences import check_gradients

# -- gradients -----------------------------------------------------------------------------------

UNARY = {
    "negative": lambda x: -x,
    "exp": lambda x: x.exp(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "relu": lambda x: x.relu(),
    "abs": lambda x: x.abs(),
    "square": lambda x: x**2,
    "power 0": lambda x: x**0,
    "power 1": lambda x: x**1,
    "sum": lambda x: x.sum(),
    "sum of axis 0": lambda x: x.sum(axis=0),
    "sum of axis -1": lambda x: x.sum(axis=-1),
    "sum of axes": lambda x: x.sum(axis=(0, 2)),
    "sum that keeps axes": lambda x: x.sum(axis=(1, -1), keepdims=True),
    "mean": lambda x: x.mean(),
    "mean of axes": lambda x: x.mean(axis=(0, -1)),
    "mean that keeps axes": lambda x: x.mean(axis=1, keepdims=True),
    "max": lambda x: x.max(),
    "max of axis": lambda x: x.max(axis=1),
    "max that keeps axes": lambda x: x.max(axis=(0, 1), keepdims=True),
    "min of axis": lambda x: x.min(axis=-1),
    "reshape": lambda x: x.reshape(4, -1),
    "reshape to a tuple": lambda x: x.reshape((2, 12)),
    "T": lambda x: x.T,
    "transpose": lambda x: x.transpose(1, -1, 0),
    "index": lambda x: x[1],
    "slice": lambda x: x[:, ::2, -1],
    "new axis": lambda x: x[..., None, 0],
    "fancy index": lambda x: x[[0, 1, 0], [2, 1, 2]],
    "mask": lambda x: x[x.data > 0],
    "chain": lambda x: ((x * 2.0 - 1.0).tanh() / 3.0 + 1.0 / (x * x + 2.0)).sum(axis=1),
}
POSITIVE = {
    "log": lambda x: x.log(),
    "sqrt": lambda x: x.sqrt(),
    "power 1.5": lambda x: x**1.5,
    "power -2": lambda x: x**-2,
    "reciprocal": lambda x: 1 / x,
}
BINARY = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / (y * y + 1.0),
}
BROADCASTS = [
    ((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((), (2, 2)),
    ((2, 1, 3), (4, 1)), ((1,), (1, 1)), ((0, 3), (3,)),
]  # fmt: skip
PRODUCTS = [
    ((2, 3), (3, 4)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((2, 2, 3), (2, 3, 2)),
    ((2, 2, 3), (3, 2)), ((2, 3), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 1)), ((3,), (2, 3, 2)),
    ((0, 3), (3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_gradients_of_one_argument(name, rng):
    check_gradients(UNARY[name], rng.standard_normal((2, 3, 4)))


@pytest.mark.parametrize("name", POSITIVE)
def test_gradients_of_a_positive_argument(name, rng):
    check_gradients(POSITIVE[name], rng.uniform(0.5, 2.0, (2, 3)))


@pytest.mark.parametrize(("first", "second"), BROADCASTS)
@pytest.mark.parametrize("name", BINARY)
def test_gradients_with_broadcasting(name, first, second, rng):
    check_gradients(BINARY[name], rng.standard_normal(first), rng.standard_normal(second))


@pytest.mark.parametrize(("first", "second"), PRODUCTS)
def test_gradients_of_products(first, second, rng):
    a, b = rng.standard_normal(first), rng.standard_normal(second)
    assert (Tensor(a) @ b).shape == (a @ b).shape
    check_gradients(lambda x, y: x @ y, a, b)


def test_gradients_of_concatenation(rng):
    parts = [rng.standard_normal((2, n)) for n in (1, 3, 2)]
    check_gradients(lambda *x: concatenate(x, axis=1).tanh(), *parts)


def test_numbers_and_arrays_on_the_left():
    x = Tensor(np.array([2.0, 4.0], np.float32), requires_grad=True)
    for y, value, grad in (
        (1 + x, [3, 5], [1, 1]),
        (1 - x, [-1, -3], [-1, -1]),
        (3 * x, [6, 12], [3, 3]),
        (8 / x, [4, 2], [-2, -0.5]),
        (np.ones(2, np.float32) - x, [-1, -3], [-1, -1]),
        (np.eye(2, dtype=np.float32) @ x, [2, 4], [1, 1]),
    ):
        assert y.dtype == np.float32
        assert y.data.tolist() == value
        x.grad = None
        y.sum().backward()
        assert x.grad.tolist() == grad
        assert x.grad.dtype == np.float32


def test_equal_maxima_share_the_gradient():
    x = Tensor(np.array([[1.0, 3.0, 3.0], [5.0, 2.0, 2.0]]), requires_grad=True)
    x.max(axis=1).backward(np.array([1.0, 10.0]))
    assert x.grad.tolist() == [[0, 0.5, 0.5], [10, 0, 0]]


def test_sigmoid_of_large_numbers():
    x = Tensor(np.array([-1e4, 0.0, 1e4]), requires_grad=True)
    y = x.sigmoid()
    assert y.data.tolist() == [0, 0.5, 1]
    y.sum().backward()
    assert x.grad.tolist() == [0, 0.25, 0]


# -- graphs --------------------------------------------------------------------------------------


def test_a_node_with_many_consumers():
    x = Tensor(np.array(3.0), requires_grad=True)
    y = x * x  # 9
    z = sum((y * float(k) for k in range(1, 11)), start=y) + x  # 56 x^2 + x
    z.backward()
    assert x.grad == 56 * 2 * 3 + 1


def test_a_diamond_is_visited_once_a_node():
    """2^60 paths from the end to the beginning."""
    calls = []

    class Twice(Operation):
        def forward(self, a, b):
            return a + b

        def backward(self, grad):
            calls.append(1)
            return grad, grad

    x = Tensor(np.array(1.0), requires_grad=True)
    y = x
    for _ in range(60):
        y = Twice()(y, y)
    y.backward()
    assert x.grad == 2.0**60
    assert len(calls) == 60


def test_order_where_a_short_and_a_long_path_meet():
    x = Tensor(np.array(2.0), requires_grad=True)
    y = x * x
    long = y
    for _ in range(5):
        long = long * 1.0
    (y + long * y).backward()  # x^2 + x^4
    assert x.grad == 2 * 2 + 4 * 8


def test_a_graph_that_is_deeper_than_the_stack():
    x = Tensor(np.ones(3), requires_grad=True)
    y = x
    for _ in range(30_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    for _ in range(100_000):
        y = y - x
    del y  # without backward
    gc.collect()


def test_backward_frees_the_graph():
    x = Tensor(np.ones(3), requires_grad=True)
    y = x.exp()
    inner = weakref.ref(y)
    z = (y * y).sum()
    del y
    z.backward()
    gc.collect()
    assert inner() is None
    with pytest.raises(RuntimeError, match="freed"):
        z.backward()
    grad = x.grad.copy()
    w = z * 2.0
    with pytest.raises(RuntimeError, match="freed"):
        w.backward()
    assert np.array_equal(x.grad, grad)


def test_gradients_add_up():
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    (x * x).sum().backward()
    first = x.grad.copy()
    (x * x * x).sum().backward()
    assert np.array_equal(x.grad, first + 3 * x.data**2)


def test_gradients_are_arrays_of_their_own():
    x, y = (Tensor(np.ones((2, 2)), requires_grad=True) for _ in range(2))
    given = np.full((2, 2), 3.0)
    (x + y).backward(given)
    for grad in (x.grad, y.grad):
        grad *= 2
    assert x.grad.tolist() == y.grad.tolist() == [[6, 6], [6, 6]]
    assert given.tolist() == [[3, 3], [3, 3]]
    z = Tensor(np.ones((2, 2)), requires_grad=True)
    z.sum().backward()
    z.grad += 1  # a broadcast view could not be written to
    w = Tensor(np.ones(()), requires_grad=True)
    (w + w * 2.0).backward()
    assert isinstance(w.grad, np.ndarray)
    assert w.grad == 3


def test_one_array_for_two_inputs_is_not_shared():
    class Twice(Operation):
        def forward(self, a, b):
            return a + b

        def backward(self, grad):
            both = 2 * grad
            return both, both

    x, y = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    Twice()(x, y).sum().backward()
    assert not np.shares_memory(x.grad, y.grad)
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad, [5.0, 5.0])
    np.testing.assert_array_equal(y.grad, [2.0, 2.0])


def test_a_sum_does_not_change_what_others_hold():
    x = Tensor(np.ones(2), requires_grad=True)
    y = x * 1.0
    (y + y.exp() + y).sum().backward()
    assert np.allclose(x.grad, 2 + np.e, rtol=1e-15)


@pytest.mark.parametrize(
    "function", [lambda x: x.abs(), lambda x: x.sum(), lambda x: concatenate([x.reshape(1), [1.0]])]
)
def test_a_number_with_several_consumers(function):
    """NumPy makes numbers of the sums of arrays of shape ()."""
    point = Tensor([2.0, 3.0], requires_grad=True)
    x = point[0]
    y = function(x)
    (x * x + y.sum() + y.sum()).backward()
    np.testing.assert_array_equal(point.grad, [6.0, 0.0])


def test_the_mean_of_a_number():
    x = Tensor([2.0, 4.0], requires_grad=True)
    x.mean().mean().backward()
    np.testing.assert_array_equal(x.grad, [0.5, 0.5])


def test_only_leaves_with_gradients_have_them():
    x, c = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2))
    y = x * c
    y.sum().backward()
    assert c.grad is None
    assert y.grad is None
    assert y.detach().requires_grad is False
    x.backward(np.array([2.0, 3.0]))
    assert x.grad.tolist() == [3, 4]


def test_gradients_not_needed_are_not_computed():
    class Watched(Operation):
        def forward(self, a, b):
            seen.append(self.needs)
            return a * b

        def backward(self, grad):
            return grad, None

    seen = []
    x, c = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2))
    Watched()(x, c).sum().backward()
    with no_grad():
        Watched()(x, c)
    Watched()(c, x).sum().backward()  # None: no gradient
    assert seen == [(True, False), (False, False), (False, True)]


def test_paths_without_a_gradient():
    class Cut(Operation):
        def forward(self, x):
            return x + 0.0

        def backward(self, grad):
            return (None,)

    x = Tensor(np.ones(2), requires_grad=True)
    y = x * 2.0
    (Cut()(y.exp()) + y).sum().backward()
    assert x.grad.tolist() == [2, 2]
    z = Tensor(np.ones(2), requires_grad=True)
    Cut()(z * 2.0).sum().backward()
    assert z.grad is None


def test_an_operation_whose_gradient_has_the_wrong_shape():
    class Wrong(Operation):
        def forward(self, x):
            return x.sum()

        def backward(self, grad):
            return (grad,)

    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(RuntimeError, match=r"Wrong: gradient of shape \(\) .* \(3,\)"):
        Wrong()(x).backward()


@pytest.mark.parametrize("returned", [lambda g: (g, g), lambda g: None, lambda g: g, lambda g: ()])
def test_an_operation_that_returns_no_gradient_for_each_input(returned):
    class Twice(Operation):
        def forward(self, x):
            return 2 * x

        def backward(self, grad):
            return returned(2 * grad)

    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(RuntimeError, match="backward of Twice must return a tuple of 1"):
        Twice()(x).sum().backward()


@pytest.mark.parametrize("kind", [list, Tensor])
def test_gradients_of_an_operation_that_are_made_arrays(kind):
    class Twice(Operation):
        def forward(self, x):
            return 2 * x

        def backward(self, grad):
            return (kind([2.0, 2.0, 2.0]),)

    x = Tensor(np.ones(3), requires_grad=True)
    Twice()(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [2.0, 2.0, 2.0])


def test_mixed_dtypes_keep_that_of_the_leaf():
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    y = Tensor(np.ones(2, np.float64), requires_grad=True)
    (x * y).sum().backward()
    assert x.grad.dtype == np.float32
    assert y.grad.dtype == np.float64


# -- errors --------------------------------------------------------------------------------------


def test_errors():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ValueError, match=r"Add of shapes \(2, 3\) and \(4,\)"):
        x + np.ones(4)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 3\) do not fit"):
        x @ np.ones((2, 3))
    with pytest.raises(ValueError, match=r"Reshape of shapes \(2, 3\)"):
        x.reshape(4, 2)
    with pytest.raises(ValueError, match="multiplied by"):
        x @ 2.0
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        x.exp().backward()
    with pytest.raises(ValueError, match=r"shape \(3,\), the tensor \(2, 3\)"):
        x.exp().backward(np.ones(3))
    with pytest.raises(RuntimeError, match="none with gradients"):
        Tensor(1.0).backward()
    with pytest.raises(TypeError, match="int64"):
        Tensor(np.ones(3, np.int64), requires_grad=True)
    with pytest.raises(TypeError, match="exponent"):
        x**x


def test_tensors_keep_their_array():
    a = np.ones(3)
    x = Tensor(a)
    assert x.data is a
    assert Tensor(x).data is a
    assert Tensor([1, 2]).dtype == np.dtype(int)
    assert (len(x), x.ndim, x.size, Tensor(2.5).item()) == (3, 1, 3, 2.5)
    assert repr(x) == f"{x}" == "Tensor(array([1., 1., 1.]))"


def test_one_number():
    x = Tensor(np.float32(0.125))
    assert (float(x), f"{x:.2e}") == (0.125, "1.25e-01")
    with pytest.raises(ValueError, match="size 1"):
        float(Tensor(np.ones(3)))


def test_numpy_makes_no_array_of_objects_of_it():
    x = Tensor(np.ones(3))
    for function in (np.asarray, np.argmax, np.stack):
        with pytest.raises(TypeError, match="a tensor is no array: take its data"):
            function(x)
    np.testing.assert_array_equal((np.full(3, 2.0) * x).data, 2.0)


# -- devices -------------------------------------------------------------------------------------


def test_on_a_device(cupy, rng):  # noqa: F811
    def f(x, w):
        y = (2.0 * x[:, :3].reshape(2, -1) @ w + 1.0).tanh() / 2.0
        return (y - y.mean(axis=0, keepdims=True)).relu().sum() + w.exp().max(axis=1).sum()

    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((2, 4, 2), (6, 3))]
    host = [Tensor(a, requires_grad=True) for a in arrays]
    device = [Tensor(cupy.asarray(a), requires_grad=True) for a in arrays]
    f(*host).backward()
    loss = f(*device)
    assert isinstance(loss.data, cupy.ndarray)
    loss.backward()
    for x, y in zip(host, device, strict=True):
        assert isinstance(y.grad, cupy.ndarray)
        assert np.allclose(x.grad, y.grad.get(), rtol=2.0**-18, atol=2.0**-18)
    with pytest.raises(TypeError):
        host[0] + device[0]
