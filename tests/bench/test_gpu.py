"""`mplinalg bench gpu`, run on the stand-in for CuPy at tiny sizes.

Times mean nothing there: events tell those of the host. What is tested is that the whole command
comes to its end and leaves the records that it should.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mplinalg
import mplinalg.batched
import mplinalg.fem
from mplinalg.bench import catalogue, command, gpu, gpu_device
from mplinalg.bench.cli import main
from mplinalg.bench.records import read
from mplinalg.bench.runner import Options, Run

from ..cupy_on_host.install import cupy_on_host
from .gpu_harness import ROOT, N, cupy, quick

__all__ = ["cupy", "cupy_on_host", "quick"]  # fixtures

default_file = gpu.default_file


def bench(*words):
    return main(["bench", *map(str, words)])


@pytest.fixture
def tests_pass(monkeypatch):
    """The stage that runs the tests does not."""
    found = {"command": "-m pytest", "returncode": 0, "seconds": 1.0, "summary": "3 passed"}
    monkeypatch.setattr(gpu, "_tested", lambda root, marker, seconds: dict(found))
    return found


# -- the command ---------------------------------------------------------------------------------


def test_the_whole_command(cupy, tests_pass, capsys):
    words = ("--budget", "10m", "--sizes", N, "--json", "r.jsonl", "--device", 1)
    bench("gpu", *words)
    records = read("r.jsonl")
    assert list(dict.fromkeys(r["suite"] for r in records)) == list(gpu.STAGES)
    assert len({r["run"] for r in records}) == 1
    assert {r["device"] for r in records} == {"cuda:1"}
    options = f"--sizes {N} --threads all --budget 600 --device cuda:1"
    for record in records:
        assert record["gpu"]["multiprocessors"] == 4
        assert record["gpu"]["cupy"] == cupy.__version__
        assert record["gpu_state"]["free_bytes"] > 0
        assert record["command"] == f"mplinalg bench gpu {options}"
    out = capsys.readouterr().out
    for name in gpu.STAGES:
        assert f"{name}: " in out
    assert out.endswith("records: r.jsonl\n")
    timed = [r for r in records if r["kind"] == "timed"]
    assert {r["status"] for r in timed} == {"ok"}, [r["message"] for r in timed]
    for record in timed:
        assert set(record["ceilings"]["gemm_gflops"]) == {"double", "single", "half"}
        of = "modelled_percent_of_copy" if record["suite"] == "gpu_fem" else "percent_of_half_gemm"
        assert record["ours"][of] > 0
        assert len(record["ours"]["seconds"]["samples"]) == 7
        good = [p for p in record["peers"].values() if p["status"] == "ok"]
        assert good
        for peer in good:
            assert len(peer["ratio"]["samples"]) == 7


@pytest.mark.slow
def test_the_kernels_that_are_measured_are_launched_rightly(cupy_on_host):
    """At sizes that take several thread blocks, and by the kernels themselves."""
    suite = catalogue.load("gpu_ceilings")
    rows = [parameters for parameters in suite.cases([200]) if "kernel" in parameters]
    assert len(rows) == 6
    for parameters in [{"what": "launch", "n": 1}, *rows]:
        found = suite.measure(0, **parameters)
        assert found["seconds"] > 0
        assert found["rate"] > 0


def test_a_peer_that_fails_is_recorded_and_stops_nothing(cupy, capsys):
    """PyTorch is not here, and the stand-in has no IRS."""
    assert bench("gpu_dense_solve", "--sizes", N, "--json", "r.jsonl") == 0
    for record in read("r.jsonl"):
        status = {name: peer["status"] for name, peer in record["peers"].items()}
        assert status.pop("cusolver") == "ok"
        assert set(status.values()) == {"failed"}
        assert all(record["peers"][name]["message"] for name in status)
    assert "predicted" in capsys.readouterr().out


def test_memory_that_runs_out_is_recorded_and_the_run_goes_on(cupy, monkeypatch):
    solve = mplinalg.solve

    def lacking(a, b, **options):
        if len(b) == 8:
            raise cupy.cuda.memory.OutOfMemoryError(1, 2)
        return solve(a, b, **options)

    monkeypatch.setattr(mplinalg, "solve", lacking)
    assert bench("gpu_dense_solve", "--sizes", "8,9", "--json", "r.jsonl") == 1
    found = [(r["parameters"]["n"], r["status"]) for r in read("r.jsonl")]
    assert found == 2 * [(8, "out of memory"), (9, "ok")]


def test_a_stage_that_cannot_begin_is_recorded_and_the_others_run(cupy, tests_pass, monkeypatch):
    load = catalogue.load

    def broken(name):
        if name == "gpu_accuracy":
            raise RuntimeError("no such thing")
        return load(name)

    monkeypatch.setattr(catalogue, "load", broken)
    assert bench("gpu", "--budget", "10m", "--sizes", 8, "--json", "r.jsonl") == 1
    records = read("r.jsonl")
    (found,) = [r for r in records if r["suite"] == "gpu_accuracy"]
    assert (found["status"], found["message"]) == ("failed", "RuntimeError: no such thing")
    assert list(dict.fromkeys(r["suite"] for r in records)) == list(gpu.STAGES)


def test_an_interrupted_run_keeps_its_rows(cupy, tests_pass, monkeypatch, capsys):
    def interrupted(root, marker, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "_tested", interrupted)
    assert bench("gpu", "--sizes", 8, "--json", "r.jsonl") == 130
    assert {r["suite"] for r in read("r.jsonl")} == {"gpu_ceilings"}
    assert capsys.readouterr().err.endswith("error: interrupted\n")


def test_a_run_that_loses_the_device_goes_on_in_a_new_process(cupy, tests_pass, monkeypatch):
    """After the second row; the new process has the name of the run, and leaves out what it has."""
    answers, started = iter([False, True]), []
    monkeypatch.setattr(gpu_device.Cuda, "is_lost", lambda self: next(answers))

    monkeypatch.setattr(gpu, "resumed", lambda *given: started.append(given))
    words = ("--sizes", 8, "--json", "r.jsonl", "--budget", "10m")
    assert bench("gpu", *words) == 1
    first = read("r.jsonl")
    assert len(first) == 2
    ((again, name),) = started
    assert name == first[0]["run"]
    assert again[:4] == ["bench", "gpu", "--sizes", "8"]
    assert again[-2:] == ["--json", "r.jsonl"]
    assert 0 < float(again[again.index("--budget") + 1]) < 600

    monkeypatch.setattr(gpu_device.Cuda, "is_lost", lambda self: False)
    monkeypatch.setenv(gpu.RUN, name)
    main(again)
    rows = [(r["suite"], str(r["parameters"])) for r in read("r.jsonl")]
    assert len(set(rows)) == len(rows)
    assert {suite for suite, _ in rows} == set(gpu.STAGES)
    assert {r["run"] for r in read("r.jsonl")} == {name}


def test_a_new_process_knows_the_run(tmp_path):
    assert gpu.resumed(["bench", "gpu", "--sizes", "many"], "r") == 2  # after it was started
    code = f"import os, sys; sys.exit(0 if os.environ[{gpu.RUN!r}] == 'a run' else 9)"
    (tmp_path / "mplinalg").mkdir()
    (tmp_path / "mplinalg" / "__init__.py").touch()  # else it is only a part of the installed one
    (tmp_path / "mplinalg" / "__main__.py").write_text(code)  # of the working folder
    assert gpu.resumed([], "a run") == 0


def test_a_device_is_lost_if_it_does_not_answer(cupy, monkeypatch):
    place = gpu_device.Cuda()
    assert not place.is_lost()

    def fails():
        raise cupy.cuda.runtime.CUDARuntimeError(700)

    monkeypatch.setattr(cupy.cuda.runtime, "deviceSynchronize", fails)
    assert place.is_lost()


@pytest.mark.parametrize(("returned", "status"), [(0, True), (1, False), (None, False)])
def test_tests_that_fail_are_not_good(returned, status):
    assert gpu.is_good({"status": "ok", "findings": {"returncode": returned}}) is status
    assert not gpu.is_good({"status": "failed"})


def test_without_cupy(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    for words in (["gpu"], ["gpu_dense_solve", "--sizes", 8]):
        assert bench(*words) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: no GPU to measure: CuPy cannot be imported")
        assert err.count("\n") == 1


def test_without_a_device(cupy, capsys, monkeypatch):
    def fails():
        raise cupy.cuda.runtime.CUDARuntimeError(100)

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", fails)
    assert bench("gpu") == 2
    assert "error: no GPU to measure: cudaError" in capsys.readouterr().err


def test_a_device_that_is_not_there(cupy, capsys):
    assert bench("gpu", "--device", 7) == 2
    assert "cuda:7 was asked for, 2 found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "0"], "budget must be a positive"),
        (["--budget", "5x"], "write 90, 90s, 25m or 1h"),
        (["--device", "cpu"], "no GPU"),
        (["--device", "tpu"], "write cpu, cuda, cuda:1, or the number of a GPU"),
        (["--sizes", "many"], "is not a size"),
        (["--peers", "torch"], "is for single suites"),
        (["--only", "n=8"], "is for single suites"),
        (["--plot", "r.png"], "is for single suites"),
        (["--pairs", "3"], "at least 7 rounds"),
        (["--json", "missing/r.jsonl"], "does not exist"),
    ],
)
def test_bad_usage(cupy, words, message, capsys):
    assert bench("gpu", *words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("25m", 1500), ("1.5h", 5400)]
)
def test_budgets(text, seconds):
    assert command._seconds(text) == seconds


def test_the_file_is_among_the_results():
    assert Path(default_file()) == ROOT / "benchmarks" / "results" / "gpu.jsonl"


# -- the budget ----------------------------------------------------------------------------------


def test_time_that_is_left_goes_to_the_stages_that_follow(cupy, tests_pass, monkeypatch):
    """Of 24 seconds the first stage gets its share, and uses none; the third overruns."""
    now, shares = [0.0], {}

    def ran(suite, options):
        shares[suite.name] = options.budget
        now[0] += {"gpu_dense_solve": 20.0}.get(suite.name, 0.0)
        return Run()

    monkeypatch.setattr(gpu.runner, "run", ran)
    monkeypatch.setattr(gpu, "STAGES", {"gpu_ceilings": 2, "gpu_dense_solve": 3, "gpu_qr": 1})
    options = Options(json="r.jsonl", budget=24.0, run="r")
    assert len(list(gpu.stages(options, clock=lambda: now[0]))) == 3
    assert shares == {"gpu_ceilings": 8.0, "gpu_dense_solve": 18.0, "gpu_qr": 4.0}


def test_a_stage_without_time_measures_nothing(cupy, tests_pass):
    ticks = iter([0.0, *20 * [100.0]])
    for _, result in gpu.stages(
        Options(json="r.jsonl", budget=1.0, sizes="8", run="r"), clock=lambda: next(ticks)
    ):
        assert result.records == []
        assert result.not_reached


# -- the tests -----------------------------------------------------------------------------------


def test_the_summary_of_the_tests(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['gpu: x']\n")
    (tmp_path / "tests" / "test_x.py").write_text(
        "import os, pytest\n"
        "@pytest.mark.gpu\n"
        "def test_good(): assert os.environ['MPLINALG_REQUIRE_GPU'] == '1'\n"
        "@pytest.mark.gpu\n"
        "def test_bad(): assert False\n"
        "def test_other(): assert False\n"
    )
    found = gpu._tested(tmp_path, "gpu", 60.0)
    assert found["returncode"] == 1
    assert found["summary"].startswith("1 failed, 1 passed, 1 deselected")
    assert found["failed"] == ["tests/test_x.py::test_bad"]
    assert found["seconds"] > 0


def test_tests_that_take_too_long(monkeypatch):
    def stopped(*words, **options):
        raise subprocess.TimeoutExpired(words, 5, output=b"FAILED tests/a.py::b - c\n..")

    monkeypatch.setattr(subprocess, "run", stopped)
    found = gpu._tested(ROOT, "gpu", 5.0)
    assert (found["returncode"], found["summary"]) == (None, "stopped after 5 s")
    assert found["failed"] == ["tests/a.py::b"]
