"""The command: answers, exit statuses, and one clear line for whatever goes wrong."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import hilbert

import mplinalg
from mplinalg.bench import cli
from mplinalg.bench.cli import main
from mplinalg.bench.files import read_array, write_array
from mplinalg.testing import backward_error


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A folder to work in, with a system A x = b of 60 unknowns in A.npy and b.npy."""
    monkeypatch.chdir(tmp_path)
    write_array("A.npy", rng.standard_normal((60, 60)))
    write_array("b.npy", rng.standard_normal(60))
    return tmp_path


@pytest.fixture
def no_solve(monkeypatch):
    """Solving is an error: the command must have failed before."""

    def solve(*args, **options):
        raise AssertionError("solved in spite of bad input")

    monkeypatch.setattr(mplinalg, "solve", solve)


def strict_json(text):
    """Parse JSON, without the NaN and Infinity that Python would let pass."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def assert_one_line(text, *starts):
    """`text` is one line for each of `starts`."""
    lines = text.splitlines()
    assert len(lines) == len(starts), text
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def python(*args, **options):
    """Run Python on the mplinalg that is being tested."""
    path = os.pathsep.join([str(Path(mplinalg.__file__).parents[1]), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, **options)


# -- solve ---------------------------------------------------------------------------------------


def test_solve_writes_the_answer_and_prints_the_report(folder, capsys):
    assert main(["solve", "A.npy", "b.npy", "-o", "x.npy"]) == 0
    a, b, x = (read_array(f"{name}.npy") for name in "Abx")
    assert x.shape == (60,)
    assert backward_error(a, x, b) < 1e-15
    captured = capsys.readouterr()
    assert "backward error" in captured.out
    assert captured.err == ""
    assert sorted(os.listdir()) == ["A.npy", "b.npy", "x.npy"]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mtx", ".csv"])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("imaginary", [0, 1j])
def test_solve_between_all_formats(folder, rng, suffix, columns, imaginary):
    a = rng.standard_normal((20, 20)) + imaginary * rng.standard_normal((20, 20))
    b = rng.standard_normal((20, columns))
    write_array(f"A{suffix}", a, force=True)
    write_array(f"b{suffix}", b, force=True)
    assert main(["solve", f"A{suffix}", f"b{suffix}", "--output", f"x{suffix}"]) == 0
    x = read_array(f"x{suffix}")
    assert x.shape == (20, columns)
    assert np.max(backward_error(a, x, b)) < 1e-15


def test_solve_arrays_of_one_archive(folder):
    np.savez("system.npz", A=read_array("A.npy"), b=read_array("b.npy"))
    assert main(["solve", "system.npz:A", "system.npz:b", "-o", "x.npy"]) == 0


def test_solve_as_json(folder, capsys):
    assert main(["solve", "A.npy", "b.npy", "--json", "-o", "x.npy"]) == 0
    report = strict_json(capsys.readouterr().out)
    assert report["status"] in ("converged", "direct")
    assert report["backward_error"] < 1e-15
    assert report["exit_status"] == 0
    assert report["output"] == "x.npy"
    assert report["warnings"] == []
    assert os.path.exists("x.npy")


def test_solve_for_the_report_alone(folder, capsys):
    assert main(["solve", "A.npy", "b.npy", "--json"]) == 0
    assert strict_json(capsys.readouterr().out)["output"] is None
    assert sorted(os.listdir()) == ["A.npy", "b.npy"]


@pytest.mark.parametrize("precision", ["auto", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"])
def test_solve_in_every_precision(folder, precision):
    write_array("A.npy", read_array("A.npy") + 20 * np.eye(60), force=True)
    assert main(["solve", "A.npy", "b.npy", "-o", "x.npy", "--precision", precision]) == 0
    assert backward_error(*(read_array(f"{name}.npy") for name in "Axb")) < 1e-15


def test_options_reach_the_solver(folder, monkeypatch):
    seen = {}
    solve = mplinalg.solve

    def spy(a, b, **options):
        seen.update(options)
        return solve(a, b, full_output=True)

    monkeypatch.setattr(mplinalg, "solve", spy)
    options = "--precision fp32 --refine none --residual extended --assume gen --tol 1e-9"
    line = f"solve A.npy b.npy -o x.npy {options} --max-iter 7 --no-fallback"
    assert main(line.split()) == 0
    assert seen == {
        "precision": "fp32",
        "refine": None,
        "residual": "extended",
        "assume_a": "gen",
        "tol": 1e-9,
        "max_iter": 7,
        "fallback": False,
        "full_output": True,
    }


def test_an_ill_conditioned_system_is_solved_with_a_warning(folder, capsys):
    write_array("A.npy", hilbert(20), force=True)
    write_array("b.npy", np.ones(20), force=True)
    assert main(["solve", "A.npy", "b.npy", "-o", "x.npy", "--json"]) == 1
    captured = capsys.readouterr()
    assert_one_line(captured.err, "warning: ")
    report = strict_json(captured.out)
    assert report["exit_status"] == 1
    assert len(report["warnings"]) == 1
    assert backward_error(hilbert(20), read_array("x.npy"), np.ones(20)) < 1e-14


@pytest.mark.parametrize("assume", ["gen", "pos"])
def test_an_impossible_system(folder, capsys, assume):
    a = np.zeros((5, 5)) if assume == "gen" else -np.eye(5)
    write_array("A.npy", a, force=True)
    write_array("b.npy", np.ones(5), force=True)
    assert main(["solve", "A.npy", "b.npy", "-o", "x.npy", "--assume", assume]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_one_line(captured.err, "error: ")
    assert sorted(os.listdir()) == ["A.npy", "b.npy"]


BAD = {
    "missing.npy b.npy": "missing.npy: no such file",
    "A.npy missing.npy": "missing.npy: no such file",
    "oblong.npy b.npy": "oblong.npy: expected a square matrix, found the shape (3, 4)",
    "b.npy b.npy": "b.npy: expected a square matrix, found the shape (60,)",
    "A.npy oblong.npy": "oblong.npy: expected 60 rows to go with A.npy, found the shape (3, 4)",
    "nan.npy b.npy": "nan.npy: 1 of 3600 numbers are NaN or infinite",
    "A.npy broken.csv": "broken.csv: cannot be read as .csv: line 1: 'one' is not a number",
    "A.npy b.npy --assume nonsense": "",
    "A.npy b.npy --tol -1": "",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input(folder, capsys, arguments):
    write_array("oblong.npy", np.ones((3, 4)))
    write_array("nan.npy", np.diag([np.nan] + 59 * [1.0]))
    Path("broken.csv").write_text("one\n")
    before = sorted(os.listdir())
    assert main(["solve", *arguments.split(), "-o", "x.npy"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_one_line(captured.err, f"error: {BAD[arguments]}")
    assert sorted(os.listdir()) == before


def test_an_answer_needs_a_file(folder, capsys):
    assert main(["solve", "A.npy", "b.npy"]) == 2
    assert_one_line(capsys.readouterr().err, "error: solve: give -o FILE")


@pytest.mark.parametrize("output", ["old.npy", "x.dat", "missing/x.npy", "."])
def test_an_output_that_cannot_be_written_is_found_before_solving(folder, capsys, output, no_solve):
    Path("old.npy").write_bytes(b"old")
    assert main(["solve", "A.npy", "b.npy", "-o", output]) == 2
    assert_one_line(capsys.readouterr().err, f"error: {output}: ")
    assert Path("old.npy").read_bytes() == b"old"
    assert sorted(os.listdir()) == ["A.npy", "b.npy", "old.npy"]


def test_force_replaces_the_output(folder):
    Path("x.npy").write_bytes(b"old")
    assert main(["solve", "A.npy", "b.npy", "-o", "x.npy", "--force"]) == 0
    assert backward_error(*(read_array(f"{name}.npy") for name in "Axb")) < 1e-15


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (MemoryError(), 2, "error: not enough memory"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device"),
        (mplinalg.LinAlgError("one\n  two"), 3, "error: one two"),
    ],
)
def test_errors_become_one_line_and_a_status(folder, capsys, monkeypatch, error, status, line):
    def solve(*args, **options):
        raise error

    monkeypatch.setattr(mplinalg, "solve", solve)
    assert main(["solve", "A.npy", "b.npy", "-o", "x.npy"]) == status
    assert capsys.readouterr().err == line + "\n"


# -- the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["solve"],
        ["solve", "A.npy", "b.npy", "--precision", "fp8"],
        ["solve", "A.npy", "b.npy", "--js"],
        ["demo", "--n", "many"],
    ],
)
def test_wrong_usage(capsys, arguments):
    assert main(arguments) == 2
    assert "usage: mplinalg" in capsys.readouterr().err


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "exit status" in out
    assert "the answer may be poor, or the precision asked for was not enough" in out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mplinalg {mplinalg.__version__}\n"


def test_info(capsys):
    assert main(["info"]) == 0
    assert np.__version__ in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert np.__version__ in json.dumps(strict_json(capsys.readouterr().out))


def test_as_a_process(folder):
    line = "-m mplinalg.bench.cli solve A.npy b.npy -o x.npy"
    done = python(*line.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert "backward error" in done.stdout
    done = python(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, "error: x.npy: exists already")


def test_a_reader_that_goes_away(folder):
    code = (
        "import os, sys; from mplinalg.bench.cli import main\n"
        "reading, writing = os.pipe(); os.dup2(writing, 1); os.close(writing); os.close(reading)\n"
        "sys.exit(main(['solve', 'A.npy', 'b.npy', '--json']))"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_streams(folder, closed):
    path = os.pathsep.join([str(Path(mplinalg.__file__).parents[1]), *filter(None, sys.path)])
    line = f'"{sys.executable}" -m mplinalg solve A.npy b.npy -o x.npy {closed}'
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert backward_error(*(read_array(f"{name}.npy") for name in "Axb")) < 1e-15


def test_interrupted_while_it_is_loaded(folder):
    code = (
        "import builtins, runpy, mplinalg\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *rest, **options):\n"
        "    if name.endswith('bench.cli'): raise KeyboardInterrupt\n"
        "    return load(name, *rest, **options)\n"
        "builtins.__import__ = interrupted\n"
        "runpy.run_module('mplinalg', run_name='__main__')\n"
    )
    done = python("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


def test_interrupted_while_arguments_are_parsed(capsys, monkeypatch):
    def parser():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_parser", parser)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_import_is_light(tmp_path):
    code = "import sys, mplinalg.bench.cli; print(*sys.modules)"
    loaded = set(python("-c", code, cwd=tmp_path).stdout.split())
    assert "mplinalg.bench.cli" in loaded
    assert loaded.isdisjoint({"numba", "matplotlib", "mplinalg.bench.demo"})


def test_a_stack_is_judged_by_its_order(folder, capsys, monkeypatch):
    """A backward error of 2 u is small for order 6, and would not be for one."""
    real = mplinalg.solve

    def solve(*args, **options):
        x, report = real(*args, **options)
        return x, dataclasses.replace(report, backward_error=np.array([2.2e-16]))

    monkeypatch.setattr(mplinalg, "solve", solve)
    write_array("A.npy", np.eye(6)[None], True)
    write_array("b.npy", np.ones((1, 6, 1)), True)
    assert main(["solve", "A.npy", "b.npy", "-o", "x.npy"]) == 0
    assert capsys.readouterr().err == ""


def test_less_than_usual_was_asked_for(folder, capsys):
    assert main(["solve", "A.npy", "b.npy", "--json", "--precision=fp16", "--refine=none"]) == 1
    assert_one_line(capsys.readouterr().err, "warning: the backward error is ")
