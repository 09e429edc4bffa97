"""Sources: every kind gives the same entries, of the parts that were asked for alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from mplinalg.tiled import TiledMatrix, solve
from mplinalg.tiled.limits import as_bytes, free_bytes
from mplinalg.tiled.sources import ArraySource, FunctionSource, as_source

N = 70


@pytest.fixture
def a(rng):
    return rng.standard_normal((N, N))


def memory_map(a, folder):
    np.save(folder / "a.npy", a)
    return np.load(folder / "a.npy", mmap_mode="r")


def by_columns(a, folder):
    np.save(folder / "f.npy", np.asfortranarray(a))
    return np.load(folder / "f.npy", mmap_mode="r")


def hdf5(a, folder):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / "a.h5", "w")
    return file.create_dataset("a", data=a, chunks=(16, 16))


def zarr(a, folder):
    zarr = pytest.importorskip("zarr")
    array = zarr.open(
        str(folder / "a.zarr"), mode="w", shape=a.shape, chunks=(16, 16), dtype=a.dtype
    )
    array[:] = a
    return array


def dask(a, folder):
    return pytest.importorskip("dask.array").from_array(a, chunks=(30, 20))


def function(a, folder):
    return TiledMatrix.from_function(lambda rows, columns: a[np.ix_(rows, columns)], a.shape, 16)


def directory(a, folder):
    return TiledMatrix.from_array(a, 16).save(folder / "tiles")


KINDS = [memory_map, by_columns, hdf5, zarr, dask, function, directory]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_gives_the_same(a, rng, tmp_path, kind):
    given = kind(a, tmp_path)
    source = as_source(given)
    assert source.shape == (N, N)
    assert source.dtype == np.float64
    for rows, columns in ((0, N), (3, 4)), ((17, 64), (0, N)), ((69, 70), (5, 5)):
        part = source.read(slice(*rows), slice(*columns))
        assert np.array_equal(part, a[slice(*rows), slice(*columns)])
    b = rng.standard_normal(N)
    assert np.array_equal(solve(given, b, tile=20), solve(a, b, tile=20))


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ("i4", "f8"),
        ("?", "f8"),
        ("f2", "f4"),
        (">f8", "f8"),
        ("g", "f8"),
        ("c8", "c8"),
        ("G", "c16"),
    ],
)
def test_dtypes(given, dtype):
    source = ArraySource(np.ones((3, 3), given))
    assert source.dtype == dtype
    assert source.read(slice(0, 2), slice(0, 3)).dtype == dtype


def test_pages_of_a_memory_map_do_not_stay(tmp_path):
    size = 4096
    np.save(tmp_path / "a.npy", np.ones((size, size)))  # 128 MiB
    source = as_source(np.load(tmp_path / "a.npy", mmap_mode="r"))

    def resident():
        with open("/proc/self/status") as lines:
            return next(int(x.split()[1]) for x in lines if x.startswith("RssFile:")) * 1024

    before = resident()
    for start in range(0, size, 256):
        source.read(slice(start, start + 256), slice(0, size)).sum()
    assert resident() - before < 2**24


def test_private_pages_of_a_memory_map_are_kept(a, tmp_path):
    """What was written to a map in mode "c" is in no file."""
    np.save(tmp_path / "a.npy", a)
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[3, 4] = 77
    source = as_source(private)
    source.read(slice(0, N), slice(0, N))
    assert source.read(slice(3, 4), slice(4, 5))[0, 0] == 77
    assert not source.is_sendable


def test_a_memory_map_is_sent_by_its_name(a, tmp_path):
    source = as_source(memory_map(a, tmp_path))
    assert source.is_sendable
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    assert np.array_equal(pickle.loads(sent).read(slice(0, N), slice(0, N)), a)


def test_a_part_of_a_memory_map_is_not_taken_for_the_whole(a, tmp_path):
    part = memory_map(a, tmp_path)[10:, :5]
    source = as_source(part)
    assert not source.is_sendable
    assert np.array_equal(pickle.loads(pickle.dumps(source)).read(slice(0, 60), slice(0, 5)), part)


def test_a_function_of_the_wrong_shape_is_told():
    source = FunctionSource(lambda rows, columns: np.ones((columns.size, rows.size)), (9, 9))
    with pytest.raises(ValueError, match=r"gave a block of shape \(2, 3\) .* should be \(3, 2\)"):
        source.read(slice(0, 3), slice(0, 2))
    source = FunctionSource(lambda rows, columns: 1j * np.ones((rows.size, columns.size)), (9, 9))
    with pytest.raises(TypeError, match="complex128 entries; its dtype is float64"):
        source.read(slice(0, 3), slice(0, 2))


def test_a_function_that_raises_in_the_middle():
    calls = []

    def entries(rows, columns):
        calls.append(rows)
        if len(calls) > 5:
            raise ZeroDivisionError("in the function")
        return np.ones((rows.size, columns.size)) + 9 * np.equal.outer(rows, columns)

    with pytest.raises(ZeroDivisionError, match="in the function"):
        solve(TiledMatrix.from_function(entries, (N, N)), np.ones(N), tile=20)


def test_slices_of_a_tiled_matrix(a, tmp_path):
    tiled = TiledMatrix.from_array(a, 16)
    assert np.array_equal(tiled[3:50, -10:], a[3:50, -10:])
    assert np.array_equal(np.asarray(tiled), a)
    assert repr(tiled) == "TiledMatrix(70x70 float64, tiles of 16x16)"


@pytest.mark.parametrize(
    ("given", "bytes_"),
    [
        (1000, 1000),
        ("1000", 1000),
        ("2kB", 2000),
        ("2 KiB", 2048),
        ("1.5MiB", 3 * 2**19),
        ("3GB", 3e9),
    ],
)
def test_limits(given, bytes_):
    assert as_bytes(given) == bytes_


def test_a_fraction_is_of_what_is_free():
    assert 0.2 * free_bytes() < as_bytes(0.25) < 0.3 * free_bytes()
    assert free_bytes() > 2**20


@pytest.mark.parametrize(
    "bad", ["", "much", "8 XB", "1.2.3 GB", 0, -5, float("nan"), float("inf"), True]
)
def test_bad_limits(bad):
    with pytest.raises(ValueError, match="memory_limit"):
        as_bytes(bad)
