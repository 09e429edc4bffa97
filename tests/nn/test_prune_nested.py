"""Models of several sparsities in one set of weights."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import optim, prune

from ..device import cupy  # noqa: F401
from .ranks import trained, weights

SHARES = {"low": 0.5, "medium": 0.75, "high": 0.9}


def mlp(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Linear(6, 20, rng=rng, dtype=dtype), nn.Tanh(), nn.Linear(20, 10, rng=rng, dtype=dtype),
        nn.ReLU(), nn.Linear(10, 3, rng=rng, dtype=dtype),
    )  # fmt: skip


def data(dtype=np.float32, n=96):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((n, 6)).astype(dtype)
    return x, (abs(x[:, :3])).argmax(axis=1)


def check_shared(both):
    """Each model within the less sparse one, with the same bits."""
    models = [both.model(name) for name in both.names]
    for name in both.masks(both.names[0]):
        keeps = [both.masks(model)[name] for model in both.names]
        weights = [dict(model.named_parameters())[name].data for model in models]
        for (larger, smaller), (a, b) in zip(
            itertools.pairwise(keeps), itertools.pairwise(weights), strict=True
        ):
            assert not np.any(smaller & ~larger)
            assert np.array_equal(a[smaller].view(np.uint32), b[smaller].view(np.uint32))
            assert not b[~smaller].any()


@pytest.mark.parametrize("kind", ["weight", "row", "column", "block"])
def test_models_lie_within_each_other(kind):
    net = mlp()
    options = {"block": 3} if kind == "block" else {}
    both = prune.nested(net, {"high": 0.9, "low": 0.5, "medium": 0.75}, kind, **options)
    assert both.names == ("low", "medium", "high")
    alone = {}
    for name, share in SHARES.items():
        fresh = mlp()
        if kind == "weight":
            alone[name] = prune.magnitude(fresh, share)
        else:
            alone[name] = prune.structured(fresh, share, kind, **options)
        masks = both.masks(name)
        assert list(masks) == list(alone[name])
        assert all(np.array_equal(masks[key], alone[name][key]) for key in masks)
    check_shared(both)


def test_of_equal_weights_the_same_stay():
    net = nn.Sequential(nn.Linear(10, 4))
    net[0].weight.data[...] = 1
    both = prune.nested(net)
    counts = [int(both.masks(name)["0.weight"].sum()) for name in both.names]
    assert counts == [20, 10, 4]
    check_shared(both)


@pytest.mark.parametrize(
    "make",
    [lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3), optim.Adam, optim.AdamW],
)
def test_training_keeps_the_bits_that_models_share(make):
    x, y = data()
    net = mlp()
    both = prune.nested(net, rng=1)
    start = {name: both.model(name).state_dict() for name in both.names}
    model = nn.Model(both).compile(make(both.parameters()), "cross_entropy")
    for _ in range(5):
        model.fit(x, y, epochs=2, batch_size=32)
        check_shared(both)
        outside = ~both.masks("low")["0.weight"]
        assert not net[0].weight.data[outside].any()
    for name in both.names:
        w, keep = both.model(name)[0].weight.data, both.masks(name)["0.weight"]
        assert np.mean(w[keep] != start[name]["0.weight"][keep]) > 0.5


def test_models_learn():
    x, y = data()
    both = prune.nested(mlp(), {"low": 0.2, "high": 0.7}, rng=1)
    model = nn.Model(both).compile(optim.Adam(both.parameters(), lr=0.02), "cross_entropy")

    def losses():
        found = {}
        for name in both.names:
            both.use(name)
            found[name] = model.evaluate(x, y).loss
        return found

    before = losses()
    model.fit(x, y, epochs=100, batch_size=32)
    after = losses()
    assert all(after[name] < 0.5 * before[name] for name in both.names)


def test_what_is_used_is_the_model_by_itself():
    x, _ = data()
    both = prune.nested(mlp()).eval()
    assert both.current == "low"
    weight = both.net[0].weight
    for name in ("high", "low", "medium"):
        expected = both.model(name)(x).data
        assert np.array_equal(both.use(name)(x).data, expected)
        assert np.array_equal(both.run(name, x).data, expected)
        assert both.net[0].weight is weight
    assert "high" in repr(both)


def test_gradients_are_those_of_the_model():
    x, y = data(np.float64)
    both = prune.nested(mlp(dtype=np.float64))
    sums = None
    for name in both.names:
        alone = both.model(name)
        nn.cross_entropy(alone(x), y).backward()
        masks = both.masks(name)
        grads = [
            p.grad * masks[key] if key in masks else p.grad for key, p in alone.named_parameters()
        ]
        both.zero_grad()
        nn.cross_entropy(both.run(name, x), y).backward()
        for p, expected in zip(both.parameters(), grads, strict=True):
            np.testing.assert_allclose(p.grad, expected, rtol=1e-12, atol=1e-15)
        sums = grads if sums is None else [a + b for a, b in zip(sums, grads, strict=True)]
    both.zero_grad()
    sum((nn.cross_entropy(both.run(name, x), y) for name in both.names), start=0.0).backward()
    for p, expected in zip(both.parameters(), sums, strict=True):
        np.testing.assert_allclose(p.grad, expected, rtol=1e-12, atol=1e-15)


def test_models_are_drawn_in_training():
    x, _ = data()
    both = prune.nested(mlp(), rng=0).train()
    known = {both.run(name, x).data.tobytes(): name for name in both.names}
    drawn = [known[both(x).data.tobytes()] for _ in range(60)]
    assert all(drawn.count(name) > 8 for name in both.names)
    again = prune.nested(mlp(), rng=0).train()
    assert [known[again(x).data.tobytes()] for _ in range(60)] == drawn


def test_training_goes_on_from_a_file(tmp_path):
    """Masks come with the weights; the same bits as without a break."""
    pytest.importorskip("safetensors")
    x, y = data()

    def made(seed, **options):
        both = prune.nested(mlp(seed), **options)
        return nn.Model(both).compile(optim.Adam(both.parameters(), lr=0.01), "cross_entropy")

    whole, first, second = made(0, rng=1), made(0, rng=1), made(3, rng=2)
    whole.fit(x, y, epochs=4, batch_size=32)
    first.fit(x, y, epochs=2, batch_size=32)
    first.save(tmp_path / "x.safetensors")
    second.load(tmp_path / "x.safetensors")
    second.fit(x, y, epochs=2, batch_size=32)
    a, b = whole.net.state_dict(), second.net.state_dict()
    assert "level.0.weight" in a
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("batch_size", [16, 7, 1])
def test_ranks_draw_the_same_models(batch_size):
    """Also those that have no sample of a batch."""
    pytest.importorskip("safetensors")

    def made():
        both = prune.nested(mlp(dtype=np.float64), rng=1)
        return nn.Model(both).compile(optim.SGD(both.parameters(), lr=0.1), "mse", precision="fp64")

    x, y = data()
    x, y = x[:33], np.eye(3)[y[:33]]
    alone = made()
    alone.fit(x, y, epochs=2, batch_size=batch_size)
    for model in trained(3, made, x, y, epochs=2, batch_size=batch_size):
        np.testing.assert_allclose(weights(model), weights(alone), rtol=0, atol=1e-13)
        state = model.net.rng.bit_generator.state
        assert state == alone.net.rng.bit_generator.state


def test_threads_that_use_two_models(monkeypatch):
    """One thread comes while the masks of the other are in place."""
    both, within = prune.nested(mlp()).eval(), threading.Event()
    x = data()[0]
    expected = {name: both.run(name, x).data for name in both.names}
    forward = type(both.net).forward

    def slow(net, x):
        within.set()
        time.sleep(0.05)
        return forward(net, x)

    monkeypatch.setattr(type(both.net), "forward", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(both.run, "high", x)
        assert within.wait(10)
        second = pool.submit(both.run, "low", x)
    assert np.array_equal(first.result().data, expected["high"])
    assert np.array_equal(second.result().data, expected["low"])


def test_parameters_are_back_after_an_error():
    both = prune.nested(mlp())
    weight = both.net[0].weight
    with pytest.raises(ValueError, match="input has shape"):
        both(np.ones((2, 5), np.float32))
    assert both.net[0].weight is weight


def test_models_of_rows_are_made_compact():
    x, _ = data()
    both = prune.nested(mlp(), {"half": 0.5, "fifth": 0.8}, "row")
    for name, units in [("half", (10, 5)), ("fifth", (4, 2))]:
        alone = both.model(name)
        small = prune.compact(alone)
        assert tuple(small[k].weight.shape[0] for k in (0, 2)) == units
        np.testing.assert_allclose(small(x).data, alone(x).data, rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match=r"several models .*; give one: Nested.model"):
        prune.compact(nn.Sequential(both))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"sparsities must be some, and no two alike; got {}"):
        prune.nested(mlp(), {})
    with pytest.raises(ValueError, match=r"no two alike; got {'a': 0.5, 'b': 0.5}"):
        prune.nested(mlp(), {"a": 0.5, "b": 0.5})
    with pytest.raises(ValueError, match=r"kind must be one of .*; got 'pattern'"):
        prune.nested(mlp(), kind="pattern")
    both = prune.nested(mlp())
    for call in (both.use, both.masks, both.model, lambda name: both.run(name, np.ones((1, 6)))):
        with pytest.raises(
            ValueError, match=r"model must be one of \('low', 'medium', 'high'\); got 'x'"
        ):
            call("x")


def test_on_a_device(cupy):  # noqa: F811
    both = prune.nested(mlp().to("cuda"))
    here = prune.nested(mlp())
    for name in both.names:
        masks = both.masks(name)
        for key, keep in here.masks(name).items():
            assert isinstance(masks[key], cupy.ndarray)
            assert np.array_equal(masks[key].get(), keep)
        a, b = here.model(name)[0].weight.data, both.model(name)[0].weight.data
        assert np.array_equal(b.get(), a)
    here.to("cuda")
    assert isinstance(here.masks("high")["0.weight"], cupy.ndarray)
