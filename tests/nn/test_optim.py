"""Optimisers: updates against their formulas, memory layouts, state, bad input; schedules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import threadpoolctl

from mplinalg.nn import optim, schedules

from ..device import KINDS, library
from .parameters import Weight, slope, train, weights

ALL = [
    (optim.GD, {"lr": 0.05, "weight_decay": 0.1}),
    (optim.SGD, {"lr": 0.05}),
    (optim.SGD, {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.05}),
    (optim.SGD, {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    (optim.Adagrad, {"lr": 0.3, "lr_decay": 0.1, "weight_decay": 0.1}),
    (optim.AdagradNorm, {"lr": 0.3}),
    (optim.RMSprop, {"weight_decay": 0.1}),
    (optim.RMSprop, {"momentum": 0.7}),
    (optim.RMSprop, {"centered": True, "momentum": 0.5}),
    (optim.Adadelta, {"weight_decay": 0.1}),
    (optim.Adam, {"lr": 0.05, "weight_decay": 0.1}),
    (optim.AdamW, {"lr": 0.05}),
]
each = pytest.mark.parametrize(("kind", "options"), ALL)


def plain_update(kind, options, x, g, kept, t):
    """One step as the docstrings have it, in NumPy; the new x."""
    o = {**{"weight_decay": 0.0, "momentum": 0.0}, **options}
    lr, decay, beta = o.get("lr", 0.01), o["weight_decay"], o["momentum"]
    if kind is optim.AdamW:
        x, decay = (1 - lr * 0.01) * x, 0.0
    g = g + decay * x
    zero = np.zeros_like(x)
    if kind in (optim.GD, optim.SGD):
        v = kept["v"] = beta * kept.get("v", zero) + g
        return x - lr * (g + beta * v if o.get("nesterov") else v)
    if kind is optim.Adagrad:
        s = kept["s"] = kept.get("s", zero) + g**2
        return x - lr / (1 + (t - 1) * o["lr_decay"]) * g / (np.sqrt(s) + 1e-10)
    if kind is optim.RMSprop:
        s = kept["s"] = 0.99 * kept.get("s", zero) + 0.01 * g**2
        if o.get("centered"):
            m = kept["m"] = 0.99 * kept.get("m", zero) + 0.01 * g
            s = s - m**2
        v = kept["v"] = beta * kept.get("v", zero) + g / (np.sqrt(s) + 1e-8)
        return x - lr * v
    if kind is optim.Adadelta:
        s = kept["s"] = 0.9 * kept.get("s", zero) + 0.1 * g**2
        h = np.sqrt((kept.get("d", zero) + 1e-6) / (s + 1e-6)) * g
        kept["d"] = 0.9 * kept.get("d", zero) + 0.1 * h**2
        return x - h
    m = kept["m"] = 0.9 * kept.get("m", zero) + 0.1 * g
    s = kept["s"] = 0.999 * kept.get("s", zero) + 0.001 * g**2
    return x - lr * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)


@each
def test_formula(kind, options, rng):
    mine = weights(rng)
    reference = [w.data.copy() for w in mine]
    optimizer = kind(mine, **options)
    kept, times, total = [{} for _ in mine], [0] * len(mine), 0.0
    for step in range(20):
        train(optimizer, range(step, step + 1))
        slopes = [slope(x, k, step) for k, x in enumerate(reference)]
        live = [k for k in range(len(mine)) if k != 1 or step % 2 == 0]
        total += sum((slopes[k] ** 2).sum() for k in live)
        for k in live:
            times[k] += 1
            if kind is optim.AdagradNorm:
                reference[k] = reference[k] - 0.3 * slopes[k] / math.sqrt(1e-8 + total)
            else:
                reference[k] = plain_update(
                    kind, options, reference[k], slopes[k], kept[k], times[k]
                )
    for w, x in zip(mine, reference, strict=True):
        assert np.abs(w.data - x).max() <= 1e-12


@each
def test_single_precision_stays_single(kind, options, rng):
    double = weights(rng)
    single = [Weight(w.data.astype(np.float32)) for w in double]
    for chosen in (double, single):
        train(kind(chosen, **options), range(10))
    for w, s in zip(double, single, strict=True):
        assert s.data.dtype == np.float32
        assert 0 < np.abs(w.data - s.data).max() < 1e-4


@each
@pytest.mark.parametrize("layout", ["F", "strided", "gradient"])
def test_layouts(kind, options, layout, rng):
    x = rng.standard_normal((12, 14))
    g = rng.standard_normal((12, 14))
    plain = Weight(x.copy(), g)
    if layout == "F":
        other = Weight(np.asfortranarray(x), np.asfortranarray(g))
    elif layout == "strided":
        other = Weight(np.repeat(x, 2, axis=1)[:, ::2], np.repeat(g, 3, axis=0)[::3])
    else:
        other = Weight(x.copy(), np.asfortranarray(g))
    held = other.data
    for w in (plain, other):
        optimizer = kind([w], **options)
        optimizer.step()
        optimizer.step()
    assert other.data is held  # in place
    np.testing.assert_array_equal(plain.data, other.data)
    assert not np.array_equal(plain.data, x)


@each
def test_threads_do_not_show(kind, options, rng):
    x = rng.standard_normal(400_001).astype(np.float32)
    g = rng.standard_normal(400_001).astype(np.float32)
    results = []
    for threads in (1, 3):
        w = Weight(x.copy(), g)
        with threadpoolctl.threadpool_limits(threads, "blas"):
            optimizer = kind([w], **options)
            for _ in range(3):
                optimizer.step()
        results.append(w.data)
    np.testing.assert_array_equal(*results)


@each
def test_gradients_are_only_read(kind, options, rng):
    w = Weight(rng.standard_normal(5), rng.standard_normal(5))
    w.grad.flags.writeable = False
    before = w.grad.copy()
    kind([w], **options).step()
    np.testing.assert_array_equal(w.grad, before)


@each
def test_resume(kind, options):
    def fresh():
        return weights(np.random.default_rng(5))

    through = fresh()
    train(kind(through, **options), range(14))
    halves = fresh()
    first = kind(halves, **options)
    train(first, range(7))
    state, kept = first.state_dict(), [w.data.copy() for w in halves]
    train(first, range(7, 9))  # what was saved does not change
    resumed = [Weight(x) for x in kept]
    second = kind(resumed, lr=7.0)
    second.load_state_dict(state)
    train(second, range(7, 14))
    for a, b in zip(through, resumed, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_a_constant_gradient_does_not_make_centred_rmsprop_nan():
    for value in (0.1, 0.3, 7.7):
        w = Weight(np.zeros(3), np.full(3, value))
        optimizer = optim.RMSprop([w], centered=True)
        for _ in range(6000):
            optimizer.step()
        assert np.isfinite(w.data).all()


def test_nan_stays_nan():
    for kind, options in ALL:
        w = Weight(np.ones(3), np.array([1.0, np.nan, 1.0]))
        kind([w], **options).step()
        assert np.isnan(w.data[1]), kind


def test_zero_grad_and_parameters_that_come_twice():
    w = Weight(np.ones(2), np.ones(2))
    optimizer = optim.GD([w, w], lr=0.5)
    assert len(optimizer.parameters) == 1
    optimizer.step()
    np.testing.assert_array_equal(w.data, [0.5, 0.5])
    optimizer.zero_grad()
    assert w.grad is None
    optimizer.step()
    np.testing.assert_array_equal(w.data, [0.5, 0.5])


def test_empty_parameter():
    w = Weight(np.ones((0, 3)), np.ones((0, 3)))
    optim.Adam([w]).step()


# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in ALL}, key=lambda kind: kind.__name__))
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_no_such_rate(kind, value):
    with pytest.raises(ValueError, match=r"lr must be a finite number of at least 0; got"):
        kind([Weight(np.ones(2))], lr=value)
    optimizer = kind([Weight(np.ones(2))])
    before = optimizer.lr
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.lr = value
    assert optimizer.lr == before


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (optim.GD, {"weight_decay": -1}),
        (optim.SGD, {"momentum": -0.1}),
        (optim.SGD, {"momentum": math.inf}),
        (optim.Adagrad, {"eps": -1e-8}),
        (optim.Adagrad, {"lr_decay": math.nan}),
        (optim.AdagradNorm, {"eps": 0}),
        (optim.RMSprop, {"alpha": 1.5}),
        (optim.RMSprop, {"eps": math.inf}),
        (optim.Adadelta, {"rho": -0.1}),
        (optim.Adadelta, {"eps": math.nan}),
        (optim.Adam, {"betas": (0.9, 1.0)}),
        (optim.Adam, {"betas": (-0.1, 0.9)}),
        (optim.Adam, {"betas": (math.nan, 0.9)}),
        (optim.Adam, {"betas": 0.9}),
        (optim.AdamW, {"weight_decay": -0.01}),
    ],
)
def test_no_such_option(kind, options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        kind([Weight(np.ones(2))], **options)


def test_options_that_are_no_numbers():
    with pytest.raises(TypeError, match=r"lr must be a number; got '0.1'"):
        optim.GD([Weight(np.ones(2))], lr="0.1")
    with pytest.raises(ValueError, match="nesterov=True needs a momentum"):
        optim.SGD([Weight(np.ones(2))], nesterov=True)


def test_no_parameters():
    with pytest.raises(ValueError, match="there are no parameters"):
        optim.Adam(iter([]))
    with pytest.raises(TypeError, match="an iterable of parameters, not one"):
        optim.Adam(Weight(np.ones(2)))
    with pytest.raises(TypeError, match=r"parameter 1 must have arrays .data and .grad"):
        optim.Adam([Weight(np.ones(2)), np.ones(2)])
    with pytest.raises(TypeError, match=r"'w', shape \(2,\), must be float32 or float64; got int"):
        optim.Adam([Weight(np.ones(2, int), name="w")])


def test_gradients_that_do_not_fit_change_nothing():
    first, second = Weight(np.ones(2), np.ones(2)), Weight(np.ones((3, 2)), name="layer.weight")
    optimizer = optim.SGD([first, second], lr=0.1, momentum=0.5)
    second.grad = np.ones((2, 3))
    message = r"'layer.weight' has shape \(2, 3\), the parameter \(3, 2\)"
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    second.grad = np.ones((3, 2), np.float32)
    with pytest.raises(TypeError, match=r"is float32, shape \(3, 2\), the parameter float64"):
        optimizer.step()
    second.grad = [[1.0, 2.0]] * 3
    with pytest.raises(TypeError, match="must be an array; got"):
        optimizer.step()
    second.grad = np.ones((3, 2))
    second.data.flags.writeable = False
    with pytest.raises(ValueError, match="is read-only"):
        optimizer.step()
    np.testing.assert_array_equal(first.data, 1)
    assert optimizer.state_dict()["steps"] == [0, 0]


def test_a_parameter_that_changes_its_shape():
    w = Weight(np.ones(2), np.ones(2))
    optimizer = optim.Adam([w])
    optimizer.step()
    w.data, w.grad = np.ones(3), np.ones(3)
    with pytest.raises(
        ValueError, match=r"shape \(2,\), at its first update and is .* \(3,\), now"
    ):
        optimizer.step()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(kind="SGD"), "the state of SGD does not fit Adam"),
        (lambda s: s.pop("arrays"), "not the state of an optimiser"),
        (lambda s: s["steps"].append(1), "is of 2 parameters, Adam has 1"),
        (lambda s: s["options"].pop("eps"), "eps"),
        (lambda s: s["options"].update(eps=-1.0), "eps must be"),
        (lambda s: s["arrays"].update({"0.means": np.ones(3)}), r"shape \(3,\), in the state"),
        (lambda s: s["arrays"].update({"7.means": np.ones(2)}), "'7.means', which no parameter"),
    ],
)
def test_states_that_do_not_fit_change_nothing(change, message):
    w = Weight(np.ones(2), np.ones(2))
    optimizer = optim.Adam([w], lr=0.25)
    optimizer.step()
    state = optimizer.state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.lr == 0.25
    assert optimizer.state_dict()["steps"] == [1]


# -- on a device --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", KINDS)
def test_on_a_device_as_on_the_host(place):
    with library(place) as cupy:
        for kind, options in ALL:
            host = weights(np.random.default_rng(3))
            there = [Weight(cupy.asarray(w.data)) for w in host]
            a, b = kind(host, **options), kind(there, **options)
            for step in range(3):
                for k, (w, d) in enumerate(zip(host, there, strict=True)):
                    w.grad = slope(w.data, k, step)
                    d.grad = cupy.asarray(slope(d.data.get(), k, step))
                a.step()
                b.step()
            for w, d in zip(host, there, strict=True):
                assert isinstance(d.data, cupy.ndarray)
                np.testing.assert_allclose(d.data.get(), w.data, rtol=0, atol=1e-13)
            c = kind(there, **options)
            c.load_state_dict(a.state_dict())  # from the host to where the parameters are
            c.step()
            d.grad = np.ones(d.data.shape)
            with pytest.raises(TypeError, match="NumPy and CuPy arrays in one call"):
                b.step()


# -- schedules ----------------------------------------------------------------------------------


def test_formulas_of_schedules():
    assert schedules.Constant().rate(0.3, 17) == 0.3
    assert [schedules.Step(2, 0.5).rate(1.0, e) for e in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert schedules.Exponential(0.5).rate(1.0, 3) == 0.125
    cosine = schedules.Cosine(4, 0.2)
    expected = [1.0, 0.6 + 0.4 * math.sqrt(0.5), 0.6, 0.6 - 0.4 * math.sqrt(0.5), 0.2, 0.2]
    assert [cosine.rate(1.0, e) for e in range(6)] == pytest.approx(expected, rel=1e-15)
    warm = schedules.WarmUp(4, 0.2, after=schedules.Step(1, 0.5))
    rates = [warm.rate(1.0, e) for e in range(7)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.5, 0.25], rel=1e-15)


def test_schedules_start_from_the_rate_that_was_set():
    optimizer = optim.GD([Weight(np.ones(1))], lr=1.0)
    schedule = schedules.Exponential(0.5)
    schedule.apply(optimizer, 2)
    assert (optimizer.lr, optimizer.initial_lr) == (0.25, 1.0)
    other = optim.GD([Weight(np.ones(1))])
    other.load_state_dict(optimizer.state_dict())
    schedule.apply(other, 3)
    assert (other.lr, other.initial_lr) == (0.125, 1.0)
    optimizer.lr = 8.0
    schedule.apply(optimizer, 1)
    assert optimizer.lr == 4.0


def test_plateau_goes_on_from_its_state():
    values = [3.0, 2.0, 2.0, 2.0, math.nan, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    one, two = (schedules.ReduceOnPlateau(patience=1, factor=0.5, cooldown=1) for _ in range(2))
    for k, value in enumerate(values):
        one.observe(value)
        other = schedules.ReduceOnPlateau(patience=1, factor=0.5, cooldown=1)
        other.load_state_dict(two.state_dict())
        two = other
        two.observe(value)
        assert one.rate(1.0, k) == two.rate(1.0, k)
    assert one.rate(1.0, 0) == 0.5**2  # after the second and the third of equal values


def test_schedules_that_are_none():
    for make in (
        lambda: schedules.Step(0),
        lambda: schedules.Cosine(3, -1.0),
        lambda: schedules.WarmUp(3, 2.0),
        lambda: schedules.Exponential(math.nan),
        lambda: schedules.ReduceOnPlateau(factor=1.0),
        lambda: schedules.ReduceOnPlateau(mode="least"),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(TypeError, match="after must be a Schedule"):
        schedules.WarmUp(3, after=0.5)
    with pytest.raises(ValueError, match="not the state of a schedule Step"):
        schedules.Step(2).load_state_dict(schedules.Constant().state_dict())
    with pytest.raises(ValueError, match="not the state of a schedule ReduceOnPlateau"):
        schedules.ReduceOnPlateau().load_state_dict({"kind": "ReduceOnPlateau"})
