"""Every example runs at a small size, draws its picture, and fails when its answer is wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mplinalg

FOLDER = Path(__file__).parents[2] / "examples"
RUNS = {
    "acoustic scattering": ("01_acoustic_scattering", ["--n", "256"], "solve"),
    "acoustic scattering, study": ("01_acoustic_scattering", ["--n", "320", "--study"], "solve"),
    "Gaussian process": ("02_gaussian_process", ["--n", "80"], "cho_solve"),
    "capacitance": ("03_capacitance", ["--n", "256"], "solve"),
    "spherical harmonics": ("04_spherical_harmonics", ["--n", "100"], "lstsq"),
    "Hilbert": ("05_hilbert", ["--n", "12"], "solve"),
}


@pytest.fixture
def load(monkeypatch):
    """Import an example by its path, as running it as a script would."""

    def load(stem):
        if stem == "02_gaussian_process":
            pytest.importorskip("sklearn")
        monkeypatch.syspath_prepend(FOLDER)
        spec = importlib.util.spec_from_file_location(f"example_{stem}", FOLDER / f"{stem}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("_common", None)


@pytest.fixture(params=RUNS.values(), ids=RUNS.keys())
def run(request):
    return request.param


def test_every_example_is_run():
    assert {stem for stem, *_ in RUNS.values()} == {p.stem for p in FOLDER.glob("[0-9]*.py")}


def test_it_passes_and_draws(run, load, tmp_path, capsys):
    stem, arguments, _ = run
    picture = tmp_path / "picture.png"
    assert load(stem).main([*arguments, "--output", str(picture)]) == 0
    assert "All checks passed." in capsys.readouterr().out
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert 600 <= int.from_bytes(data[16:20]) <= 1000  # pixels wide


def test_it_fails_when_the_solver_is_wrong_in_the_seventh_digit(run, load, monkeypatch, capsys):
    stem, arguments, solver = run
    example = load(stem)
    right = getattr(mplinalg, solver)

    def wrong(*args, **keywords):
        answer = right(*args, **keywords)
        if isinstance(answer, tuple):
            return (answer[0] * (1 + 1e-6), *answer[1:])
        if solver == "lstsq":
            answer.x = answer.x * (1 + 1e-6)
            return answer
        return answer * (1 + 1e-6)

    monkeypatch.setattr(mplinalg, solver, wrong)
    assert example.main([*arguments, "--no-plot"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_hilbert_fails_when_the_solver_keeps_silent(load, monkeypatch, capsys):
    example = load("05_hilbert")
    right = mplinalg.solve

    def silent(*args, **keywords):
        with example.warnings.catch_warnings():
            example.warnings.simplefilter("ignore")
            return right(*args, **keywords)

    monkeypatch.setattr(mplinalg, "solve", silent)
    assert example.main(["--n", "13", "--no-plot"]) == 1
    assert "FAILED: mplinalg: warned" in capsys.readouterr().out


@pytest.mark.parametrize("body", ["plate", "sphere"])
def test_capacitance_fails_when_the_matrix_is_wrong(body, load, monkeypatch, capsys):
    """The diagonal half as large again: every solver is right, and the capacitance is wrong."""
    example = load("03_capacitance")
    right = getattr(example, body)

    def wrong(*args, **keywords):
        a, b, areas = right(*args, **keywords)
        a[range(len(a)), range(len(a))] *= 1.5
        return a, b, areas

    monkeypatch.setattr(example, body, wrong)
    assert example.main(["--n", "1024", "--no-plot"]) == 1
    assert body in capsys.readouterr().out.split("FAILED: ")[1]


def test_it_is_a_script(tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER / "05_hilbert.py", "--n", "12"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["hilbert.png"]


def test_matplotlib_is_needed_only_to_draw(load, monkeypatch, capsys):
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # import matplotlib raises ImportError
    example = load("05_hilbert")
    assert example.main(["--n", "12", "--no-plot"]) == 0
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    with pytest.raises(SystemExit, match="2"):
        example.main(["--n", "12"])
    assert "pip install matplotlib" in capsys.readouterr().err


def test_scikit_learn_is_asked_for(load, monkeypatch):
    example = load("02_gaussian_process")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match="pip install scikit-learn"):
        example.main(["--no-plot"])


@pytest.mark.parametrize("n", ["1", "1000000"])
def test_a_size_out_of_range_is_an_error(n, run, load, capsys):
    stem, _, _ = run
    with pytest.raises(SystemExit, match="2"):
        load(stem).main(["--n", n])
    assert f"got {n}" in capsys.readouterr().err
