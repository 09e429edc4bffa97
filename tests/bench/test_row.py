"""The record of one row, number by number: a clock, a meter and ceilings that the test sets."""

import functools

import numpy as np
import pytest

from mplinalg import SolveReport, Status
from mplinalg.bench import machine, row, runner
from mplinalg.bench.runner import Options, run
from mplinalg.bench.suite import Problem, Suite
from mplinalg.bench.timing import interleave
from mplinalg.ops import energy
from mplinalg.report import RungOutcome

RUNGS = (RungOutcome("fp32", "LU + classical", "stagnated"), RungOutcome("fp64", "LU", "direct"))
REPORT = SolveReport(
    Status.DIRECT, RUNGS, "fp64", 2, 3, backward_error=np.array([1e-17, 5e-17]),
    workspace_bytes=4096,
)  # fmt: skip


class Clock:
    """Seconds that pass when a method is called; a meter of a hundred watts."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def read(self):
        return self.now

    def since(self, before):
        return 100 * (self.now - before)


class Ceilings:
    def of(self, dtype):
        assert dtype == "complex64"
        return 8e9, 16e9

    def copy(self):
        return 20e9


@pytest.fixture
def record(monkeypatch):
    """That of a row of 2 GFLOP and 3 GB in 0.5 s, beside a peer that takes 1.25 s."""
    clock = Clock()

    def lasting(seconds):
        def method():
            clock.now += seconds
            return 0.25

        return method

    def build(rng, n):
        return Problem(
            ours=lasting(0.5), peers={"peer": lasting(1.25)}, report=lambda: REPORT,
            error=lambda x: x, bound=0.5, dtype="complex64", flops=2e9,
            traffic=lambda report: 3e9 if report is REPORT else None,
        )  # fmt: skip

    monkeypatch.setattr(row, "interleave", functools.partial(interleave, clock=clock))
    monkeypatch.setattr(energy, "meter", lambda device: clock)
    monkeypatch.setattr(runner, "Ceilings", Ceilings)
    monkeypatch.setattr(machine, "commit", lambda: {"describe": "abc", "dirty": False})
    suite = Suite(
        title="t", sizes="1", peers={"peer": "a call"}, default_peers=("peer",),
        error_measure="e", build=build, name="s",
    )  # fmt: skip
    (found,) = run(suite, Options(threads="1", pairs=3)).records
    return found


def same(seconds):
    """Statistics of three equal samples."""
    return dict.fromkeys(("median", "q1", "q3", "min", "max"), seconds) | {"samples": 3 * [seconds]}


def test_what_the_row_is(record):
    expected = {
        "status": "ok", "message": None, "error_measure": "e", "error_bound": 0.5, "warnings": [],
        "dtype": "complex64", "flops": 2e9, "pairs": 3, "parameters": {"n": 1},
        "commit": {"describe": "abc", "dirty": False},
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected


def test_rates_and_joules(record):
    assert record["ceilings"] == {
        "gemm_gflops": {"double": 8.0, "single": 16.0}, "copy_gbytes_per_second": 20.0,
    }  # fmt: skip
    assert record["ours"] == {
        "status": "ok", "message": None, "error": 0.25, "seconds": same(0.5),
        "calls_per_sample": 1, "gflops": 4.0, "percent_of_double_gemm": 50.0,
        "percent_of_single_gemm": 25.0, "joules_per_call": 50.0, "modelled_bytes": 3e9,
        "modelled_percent_of_copy": 30.0,
    }  # fmt: skip
    assert record["peers"] == {
        "peer": {
            "status": "ok", "message": None, "error": 0.25, "call": "a call",
            "seconds": same(1.25), "calls_per_sample": 1, "gflops": 1.6,
            "percent_of_double_gemm": 20.0, "percent_of_single_gemm": 10.0,
            "joules_per_call": 125.0, "ratio": same(2.5),
        }
    }  # fmt: skip


def test_the_report(record):
    assert record["report"] == {
        "status": "direct", "precision": "fp64", "method": "LU", "rungs": [list(r) for r in RUNGS],
        "iterations": 2, "inner_iterations": 3, "backward_error": 5e-17, "workspace_bytes": 4096,
    }  # fmt: skip
