"""Tiles in temporary files, which are removed whatever happens to the run."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
import weakref
from typing import Any

from ..interrupts import surely
from .store import DirectoryStore

__all__ = ["TemporaryStore"]


class TemporaryStore(DirectoryStore):
    """A directory that is removed when nobody needs it any more, without checksums."""

    def __init__(self, folder: str | None = None) -> None:
        _remove_folders(of_all=False)
        name = f"mplinalg-tiles-{secrets.token_hex(8)}"
        self._folder = os.path.join(folder or tempfile.gettempdir(), name)
        _folders[self._folder] = weakref.ref(self)  # first: nothing is left by an interrupt
        os.mkdir(self._folder, 0o700)
        super().__init__(self._folder, {}, resume=False, is_checked=False)
        self.release()  # nobody else knows the directory

    def _left(self) -> str:
        return "temporary files need more room, or a workdir elsewhere"

    def close(self) -> None:
        """Remove it, even if interrupted; not if it belongs to another process."""
        interrupt = surely(self._remove)
        if interrupt is not None:
            raise interrupt

    def _remove(self) -> None:
        tries = 3  # what a handler of a signal raises may pass for an error of the system
        while tries and self._folder in _folders:
            tries -= 1
            shutil.rmtree(self._folder, ignore_errors=True)
            if not os.path.lexists(self._folder):
                _folders.pop(self._folder, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_folder": ""}  # copies do not remove it

    def __del__(self) -> None:
        if hasattr(self, "_folder"):
            self.close()


_folders: dict[str, weakref.ref[TemporaryStore]] = {}
"""Of temporary stores of this process. What an interrupt has left goes later."""


@atexit.register
def _remove_folders(*, of_all: bool = True) -> None:
    """Those of stores that are no more, or all."""
    for folder, store in list(_folders.items()):
        if of_all or store() is None:
            shutil.rmtree(folder, ignore_errors=True)
            _folders.pop(folder, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_folders.clear)
