"""workdir and resume of svd: portions of passes are kept, and the answer has the same bits."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest

from mplinalg.tiled import LimitTooSmall, svd

from .test_resume import Source, Stops, quota, survives_kills

OPTIONS = {"k": 3, "oversample": 2, "memory_limit": 144_000}
ROWS = 240
BLOCKS = 13
"""Of rows, in which `matrix` is passed over with these options."""
IDENTITY = 120
"""Smaller blocks of the pass that identifies it."""


@pytest.fixture
def matrix(rng):
    return rng.standard_normal((ROWS, 50)) * np.linspace(1, 3, 50) ** 4


def are_same(found, expected):
    assert all(np.array_equal(x, y) for x, y in zip(found, expected, strict=True))
    return True


def reads_of(a, **options):
    counted = Source(a, 10**6)
    found = svd(counted, **OPTIONS | options)
    return 10**6 - counted.left, found


def test_what_is_counted_here(matrix, tmp_path):
    reads, _ = reads_of(matrix)
    assert reads == 6 * BLOCKS
    more, _ = reads_of(matrix, workdir=tmp_path)
    assert more == reads + IDENTITY


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.1, 0.17, 0.3, 0.4, 0.5, 0.66, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_it_goes_on(matrix, tmp_path, share, dtype):
    a = matrix.astype(dtype)
    limit = {"memory_limit": 18_000 * a.itemsize}
    whole, expected = reads_of(a, **limit)
    identifying = reads_of(a, workdir=tmp_path / "other", **limit)[0] - whole
    stop = identifying // 2 if share < 0 else identifying + int(share * whole)
    with pytest.raises(Stops, match="no more"):
        svd(Source(a, stop), workdir=tmp_path / "w", **OPTIONS | limit)
    reads, found = reads_of(a, workdir=tmp_path / "w", resume=True, **limit)
    assert are_same(found, expected)
    left = whole - max(0, stop - identifying)
    assert identifying + left <= reads <= identifying + left + whole // 6 // 4 + 4


def test_only_the_last_passes_are_kept(matrix, tmp_path):
    svd(matrix, workdir=tmp_path, **OPTIONS)
    names = sorted(path.name for path in tmp_path.glob("*.tile"))
    assert names == [*(f"y-4-{g}.tile" for g in range(7)), "z-5-6.tile"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".tile", ".jsonl", ".lock"}


def test_what_is_whole_is_not_passed_over_again(matrix, tmp_path):
    expected = svd(matrix, workdir=tmp_path, **OPTIONS)
    reads, found = reads_of(matrix, workdir=tmp_path, resume=True)
    assert reads == IDENTITY
    assert are_same(found, expected)


def test_more_power_goes_on_and_less_begins_anew(matrix, tmp_path):
    svd(matrix, workdir=tmp_path, power=1, **OPTIONS)
    reads, found = reads_of(matrix, workdir=tmp_path, resume=True, power=3)
    assert reads == IDENTITY + 4 * BLOCKS
    assert are_same(found, svd(matrix, power=3, **OPTIONS))
    reads, found = reads_of(matrix, workdir=tmp_path, resume=True, power=0)
    assert reads == IDENTITY + 2 * BLOCKS
    assert are_same(found, svd(matrix, power=0, **OPTIONS))
    reads, found = reads_of(matrix, workdir=tmp_path, resume=True, k=4, oversample=1, power=0)
    assert reads == IDENTITY  # the same vectors
    assert are_same(found, svd(matrix, power=0, **OPTIONS | {"k": 4, "oversample": 1}))


def test_others_are_refused(matrix, tmp_path):
    svd(matrix, workdir=tmp_path, **OPTIONS)
    with pytest.raises(FileExistsError, match="resume=True"):
        svd(Source(matrix, 0), workdir=tmp_path, **OPTIONS)
    other = matrix.copy()
    other[[3, 200]] = other[[200, 3]]
    for a, more in (
        (other, {}), (-matrix, {}), (matrix, {"rng": 1}), (matrix, {"k": 4}),
        (matrix, {"memory_limit": 200_000}), (matrix.astype("f"), {}), (matrix[:-1], {}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is of something else: "):
            svd(a, workdir=tmp_path, resume=True, **OPTIONS | more)


@pytest.mark.parametrize("name", ["y-4-3.tile", "z-5-6.tile"])
def test_damage_is_made_again(matrix, tmp_path, name):
    expected = svd(matrix, workdir=tmp_path, **OPTIONS)
    for change in (lambda data: data[:-1], lambda data: data[:-1] + b"x"):
        path = tmp_path / name
        path.write_bytes(change(path.read_bytes()))
        assert are_same(svd(matrix, workdir=tmp_path, resume=True, **OPTIONS), expected)
    path.unlink()
    assert are_same(svd(matrix, workdir=tmp_path, resume=True, **OPTIONS), expected)


@pytest.mark.parametrize("writes", [0, 1, 7, 9, 20, 30, 42])
def test_a_disk_that_is_full(matrix, tmp_path, monkeypatch, writes):
    expected = svd(matrix, **OPTIONS)
    exceeded = pytest.raises(OSError, match=r"[Qq]uota exceeded; \d+ tiles are kept")
    with quota(monkeypatch, writes), exceeded:
        svd(matrix, workdir=tmp_path, **OPTIONS)
    assert are_same(svd(matrix, workdir=tmp_path, resume=True, **OPTIONS), expected)


def test_a_matrix_with_nan_leaves_nothing(matrix, tmp_path):
    bad = matrix.copy()
    bad[-1, -1] = np.nan
    with pytest.raises(ValueError, match="infs or NaNs"):
        svd(bad, workdir=tmp_path, **OPTIONS)
    assert not list(tmp_path.glob("*.tile"))
    assert are_same(svd(matrix, workdir=tmp_path, **OPTIONS), svd(matrix, **OPTIONS))


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64", "complex128"])
@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (1, 1), (30, 40), (300, 20), (3, 900)])
def test_what_fits_without_a_directory_fits_with_one(rng, tmp_path, shape, dtype):
    a = rng.standard_normal(shape).astype(dtype)
    for k in {1, min(shape)}:
        with pytest.raises(LimitTooSmall) as info:
            svd(Source(a, 0), k, memory_limit=1, workdir=tmp_path / "x")
        for factor in (1, 1.5, 4):
            limit = int(factor * info.value.needed)
            expected = svd(a, k, memory_limit=limit)
            found = svd(a, k, memory_limit=limit, workdir=tmp_path / f"{k} {factor}")
            assert are_same(found, expected)


def test_nothing_to_go_on_with(matrix, tmp_path):
    with pytest.raises(ValueError, match="needs the workdir"):
        svd(matrix, 2, resume=True)
    (tmp_path / "f").write_text("mine")
    with pytest.raises(NotADirectoryError, match="this is no directory"):
        svd(Source(matrix, 0), 2, workdir=tmp_path / "f")


SCRIPT = """
    import sys, numpy as np
    from mplinalg.tiled import svd

    a = np.random.default_rng(5).standard_normal((4000, 200))
    np.savez(sys.argv[2], *svd(a, 5, memory_limit=5_000_000, workdir=sys.argv[1], resume=True))
"""


@pytest.mark.slow
def test_kills(tmp_path, rng):
    """At random moments; then it goes on to the same bits."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script)]

    def arguments(name):
        return [*command, str(tmp_path / name), str(tmp_path / f"{name}.npz")]

    survives_kills(arguments("plain"), arguments("work"), rng)
    with np.load(tmp_path / "work.npz") as found, np.load(tmp_path / "plain.npz") as expected:
        assert are_same(list(found.values()), list(expected.values()))
