"""Model.profile: what is measured, what is counted, and that nothing changes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import profiling

from ..device import library
from .models import compiled, drawn, is_same, lenet, small


def images(n=6):
    return np.random.default_rng(0).standard_normal((n, 1, 8, 8)).astype(np.float32)


def conv_net():
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, rng=rng), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2, 1),
        nn.Flatten(), nn.Dropout(0.5, rng=1), nn.Linear(12, 5, bias=False, rng=rng), nn.Softmax(),
    )  # fmt: skip


# -- counts --------------------------------------------------------------------------------------


def test_flops_of_layers():
    n = 6
    found = [cost.forward_flops for cost in nn.Model(conv_net()).profile(images(n)).layers]
    outputs = n * 3 * 3 * 3  # of the convolution, (6, 3, 3, 3)
    assert found == [
        outputs * (2 * 9 + 1), outputs * 7, outputs, n * 3 * 2 * 2 * 4, 0, n * 12,
        n * 2 * 12 * 5, n * 5 * 4,
    ]  # fmt: skip


def test_flops_of_a_product_are_those_that_are_made(monkeypatch):
    """2 for each multiplication and addition of Linear, counted in its products."""
    made = []
    product = nn.layers.product

    def counting(a, b, **options):
        c = product(a, b, **options)
        inner = a.shape[0] if options.get("transa") else a.shape[1]
        made.append(2 * inner * c.size)
        return c

    monkeypatch.setattr(nn.layers, "product", counting)
    layer = nn.Linear(7, 5, bias=False, rng=0)
    x = nn.Tensor(np.ones((3, 7), np.float32), requires_grad=True)
    layer(x).sum().backward()
    assert made == [layer.flops((3, 7))] * 3  # y, dx, dW


def test_backward_flops_and_bytes():
    x, y = drawn(10)
    found = small().profile(x, y, batch_size=10)
    first, tanh, second, loss = found.layers
    # the input of the first layer needs no gradient
    assert first.forward_flops == 10 * 4 * (2 * 3 + 1) == first.backward_flops
    assert second.backward_flops == 2 * second.forward_flops == 2 * 10 * 2 * (2 * 4 + 1)
    assert tanh.backward_flops == tanh.forward_flops == 40
    assert first.forward_bytes == 4 * (30 + 16 + 40)
    assert first.backward_bytes == 4 * (40 + 30 + 16 + 16)
    assert tanh.forward_bytes == 4 * (40 + 40)
    assert tanh.backward_bytes == 4 * (40 + 40 + 40)
    assert second.backward_bytes == 4 * (20 + 40 + 10 + 40 + 10)
    assert (loss.name, loss.flops) == ("loss", None)
    total = found.total
    assert total.flops == sum(cost.flops for cost in (first, tanh, second))
    assert total.bytes == sum(cost.bytes for cost in found.layers)
    assert (found.whole.flops, found.whole.bytes) == (total.flops, total.bytes)
    assert found.batch == 10


def test_a_view_moves_nothing():
    costs = nn.Model(conv_net()).profile(images()).layers
    assert [cost.bytes == 0 for cost in costs] == [k == 4 for k in range(8)]


def test_a_layer_that_does_not_tell_its_flops():
    class Square(nn.Module):
        def forward(self, x):
            return x * x

    net = nn.Sequential(nn.Linear(3, 4, rng=0), Square(), nn.Linear(4, 2, rng=1))
    found = nn.Model(net).profile(drawn()[0])
    assert [cost.flops is None for cost in found.layers] == [False, True, False]
    assert found.total.flops == found.layers[0].flops + found.layers[2].flops
    assert str(found).splitlines()[3].split()[-4:] == ["-", "0.00256", "-", "-"]


def test_layers_within_layers_and_layers_that_are_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            self.inner = nn.Sequential(nn.Linear(3, 3, rng=0), nn.ReLU())

        def forward(self, x):
            return self.inner(self.inner(x)) + x

    names = [cost.name for cost in nn.Model(Twice()).profile(drawn()[0]).layers]
    assert names == ["inner.0 Linear(3, 3)", "inner.1 ReLU()"] * 2
    assert [c.name for c in nn.Model(nn.Linear(3, 2, rng=0)).profile(drawn()[0]).layers] == [
        "Linear(3, 2)"
    ]


# -- times ---------------------------------------------------------------------------------------


class Clock:
    """Whatever is asked for takes a second."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1.0
        return self.now


def test_times_are_medians_of_seconds(monkeypatch):
    monkeypatch.setattr(profiling, "time", Clock())
    found = small().profile(*drawn(), repeats=3)
    assert all(c.forward_seconds == c.backward_seconds == 1.0 for c in found.layers)
    assert found.total.forward_seconds == 4.0
    assert found.total.rate == found.total.flops / 8.0
    assert found.whole.seconds == 2.0


def test_a_slow_layer_is_seen():
    class Slow(nn.Tanh):
        def forward(self, x):
            time.sleep(0.02)
            return super().forward(x)

    net = nn.Sequential(nn.Linear(3, 4, rng=0), Slow(), nn.Linear(4, 2, rng=1))
    found = nn.Model(net).profile(drawn()[0], repeats=5)
    first, slow, last = found.layers
    assert min(slow.forward_seconds, found.whole.forward_seconds) >= 0.02
    for seconds in (first.seconds, last.seconds, slow.backward_seconds):
        assert seconds < 0.02


class Meter:
    """Three joules a second of a clock."""

    def __init__(self, clock):
        self.clock = clock

    def read(self):
        return 3.0 * self.clock.now

    def since(self, before):
        return self.read() - before


def test_joules(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(profiling, "time", clock)
    monkeypatch.setattr(profiling, "meter_at", lambda x: Meter(clock))
    monkeypatch.setattr(profiling, "_METERED", 20.0)
    found = small().profile(*drawn(), repeats=1)
    # a pass asks the clock four times, and the loop once
    assert all(3 * 4 <= cost.joules <= 3 * 6 for cost in (*found.layers, found.whole))
    assert found.total.joules == sum(cost.joules for cost in found.layers)
    assert str(found).splitlines()[-1].split()[-1] != "-"


def test_no_joules_are_none(monkeypatch):
    class Silent:
        def read(self):
            return None

    monkeypatch.setattr(profiling, "meter_at", lambda x: Silent())
    found = small().profile(*drawn())
    assert found.total.joules is None
    assert {line.split()[-1] for line in str(found).splitlines()[2:]} == {"-"}


# -- what is left --------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16-mixed"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_changed(precision, fails):
    x, y = images(), np.arange(6) % 5
    net = conv_net()
    model = compiled(net, precision)
    model.fit(x, y, batch_size=6)
    net.layers[1].eval()
    before = net.state_dict(), model.optimizer.state_dict()
    drawn_so_far = net.layers[5].rng.bit_generator.state
    grads = [p.grad for p in net.parameters()]
    copies = [g.copy() for g in grads]
    modes = [module.training for _, module in net.named_modules()]
    if fails:
        net.layers[7].forward = lambda x: 1 / 0
        with pytest.raises(ZeroDivisionError):
            model.profile(x)
    else:
        model.profile(x, y)
    assert is_same(net.state_dict(), before[0])
    assert is_same(model.optimizer.state_dict()["arrays"], before[1]["arrays"])
    assert net.layers[5].rng.bit_generator.state == drawn_so_far
    assert [module.training for _, module in net.named_modules()] == modes
    assert all(p.grad is g for p, g in zip(net.parameters(), grads, strict=True))
    assert all(np.array_equal(g, c) for g, c in zip(grads, copies, strict=True))
    assert nn.scopes.state.observer is None


def test_a_fresh_model_has_no_gradients_afterwards():
    model = nn.Model(lenet())
    model.profile(images())
    assert all(p.grad is None for p in model.net.parameters())


def test_it_is_a_table():
    lines = str(compiled(lenet(), "bf16-mixed").profile(images(), batch_size=4)).splitlines()
    assert lines[0] == "4 samples, products in bf16"
    assert lines[1].split() == [
        "layer", "forward", "ms", "backward", "ms", "Mflop", "MB", "Gflop/s", "J",
    ]  # fmt: skip
    assert lines[2].startswith("0 Conv2d(1, 6, 3, padding=1) ")
    assert [line.split("  ")[0] for line in lines[-2:]] == ["all", "in one go"]
    assert len(lines) == 2 + 11 + 2
    assert max(map(len, lines)) <= 100


def test_samples():
    x, y = drawn(5)
    assert small().profile(x, y).batch == 5
    assert nn.Model(small().net).profile(x, batch_size=3).batch == 3
    with pytest.raises(ValueError, match="no samples to profile"):
        small().profile(x[:0])
    with pytest.raises(ValueError, match="label 9 of sample 4"):
        small().profile(x, np.array([0, 1, 0, 1, 9]))
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        small().profile(x, repeats=0)
    with pytest.raises(RuntimeError, match="call compile first"):
        nn.Model(small().net).profile(x, y)
    with pytest.raises(ValueError, match=r"layer 0, Linear\(3, 4\)"):
        small().profile(x[:, :2])


def test_on_a_device_it_waits(monkeypatch):
    x, y = drawn()
    with library("stand-in") as cupy:
        model = small()
        model.net.to("cuda")
        ops = type(profiling.ops_for(cupy.asarray(x)))
        waits = []
        monkeypatch.setattr(ops, "synchronize", lambda self: waits.append(1))
        found = model.profile(cupy.asarray(x), cupy.asarray(y), repeats=2)
        # 4 times in each of 3 passes over 3 layers, the loss and all in one go
        assert len(waits) == 4 * 3 * 5
        assert found.total.flops > 0
