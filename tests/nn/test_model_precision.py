"""Training in mixed precision: gradients, accuracy, overflow."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from mplinalg import LinAlgError, nn
from mplinalg.nn import schedules
from mplinalg.precision import get_format

from .models import compiled, drawn, lenet

FORMATS = ("fp16", "bf16")


@functools.cache
def digits():
    """In random order: the last ones were written by others than the first."""
    pytest.importorskip("sklearn")
    x, y = nn.data.digits()
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], y[order]


# -- gradients -----------------------------------------------------------------------------------


class Chosen(nn.Module):
    """max(x, 0), or the largest of each 2 by 2 window, with the choices of its first call.

    What is rounded may choose another entry of two that are nearly equal, after which gradients
    have nothing in common; with the same choices a network is a smooth function.
    """

    def __init__(self, windows):
        self.windows, self.mask = windows, None

    def forward(self, x):
        if self.mask is None:
            self.mask = (largest(x.data) if self.windows else x.data > 0).astype(x.dtype)
        x = x * nn.Tensor(self.mask)
        return nn.AvgPool2d(2)(x) * 4.0 if self.windows else x


def largest(x):
    n, c, h, w = x.shape
    tiles = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4)
    chosen = np.arange(4) == tiles.argmax(axis=1)[:, None]
    chosen = chosen.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)
    return chosen.reshape(x.shape)


def smooth_lenet(seed, algorithm):
    rng = np.random.default_rng(seed)
    options = {"padding": 1, "algorithm": algorithm, "rng": rng}
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, **options), Chosen(False), Chosen(True),
        nn.Conv2d(6, 16, 3, **options), Chosen(False), Chosen(True), nn.Flatten(),
        nn.Linear(64, 40, rng=rng), Chosen(False), nn.Linear(40, 10, rng=rng),
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", ["direct", "gemm", "fft", "winograd"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_differ_from_those_of_single_by_rounding(algorithm, seed):
    x, y = (a[:50] for a in digits())
    net = smooth_lenet(seed, algorithm)
    found = {}
    for precision in (None, *FORMATS):
        net.zero_grad()
        with nn.precision_scope(precision):
            nn.cross_entropy(net(x), y).backward()
        found[precision] = {name: p.grad for name, p in net.named_parameters()}
    for name, exact in found[None].items():
        for precision in FORMATS:
            error = found[precision][name] - exact
            # A gradient goes through at most 4 products forwards and 4 backwards, of 2 operands
            # each: 16 roundings, of at most u, which add up as independent ones do.
            bound = math.sqrt(16) * get_format(precision).unit_roundoff
            assert np.linalg.norm(error) <= bound * np.linalg.norm(exact), (name, precision)


def test_a_scaled_loss_has_the_same_gradients():
    x, y = (a[:50] for a in digits())
    found = []
    for scale in (1.0, 65536.0):
        net = lenet()
        with nn.precision_scope("fp16"):
            (nn.cross_entropy(net(x), y) * scale).backward()
        found.append([p.grad / np.float32(scale) for p in net.parameters()])
    # operands are scaled by powers of two before they are rounded, so nothing is lost either way
    assert all(np.array_equal(*pair) for pair in zip(*found, strict=True))


# -- accuracy ------------------------------------------------------------------------------------


@functools.cache
def held_out_accuracy(precision):
    """Of three networks, each trained without a third of the digits that it is then asked."""
    x, y = digits()
    folds = np.arange(len(x)) % 3
    right = 0
    for seed in range(3):
        for fold in range(3):
            train = folds != fold
            model = compiled(lenet(seed), precision, lr=0.05, schedule=schedules.Cosine(15))
            history = model.fit(x[train], y[train], epochs=15, batch_size=25, seed=seed)
            right += int((model.predict(x[~train]).argmax(axis=1) == y[~train]).sum())
            assert ("skipped" in history.rows[0]) == (precision == "fp16-mixed")
    return right / (3 * len(x))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16-mixed", "bf16-mixed"])
def test_mixed_precision_reaches_the_accuracy_of_single(precision):
    # 5391 answers; the two differ in about one of 40, so that a difference by chance is of the
    # order sqrt(1 / 40 / 5391) = 0.0022
    single, mixed = held_out_accuracy("fp32"), held_out_accuracy(precision)
    assert single > 0.95
    assert mixed > 0.95
    assert mixed >= single - 0.005


# -- overflow ------------------------------------------------------------------------------------


def test_steps_that_overflow_are_skipped_and_counted():
    x, y = drawn()
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    # gradients are of the order of x: at a scale of 2^127 they overflow single precision
    model = compiled(net, "fp16-mixed", lr=1e-4, scaler=nn.LossScaler(2.0**127))
    before = net.state_dict()
    history = model.fit(100 * x, y, epochs=2, batch_size=10)
    skipped = history["skipped"]
    assert 3 <= skipped[0] <= 5
    assert history["scale"] == [2.0 ** (127 - skipped[0]), 2.0 ** (127 - sum(skipped))]
    assert model.scaler.skipped == sum(skipped)
    assert sum(skipped) < 10
    assert not np.array_equal(net.layers[0].weight.data, before["0.weight"])


def test_a_skipped_step_changes_nothing():
    x, y = drawn(10)
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    model = compiled(net, "fp16-mixed", scaler=nn.LossScaler(2.0**127))
    before, state = net.state_dict(), model.optimizer.state_dict()
    assert model.fit(1000 * x, y, batch_size=10).rows[0]["skipped"] == 1
    assert all(np.array_equal(value, before[name]) for name, value in net.state_dict().items())
    assert model.optimizer.state_dict() == state


def test_small_gradients_survive():
    """1e-9 is below the least number of fp16; loss and gradients are scaled."""
    x = np.ones((8, 4), np.float32)
    net = nn.Sequential(nn.Linear(4, 1, bias=False, rng=0))

    def tiny(prediction, y):
        return prediction.mean() * 1e-9

    model = nn.Model(net).compile(
        nn.optim.GD(net.parameters(), lr=1.0), tiny, precision="fp16-mixed"
    )
    net.layers[0].weight.data[:] = 0
    model.fit(x, x, batch_size=8)
    assert np.allclose(net.layers[0].weight.data, -1e-9, rtol=2**-10, atol=0)


def test_a_loss_that_diverged_ends_training():
    x, y = drawn()
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    model = compiled(net, "fp16-mixed", lr=1e38)
    with pytest.raises(LinAlgError, match=r"the loss is (nan|inf) in step \d+ of epoch \d+"):
        model.fit(1000 * x, y, epochs=40, batch_size=10)
