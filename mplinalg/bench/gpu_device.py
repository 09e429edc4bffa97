"""One GPU as a run sees it: its clock, ceilings, energy and memory, and what it is.

CuPy is imported when a GPU is asked for, never before.
"""

from __future__ import annotations

import csv
import gc
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mplinalg.bench import flops
from mplinalg.bench.ceilings import Ceilings, best
from mplinalg.bench.records import Record
from mplinalg.bench.timing import Clock, interleave
from mplinalg.ops.energy import Nvml

__all__ = ["Cuda", "DeviceCeilings", "EventClock", "timed"]

ORDER = 8192
"""Of the products that make ceilings."""
COPIED = 2**27
"""Numbers of 8 bytes that are copied: 1 GiB, far more than caches hold."""
_LASTING = ("driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem")
_PASSING = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")
_SMI_SECONDS = 20


class EventClock:
    """Seconds of the device: a reading is an event on the current stream, which is waited for.

    An event tells the milliseconds since another one in single precision, so readings add up the
    time from one to the next.
    """

    def __init__(self) -> None:
        self._seconds, self._last = 0.0, self._event()

    def __call__(self) -> float:
        import cupy

        event = self._event()
        self._seconds += 1e-3 * float(cupy.cuda.get_elapsed_time(self._last, event))
        self._last = event
        return self._seconds

    @staticmethod
    def _event() -> Any:
        import cupy

        event = cupy.cuda.Event()
        event.record()
        event.synchronize()
        return event


class DeviceCeilings(Ceilings):
    """Rates of a GPU, by CuPy's products of order 8192 and its copy, measured when asked for."""

    def of(self, dtype: DTypeLike) -> tuple[float, ...]:
        """As of `Ceilings`, and last that of half precision, real."""
        return (*super().of(dtype), self.gemm("float16"))

    def gemm(self, dtype: DTypeLike) -> float:
        """Flops per second of C = A B; sums of half-precision products are in single."""
        name = np.dtype(dtype).name
        return self._recent(name, lambda: _gemm_rate(name))

    def copy(self) -> float:
        """Bytes per second, those read and those written together."""
        return self._recent("copy", _copy_rate)


def _gemm_rate(name: str) -> float:
    import cupy

    a = cupy.full((ORDER, ORDER), 0.5, dtype=name)
    c = cupy.empty_like(a)
    seconds = best(lambda: cupy.matmul(a, a, out=c), EventClock())
    return flops.gemm(ORDER, name) / seconds


def _copy_rate() -> float:
    import cupy

    source = cupy.zeros(COPIED)
    target = cupy.empty_like(source)
    return 2.0 * source.nbytes / best(lambda: cupy.copyto(target, source), EventClock())


def timed(work: Callable[[], object], rounds: int = 5) -> float:
    """Median seconds of a call, after one that is not counted."""
    work()
    return interleave({"": work}, rounds, clock=EventClock())[""].statistics.median


class Cuda:
    """A GPU, made the current one.

    Parameters
    ----------
    device : str
        ``cuda`` for the first one, or ``cuda:1``.

    Raises
    ------
    ValueError
        If there is no CuPy, no driver, or no such device.
    """

    def __init__(self, device: str = "cuda") -> None:
        kind, _, number = device.partition(":")
        if kind != "cuda":
            raise ValueError(f"no GPU to measure: the device is {device!r}")
        self.index = int(number or 0)
        self.name = f"cuda:{self.index}"
        self._cupy = _cupy_with(self.index)
        self._cupy.cuda.Device(self.index).use()
        self._bus = str(self._cupy.cuda.Device(self.index).pci_bus_id)
        self.clock: Clock = EventClock()

    def ceilings(self) -> Ceilings:
        """Those of this GPU."""
        return DeviceCeilings()

    def meter(self) -> Nvml:
        """Its energy counter."""
        return Nvml(self._bus)

    def facts(self) -> Record:
        """Under "gpu": name, memory, multiprocessors, limits, and versions of what drives it."""
        runtime = self._cupy.cuda.runtime
        known: Mapping[str, Any] = runtime.getDeviceProperties(self.index)
        smi = _smi(self._bus, _LASTING)
        name = known["name"]
        return {
            "gpu": {
                "name": name.decode() if isinstance(name, bytes) else name,
                "compute_capability": f"{known['major']}.{known['minor']}",
                "multiprocessors": known["multiProcessorCount"],
                "memory_bytes": known["totalGlobalMem"],
                "l2_bytes": known.get("l2CacheSize"),
                "pci_bus": self._bus,
                "driver": smi["driver_version"],
                "power_limit_watts": _number(smi["power.limit"]),
                "most_sm_megahertz": _number(smi["clocks.max.sm"]),
                "most_memory_megahertz": _number(smi["clocks.max.mem"]),
                "cuda": _version(runtime.runtimeGetVersion()),
                "cuda_of_driver": _version(runtime.driverGetVersion()),
                "cupy": self._cupy.__version__,
                "torch": _torch_version(),
            }
        }

    def state(self) -> Record:
        """Under "gpu_state": clocks, power and temperature now, and memory that is free."""
        smi = _smi(self._bus, _PASSING)
        free, _ = self._cupy.cuda.runtime.memGetInfo()
        return {
            "gpu_state": {
                "sm_megahertz": _number(smi["clocks.sm"]),
                "memory_megahertz": _number(smi["clocks.mem"]),
                "watts": _number(smi["power.draw"]),
                "celsius": _number(smi["temperature.gpu"]),
                "free_bytes": free,
            }
        }

    def release(self) -> None:
        """Give the memory of CuPy's pool, and of PyTorch's, back to the device."""
        import sys

        gc.collect()
        self._cupy.get_default_memory_pool().free_all_blocks()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def is_lost(self) -> bool:
        """Whether a kernel has done what no other one may follow in this process."""
        try:
            self._cupy.cuda.runtime.deviceSynchronize()
        except Exception:  # as in `_cupy_with`
            return True
        return False


def _cupy_with(index: int) -> Any:
    """CuPy, if it has a device of that number."""
    try:
        import cupy
    except ImportError as error:
        raise ValueError(f"no GPU to measure: CuPy cannot be imported ({error})") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's class of errors is not there without a driver
        raise ValueError(f"no GPU to measure: {error}") from None
    if not 0 <= index < count:
        raise ValueError(f"no GPU to measure: cuda:{index} was asked for, {count} found")
    return cupy


def _smi(bus: str, fields: tuple[str, ...]) -> dict[str, str | None]:
    """What nvidia-smi says of a GPU; None where it does not know, or is not there."""
    nothing: dict[str, str | None] = dict.fromkeys(fields)
    program = shutil.which("nvidia-smi")
    if program is None:
        return nothing
    query = [program, f"--id={bus}", f"--query-gpu={','.join(fields)}"]
    try:
        done = subprocess.run(
            [*query, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=_SMI_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return nothing
    rows = list(csv.reader(done.stdout.splitlines(), skipinitialspace=True))
    if done.returncode != 0 or len(rows) != 1 or len(rows[0]) != len(fields):
        return nothing
    values = zip(fields, rows[0], strict=True)
    return {key: None if value.startswith("[") else value for key, value in values}


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _version(number: int) -> str:
    """12090 as 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _torch_version() -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
