"""Factors that are kept: made once, and good for any number of solves."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import LinAlgError, LinAlgWarning
from mplinalg.testing import backward_error
from mplinalg.tiled import LimitTooSmall, LocalExecutor, TiledMatrix, cho_factor, lu_factor, solve
from mplinalg.tiled.streamed import PROGRAMS

N = 120


class Counted:
    """A source that counts its reads, in passes over the matrix."""

    is_sendable = False
    is_fresh = False

    def __init__(self, a):
        self.a, self.shape, self.dtype = a, a.shape, a.dtype
        self.entries = 0

    @property
    def passes(self):
        return self.entries / self.a.size

    def read(self, rows, columns):
        part = self.a[rows, columns]
        self.entries += part.size
        return part


@pytest.fixture
def factorizations(monkeypatch):
    """The formats that were factored in."""
    made = []

    def watched(make):
        def program(grid, dtype, fmt):
            made.append(fmt.name)
            return make(grid, dtype, fmt)

        return program

    monkeypatch.setattr(
        "mplinalg.tiled.streamed.PROGRAMS",
        {name: watched(make) for name, make in PROGRAMS.items()},
    )
    return made


def meets_the_test(a, x, b):
    return bool(np.all(backward_error(a, x, b) <= np.sqrt(len(a)) * 2.0**-53))


def of_condition(rng, kappa, n=N):
    u, _ = np.linalg.qr(rng.standard_normal((n, n)))
    v, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return (u * np.geomspace(1, 1 / kappa, n)) @ v


@pytest.mark.parametrize("factor", [lu_factor, cho_factor])
def test_factored_once(rng, factorizations, factor):
    g = rng.standard_normal((N, N))
    a = g @ g.T / N + np.eye(N)
    f = factor(a, tile=32)
    assert factorizations == ["fp32"]
    for shape in ((N,), (N, 1), (N, 5)):
        b = rng.standard_normal(shape)
        x = f.solve(b)
        assert x.shape == shape
        assert meets_the_test(a, x, b)
    assert factorizations == ["fp32"]


def test_in_a_directory_they_serve_later_processes(rng, factorizations, tmp_path):
    a, b = rng.standard_normal((N, N)), rng.standard_normal(N)
    f = lu_factor(a, tile=32, workdir=tmp_path)
    x = f.solve(b)
    again = lu_factor(a, tile=32, workdir=tmp_path, resume=True)
    assert np.array_equal(again.solve(b), x)
    _, report = again.solve(b, full_output=True)
    assert report.traffic.saved < 8 * 4 * N * 10, "vectors, and no tile"
    with pytest.raises(FileExistsError, match="resume=True"):
        lu_factor(a, tile=32, workdir=tmp_path)


def test_the_rung_that_delivered_is_the_next_ones_first(rng, factorizations):
    a = of_condition(rng, 1e12)
    f = lu_factor(a, tile=32)
    assert f.precision == "fp32"
    for _ in range(3):
        b = rng.standard_normal(N)
        assert meets_the_test(a, f.solve(b), b)
    assert factorizations == ["fp32", "fp64"]
    assert f.precision == "fp64"


def test_without_fallback_the_first_rung_is_asked_again(rng):
    a = of_condition(rng, 1e12)
    f = lu_factor(a, tile=32, precision="fp32")
    b = rng.standard_normal(N)
    with pytest.warns(LinAlgWarning, match="fp64 LU did"):
        f.solve(b)
    with pytest.raises(LinAlgError, match="fallback=False"):
        f.solve(b, fallback=False, refine="classical")


@pytest.mark.parametrize("share", [3, 4, 6, 8])
def test_a_wider_format_has_smaller_tiles(rng, share):
    """The limit that did for single precision does for what comes after it."""
    n = 400
    a = of_condition(rng, 1e12, n)
    b = a @ np.ones(n)
    limit = n * n * 8 // share
    x, report = solve(a, b, memory_limit=limit, full_output=True)
    assert meets_the_test(a, x, b)
    assert report.precision == "fp64"
    assert report.traffic.peak <= limit


@pytest.mark.parametrize("columns", [1, 7, 40])
@pytest.mark.parametrize("tile", [None, 16])
def test_a_limit_is_refused_before_anything_is_read(rng, columns, tile):
    """And the figure in the message is one that does."""
    a, b = rng.standard_normal((300, 300)), rng.standard_normal((300, columns))
    counted = Counted(a)
    limit, refused = 5000, 0
    x = None
    while x is None:
        before = counted.entries
        try:
            x = solve(counted, b, memory_limit=limit, tile=tile)
        except LimitTooSmall as error:
            seen = counted.entries - before
            assert (seen, error.limit) == (0, limit)  # noqa: PT017
            limit, refused = error.needed, refused + 1
    assert refused <= 2, "what vectors need, then what a program needs"
    assert meets_the_test(a, x, b)


def test_many_columns_are_refused_before_anything_is_read(rng):
    counted = Counted(rng.standard_normal((N, N)))
    f = lu_factor(counted, memory_limit=60_000, tile=16)
    before = counted.entries
    with pytest.raises(LimitTooSmall) as info:
        f.solve(np.ones((N, 300)))
    assert counted.entries == before
    assert info.value.needed > 60_000


def test_passes_over_the_matrix(rng):
    """One to measure it, one to factor it, one for each residual."""
    a, b = rng.standard_normal((N, N)) + 20 * np.eye(N), rng.standard_normal(N)
    counted = Counted(a)
    _, report = solve(counted, b, tile=40, full_output=True)
    assert counted.passes == 2 + report.iterations + 1


def test_what_is_solved_with_is_one_matrix(rng):
    f = lu_factor(TiledMatrix.from_array(rng.standard_normal((N, N))), tile=50,
                  executor=LocalExecutor("1MB"))  # fmt: skip
    with pytest.raises(TypeError, match="complex128"):
        f.solve(np.ones(N) * 1j)
    with pytest.raises(ValueError, match="does not fit"):
        f.solve(np.ones(N + 1))
