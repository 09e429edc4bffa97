"""The demonstration at a small size: what it finds, draws and refuses."""

import json
import os
import sys

import numpy as np
import pytest

import mplinalg
from mplinalg.bench import demo, picture
from mplinalg.bench.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spoil(monkeypatch, by):
    """Make `mplinalg.solve` wrong by the factor 1 + `by` in calls without options."""
    solve = mplinalg.solve

    def spoiled(a, b, **options):
        return solve(a, b, **options) if options else solve(a, b) * (1 + by)

    monkeypatch.setattr(mplinalg, "solve", spoiled)


def test_the_answer_is_right_and_drawn(capsys):
    result = demo.run(n=240)
    assert result.passed
    assert result.wavenumber == 10.0
    ours, peer, unrefined = result.rows
    assert max(ours.near_error, ours.far_error) < 1e-13
    assert max(peer.near_error, peer.far_error) < 1e-13
    assert 1e-10 < unrefined.far_error < 1e-4  # what refinement removes
    assert all(row.seconds > 0 for row in result.rows)
    assert result.speedup == np.median(result.ratios)
    assert os.listdir() == ["mplinalg-demo.png"]
    with open("mplinalg-demo.png", "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    out = capsys.readouterr().out
    for text in ("mplinalg.solve", "scipy.linalg.solve", "backward error", "Drawn to"):
        assert text in out


def test_silence(capsys):
    demo.run(n=240, plot=False, echo=None)
    assert capsys.readouterr().out == ""
    assert os.listdir() == []


def test_a_picture_without_matplotlib(monkeypatch, capsys):
    monkeypatch.setattr(picture, "have_matplotlib", lambda: False)
    assert main(["demo", "--n", "240", "-o", "bare.png"]) == 0
    assert os.path.getsize("bare.png") > 10_000
    assert "pip install 'mplinalg[plot]'" in capsys.readouterr().out


def test_a_picture_with_a_broken_matplotlib(monkeypatch, capsys):
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # importing it raises ImportError
    assert main(["demo", "--n", "240", "-o", "bare.png"]) == 0
    with open("bare.png", "rb") as file:
        data = file.read()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(data[16:20]) == picture.PIXELS
    assert "matplotlib cannot be imported" in capsys.readouterr().out


def test_the_report_is_of_one_call_that_is_not_timed(monkeypatch, capsys):
    solve, calls = mplinalg.solve, []

    def counted(a, b, **options):
        calls.append(options)
        return solve(a, b, **options)

    monkeypatch.setattr(mplinalg, "solve", counted)
    demo.run(n=240, plot=False)
    assert [c for c in calls if c.get("full_output")] == [calls[-1]]
    assert calls.count({}) == 1 + demo.ROUNDS
    assert "calls without a report" in capsys.readouterr().out


@pytest.mark.parametrize("available", [0, 240**2 * 16 - 1, 240**2 * 16, None])
def test_too_little_memory_is_found_at_once(monkeypatch, capsys, available):
    monkeypatch.setattr(demo, "_available_memory", lambda: available)
    enough = available is None or available >= 240**2 * 16
    if not enough:
        monkeypatch.setattr(demo.be, "circle", None)  # must not be called
    assert main(["demo", "--n", "240", "--no-plot"]) == (0 if enough else 2)
    assert ("of memory are available" in capsys.readouterr().err) == (not enough)


def test_the_available_memory_is_plausible():
    found = demo._available_memory()
    assert found is None or 2**20 < found < 2**50


@pytest.mark.parametrize("by", [1e-10, np.nan])
def test_a_wrong_answer_fails(monkeypatch, capsys, by):
    spoil(monkeypatch, by)
    assert main(["demo", "--n", "240", "--no-plot"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_json(capsys):
    assert main(["demo", "--n", "240", "--no-plot", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["passed"] is True
    assert len(result["rows"]) == 3
    assert result["output"] is None
    assert "report" in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--n 100", "Expected n >= 114 to resolve the wavenumber 4.16667"),
        ("--n 240 --wavenumber 30", "Expected n >= 320"),
        ("--n 240 --wavenumber -1", "Expected a positive wavenumber"),
        ("--n 240 --wavenumber nan", "Expected a positive wavenumber"),
        ("--n 1000000000", "give a smaller --n"),
        ("--n 240 -o missing/x.png", "missing/x.png: cannot be written"),
        ("--n 240 -o old.png", "old.png: exists already"),
    ],
)
def test_bad_input_is_found_at_once(monkeypatch, capsys, options, message):
    monkeypatch.setattr(demo.be, "combined_field_matrix", None)  # must not be called
    with open("old.png", "w") as file:
        file.write("old")
    assert main(["demo", *options.split()]) == 2
    assert message in capsys.readouterr().err
    assert os.listdir() == ["old.png"]


def test_force_replaces_the_picture():
    with open("old.png", "w") as file:
        file.write("old")
    assert main(["demo", "--n", "240", "-o", "old.png", "--force"]) == 0
    assert os.path.getsize("old.png") > 10_000
