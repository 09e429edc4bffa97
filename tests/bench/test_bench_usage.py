"""`mplinalg bench`: arguments and suites that are refused."""

import pytest

from .tiny import bench, quick, suite

__all__ = ["quick", "suite"]  # fixtures


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "0"], "sizes are at least 1"),
        (["--sizes", "8:4"], "is empty"),
        (["--sizes", "many"], "is not a size"),
        (["--peers", "same,mkl"], "has no peer 'mkl'; it has same, bad, fails, big"),
        (["--peers", ""], "has no peer ''"),
        (["--threads", "0"], "threads must be"),
        (["--threads", "many"], "threads must be"),
        (["--pairs", "0"], "pairs must be at least 1"),
        (["--budget", "0"], "budget must be a positive"),
        (["--budget", "nan"], "budget must be a positive"),
        (["--device", "cuda"], "the suite s computes on cpu"),
        (["--only", "n"], "write KEY=VALUE"),
        (["--only", "n=7"], "has no row with n=7: n is 1 or 2 or 3"),
        (["--only", "nrhs=1"], "rows have no nrhs"),
        (["--json", "missing/r.jsonl"], "does not exist"),
        (["--plot", "missing/r.png"], "does not exist"),
        (["--json", ""], "is empty"),
        (["--plot", ""], "figures are PNG files"),
        (["--plot", "r.pdf"], "figures are PNG files"),
        (["--pairs", "6", "--json", "r.jsonl"], "at least 7 rounds, --pairs asks for 6"),
        (["--sizes", 401 * "9"], "sizes are at most 2147483647"),
    ],
)
def test_bad_usage(suite, words, message, capsys):
    assert bench(suite("raise AssertionError"), *words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("words", [["--pairs", "x"], ["--device", "tpu"], ["--nonsense"]])
def test_options_that_do_not_parse(suite, words, capsys):
    assert bench(suite(), *words) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dense", "unknown suite 'dense'; choose from accuracy, "),
        ("pages", "unknown suite"),
        ("missing.py", "no such file"),
        ("empty.py", "it defines no SUITE"),
        ("number.py", "SUITE is a int"),
        ("declared.py", "it defines no SUITE"),
        ("latin.py", "error: latin.py: not a file of Python: "),
        ("broken.py", "error: broken.py: not a file of Python: "),
    ],
)
def test_no_such_suite(name, message, tmp_path, capsys):
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "number.py").write_text("SUITE = 3\n")
    (tmp_path / "declared.py").write_text("SUITE: int\nOTHER = 3\n")
    (tmp_path / "latin.py").write_bytes(b"NAME = 'caf\xe9'\nSUITE = 3\n")
    (tmp_path / "broken.py").write_text("SUITE = (\n")
    assert bench(name) == 2
    assert message in capsys.readouterr().err


def test_no_suite_at_all(capsys):
    assert bench() == 2
    assert "--list" in capsys.readouterr().err


def test_a_suite_whose_type_is_stated(suite, tmp_path):
    text = (tmp_path / suite()).read_text().replace("SUITE = Suite(", "SUITE: Suite = Suite(")
    (tmp_path / "s.py").write_text(text)
    assert bench("s.py", "--sizes", 1) == 0


def test_few_rounds_are_for_the_terminal_only(suite, capsys):
    assert bench(suite(), "--sizes", 1, "--pairs", 1) == 0
    assert "medians of 1 round in turns" in capsys.readouterr().out


def test_a_survey_has_no_peers(capsys):
    assert bench("accuracy", "--peers", "scipy") == 2
    assert "has no peers" in capsys.readouterr().err
