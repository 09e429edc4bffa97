"""Where tiles are kept that memory has no room for: in memory itself, or in a directory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .heap import empty
from .lock import DirectoryLock
from .mapped import file_part
from .tasks import Key

__all__ = ["DirectoryStore", "MemoryStore", "Overlay", "Store", "TileDamaged"]

Array = NDArray[Any]
_FOLD = 4096
_ODD = np.uint64(0x9E3779B97F4A7C15)
JOURNAL = "journal.jsonl"


class Store(Protocol):
    """Tiles on a slower level of memory, as NumPy arrays. Used by two threads at once."""

    def write(self, key: Key, tile: Array, *, is_result: bool) -> None:
        """Keep a tile. A result is not changed any more; others may be written again."""

    def read(self, key: Key) -> Array:
        """A tile as it was written last."""

    def release(self) -> None:
        """Nothing will be written any more: others may."""
        return None


class MemoryStore(Store):
    """In the memory of this process, by reference."""

    def __init__(self) -> None:
        self._tiles: dict[Key, Array] = {}

    def write(self, key: Key, tile: Array, *, is_result: bool) -> None:
        self._tiles[key] = np.asarray(tile)

    def read(self, key: Key) -> Array:
        return self._tiles[key]


class Overlay(Store):
    """A store that is only read, and one above it that is written to.

    Parameters
    ----------
    below : Store
    above : Store, optional
        By default in memory.
    """

    def __init__(self, below: Store, above: Store | None = None) -> None:
        self.below: Store = below
        self.above: Store = MemoryStore() if above is None else above
        self._written: set[Key] = set()

    def write(self, key: Key, tile: Array, *, is_result: bool) -> None:
        self.above.write(key, tile, is_result=is_result)
        self._written.add(key)

    def read(self, key: Key) -> Array:
        return (self.above if key in self._written else self.below).read(key)

    @property
    def results(self) -> set[Key]:
        """Those that `above` has."""
        return getattr(self.above, "results", set())

    def release(self) -> None:
        self.above.release()


class TileDamaged(OSError):
    """A file does not hold what was written to it."""


class DirectoryStore(Store):
    """A file for each tile, and a journal of those that are results.

    A file is written under another name first and then renamed, so that it is whole or not there;
    its line in the journal, with a checksum, follows. After a kill at any moment the journal tells
    what is there.

    Parameters
    ----------
    path : path-like
        Made if it is not there.
    title : dict
        What the results belong to. A journal with another title is refused.
    resume : bool
        Go on with what is there. Otherwise the directory must have no journal.
    is_checked : bool
        Keep checksums.
    is_written : bool
        Otherwise only read: nothing in the directory is changed, and others may write there.
    goes_on : bool
        Who writes has a keyword `resume`, which messages name.

    Raises
    ------
    BlockingIOError
        Another process writes there; until it calls `release`, or ends.

    Attributes
    ----------
    results : set of Key
        Those in the journal.
    """

    def __init__(
        self, path: str | os.PathLike[str], title: dict[str, Any], *, resume: bool,
        is_checked: bool = True, is_written: bool = True, goes_on: bool = True,
    ) -> None:  # fmt: skip
        self.path = Path(path).absolute()  # other processes, and this one elsewhere, find it too
        self._goes_on = goes_on
        self._is_checked = is_checked
        self._held: DirectoryLock | None = None
        if is_written:
            self.path.mkdir(parents=True, exist_ok=True)
            self._held = DirectoryLock(self.path)
        self.results: set[Key] = set()
        self._described: dict[Key, dict[str, Any]] = {}
        self._lock = threading.Lock()
        try:
            self._begin(title, resume=resume, is_written=is_written)
        except BaseException:
            self.release()
            raise

    def _begin(self, title: dict[str, Any], *, resume: bool, is_written: bool) -> None:
        journal = self.path / JOURNAL
        found, lines = _journal(journal)
        if found and not resume:
            raise _not_new(journal, goes_on=self._goes_on)
        if found and found[0] != title:
            old = found[0]
            differing = sorted(k for k in {*old, *title} if old.get(k) != title.get(k))
            raise ValueError(
                f"{journal} is of something else: "
                + ", ".join(f"{k} {old.get(k)!r}, not {title.get(k)!r}" for k in differing)
            )
        self._remember(found[1:])
        if not is_written:
            return
        if not found or not lines[-1].endswith(b"\n"):  # the end of a line that a kill cut off
            kept = b"".join(line for line in lines if line.endswith(b"\n"))
            self._replace(journal, kept or (json.dumps(title) + "\n").encode())
        for part in self.path.glob("*.part"):
            part.unlink()

    @staticmethod
    def require_new(path: str | os.PathLike[str]) -> None:
        """Raise FileExistsError if a run has begun there, before anything is done for another."""
        if _journal(Path(path) / JOURNAL)[0]:
            raise _not_new(Path(path) / JOURNAL, goes_on=True)

    @classmethod
    def of_run(
        cls, path: str | os.PathLike[str], title: dict[str, Any], *, resume: bool
    ) -> DirectoryStore:
        """One that a run writes; of what an earlier one left, files are as they were written."""
        store = cls(path, title, resume=resume)
        try:
            for key in store.damaged():
                store.forget(key)
        except BaseException:
            store.release()
            raise
        return store

    @classmethod
    def existing(
        cls, path: str | os.PathLike[str], contents: str
    ) -> tuple[DirectoryStore, dict[str, Any]]:
        """One that was written before, and its title.

        Raises
        ------
        FileNotFoundError, ValueError
            There is none, or it has other contents.
        """
        found, _ = _journal(Path(path) / JOURNAL)
        if not found:
            raise FileNotFoundError(f"{Path(path) / JOURNAL} is not there, or empty")
        title = found[0]
        if title.get("contents") != contents:
            raise ValueError(f"{path} has {title.get('contents')!r}, not {contents!r}")
        return cls(path, title, resume=True, is_written=False), title

    def release(self) -> None:
        if self._held is not None:
            self._held.release()

    def __getstate__(self) -> dict[str, Any]:
        return {**{k: v for k, v in self.__dict__.items() if k != "_lock"}, "_held": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def write(self, key: Key, tile: Array, *, is_result: bool) -> None:
        tile = np.ascontiguousarray(tile)
        name = self._name(key, is_result)
        self._replace(self.path / name, tile.reshape(-1).view(np.uint8).data if tile.size else b"")
        entry = {
            "file": name, "shape": list(tile.shape), "dtype": tile.dtype.str,
            "sum": checksum(tile) if self._is_checked else None,
        }  # fmt: skip
        with self._lock:
            self._described[key] = entry
            if is_result:
                line = (json.dumps({"key": list(key), **entry}) + "\n").encode()
                with self._told(self.path / JOURNAL), open(self.path / JOURNAL, "ab") as journal:
                    journal.write(line)
                self.results.add(key)

    def read(self, key: Key) -> Array:
        """A tile; raises TileDamaged if its file is not as it was written.

        Without checksums large ones are the pages of the file, and cannot be written to.
        """
        entry = self._described[key]
        path = self.path / entry["file"]
        shape, dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
        wanted = int(np.prod(shape)) * dtype.itemsize
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise TileDamaged(f"{path} is not there") from None
        if size != wanted:
            raise TileDamaged(f"{path} has {size:,} bytes instead of {wanted:,}")
        with open(path, "rb", buffering=0) as file:
            if entry["sum"] is None and (part := file_part(file.fileno(), 0, wanted)) is not None:
                return part.view(dtype).reshape(shape)
            tile = empty(shape, dtype)
            left = tile.reshape(-1).view(np.uint8).data if tile.size else memoryview(b"")
            while left:
                count = file.readinto(left)
                if not count:
                    raise TileDamaged(f"{path} ends before its tile does")
                left = left[count:]
        if entry["sum"] is not None and checksum(tile) != entry["sum"]:
            raise TileDamaged(f"{path} was altered: its checksum is wrong")
        return tile

    def forget(self, key: Key) -> None:
        """A result that is to be made again."""
        self.results.discard(key)

    def damaged(self) -> list[Key]:
        """Results whose files are not as they were written; all of them are read."""
        found = []
        for key in sorted(self.results, key=str):
            try:
                self.read(key)
            except TileDamaged:
                found.append(key)
        return found

    def _remember(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            key = tuple(entry.pop("key"))
            self._described[key] = entry
            self.results.add(key)

    def _name(self, key: Key, is_result: bool) -> str:
        return "-".join(map(str, key)) + (".tile" if is_result else ".spill")

    def _replace(self, path: Path, data: Any) -> None:
        part = path.with_name(path.name + ".part")
        with self._told(path):
            try:
                with open(part, "wb") as file:
                    file.write(data)
                os.replace(part, path)
            except OSError:
                part.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def _told(self, path: Path) -> Iterator[None]:
        """Say with an OSError what is left."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; {self._left()}", str(path)) from error

    def _left(self) -> str:
        count = len(self.results)
        then = "and resume=True goes on from there" if self._goes_on else "and no others"
        return f"{count} tiles are kept in {self.path}, {then}"


def _not_new(journal: Path, *, goes_on: bool) -> FileExistsError:
    way = "go on with resume=True, or give" if goes_on else "give"
    return FileExistsError(f"{journal} tells of an earlier run; {way} another directory")


class TemporaryStore(DirectoryStore):
    """A directory that is removed when nobody needs it any more, without checksums."""

    def __init__(self, folder: str | None = None) -> None:
        self._folder = tempfile.mkdtemp(prefix="mplinalg-tiles-", dir=folder)
        super().__init__(self._folder, {}, resume=False, is_checked=False)
        self.release()  # nobody else knows the directory

    def _left(self) -> str:
        return "temporary files need more room, or a workdir elsewhere"

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __del__(self) -> None:
        if hasattr(self, "_folder"):
            self.close()


def _journal(path: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """What a journal says, and its lines; nothing of those that were not written to their ends."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    found = []
    for number, line in enumerate(lines):
        if not line.endswith(b"\n"):
            continue
        try:
            entry = json.loads(line)
            is_one = isinstance(entry, dict) and (number == 0 or "key" in entry)
        except ValueError:
            is_one = False
        if is_one:
            found.append(entry)
        elif number == 0:
            raise ValueError(f"{path} is damaged, or not the journal of a run")
    return found, lines


def checksum(tile: Array) -> str:
    """Of the bytes: words that are `_FOLD` apart summed, each times a power that tells its place.

    Modulo 2^64, and near the speed of memory. Words are folded first: of their highest bits alone
    any two would cancel. The change of a single word is seen for certain, others in all likelihood.
    """
    data = np.ascontiguousarray(tile).reshape(-1).view(np.uint8)
    whole = data.size // (8 * _FOLD) * (8 * _FOLD)
    rest = np.zeros(8 * _FOLD, np.uint8)
    rest[: data.size - whole] = data[whole:]
    total, folded = np.zeros(_FOLD, np.uint64), np.empty(_FOLD, np.uint64)
    for line in (*data[:whole].view(np.uint64).reshape(-1, _FOLD), rest.view(np.uint64)):
        np.right_shift(line, np.uint64(32), out=folded)
        np.bitwise_xor(line, folded, out=folded)
        total *= _ODD
        total += folded
    odd = np.arange(1, 2 * _FOLD, 2, dtype=np.uint64) * _ODD
    return f"{int((total * odd).sum(dtype=np.uint64)):016x}"
