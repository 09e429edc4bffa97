"""`mplinalg bench gpu` and the suites for a GPU, run on the stand-in for CuPy at tiny sizes.

Times mean nothing there: events tell those of the host. What is tested is that the whole command
comes to its end and leaves the records that it should.
"""

from __future__ import annotations

import ctypes
import functools
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mplinalg
import mplinalg.batched
import mplinalg.fem
from mplinalg.bench import (
    catalogue,
    checks,
    command,
    gpu,
    gpu_checks,
    gpu_device,
    gpu_model,
    gpu_peers,
    gpu_problems,
    row,
    stacks,
    timing,
)
from mplinalg.bench.cli import main
from mplinalg.bench.records import read
from mplinalg.bench.runner import Options, Run, run
from mplinalg.bench.suite import Suite
from mplinalg.bench.timing import interleave
from mplinalg.precision import FP16
from mplinalg.report import SolveReport, Status

from ..cupy_on_host.install import cupy_on_host, recorded  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[2]
N = 24
default_file = gpu.default_file
REPORT = SolveReport(Status.CONVERGED, iterations=3, precision="fp16", backward_error=1e-17)


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    """Short samples, small ceilings, and a folder to work in."""
    for module in (row, gpu_device):
        monkeypatch.setattr(module, "interleave", functools.partial(interleave, min_sample=1e-6))
    monkeypatch.setattr(timing, "METERED_SAMPLE", 1e-6)
    monkeypatch.setattr(gpu_device, "ORDER", 16)
    monkeypatch.setattr(gpu_device, "COPIED", 1000)
    monkeypatch.setattr(stacks, "SCALE", 1e-4)
    monkeypatch.setattr(gpu, "default_file", lambda: "gpu.jsonl")  # not among the results
    monkeypatch.setattr(gpu, "checkout", lambda: ROOT)  # also where a wheel is installed
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cupy(cupy_on_host, monkeypatch):  # noqa: F811
    """The stand-in, with solvers in the place of mplinalg's: these tests are of the harness."""

    def factors(a, mode="reduced"):
        q, r = (cupy_on_host.asarray(part) for part in np.linalg.qr(a.get()))
        return r if mode == "r" else (q, r)

    def least_squares(a, b):
        return cupy_on_host.asarray(np.linalg.lstsq(a.get(), b.get(), rcond=None)[0])

    def solve(a, b, full_output=False, **options):
        x = cupy_on_host.linalg.solve(a, b)
        return (x, REPORT) if full_output else x

    def our_qr(a, mode, full_output=False):
        return (*factors(a), REPORT) if full_output else factors(a)

    def lstsq(a, b, full_output=False):
        return SimpleNamespace(x=least_squares(a, b), report=REPORT)

    monkeypatch.setattr(cupy_on_host.linalg, "qr", factors)
    monkeypatch.setattr(mplinalg, "solve", solve)
    monkeypatch.setattr(mplinalg, "qr", our_qr)
    monkeypatch.setattr(mplinalg, "lstsq", lstsq)
    monkeypatch.setattr(mplinalg, "lu_factor", lambda a, precision: a)

    def gemm(a, b, out, precision="working"):
        return cupy_on_host.matmul(a, b, out=out)

    def verb(self, alpha, a, b, beta, c):
        cupy_on_host.matmul(a, b, out=c)

    from mplinalg.ops.cupy_batched import CupyBatchedOps

    monkeypatch.setattr(mplinalg.batched, "gemm", gemm)
    monkeypatch.setattr(mplinalg.batched, "solve", lambda a, b, assume_a: solve(a, b))
    contract = functools.partial(cupy_on_host.einsum, optimize=True)
    monkeypatch.setattr(mplinalg.fem, "contract", contract)
    monkeypatch.setattr(CupyBatchedOps, "gemm_batched", verb)
    # what the stand-in does not have
    monkeypatch.setattr(gpu_peers, "cholesky_solve", cupy_on_host.linalg.solve)
    monkeypatch.setattr(gpu_peers, "least_squares", least_squares)
    monkeypatch.setattr(gpu_peers, "irs_least_squares", least_squares)
    # kernels take long on the host, and do nothing for these tests
    from mplinalg.kernels.cuda import loader

    monkeypatch.setattr(loader, "launch", lambda name, grid, *arguments: None)
    return cupy_on_host


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
        assert record["ours"]["percent_of_half_gemm"] > 0
        assert len(record["ours"]["seconds"]["samples"]) == 7
        good = [p for p in record["peers"].values() if p["status"] == "ok"]
        assert good
        for peer in good:
            assert len(peer["ratio"]["samples"]) == 7


@pytest.mark.slow
def test_the_kernels_that_are_measured_are_launched_rightly(cupy_on_host):  # noqa: F811
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


# -- the suites ----------------------------------------------------------------------------------


def suites():
    found = {name: catalogue.load(name) for name in catalogue.names("cuda")}
    return {name: suite for name, suite in found.items() if isinstance(suite, Suite)}


def test_every_stage_is_a_suite_for_a_gpu():
    assert set(gpu.STAGES) - {gpu.TESTS} == set(catalogue.names("cuda"))
    assert set(catalogue.names("cuda")).isdisjoint(catalogue.names())
    assert all(suite.device == "cuda" for suite in suites().values())


@pytest.mark.parametrize("name", catalogue.names("cuda"))
def test_a_suite_says_what_it_measures(name):
    text = (catalogue.folder() / f"{name}.py").read_text()
    assert text.startswith('"""')
    assert len(text.split('"""')[1]) > 200


@pytest.mark.parametrize("name", suites())
def test_a_right_answer_passes_and_one_slightly_wrong_does_not(cupy, name):
    suite = suites()[name]
    for parameters in suite.cases([N]):
        problem = suite.build(np.random.default_rng(0), **parameters)
        assert set(suite.peers) == set(problem.peers)
        answer, by = problem.ours(), 1 + max(1e-6, 100 * problem.bound)
        wrong = (
            (answer[0] * by, *answer[1:]) if isinstance(answer, tuple) else answer * by
        )  # fmt: skip
        assert problem.error(answer) <= problem.bound, parameters
        assert not problem.error(wrong) <= problem.bound, parameters


@pytest.mark.parametrize("name", suites())
def test_the_librarys_own_solvers_pass_in_every_suite(cupy_on_host, name):  # noqa: F811
    """Its first row of each size, by the kernels themselves."""
    suite = suites()[name]
    for parameters in list(suite.cases([20, 33]))[:2]:
        problem = suite.build(np.random.default_rng(0), **parameters)
        assert problem.error(problem.ours()) <= problem.bound, parameters
        if problem.report is not None:
            assert problem.report().status.is_success, parameters


def test_a_suite_for_a_gpu_refuses_the_processor_and_the_other_way_round():
    suite = suites()["gpu_qr"]
    with pytest.raises(ValueError, match="the suite gpu_qr computes on cuda"):
        run(suite, Options(device="cpu"))
    with pytest.raises(ValueError, match="the suite qr computes on cpu"):
        run(catalogue.load("qr"), Options(device="cuda"))


def test_the_ceilings_cover_what_they_say():
    rows = list(catalogue.load("gpu_ceilings").cases([8192]))
    depths = {r["k"] for r in rows if r["what"] == "gemm"}
    assert depths == {256, 512, 1024, 8192}
    assert {r["format"] for r in rows if r["what"] == "gemm"} == {
        "fp16", "bf16", "tf32", "fp32", "fp64",
    }  # fmt: skip
    assert "fp16x2" in {r["format"] for r in rows if r["what"] == "product"}
    assert {r["what"] for r in rows} >= {"copy", "launch", "leaf", "panel", "residual", "convert"}
    assert len({json.dumps(r, sort_keys=True) for r in rows}) == len(rows)


# -- drawing and judging -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_matrices_are_what_they_are_said_to_be(cupy, monkeypatch, dtype):
    monkeypatch.setattr(gpu_problems, "_AT_ONCE", 50)
    rng = np.random.default_rng(1)
    a = gpu_problems.normal(rng, (40, 30), dtype).get()
    assert a.dtype == dtype
    assert 0.8 < a.real.std() < 1.2
    assert len(np.unique(a)) == a.size
    spd = gpu_problems.positive_definite(rng, 33, dtype).get()
    np.testing.assert_array_equal(spd, spd.conj().T)
    assert np.linalg.eigvalsh(spd)[0] > 0.009
    given = gpu_problems.with_condition(rng, 40, 20, 1e5, dtype).get()
    assert np.linalg.cond(given) == pytest.approx(1e5)


def test_the_triangles_of_large_positive_definite_matrices_agree(cupy):
    a = cupy.asarray(np.random.default_rng(0).standard_normal((70, 70)))
    lower = np.tril(a.get())
    gpu_problems._symmetrise(a, step=16)
    np.testing.assert_array_equal(a.get(), lower + np.tril(lower, -1).T)


@pytest.mark.parametrize("nrhs", [None, 3])
def test_backward_errors_are_those_of_the_host(cupy, rng, monkeypatch, nrhs):
    monkeypatch.setattr(gpu_checks, "_ROWS", 7)
    a, b = rng.standard_normal((50, 50)), rng.standard_normal((50, nrhs) if nrhs else 50)
    x = np.linalg.solve(a, b)
    x.flat[0] *= 1 + 1e-9
    device = gpu_checks.solve_error(cupy.asarray(a), cupy.asarray(b))
    assert device(cupy.asarray(x)) == pytest.approx(checks.solve_error(a, b)(x), rel=1e-4)
    x.flat[1] = np.nan
    assert np.isnan(device(cupy.asarray(x)))
    assert np.isnan(device(x))  # not on the device
    assert np.isnan(device(cupy.asarray(x[:-1])))


def test_errors_of_factors_are_those_of_the_host(cupy, rng):
    a = rng.standard_normal((40, 10))
    q, r = np.linalg.qr(a)
    q[0, 0] += 1e-9
    found = gpu_checks.qr_error(cupy.asarray(a))((cupy.asarray(q), cupy.asarray(r)))
    assert found == pytest.approx(checks.qr_error(a)((q, r)), rel=1e-3)
    r[3, 1] = 1e-300
    assert np.isnan(gpu_checks.qr_error(cupy.asarray(a))((cupy.asarray(q), cupy.asarray(r))))


def test_errors_of_least_squares_are_those_of_the_host(cupy, rng):
    a, b = rng.standard_normal((40, 10)), rng.standard_normal(40)
    x = np.linalg.lstsq(a, b, rcond=None)[0] * (1 + 1e-7)
    found = gpu_checks.least_squares_error(cupy.asarray(a), cupy.asarray(b))(cupy.asarray(x))
    assert found == pytest.approx(checks.least_squares_error(a, b)(x), rel=1e-4)


# -- peers ---------------------------------------------------------------------------------------


def array_at(pointer, shape, dtype):
    """What a routine of cuSOLVER sees of an argument: columns of unit stride."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype).reshape(
        shape, order="F"
    )


def irs(letter, dtype, calls, iterations=-5, singular=0):
    """cusolverDn<letter>gesv and its size, as CuPy wraps them; refinement fails, x is good."""

    def size(handle, n, nrhs, *rest):
        return 64

    def solve(handle, n, nrhs, a, lda, pivots, b, ldb, x, ldx, work, work_bytes, info):
        assert work_bytes == 64
        calls.append(letter)
        solution = np.linalg.solve(array_at(a, (n, n), dtype), array_at(b, (n, nrhs), dtype))
        array_at(x, (n, nrhs), dtype)[...] = solution
        array_at(info, (1,), np.int32)[...] = singular
        return iterations

    return {f"{letter}gesv_bufferSize": size, f"{letter}gesv": solve}


@pytest.mark.parametrize("nrhs", [None, 3])
@pytest.mark.parametrize(
    ("dtype", "factors", "letters"),
    [("float64", "fp16", "dh"), ("float64", "tf32", "dx"), ("complex128", "fp16", "zk")],
)
def test_cusolvers_refinement(cupy, rng, monkeypatch, dtype, factors, letters, nrhs):
    """Called by name, whatever CuPy's global says; a fallback to double precision is an answer."""
    from cupy_backends.cuda.libs import cusolver

    calls = []
    for name, function in irs(letters, dtype, calls).items():
        monkeypatch.setattr(cusolver, name, function, raising=False)
    a = rng.standard_normal((9, 9)).astype(dtype)
    b = rng.standard_normal((9, nrhs) if nrhs else 9).astype(dtype)
    given = cupy.asarray(a), cupy.asarray(b)
    x = gpu_peers.irs_solve(*given, factors)
    np.testing.assert_allclose(x.get(), np.linalg.solve(a, b))
    np.testing.assert_array_equal(given[0].get(), a)
    np.testing.assert_array_equal(given[1].get(), b)
    assert calls == [letters]


def test_a_matrix_that_cusolver_finds_singular(cupy, rng, monkeypatch):
    from cupy_backends.cuda.libs import cusolver

    for name, function in irs("dh", "float64", [], singular=3).items():
        monkeypatch.setattr(cusolver, name, function, raising=False)
    with pytest.raises(RuntimeError, match="dhgesv: info = 3"):
        gpu_peers.irs_solve(cupy.eye(4), cupy.ones(4), "fp16")


class Routine:
    """A function of a shared library."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*(getattr(a, "value", a) for a in arguments))


def test_routines_that_cupy_has_not_wrapped(cupy, rng, monkeypatch):
    """bfloat16 factors: from the library that CuPy has loaded."""
    streams, wrapped = [], irs("db", "float64", [])

    def size(handle, n, *rest):
        rest[-1]._obj.value = 64
        return 0

    def solve(handle, *arguments):
        *arrays, work_bytes, iterations, info = arguments
        iterations._obj.value = wrapped["dbgesv"](handle, *arrays, work_bytes, info)
        return 0

    library = SimpleNamespace(
        cusolverDnDBgesv_bufferSize=Routine(size),
        cusolverDnDBgesv=Routine(solve),
        cusolverDnSetStream=Routine(lambda handle, stream: streams.append(stream) or 0),
    )
    monkeypatch.setattr(gpu_peers, "_loaded", lambda name: library)
    a, b = rng.standard_normal((9, 9)), rng.standard_normal(9)
    x = gpu_peers.irs_solve(cupy.asarray(a), cupy.asarray(b), "bf16")
    np.testing.assert_allclose(x.get(), np.linalg.solve(a, b))
    assert len(streams) == 1
    library.cusolverDnDBgesv_bufferSize = Routine(lambda *arguments: 7)
    with pytest.raises(RuntimeError, match="cusolverDnDBgesv: cuSOLVER status 7"):
        gpu_peers.irs_solve(cupy.asarray(a), cupy.asarray(b), "bf16")


def test_a_library_that_is_loaded_is_found():
    name = next(
        Path(line.split()[-1]).name
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "libc.so" in line
    )
    assert gpu_peers._loaded(name)._name.endswith(name)
    with pytest.raises(RuntimeError, match=r"libcusolver\.so is not loaded"):
        gpu_peers._loaded("libcusolver.so")


def test_torch_is_left_out_of_large_problems(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    monkeypatch.setattr(gpu_peers, "MOST_OF_TORCH", 8)
    with pytest.raises(ValueError, match="left out above order 8"):
        gpu_peers.torch_solve(cupy.eye(9), cupy.ones(9))


# -- the device ----------------------------------------------------------------------------------


def test_the_clock_adds_up_events(cupy, monkeypatch):
    """Milliseconds since the last event, each in single precision."""
    passed = iter([5.0, 0.25])
    monkeypatch.setattr(cupy.cuda, "get_elapsed_time", lambda before, after: next(passed))
    clock = gpu_device.EventClock()
    assert [clock(), clock()] == pytest.approx([5e-3, 5.25e-3])


def smi(monkeypatch, output, returncode=0):
    asked = []

    def ran(words, **options):
        asked.append(words)
        return SimpleNamespace(stdout=output, returncode=returncode)

    monkeypatch.setattr(gpu_device.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(gpu_device.subprocess, "run", ran)
    return asked


def test_clocks_and_power(cupy, monkeypatch):
    asked = smi(monkeypatch, "1980, 3201, 123.45, [N/A]\n")
    assert gpu_device.Cuda("cuda:1").state()["gpu_state"] == {
        "sm_megahertz": 1980.0, "memory_megahertz": 3201.0, "watts": 123.45, "celsius": None,
        "free_bytes": cupy.cuda.runtime.memGetInfo()[0],
    }  # fmt: skip
    assert "--id=0000:01:00.0" in asked[0]


@pytest.mark.parametrize(("output", "returncode"), [("", 0), ("1, 2\n", 0), ("1,2,3,4\n", 9)])
def test_what_nvidia_smi_does_not_say_is_unknown(cupy, monkeypatch, output, returncode):
    smi(monkeypatch, output, returncode)
    state = gpu_device.Cuda().state()["gpu_state"]
    del state["free_bytes"]
    assert set(state.values()) == {None}


# -- the model -----------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "algorithms" / "gpu-lu.md"


@pytest.mark.parametrize("name", gpu_model.page_tables())
def test_the_tables_of_the_page_are_those_of_the_model(name):
    assert f"\n\n{gpu_model.page_tables()[name]}\n\n" in PAGE.read_text()


@pytest.mark.parametrize("name", gpu_model.page_tables())
def test_each_table_is_said_to_be_predicted(name):
    before, _, _ = PAGE.read_text().partition(gpu_model.page_tables()[name])
    title = before.rstrip().rpartition("\n\n")[2]
    assert "predicted, not measured: no GPU has run this yet" in " ".join(title.split())


def test_products_are_bounded_by_traffic_or_by_flops():
    """275 TFLOP/s at k = 256, 550 at 512, all of the 790 from 735 on."""
    assert gpu_model.product_cap(256) / 1e12 == pytest.approx(275, abs=0.5)
    assert gpu_model.product_cap(512) / 1e12 == pytest.approx(550, abs=0.5)
    assert gpu_model.product_cap(734) < gpu_model.product_cap(735) == gpu_model.H200.low


@pytest.mark.parametrize(("m", "count"), [(1, 1), (256, 1), (257, 2), (2048, 2), (2049, 3)])
def test_rounds(m, count):
    assert gpu_model.rounds(m) == count


def test_a_prediction_adds_up():
    """Two steps: every term by hand, with round rates."""
    launch = 1e-5
    device = gpu_model.Device(
        "d", low=1e12, single=1e11, copy=1e10, launch=launch, column=1e-6, grid_column=1.0,
        inverse=1e-4,
    )  # fmt: skip
    found = gpu_model.predict(512, device, block=256)
    assert found.convert == pytest.approx(12 * 512**2 / 1e10)
    assert found.swaps == pytest.approx(2 * (32 * 256 * 256 / 1e10 + 9 * launch))
    flops = 256 * (256 + 128) * 256
    assert found.triangles == pytest.approx(flops / 1e11 + 2e-4 + 2 * 7 * launch)
    assert found.operands == pytest.approx(30 * 256 * 256 / 1e10 + 14 * launch)
    # 64 flops a byte: less than these take
    assert found.updates == pytest.approx(8 * 256**2 / 1e10 + 2 * launch)
    first, second = (gpu_model.panel(m, 256, device) for m in (512, 256))
    assert found.panels == pytest.approx(first + second)
    assert found.exposed == pytest.approx(first + max(0, second - found.updates))
    # two rounds and the rows of L
    leaf = 3 * (launch + 32e-6) + 12 * 512 * 32 / 1e10
    assert gpu_model.tournament_leaf(512, device) == pytest.approx(leaf)
    # 8 leaves; 7 nodes of 8 launches, and 4; flops take longer than traffic on 3 levels
    products = (512 * 256**2 - 256**3 / 3) / 1e11
    assert products > 4 * 512 * 256 * 3 / 1e10
    assert first == pytest.approx(8 * leaf + 60 * launch + products)
    application = 12 * 512**2 / 1e10 + 2 * 4 * 3 * launch
    assert found.refinement == pytest.approx(8 * application)
    assert found.seconds == pytest.approx(sum(found.phases.values()))
    assert found.rate == pytest.approx((2 / 3 * 512**3 + 2 * 512**2) / found.seconds)


def test_what_is_said_to_be_a_gain_is_one():
    for n in gpu_model.ORDERS:
        first, slower, *rates, last = (
            gpu_model.predict(n, *lever).rate for lever in gpu_model.LEVERS.values()
        )
        assert slower < first < min(rates)
        assert last > max(rates)


@pytest.mark.parametrize(("n", "nb"), [(192, 64), (384, 64)])
def test_an_lu_makes_the_launches_of_the_model(cupy_on_host, rng, n, nb):  # noqa: F811
    """Kernels, calls of cuBLAS, and functions of CuPy, each of one kernel."""
    from mplinalg.factor.lu import getrf
    from mplinalg.ops.cupy_ops import CupyOps

    def counted():
        a = cupy_on_host.asarray(rng.standard_normal((n, n)), dtype=np.float32)
        with recorded() as ledger:
            getrf(CupyOps(), a, FP16, block=nb)
        return [sum(c.values()) for c in (ledger.launches, ledger.calls, ledger.operations)]

    counted()  # what is made once is made
    assert sum(counted()) == gpu_model.launches(n, nb)


def test_the_model_prints_its_tables():
    done = subprocess.run(
        [sys.executable, "-m", "mplinalg.bench.gpu_model"], capture_output=True, text=True,
        check=True, cwd=ROOT,
    )  # fmt: skip
    for text in gpu_model.page_tables().values():
        assert text in done.stdout
