"""Every example runs at a small size, draws its picture, and each of its checks can fail."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mplinalg

FOLDER = Path(__file__).parents[2] / "examples"
RUNS = {
    "acoustic scattering": ("01_acoustic_scattering", ["--n", "256"]),
    "acoustic scattering, study": ("01_acoustic_scattering", ["--n", "320", "--study"]),
    "Gaussian process": ("02_gaussian_process", ["--n", "80"]),
    "capacitance": ("03_capacitance", ["--n", "256"]),
    "spherical harmonics": ("04_spherical_harmonics", ["--n", "100"]),
    "Hilbert": ("05_hilbert", ["--n", "12"]),
    "Kalman filters": ("06_kalman_filters", ["--n", "4000"]),
    "Poisson": ("07_poisson", ["--n", "12", "--quick"]),
    "contraction": ("08_tensor_contraction", ["--n", "16"]),
    "two spheres": ("09_two_spheres", ["--n", "1024"]),
    "large Gaussian process": ("10_large_gaussian_process", ["--n", "600"]),
    "modes on disk": ("11_modes_on_disk", ["--n", "1500"]),
    "modes on disk, HDF5": ("11_modes_on_disk", ["--n", "1500", "--hdf5"]),
    "cluster": ("12_cluster", ["--n", "320"]),
}
NEEDS = {"02_gaussian_process": ["sklearn"], "11_modes_on_disk": ["h5py"],
         "12_cluster": ["dask.array", "distributed"]}  # fmt: skip
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


@pytest.fixture
def load(monkeypatch):
    """Import an example by its path, as running it as a script would."""

    def load(stem):
        for module in NEEDS.get(stem, ()):
            pytest.importorskip(module)
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
    assert {stem for stem, _ in RUNS.values()} == {p.stem for p in FOLDER.glob("[0-9]*.py")}


def test_it_passes_and_draws(run, load, tmp_path, capsys):
    stem, arguments = run
    picture = tmp_path / "picture.png"
    assert load(stem).main([*arguments, "--output", str(picture)]) == 0
    assert "All checks passed." in capsys.readouterr().out
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert 600 <= int.from_bytes(data[16:20]) <= 1000  # pixels wide


def spoiled(right, by, which=lambda *args, **keywords: True):
    """The solver `right` with its answer wrong by the factor 1 + `by` in the calls `which`."""

    def wrong(*args, **keywords):
        answer = right(*args, **keywords)
        if not which(*args, **keywords):
            return answer
        if isinstance(answer, tuple):
            return (answer[0] * (1 + by), *answer[1:])
        if hasattr(answer, "residues"):
            answer.x = answer.x * (1 + by)
            return answer
        return answer * (1 + by)

    return wrong


def failures(out):
    return out.split("\nFAILED: ")[1].strip().split("; ") if "\nFAILED: " in out else []


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


def test_the_large_gaussian_process_fails_when_its_factors_are_slightly_wrong(
    load, monkeypatch, capsys
):
    example = load("10_large_gaussian_process")
    here = spoiled(lambda n: (*example.Star(n).solve(), 0), 1e-6)
    monkeypatch.setattr(example, "in_a_process", here)
    assert example.main(["--n", "500", "--no-plot"]) == 1
    failed = failures(capsys.readouterr().out)
    assert failed == [
        "y^T K^-1 y", "mean, where worst", "deviation, where worst", "log p(y* | y)"
    ]  # fmt: skip


def test_the_large_gaussian_process_fails_with_other_data(load, monkeypatch, capsys):
    """What is solved is right, and so is the filter; the noise is not what both think."""
    example = load("10_large_gaussian_process")
    right = example.simulated

    def noisy(times, rng):
        return right(times, rng) + np.random.default_rng(1).standard_normal(len(times))

    monkeypatch.setattr(example, "simulated", noisy)
    monkeypatch.setattr(example, "in_a_process", lambda n: (*example.Star(n).solve(), 0))
    assert example.main(["--n", "500", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == ["held back: d^T C^-1 d"]


@pytest.mark.parametrize("what", ["memory", "traffic"])
def test_the_large_gaussian_process_fails_when_more_is_taken(what, load, monkeypatch, capsys):
    example = load("10_large_gaussian_process")

    def greedy(n):
        found, fit, prediction = example.Star(n).solve()
        if what == "traffic":
            fit.traffic.loaded *= 2
            prediction.traffic.predicted *= 2
        else:
            fit.traffic.peak += 2**20
        return found, fit, prediction, 2**27 if what == "memory" else 0

    monkeypatch.setattr(example, "in_a_process", greedy)
    assert example.main(["--n", "500", "--no-plot"]) == 1
    assert (
        failures(capsys.readouterr().out)
        == {
            "memory": ["memory over the limit", "of the process, beyond the limit"],
            "traffic": ["bytes moved, factor and fit", "bytes moved, prediction"],
        }[what]
    )


def test_the_modes_fail_when_values_are_too_large_or_passes_too_many(load, monkeypatch, capsys):
    example = load("11_modes_on_disk")
    right = mplinalg.tiled.svd

    def wrong(a, k, *, power, **options):
        u, s, vh, traffic = right(a, k, power=power + (power == 1), **options)
        return u, s * (1 + 1e-10), vh, traffic

    monkeypatch.setattr(mplinalg.tiled, "svd", wrong)
    assert example.main(["--n", "1500", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == [
        "power 1: passes", "singular values, above the exact", "|U^T A - S V^T| / s_1"
    ]  # fmt: skip


def test_the_modes_fail_when_one_is_missed(load, monkeypatch, capsys):
    """As without power iterations, were the bound that of many."""
    example = load("11_modes_on_disk")
    right = mplinalg.tiled.svd

    def wrong(a, k, **options):
        u, s, vh, traffic = right(a, k + 1, **options)
        return u[:, 1:], s[1:], vh[1:], traffic

    monkeypatch.setattr(mplinalg.tiled, "svd", wrong)
    assert example.main(["--n", "1500", "--no-plot"]) == 1
    failed = failures(capsys.readouterr().out)
    for power in example.POWERS:
        assert f"power {power}: singular value, worst" in failed
        assert f"power {power}: A less its modes" in failed


@pytest.mark.parametrize("by", [1e-13, 1e-9])
def test_the_cluster_fails_when_its_answer_is_slightly_wrong(by, load, monkeypatch, capsys):
    example = load("12_cluster")

    def on_this_machine(layers):
        found = {name: layer.tiled() for name, layer in layers.items()}
        return {name: (x * (1 + by), x, report, 0.0) for name, (x, report) in found.items()}

    monkeypatch.setattr(example, "solutions", on_this_machine)
    assert example.main(["--n", "320", "--no-plot"]) == 1
    wanted = ["backward error", "from one machine's", *(["potential"] if by > 1e-10 else [])]
    failed = failures(capsys.readouterr().out)
    assert failed == [
        f"{name}: {what}" for name in (example.ALIKE, example.OTHERWISE) for what in wanted
    ]


def test_dask_is_asked_for(load, monkeypatch):
    example = load("12_cluster")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SystemExit, match=r"pip install 'mplinalg\[dask\]'"):
        example.main(["--no-plot"])


def test_h5py_is_asked_for(load, monkeypatch):
    example = load("11_modes_on_disk")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SystemExit, match="pip install h5py"):
        example.main(["--n", "1500", "--hdf5", "--no-plot"])


@pytest.mark.slow
def test_a_cluster_ends_without_a_word(tmp_path):
    pytest.importorskip("dask.array")
    pytest.importorskip("distributed")
    done = subprocess.run(
        [sys.executable, "-W", "default", FOLDER / "12_cluster.py", "--n", "320", "--no-plot"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


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
    monkeypatch.setattr(example, "mplinalg", None)
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
