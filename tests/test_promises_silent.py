"""What `solve` promises: nothing is silently wrong."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from mplinalg import LinAlgError, LinAlgWarning, lu_factor, lu_solve, solve
from mplinalg.testing import gallery

from .oracle import N, U

SINGULAR = ["singular_svd", "frank", "hilbert", "lotkin", "moler", "prolate", "kahan"]


def consistent(a, seed):
    """A right-hand side in the range of A: the corrections contract though A is singular."""
    return a @ np.random.default_rng(seed).standard_normal(len(a))


@pytest.mark.parametrize("precision", ["auto", "fp64", "fp32", "fp16"])
@pytest.mark.parametrize("inconsistent", [False, True])
@pytest.mark.parametrize("name", SINGULAR)
def test_singular_to_working_precision_is_not_silent(name, inconsistent, precision):
    a = gallery.matrix(name, N)
    b = np.random.default_rng(5).standard_normal(N) if inconsistent else consistent(a, 5)
    with pytest.warns(LinAlgWarning):
        solve(a, b, precision=precision)


@pytest.mark.parametrize("precision", ["auto", "fp16x2", "bf16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_column_that_is_the_sum_of_two_others_is_not_silent(order, precision):
    """The row sums of A as right-hand side: x of ones solves it, and so do others."""
    a = np.array(np.random.default_rng(8).standard_normal((400, 400)), order=order)
    a[:, 7] = a[:, 3] + a[:, 5]
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        solve(a, a @ np.ones(400), precision=precision)
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        lu_solve(lu_factor(a), a @ np.ones(400))


@pytest.mark.parametrize("precision", ["auto", "fp64", "fp32", "fp16"])
@pytest.mark.parametrize("name", ["zero_row", "zero_column", "singular_integer"])
def test_exactly_singular_is_an_error(name, precision):
    a = gallery.matrix(name, N)
    with pytest.raises(LinAlgError, match="singular"):
        solve(a, consistent(a, 5), precision=precision)


@pytest.mark.parametrize("name", ["nan_entry", "inf_entry"])
def test_not_finite_is_an_error(name):
    with pytest.raises(ValueError, match="infs or NaNs"):
        solve(gallery.matrix(name, N), np.ones(N))
    with pytest.raises(ValueError, match="infs or NaNs"):
        solve(np.eye(N), np.full(N, np.nan))


@pytest.mark.parametrize("name", ["nan_entry", "inf_entry"])
def test_not_finite_unchecked_does_not_converge(name):
    """Without the check nothing finite is passed off as an answer."""
    a = gallery.matrix(name, N)
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            x, report = solve(a, np.ones(N), check_finite=False, full_output=True)
    except LinAlgError:
        return
    assert seen
    assert not report.status.is_success
    assert not np.isfinite(x).all() or not report.backward_error <= math.sqrt(N) * U


def test_asserted_definite_and_is_not():
    a = gallery.matrix("hermitian_indefinite", N)
    with pytest.raises(LinAlgError, match="minor of order"):
        solve(a, np.ones(N), assume_a="pos")
