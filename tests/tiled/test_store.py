"""Stores: what was written is read, or it is said that it is not there."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle

import numpy as np
import pytest

from mplinalg.tiled.heap import resident_bytes
from mplinalg.tiled.journal import Entry, Journal
from mplinalg.tiled.store import (
    DirectoryStore,
    MemoryStore,
    Overlay,
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


def written(store, rng):
    """Some tiles, by their keys."""
    tiles = {("LU", i, j): rng.standard_normal((2 + i, 3)) for i in range(2) for j in range(3)}
    for key, tile in tiles.items():
        store.write(key, tile, is_result=True)
    return tiles


@pytest.mark.parametrize(
    ("old", "new"),
    [('"<f8"', '"<i8"'), ("[3, 3]", "[9, 1]"), ("[3, 3]", "[1, 3]"), ("[3, 3]", "[-3, -3]"),
     ('["LU", 1, 0]', '["LU", 0, 0]'), ('["LU", 1, 0]', '["LU", 9, 9]'), ('["LU", 1, 0]', "5"),
     ('"<f8"', '"zzz"'), ('"<f8"', '"|O"')],
)  # fmt: skip
def test_an_altered_line_is_no_line(store, rng, old, new):
    tiles = written(store, rng)
    journal = store.path / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert old in lines[4]
    lines[4] = lines[4].replace(old, new)
    journal.write_text("".join(lines))
    found = again(store)
    del tiles["LU", 1, 0]
    assert found.results == tiles.keys()
    assert all(np.array_equal(found.read(key), tile) for key, tile in tiles.items())


def test_any_changed_byte_of_a_journal_is_found(store, rng):
    tiles = written(store, rng)
    journal = store.path / "journal.jsonl"
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    for place in rng.integers(first, len(whole), 60):
        altered = bytearray(whole)
        altered[place] ^= 1 << int(rng.integers(7))
        journal.write_bytes(altered)
        found = again(store)
        assert 4 <= len(found.results) <= 6
        assert all(np.array_equal(found.read(key), tiles[key]) for key in found.results)
        found.release()
    for place in range(first):
        altered = bytearray(whole)
        altered[place] ^= 1
        journal.write_bytes(altered)
        with pytest.raises(ValueError, match="is damaged, or not the journal of a run"):
            again(store)


def test_a_line_without_a_checksum_is_no_line(store, rng):
    written(store, rng)
    journal = store.path / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[2]["sum"] = None
    del lines[3]["seal"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(again(store).results) == 4


def test_a_line_of_another_journal_is_no_line(store, rng, tmp_path):
    written(store, rng)
    other = DirectoryStore(tmp_path / "other", TITLE | {"tile": [3, 3]}, resume=False)
    other.write(("LU", 7, 7), np.ones(3), is_result=True)
    line = (other.path / "journal.jsonl").read_bytes().splitlines(keepends=True)[1]
    with open(store.path / "journal.jsonl", "ab") as journal:
        journal.write(line)
    assert ("LU", 7, 7) not in again(store).results


def test_what_is_spilled_is_removed(store):
    """When the run is over; what a kill leaves, when the next one begins."""
    store.write(KEY, np.zeros(3), is_result=False)
    store.write(("LU", 0, 0), np.zeros(3), is_result=False)
    store.write(("LU", 0, 0), np.ones(3), is_result=True)
    assert np.array_equal(store.read(KEY), np.zeros(3))
    store.release()
    assert sorted(path.name for path in store.path.iterdir()) == [
        "LU-0-0.tile", "journal.jsonl", "mplinalg.lock",
    ]  # fmt: skip
    assert np.array_equal(store.read(("LU", 0, 0)), np.ones(3))
    (store.path / "LU-5-5.spill").write_bytes(b"half")
    (store.path / "LU-5-5.spill.part").write_bytes(b"half")
    again(store).release()
    assert len(list(store.path.iterdir())) == 3


def test_who_has_released_it_removes_nothing(store):
    store.release()
    later = again(store)
    later.write(KEY, np.zeros(3), is_result=False)
    store.release()
    assert np.array_equal(later.read(KEY), np.zeros(3))


def test_files_of_others_stay(tmp_path):
    names = (
        "film.part", "lock", "a.tile.txt", "notes", "oil_1.spill", "map.1.tile.part", "data.spill",
        "data.tile", "measurements.tile.part",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / "LU-9-9.spill").mkdir()
    store = DirectoryStore(tmp_path, TITLE, resume=False)
    store.write(KEY, np.ones(3), is_result=True)
    store.release()
    assert all((tmp_path / name).read_text() == "mine" for name in names)
    again(store).release()
    assert all((tmp_path / name).read_text() == "mine" for name in names)
    DirectoryStore.remove(tmp_path, TITLE | {"tile": [3, 3]})
    assert (tmp_path / "LU-1-0.tile").exists()
    DirectoryStore.remove(tmp_path, TITLE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*names, "LU-9-9.spill"))


@pytest.mark.parametrize("count", range(8))
def test_a_removal_that_was_cut_off_is_finished(store, rng, monkeypatch, count):
    written(store, rng)
    store.write(KEY, np.ones(3), is_result=False)
    unlink, done = type(store.path).unlink, []

    def killed(path, **options):
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(path)
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(store.path), "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            DirectoryStore.remove(store.path, TITLE)
    DirectoryStore.remove(store.path, TITLE)
    assert not store.path.exists()
    DirectoryStore.remove(store.path, TITLE)


@pytest.mark.parametrize("text", ['{"mine": 1}', '{"mine": 1}\n', "[" * 100_000 + "\n", "x"])
def test_a_journal_of_others_stays(tmp_path, text):
    (tmp_path / "journal.jsonl").write_text(text)
    for resume in (False, True):
        with pytest.raises(ValueError, match="is damaged, or not the journal of a run"):
            DirectoryStore(tmp_path, TITLE, resume=resume)
    assert (tmp_path / "journal.jsonl").read_text() == text


def test_tiles_of_others_stay(tmp_path):
    (tmp_path / "LU-1-0.tile").write_text("mine")
    with pytest.raises(FileExistsError, match="is there without a journal"):
        DirectoryStore(tmp_path, TITLE, resume=True)
    assert (tmp_path / "LU-1-0.tile").read_text() == "mine"


def late(*args, **options):
    """What the handler of an alarm raises: an OSError that is none of the system's."""
    raise TimeoutError("60 s are over")


@pytest.mark.parametrize(
    "function", ["os.replace", "mplinalg.tiled.lock.io.FileIO.truncate", "open"]
)
def test_an_alarm_is_no_error_of_the_disk(tmp_path, monkeypatch, function):
    class Late(io.FileIO):
        truncate = late

    with monkeypatch.context() as patch:
        if function == "open":
            patch.setattr("builtins.open", late)
            with pytest.raises(TimeoutError, match=r"^60 s are over$"):
                resident_bytes()
            return
        if function.endswith("truncate"):
            patch.setattr("mplinalg.tiled.lock.io.FileIO", Late)
        else:
            patch.setattr(function, late)
        with pytest.raises(TimeoutError, match=r"^60 s are over$"):
            DirectoryStore(tmp_path, TITLE, resume=False)
    DirectoryStore(tmp_path, TITLE, resume=False).release()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links of POSIX")
@pytest.mark.parametrize("name", ["journal.jsonl.part", "LU-1-0.tile.part", "LU-1-0.spill.part"])
def test_no_link_is_written_through(tmp_path, name):
    (tmp_path / "f").write_text("mine")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).symlink_to(tmp_path / "f")
    store = DirectoryStore(tmp_path / "d", TITLE, resume=False)
    for is_result in (False, True):
        store.write(KEY, np.ones(3), is_result=is_result)
    assert np.array_equal(again(store).read(KEY), np.ones(3))
    assert (tmp_path / "f").read_text() == "mine"


def test_a_checksum_that_is_not_there_is_told(store):
    store.write(KEY, np.ones(3), is_result=True)
    Journal(store.path).add(KEY, Entry((3,), "<i8", None))
    with pytest.raises(TileDamaged, match="has no checksum"):
        again(store).read(KEY)


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


def test_an_overlay_leaves_what_is_below(rng):
    below = MemoryStore()
    below.write(KEY, np.ones(2), is_result=True)
    overlay = Overlay(below)
    assert np.array_equal(overlay.read(KEY), np.ones(2))
    overlay.write(KEY, np.zeros(2), is_result=True)
    assert np.array_equal(overlay.read(KEY), np.zeros(2))
    assert np.array_equal(below.read(KEY), np.ones(2))
