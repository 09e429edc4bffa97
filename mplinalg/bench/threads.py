"""Threads of a measurement: BLAS pools pinned to a number, and what they were pinned to."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["available", "parse_threads", "pinned", "pools"]


def available() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def parse_threads(text: str) -> int:
    """The number that ``--threads`` asks for.

    Raises
    ------
    ValueError
        If it is neither "all" nor a number from 1 to what is available.
    """
    most = available()
    if text == "all":
        return most
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ValueError(f"threads must be 'all' or a number from 1 to {most}, got {text!r}")
    return int(text)


@contextlib.contextmanager
def pinned(threads: int, *, numpy_too: bool) -> Iterator[None]:
    """Every BLAS and OpenMP pool, and Numba's, limited to `threads` while the block runs.

    The wheels of NumPy and SciPy carry a BLAS each, whose waiting threads spin and disturb the
    other's. mplinalg computes with SciPy's; unless `numpy_too`, NumPy's own gets one thread.
    SciPy and Numba are loaded first. A pool that any other library brings along while the block
    runs is not limited.
    """
    import numba
    import scipy.linalg  # noqa: F401  (so that its BLAS is among the pools)
    import threadpoolctl

    numba_before = numba.get_num_threads()  # starts its pool, which may load OpenMP
    libraries = threadpoolctl.ThreadpoolController().lib_controllers
    before = [(library, library.num_threads) for library in libraries]
    try:
        for library in libraries:
            is_numpys = "numpy.libs" in str(library.filepath)
            library.set_num_threads(threads if numpy_too or not is_numpys else 1)
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        yield
    finally:
        for library, count in before:
            library.set_num_threads(count)
        numba.set_num_threads(numba_before)


def pools() -> list[dict[str, Any]]:
    """Thread pools as they are now: library, version, architecture, number of threads."""
    import threadpoolctl

    keys = ("user_api", "internal_api", "version", "architecture", "num_threads")
    found = []
    for pool in threadpoolctl.threadpool_info():
        path = str(pool.get("filepath"))
        owner = next((name for name in ("numpy", "scipy") if f"{name}.libs" in path), None)
        found.append({key: pool.get(key) for key in keys} | {"owner": owner})
    numba = sys.modules.get("numba")
    if numba:
        threads = numba.get_num_threads()
        found.append({"user_api": "numba", "version": numba.__version__, "num_threads": threads})
    return found
