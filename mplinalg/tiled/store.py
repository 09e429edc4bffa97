"""Where tiles are kept that memory has no room for: in memory itself, or in a directory."""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .heap import empty
from .journal import Entry, Journal
from .lock import LOCK, DirectoryLock
from .mapped import file_part
from .tasks import Key

__all__ = ["DirectoryStore", "MemoryStore", "Overlay", "Store", "TileDamaged"]

Array = NDArray[Any]
_FOLD = 4096
_ODD = np.uint64(0x9E3779B97F4A7C15)
_OURS = re.compile(r"[A-Za-z]+(-\d+)+\.(tile|spill)")
_RESTS = (".spill", ".part")
"""What a kill may leave beside tiles and journal."""


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
    def results(self) -> Collection[Key]:
        """Those that `above` has."""
        return getattr(self.above, "results", ())

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
    title : dict, or callable
        What the results belong to, or what tells it when nobody else can write there any more. A
        journal with another title is refused. None: that which is there.
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
    title : dict
    """

    def __init__(
        self, path: str | os.PathLike[str],
        title: dict[str, Any] | Callable[[], dict[str, Any]] | None, *, resume: bool,
        is_checked: bool = True, is_written: bool = True, goes_on: bool = True,
    ) -> None:  # fmt: skip
        self.path = Path(path).absolute()  # other processes, and this one elsewhere, find it too
        self._goes_on = goes_on
        self._is_checked = is_checked
        self._held: DirectoryLock | None = None
        self._lock = threading.Lock()
        self._spilled: dict[Key, Entry] = {}
        try:
            if is_written:
                self._held = DirectoryLock(self.path)
            self._journal = Journal(self.path)
            self.title = self._begin(title, resume=resume, is_written=is_written)
        except BaseException:
            self.release()
            raise

    def _begin(self, title: Any, *, resume: bool, is_written: bool) -> dict[str, Any]:
        journal, old = self._journal, self._journal.title
        if old is not None and not resume:
            raise _not_new(journal.path, goes_on=self._goes_on)
        new: dict[str, Any] | None = title() if callable(title) else title
        if new is None:
            if old is None:
                raise FileNotFoundError(f"{journal.path} is not there, or empty")
            new = old
        if old is not None and old != new:
            differing = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
            raise ValueError(
                f"{journal.path} is of something else: "
                + ", ".join(f"{k} {old.get(k)!r}, not {new.get(k)!r}" for k in differing)
            )
        if is_written:
            if old is None:
                if tiles := _files(self.path, ".tile"):
                    raise FileExistsError(f"{tiles[0]} is there without a journal; {_ELSEWHERE}")
                self._replace(journal.path, journal.begin(new))
            else:
                journal.mend()
                for rest in _files(self.path, *_RESTS):
                    rest.unlink()
        return new

    @staticmethod
    def require_new(path: str | os.PathLike[str]) -> None:
        """Raise FileExistsError if a run has begun there, before anything is done for another."""
        journal = Journal(path)
        if journal.title is not None:
            raise _not_new(journal.path, goes_on=True)

    @classmethod
    def of_run(
        cls, path: str | os.PathLike[str],
        title: dict[str, Any] | Callable[[], dict[str, Any]], *, resume: bool,
    ) -> DirectoryStore:  # fmt: skip
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
    def existing(cls, path: str | os.PathLike[str], contents: str) -> DirectoryStore:
        """One that was written before.

        Raises
        ------
        FileNotFoundError, ValueError
            There is none, or it has other contents.
        """
        store = cls(path, None, resume=True, is_written=False)
        if store.title.get("contents") != contents:
            raise ValueError(f"{path} has {store.title.get('contents')!r}, not {contents!r}")
        return store

    @staticmethod
    def remove(path: str | os.PathLike[str], title: dict[str, Any]) -> None:
        """Remove one with this title, and nothing that is not of it.

        The journal goes last: what a kill leaves is known again.
        """
        folder = Path(path)
        journal = Journal(folder)
        if journal.title == title:
            for file in (*_files(folder, *_RESTS, ".tile"), folder / LOCK, journal.path):
                file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there is something else, or nothing at all
            folder.rmdir()

    @property
    def results(self) -> Collection[Key]:
        """Those in the journal."""
        return self._journal.entries.keys()

    def release(self) -> None:
        """Let others write there; what was spilled is not needed any more."""
        held = self._held
        if held is not None:
            try:
                while self._spilled:
                    self._unspill(next(iter(self._spilled)))
            finally:
                held.release()
                self._held = None

    def __getstate__(self) -> dict[str, Any]:
        return {**{k: v for k, v in self.__dict__.items() if k != "_lock"}, "_held": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def write(self, key: Key, tile: Array, *, is_result: bool) -> None:
        tile = np.ascontiguousarray(tile)
        data = tile.reshape(-1).view(np.uint8).data if tile.size else b""
        self._replace(self.path / self._name(key, is_result), data)
        entry = Entry(tile.shape, tile.dtype.str, checksum(tile) if self._is_checked else None)
        with self._lock:
            if is_result:
                with self._told(self._journal.path):
                    self._journal.add(key, entry)
                self._unspill(key)
            else:
                self._spilled[key] = entry

    def read(self, key: Key) -> Array:
        """A tile; raises TileDamaged if its file is not as it was written.

        Without checksums large ones are the pages of the file, and cannot be written to.
        """
        entry = self._spilled.get(key)
        path = self.path / self._name(key, entry is None)
        entry = self._journal.entries[key] if entry is None else entry
        if self._is_checked and entry.checksum is None:
            raise TileDamaged(f"{path} has no checksum in the journal")
        shape, dtype = entry.shape, np.dtype(entry.dtype)
        wanted = math.prod(shape) * dtype.itemsize
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise TileDamaged(f"{path} is not there") from None
        if size != wanted:
            raise TileDamaged(f"{path} has {size:,} bytes instead of {wanted:,}")
        with open(path, "rb", buffering=0) as file:
            if entry.checksum is None and (part := file_part(file.fileno(), 0, wanted)) is not None:
                return part.view(dtype).reshape(shape)
            tile = empty(shape, dtype)
            left = tile.reshape(-1).view(np.uint8).data if tile.size else memoryview(b"")
            while left:
                count = file.readinto(left)
                if not count:
                    raise TileDamaged(f"{path} ends before its tile does")
                left = left[count:]
        if entry.checksum is not None and checksum(tile) != entry.checksum:
            raise TileDamaged(f"{path} was altered: its checksum is wrong")
        return tile

    def forget(self, key: Key) -> None:
        """A result that is to be made again."""
        del self._journal.entries[key]

    def _unspill(self, key: Key) -> None:
        if self._spilled.pop(key, None) is not None:
            (self.path / self._name(key, False)).unlink(missing_ok=True)

    def drop(self, key: Key) -> None:
        """A result that nobody needs any more; a later run finds its file gone."""
        self.forget(key)
        (self.path / self._name(key, True)).unlink(missing_ok=True)

    def damaged(self) -> list[Key]:
        """Results whose files are not as they were written; all of them are read."""
        found = []
        for key in sorted(self.results, key=str):
            try:
                self.read(key)
            except TileDamaged:
                found.append(key)
        return found

    def _name(self, key: Key, is_result: bool) -> str:
        return "-".join(map(str, key)) + (".tile" if is_result else ".spill")

    def _replace(self, path: Path, data: Any) -> None:
        part = path.with_name(path.name + ".part")
        with self._told(path):
            part.unlink(missing_ok=True)  # it may be a link to another file
            try:
                with open(part, "xb") as file:
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
            if error.errno is None:  # not the system's: the TimeoutError of a signal's handler
                raise
            raise OSError(error.errno, f"{error.strerror}; {self._left()}", str(path)) from error

    def _left(self) -> str:
        count = len(self.results)
        then = "and resume=True goes on from there" if self._goes_on else "and no others"
        return f"{count} tiles are kept in {self.path}, {then}"


_ELSEWHERE = "give another directory"


def _not_new(journal: Path, *, goes_on: bool) -> FileExistsError:
    way = "go on with resume=True, or " if goes_on else ""
    return FileExistsError(f"{journal} tells of an earlier run; {way}{_ELSEWHERE}")


def _files(folder: Path, *suffixes: str) -> list[Path]:
    """Those that a store has written."""
    return [
        path for path in folder.iterdir()
        if path.suffix in suffixes and _OURS.fullmatch(path.name.removesuffix(".part"))
        and not path.is_dir()
    ]  # fmt: skip


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
