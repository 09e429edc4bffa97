"""SolveReport: what it prints, what it becomes, and how those of a batch are combined."""

import dataclasses
import json
from types import MappingProxyType

import numpy as np
import pytest

from mplinalg.report import RungOutcome, SolveReport, Status

RUNGS = (
    RungOutcome("fp16", "classical", "stagnated"),
    RungOutcome("fp16", "gmres", "converged"),
)


def report(**changes):
    """A report of a solve with three right-hand sides."""
    values = {
        "status": Status.CONVERGED,
        "rungs": RUNGS,
        "precision": "fp16",
        "iterations": 4,
        "inner_iterations": 17,
        "backward_error": np.array([1e-17, 2e-16, 3e-17]),
        "componentwise_error": np.array([1e-16, 4e-16, 2e-16]),
        "forward_error_bound": np.array([1e-12, 3e-12, 2e-12]),
        "rcond": 1.25e-5,
        "growth": 7.5,
        "overflows": 0,
        "underflows": 12,
        "seconds": {"factor": 0.25, "solve": 0.5, "total": 0.75},
        "workspace_bytes": 3 * 2**20,
    }
    return SolveReport(**(values | changes))


def batch():
    """Six reports with distinct numbers; the fifth is the worst."""
    members = [
        report(
            iterations=i,
            inner_iterations=10 - i,
            backward_error=np.array([i, i + 0.25]),
            componentwise_error=np.array([i, i + 0.5]),
            forward_error_bound=np.array([i, i + 0.75]),
            rcond=1.0 / (i + 1),
            growth=float(i),
            overflows=i,
            underflows=2 * i,
            seconds={"factor": float(i), "total": 2.0 * i},
            workspace_bytes=100 * i,
        )
        for i in range(6)
    ]
    members[4] = dataclasses.replace(members[4], status=Status.STAGNATED, precision="fp64")
    members[1] = dataclasses.replace(members[1], status=Status.DIRECT)
    return members


# -- status --------------------------------------------------------------------------------------


def test_every_status_has_advice():
    for status in Status:
        assert status.advice.endswith(".")
    assert [s for s in Status if s.is_success] == [Status.CONVERGED, Status.DIRECT]


# -- one report ----------------------------------------------------------------------------------


def test_print():
    text = str(report())
    rows = dict(line.split("  ", 1) for line in text.splitlines())
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows == {
        "status": f"converged. {Status.CONVERGED.advice}",
        "precision": "fp16",
        "ladder": "fp16 classical: stagnated -> fp16 gmres: converged",
        "iterations": "4 (GMRES 17)",
        "backward error": "2.00e-16 (worst of 3)",
        "componentwise": "4.00e-16 (worst of 3)",
        "forward bound": "3.00e-12 (worst of 3)",
        "rcond": "1.25e-05",
        "growth": "7.50e+00",
        "over/underflows": "0 / 12",
        "seconds": "factor 0.25  solve 0.5  total 0.75",
        "workspace": "3.0 MiB",
    }


def test_print_of_what_is_not_there():
    text = str(SolveReport(Status.DIRECT))
    rows = [line.split("  ")[-1].strip() for line in text.splitlines()]
    assert rows.count("-") == 5  # ladder, forward bound, rcond, growth, seconds
    assert "worst of" not in text
    empty = report(backward_error=np.zeros(0), componentwise_error=np.zeros(0))
    assert "backward error   -" in str(empty)


def test_print_shows_nan():
    """The worst of some errors is the one that is not a number."""
    assert "nan (worst of 2)" in str(report(backward_error=np.array([np.nan, 1e-17])))


def test_print_of_a_batch_counts_its_members():
    assert "members          6" in str(SolveReport.combine(batch(), (6,)))


def test_reports_are_frozen():
    one = report()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.status = Status.DIRECT
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.rungs


def test_defaults_are_not_shared():
    one, other = SolveReport(Status.DIRECT), SolveReport(Status.DIRECT)
    assert one.seconds == {}
    assert one.seconds is not other.seconds


def test_to_dict_is_plain_data():
    one = report(seconds={"total": np.float64(0.5)}, overflows=np.int64(3), growth=np.float32(2))
    data = one.to_dict()
    assert set(data) == {f.name for f in dataclasses.fields(SolveReport)}
    back = json.loads(json.dumps(data))
    assert back == data | {"rungs": [list(r) for r in RUNGS]}
    assert back["status"] == "converged"
    assert back["backward_error"] == [1e-17, 2e-16, 3e-17]
    assert back["seconds"] == {"total": 0.5}
    assert (back["overflows"], back["growth"], back["members"]) == (3, 2.0, [])


def test_to_dict_of_a_batch():
    back = json.loads(json.dumps(SolveReport.combine(batch(), (2, 3)).to_dict()))
    assert [m["status"] for m in back["members"]] == [
        "converged", "direct", "converged", "converged", "stagnated", "converged",
    ]  # fmt: skip
    assert back["members"][3]["backward_error"] == [3.0, 3.25]
    assert np.shape(back["backward_error"]) == (2, 3, 2)


def test_to_dict_takes_any_mapping():
    seconds = MappingProxyType({"total": 1.0})
    assert report(seconds=seconds).to_dict()["seconds"] == {"total": 1.0}


# -- combine -------------------------------------------------------------------------------------


def test_combine_stacks_what_each_right_hand_side_has():
    members = batch()
    whole = SolveReport.combine(members, (2, 3))
    for name in ("backward_error", "componentwise_error", "forward_error_bound"):
        stacked = getattr(whole, name)
        assert stacked.shape == (2, 3, 2)
        for i, j in np.ndindex(2, 3):
            assert np.array_equal(stacked[i, j], getattr(members[3 * i + j], name))
    assert np.array_equal(whole.rcond, [[1, 1 / 2, 1 / 3], [1 / 4, 1 / 5, 1 / 6]])
    assert np.array_equal(whole.growth, [[0, 1, 2], [3, 4, 5]])
    assert whole.members == tuple(members)


def test_combine_of_vectors():
    members = [
        report(backward_error=1e-17 * i, componentwise_error=0.0, forward_error_bound=None)
        for i in range(6)
    ]
    whole = SolveReport.combine(members, (3, 2))
    assert np.array_equal(whole.backward_error, 1e-17 * np.arange(6).reshape(3, 2))
    assert whole.forward_error_bound is None


def test_combine_takes_the_worst_and_sums_the_rest():
    whole = SolveReport.combine(batch(), (2, 3))
    assert whole.status is Status.STAGNATED
    assert whole.precision == "fp64"
    assert (whole.iterations, whole.inner_iterations) == (5, 10)
    assert (whole.overflows, whole.underflows) == (15, 30)
    assert whole.seconds == {"factor": 15.0, "total": 30.0}
    assert whole.workspace_bytes == 500


def test_combine_loses_no_phase():
    """The slowest phase may be one that the worst member never came to."""
    members = [report(seconds={"factor": 1.0, "residual": 3.0}), report(seconds={"factor": 1.0})]
    members[1] = dataclasses.replace(members[1], status=Status.STAGNATED)
    assert SolveReport.combine(members, (2,)).seconds == {"factor": 2.0, "residual": 3.0}


@pytest.mark.parametrize("missing", ["rcond", "growth", "forward_error_bound"])
def test_combine_of_what_some_members_lack(missing):
    members = [report(), report(**{missing: None})]
    assert getattr(SolveReport.combine(members, (2,)), missing) is None


def test_combine_of_severities():
    order = [
        Status.CONVERGED, Status.DIRECT, Status.ILL_CONDITIONED, Status.STAGNATED, Status.SINGULAR,
        Status.NOT_POSITIVE_DEFINITE, Status.NOT_FINITE,
    ]  # fmt: skip
    assert set(order) == set(Status)
    for low, mild in enumerate(order):
        for severe in order[low:]:
            for pair in [(mild, severe), (severe, mild)]:
                whole = SolveReport.combine([report(status=s) for s in pair], (2,))
                assert whole.status is severe


def test_combine_of_one():
    whole = SolveReport.combine([report()], ())
    assert whole.backward_error.shape == (3,)
    assert len(whole.members) == 1
