"""The lock of a directory: held by one run at a time, and given up whatever happens."""

from __future__ import annotations

import io
import os

import pytest

from mplinalg.tiled.lock import DirectoryLock
from mplinalg.tiled.running import run_rest
from mplinalg.tiled.store import DirectoryStore
from mplinalg.tiled.tasks import Program
from mplinalg.tiled.traffic import Traffic

TITLE = {"contents": "a test", "tile": [2, 2]}


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links of POSIX")
def test_a_lock_is_no_link(tmp_path):
    (tmp_path / "f").write_text("mine")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mplinalg.lock").symlink_to(tmp_path / "f")
    with pytest.raises(OSError, match=r"[Ll]inks"):
        DirectoryStore(tmp_path / "d", TITLE, resume=False)
    assert (tmp_path / "f").read_text() == "mine"


def interrupting(name):
    """Files whose method `name` is interrupted, once, when it has done its work."""

    class File(io.FileIO):
        is_left = True

        def __getattribute__(self, wanted):
            found = super().__getattribute__(wanted)
            if wanted != name or not File.is_left:
                return found

            def once(*args):
                File.is_left = False
                found(*args)
                raise KeyboardInterrupt

            return once

    return File


@pytest.mark.parametrize("name", ["fileno", "truncate", "write"])
def test_an_interrupt_leaves_no_lock(tmp_path, monkeypatch, name):
    """Also while its traceback is kept, as at a prompt."""
    with monkeypatch.context() as patch:
        patch.setattr("mplinalg.tiled.lock.io.FileIO", interrupting(name))
        if name == "fileno":  # of the call of the system, which asks for it in C
            patch.setattr(DirectoryLock, "_take", lambda self, file, folder: file.fileno())
        with pytest.raises(KeyboardInterrupt) as kept:
            DirectoryStore(tmp_path, TITLE, resume=False)
    DirectoryStore(tmp_path, TITLE, resume=False).release()
    assert kept.tb is not None


def test_an_interrupted_release_closes_no_file_of_others(tmp_path, monkeypatch):
    """The number of a file that was closed belongs to the next one."""
    with monkeypatch.context() as patch:
        patch.setattr("mplinalg.tiled.lock.io.FileIO", interrupting("close"))
        lock = DirectoryLock(tmp_path)
        number = lock._file.fileno()
        with pytest.raises(KeyboardInterrupt):
            lock.release()
        with open(tmp_path / "log", "w") as log:
            assert log.fileno() == number
            lock.release()
            del lock
            log.write("mine")
    assert (tmp_path / "log").read_text() == "mine"


def test_an_interrupt_before_the_run_leaves_no_lock(tmp_path, monkeypatch):
    """Also while its traceback is kept."""
    store = DirectoryStore(tmp_path, TITLE, resume=False)

    def late(*args):
        raise TimeoutError

    monkeypatch.setattr(Program, "without", late)
    with pytest.raises(TimeoutError) as kept:
        run_rest(None, Program(), None, store, Traffic(), None, "")
    DirectoryStore(tmp_path, TITLE, resume=True).release()
    assert kept.tb is not None


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(NotADirectoryError, match="this is no directory"):
        DirectoryStore(tmp_path / "f", TITLE, resume=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX")
def test_a_forked_child_holds_no_lock(tmp_path):
    lock, (here, there), (is_up, up) = DirectoryLock(tmp_path), os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(there)
        os.write(up, b"1")
        os.read(here, 1)  # until its parent has seen that the lock is free, or has ended
        os._exit(0)
    try:
        os.read(is_up, 1)
        with pytest.raises(BlockingIOError):
            DirectoryLock(tmp_path)
        lock.release()
        DirectoryLock(tmp_path).release()
    finally:
        os.close(there)
        os.waitpid(child, 0)
        for end in (here, is_up, up):
            os.close(end)
