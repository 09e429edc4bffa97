"""A run of a suite: its rows one after another, each recorded as soon as it is there."""

from __future__ import annotations

import json
import secrets
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from mplinalg.bench import machine, records, threads
from mplinalg.bench.ceilings import Ceilings
from mplinalg.bench.progress import progress
from mplinalg.bench.records import Record
from mplinalg.bench.row import OK, surveyed_row, timed_row
from mplinalg.bench.sizes import parse_sizes
from mplinalg.bench.suite import Parameters, Suite, Survey
from mplinalg.bench.timing import DEFAULT_ROUNDS, Clock, Meter
from mplinalg.ops import energy

__all__ = ["Options", "Place", "Run", "new_run", "row_key", "run"]


@dataclass(frozen=True)
class Options:
    """What a run is asked to do; None stands for the default of the suite.

    Attributes
    ----------
    sizes, peers : str or None
        As on the command line.
    threads : str
        "all" or a number.
    pairs : int
        Rounds of timing.
    device : str or None
        "cpu", "cuda" or "cuda:1".
    json : str or None
        File that records are appended to.
    budget : float or None
        Seconds after which no further row is begun.
    seed : int
        Every row draws from this, its suite and its parameters.
    only : tuple of (str, str)
        Rows are left out whose parameters are not these.
    command : str
        What repeats the run.
    run : str or None
        Name of the run that the records belong to.
    done : frozenset of str
        Rows that are not measured again, as `row_key` has them.
    """

    sizes: str | None = None
    peers: str | None = None
    threads: str = "all"
    pairs: int = DEFAULT_ROUNDS
    device: str | None = None
    json: str | None = None
    budget: float | None = None
    seed: int = 0
    only: tuple[tuple[str, str], ...] = ()
    command: str = ""
    run: str | None = None
    done: frozenset[str] = frozenset()


class Place(Protocol):
    """What a suite is measured on."""

    @property
    def name(self) -> str:
        """As of `Options.device`."""

    @property
    def clock(self) -> Clock | None:
        """Waits for what was asked for; None: calls return when they are done."""

    def ceilings(self) -> Ceilings:
        """Rates that rows are compared with."""

    def meter(self) -> Meter:
        """Reads energy."""

    def facts(self) -> Record:
        """What it is: part of every record."""

    def state(self) -> Record:
        """How it is before a row."""

    def release(self) -> None:
        """Give back the memory of a row."""

    def is_lost(self) -> bool:
        """Whether it answers no more to this process."""


class _Host:
    """The processors that this process runs on, which `machine` describes."""

    name = "cpu"
    clock = None

    def ceilings(self) -> Ceilings:
        return Ceilings()

    def meter(self) -> Meter:
        return energy.meter("cpu")

    def facts(self) -> Record:
        return {}

    def state(self) -> Record:
        return {}

    def release(self) -> None:
        pass

    def is_lost(self) -> bool:
        return False


@dataclass
class Run:
    """What came of it: records, rows that were not reached, and why it ended early.

    `interrupted`: from the keyboard. `lost`: the last row has broken the device for this process.
    """

    records: list[Record] = field(default_factory=list)
    not_reached: list[Parameters] = field(default_factory=list)
    interrupted: bool = False
    lost: bool = False

    @property
    def failed(self) -> list[Record]:
        """Rows in which mplinalg gave no good answer."""
        return [record for record in self.records if record["status"] != OK]


def run(suite: Suite | Survey, options: Options) -> Run:
    """Measure the rows of `suite`.

    Returns
    -------
    Run
        Ended early, with the rows measured so far, if interrupted from the keyboard.

    Raises
    ------
    ValueError
        For options that make no sense, before anything is measured.
    """
    place = _place(suite, options.device)
    if options.pairs < 1:
        raise ValueError(f"pairs must be at least 1, got {options.pairs}")
    if options.budget is not None and not options.budget > 0:
        raise ValueError(f"budget must be a positive number of seconds, got {options.budget}")
    count = threads.parse_threads(options.threads)
    peers = _peers(suite, options.peers)
    cases = _cases(suite, options)
    if options.json is not None:
        records.check_appendable(options.json)
    result, rows = Run(), progress(cases, suite.name)
    try:
        with threads.pinned(count, numpy_too=_uses_numpy(suite, peers)), rows as todo:
            _measure(suite, peers, todo, cases, options, count, place, result)
    except KeyboardInterrupt:
        result.interrupted = True
        result.not_reached = cases[len(result.records) :]
    return result


def new_run() -> str:
    """A name for a run: when, and a random number."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{now}-{secrets.token_hex(4)}"


def row_key(suite: str, parameters: Parameters) -> str:
    """What tells a row from others of a run."""
    return json.dumps([suite, parameters], sort_keys=True)


def seed_of(seed: int, suite: str, parameters: Parameters) -> int:
    """Seed of a row: the same alone as among others."""
    return zlib.crc32(json.dumps([seed, suite, parameters]).encode())


def _measure(
    suite: Suite | Survey, peers: tuple[str, ...], todo: Iterator[Parameters],
    cases: list[Parameters], options: Options, count: int, place: Place, result: Run,
) -> None:  # fmt: skip
    frame = _frame(suite, options, place)
    ceilings, meter = place.ceilings(), place.meter()
    began = time.monotonic()
    for done, parameters in enumerate(todo):
        if options.budget is not None and time.monotonic() - began >= options.budget:
            result.not_reached = cases[done:]
            return
        seed = seed_of(options.seed, suite.name, parameters)
        record = frame | {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "parameters": parameters,
            "seed": seed,
            "load_average": machine.load_average(),
            **place.state(),
        }
        record |= _row(suite, peers, parameters, seed, options.pairs, ceilings, meter, place.clock)
        result.lost = place.is_lost()
        if not result.lost:
            place.release()
        record["threads"] = {"asked": options.threads, "count": count, "pools": threads.pools()}
        record = records.json_ready(record)
        if options.json is not None:
            records.append(options.json, record)
        result.records.append(record)
        if result.lost:
            result.not_reached = cases[done + 1 :]
            return


def _row(
    suite: Suite | Survey, peers: tuple[str, ...], parameters: Parameters, seed: int, rounds: int,
    ceilings: Ceilings, meter: Meter, clock: Clock | None,
) -> Record:  # fmt: skip
    if isinstance(suite, Suite):
        return timed_row(suite, peers, parameters, seed, rounds, ceilings, meter, clock)
    return surveyed_row(suite, parameters, seed)


def _place(suite: Suite | Survey, device: str | None) -> Place:
    device = suite.device if device is None else device
    if device.partition(":")[0] != suite.device:
        raise ValueError(f"device {device!r}: the suite {suite.name} computes on {suite.device}")
    if device == "cpu":
        return _Host()
    from mplinalg.bench.gpu_device import Cuda

    return Cuda(device)


def _frame(suite: Suite | Survey, options: Options, place: Place) -> Record:
    """What all records of a run have in common."""
    frame = {
        "schema": records.SCHEMA,
        "suite": suite.name,
        "title": suite.title,
        "kind": "timed" if isinstance(suite, Suite) else "survey",
        "run": options.run or new_run(),
        "command": options.command,
        "device": place.name,
        "machine": machine.machine(),
        "commit": machine.commit(),
        **place.facts(),
    }
    return frame | ({"pairs": options.pairs} if isinstance(suite, Suite) else {})


def _cases(suite: Suite | Survey, options: Options) -> list[Parameters]:
    cases = list(suite.cases(parse_sizes(options.sizes or suite.sizes)))
    for key, value in options.only:
        known = dict.fromkeys(str(case[key]) for case in cases if key in case)
        if value not in known:
            wanted = f"{key}={value}"
            have = f"{key} is {' or '.join(known)}" if known else f"rows have no {key}"
            raise ValueError(f"{suite.name} has no row with {wanted}: {have}")
        cases = [case for case in cases if str(case.get(key)) == value]
    return [case for case in cases if row_key(suite.name, case) not in options.done]


def _uses_numpy(suite: Suite | Survey, peers: tuple[str, ...]) -> bool:
    return "numpy" in peers or (isinstance(suite, Suite) and suite.numpy_too)


def _peers(suite: Suite | Survey, text: str | None) -> tuple[str, ...]:
    if isinstance(suite, Survey):
        if text is not None:
            raise ValueError(f"{suite.name} has no peers")
        return ()
    if text is None:
        return suite.default_peers
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in suite.peers]
    if unknown:
        raise ValueError(
            f"{suite.name} has no peer {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(suite.peers)}"
        )
    return names
