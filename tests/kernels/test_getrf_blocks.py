"""getrf on several threads: the same factors whoever computed which block of columns."""

import itertools
import threading

import numpy as np
import pytest

from mplinalg.kernels.cpu import crew, getrf_blocks
from mplinalg.kernels.cpu.getrf import WIDTH

from ..ops.helpers import DTYPES, draw, same_bits
from .test_getrf import factor, is_factored


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    """Narrow blocks, and several threads however little there is to do."""
    monkeypatch.setattr(getrf_blocks, "_FROM", 0)
    monkeypatch.setattr(getrf_blocks, "_width", lambda n, threads: 2 * WIDTH)


@pytest.fixture(params=[2, 3])
def crew_of(request, monkeypatch):
    """Threads that work side by side, also where BLAS has fewer."""
    monkeypatch.setattr(crew, "crew_size", lambda: request.param)
    return request.param


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 65, 96, 129, 250])
@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_and_pivots(rng, monkeypatch, crew_of, dtype, n):
    a = draw(rng, (n, n), dtype)
    lu, piv, info = factor(a)
    assert info == 0
    assert is_factored(a, lu, piv)
    monkeypatch.setattr(getrf_blocks, "_FROM", n + 1)
    _, alone, _ = factor(a)
    assert np.array_equal(piv, alone)


def test_several_threads_take_part_and_change_no_bit(rng, monkeypatch):
    a = draw(rng, (400, 400), "float64")
    seen: dict[int, set[int]] = {}
    found = []
    swap_rows = getrf_blocks.swap_rows
    for threads in (2, 3):
        together = threading.Barrier(threads, timeout=60)
        met = threading.local()

        def watched(*args, threads=threads, together=together, met=met):
            if not getattr(met, "yes", False):  # nobody goes on before all have something to do
                met.yes = True
                together.wait()
            seen.setdefault(threads, set()).add(threading.get_ident())
            return swap_rows(*args)

        monkeypatch.setattr(crew, "crew_size", lambda threads=threads: threads)
        monkeypatch.setattr(getrf_blocks, "swap_rows", watched)
        found.append(factor(a))
    assert [len(seen[threads]) for threads in (2, 3)] == [2, 3]
    assert same_bits(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("column", [0, 31, 32, 70, 99])
def test_the_first_zero_column_is_named(rng, crew_of, column):
    a = draw(rng, (100, 100), "float64")
    a[:, column:] = 0
    assert factor(a)[2] == column + 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(rng, crew_of, bad):
    a = draw(rng, (100, 100), "float64")
    a[40, 70] = bad
    assert not np.isfinite(factor(a)[0]).all()


def test_an_exception_ends_all_threads(rng, monkeypatch, crew_of):
    """Nobody waits for the block that a thread had when it failed."""
    factor_columns, calls = getrf_blocks.factor_columns, itertools.count()

    def fails_once(*args):
        if next(calls) == 3:
            raise MemoryError("no room")
        return factor_columns(*args)

    monkeypatch.setattr(getrf_blocks, "factor_columns", fails_once)
    with pytest.raises(MemoryError, match="no room"):
        factor(draw(rng, (200, 200), "float64"))


def test_widths_are_powers_of_two(monkeypatch):
    monkeypatch.undo()
    for threads in (2, 8, 64):
        widths = [getrf_blocks._width(n, threads) for n in (100, 2000, 4000, 10_000, 100_000)]
        assert widths == sorted(widths)
        for width in widths:
            assert width % WIDTH == 0
            assert (width // WIDTH).bit_count() == 1
