"""What this machine and installation are: `show_config`, and the record of a measurement."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from typing import Any

from .ops import Ops, rates
from .ops.numpy_ops import NumpyOps

__all__ = ["environment", "show_config"]

_PACKAGES = ("numpy", "scipy", "numba", "threadpoolctl", "cupy", "dask", "mpi4py", "matplotlib")


def _version(package: str) -> str | None:
    names = (package,) if package != "cupy" else ("cupy-cuda13x", "cupy-cuda12x", "cupy")
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def environment(*, measure: bool = True) -> dict[str, Any]:
    """Versions, BLAS, threads, devices and rates of this process.

    Parameters
    ----------
    measure : bool
        Time products and a copy; otherwise report the rates known already.

    Returns
    -------
    dict
        Plain data, ready for `json.dumps`. Rates in flops per second and bytes per second.
    """
    import scipy.linalg  # noqa: F401  (so that its BLAS is among the pools)
    import threadpoolctl

    from . import __version__

    ops = NumpyOps()
    blas = [
        {key: pool.get(key) for key in ("internal_api", "version", "num_threads", "architecture")}
        for pool in threadpoolctl.threadpool_info()
        if pool.get("user_api") == "blas" and "scipy.libs" in str(pool.get("filepath"))
    ] or [
        {key: pool.get(key) for key in ("internal_api", "version", "num_threads", "architecture")}
        for pool in threadpoolctl.threadpool_info()
        if pool.get("user_api") == "blas"
    ]
    return {
        "mplinalg": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": _cores(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "blas": blas,
        "gpu": _gpus(measure),
        "rates": _rates(ops, measure),
    }


def _rates(ops: Ops, measure: bool) -> dict[str, Any]:
    table = rates.measure(ops) if measure else rates.known(ops)
    return {
        "gemm_flops_per_second": table.gemm,
        "copy_bytes_per_second": table.copy,
        "measured": table.is_measured,
        "cache": str(rates.cache_path(ops)),
    }


def _gpus(measure: bool) -> list[dict[str, Any]] | str:
    """The devices that CuPy sees, or why there are none."""
    if importlib.util.find_spec("cupy") is None:
        return "none: CuPy is not installed (pip install 'mplinalg[cuda13]' or 'mplinalg[cuda12]')"
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # what a missing driver raises depends on what is missing
        return f"none: {error}"
    from .ops.cupy_ops import CupyOps

    found = []
    for number in range(count):
        with cupy.cuda.Device(number) as device:
            ops = CupyOps()
            name, memory = ops.device, device.mem_info[1]
            found.append({"device": name, "memory_bytes": memory, "rates": _rates(ops, measure)})
    return found


def show_config(mode: str = "stdout", *, measure: bool = True) -> dict[str, Any] | None:
    """Print versions, BLAS, threads, GPU and measured rates.

    Parameters
    ----------
    mode : {"stdout", "dicts", "json"}
        Print a table, return a dict, or print JSON.
    measure : bool
        Time this machine (under two seconds) and keep the result for the ladder's cost model.

    Returns
    -------
    dict or None
        The data, for ``mode="dicts"``.

    Raises
    ------
    ValueError
        For any other `mode`.

    Examples
    --------
    >>> import mplinalg
    >>> sorted(mplinalg.show_config("dicts", measure=False))[:3]
    ['blas', 'cores', 'gpu']
    """
    if mode not in ("stdout", "dicts", "json"):
        raise ValueError(f"mode must be 'stdout', 'dicts' or 'json'; got {mode!r}")
    data = environment(measure=measure)
    if mode == "dicts":
        return data
    if mode == "json":
        print(json.dumps(data, indent=2))
        return None
    print(_table(data))
    return None


def _table(data: dict[str, Any]) -> str:
    rows = [(key, str(data[key])) for key in ("mplinalg", "python", "platform", "processor")]
    rows.append(("cores", str(data["cores"])))
    rows += [(name, version or "not installed") for name, version in data["packages"].items()]
    for pool in data["blas"]:
        text = f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
        rows.append(("BLAS", text))
    rows += _rate_rows("", data["rates"])
    if isinstance(data["gpu"], str):
        rows.append(("GPU", data["gpu"]))
    else:
        for number, gpu in enumerate(data["gpu"]):
            memory = f"{gpu['memory_bytes'] / 2**30:.0f} GiB"
            rows.append((f"GPU {number}", f"{gpu['device']}, {memory}"))
            rows += _rate_rows(f"GPU {number} ", gpu["rates"])
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _rate_rows(prefix: str, table: dict[str, Any]) -> list[tuple[str, str]]:
    origin = "measured" if table["measured"] else "built-in defaults"
    rows = [
        (f"{prefix}gemm {name}", f"{rate / 1e9:.1f} GFLOP/s ({origin})")
        for name, rate in table["gemm_flops_per_second"].items()
    ]
    copied = f"{table['copy_bytes_per_second'] / 1e9:.1f} GB/s ({origin})"
    return [*rows, (f"{prefix}copy", copied)]
