"""Sampling in turns, on a clock that the test turns."""

import gc
from types import SimpleNamespace

import numpy as np
import pytest

from mplinalg.bench.timing import Samples, Statistics, interleave, ratios


class Clock:
    """Seconds that pass only when a method is called, and the order of the calls."""

    def __init__(self):
        self.now = 0.0
        self.called = []

    def __call__(self):
        return self.now

    def method(self, name, seconds):
        durations = iter(seconds) if isinstance(seconds, list) else None

        def call():
            self.called.append(name)
            self.now += seconds if durations is None else next(durations)

        return call


def test_statistics_are_those_of_numpy(rng):
    for count in (1, 2, 7, 8):
        values = rng.random(count)
        found = Statistics.of(values.tolist())
        assert found.median == pytest.approx(np.median(values))
        assert (found.q1, found.q3) == pytest.approx(tuple(np.percentile(values, [25, 75])))
        assert (found.min, found.max) == (values.min(), values.max())


def test_methods_take_turns():
    clock = Clock()
    methods = {name: clock.method(name, 1.0) for name in "ABC"}
    interleave(methods, 4, clock=clock)
    assert "".join(clock.called) == "ABC" + 4 * "ABC"  # once to see how long each takes


def test_rounds_are_paired():
    """A machine that becomes ten times slower after the second round changes no ratio."""
    clock = Clock()
    speed = [1, 1, 1, 10, 10, 10]
    ours = clock.method("ours", [0.5 * s for s in speed])
    peer = clock.method("peer", [1.25 * s for s in speed])
    samples = interleave({"ours": ours, "peer": peer}, 5, clock=clock)
    assert samples["ours"].seconds == pytest.approx([0.5, 0.5, 5, 5, 5])
    assert ratios(samples["peer"], samples["ours"]) == pytest.approx([2.5] * 5)


@pytest.mark.parametrize("seconds", [1e-7, 3e-5, 1.7e-3, 4.9e-3])
def test_short_calls_are_repeated(seconds):
    clock = Clock()
    samples = interleave({"f": clock.method("f", seconds)}, 3, clock=clock, min_sample=5e-3)["f"]
    assert samples.calls * seconds >= 5e-3
    assert samples.calls * seconds <= 2 * 5e-3
    assert samples.seconds == pytest.approx([seconds] * 3)


def test_a_clock_too_coarse_to_see_a_call():
    clock = Clock()
    ticks = Clock()

    def call():
        clock.now += 1e-4
        ticks.now = clock.now // 0.01 * 0.01

    samples = interleave({"f": call}, 5, clock=ticks, min_sample=5e-3)["f"]
    assert samples.calls >= 50
    assert np.mean(samples.seconds) == pytest.approx(1e-4, rel=0.5)


def test_long_calls_are_not_repeated():
    clock = Clock()
    assert interleave({"f": clock.method("f", 5e-3)}, 7, clock=clock)["f"].calls == 1
    assert len(clock.called) == 8


def test_garbage_waits_until_the_sample_is_over():
    seen = []
    interleave({"f": lambda: seen.append(gc.isenabled())}, 2, min_sample=0.0)
    assert seen == [False] * 3
    assert gc.isenabled()
    gc.disable()
    try:
        interleave({"f": lambda: None}, 2, min_sample=0.0)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_back_after_a_failure():
    def fails():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        interleave({"f": fails}, 2)
    assert gc.isenabled()


class Meter:
    """Joules as the clock's seconds, but for the samples that cannot be read."""

    def __init__(self, clock, unreadable=()):
        self.clock, self.unreadable, self.samples = clock, unreadable, 0

    def read(self):
        return self.clock()

    def since(self, before):
        self.samples += 1
        return None if self.samples in self.unreadable else 100 * (self.clock() - before)


def test_joules_are_of_one_call():
    clock = Clock()
    method = clock.method("f", 1e-3)
    samples = interleave({"f": method}, 3, clock=clock, meter=Meter(clock))["f"]
    assert samples.calls >= 5
    assert samples.joules == pytest.approx(0.1)


def test_samples_are_long_where_energy_is_read():
    clock = Clock()
    method = clock.method("f", 1e-3)
    calls = interleave({"f": method}, 1, clock=clock, meter=Meter(clock))["f"].calls
    assert 200 <= calls <= 400  # 0.2 s: its counter is updated every tens of milliseconds
    unreadable = SimpleNamespace(read=lambda: None, since=lambda before: None)
    samples = interleave({"f": method}, 1, clock=clock, meter=unreadable)["f"]
    assert samples.calls <= 10
    assert samples.joules is None


def test_no_joules_are_not_zero_joules():
    clock = Clock()
    still = SimpleNamespace(read=lambda: 0, since=lambda before: 0.0)
    samples = interleave({"f": clock.method("f", 1.0)}, 3, clock=clock, meter=still)["f"]
    assert samples.joules is None


def test_joules_are_unknown_if_any_sample_is():
    clock = Clock()
    meter = Meter(clock, unreadable=(2,))
    assert (
        interleave({"f": clock.method("f", 1.0)}, 3, clock=clock, meter=meter)["f"].joules is None
    )
    assert interleave({"f": clock.method("f", 1.0)}, 3, clock=clock)["f"].joules is None


def test_no_rounds():
    with pytest.raises(ValueError, match="at least one round"):
        interleave({"f": lambda: None}, 0)


def test_rounds_that_do_not_pair_are_an_error():
    with pytest.raises(ValueError):
        ratios(Samples((1.0,), 1, None), Samples((1.0, 2.0), 1, None))
