"""Memory: what a solve takes beyond its input is one low-precision copy, and is reported."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from mplinalg import cho_factor, lu_factor, lu_solve, solve
from mplinalg.testing import gallery

N = 1200
CONSTANT = 200_000  # bytes: Python objects
BLOCK = 256 * N * 8  # bytes: norms are taken a block of rows at a time


def peak(function):
    """Most bytes held at once during a call, beyond what was there before."""
    function()  # compile, cache, import
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = function()
        return tracemalloc.get_traced_memory()[1] - before, result
    finally:
        tracemalloc.stop()


def system(kind, order):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((N, N))
    if kind != "general":
        a = a @ a.T / N + np.eye(N)
    return np.asarray(a, order=order), rng.standard_normal(N)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["general", "definite"])
def test_one_low_precision_copy(kind, order):
    """And no transposed one: both orders take the same."""
    a, b = system(kind, order)
    held, _ = peak(lambda: solve(a, b))
    assert held <= N * N * 4 + 64 * N * 8 + CONSTANT
    held, (_, report) = peak(lambda: solve(a, b, full_output=True))
    assert report.precision == "fp32"
    assert 0.7 * report.workspace_bytes <= held <= 1.3 * report.workspace_bytes


@pytest.mark.parametrize("order", ["C", "F"])
def test_transposed_takes_no_more(order):
    a, b = system("general", order)
    held, _ = peak(lambda: solve(a, b, transposed=True))
    assert held <= N * N * 4 + 64 * N * 8 + CONSTANT


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("precision", ["fp64", "fp16", "fp32"])
def test_pinned_precisions(order, precision):
    a, b = system("general", order)
    held, (_, report) = peak(lambda: solve(a, b, precision=precision, full_output=True))
    assert 0.7 * report.workspace_bytes <= held <= 1.3 * report.workspace_bytes


def test_a_climb_gives_the_lower_factors_back():
    a, b = gallery.randsvd(600, 1e12), np.ones(600)
    held, (_, report) = peak(lambda: solve(a, b, full_output=True))
    assert report.precision == "fp64"
    assert report.workspace_bytes >= a.nbytes
    assert held <= 1.3 * report.workspace_bytes + a.nbytes / 4


@pytest.mark.parametrize("kind", ["general", "definite"])
def test_lapack_takes_one_copy(kind):
    """As SciPy does: the factors overwrite it. The certificate of the answer takes none."""
    a, b = (array.astype("f") for array in system(kind, "C"))
    held, _ = peak(lambda: solve(a, b))
    assert held <= a.nbytes + 64 * N * 8 + BLOCK + CONSTANT
    report = solve(a, b, full_output=True)[1]
    assert 0.7 * report.workspace_bytes <= held <= 1.3 * report.workspace_bytes + BLOCK


@pytest.mark.parametrize("assume_a", ["pos", "sym"])
def test_one_triangle_in_working_precision_is_filled_up(assume_a):
    a, b = (array.astype("f") for array in system("definite", "C"))
    held, (_, report) = peak(lambda: solve(a, b, assume_a=assume_a, full_output=True))
    assert 0.7 * report.workspace_bytes <= held <= 1.3 * report.workspace_bytes


@pytest.mark.parametrize("factor", [lu_factor, cho_factor])
def test_factors_refer_to_the_matrix(factor):
    """A factor object holds the low-precision factors, and no copy of the matrix."""
    a, b = system("definite", "C")
    factor(a)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        factors = factor(a)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept <= N * N * 4 + 64 * N * 8 + CONSTANT
    assert factors.precision == "fp32"
    held, _ = peak(lambda: factors.solve(b))
    assert held <= 64 * N * 8 + CONSTANT


def test_many_right_hand_sides_are_held_a_few_times():
    a, b = system("general", "F")
    factors = lu_factor(a)
    right = np.repeat(b[:, None], 20, axis=1)
    held, _ = peak(lambda: lu_solve(factors, right))
    assert held <= 12 * right.nbytes + 2 * BLOCK + CONSTANT
