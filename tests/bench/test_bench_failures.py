"""`mplinalg bench` when answers are wrong, calls fail, or the run ends early."""

import os
from types import SimpleNamespace

import pytest

from mplinalg.bench import runner
from mplinalg.bench.records import read

from .tiny import SUITE, bench, quick, suite

__all__ = ["quick", "suite"]  # fixtures


# -- wrong answers -------------------------------------------------------------------------------


def test_a_wrong_answer_stops_its_row_only(suite, capsys):
    wrong = "return value + (n == 2)"
    assert bench(suite(wrong), "--json", "r.jsonl") == 1
    first, second, third = read("r.jsonl")
    assert second["status"] == "wrong answer"
    assert "seconds" not in second["ours"]
    assert "peers" not in second
    assert first["status"] == third["status"] == "ok"
    assert "WRONG ANSWER: error 1.00e+00 is above 1.00e-09" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ours", "status"),
    [
        ("return float('nan')", "wrong answer"),
        ("raise ValueError('broken')", "failed"),
        ("raise np.linalg.LinAlgError('singular')", "failed"),
        ("raise MemoryError", "out of memory"),
    ],
)
def test_no_answer_is_recorded(suite, ours, status):
    assert bench(suite(ours), "--json", "r.jsonl", "--sizes", 1) == 1
    (record,) = read("r.jsonl")
    assert record["status"] == status
    assert record["message"]


ROW_WITH_FINDINGS = """
from pathlib import Path

def found():
    return {"moved_bytes": 2_500_000, "tile": 7, "share": 0.5}

def build_more(rng, n):
    return dataclasses.replace(
        build(rng, n), findings=found, close=lambda: Path("closed").write_text(str(n))
    )

import dataclasses
SUITE = dataclasses.replace(SUITE, build=build_more)
"""


@pytest.mark.parametrize("ours", ["pass", "raise ValueError", "return float('nan')"])
def test_findings_of_a_timed_row_and_its_end(suite, tmp_path, capsys, ours):
    path = tmp_path / suite(ours)
    path.write_text(path.read_text() + ROW_WITH_FINDINGS)
    bench("s.py", "--json", "r.jsonl", "--sizes", 2)
    (record,) = read("r.jsonl")
    assert (tmp_path / "closed").read_text() == "2"
    assert ("findings" in record) == (ours == "pass")
    if ours == "pass":
        assert record["findings"] == {"moved_bytes": 2_500_000, "tile": 7, "share": 0.5}
        lines = capsys.readouterr().out.splitlines()
        assert "n     MB  tile  share" in lines
        assert "2   2.50     7    0.5" in lines


def test_memory_that_runs_out_while_timing(suite):
    count = "build.calls = getattr(build, 'calls', 0) + 1"
    later = "if build.calls == 4: raise MemoryError"
    assert bench(suite(f"{count}\n        {later}"), "--json", "r.jsonl") == 1
    statuses = [r["status"] for r in read("r.jsonl")]
    assert statuses == ["out of memory", "ok", "ok"]
    assert read("r.jsonl")[0]["ours"]["status"] == "ok"  # its answer was good


SURVEY = """
from mplinalg.bench.suite import Survey

def measure(seed, n):
    if n == 2:
        raise {error}
    return dict(found=10 * n)

def tables(records):
    return [("findings", ["n"], [[str(r["findings"]["found"])] for r in records])]

def draw(figure, records):
    figure.subplots().plot([r["findings"]["found"] for r in records])

SUITE = Survey(title="t", sizes="1,2,3", measure=measure, tables=tables, draw=draw)
"""


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ("ValueError('broken')", "failed", "broken"),
        ("MemoryError", "out of memory", "does not fit in memory"),
    ],
)
def test_a_row_of_a_survey_that_fails_stops_itself_only(tmp_path, capsys, error, status, message):
    (tmp_path / "s.py").write_text(SURVEY.format(error=error))
    assert bench("s.py", "--json", "r.jsonl", "--plot", "r.png") == 1
    first, second, third = read("r.jsonl")
    assert (first["findings"], third["findings"]) == ({"found": 10}, {"found": 30})
    assert (second["status"], second["message"]) == (status, message)
    assert "findings" not in second
    out = capsys.readouterr().out
    assert out.endswith(f"10\n30\n\nn=2: {status.upper()}: {message}\n")
    assert os.path.exists("r.png")


def test_a_survey_of_nothing_but_failures(tmp_path, capsys):
    (tmp_path / "s.py").write_text(SURVEY.format(error="ValueError('broken')"))
    assert bench("s.py", "--sizes", 2, "--plot", "r.png") == 1
    captured = capsys.readouterr()
    assert captured.out.endswith("\n\nn=2: FAILED: broken\n")
    assert captured.err == "warning: s: nothing to draw\n"


def test_a_problem_that_cannot_be_drawn(tmp_path, capsys):
    text = SUITE.format(ours="pass").replace("    value =", "    raise MemoryError\n    value =")
    (tmp_path / "s.py").write_text(text)
    assert bench("s.py", "--json", "r.jsonl", "--sizes", 1, "--plot", "r.png") == 1
    assert read("r.jsonl")[0]["status"] == "out of memory"
    assert not os.path.exists("r.png")
    assert capsys.readouterr().err == "warning: s: nothing to draw\n"


def test_a_peer_that_fails_is_named_and_not_compared(suite, capsys):
    assert bench(suite(), "--peers", "bad,fails,big,same", "--json", "r.jsonl", "--sizes", 1) == 0
    peers = read("r.jsonl")[0]["peers"]
    assert {name: result["status"] for name, result in peers.items()} == {
        "bad": "wrong answer", "fails": "failed", "big": "out of memory", "same": "ok",
    }  # fmt: skip
    assert [name for name, result in peers.items() if "ratio" in result] == ["same"]
    assert peers["fails"]["message"] == "no {}"
    assert "wrong answer" in capsys.readouterr().out


# -- the end of a run ----------------------------------------------------------------------------


def test_an_interrupted_run_keeps_its_rows(suite, capsys):
    stop = "if n == 3: raise KeyboardInterrupt"
    assert bench(suite(stop), "--json", "r.jsonl", "--plot", "r.png") == 130
    assert [r["parameters"]["n"] for r in read("r.jsonl")] == [1, 2]
    captured = capsys.readouterr()
    assert captured.err == "error: interrupted\n"
    assert "GFLOP/s" in captured.out
    assert "not reached: 1 row\n  n=3" in captured.out
    assert os.path.exists("r.png")


def test_an_interrupted_first_row(suite, capsys):
    assert bench(suite("raise KeyboardInterrupt"), "--json", "r.jsonl", "--plot", "r.png") == 130
    assert not os.path.exists("r.jsonl")
    assert not os.path.exists("r.png")
    assert capsys.readouterr().err == "error: interrupted\n"


def test_the_budget_ends_a_run_between_rows(suite, monkeypatch, capsys):
    seconds = iter([0.0, 1.0, 4.9, 5.0])  # when the run begins, and before each row
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    assert bench(suite(), "--budget", 5, "--json", "r.jsonl") == 0
    assert len(read("r.jsonl")) == 2
    assert "not reached: 1 row\n  n=3" in capsys.readouterr().out
