"""BatchReport: what it counts, names and prints."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import Status
from mplinalg.batched import BatchReport
from mplinalg.batched.failures import Findings, names_of
from mplinalg.batched.report import statuses
from mplinalg.ops import NOT_FINITE, Judged


def report(shape=(6,), bad=()):
    """A report of members that were solved directly, but for those in `bad`."""
    status = np.full(shape, Status.DIRECT, dtype=object)
    errors = np.full(shape, 1e-16)
    for index, what in bad:
        status[index] = what
        errors[index] = np.nan
    return BatchReport(
        status, np.zeros(shape, np.int32), errors, "fp64", np.zeros(shape, int), {"total": 0.25}
    )


def rows(text):
    pairs = [line.split("  ", 1) for line in text.splitlines()]
    return {name: value.strip() for name, value in pairs}


def test_print():
    bad = [(2, Status.SINGULAR), (5, Status.NOT_FINITE), (3, Status.ILL_CONDITIONED)]
    assert rows(str(report(bad=bad))) == {
        "members": "6",
        "status": "3 direct, 1 ill conditioned, 1 singular, 1 not finite",
        "failed": "2, 5",
        "precision": "fp64",
        "iterations": "0 (most)",
        "backward error": "1.00e-16 (worst)",
        "seconds": "total 0.25",
    }


def test_print_many_failures():
    shown = rows(str(report((40,), [(slice(None), Status.SINGULAR)])))
    assert shown["failed"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 30 more"
    assert shown["backward error"] == "-"


def test_print_nothing():
    shown = rows(str(report((0,))))
    assert (shown["members"], shown["status"], shown["failed"]) == ("0", "-", "-")
    assert shown["iterations"] == shown["backward error"] == "-"


def test_print_one():
    assert rows(str(report((), [((), Status.SINGULAR)])))["failed"] == "it"
    assert rows(str(report(())))["failed"] == "-"


def test_failed():
    assert report().failed.tolist() == []
    one = report(bad=[(4, Status.NOT_POSITIVE_DEFINITE), (1, Status.ILL_CONDITIONED)])
    assert one.failed.tolist() == [4]  # an answer that may be poor is an answer
    two = report((2, 3), [((1, 0), Status.SINGULAR), ((0, 2), Status.NOT_FINITE)])
    assert two.failed.tolist() == [[0, 2], [1, 0]]
    assert report((), [((), Status.SINGULAR)]).failed.shape == (1, 0)
    assert report(()).failed.shape == (0, 0)


def test_statuses():
    judged = Judged(
        np.arange(5), np.array([0, 0, 0, 3, NOT_FINITE], np.int32),
        np.array([1e-3, 1e-17, np.nan, 0.0, np.nan]),
    )  # fmt: skip
    names = [status.name for status in statuses(judged, 2.0**-52, Status.SINGULAR)]
    assert names == ["DIRECT", "ILL_CONDITIONED", "ILL_CONDITIONED", "SINGULAR", "NOT_FINITE"]


def test_names_of_members():
    assert names_of([3], (7,)) == "1 of 7 members, [3]"
    assert names_of([1, 5], (2, 3)) == "2 of 6 members, [(0, 1), (1, 2)]"
    assert names_of(range(10), (20,)).endswith("8, 9]")
    assert names_of(range(11), (20,)).endswith("8, 9, ...]")
    assert names_of([0], ()) == "the matrix"


def test_what_is_said_of_answers_that_may_be_poor():
    judged = Judged(np.array([4, 8]), np.zeros(2, np.int32), np.array([1e-20, np.nan]))
    findings = Findings(judged, (9,), 2.0**-52, 3, Status.SINGULAR)
    assert findings.failure() is None
    text = findings.doubt()
    assert "Singular to working precision: 1 of 9 members, [4]; rcond = 1.0e-20." in text
    assert "exceed the range of their dtype: 1 of 9 members, [8]." in text
    with pytest.warns(match="Singular to working precision") as caught:
        findings.conclude(True, 1)
    assert caught[0].filename == __file__
