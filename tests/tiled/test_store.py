"""Stores: what was written is read, or it is said that it is not there."""

from __future__ import annotations

import errno
import os
import pickle

import numpy as np
import pytest

from mplinalg.tiled.store import (
    DirectoryStore,
    MemoryStore,
    Overlay,
    TemporaryStore,
    TileDamaged,
    checksum,
)

TITLE = {"contents": "a test", "tile": [2, 2]}
KEY = ("LU", 1, 0)


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(tmp_path / "s", TITLE, resume=False)


def again(store):
    """As a later process sees it."""
    store.release()
    return DirectoryStore(store.path, TITLE, resume=True)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i8"])
@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (1,), (2, 0)])
def test_tiles_come_back(store, rng, dtype, shape):
    tile = (10 * rng.standard_normal(shape)).astype(dtype)
    store.write(KEY, tile, is_result=True)
    for found in (store.read(KEY), again(store).read(KEY)):
        assert found.dtype == tile.dtype
        assert np.array_equal(found, tile)


def test_any_layout_is_kept(store, rng):
    tile = rng.standard_normal((4, 6)).T[::-1, ::2]
    store.write(KEY, tile, is_result=True)
    assert np.array_equal(store.read(KEY), tile)


def test_spilled_tiles_are_no_results(store):
    store.write(KEY, np.ones(3), is_result=True)
    store.write(KEY, np.zeros(3), is_result=False)
    assert np.array_equal(store.read(KEY), np.zeros(3))
    assert np.array_equal(again(store).read(KEY), np.ones(3))  # the spill is forgotten


def test_an_earlier_run_is_not_overwritten(store):
    store.release()
    with pytest.raises(FileExistsError, match="resume=True, or give another directory"):
        DirectoryStore(store.path, TITLE, resume=False)
    with pytest.raises(ValueError, match=r"is of something else: tile \[2, 2\], not \[3, 3\]"):
        DirectoryStore(store.path, TITLE | {"tile": [3, 3]}, resume=True)


def test_a_line_that_was_cut_off_is_left_out(store):
    for i in range(3):
        store.write(("LU", i, 0), np.full(4, i), is_result=True)
    journal = store.path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7])
    found = again(store)
    assert found.results == {("LU", 0, 0), ("LU", 1, 0)}
    found.write(("LU", 2, 0), np.full(4, 2), is_result=True)
    assert len(again(found).results) == 3


@pytest.mark.parametrize("length", [0, 1, 7, 4096 * 8 - 1])
def test_a_truncated_tile_is_found(store, rng, length):
    store.write(KEY, rng.standard_normal(4096), is_result=True)
    path = store.path / "LU-1-0.tile"
    path.write_bytes(path.read_bytes()[:length])
    found = again(store)
    assert found.damaged() == [KEY]
    with pytest.raises(TileDamaged, match=rf"has {length:,} bytes instead of 32,768"):
        found.read(KEY)


@pytest.mark.parametrize("size", [1, 100, 4096, 5000, 20000])
def test_any_changed_byte_is_found(store, rng, size):
    store.write(KEY, rng.standard_normal(size), is_result=True)
    path = store.path / "LU-1-0.tile"
    whole = path.read_bytes()
    for place in {0, 8 * size - 1, *rng.integers(0, 8 * size, 30).tolist()}:
        altered = bytearray(whole)
        altered[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(altered)
        with pytest.raises(TileDamaged, match="checksum is wrong"):
            store.read(KEY)


def test_checksums_tell_exchanged_words(rng):
    tile = rng.standard_normal(9000)
    other = tile.copy()
    other[[3, 8000]] = other[[8000, 3]]
    assert checksum(tile) != checksum(other)


def test_checksums_tell_exchanged_blocks_and_signs(rng):
    tile = rng.standard_normal(4 * 4096)
    blocks = tile.reshape(4, 4096)[[1, 0, 2, 3]].reshape(-1)
    signs = tile.copy()
    signs[[5, 4096 + 5]] *= -1
    pair = tile.copy()
    pair[[5, 6]] *= -1
    assert len({checksum(x) for x in (tile, blocks, signs, pair, -tile)}) == 5


def test_a_journal_with_a_line_that_is_none(store):
    """As a disk that was full for a moment leaves it: half a line, and the next one behind it."""
    for i in range(3):
        store.write(("LU", i, 0), np.full(4, i), is_result=True)
    journal = store.path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], lines[2][:9] + lines[3]]))
    assert again(store).results == {("LU", 0, 0)}
    journal.write_bytes(b"{\n" + b"".join(lines[1:]))
    with pytest.raises(ValueError, match="is damaged, or not the journal of a run"):
        again(store)


def test_a_store_is_sent_by_its_name(store, rng, tmp_path, monkeypatch):
    tile = rng.standard_normal(5)
    store.write(KEY, tile, is_result=True)
    sent = pickle.dumps(store)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(pickle.loads(sent).read(KEY), tile)


def test_a_file_that_is_gone_is_found(store):
    store.write(KEY, np.ones(3), is_result=True)
    (store.path / "LU-1-0.tile").unlink()
    assert store.damaged() == [KEY]


def test_a_full_disk_is_told_and_leaves_whole_files(store, monkeypatch):
    store.write(("LU", 0, 0), np.ones(3), is_result=True)

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=r"No space left on device; 1 tiles are kept in"):
            store.write(KEY, np.ones(3), is_result=True)
    assert not list(store.path.glob("*.part"))
    assert again(store).results == {("LU", 0, 0)}


def test_a_journal_that_cannot_grow_is_told(store, monkeypatch):
    store.write(("LU", 0, 0), np.ones(3), is_result=True)
    resource = pytest.importorskip("resource")
    size = (store.path / "journal.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large; 1 tiles are kept in .*resume=True"):
            store.write(KEY, np.ones(3), is_result=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert again(store).results == {("LU", 0, 0)}


def test_a_full_disk_of_temporary_files_promises_nothing(tmp_path, monkeypatch):
    store = TemporaryStore(str(tmp_path))

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left on device; temporary files") as caught:
            store.write(KEY, np.ones(3), is_result=True)
    assert "resume" not in str(caught.value)


def test_a_temporary_store_leaves_nothing(tmp_path):
    store = TemporaryStore(str(tmp_path))
    store.write(KEY, np.ones(3), is_result=True)
    assert len(list(tmp_path.iterdir())) == 1
    store.close()
    assert not list(tmp_path.iterdir())


def test_an_overlay_leaves_what_is_below(rng):
    below = MemoryStore()
    below.write(KEY, np.ones(2), is_result=True)
    overlay = Overlay(below)
    assert np.array_equal(overlay.read(KEY), np.ones(2))
    overlay.write(KEY, np.zeros(2), is_result=True)
    assert np.array_equal(overlay.read(KEY), np.zeros(2))
    assert np.array_equal(below.read(KEY), np.ones(2))
