"""A suite of one small problem, and `mplinalg bench` made quick."""

import functools

import pytest

from mplinalg.bench import ceilings, clusters, row, stacks, timing
from mplinalg.bench.cli import main
from mplinalg.bench.timing import interleave

SUITE = """
import numpy as np
from mplinalg import SolveReport, Status
from mplinalg.bench.suite import Problem, Suite

def build(rng, n):
    value = float(rng.standard_normal())
    def ours():
        {ours}
        return value
    def bad():
        return value + 1
    def fails():
        raise ValueError("no {{}}")
    def big():
        raise MemoryError
    def same():
        return value
    return Problem(
        ours=ours, peers=dict(same=same, bad=bad, fails=fails, big=big),
        report=lambda: SolveReport(Status.CONVERGED, iterations=n),
        error=lambda x: abs(x - value), bound=1e-9, dtype="float64", flops=float(n),
    )

SUITE = Suite(
    title="a test", sizes="1,2,3", default_peers=("same",), error_measure="difference",
    peers=dict.fromkeys(("same", "bad", "fails", "big"), "a call"), build=build,
)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Short samples, small ceilings, and a folder to work in."""
    monkeypatch.setattr(row, "interleave", functools.partial(interleave, min_sample=1e-6))
    monkeypatch.setattr(timing, "METERED_SAMPLE", 1e-6)
    monkeypatch.setattr(ceilings, "ORDER", 16)
    monkeypatch.setattr(ceilings, "COPIED", 1000)
    monkeypatch.setattr(stacks, "SCALE", 1e-3)
    monkeypatch.setattr(clusters, "PROCESSES", False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def suite(tmp_path):
    """Write a suite of sizes 1, 2, 3 to s.py; the statement `ours` runs before it answers."""

    def write(ours="pass"):
        (tmp_path / "s.py").write_text(SUITE.format(ours=ours))
        return "s.py"

    return write


def bench(*words):
    return main(["bench", *map(str, words)])
