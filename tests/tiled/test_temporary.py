"""Temporary files: nothing is left of them."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from mplinalg.tiled.temporary import TemporaryStore

KEY = ("LU", 1, 0)


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


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_a_temporary_store_leaves_nothing_if_interrupted(tmp_path, monkeypatch, error):
    """An OSError would pass for one of the system."""
    store = TemporaryStore(str(tmp_path))
    store.write(KEY, np.ones(3), is_result=True)
    remove, calls = os.rmdir, []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            raise error
        remove(*args, **options)

    monkeypatch.setattr(os, "rmdir", interrupted)
    with pytest.raises(error) if error is KeyboardInterrupt else contextlib.nullcontext():
        store.close()
    assert not list(tmp_path.iterdir())


def test_what_is_left_of_a_temporary_store_goes_with_the_next(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TemporaryStore, "close", lambda self: None)
        patch.setattr(TemporaryStore, "__del__", lambda self: None)
        TemporaryStore(str(tmp_path)).write(KEY, np.ones(3), is_result=True)
    kept = TemporaryStore(str(tmp_path))
    other = TemporaryStore(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    kept.close()
    other.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX")
def test_what_is_left_of_a_temporary_store_goes_with_the_process(tmp_path):
    """And with no other: a forked one has a copy of the store."""
    code = """
        import os, sys
        import numpy as np
        from mplinalg.tiled.temporary import TemporaryStore
        store = TemporaryStore(sys.argv[1])
        store.write(("LU", 1, 0), np.ones(3), is_result=True)
        child = os.fork()
        if not child:
            store.close()
            del store
            sys.exit()
        os.waitpid(child, 0)
        assert store.read(("LU", 1, 0)).sum() == 3
        kept, TemporaryStore.__del__ = store, lambda self: None
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True, timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_copy_removes_nothing(tmp_path):
    store = TemporaryStore(str(tmp_path))
    store.write(KEY, np.ones(3), is_result=True)
    found = copy.deepcopy(copy.deepcopy(store))
    assert found.read(KEY).sum() == 3
    found.close()
    del found
    assert store.read(KEY).sum() == 3
