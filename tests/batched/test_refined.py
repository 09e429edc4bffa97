"""Factors of a lower precision: each member is refined by itself, and climbs by itself."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import LinAlgError, LinAlgWarning, Status
from mplinalg.batched import solve
from mplinalg.testing import gallery

from .systems import (
    FACTOR,
    backward_errors,
    check_against_scipy,
    definite,
    normal,
    regular,
    spoil,
)

FORMATS = ["fp16", "bf16", "tf32", "fp16x2", "fp32"]


@pytest.mark.parametrize("assume_a", ["gen", "pos"])
@pytest.mark.parametrize("precision", FORMATS)
def test_pinned_precisions_are_refined(rng, precision, assume_a):
    a = regular(rng, 20, 6) if assume_a == "gen" else definite(rng, 20, 6)
    b = normal(rng, (20, 6, 2))
    x, report = solve(a, b, assume_a=assume_a, precision=precision, full_output=True)
    assert report.precision == precision
    assert all(status is Status.CONVERGED for status in report.status)
    assert np.all(report.iterations >= 1)  # factors of so few digits need some
    assert np.all(report.backward_error <= np.sqrt(6) * 2.0**-53)
    check_against_scipy(a, x, b, assume_a)
    if assume_a == "pos":
        lower = np.tril(np.ones((6, 6), bool), -1)
        a[:, lower] = np.nan  # not read
        assert np.array_equal(solve(a, b, assume_a="pos", precision=precision), x)


def test_coarser_formats_take_more_steps(rng):
    a, b = regular(rng, 50, 5), normal(rng, (50, 5, 1))
    steps = [
        solve(a, b, precision=name, full_output=True)[1].iterations.sum()
        for name in ("fp64", "fp32", "fp16", "bf16")
    ]
    assert steps[0] == 0
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_scaling_makes_room_for_narrow_formats(rng, scale):
    a, b = regular(rng, 20, 5) * scale, normal(rng, (20, 5, 1)) * np.sqrt(scale)
    a[:, 2] *= 2.0**-20
    b[:, 2] *= 2.0**-20
    x, report = solve(a, b, precision="fp16", full_output=True)
    assert all(status is Status.CONVERGED for status in report.status)
    power = -2 * (int(np.log2(scale)) // 2)
    near_one = (np.ldexp(v, p) for v, p in ((a, power), (x, -power // 2), (b, power // 2)))
    assert np.all(backward_errors(*near_one) <= FACTOR)


def test_members_that_a_format_cannot_do_are_solved_in_working_precision(rng):
    a, b = regular(rng, 20, 6), normal(rng, (20, 6, 1))
    direct = solve(a, b)
    for k in (3, 11):
        a[k] = gallery.randsvd(6, 1e9, rng=rng)
    with pytest.warns(LinAlgWarning, match=r"'fp16' could not.* 2 of 20.*\[3, 11\]; fp64") as seen:
        x, report = solve(a, b, precision="fp16", full_output=True)
    assert seen[0].filename == __file__
    statuses = [report.status[k] is Status.DIRECT for k in range(20)]
    assert [k for k in range(20) if statuses[k]] == [3, 11]
    assert np.all(backward_errors(a, x, b) <= FACTOR)
    assert np.array_equal(x[[3, 11]], solve(a, b)[[3, 11]])
    assert not np.array_equal(x, direct)


def test_bad_members_never_count_as_converged(rng):
    a, b = regular(rng, 21, 5), normal(rng, (21, 5, 1))
    want = solve(a, b, precision="fp16")
    bad = spoil(a, b)
    x, report = solve(a, b, precision="fp16", raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == list(bad)
    good = np.setdiff1d(np.arange(21), list(bad))
    assert np.array_equal(x[good], want[good])
    assert all(report.status[k] is Status.CONVERGED for k in good)
    with pytest.raises(LinAlgError, match=r"Singular: 2 of 21"):
        solve(a, b, precision="fp16")


def test_right_hand_sides_that_hide_a_singular_matrix(rng):
    """Refinement of this b alone converges; the random one that is refined along does not.

    By how the entries happen to be rounded the last pivot is exactly zero in some of them.
    """
    left, right = (np.linalg.qr(normal(rng, (20, 4, 4)))[0] for _ in range(2))
    a = left @ np.diag([1.0, 0.5, 0.25, 1e-18]) @ right
    a[0] = np.eye(4)
    b = left[:, :, :1]
    with pytest.warns(LinAlgWarning) as caught:
        report = solve(a, b, precision="fp32", raise_on_failure=False, full_output=True)[1]
    assert any("to working precision" in str(warning.message) for warning in caught)
    names = [status.name for status in report.status]
    assert names[0] == "CONVERGED"
    assert set(names[1:]) <= {"ILL_CONDITIONED", "SINGULAR"}
    assert "ILL_CONDITIONED" in names


def test_a_matrix_that_scaling_makes_regular_is_told_of_all_the_same():
    a = np.stack([np.eye(3), np.diag([1.0, 1.0, 1e-17])])
    with pytest.warns(LinAlgWarning, match=r"working precision: 1 of 2 members, \[1\]"):
        x = solve(a, np.ones(3))
    with pytest.warns(LinAlgWarning) as caught:
        assert np.array_equal(solve(a, np.ones(3), precision="fp16"), x)
    assert "working precision: 1 of 2 members, [1]" in str(caught[0].message)


def test_tol_ends_refinement_early(rng):
    a, b = regular(rng, 30, 6), normal(rng, (30, 6, 1))
    full = solve(a, b, precision="bf16", full_output=True)[1]
    early = solve(a, b, precision="bf16", tol=1e-6, full_output=True)[1]
    assert np.all(early.backward_error <= 1e-6)
    assert early.iterations.sum() < full.iterations.sum()


def test_single_precision_data_are_refined_too(rng):
    a, b = regular(rng, 20, 6, "float32"), normal(rng, (20, 6, 1), "float32")
    x, report = solve(a, b, precision="bf16", full_output=True)
    assert x.dtype == "float32"
    assert all(status is Status.CONVERGED for status in report.status)
    assert np.all(backward_errors(a, x, b) <= FACTOR)
    assert solve(a, b, precision="fp32", full_output=True)[1].status[0] is Status.DIRECT
