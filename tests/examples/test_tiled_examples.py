"""Examples with matrices larger than memory: what their checks find."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import mplinalg

from .runs import FOLDER, failures, spoiled


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
