"""What a measurement was made on: machine, versions, commit."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

import mplinalg
from mplinalg.bench import threads
from mplinalg.config import environment

__all__ = ["checkout", "commit", "load_average", "machine"]

_VECTORS = [
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512dq", "avx512bw",
    "avx512vl", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "asimd", "asimdhp", "sve",
    "sve2",
]  # fmt: skip


@functools.cache
def checkout() -> Path | None:
    """The folder of the checkout that mplinalg is imported from; None if it is installed."""
    root = Path(mplinalg.__file__).resolve().parents[1]
    is_checkout = (root / "pyproject.toml").is_file() and (root / "benchmarks").is_dir()
    return root if is_checkout else None


def commit() -> dict[str, Any] | None:
    """``{"describe": ..., "dirty": ...}`` of the checkout; None outside one.

    `dirty` says that the package or its suites differ from the commit; results and pages may.
    """
    root = checkout()
    if root is None:
        return None
    top = _git(root, "rev-parse", "--show-toplevel")
    # a folder unpacked inside somebody else's repository has no commit of its own
    if top is None or Path(top).resolve() != root:
        return None
    describe = _git(root, "describe", "--always", "--tags", "--abbrev=12")
    changes = _git(root, "status", "--porcelain", "--", "mplinalg", "benchmarks/*.py")
    if describe is None or changes is None:
        return None
    return {"describe": describe, "dirty": bool(changes)}


def machine() -> dict[str, Any]:
    """Processor, memory, system, versions of what takes part, and rates of the ladder's model.

    The ladder chooses by rates that were measured on this machine, or else by assumed ones.
    """
    found = environment(measure=False)
    rates = found["rates"]
    flags = _cpu_flags()
    return {
        "processor": found["processor"],
        "cores": threads.available(),
        "vector_flags": [name for name in _VECTORS if name in flags],
        "memory_bytes": _memory(),
        "platform": found["platform"],
        "cost_model": {
            "rates": "measured" if rates["measured"] else "assumed",
            "gemm_gflops": {name: r / 1e9 for name, r in rates["gemm_flops_per_second"].items()},
            "copy_gbytes_per_second": rates["copy_bytes_per_second"] / 1e9,
        },
        "versions": {
            "python": found["python"],
            "mplinalg": found["mplinalg"],
            **{name: found["packages"][name] for name in ("numpy", "scipy", "numba")},
        },
    }


def load_average() -> float | None:
    """Processes that wanted to run, on average over the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86, ARM
            return set(value.split())
    return set()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
