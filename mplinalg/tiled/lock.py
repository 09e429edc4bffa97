"""A directory is written by one process at a time."""

from __future__ import annotations

import errno
import io
import os
import socket
import weakref
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # not on this system: nothing is locked
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "DirectoryLock"]

LOCK = "mplinalg.lock"
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_UNKNOWN = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
"""Errors of file systems that know no locks."""


class DirectoryLock:
    """Held from now on until it is released, or until the process ends, killed or not.

    It is the operating system's lock of a file, so that nothing is left behind by a process that
    was killed. The file tells who holds it, and stays.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Raises
    ------
    NotADirectoryError
        It is a file.
    BlockingIOError
        Another process, or another run of this one, holds it.
    """

    _file: io.FileIO | None = None

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "this is no directory", str(folder)) from None
        _locks.add(self)
        try:
            self._file = io.FileIO(folder / LOCK, "r+", opener=_opened)
            self._take(self._file, folder)
            self._name_holder(self._file)
        except BaseException:  # an interrupt, too: who keeps its traceback would keep the lock
            self.release()
            raise

    @staticmethod
    def _take(file: io.FileIO, folder: Path) -> None:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = (file.read(200) or b"").decode(errors="replace").strip()
            raise BlockingIOError(
                errno.EWOULDBLOCK,
                f"the directory is in use by {holder or 'another process'}; wait for it, or give "
                "another workdir",
                str(folder),
            ) from None
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise

    @staticmethod
    def _name_holder(file: io.FileIO) -> None:
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except OSError as error:  # of a disk that is full tiles will tell
            if error.errno is None:  # a handler's TimeoutError
                raise

    def release(self) -> None:
        """Let others have it. May be called again: a number of a file is given up once."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.release()


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | _NO_LINK, 0o666)


_locks: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _forget() -> None:
    """In a forked child: with its copies of the files it would hold what its parent gives up."""
    for lock in list(_locks):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
