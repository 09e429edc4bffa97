"""A directory is written by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
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

    _file: int | None = None

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "this is no directory", str(folder)) from None
        try:
            self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
            self._take(folder)
            with contextlib.suppress(OSError):  # of a disk that is full tiles will tell
                os.ftruncate(self._file, 0)
                os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BaseException:  # an interrupt, too: who keeps its traceback would keep the lock
            self.release()
            raise

    def _take(self, folder: Path) -> None:
        assert self._file is not None
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 200).decode(errors="replace").strip()
            raise BlockingIOError(
                errno.EWOULDBLOCK,
                f"the directory is in use by {holder or 'another process'}; wait for it, or give "
                "another workdir",
                str(folder),
            ) from None
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise

    def release(self) -> None:
        """Let others have it. May be called again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.release()
