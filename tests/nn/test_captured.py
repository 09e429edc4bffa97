"""Epochs whose steps are one graph: as those that the host does step by step."""

import contextlib

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.errors import LinAlgError
from mplinalg.nn import optim

from ..cupy_on_host.install import recorded
from ..device import cupy, stand_in  # noqa: F401
from .test_training_device import CLASSES, NETS, UNITS, N

OPTIMIZERS = {
    "GD": lambda p: optim.GD(p, lr=0.05, weight_decay=0.01),
    "SGD": lambda p: optim.SGD(p, lr=0.05),
    "heavy": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01, eps=1e-4, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, eps=1e-4),
}


def prepared(xp, capture, name="mlp", precision="fp64", optimizer="heavy", **options):
    build, shape = NETS[name]
    dtype = np.float64 if precision == "fp64" else np.float32
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((N, *shape)).astype(dtype), rng.integers(0, CLASSES, N)
    net = build(dtype).to("cuda")
    model = nn.Model(net).compile(
        OPTIMIZERS[optimizer](net.parameters()), "cross_entropy", precision=precision,
        capture=capture, **options,
    )  # fmt: skip
    return model, xp.asarray(x), xp.asarray(y)


def both(xp, *args, fit=None, **options):
    """Step by step, and captured: two models after two calls of fit, three epochs."""
    found = []
    for capture in (False, "auto"):
        model, x, y = prepared(xp, capture, *args, **options)
        model.fit(x, y, epochs=2, batch_size=12, **(fit or {}))
        model.fit(x, y, epochs=1, batch_size=12, **(fit or {}))
        found.append(model)
    assert found[1].history["captured"] == [True] * 3, found[1].capture_note
    return found


def assert_same(one, other, bound, precision="fp64"):
    """Weights, what the optimiser remembers, the history."""
    for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True):
        assert float(abs(a.data - b.data).max()) <= bound * float(abs(a.data).max())
    first, second = one.optimizer.state_dict(), other.optimizer.state_dict()
    assert first["steps"] == second["steps"]
    assert first["arrays"].keys() == second["arrays"].keys()
    for a, b in zip(one.history.rows, other.history.rows, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=100 * bound + UNITS[precision])
        for key in a.keys() - {"loss", "seconds"}:
            assert a[key] == b[key], key


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("fit", [{}, {"max_value": 0.02}, {"shuffle": False}], ids=str)
def test_same_weights(cupy, optimizer, fit):  # noqa: F811
    one, other = both(cupy, "mlp", "fp64", optimizer, fit=fit)
    assert_same(one, other, 1e-11)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("name", "precision"), [
    ("mlp", "fp32"), ("mlp", "fp16-mixed"), ("lenet", "fp32"),
    pytest.param("mlp", "bf16-mixed", marks=SLOW), pytest.param("lenet", "fp16-mixed", marks=SLOW),
    pytest.param("lenet", "bf16-mixed", marks=SLOW),
])  # fmt: skip
def test_precisions(cupy, name, precision):  # noqa: F811
    """An entry that falls on the other side of a tie moves by a unit of its format."""
    one, other = both(cupy, name, precision, fit={"max_norm": 0.5})
    assert_same(one, other, 12 * 64 * 2.0**-23 + 0.2 * UNITS[precision], precision)


def test_steps_left_out(cupy):  # noqa: F811
    """A scale that is too large at first; it grows again."""
    found = []
    for capture in (False, True):
        scaler = nn.LossScaler(2.0**125, backoff=2.0**-20, interval=2)
        model, x, y = prepared(cupy, capture, "mlp", "fp16-mixed", scaler=scaler)
        model.optimizer.lr = 1e-10
        model.fit(1e5 * x, y, epochs=3, batch_size=10)
        found.append(model)
    one, other = (m.history for m in found)
    assert one["skipped"] == other["skipped"]
    assert one["skipped"][0] > 0
    assert one["scale"] == other["scale"]
    assert one["scale"][-1] > one["scale"][0]
    assert found[0].scaler.state_dict() == found[1].scaler.state_dict()
    assert found[0].optimizer._steps == found[1].optimizer._steps
    assert_same(*found, 12 * 64 * 2.0**-23 + 0.2 * UNITS["fp16-mixed"], "fp16-mixed")


def test_schedules_change_what_the_graph_reads(cupy):  # noqa: F811
    found = []
    for capture in (False, True):
        schedule = nn.schedules.Step(1, 0.1)
        model, x, y = prepared(cupy, capture, schedule=schedule)
        model.fit(x, y, epochs=3, batch_size=10)
        found.append(model)
    assert found[0].history["lr"] == found[1].history["lr"]
    assert found[1].history["lr"][0] > found[1].history["lr"][-1]
    assert_same(*found, 1e-11)


def test_a_loss_of_another_dtype(cupy):  # noqa: F811
    """Of targets that are whole numbers it is float64."""
    found = []
    for capture in (False, True):
        rng = np.random.default_rng(0)
        net = nn.Sequential(nn.Linear(3, 2, rng=rng)).to("cuda")
        x, y = cupy.asarray(rng.standard_normal((30, 3)), np.float32), cupy.ones((30, 2), np.int64)
        model = nn.Model(net)
        model.compile(
            optim.SGD(net.parameters(), 0.1), lambda p, y: nn.mse_loss(p, y), capture=capture
        )
        model.fit(x, y, epochs=2, batch_size=8)
        found.append(model)
    assert_same(*found, 8 * 64 * 2.0**-23, "fp32")


@pytest.mark.parametrize("fit", [{"drop_last": True}, {"drop_last": True, "shuffle": False}])
def test_the_last_batch_is_left_out(cupy, fit):  # noqa: F811
    """Means are over the samples that were seen, 36 of 40."""
    assert_same(*both(cupy, fit=fit), 1e-11)


@pytest.mark.parametrize(("optimizer", "fit", "said"), [
    ("SGD", {}, "0.weight is not finite after epoch 1"),
    ("Adam", {}, "a gradient is not finite in step 2 of epoch 1"),
    ("SGD", {"max_norm": 1.0}, "clipped to a norm: one is not finite in step 2 of epoch 1"),
])  # fmt: skip
def test_gradients_that_are_not_finite(cupy, optimizer, fit, said):  # noqa: F811
    """Of the last step, 2 x d / 8 = 2.5e39 with a loss of d^2 = 1e30.

    Where norms are known, parameters stay as they were.
    """
    net = nn.Sequential(nn.Linear(3, 2, rng=0)).to("cuda")
    net[0].weight.data[...] = 0
    x, y = cupy.zeros((8, 3), np.float32), cupy.full((8, 2), 1e15, np.float32)
    x[4:] = 1e25
    model = nn.Model(net).compile(OPTIMIZERS[optimizer](net.parameters()), "mse", capture=True)
    model.optimizer.lr = 1e-4
    with pytest.raises(LinAlgError, match=said):
        model.fit(x, y, batch_size=4, shuffle=False, **fit)
    is_finite = bool(cupy.isfinite(net[0].weight.data).all())
    assert is_finite == (optimizer == "Adam" or bool(fit))


def test_interrupted(cupy, monkeypatch):  # noqa: F811
    """After two steps of four: what is remembered is of as many steps as the parameters."""
    found = []
    for capture in (False, True):
        model, x, y = prepared(cupy, capture, optimizer="Adam")
        model.fit(x, y, batch_size=10)
        advance, seen = interrupted_after(2)
        monkeypatch.setattr("mplinalg.nn.model.progress_bar", advance)
        with pytest.raises(KeyboardInterrupt):
            model.fit(x, y, batch_size=10)
        monkeypatch.undo()
        assert seen == [1, 1]
        model.fit(x, y, batch_size=10)
        found.append(model)
    assert found[1].history["captured"] == [True, True]
    assert found[1].optimizer.memory()[1][0] == 4 + 2 + 4
    assert_same(*found, 1e-11)


def interrupted_after(steps):
    """In the place of `progress_bar`: Ctrl-C after so many steps."""
    seen = []

    def advance(count):
        seen.append(count)
        if len(seen) == steps:
            raise KeyboardInterrupt

    return lambda *_: contextlib.nullcontext(advance), seen


def test_resumed(cupy, tmp_path):  # noqa: F811
    """From the checkpoint of the first of two epochs: the same bits as of both in one go."""
    pytest.importorskip("safetensors")
    whole, x, y = prepared(cupy, True, optimizer="Adam", schedule=nn.schedules.Step(1, 0.5))
    whole.fit(x, y, epochs=2, batch_size=12, seed=7)
    first, *_ = prepared(cupy, True, optimizer="Adam", schedule=nn.schedules.Step(1, 0.5))
    first.fit(x, y, epochs=1, batch_size=12, seed=7, save_to=tmp_path / "model")
    second, *_ = prepared(cupy, True, optimizer="Adam", schedule=nn.schedules.Step(1, 0.5))
    second.load(tmp_path / "model").fit(x, y, epochs=1, batch_size=12)
    assert second.history["captured"] == [True, True]
    assert second.history["loss"] == whole.history["loss"]
    for a, b in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        np.testing.assert_array_equal(a.data.get(), b.data.get())


def test_tiles(cupy):  # noqa: F811
    """F(2x2, 3x3), which has constants that come from the host."""
    found = []
    for capture in (False, "auto"):
        rng = np.random.default_rng(0)
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1, algorithm="winograd", rng=rng), nn.ReLU(), nn.Flatten(),
            nn.Linear(108, CLASSES, rng=rng),
        ).to("cuda")  # fmt: skip
        x = cupy.asarray(rng.standard_normal((20, 1, 6, 6)), np.float32)
        y = cupy.asarray(rng.integers(0, CLASSES, 20))
        model = nn.Model(net)
        model.compile(optim.SGD(net.parameters(), 0.1), "cross_entropy", capture=capture)
        model.fit(x, y, epochs=2, batch_size=6)
        found.append(model)
    assert found[1].history["captured"] == [True, True], found[1].capture_note
    assert_same(*found, 12 * 64 * 2.0**-23, "fp32")


def test_mse(cupy):  # noqa: F811
    found = []
    for capture in (False, "auto"):
        rng = np.random.default_rng(0)
        net = nn.Sequential(nn.Linear(3, 8, rng=rng), nn.Tanh(), nn.Linear(8, 2, rng=rng))
        x, y = (cupy.asarray(rng.standard_normal((30, k)), np.float32) for k in (3, 2))
        model = nn.Model(net.to("cuda"))
        model.compile(optim.SGD(net.parameters(), 0.1), "mse", capture=capture)
        model.fit(x, y, epochs=2, batch_size=8)
        found.append(model)
    assert found[1].history["captured"] == [True, True], found[1].capture_note
    assert_same(*found, 8 * 64 * 2.0**-23, "fp32")


def test_what_crosses(stand_in):  # noqa: F811
    """An epoch: its numbers there, its order, and its numbers back; and nothing is compiled."""
    model, x, y = prepared(stand_in, True, "mlp", "fp16-mixed")
    model.fit(x, y, batch_size=10)
    order, numbers, amounts = 8 * N, 8 * 16, []
    for size in (10, 5):
        model.fit(x, y, batch_size=size)
        with recorded() as ledger:
            model.fit(x, y, batch_size=size)
        assert ledger.calls["graphLaunch"] == N // size
        large = [b for b in (*ledger.to_device, *ledger.to_host) if b > 8]
        assert sorted(large) == [numbers, numbers, order]
        assert not ledger.compiled
        amounts.append((len(ledger.syncs), len(ledger.to_host), len(ledger.to_device)))
    assert amounts[0] == amounts[1]


def test_launches_of_a_step(stand_in):  # noqa: F811
    """As the page on training counts them."""
    model, x, y = prepared(stand_in, True, "mlp", "fp32")
    model.fit(x, y, batch_size=20)
    with recorded() as two:
        model.fit(x, y, batch_size=20)
    model.fit(x, y, batch_size=10)
    with recorded() as four:
        model.fit(x, y, batch_size=10)
    launches = {k: (four.launches[k] - two.launches[k]) / 2 for k in four.launches}
    assert launches == {
        "take_rows<float>": 1, "take_rows<long long>": 1, "add_bias<float, true>": 2,
        "add_bias<float, false>": 1, "cross_entropy<float>": 1, "account<float>": 1,
        "mask_columns<float, true>": 2, "mask_columns<float, false>": 1, "descend<float>": 1,
    }  # fmt: skip
    assert four.calls["sgemm"] - two.calls["sgemm"] == 2 * 8
    operations = {k: (four.operations[k] - two.operations[k]) / 2 for k in four.operations}
    assert {k: v for k, v in operations.items() if v} == {"cupy_multiply": 1}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("capture", [False, True])
def test_a_loss_that_is_not_finite(cupy, capture, shuffle):  # noqa: F811
    """By a graph no update follows it, and so the layer is the one that was wrong."""
    model, x, y = prepared(cupy, capture, "mlp", "fp32")
    model.net[2].weight.data[3, 2] = np.inf
    where = "first in layer 2, Linear" if capture else "3 steps later, when it was looked at, first"
    with pytest.raises(LinAlgError, match=f"the loss is nan in step 1 of epoch 1; {where}"):
        model.fit(x, y, batch_size=10, shuffle=shuffle)


def test_the_step_that_went_wrong(cupy):  # noqa: F811
    """Parameters stay as they were; the same sample is found in any order."""
    for shuffle in (False, True):
        model, x, y = prepared(cupy, True, "mlp", "fp32")
        x[25] = np.nan
        with pytest.raises(LinAlgError, match="the input") as caught:
            model.fit(x, y, batch_size=10, shuffle=shuffle)
        order = np.random.default_rng([0, 0]).permutation(N) if shuffle else np.arange(N)
        step = list(order).index(25) // 10 + 1
        assert f"in step {step} of epoch 1" in str(caught.value)
        assert all(bool(cupy.isfinite(p.data).all()) for p in model.net.parameters())
        assert model.optimizer._steps[0] == step - 1


def test_data_that_are_written_between_two_calls(cupy):  # noqa: F811
    """Images and labels in the order of another layout and dtype, of which there are copies."""
    found = []
    for capture in (False, True):
        model, x, y = prepared(cupy, capture)
        x, y = x.T.copy().T, y.astype(np.int32)
        model.fit(x, y, batch_size=10)
        x *= -1
        y[...] = 3 - y
        model.fit(x, y, batch_size=10)
        found.append(model)
    assert found[1].history["captured"] == [True, True]
    assert_same(*found, 1e-11)


def test_what_was_computed_before_is_not_differentiated_after(cupy):  # noqa: F811
    model, x, y = prepared(cupy, "auto", precision="fp32")
    loss = nn.cross_entropy(model.net(x), y)
    model.fit(x, y, epochs=1, batch_size=12)
    assert model.history["captured"] == [True]
    with pytest.raises(RuntimeError, match="changed after"):
        loss.backward()
