"""The certificate of a solution: what it lets pass, and what not."""

import functools
import math

import numpy as np
import pytest

from mplinalg.kernels.cpu import routines
from mplinalg.kernels.cpu.judge import judge
from mplinalg.testing import backward_error

from ..ops.helpers import DTYPES, draw, is_complex, real, unit_roundoff, wide

N = 33
FORMS = ["rows", "columns", "lower", "upper"]


def problem(rng, dtype, form):
    """A, and a judge of (b, x) that is given A by rows, by columns or as a triangle of rows."""
    dtype = np.dtype(dtype)
    a = draw(rng, (N, N), dtype)
    triangle, lines = form in ("lower", "upper"), a
    if triangle:
        a = a + a.conj().T
        keep = np.tri(N, dtype=bool) if form == "lower" else np.tri(N, dtype=bool).T
        lines = np.where(keep, a, np.nan).astype(dtype)
    elif form == "columns":
        lines = a.T
    kind = "hemm" if is_complex(dtype) else "symm"
    known = functools.partial(
        judge, routines.address("gemm", dtype), routines.address(kind, dtype),
        np.ascontiguousarray(lines).view(real(dtype)),
        form == "columns", triangle, form == "upper",
    )  # fmt: skip

    def judged(b, x, bound):
        return known(np.ascontiguousarray(b.T), np.ascontiguousarray(x.T), bound)

    return a, judged


def limit(dtype):
    return math.sqrt(N) * unit_roundoff(dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 4, 5, 8, 9, 40, 41, 600])
def test_it_is_the_backward_error(rng, dtype, form, k):
    """Of an answer that is far off: one by one, and of many the worst of them."""
    a, judged = problem(rng, dtype, form)
    b, x = draw(rng, (N, k), dtype), draw(rng, (N, k), dtype)
    x *= np.geomspace(1, 1e6, k).astype(dtype)
    true = backward_error(a, x, b).max()
    omega = judged(b, x, limit(dtype))
    assert true <= omega * (1 + 1e-5)
    assert omega <= true * (1.5 if is_complex(dtype) else 1 + 1e-5)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spoiled", ["one", "two", "all"])
@pytest.mark.parametrize("k", [1, 4, 5, 6, 16, 17, 40, 41, 600])
def test_none_of_many_gets_by(rng, dtype, form, spoiled, k):
    """The same error in one, two or all columns, 1e4 times the bound.

    Equal columns are the worst case: their errors cancel in one combination by a chance of 2e-4.
    """
    a, judged = problem(rng, dtype, form)
    b = np.repeat(draw(rng, (N, 1), dtype), k, axis=1)
    x = np.linalg.solve(wide(a), wide(b)).astype(dtype)
    bound = limit(dtype)
    assert judged(b, x, bound) <= 4 * bound
    columns = {"one": [k // 2], "two": [0, k - 1], "all": list(range(k))}[spoiled]
    for _ in range(5):
        bad = x.copy()
        error = draw(rng, (N, 1), dtype)
        size = 1e4 * bound * np.abs(x[:, 0]).max() / np.abs(error).max()
        bad[:, columns] += (error * size).astype(dtype)
        assert judged(b, bad, bound) > 10 * bound


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [1, 5, 40, 600])
def test_what_is_not_finite_has_no_backward_error(rng, form, k):
    a, judged = problem(rng, "float64", form)
    b = draw(rng, (N, k), "float64")
    x = np.linalg.solve(a, b)
    for bad in (np.nan, np.inf):
        for where in (0, k // 2, k - 1):
            for target in (b, x):
                kept = target[N // 2, where]
                target[N // 2, where] = bad
                assert judged(b, x, 1.0) == np.inf
                target[N // 2, where] = kept
