"""How fast the device is: what the ladder's cost model is made of.

Built-in defaults serve until `mplinalg info` (or `measure`) has timed this machine; the result is
kept in the user's cache directory, one file a device.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..precision import FORMATS
from .protocol import Ops

_ORDER = 768
_COPIED = 4_000_000
_REPEATS = 3


@dataclass(frozen=True)
class Rates:
    """Flops per second of a square product in each format, and bytes per second of a copy."""

    gemm: dict[str, float]
    copy: float
    is_measured: bool = False


DEFAULTS = {
    "numpy": Rates(
        {"fp16": 3e10, "bf16": 3e10, "tf32": 3e10, "fp16x2": 1e10, "fp32": 8e10, "fp64": 4e10}, 1e10
    ),
    # a guess between datasheets and what products of some thousands reach; not measured
    "cupy": Rates(
        {"fp16": 4e14, "bf16": 4e14, "tf32": 2e14, "fp16x2": 1.5e14, "fp32": 4e13, "fp64": 4e13},
        3e12,
    ),
}
"""Of one core of a laptop, and of one GPU of a data centre; only ratios matter much."""


def cache_path(ops: Ops) -> Path:
    """Where the measured rates of this device are kept."""
    root = os.environ.get("MPLINALG_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mplinalg"
    )
    return Path(root) / f"rates-{ops.name}-{ops.device}.json"


@functools.cache
def _load(path: Path) -> Rates | None:
    try:
        data = json.loads(path.read_text())
        rates = Rates({k: float(v) for k, v in data["gemm"].items()}, float(data["copy"]), True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    usable = set(rates.gemm) >= set(FORMATS) and min(*rates.gemm.values(), rates.copy) > 0
    return rates if usable else None


def known(ops: Ops) -> Rates:
    """The measured rates of this device if there are any, else the defaults."""
    return _load(cache_path(ops)) or DEFAULTS.get(ops.name, DEFAULTS["numpy"])


def measure(ops: Ops, *, save: bool = True) -> Rates:
    """Time a product in each format and a copy (well under a second), and keep the result.

    Returns
    -------
    Rates
        Flops per second by the classical count 2 n^3, and bytes per second (read plus written).
    """
    xp, n = ops.xp, max(_ORDER, 2 * ops.refines_from)
    gemm = {}
    for fmt in FORMATS.values():
        a = xp.full((n, n), 0.5, dtype=fmt.dtype("f"), order="F")
        product = functools.partial(ops.gemm, 1.0, a, a, 0.0, xp.zeros_like(a), compute=fmt)
        gemm[fmt.name] = 2.0 * n**3 / _best(ops, product)
    source = xp.zeros(max(_COPIED, n * n))
    seconds = _best(ops, functools.partial(xp.copyto, xp.ones_like(source), source))
    rates = Rates(gemm, 2.0 * source.nbytes / seconds, True)
    if save:
        _save(cache_path(ops), rates)
    return rates


def _best(ops: Ops, work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs, after one that is not counted."""
    work()
    times = []
    for _ in range(_REPEATS):
        ops.synchronize()
        began = time.perf_counter()
        work()
        ops.synchronize()
        times.append(time.perf_counter() - began)
    return max(min(times), 1e-9)


def _save(path: Path, rates: Rates) -> None:
    """Write and rename; a cache that cannot be written is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"gemm": rates.gemm, "copy": rates.copy}))
        temporary.replace(path)
        _load.cache_clear()
