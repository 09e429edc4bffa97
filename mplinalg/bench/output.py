"""Files that appear whole or not at all, and that replace nothing unless told to."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["check_output", "replacing"]

# What a file system without hard links answers to link(2).
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV}


def check_output(path: str | os.PathLike[str], force: bool = False) -> str:
    """Make sure that `path` can be written before any work is spent on its content.

    Parameters
    ----------
    path : str or path-like
    force : bool
        Whether an existing file may be replaced.

    Returns
    -------
    str
        The file to write: `path` with symbolic links followed.

    Raises
    ------
    ValueError
        If the folder is missing or cannot be written, if `path` is not a regular file, or if it
        exists and `force` is False.
    """
    name = os.fspath(path)
    target = os.path.realpath(name)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise ValueError(f"{name}: cannot be written, the folder {folder} does not exist")
    if os.path.isdir(target):
        raise ValueError(f"{name}: cannot be written, it is a folder")
    if os.path.exists(target):
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise ValueError(f"{name}: cannot be written, it is not a regular file")
        if not force:
            raise ValueError(_kept(name))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{name}: cannot be written, no permission to write in {folder}")
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], force: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place when the block ends well.

    Parameters
    ----------
    path : str or path-like
    force : bool
        Replace an existing file, keeping its permissions.  Without it an existing file is kept,
        even one that appears while the block runs.

    Yields
    ------
    binary file
        Open for writing.  If the block raises, the file is removed and `path` is untouched.

    Raises
    ------
    ValueError
        As `check_output`.
    OSError
        If the disk is full or fails.
    """
    target = check_output(path, force)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:40]}.{secrets.token_hex(8)}.tmp")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    # 0o666 less the umask, as any program's new file; mkstemp would make it private.
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            os.replace(temporary, target)
        else:
            _move_if_absent(temporary, target, os.fspath(path))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_folder(folder)


def _move_if_absent(temporary: str, target: str, name: str) -> None:
    """Give `temporary` the name `target`, which must be free at that very moment."""
    try:
        os.link(temporary, target)  # fails, atomically, where the name is taken
        return
    except FileExistsError:
        raise ValueError(_kept(name)) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    # No hard links here: claim the name with an empty file of our own, then replace that.
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        raise ValueError(_kept(name)) from None
    try:
        os.replace(temporary, target)
    except BaseException:
        os.unlink(target)
        raise


def _sync_folder(folder: str) -> None:
    """Make the new name itself survive a power failure, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _kept(name: str) -> str:
    return f"{name}: exists already and is kept; use --force to replace it"
