"""Losses: gradients, stability, what is refused."""

import numpy as np
import pytest

from mplinalg.nn import Tensor, check_labels, cross_entropy, mse_loss
from mplinalg.ops.array_nn import ArrayNn
from mplinalg.ops.numpy_nn import NumpyNn

from ..device import cupy  # noqa: F401  (a fixture)
from .differences import check_gradients

LABELS = np.array([2, 0, 1, 2])


def exact_cross_entropy(logits, labels):
    z = logits.astype(np.longdouble)
    z = z - z.max(axis=1, keepdims=True)
    return (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]).mean()


def test_cross_entropy(rng):
    z = rng.standard_normal((4, 3))
    assert abs(cross_entropy(Tensor(z), LABELS).item() - exact_cross_entropy(z, LABELS)) < 1e-15
    check_gradients(lambda x: cross_entropy(x, LABELS) * 3.0, z)


def test_gradients_of_cross_entropy_are_probabilities_less_the_label(rng):
    z = Tensor(rng.standard_normal((4, 3)), requires_grad=True)
    cross_entropy(z, LABELS).backward()
    p = np.exp(z.data)
    p /= p.sum(axis=1, keepdims=True)
    assert np.allclose(z.grad, (p - np.eye(3)[LABELS]) / 4, rtol=0, atol=1e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_large_logits(dtype):
    z = Tensor(np.array([[1e30, 0, -1e30], [-1e4, 0, 1e4]], dtype), requires_grad=True)
    loss = cross_entropy(z, np.array([0, 1]))
    assert loss.item() == 5e3
    loss.backward()
    assert z.grad.tolist() == [[0, 0, 0], [0, -0.5, 0.5]]


def test_cross_entropy_of_tiny_probabilities():
    """log(softmax) would be log(0)."""
    z = Tensor(np.array([[0.0, 800.0]]))
    assert cross_entropy(z, np.array([0])).item() == 800.0


@pytest.mark.parametrize("loss", [lambda x: cross_entropy(x, LABELS), lambda x: mse_loss(x, x * 0)])
def test_losses_of_half_precision_are_single(loss, rng):
    values = (30 * rng.standard_normal((4, 3))).astype(np.float16)
    x = Tensor(values, requires_grad=True)
    y = loss(x)
    assert y.dtype == np.float32
    wide = loss(Tensor(values.astype(np.float64))).item()
    assert abs(y.item() - wide) <= 2.0**-20 * abs(wide)
    y.backward()
    assert x.grad.dtype == np.float16


def test_a_sum_that_half_precision_cannot_hold():
    x = Tensor(np.full(1000, 200, np.float16))
    assert mse_loss(x, np.zeros(1000, np.float16)).item() == 40000.0  # sum 4e7


def test_labels_in_other_forms(rng):
    z = Tensor(rng.standard_normal((4, 3)))
    loss = cross_entropy(z, LABELS).item()
    for labels in (LABELS.tolist(), LABELS.astype(np.uint8), LABELS.astype(">i8"), Tensor(LABELS)):
        assert cross_entropy(z, labels).item() == loss
    assert cross_entropy(z, LABELS, validate=False).item() == loss


def test_mse_loss(rng):
    x, y = rng.standard_normal((2, 5, 3))
    assert abs(mse_loss(Tensor(x), y).item() - ((x - y) ** 2).mean()) < 1e-14
    check_gradients(lambda a, b: mse_loss(a, b) * 2.0, x, y)


def test_infinite_logits_have_no_loss():
    """NaN, without a warning: who trains looks at the loss."""
    assert np.isnan(cross_entropy(Tensor([[np.inf, 0.0]]), np.array([0])).item())


def test_errors(rng):
    z = Tensor(rng.standard_normal((4, 3)))
    with pytest.raises(ValueError, match=r"label 3 of sample 1 is not one of 0, \.\.\., 2"):
        cross_entropy(z, np.array([2, 3, 1, -1]))
    with pytest.raises(ValueError, match="label -1 of sample 3"):
        cross_entropy(z, np.array([2, 0, 1, -1]))
    with pytest.raises(TypeError, match="float64"):
        cross_entropy(z, np.ones(4))
    with pytest.raises(TypeError, match="float64"):
        cross_entropy(z, np.ones(4), validate=False)
    with pytest.raises(ValueError, match=r"\(4, 3\), labels \(3,\)"):
        cross_entropy(z, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"\(4,\), labels \(4,\)"):
        cross_entropy(Tensor(np.ones(4)), LABELS)
    with pytest.raises(ValueError, match="no rows"):
        cross_entropy(Tensor(np.ones((0, 3))), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"\(4, 3\), target \(4, 1\)"):
        mse_loss(z, np.ones((4, 1)))
    with pytest.raises(ValueError, match="no entries"):
        mse_loss(Tensor(np.ones(0)), np.ones(0))
    check_labels(np.zeros(0, int), 3)


def test_on_a_device(cupy, rng):  # noqa: F811
    values = rng.standard_normal((4, 3)).astype(np.float32)
    for loss in (
        lambda x: cross_entropy(x, x.xp.asarray(LABELS)),
        lambda x: mse_loss(x, x.xp.ones((4, 3), np.float32)),
    ):
        x, y = (Tensor(xp.asarray(values), requires_grad=True) for xp in (np, cupy))
        losses = loss(x), loss(y)
        assert isinstance(losses[1].data, cupy.ndarray)
        for one in losses:
            one.backward()
        assert np.allclose(losses[0].item(), losses[1].item(), rtol=2.0**-20)
        assert np.allclose(x.grad, y.grad.get(), rtol=2.0**-18, atol=2.0**-22)
    with pytest.raises(ValueError, match="label 9 of sample 2"):
        cross_entropy(y, cupy.asarray([0, 1, 9, 2]))
    with pytest.raises(TypeError, match="nothing is moved"):
        cross_entropy(y, LABELS)


@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (100, 10), (3, 4000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_and_its_gradient_compiled_and_by_arrays(shape, dtype, rng):
    """Sums of C exponentials, C / 2 roundings on the way, and a few of each of them."""
    z = 20 * rng.standard_normal(shape).astype(dtype)
    labels = rng.integers(0, shape[1], shape[0])
    found, expected = np.empty_like(z), np.empty_like(z)
    loss = NumpyNn().softmax_loss(z, labels, found)
    wanted = ArrayNn(np).softmax_loss(z, labels, expected)
    assert loss.dtype == found.dtype == dtype
    u = (shape[1] + 8) * np.finfo(dtype).eps
    assert abs(loss - wanted) <= u * max(1, abs(wanted))
    # of softmax - 1 the error is that of softmax, 1 at most
    np.testing.assert_allclose(found, expected, rtol=u, atol=u / shape[0])
    z[0, 0] = np.nan
    for ops in (NumpyNn(), ArrayNn(np)):
        assert np.isnan(ops.softmax_loss(z, labels, found))
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1:]).all()
