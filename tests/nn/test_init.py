"""Initial weights: their moments, bounds, and reproducibility."""

import math

import numpy as np
import pytest

from mplinalg.nn import Linear, init

SHAPE = (60, 40, 5, 3)
FAN_IN, FAN_OUT = 40 * 15, 60 * 15
VARIANCES = {
    "kaiming_uniform": (init.kaiming_uniform, {}, 2 / FAN_IN),
    "kaiming_normal": (init.kaiming_normal, {}, 2 / FAN_IN),
    "fan_out": (init.kaiming_normal, {"mode": "fan_out"}, 2 / FAN_OUT),
    "slope": (init.kaiming_uniform, {"slope": math.sqrt(5)}, 1 / (3 * FAN_IN)),
    "xavier_uniform": (init.xavier_uniform, {}, 2 / (FAN_IN + FAN_OUT)),
    "xavier_normal": (init.xavier_normal, {}, 2 / (FAN_IN + FAN_OUT)),
    "gain": (init.xavier_normal, {"gain": 5 / 3}, 25 / 9 * 2 / (FAN_IN + FAN_OUT)),
}


@pytest.mark.parametrize("name", VARIANCES)
def test_moments(name):
    make, options, variance = VARIANCES[name]
    w = make(SHAPE, rng=0, dtype=np.float64, **options)
    count = w.size
    assert w.shape == SHAPE
    # five standard deviations of the mean, and of the mean of squares (fourth moment 3 at most)
    assert abs(w.mean()) <= 5 * math.sqrt(variance / count)
    assert abs((w**2).mean() - variance) <= 5 * variance * math.sqrt(2 / count)
    if "uniform" in name:
        bound = math.sqrt(3 * variance)
        assert 0.99 * bound <= abs(w).max() <= bound


def test_reproducible():
    for make, options, _ in VARIANCES.values():
        first = make((5, 4), rng=3, **options)
        assert first.dtype == np.float32
        assert np.array_equal(first, make((5, 4), rng=np.random.default_rng(3), **options))
        assert not np.array_equal(first, make((5, 4), rng=4, **options))


def test_constants():
    assert init.zeros((2,)).tolist() == [0, 0]
    assert init.ones((2,), dtype=np.float64).dtype == np.float64
    assert init.constant((1, 2), 0.5).tolist() == [[0.5, 0.5]]


def test_errors():
    with pytest.raises(ValueError, match=r"shape=\(3,\)"):
        init.xavier_normal((3,))
    with pytest.raises(ValueError, match="fan_in or fan_out"):
        init.kaiming_normal((3, 3), mode="fan")


def test_linear_starts_as_that_of_pytorch():
    """Weights and biases are uniform in +-1 / sqrt(fan_in)."""
    layer, again, other = (Linear(50, 400, rng=seed) for seed in (5, 5, 6))
    for parameter in (layer.weight, layer.bias):
        bound = 1 / math.sqrt(50)
        assert 0.9 * bound <= abs(parameter.data).max() <= bound * (1 + 2.0**-23)
    assert np.array_equal(layer.weight.data, again.weight.data)
    assert np.array_equal(layer.bias.data, again.bias.data)
    assert not np.array_equal(layer.weight.data, other.weight.data)
