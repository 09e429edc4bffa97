"""Training with masks, and towards them."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import optim, prune

from ..device import cupy  # noqa: F401

OPTIMIZERS = {
    "GD": lambda p: optim.GD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, weight_decay=0.01),
    "AdagradNorm": lambda p: optim.AdagradNorm(p, lr=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.9, weight_decay=0.01),
    "RMSprop, centred": lambda p: optim.RMSprop(p, centered=True, momentum=0.5),
    "Adadelta": lambda p: optim.Adadelta(p, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
}


def mlp(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Linear(6, 12, rng=rng, dtype=dtype), nn.Tanh(), nn.Linear(12, 8, rng=rng, dtype=dtype),
        nn.Tanh(), nn.Linear(8, 3, rng=rng, dtype=dtype),
    )  # fmt: skip


def data(dtype=np.float32, n=96):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((n, 6)).astype(dtype)
    return x, (abs(x[:, :3])).argmax(axis=1)


def train(net, optimizer, steps=20, dtype=np.float32, scaler=None):
    x, y = data(dtype)
    for k in range(steps):
        part = slice(k % 3 * 32, k % 3 * 32 + 32)
        optimizer.zero_grad()
        loss = nn.cross_entropy(net(x[part]), y[part])
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scaled(loss).backward()
            scaler.step(optimizer)


# -- hard pruning --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("scaled", [False, True], ids=["", "scaled"])
def test_masked_weights_stay_0(make, scaled):
    net = mlp()
    inner = make(net.parameters())
    train(net, inner, 5)  # velocities and means are there
    masks = prune.magnitude(net, 0.7)
    optimizer = prune.Masked(inner, masks)
    before = {name: p.data.copy() for name, p in masks.parameters.items()}
    for _ in range(20):
        train(net, optimizer, 1, scaler=nn.LossScaler(1024.0) if scaled else None)
        for name, p in masks.parameters.items():
            assert not p.data[~masks[name]].any()
            assert not np.signbit(p.data[~masks[name]]).any()
            assert not p.grad[~masks[name]].any()
    for name, p in masks.parameters.items():
        # all weights move but those of units with no way out
        assert np.mean(p.data[masks[name]] != before[name][masks[name]]) > 0.5


def test_without_masks_they_would_not():
    net = mlp()
    inner = OPTIMIZERS["momentum"](net.parameters())
    masks = prune.magnitude(net, 0.7).apply()
    train(net, inner, 2)
    assert prune.sparsity(net) < masks.sparsity() - 0.5


def test_weights_that_stay_are_trained_as_those_of_a_smaller_network():
    """Masked rows and columns are as if they were not there, for the norms of Adagrad, too."""
    for make in OPTIMIZERS.values():
        net = mlp(dtype=np.float64)
        masks = prune.structured(net, 0.5, "row").apply()
        small = prune.compact(net)
        extra = prune.structured(net, {"2": 0.0}, "row")  # columns that take from removed rows
        keep = np.broadcast_to(masks["0.bias"], (8, 12)) & masks["2.weight"]
        last = np.broadcast_to(masks["2.bias"], (3, 8))
        names = {"2.weight": keep.copy(), "4.weight": last.copy()}
        parameters = dict(net.named_parameters())
        masks = prune.Masks(
            masks.parameters | {name: parameters[name] for name in names}, dict(masks) | names
        )
        assert extra.sparsity() == 0
        train(net, prune.Masked(make(net.parameters()), masks), 15, np.float64)
        train(small, make(small.parameters()), 15, np.float64)
        found = prune.compact(net)
        for a, b in zip(found.parameters(), small.parameters(), strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)


def test_it_is_an_optimizer_like_the_one_within():
    net = mlp()
    inner = optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    optimizer = prune.Masked(inner, prune.magnitude(net, 0.5))
    optimizer.lr = 0.25
    assert (inner.lr, inner.initial_lr, optimizer.initial_lr) == (0.25, 0.25, 0.25)
    nn.schedules.Step(2, 0.1).apply(optimizer, 2)
    assert (inner.lr, optimizer.lr, optimizer.initial_lr) == (0.025, 0.025, 0.25)
    assert repr(optimizer).startswith("Masked(SGD(6 parameters, lr=0.025")
    net(data()[0]).sum().backward()
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    optimizer.step()  # nothing to do
    other = prune.magnitude(mlp(), 0.5)
    with pytest.raises(ValueError, match=r"masks of 0.weight, 2.weight, 4.weight, which"):
        prune.Masked(inner, other)
    with pytest.raises(TypeError, match=r"masks must be Masks, got dict"):
        prune.Masked(inner, dict(other))
    with pytest.raises(TypeError, match=r"optimizer must be an Optimizer, got Sequential"):
        prune.Masked(net, other)


@pytest.mark.parametrize("precision", ["fp32", "fp16-mixed"])
@pytest.mark.parametrize("method", ["Masked", "ADMM"])
def test_training_goes_on_from_a_file(method, precision, tmp_path):
    """The same bits as without a break, masks included."""
    pytest.importorskip("safetensors")
    x, y = data()

    def made(share):
        net = mlp()
        inner = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        if method == "Masked":
            wrapper = prune.Masked(inner, prune.magnitude(net, share))
        else:
            wrapper = prune.ADMM(inner, lambda: prune.magnitude(net, 0.6), rho=share, every=4)
        return nn.Model(net).compile(wrapper, "cross_entropy", precision=precision)

    whole, first, second = made(0.6), made(0.6), made(0.3)
    whole.fit(x, y, epochs=4, batch_size=32)
    first.fit(x, y, epochs=2, batch_size=32)
    first.save(tmp_path / "x.safetensors")
    second.load(tmp_path / "x.safetensors")
    second.fit(x, y, epochs=2, batch_size=32)
    for a, b in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert np.array_equal(a.data, b.data)
    if method == "Masked":
        assert prune.sparsity(second.net) == whole.optimizer.masks.sparsity()
        assert repr(second.optimizer.masks) == repr(whole.optimizer.masks)
    else:
        assert (second.optimizer.rho, second.optimizer.steps) == (0.6, 12)


def test_states_that_do_not_fit_change_nothing():
    net = mlp()
    inner = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    masked = prune.Masked(inner, prune.magnitude(net, 0.5))
    train(net, masked, 3)
    state = masked.state_dict()
    other = mlp()
    rows = prune.Masked(optim.SGD(other.parameters(), lr=0.2), prune.structured(other, 0.5))
    adam = prune.Masked(optim.Adam(other.parameters()), prune.magnitude(other, 0.5))
    admm = prune.ADMM(optim.SGD(other.parameters(), lr=0.2), lambda: prune.magnitude(other, 0.5))
    before = copy.deepcopy([p.data for p in other.parameters()])
    for target, message in [
        (rows, r"the state of Masked is of \['0.weight', .*here are \['0.bias'"),
        (adam, "the state of SGD does not fit Adam"),
        (admm, "the state of Masked does not fit ADMM"),
        (inner, "the state of Masked does not fit SGD"),
    ]:
        with pytest.raises(ValueError, match=message):
            target.load_state_dict(state)
    with pytest.raises(ValueError, match=r"the state of SGD does not fit Masked"):
        masked.load_state_dict(inner.state_dict())
    with pytest.raises(ValueError, match=r"not the state of an optimiser"):
        masked.load_state_dict({})
    wrong = masked.state_dict()
    wrong["arrays"]["prune.0.weight"] = np.ones((2, 2), bool)
    with pytest.raises(ValueError, match=r"0.weight is bool, shape \(2, 2\), in the state"):
        masked.load_state_dict(wrong)
    assert rows.lr == 0.2
    after = [p.data for p in other.parameters()]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_masks_are_replaced_by_those_of_a_state():
    net, other = mlp(), mlp(1)
    one = prune.Masked(optim.GD(net.parameters(), lr=0.1), prune.magnitude(net, 0.5))
    masks = prune.magnitude(other, 0.25)
    two = prune.Masked(optim.GD(other.parameters(), lr=0.1), masks)
    two.load_state_dict(one.state_dict())
    assert two.masks is masks
    assert all(np.array_equal(masks[name], one.masks[name]) for name in masks)
    assert all(not p.data[~masks[name]].any() for name, p in masks.parameters.items())


# -- ADMM ----------------------------------------------------------------------------------------


def test_the_updates_are_those_of_the_method(rng):
    """Against the formulas, for f(W) = <G, W>, by descent."""
    weight = nn.Parameter(rng.standard_normal((4, 5)), "w")
    g = rng.standard_normal((4, 5))
    lr, rho = 0.1, 0.3

    def constraint():
        size = abs(weight.data)
        return prune.Masks({"w": weight}, {"w": size >= np.sort(size, axis=None)[-8]})

    def projected(a):
        return np.where(abs(a) >= np.sort(abs(a), axis=None)[-8], a, 0.0)

    w = weight.data.copy()
    z, u = projected(w), np.zeros_like(w)
    admm = prune.ADMM(optim.GD([weight], lr=lr), constraint, rho=rho, every=3)
    for step in range(1, 13):
        weight.grad = g.copy()
        admm.step()
        w = w - lr * (g + rho * (w - z + u))
        if step % 3 == 0:
            z = projected(w + u)
            u = u + w - z
        np.testing.assert_allclose(weight.data, w, rtol=1e-13)
        distance = np.linalg.norm(w - z) / np.linalg.norm(w)
        assert admm.distance() == pytest.approx(distance, rel=1e-12)
    assert np.count_nonzero(z) == 8


@pytest.mark.parametrize("kind", ["magnitude", "row", "column", "block"])
def test_weights_come_near_the_constraint(kind):
    x, y = data()
    losses = {}
    for method in ("at once", "ADMM"):
        net = mlp()
        adam = optim.Adam(net.parameters(), lr=0.01)

        def constraint(net=net):
            if kind == "magnitude":
                return prune.magnitude(net, 0.6)
            return prune.structured(net, 0.5, kind, block=2 if kind == "block" else None)

        admm = prune.ADMM(adam, constraint, rho=0.3, every=30)
        start = admm.distance()
        model = nn.Model(net).compile(admm if method == "ADMM" else adam, "cross_entropy")
        model.fit(x, y, epochs=300, batch_size=32)
        if method == "ADMM":
            assert admm.steps == 900
            assert admm.distance() < 0.1 * start
        model.compile(admm.hard(), "cross_entropy")
        losses[method] = model.evaluate(x, y).loss
    assert losses["ADMM"] < losses["at once"]
    model.fit(x, y, epochs=2, batch_size=32)
    masks = model.optimizer.masks
    assert all(not p.data[~masks[name]].any() for name, p in masks.parameters.items())
    assert model.evaluate(x, y).loss < losses["ADMM"]


def test_gradients_that_are_not_there_are_not_made_up():
    net = mlp()
    admm = prune.ADMM(optim.GD(net.parameters(), lr=0.1), lambda: prune.magnitude(net, 0.5))
    before = [p.data.copy() for p in net.parameters()]
    admm.step()
    assert all(np.array_equal(a, p.data) for a, p in zip(before, net.parameters(), strict=True))


def test_a_constraint_that_fails_leaves_the_weights_alone():
    net = mlp()
    calls = []

    def constraint():
        calls.append(net[0].weight.data)
        if len(calls) == 2:
            raise RuntimeError("no more")
        return prune.magnitude(net, 0.5)

    admm = prune.ADMM(optim.GD(net.parameters(), lr=0.1), constraint)
    with pytest.raises(RuntimeError, match="no more"):
        admm.update()
    assert net[0].weight.data is calls[0]
    assert calls[1] is not calls[0]


def test_options_of_admm_are_checked():
    net = mlp()
    inner = optim.GD(net.parameters(), lr=0.1)

    def fine():
        return prune.magnitude(net, 0.5)

    for options, message in [
        ({"rho": 0.0}, "rho must be a finite number greater than 0; got 0.0"),
        ({"rho": float("inf")}, "rho must be a finite number"),
        ({"every": 0}, "every must be at least 1; got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            prune.ADMM(inner, fine, **options)
    with pytest.raises(TypeError, match=r"constraint\(\) must give Masks, got float"):
        prune.ADMM(inner, lambda: 0.5)
    other = mlp()
    with pytest.raises(ValueError, match=r"on 0.weight, 2.weight, 4.weight, which the optimiser"):
        prune.ADMM(inner, lambda: prune.magnitude(other, 0.5))


def test_a_constraint_stays_on_the_same_weights():
    net = mlp()
    shares = [{"0": 0.5}, {"0": 0.5, "2": 0.5}]
    inner = optim.GD(net.parameters(), lr=0.1)
    admm = prune.ADMM(inner, lambda: prune.magnitude(net, shares.pop(0)))
    with pytest.raises(ValueError, match=r"was on 0.weight, and is on 0.weight, 2.weight"):
        admm.update()


def lenet(seed):
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 40, rng=rng), nn.ReLU(), nn.Linear(40, 10, rng=rng),
    )  # fmt: skip


@pytest.mark.slow
def test_admm_prunes_no_worse_than_at_once():
    """Digits, 9 of 10 weights gone, as many epochs, no training afterwards."""
    x, y = nn.data.digits()
    by_method = {"at once": [], "ADMM": []}
    for seed in range(3):
        for method, found in by_method.items():
            net = lenet(seed)
            adam = optim.Adam(net.parameters(), lr=2e-3)
            model = nn.Model(net).compile(adam, "cross_entropy")
            model.fit(x[:1400], y[:1400], epochs=10, batch_size=50)

            def constraint(net=net):
                return prune.magnitude(net, 0.9)

            if method == "ADMM":
                admm = prune.ADMM(adam, constraint, rho=0.3, every=28)
                model.compile(admm, "cross_entropy")
            model.fit(x[:1400], y[:1400], epochs=20, batch_size=50)
            constraint().apply()
            found.append(model.evaluate(x[1400:], y[1400:]).accuracy)
    assert np.mean(by_method["ADMM"]) >= np.mean(by_method["at once"])


# -- on a device ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Masked", "ADMM"])
def test_on_a_device(method, cupy):  # noqa: F811
    weights = []
    for where in ("cpu", "cuda"):
        net = mlp(dtype=np.float64).to(where)
        inner = optim.Adam(net.parameters(), lr=0.01)
        if method == "Masked":
            optimizer = prune.Masked(inner, prune.magnitude(net, 0.6))
        else:
            optimizer = prune.ADMM(inner, lambda net=net: prune.magnitude(net, 0.6), every=2)
        rng = np.random.default_rng(0)
        for _ in range(4):
            for p in net.parameters():
                g = rng.standard_normal(p.shape)
                p.grad = g if where == "cpu" else cupy.asarray(g)
            optimizer.step()
        weights.append([p.data for p in net.parameters()])
        optimizer.load_state_dict(optimizer.state_dict())
    for a, b in zip(*weights, strict=True):
        assert isinstance(b, cupy.ndarray)
        np.testing.assert_allclose(b.get(), a, rtol=1e-12)
