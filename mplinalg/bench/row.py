"""One row of a suite: the problem drawn, every method checked, then timed; the record of it.

Of a survey: what it found.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mplinalg.bench.ceilings import Ceilings
from mplinalg.bench.records import Record
from mplinalg.bench.suite import Problem, Suite, Survey
from mplinalg.bench.timing import Clock, Meter, Samples, Statistics, interleave, ratios
from mplinalg.report import SolveReport

__all__ = ["FAILED", "NO_MEMORY", "OK", "WRONG", "surveyed_row", "timed_row"]

OK, WRONG, FAILED, NO_MEMORY = "ok", "wrong answer", "failed", "out of memory"
_FRAMES = 8
_FORMATS = ("double", "single", "half")
"""Of the ceilings; not all devices have all."""


def timed_row(
    suite: Suite, peers: tuple[str, ...], parameters: dict[str, Any], seed: int, rounds: int,
    ceilings: Ceilings, meter: Meter, clock: Clock | None = None,
) -> Record:  # fmt: skip
    """Measure one row, by `clock` or else by the time of day.

    A method of ours that gives a wrong answer, raises, or lacks memory ends the row: `status` and
    `message` say so. A peer that does is recorded as such, and takes no part.

    Returns
    -------
    dict
        The part of a record that is about this row.
    """
    row: Record = {"status": OK, "message": None, "error_measure": suite.error_measure}
    problem: Problem | None = None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            problem = suite.build(np.random.default_rng(seed), **parameters)
            ours = _judged(problem.ours, problem)
            good = ours["status"] == OK
            report = problem.report() if good and problem.report is not None else None
        said = [_text(w.message) for w in caught]
        row |= {"dtype": problem.dtype, "flops": problem.flops, "error_bound": problem.bound}
        row |= {"warnings": list(dict.fromkeys(said)), "ours": ours}
        if not good:
            return row | {"status": ours["status"], "message": ours["message"]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measured = _timed(suite, problem, peers, ours, report, rounds, ceilings, meter, clock)
            return row | measured
    except Exception as error:
        return row | _reason(error)
    finally:
        if problem is not None and problem.close is not None:
            problem.close()


def surveyed_row(survey: Survey, parameters: dict[str, Any], seed: int) -> Record:
    """The findings of one row; without them if it raises or lacks memory, as `status` says."""
    try:
        findings = survey.measure(seed, **parameters)
    except Exception as error:
        return _reason(error)
    return {"status": OK, "message": None, "findings": findings}


def _timed(
    suite: Suite, problem: Problem, peers: tuple[str, ...], ours: Record,
    report: SolveReport | None, rounds: int, ceilings: Ceilings, meter: Meter, clock: Clock | None,
) -> Record:  # fmt: skip
    """What is known of a row once our answer has been found good."""
    judged = {name: _judged(problem.peers[name], problem) for name in peers}
    running = {name: problem.peers[name] for name in peers if judged[name]["status"] == OK}
    findings = {} if problem.findings is None else {"findings": problem.findings()}
    # what the row is compared with, measured before it rather than during
    gemm = dict(zip(_FORMATS, ceilings.of(problem.dtype), strict=False))
    copy = ceilings.copy()
    by_clock: dict[str, Any] = {} if clock is None else {"clock": clock}
    samples = interleave({"": problem.ours, **running}, rounds, meter=meter, **by_clock)

    ours = ours | _speed(samples[""], problem, gemm)
    ours |= _movement(problem, report, ours["seconds"]["median"], copy)
    compared = {name: result | {"call": suite.peers[name]} for name, result in judged.items()}
    for name in running:
        of_round = ratios(samples[name], samples[""])
        compared[name] |= _speed(samples[name], problem, gemm)
        compared[name]["ratio"] = asdict(Statistics.of(of_round)) | {"samples": of_round}
    gflops = {name: rate / 1e9 for name, rate in gemm.items()}
    return {
        "ceilings": {"gemm_gflops": gflops, "copy_gbytes_per_second": copy / 1e9},
        "ours": ours,
        "report": None if report is None else _summary(report),
        "peers": compared,
        **findings,
    }


def _judged(method: Callable[[], Any], problem: Problem) -> dict[str, Any]:
    """Status, message and error of what `method` answers."""
    try:
        error = problem.error(method())
    except Exception as problem_of_method:
        return _reason(problem_of_method) | {"error": None}
    if error <= problem.bound:  # NaN is not
        return {"status": OK, "message": None, "error": error}
    message = f"error {error:.2e} is above {problem.bound:.2e}"
    return {"status": WRONG, "message": message, "error": error}


def _speed(samples: Samples, problem: Problem, gemm: dict[str, float]) -> dict[str, Any]:
    seconds = samples.statistics
    rate = None if problem.flops is None else problem.flops / seconds.median
    return {
        "seconds": asdict(seconds) | {"samples": samples.seconds},
        "calls_per_sample": samples.calls,
        "gflops": None if rate is None else rate / 1e9,
        **_unknowns(problem, seconds.median),
        **{
            f"percent_of_{name}_gemm": None if rate is None else 100 * rate / ceiling
            for name, ceiling in gemm.items()
        },
        "joules_per_call": samples.joules,
    }


def _unknowns(problem: Problem, seconds: float) -> dict[str, float]:
    if problem.unknowns is None:
        return {}
    return {"gdofs_per_second": problem.unknowns / seconds / 1e9}


def _movement(
    problem: Problem, report: SolveReport | None, seconds: float, copy: float
) -> dict[str, float | None]:
    moved = None if problem.traffic is None else problem.traffic(report)
    percent = None if moved is None else 100 * moved / seconds / copy
    return {"modelled_bytes": moved, "modelled_percent_of_copy": percent}


def _summary(report: SolveReport) -> dict[str, Any]:
    """What of the report a reader of a benchmark asks for."""
    error = report.backward_error
    known = error is not None and np.size(error) > 0
    return {
        "status": report.status.value,
        "precision": report.precision,
        "method": report.rungs[-1].method if report.rungs else None,
        "rungs": [list(rung) for rung in report.rungs],
        "iterations": report.iterations,
        "inner_iterations": report.inner_iterations,
        "backward_error": float(np.max(error)) if known else None,
        "workspace_bytes": report.workspace_bytes,
    }


def _reason(error: Exception) -> dict[str, Any]:
    """Status and message of what raised `error`, and the lines that led there, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames)]
    if isinstance(error, MemoryError):
        return {"status": NO_MEMORY, "message": "does not fit in memory", "where": where}
    return {"status": FAILED, "message": _text(error), "where": where}


def _text(message: object) -> str:
    return " ".join(str(message).split()) or type(message).__name__
