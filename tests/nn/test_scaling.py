"""Loss scaling and clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mplinalg.errors import LinAlgError
from mplinalg.nn import optim, scaling

from ..device import KINDS, library
from .parameters import Weight


def weight(*grad, dtype=np.float64):
    return Weight(np.zeros(len(grad), dtype), np.array(grad, dtype))


# -- scaling ------------------------------------------------------------------------------------


def test_defaults():
    scaler = scaling.LossScaler()
    assert (scaler.scale, scaler.growth, scaler.backoff) == (65536.0, 2.0, 0.5)
    assert scaler.interval == 2000
    assert scaler.scaled(3.0) == 3.0 * 65536


def test_a_scaled_step_is_a_step():
    plain, scaled = weight(1.5, -2.25), weight(1.5 * 1024, -2.25 * 1024)
    scaler = scaling.LossScaler(1024.0)
    optim.SGD([plain], lr=0.1).step()
    assert scaler.step(optim.SGD([scaled], lr=0.1))
    np.testing.assert_array_equal(plain.data, scaled.data)
    assert (scaler.scale, scaler.clean, scaler.skipped) == (1024.0, 1, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_that_overflow_are_left_out(bad, dtype):
    good, other = weight(1.0, 2.0, dtype=dtype), weight(1.0, bad, 3.0, dtype=dtype)
    optimizer = optim.Adam([good, other])
    scaler = scaling.LossScaler(8.0, interval=3)
    scaler.clean = 2
    assert not scaler.step(optimizer, max_norm=1.0, max_value=1.0)
    assert (scaler.scale, scaler.clean, scaler.skipped) == (4.0, 0, 1)
    assert not good.data.any()
    assert not other.data.any()
    assert optimizer.state_dict()["steps"] == [0, 0]


def test_growth_and_backoff():
    scaler = scaling.LossScaler(1024.0, growth=4.0, backoff=0.25, interval=3)
    seen = []
    for is_finite in [True, True, True, True, False, True, True, True, False, False]:
        scaler.update(is_finite)
        seen.append(scaler.scale)
    # grows with the third clean step in a row; an overflow makes the count begin again
    assert seen == [1024, 1024, 4096, 4096, 1024, 1024, 1024, 4096, 1024, 256]
    assert scaler.skipped == 3


def test_order_unscale_then_clip():
    w = weight(3.0 * 512, 4.0 * 512)
    scaling.LossScaler(512.0).step(optim.GD([w], lr=1.0), max_norm=1.0)
    np.testing.assert_allclose(w.data, [-0.6, -0.8], rtol=1e-6)  # the norm 5 was that unscaled
    w = weight(3.0 * 512, -0.25 * 512)
    scaling.LossScaler(512.0).step(optim.GD([w], lr=1.0), max_value=0.5)
    np.testing.assert_array_equal(w.data, [-0.5, 0.25])


def test_the_scale_has_bounds():
    scaler = scaling.LossScaler(2.0**127, interval=1)
    scaler.update(True)
    assert scaler.scale == 2.0**127
    scaler = scaling.LossScaler(2.0**-23)
    scaler.update(False)
    with pytest.raises(LinAlgError, match="after 2 steps left out: the loss or the parameters"):
        scaler.update(False)
    assert (scaler.scale, scaler.skipped) == (2.0**-24, 2)


def test_a_shorter_interval_in_the_middle_of_one():
    scaler = scaling.LossScaler(64.0, interval=5)
    for _ in range(4):
        scaler.update(True)
    scaler.load_state_dict({**scaler.state_dict(), "interval": 3})
    scaler.update(True)
    assert (scaler.scale, scaler.clean) == (128.0, 0)


def test_state():
    one = scaling.LossScaler(64.0, growth=3.0, backoff=0.25, interval=5)
    for is_finite in (True, False, True, True):
        one.update(is_finite)
    two = scaling.LossScaler()
    two.load_state_dict(one.state_dict())
    assert vars(one) == vars(two)
    for change in ({"clean": -1}, {"scale": math.nan}, {"other": 1}):
        with pytest.raises(ValueError, match=r"must be|not the state of a LossScaler"):
            two.load_state_dict({**one.state_dict(), **change})
    assert vars(one) == vars(two)


@pytest.mark.parametrize(
    ("option", "value"),
    [("initial", 0.0), ("initial", math.inf), ("growth", 0.5), ("backoff", 1.0), ("interval", 0)],
)
def test_no_such_option(option, value):
    with pytest.raises(ValueError, match=f"{option} must be"):
        scaling.LossScaler(**{option: value})


# -- clipping -----------------------------------------------------------------------------------


def test_norm_of_all_gradients_together(rng):
    mine = [weight(*rng.standard_normal(n)) for n in (5, 1, 40_000)] + [Weight(np.zeros(3))]
    before = [None if w.grad is None else w.grad.copy() for w in mine]
    norm = scaling.clip_norm(mine, 1e9)
    exact = math.sqrt(math.fsum(x * x for g in before[:3] for x in g.tolist()))
    # each of 40,006 squares and sums rounds once: at most n u relative, half of it after the root
    assert norm == pytest.approx(exact, rel=40_006 * 2.0**-53)
    for w, g in zip(mine[:3], before, strict=False):
        np.testing.assert_array_equal(w.grad, g)
    assert scaling.clip_norm(mine, 2.0) == norm
    assert scaling.clip_norm(mine, 1e9) == pytest.approx(2.0, rel=1e-6)
    np.testing.assert_allclose(mine[0].grad, before[0] * 2.0 / norm, rtol=1e-6)


@pytest.mark.parametrize("size", [1e200, 1e-200, 5e-324])
def test_norms_out_of_the_range_of_squares(size):
    mine = [weight(3 * size, 0.0), weight(4 * size)]
    assert scaling.clip_norm(mine, 1e300) == pytest.approx(5 * size, rel=1e-15, abs=0)
    if size > 1:
        scaling.clip_norm(mine, 1.0)
        np.testing.assert_allclose([*mine[0].grad, *mine[1].grad], [0.6, 0, 0.8], rtol=1e-15)
        w = weight(3 * size, 4 * size)  # finite, so no step to leave out
        assert scaling.LossScaler(2.0).step(optim.GD([w], lr=0.0))


def test_single_precision_is_summed_in_double():
    # squares of 1e30 overflow in fp32; 2^24 + 1 ones cannot be counted in fp32
    assert scaling.clip_norm([weight(3e30, 4e30, dtype=np.float32)], 1e38) == pytest.approx(5e30)
    g = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    exact = math.sqrt(math.fsum(x * x for x in g.tolist()))
    norm = scaling.clip_norm([Weight(np.zeros(1), g)], 1e38)
    assert norm == pytest.approx(exact, rel=1000 * 2.0**-53)
    many = Weight(np.zeros(1), np.ones(2**24 + 2, np.float32))
    assert scaling.clip_norm([many], 1e38) ** 2 == pytest.approx(2**24 + 2, abs=0.5)


def test_gradients_that_are_not_finite_are_named():
    good, bad = weight(1.0), Weight(np.zeros(2), np.array([1.0, np.nan]), "layer.bias")
    with pytest.raises(LinAlgError, match=r"that of parameter 'layer.bias', shape \(2,\), is not"):
        scaling.clip_norm([good, bad], 0.1)
    assert good.grad[0] == 1.0


def test_values():
    w = weight(-3.0, -0.5, 0.0, 0.5, 3.0, math.inf, -math.inf, math.nan)
    scaling.clip_value([w, Weight(np.zeros(1))], 0.75)
    expected = [-0.75, -0.5, 0.0, 0.5, 0.75, 0.75, -0.75, math.nan]
    np.testing.assert_array_equal(w.grad, expected)


def test_one_array_as_the_gradient_of_two_parameters():
    shared = np.array([8.0, 4.0])
    constant = np.broadcast_to(np.array(16.0), (2,))
    mine = [Weight(np.zeros(2), g) for g in (shared, shared, constant)]
    scaling.LossScaler(4.0).step(optim.GD(mine, lr=1.0))
    np.testing.assert_array_equal([w.data for w in mine], [[-2, -1], [-2, -1], [-4, -4]])
    mine[1].grad = mine[0].grad
    scaling.clip_value(mine, 1.5)
    norm = scaling.clip_norm(mine, 0.1)
    assert norm == pytest.approx(math.sqrt(2 * (1.5**2 + 1) + 2 * 1.5**2))
    assert scaling.clip_norm(mine, 1.0) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
def test_no_such_limit(limit):
    for clip, name in ((scaling.clip_norm, "max_norm"), (scaling.clip_value, "max_value")):
        with pytest.raises(ValueError, match=f"{name} must be a finite number greater than 0"):
            clip([weight(1.0)], limit)


def test_no_gradients():
    assert scaling.clip_norm([Weight(np.zeros(2))], 1.0) == 0.0
    assert scaling.clip_norm([weight(0.0, 0.0)], 1.0) == 0.0


@pytest.mark.parametrize("place", KINDS)
def test_on_a_device(place):
    with library(place) as cupy:
        w = Weight(cupy.zeros(3, cupy.float32), cupy.asarray(np.array([3e25, 4e25, 0], "f")))
        scaler = scaling.LossScaler(4.0)
        assert scaler.step(optim.GD([w], lr=1.0), max_norm=1.0)
        np.testing.assert_allclose(w.data.get(), [-0.6, -0.8, 0], rtol=1e-6)
        w.grad = cupy.asarray(np.array([1, np.inf, 0], "f"))
        assert not scaler.step(optim.GD([w], lr=1.0))
        w.grad = cupy.asarray(np.array([-3, np.nan, 0.5], "f"))
        scaling.clip_value([w], 1.0)
        np.testing.assert_array_equal(w.grad.get(), [-1, np.nan, 0.5])


def test_the_factor_of_clipping_is_that_of_pytorch():
    one = weight(3e-6, 4e-6)
    norm = scaling.clip_norm([one], 1e-6)
    assert norm == pytest.approx(5e-6, rel=2.0**-50)
    # 1e-6 / (5e-6 + 1e-6)
    np.testing.assert_allclose(one.grad, [0.5e-6, 4e-6 / 6], rtol=2.0**-49)
