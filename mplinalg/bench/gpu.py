"""``mplinalg bench gpu``: what a limited time on a GPU is spent on, the most important first.

Ceilings, the tests that need a GPU, then the suites. Each stage has a share of what is left of the
time by then, so that what one does not use goes to those after it. A stage begins no row after its
share, and every row is in the file as soon as it is measured. Where a kernel breaks the device for
the whole process, the run goes on in a new one, with the rows that it does not have yet.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mplinalg.bench import catalogue, records, runner
from mplinalg.bench.gpu_device import Cuda
from mplinalg.bench.machine import checkout
from mplinalg.bench.records import Record
from mplinalg.bench.row import FAILED, OK
from mplinalg.bench.runner import Options, Run
from mplinalg.bench.sizes import parse_sizes
from mplinalg.bench.suite import Suite, Survey

__all__ = [
    "BUDGET", "RUN", "STAGES", "TESTS", "default_file", "is_good", "resumed", "stages",
]  # fmt: skip

RUN = "MPLINALG_BENCH_RUN"
"""Variable of the environment: the name of a run that goes on."""
BUDGET = 25 * 60.0
"""Seconds, unless told otherwise."""
TESTS = "gpu_tests"
STAGES: Mapping[str, float] = {
    "gpu_ceilings": 3, TESTS: 4, "gpu_dense_solve": 7, "gpu_accuracy": 3, "gpu_spd_solve": 2,
    "gpu_nn": 3, "gpu_batched_gemm": 2, "gpu_batched_solve": 2, "gpu_many_rhs": 2, "gpu_qr": 2,
    "gpu_least_squares": 2, "gpu_fem": 2, "gpu_contraction": 1, "gpu_out_of_core": 3,
}  # fmt: skip
"""Names and weights of the stages, in order."""
_KEPT = 8000
"""Characters of the end of what the tests print."""


def default_file() -> str:
    """``benchmarks/results/gpu.jsonl`` of the checkout, else ``gpu.jsonl`` where one is."""
    root = checkout()
    folder = Path() if root is None else root / "benchmarks" / "results"
    return str(folder / "gpu.jsonl")


def stages(
    options: Options, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[Suite | Survey, Run]]:
    """Measure one stage after another; yields each with what came of it.

    Parameters
    ----------
    options : Options
        `json` is the file, `budget` the seconds for everything; `sizes` those of every suite. Rows
        that the file has of the run called `run` are not measured again.
    clock : callable
        Seconds.

    Raises
    ------
    ValueError
        Before anything is measured: there is no such GPU, or an option makes no sense.
    """
    budget = options.budget
    assert budget is not None
    if not budget > 0:
        raise ValueError(f"budget must be a positive number of seconds, got {budget}")
    if options.sizes is not None:
        parse_sizes(options.sizes)
    assert options.json is not None
    records.check_appendable(options.json)
    device = options.device or "cuda"
    Cuda(device)
    options = dataclasses.replace(options, device=device, done=_done(options))
    began, weight_left = clock(), sum(STAGES.values())
    for name, weight in STAGES.items():
        share = max((budget - (clock() - began)) * weight / weight_left, 1e-9)
        weight_left -= weight
        here = dataclasses.replace(options, budget=share)
        try:
            suite = _tests(share) if name == TESTS else catalogue.load(name)
            result = runner.run(suite, here)
        except Exception as error:
            suite, result = _broken(name, error, options)
        yield suite, result
        if result.interrupted or result.lost:
            return


def resumed(words: list[str], run: str) -> int:
    """Go on with a run by ``mplinalg words`` in a new process; returns its exit status."""
    command = [sys.executable, "-m", "mplinalg", *words]
    return subprocess.run(command, env=os.environ | {RUN: run}).returncode


def _done(options: Options) -> frozenset[str]:
    assert options.json is not None
    known = records.read(options.json) if os.path.exists(options.json) else []
    return frozenset(
        runner.row_key(r["suite"], r["parameters"]) for r in known if r["run"] == options.run
    )


def is_good(record: Record) -> bool:
    """Whether nothing is wrong with mplinalg: the row was measured, the tests have passed."""
    returned = (record.get("findings") or {}).get("returncode", 0)
    return record["status"] == OK and returned == 0


def _broken(name: str, error: Exception, options: Options) -> tuple[Survey, Run]:
    """A stage that could not even begin: a record of its own, and the run goes on."""
    suite = _survey(name, "could not be run", lambda seed: {}, [{}])
    message = " ".join(f"{type(error).__name__}: {error}".split())
    record = {
        "schema": records.SCHEMA, "suite": name, "title": suite.title, "kind": "survey",
        "run": options.run, "command": options.command, "device": options.device,
        "parameters": {}, "status": FAILED, "message": message,
    }  # fmt: skip
    assert options.json is not None
    records.append(options.json, record)
    return suite, Run([record])


# -- the tests ------------------------------------------------------------------------------------


def _tests(seconds: float) -> Survey:
    """The tests marked gpu as a survey of one row, stopped after so many seconds."""
    root = checkout()
    if root is None:
        return _survey(TESTS, "the tests that need a GPU: only a checkout has them", dict, [])

    def measure(seed: int, marker: str) -> dict[str, Any]:
        return _tested(root, marker, seconds)

    return _survey(TESTS, "the tests that need a GPU", measure, [{"marker": "gpu"}])


def _survey(
    name: str, title: str, measure: Callable[..., dict[str, Any]], rows: list[dict[str, Any]]
) -> Survey:
    return Survey(
        title=title, sizes="1", measure=measure, cases=lambda sizes: rows, device="cuda", name=name,
        tables=lambda found: [
            (
                "pytest", ["seconds", "summary"],
                [[f"{r['findings']['seconds']:.0f}", r["findings"]["summary"]] for r in found],
            )
        ],
    )  # fmt: skip


def _tested(root: Path, marker: str, seconds: float) -> dict[str, Any]:
    """Return code, last line, names of the tests that failed, and the end of what was printed."""
    command = [sys.executable, "-m", "pytest", "-m", marker, "-q", "--tb=short", "tests"]
    environment = os.environ | {"MPLINALG_REQUIRE_GPU": "1"}
    began = time.monotonic()
    returned: int | None
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, timeout=seconds, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, returned = done.stdout, done.returncode
        lines = output.strip().splitlines()
        summary = lines[-1].strip("= ") if lines else "no output"
    except subprocess.TimeoutExpired as stopped:
        raw = stopped.stdout or b""
        output = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
        summary, returned = f"stopped after {seconds:.0f} s", None
    return {
        "command": " ".join(command[1:]),
        "returncode": returned,
        "seconds": time.monotonic() - began,
        "summary": summary,
        "failed": re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE),
        "output": output[-_KEPT:],
    }
