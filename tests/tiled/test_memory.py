"""Resident memory, measured, keeps the limit; and memory that is given back."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mplinalg.ops.dispatch import ops_on
from mplinalg.tiled import heap, passes

SCRIPT = """
    from pathlib import Path
    import numpy as np
    from mplinalg import tiled
    from mplinalg.bench.resident import _status

    def free(size):
        np.ones(size)

    a = np.random.default_rng(0).standard_normal((5000, 1000))
    tiled.{first}
    free(2**22 - 1000)  # 32 MB: of what is smaller, the allocator keeps as much and more
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmHWM:")
    tiled.{call}
    print(_status("VmHWM:") - before)
"""
LIMIT = 24 * 2**20
CALLS = {
    "qr": ("qr(a[:300, :100], tile=32)", f"qr(a, memory_limit={LIMIT})"),
    "qr of many tiles": (
        "qr(a[:300, :2], tile=2)",
        f"qr(a.reshape(-1, 4)[:32_000], tile=4, memory_limit={LIMIT})",
    ),
    "gemm": ("gemm(a[:99, :99], a[:99, :99])", f"gemm(a, a[:1000], memory_limit={LIMIT})"),
}
SLACK = 2 * heap._SLACK + 2**22  # and the packed operands of BLAS


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells")
@pytest.mark.parametrize("name", CALLS)
def test_resident_memory_keeps_the_limit(name, tmp_path):
    """Also in a process whose allocator has learnt to keep what is freed."""
    script = tmp_path / "run.py"
    first, call = CALLS[name]
    script.write_text(textwrap.dedent(SCRIPT.format(first=first, call=call)))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert int(done.stdout) <= LIMIT + SLACK


def test_pages_of_their_own():
    for shape, dtype in (((300, 400), "f8"), ((3, 4), "f4"), ((0, 5), "f8"), ((2**16,), "u1")):
        found = heap.empty(shape, np.dtype(dtype))
        found[...] = 7
        assert (found.shape, found.dtype) == (shape, dtype)
        assert np.all(found == 7)
        assert found.flags.c_contiguous
        assert found.flags.writeable


def test_memory_is_given_back_when_it_is_too_much(monkeypatch):
    resident = [10**9]
    monkeypatch.setattr(heap, "resident_bytes", lambda: resident[0])
    trimmed = []
    monkeypatch.setattr(heap, "_trim", lambda: trimmed.append)
    small = heap.Heap(1000)
    assert not trimmed, "small runs cannot leave much"
    watched = heap.Heap(10**8)
    assert len(trimmed) == watched.trims == 1
    for _ in range(100):  # within the limit
        resident[0] += 10**6
        watched.grow(10**6)
    assert watched.trims == 1
    resident[0] += 2 * heap._SLACK
    watched.grow(10**8)
    assert watched.trims == 2
    watched.grow(10**6)  # not again for each tile, if that did not help
    assert watched.trims == 2
    assert small.trims == 0


def test_pages_are_used_again_only_when_nobody_needs_them():
    heap.Heap(0).close()
    shape, dtype = (512, 256), np.dtype(np.float64)
    first = heap.empty(shape, dtype)
    line = first.T[3]  # a view of a view
    line[:] = 7.0
    place = first.ctypes.data
    del first
    others = [heap.empty(shape, dtype) for _ in range(3)]
    for other in others:
        other[...] = 1.0
    assert np.all(line == 7.0)
    assert place not in {other.ctypes.data for other in others}
    del line
    again = heap.empty(shape, dtype)
    assert again.ctypes.data == place
    assert heap.empty(shape, dtype).ctypes.data != place


def test_unused_pages_are_few_and_go_when_a_run_ends():
    heap.Heap(0).close()
    pages = heap._pages
    for count in (2**20, 2**21, 3 * 2**20, 2**25):
        made = [heap.empty((count,), np.dtype(np.uint8)) for _ in range(12)]
        del made
        assert pages._bytes == sum(size * len(unused) for size, unused in pages._unused.items())
        assert pages._bytes <= 2**24
    assert pages._bytes > 2**23
    heap.Heap(0).close()
    assert pages._bytes == 0
    assert not pages._unused


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64", "complex128"])
@pytest.mark.parametrize("shape", [(400, 3000), (1, 100_000), (9, 50_000), (300_000, 1)])
def test_checksums_take_what_is_counted(dtype, shape):
    a, ops = np.ones(shape, dtype), ops_on("cpu")
    passes.checksums(ops, (a,), ())
    tracemalloc.start()
    passes.checksums(ops, (a,), ())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    counted = passes.checksum_bytes(*shape, a.dtype) + 8 * shape[0]
    buffers = 2**17  # in which NumPy converts
    assert 0.5 * counted - buffers <= most <= counted + buffers
