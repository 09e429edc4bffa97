"""The journal of a directory of tiles: a title, and a line for each result."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from .tasks import Key

__all__ = ["JOURNAL", "Entry", "Journal"]

JOURNAL = "journal.jsonl"
_SEAL = "seal"


class Entry(NamedTuple):
    """What a file of a tile holds."""

    shape: tuple[int, ...]
    dtype: str
    checksum: str | None


class Journal:
    """Lines of JSON, each with a seal: a checksum of itself, and of the title.

    What a kill has cut off, what was altered and what comes from another journal is no line.

    Parameters
    ----------
    folder : path-like
        Read, if it has a journal.

    Attributes
    ----------
    title : dict or None
        None: there is no journal, or an empty file.
    entries : dict of Key to Entry
        Results.

    Raises
    ------
    ValueError
        The first line is none of a journal.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / JOURNAL
        self.title: dict[str, Any] | None = None
        self.entries: dict[Key, Entry] = {}
        self._known: dict[Any, Any] = {}  # of what is equal one is kept: entries may be many
        self._end = 0  # of the last line that was written to its end
        if self.path.exists():
            with open(self.path, "rb") as file:
                for line in file:
                    self._take(line)

    def _take(self, line: bytes) -> None:
        is_whole = line.endswith(b"\n")
        if not is_whole and self.title is not None:
            return
        self._end += len(line)
        try:
            found = json.loads(line)
            is_sealed = isinstance(found, dict) and found.pop(_SEAL, "") == self._seal(found)
        except (ValueError, RecursionError):
            is_sealed = False
        if self.title is None:  # which was written by another name first, and so is whole
            if not (is_sealed and is_whole):
                raise ValueError(f"{self.path} is damaged, or not the journal of a run")
            self.title = found
        elif is_sealed:
            self._remember(tuple(found["key"]), found["shape"], found["dtype"], found["sum"])

    def begin(self, title: dict[str, Any]) -> bytes:
        """The first line of a new one."""
        self.title = None
        line = self._line(title)
        self.title, self._end = title, len(line)
        return line

    def mend(self) -> None:
        """Cut off what was not written to its end."""
        if self.path.stat().st_size > self._end:
            os.truncate(self.path, self._end)

    def add(self, key: Key, entry: Entry) -> None:
        """A line more."""
        line = self._line(
            {"key": list(key), "shape": list(entry.shape), "dtype": entry.dtype,
             "sum": entry.checksum}
        )  # fmt: skip
        with open(self.path, "ab") as file:
            file.write(line)
        self._remember(key, *entry)

    def _remember(self, key: Key, shape: Any, dtype: str, checksum: str | None) -> None:
        shape, same = tuple(shape), self._known.setdefault
        self.entries[key] = Entry(same(shape, shape), same(dtype, dtype), checksum)

    def _line(self, found: dict[str, Any]) -> bytes:
        return (json.dumps({**found, _SEAL: self._seal(found)}) + "\n").encode()

    def _seal(self, found: dict[str, Any]) -> str:
        text = json.dumps([self.title, found])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
