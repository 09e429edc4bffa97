"""Schedules of a model that is compiled again, and of one that goes on from there."""

import numpy as np
import pytest

from mplinalg import nn


def phase(model, schedule):
    optimizer = nn.optim.SGD(model.net.parameters(), lr=0.1)
    return model.compile(optimizer, "mse", schedule=schedule)


def test_a_schedule_begins_when_the_model_is_compiled(rng, tmp_path):
    pytest.importorskip("safetensors")
    x = rng.standard_normal((8, 2))
    model = phase(nn.Model(nn.Linear(2, 1, rng=0)), None)
    model.fit(x, x[:, :1], 3, 4)
    phase(model, nn.schedules.Step(2)).fit(x, x[:, :1], 3, 4, save_to=tmp_path / "net")
    rates = [0.1, 0.1, 0.1, 0.1, 0.1, 0.01]
    assert np.allclose(model.history["lr"], rates)
    other = phase(nn.Model(nn.Linear(2, 1, rng=1)), nn.schedules.Step(2)).load(tmp_path / "net")
    assert np.allclose(other.fit(x, x[:, :1], 2, 4)["lr"], [*rates, 0.01, 0.001])
    anew = phase(nn.Model(nn.Linear(2, 1)).load(tmp_path / "net"), nn.schedules.Step(2))
    assert anew.fit(x, x[:, :1], 1, 4)["lr"][-1] == 0.1
