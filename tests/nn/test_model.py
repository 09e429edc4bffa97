"""Model: trained, judged, used and kept."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import schedules

from .models import compiled, drawn, lenet, small

safetensors = pytest.importorskip("safetensors")


def test_the_seed_decides_and_nothing_else():
    x, y = drawn()
    runs = []
    for seed in (1, 1, 2):
        model = small()
        model.fit(x, y, epochs=2, batch_size=16, seed=seed)
        runs.append(model.predict(x))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_predictions_do_not_depend_on_batches_and_leave_the_mode():
    x, _ = drawn()
    model = small()
    model.net.train()
    assert np.allclose(model.predict(x, 7), model.predict(x, 50), rtol=1e-6, atol=1e-6)
    assert all(module.training for _, module in model.net.named_modules())
    assert model.predict(x[:0]).shape == (0, 2)


def test_evaluate_is_the_mean_over_samples():
    x, y = drawn()
    model = small()
    logits = model.predict(x).astype(float)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    found = model.evaluate(x, y, batch_size=16)
    assert abs(found.loss - losses.mean()) <= 1e-6
    assert found.accuracy == (logits.argmax(axis=1) == y).mean()


def test_regression_in_double_precision():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 3))
    y = x @ np.array([[1.0], [-2.0], [0.5]]) + 3
    net = nn.Sequential(nn.Linear(3, 1, rng=0, dtype=np.float64))
    model = nn.Model(net).compile(nn.optim.GD(net.parameters(), lr=0.3), "mse", precision="fp64")
    history = model.fit(x, y, epochs=200, batch_size=100)
    assert history["loss"][-1] < 1e-20
    assert model.evaluate(x, y).accuracy is None
    with pytest.raises(KeyError, match="accuracy"):
        history["accuracy"]


def test_early_stopping_keeps_the_best():
    x, y = drawn()
    model = small()
    model.optimizer.lr = 30.0  # it jumps about
    history = model.fit(x, y, epochs=200, batch_size=10, validation_data=(x, y), patience=3, seed=0)
    losses = history["val_loss"]
    assert len(losses) < 200
    assert len(losses) - 1 - int(np.argmin(losses)) == 3
    assert abs(model.evaluate(x, y, batch_size=10).loss - min(losses)) <= 1e-6


def test_clipping_bounds_the_step():
    x, y = drawn()
    model = small()
    model.optimizer.lr = 1.0
    before = model.net.state_dict()
    model.fit(x, y, epochs=1, batch_size=50, max_norm=1e-3)
    after = model.net.state_dict()
    moved = np.sqrt(sum(((after[k] - before[k]) ** 2).sum() for k in before))
    assert 0.9e-3 <= moved <= 1.001e-3


@pytest.mark.parametrize("precision", ["fp32", "fp16-mixed"])
def test_clipping_bounds_each_entry(precision):
    x, y = drawn()
    model = small(precision, lr=1.0)
    before = model.net.state_dict()
    model.fit(x, y, epochs=1, batch_size=50, max_value=1e-3)
    after = model.net.state_dict()
    moved = max(abs(after[name] - before[name]).max() for name in before)
    assert 0.999e-3 <= moved <= 1.001e-3


def test_equal_losses_are_no_improvement():
    x, y = drawn()
    history = small(lr=0.0).fit(x, y, epochs=9, batch_size=50, shuffle=False, patience=2)
    assert len(set(history["loss"])) == 1
    assert len(history) == 3


def test_every_epoch_has_an_order_of_its_own():
    x, _ = drawn()
    seen = []

    def loss(prediction, target):
        seen.append(target[:, 0].tolist())
        return nn.mse_loss(prediction, target)

    numbers = np.arange(50)[:, None]
    net = nn.Sequential(nn.Linear(3, 1, rng=0))
    orders = {}
    for shuffle in (True, False):
        seen.clear()
        compiled(net, lr=0.0, loss=loss).fit(x, numbers, 3, 10, shuffle=shuffle)
        steps = seen[1:]  # the first one was to try it
        orders[shuffle] = np.reshape(steps, (3, 50)).tolist()
    assert all(sorted(order) == list(range(50)) for order in orders[True])
    assert len({tuple(order) for order in orders[True]}) == 3
    assert orders[False] == [list(range(50))] * 3


def test_a_schedule_is_in_the_history():
    x, y = drawn()
    net = small().net
    model = compiled(net, schedule=schedules.Step(2, 0.5))
    assert model.fit(x, y, epochs=5)["lr"] == [0.1, 0.1, 0.05, 0.05, 0.025]


def test_a_schedule_is_told_the_validation_loss():
    x, y = drawn()
    seen = []

    class Told(schedules.ReduceOnPlateau):
        def observe(self, value):
            seen.append(value)
            super().observe(value)

    # after the first epoch, nothing is an improvement
    model = small(schedule=Told(patience=0, threshold=1e9, relative=False))
    history = model.fit(x, y, epochs=4, validation_data=(x[:9], y[:9]))
    assert seen == history["val_loss"]
    assert np.allclose(history["lr"], [0.1, 0.1, 0.01, 0.001], rtol=1e-12, atol=0)


def test_summary():
    text = lenet().__class__(*lenet().layers)
    table = nn.Model(text).summary((1, 8, 8)).splitlines()
    assert table[0].split() == ["layer", "result", "parameters"]
    assert table[1].split()[-2:] == ["6x8x8", "60"]
    sizes = [p.data.size for p in text.parameters()]
    assert table[-1].split() == ["all", f"{sum(sizes):,}"]


def test_summary_of_a_vector():
    assert small().summary(3) == small().summary(np.int64(3)) == small().summary((3,))
    with pytest.raises(ValueError, match=r"layer 0, Linear\(3, 4\): input has shape \(1, 2\)"):
        small().summary(2)


def test_progress(capsys):
    pytest.importorskip("tqdm")
    small().fit(*drawn(), epochs=2, batch_size=25, progress=True)
    assert "4/4" in capsys.readouterr().err
