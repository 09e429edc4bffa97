"""How much memory a solve of a matrix in a file takes, measured in a process of its own.

In the process that measures, pages that earlier calls have freed would be taken again and not be
seen. Linux tells resident memory and the most of it; elsewhere there is no answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

__all__ = ["growth"]

_WARM = 300
"""Order of the system that is solved first, so that libraries and kernels are loaded."""


def growth(matrix: str, rhs: str, limit: int, threads: int) -> int | None:
    """Bytes by which resident memory grows at most during ``tiled.solve`` of two .npy files.

    Parameters
    ----------
    matrix, rhs : str
        Files of A and b.
    limit : int
        Bytes of ``memory_limit``.
    threads : int
        Of BLAS and Numba.

    Returns
    -------
    int or None
        None where the system does not tell.

    Raises
    ------
    RuntimeError
        If the process fails.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, "-m", __name__, matrix, rhs, str(limit), str(threads)]
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}: {done.stderr.strip()[-500:]}")
    return int(done.stdout)


def _measured(matrix: str, rhs: str, limit: int, threads: int) -> int:
    """What `growth` returns, of this process."""
    from mplinalg import tiled
    from mplinalg.bench.threads import pinned

    b = np.load(rhs)
    with pinned(threads, numpy_too=False):
        with tempfile.TemporaryDirectory() as folder:
            small = str(Path(folder) / "a.npy")
            np.save(small, np.random.default_rng(0).standard_normal((_WARM, _WARM)))
            tiled.solve(np.load(small, mmap_mode="r"), b[:1].repeat(_WARM), memory_limit="1 MB")
        a = np.load(matrix, mmap_mode="r")
        Path("/proc/self/clear_refs").write_text("5")  # the most so far is what it is now
        before = _status("VmHWM:")
        tiled.solve(a, b, memory_limit=limit)
        return _status("VmHWM:") - before


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    _, _matrix, _rhs, _limit, _threads = sys.argv
    print(_measured(_matrix, _rhs, int(_limit), int(_threads)))
