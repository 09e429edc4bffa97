"""Sources: every kind gives the same entries, of the parts that were asked for alone."""

from __future__ import annotations

import errno
import gc
import pickle

import numpy as np
import pytest

from mplinalg.ops.staging import host_free_bytes
from mplinalg.tiled import TiledMatrix, solve, sources
from mplinalg.tiled import mapped as mapped_files
from mplinalg.tiled.limits import as_bytes
from mplinalg.tiled.sources import ArraySource, Blocks, FunctionSource, as_source

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


@pytest.mark.parametrize(
    "layout", [lambda a: a, lambda a: a.T, lambda a: a[:, 1:], lambda a: a[::-1]]
)
def test_pages_of_a_memory_map_do_not_stay(tmp_path, layout):
    size = 4096
    np.save(tmp_path / "a.npy", np.ones((size, size)))  # 128 MiB
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    source = as_source(layout(mapped))

    def resident():
        with open("/proc/self/status") as lines:
            return next(int(x.split()[1]) for x in lines if x.startswith("RssFile:")) * 1024

    before = resident()
    for start in range(0, size, 256):
        source.read(slice(start, start + 256), slice(0, source.shape[1])).sum()
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


PARTS = {
    "rows and columns": (lambda a: a[10:, :5], True),
    "transposed": (lambda a: a[3:60, 2:9].T, True),
    "plain": (lambda a: np.asarray(a)[5:], True),
    "every second column": (lambda a: a[:, ::2], False),
    "backwards": (lambda a: a[::-1, ::-1], False),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_memory_map_is_not_taken_for_the_whole(a, tmp_path, name):
    taken, is_by_name = PARTS[name]
    for mapped in (memory_map(a, tmp_path), by_columns(a, tmp_path)):
        part = taken(mapped)
        source = as_source(part)
        assert source.is_sendable or not is_by_name
        m, n = part.shape
        for rows, columns in ((slice(0, m), slice(0, n)), (slice(3, 5), slice(1, n))):
            assert np.array_equal(source.read(rows, columns), part[rows, columns])
            if is_by_name:
                sent = pickle.loads(pickle.dumps(source))
                assert np.array_equal(sent.read(rows, columns), part[rows, columns])


@pytest.mark.parametrize("dtype", ["f8", "f4", "c16"])
def test_whole_rows_of_a_file_are_not_copied(rng, tmp_path, dtype):
    """A block of them is the part of the file, which cannot be written to; others are copies."""
    a = np.asarray(rng.standard_normal((300, 300)), dtype)
    path = tmp_path / "a.npy"
    np.save(path, a)
    source = as_source(np.load(path, mmap_mode="r"))
    rows, columns = slice(3, 290), slice(0, 300)
    part = source._file.view(rows, columns)
    assert np.array_equal(part, a[rows, columns])
    assert not part.flags.writeable
    assert source._file.view(rows, slice(1, 299)) is None
    assert source._file.view(slice(0, 2), columns) is None, "little is copied"
    assert source.read(rows, columns).flags.writeable
    np.save(path, np.asfortranarray(a))
    source = as_source(np.load(path, mmap_mode="r"))
    assert source._file.view(columns, slice(3, 290)) is None, "blocks are by rows"


def test_not_more_parts_are_mapped_than_there_may_be_open_files(rng, tmp_path):
    a = rng.standard_normal((300, 300))
    path = tmp_path / "a.npy"
    np.save(path, a)
    source = as_source(np.load(path, mmap_mode="r"))
    whole = slice(0, 300)
    gc.collect()
    held = [source._file.view(whole, whole) for _ in range(mapped_files._MOST + 2)]
    assert held[-1] is None
    assert sum(part is not None for part in held) <= mapped_files._MOST
    block = Blocks(source, [whole], [whole], np.dtype("f8"), None)(("A", 0, 0))
    assert np.array_equal(block, a)
    del held
    gc.collect()
    assert source._file.view(whole, whole) is not None


@pytest.mark.parametrize("given", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_blocks_of_a_file_in_another_dtype(rng, tmp_path, given, dtype):
    a = rng.standard_normal((200, 90)) + 1j * rng.standard_normal((200, 90))
    a = (a if given[0] == "c" else a.real).astype(given)
    a[3, 5], a[4, 6], a[150, 80] = np.nan, np.inf, 1e30
    path = tmp_path / "a.npy"
    np.save(path, a)
    source = as_source(np.load(path, mmap_mode="r"))
    rows, columns = slice(1, 190), slice(2, 85)
    part = source._file.read_as(rows, columns, np.dtype(dtype))
    if given[0] != dtype[0]:
        assert part is None
        return
    assert part.flags.c_contiguous
    assert part.flags.writeable
    assert part.dtype == dtype
    assert np.array_equal(part, a[rows, columns].astype(dtype), equal_nan=True)
    assert source._file.read_as(slice(0, 3), columns, np.dtype(dtype)) is None, "too few"
    block = Blocks(source, [rows], [columns], np.dtype(dtype), None)(("A", 0, 0))
    assert np.array_equal(block, part, equal_nan=True)


@pytest.mark.parametrize("cut", [1, 100 * 300 * 8])
def test_lines_that_a_file_lacks_are_told(rng, tmp_path, cut):
    a = rng.standard_normal((300, 300))
    path = tmp_path / "a.npy"
    np.save(path, a)
    source = as_source(np.load(path, mmap_mode="r"))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - cut)
    block = Blocks(source, [slice(0, 300)], [slice(100, 300)], np.dtype("f4"), None)
    with pytest.raises(OSError, match="ends before its matrix does"):
        block(("A", 0, 0))


def test_what_is_beyond_the_end_of_a_file_is_not_touched(rng, tmp_path):
    a = rng.standard_normal((300, 300))
    path = tmp_path / "a.npy"
    np.save(path, a)
    source = as_source(np.load(path, mmap_mode="r"))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert source._file.view(slice(0, 299), slice(0, 300)) is not None
    assert source._file.view(slice(100, 300), slice(0, 300)) is None
    with pytest.raises(OSError, match="ends before its matrix does"):
        source.read(slice(100, 300), slice(0, 300))


def test_a_file_that_took_the_name_of_a_memory_map_is_not_read(a, rng, tmp_path):
    """Files are replaced by renaming; the map stays on the one that it was made of."""
    b = rng.standard_normal(N)
    expected = solve(a, b, tile=20)
    mapped = memory_map(a, tmp_path)
    np.save(tmp_path / "other.npy", 2 * a)
    before = as_source(mapped)
    (tmp_path / "other.npy").rename(tmp_path / "a.npy")
    assert np.array_equal(solve(mapped, b, tile=20), expected)
    with pytest.raises(OSError, match="is not the file any more that was mapped"):
        before.read(slice(0, 2), slice(0, N))
    (tmp_path / "a.npy").unlink()
    assert np.array_equal(solve(mapped, b, tile=20), expected)


class Foreign:
    """An array of a library whose `read` is another one: PyTables' is."""

    def __init__(self, a):
        self.a, self.shape, self.dtype = a, a.shape, a.dtype

    def __getitem__(self, key):
        return self.a[key]

    def read(self, start=None, stop=None, step=None):
        raise AssertionError("not this one")


def test_arrays_with_a_read_of_their_own(a, rng):
    b = rng.standard_normal(N)
    assert np.array_equal(solve(Foreign(a), b, tile=20), solve(a, b, tile=20))


def test_a_large_block_is_read_in_strips(a, monkeypatch):
    """So that a matrix in double precision is not in memory beside its copy in single."""
    seen = []

    def entries(rows, columns):
        seen.append(rows.size * columns.size * 8)
        return a[np.ix_(rows, columns)]

    monkeypatch.setattr(sources, "_STRIP_BYTES", 4000)
    whole = [slice(0, N)]
    source = FunctionSource(entries, (N, N))
    block = sources.Blocks(source, whole, whole, np.dtype("f4"), None)(("A", 0, 0))
    assert np.array_equal(block, a.astype("f4"))
    assert max(seen) <= 4000


@pytest.mark.parametrize("shape", [4, (4,), (4, 4, 4), (4.5, 4), "44", (None, 4), (-4, 4)])
def test_a_shape_that_is_none(shape):
    with pytest.raises((TypeError, ValueError), match=r"shape must .*, got "):
        TiledMatrix.from_function(lambda i, j: i[:, None] * j, shape)


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
    assert tiled[5:3, :].shape == (0, N)
    for key in ((slice(0, 9, 2), slice(None)), (3, slice(None)), slice(3, 5), (3, 4)):
        with pytest.raises(TypeError, match="two slices without steps"):
            tiled[key]
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
    assert as_bytes(given, host_free_bytes) == bytes_


def test_a_fraction_is_of_what_is_free():
    assert as_bytes(0.25, lambda: 4000) == as_bytes(np.float32(0.25), lambda: 4000) == 1000
    assert host_free_bytes() > 2**20


@pytest.mark.parametrize(
    "bad",
    ["", "much", "8 XB", "1.2.3 GB", 0, -5, float("nan"), float("inf"), True, [1], 1j, b"1MB"],
)
def test_bad_limits(bad):
    with pytest.raises(ValueError, match="memory_limit"):
        as_bytes(bad, host_free_bytes)


def test_a_dask_array_of_unknown_chunks():
    da = pytest.importorskip("dask.array")
    a = da.from_array(np.eye(6), chunks=2)
    unknown = a[a[:, 0] >= 0]
    with pytest.raises(ValueError, match="chunks of unknown sizes; call"):
        as_source(unknown)
    np.testing.assert_array_equal(
        as_source(unknown.compute_chunk_sizes()).read(slice(0, 3), slice(0, 6)), np.eye(6)[:3]
    )


def test_a_time_limit_that_ends_while_a_file_is_looked_at(tmp_path, monkeypatch):
    """The TimeoutError of an alarm's handler is an OSError, and nobody's but the program's."""
    a = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float64, (4, 4))

    def fails(error):
        def opened(*args):
            raise error

        monkeypatch.setattr(mapped_files, "open", opened, raising=False)

    fails(TimeoutError())
    with pytest.raises(TimeoutError):
        mapped_files.mapped_file(a)
    fails(FileNotFoundError(errno.ENOENT, "gone"))
    assert mapped_files.mapped_file(a) is None
