"""`mplinalg bench`: its figures, and its progress on a terminal."""

import sys
from typing import ClassVar

import pytest

from mplinalg.bench import progress

from .tiny import bench, quick, suite

__all__ = ["quick", "suite"]  # fixtures


def test_a_figure_is_kept_unless_forced(suite, tmp_path):
    (tmp_path / "r.png").write_bytes(b"mine")
    assert bench(suite("raise AssertionError"), "--plot", "r.png") == 2
    assert (tmp_path / "r.png").read_bytes() == b"mine"
    assert bench(suite(), "--plot", "r.png", "--force") == 0
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("link", [False, True])
def test_a_figure_does_not_replace_the_records(suite, tmp_path, capsys, link):
    assert bench(suite(), "--json", "r.png") == 0
    before = (tmp_path / "r.png").read_bytes()
    if link:
        (tmp_path / "alias.png").symlink_to("r.png")
    name = "alias.png" if link else "./r.png"
    ours = suite("raise AssertionError")
    assert bench(ours, "--json", "r.png", "--plot", name, "--force") == 2
    assert capsys.readouterr().err == f"error: --plot {name}: this is the file of --json\n"
    assert (tmp_path / "r.png").read_bytes() == before


def test_a_figure_does_not_replace_records_behind_a_link(suite, tmp_path, capsys):
    (tmp_path / "r.jsonl").touch()
    (tmp_path / "r.png").symlink_to("r.jsonl")
    assert bench(suite("raise AssertionError"), "--plot", "r.png", "--force") == 2
    assert "figures are PNG files" in capsys.readouterr().err


def test_a_survey_without_a_figure(tmp_path, capsys):
    survey = "Survey(title='t', sizes='1', measure=None, tables=None)"
    text = f"from mplinalg.bench.suite import Survey\nSUITE = {survey}\n"
    (tmp_path / "s.py").write_text(text)
    assert bench("s.py", "--plot", "r.png") == 2
    assert capsys.readouterr().err == "error: s has no figure\n"


def test_a_figure_without_matplotlib(suite, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.backends.backend_agg", raising=False)
    assert bench(suite("raise AssertionError"), "--plot", "r.png") == 2
    assert "pip install 'mplinalg[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("error", ["AttributeError('_ARRAY_API not found')", "ImportError('ABI')"])
def test_a_figure_with_a_broken_matplotlib(suite, monkeypatch, tmp_path, capsys, error):
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text(f"raise {error}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    assert bench(suite("raise AssertionError"), "--plot", "r.png") == 2
    assert "figures need matplotlib: it is installed and cannot" in capsys.readouterr().err


class Bar:
    """What tqdm is asked to do."""

    seen: ClassVar = []

    def __init__(self, **options):
        self.seen.append(("total", options["total"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.seen.append("closed")

    def set_postfix_str(self, text):
        self.seen.append(text)

    def update(self):
        self.seen.append("update")


def test_progress_on_a_terminal(monkeypatch):
    monkeypatch.setattr(Bar, "seen", [])
    monkeypatch.setattr(progress, "_tqdm", lambda: Bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.progress([{"n": 1}, {"n": 2, "m": 3}], "title") as rows:
        assert list(rows) == [{"n": 1}, {"n": 2, "m": 3}]
    assert Bar.seen == [("total", 2), "n=1", "update", "n=2 m=3", "update", "closed"]


def test_no_progress_elsewhere(suite, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_tqdm", lambda: None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert bench(suite(), "--sizes", 1) == 0
    assert capsys.readouterr().err == ""
