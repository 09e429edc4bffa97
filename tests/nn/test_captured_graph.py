"""Graphs of steps: how long one is kept, and the memory that it has."""

import gc

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import optim

from ..cupy_on_host import memory
from ..device import cupy, stand_in  # noqa: F401
from .test_captured import assert_same, prepared


def test_the_graph_is_kept(stand_in):  # noqa: F811
    model, x, y = prepared(stand_in, True)
    model.fit(x, y, batch_size=10)
    first = model._graphs._last
    model.optimizer.lr = 0.01
    model.fit(x, y, batch_size=10)
    assert model._graphs._last is first
    model.optimizer.momentum = 0.5
    model.fit(x, y, batch_size=10)
    assert model._graphs._last is not first
    second = model._graphs._last
    model.optimizer.load_state_dict(model.optimizer.state_dict())
    model.fit(x, y, batch_size=10)
    assert model._graphs._last is not second


class Times(nn.Module):
    def __init__(self):
        self.factor, self.window = 1.0, (2, 2)

    def forward(self, x):
        return x * self.factor


def test_numbers_of_layers(cupy):  # noqa: F811
    """They are in the graph as they were; it is captured anew if they are others."""
    found = []
    for capture in (False, True):
        rng = np.random.default_rng(0)
        net = nn.Sequential(nn.Linear(6, 3, rng=rng, dtype=np.float64), Times()).to("cuda")
        x, y = cupy.asarray(rng.standard_normal((20, 6))), cupy.asarray(rng.integers(0, 3, 20))
        model = nn.Model(net)
        model.compile(
            optim.SGD(net.parameters(), 0.1), "cross_entropy", precision="fp64", capture=capture
        )
        for factor in (1.0, 3.0):
            net[1].factor = factor
            model.fit(x, y, epochs=2, batch_size=5)
            model.evaluate(x, y)
        found.append(model)
    assert_same(*found, 1e-11)
    graph = found[1]._graphs._last
    found[1].fit(x, y, batch_size=5)
    assert found[1]._graphs._last is graph
    net[1].window = 3, 3
    found[1].fit(x, y, batch_size=5)
    assert found[1]._graphs._last is not graph


def peak_of(stand_in, capture):  # noqa: F811
    """Of bytes in the first epoch, above those that were held before."""
    model, x, y = prepared(stand_in, capture, "mlp", "fp32")
    model.fit(x[:12], y[:12], batch_size=12)  # constants are there
    before = memory.held()
    memory.reset_peak()
    model.fit(x, y, batch_size=10)
    return memory.peak() - before


def test_memory_that_is_short(stand_in):  # noqa: F811
    """There is enough for the steps, not for a workspace and a pool beside: they go on."""
    enough = peak_of(stand_in, False)
    gc.collect()
    model, x, y = prepared(stand_in, "auto", "mlp", "fp32")
    with memory.limit_memory(memory.held() + enough + 2**20):
        model.fit(x, y, epochs=2, batch_size=10)
        assert model.history["captured"] == [False, False]
        assert "OutOfMemoryError" in model.capture_note
        model.compile(model.optimizer, "cross_entropy", precision="fp32", capture=True)
        with pytest.raises(MemoryError):
            model.fit(x, y, batch_size=10)
    model.fit(x, y, batch_size=10)
    assert model.history["captured"][-1]


def test_memory_that_is_free_elsewhere(stand_in, monkeypatch):  # noqa: F811
    """Blocks that the common pool keeps are given back, while nothing is captured.

    There is room for a workspace of 2^25 bytes, but not for two: that of the first try is let go
    of.
    """
    from mplinalg.kernels.cuda import stepping

    kept, freed = [memory.device_memory(2**20)], []

    def free_all_blocks(self, stream=None):
        freed.append(stream)
        assert not recording.stream.is_capturing()
        if stream is None:
            kept.clear()

    monkeypatch.setattr(memory.DefaultPool, "free_all_blocks", free_all_blocks)
    recording, x = stepping.Recording(), stand_in.zeros(2**18, np.float32)
    with memory.limit_memory(memory.held() + 2**25 + 2**19), recording.inside():
        recording.record(lambda: stand_in.add(x, stand_in.ones(2**18, np.float32), out=x))
        recording.launch()
        assert x.get().min() == 1
    assert freed == [recording.stream, None]
