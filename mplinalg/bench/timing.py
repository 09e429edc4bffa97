"""Sampling methods in turns, A B C A B C ..., and statistics of the samples.

A machine that slows down or is disturbed does so for all methods of a round, so ratios are formed
round by round. A collection of garbage in the middle of a sample would be charged to whichever
method it hits, so the collector is off during a sample and on between samples.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["DEFAULT_ROUNDS", "Clock", "Samples", "Statistics", "interleave", "ratios"]

DEFAULT_ROUNDS = 7
MIN_SAMPLE = 5e-3
"""Seconds that a sample lasts at least: far above what reading the clock costs and resolves."""
METERED_SAMPLE = 0.2
"""The same where energy is read: its counters are updated every tens of milliseconds."""
_MOST_GROWTH = 100

Clock = Callable[[], float]
"""Seconds since some moment; what was asked for before is done."""


class Meter(Protocol):
    """What `energy` provides: joules between two moments, None where the machine does not tell."""

    def read(self) -> Any: ...
    def since(self, before: Any) -> float | None: ...


@dataclass(frozen=True)
class Statistics:
    """Median, quartiles and extremes; quartiles interpolate linearly, as `numpy.quantile`."""

    median: float
    q1: float
    q3: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistics:
        """Statistics of at least one value."""
        low, q1, median, q3, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
        return cls(median, q1, q3, low, high)


@dataclass(frozen=True)
class Samples:
    """What the rounds of one method gave.

    Attributes
    ----------
    seconds : tuple of float
        Of one call, a round each.
    calls : int
        Calls within one sample.
    joules : float or None
        Of one call, on average over all rounds; None if any sample of it could not be read, or
        the counter did not move.
    """

    seconds: tuple[float, ...]
    calls: int
    joules: float | None

    @property
    def statistics(self) -> Statistics:
        """Of the seconds of one call."""
        return Statistics.of(self.seconds)


def interleave(
    methods: Mapping[str, Callable[[], object]],
    rounds: int = DEFAULT_ROUNDS,
    *,
    min_sample: float = MIN_SAMPLE,
    meter: Meter | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Samples]:
    """Time `methods` in turns.

    Parameters
    ----------
    methods : mapping of str to callable
        Called without arguments, in this order in every round. Each should have been called
        before, so that nothing is loaded or compiled within a sample.
    rounds : int
        At least 1.
    min_sample : float
        Seconds. A method that takes less is called several times in a sample; how often is
        decided before the first round.
    meter : Meter, optional
        Reads energy, outside the clock. With one that can be read, samples last at least 0.2 s.
    clock : callable
        Seconds.

    Returns
    -------
    dict of str to Samples
    """
    if rounds < 1:
        raise ValueError(f"expected at least one round, got {rounds}")
    if meter is not None and meter.read() is not None:
        min_sample = max(min_sample, METERED_SAMPLE)
    calls = {name: _calls(method, min_sample, clock) for name, method in methods.items()}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    joules: dict[str, list[float | None]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            before = meter.read() if meter is not None else None
            seconds[name].append(_sample(method, calls[name], clock) / calls[name])
            joules[name].append(meter.since(before) if meter is not None else None)
    return {
        name: Samples(tuple(seconds[name]), calls[name], _mean(joules[name], calls[name]))
        for name in methods
    }


def ratios(theirs: Samples, ours: Samples) -> tuple[float, ...]:
    """Their seconds over ours, round by round: above 1, ours is the faster one."""
    return tuple(p / q for p, q in zip(theirs.seconds, ours.seconds, strict=True))


def _sample(method: Callable[[], object], calls: int, clock: Clock) -> float:
    """Seconds of `calls` calls."""
    collects = gc.isenabled()
    gc.disable()
    try:
        began = clock()
        for _ in range(calls):
            method()
        return clock() - began
    finally:
        if collects:
            gc.enable()


def _calls(method: Callable[[], object], least: float, clock: Clock) -> int:
    """How many calls last at least `least` seconds."""
    calls = 1
    while (seconds := _sample(method, calls, clock)) < least:
        # 1.1, as the next sample may be a bit faster; not too far from one that was too short
        growth = 1.1 * least / seconds if seconds > 0 else _MOST_GROWTH
        calls = math.ceil(calls * min(max(growth, 1.1), _MOST_GROWTH))
    return calls


def _mean(joules: list[float | None], calls: int) -> float | None:
    known = [j for j in joules if j is not None and j > 0]
    return sum(known) / (len(known) * calls) if len(known) == len(joules) else None
