"""Records: appended line by line, and to nothing but records."""

import json
import os

import numpy as np
import pytest

from mplinalg.bench import records

GOOD = {"schema": 1, "suite": "s", "run": "r"}


def test_records_are_appended(tmp_path):
    path = tmp_path / "x.jsonl"
    for value in (1, 2, 3):
        records.check_appendable(path)
        before = path.read_bytes() if path.exists() else b""
        records.append(path, GOOD | {"value": value})
        assert path.read_bytes().startswith(before)
    assert [r["value"] for r in records.read(path)] == [1, 2, 3]
    assert len(path.read_text().splitlines()) == 3


def test_a_record_is_one_write_of_one_line(tmp_path, monkeypatch):
    written = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (written.append(data), write(fd, data))[1])
    records.append(tmp_path / "x", GOOD | {"text": "two\nlines"})
    assert len(written) == 1
    assert written[0].count(b"\n") == 1
    assert written[0].endswith(b"\n")


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(OSError, match="5 of"):
        records.append(tmp_path / "x", GOOD)


def test_json_has_no_nan(tmp_path):
    values = {
        "a": np.nan,
        "b": [np.inf, -np.inf],
        "c": np.float64("nan"),
        "d": np.array([1, np.nan]),
    }
    records.append(tmp_path / "x", GOOD | values)

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads((tmp_path / "x").read_text(), parse_constant=refuse)
    assert (found["a"], found["b"], found["c"]) == (None, [None, None], None)
    assert found["d"] == [1.0, None]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("hello\n", "not JSON"),
        ('{"a": 1}\n', "not a record"),
        ("[1, 2]\n", "not a record"),
        ("3\n", "not a record"),
        (json.dumps(GOOD), "cut off"),
        (json.dumps(GOOD) + "\n" + '{"schema": 1, "su', "cut off"),
        (json.dumps(GOOD | {"schema": 2}) + "\n", "schema 2"),
        (json.dumps(GOOD) + "\n\n", "line 2"),
        ("\x93NUMPY\n", "not JSON"),
    ],
)
def test_what_holds_anything_else_is_refused_and_kept(tmp_path, content, match):
    path = tmp_path / "x"
    path.write_text(content)
    with pytest.raises(ValueError, match=match):
        records.check_appendable(path)
    assert path.read_text() == content


def test_an_empty_file_may_be_appended_to(tmp_path):
    (tmp_path / "x").touch()
    records.check_appendable(tmp_path / "x")
    assert records.read(tmp_path / "x") == []


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        records.check_appendable(tmp_path / "missing" / "x")
    with pytest.raises(ValueError, match="is empty"):
        records.check_appendable("")
    with pytest.raises(ValueError, match="not a regular file"):
        records.check_appendable(tmp_path)
