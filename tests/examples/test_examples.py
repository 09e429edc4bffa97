"""Every example runs at a small size, draws its picture, and each of its checks can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mplinalg

from .runs import FOLDER, RUNS, failures, spoiled

DENSE = {name: run for name, run in RUNS.items() if run[0] < "06"}
"""Those that time solvers of `mplinalg` itself."""
# Of a run: what of mplinalg is made wrong, by how much relatively, and the checks that must fail.
WRONG = [
    ("acoustic scattering", "solve", 1e-12, ["near field, largest value", "far field, largest va"]),
    ("acoustic scattering, study", "solve", 1e-12, ["Kress: error on the finest grid"]),
    ("Gaussian process", "cho_solve", 1e-8, [
        "log likelihood", "its derivative by log s", "its derivative by log l",
        "its derivative by log v", "predicted mean", "predicted deviation",
    ]),
    ("capacitance", "solve", 1e-13, ["plate: C against SciPy's"]),
    ("capacitance", "solve", 1e-3, ["plate: C, extrapolated"]),
    ("capacitance", "solve", 3e-3, [
        "plate: C, extrapolated", "plate: C, by which it is too large", "sphere: C, extrapolated",
    ]),
    ("spherical harmonics", "lstsq", 1e-12, [
        "coefficients, c_00, mplinalg", "monomials, worst at 4, mplinalg",
    ]),
    ("Hilbert", "solve", 1e-13, [
        "mplinalg: error / kappa u", "extended: error while kappa u < 1",
    ]),
    ("Kalman filters", "batched.solve", 1e-4, ["covariance: Riccati", "last state: least squares"]),
    ("Kalman filters", "batched.solve", 0.1, ["mean of d' P^-1 d"]),
    ("Poisson", "fem.solve", 1e-8, ["p = 3: solution against SciPy's"]),
    ("Poisson", "fem.solve", 1.0, [
        f"p = {p}: order, {norm}" for p in (1, 2, 3) for norm in ("energy norm", "L2")
    ]),
    ("contraction", "fem.contract", 1e-12, ["contract: largest error of C"]),
    ("two spheres", "tiled.solve", 0.05, ["c_11, extrapolated"]),
    ("modes on disk", "tiled.svd", 1e-10, ["|U^T U - I|", "|U^T A - S V^T| / s_1"]),
]  # fmt: skip


def test_every_example_is_run():
    assert {stem for stem, _ in RUNS.values()} == {p.stem for p in FOLDER.glob("[0-9]*.py")}


def test_it_passes_and_draws(run, load, tmp_path, capsys):
    stem, arguments = run
    picture = tmp_path / "picture.png"
    assert load(stem).main([*arguments, "--output", str(picture)]) == 0
    assert "All checks passed." in capsys.readouterr().out
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert 600 <= int.from_bytes(data[16:20]) <= 1000  # pixels wide


@pytest.mark.parametrize(("name", "solver", "by", "checks"), WRONG)
def test_it_fails_when_the_solver_is_slightly_wrong(
    name, solver, by, checks, load, monkeypatch, capsys
):
    stem, arguments = RUNS[name]
    example = load(stem)
    module, _, function = solver.rpartition(".")
    place = getattr(mplinalg, module) if module else mplinalg
    monkeypatch.setattr(place, function, spoiled(getattr(place, function), by))
    assert example.main([*arguments, "--no-plot"]) == 1
    failed = failures(capsys.readouterr().out)
    assert [c for c in checks if not any(f.startswith(c) for f in failed)] == []


@pytest.mark.parametrize("by", [1e-15, 1e-13])
def test_hilbert_fails_when_extended_residuals_do_not_help(by, load, monkeypatch, capsys):
    example = load("05_hilbert")
    extended = spoiled(mplinalg.solve, by, lambda *_, residual="working": residual == "extended")
    monkeypatch.setattr(mplinalg, "solve", extended)
    assert example.main(["--n", "12", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == ["extended: error while kappa u < 1"]


@pytest.mark.parametrize(
    ("order", "definite", "check"),
    [(256, True, "even plate: order"), (256, True, "graded plate: order"),
     (512, False, "sphere: order")],
)  # fmt: skip
def test_capacitance_fails_when_the_finest_mesh_is_off(
    order, definite, check, load, monkeypatch, capsys
):
    """By a hundredth: the differences of which the order is found are smaller."""
    example = load("03_capacitance")

    def finest(a, b, assume_a, **_):
        return len(a) == order and (assume_a == "pos") == definite

    monkeypatch.setattr(mplinalg, "solve", spoiled(mplinalg.solve, -1e-2, finest))
    with example.np.errstate(invalid="ignore"):  # the last step may have changed its sign
        assert example.main(["--n", "256", "--no-plot"]) == 1
    assert check in failures(capsys.readouterr().out)


def test_the_gaussian_process_fails_beside_the_maximum(load, monkeypatch, capsys):
    example = load("02_gaussian_process")
    maximise = example.maximise

    def beside(x, y):
        theta = maximise(x, y)[0] + 0.01
        return theta, example.likelihood(theta, x, y)[0]

    monkeypatch.setattr(example, "maximise", beside)
    assert example.main(["--n", "80", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == ["largest log likelihood"]


def test_the_study_fails_at_another_order(load, monkeypatch, capsys):
    """A wrong pole leaves an error of the order 1."""
    example = load("01_acoustic_scattering")
    right = example.corrected_trapezoidal_matrix

    def wrong(n, k):
        a = right(n, k)
        a[range(n), range(n)] += 1 / n
        return a

    monkeypatch.setattr(example, "corrected_trapezoidal_matrix", wrong)
    assert example.main(["--n", "320", "--study", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == ["trapezoidal: order"]


@pytest.mark.parametrize(("stem", "arguments"), DENSE.values(), ids=DENSE.keys())
def test_seconds_are_of_calls_without_a_report(stem, arguments, load, monkeypatch, capsys):
    example = load(stem)
    inside, reports = [], []
    timed = example.timed

    def watched_timed(function):
        inside.append(True)
        try:
            return timed(function)
        finally:
            inside.pop()

    def watched(right):
        def solver(*args, **keywords):
            if inside:
                reports.append(keywords.get("full_output", False))
            return right(*args, **keywords)

        return solver

    monkeypatch.setattr(example, "timed", watched_timed)
    for name in ("solve", "lstsq", "cho_solve"):
        monkeypatch.setattr(mplinalg, name, watched(getattr(mplinalg, name)))
    assert example.main([*arguments, "--no-plot"]) == 0
    assert not any(reports)
    assert reports or "--study" in arguments


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


@pytest.mark.parametrize("missing", ["matplotlib", "matplotlib.figure"])  # absent, or broken
def test_matplotlib_is_needed_only_to_draw(missing, load, tmp_path, monkeypatch, capsys):
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # importing it raises ImportError
    monkeypatch.chdir(tmp_path)
    example = load("05_hilbert")
    assert example.main(["--n", "12", "--no-plot"]) == 0
    with pytest.raises(SystemExit, match="2"):
        example.main(["--n", "12"])
    assert "pip install matplotlib" in capsys.readouterr().err


def test_a_bad_output_is_found_at_once(run, load, tmp_path, monkeypatch, capsys):
    stem, arguments = run
    monkeypatch.chdir(tmp_path)
    Path("old.png").write_text("old")
    example = load(stem)
    monkeypatch.setattr(example, "timed", None, raising=False)  # must not be called
    for module in ("mplinalg", "nn"):
        monkeypatch.setattr(example, module, None, raising=False)
    for output, message in [
        ("missing/x.png", "missing/x.png: cannot be written"),
        ("old.png", "old.png: exists already"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            example.main([*arguments, "--output", output])
        assert message in capsys.readouterr().err
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("old.png", "old")]


@pytest.mark.parametrize("arguments", [["--output", "old.png", "--force"], []])
def test_force_and_the_next_run_replace_a_picture(arguments, load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("old.png", "hilbert.png"):
        Path(name).write_text("old")
    assert load("05_hilbert").main(["--n", "12", *arguments]) == 0
    drawn = "old.png" if arguments else "hilbert.png"
    assert [p.name for p in tmp_path.iterdir() if p.read_bytes() != b"old"] == [drawn]


def test_scikit_learn_is_asked_for(load, monkeypatch):
    example = load("02_gaussian_process")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match="pip install scikit-learn"):
        example.main(["--no-plot"])


@pytest.mark.parametrize("n", ["1", "1000000"])
def test_a_size_out_of_range_is_an_error(n, run, load, capsys):
    stem, _ = run
    with pytest.raises(SystemExit, match="2"):
        load(stem).main(["--n", n])
    assert f"got {n}" in capsys.readouterr().err
