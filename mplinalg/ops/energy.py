"""Joules, where the machine tells: Linux' powercap counters, or NVML's for a GPU.

What is counted is all that the package or the GPU did meanwhile, other programs and idling
included. Where a counter cannot be read (on many systems only root may), or did not move because
too little time went by since its last update, the answer is None, never 0.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Nvml", "Powercap", "meter", "meter_at"]

_ZONE = re.compile(r"[\w-]+?:(\d+(?::\d+)?)")
_COUNTED = ("package", "dram")
"""Disjoint domains: cores and uncore are part of the package, and psys is more than this."""


def meter(device: str) -> Powercap | Nvml:
    """The meter of "cpu" or "cuda"."""
    return Nvml() if device == "cuda" else Powercap()


def meter_at(a: Any) -> Powercap | Nvml:
    """The meter of where an array is: the processor, or its GPU."""
    return Powercap() if isinstance(a, np.ndarray) else Nvml(str(a.device.pci_bus_id))


class Powercap:
    """Energy counters of the processor packages and their memory.

    Parameters
    ----------
    root : path
        The folder with one folder a zone, of which each has ``name``, ``energy_uj`` (a counter of
        microjoules) and ``max_energy_range_uj`` (where it wraps around).

    References
    ----------
    Documentation/power/powercap/powercap.rst of the Linux kernel.
    """

    def __init__(self, root: str | os.PathLike[str] = "/sys/class/powercap") -> None:
        zones: dict[tuple[str, str], tuple[Path, int]] = {}
        for zone in sorted(Path(root).glob("*:*")):
            match, name = _ZONE.fullmatch(zone.name), _text(zone / "name")
            wraps = _number(zone / "max_energy_range_uj")
            if match and name and name.startswith(_COUNTED) and wraps is not None:
                # a package may be listed by two drivers (intel-rapl:0 and intel-rapl-mmio:0)
                zones.setdefault((match[1], name), (zone / "energy_uj", wraps))
        self._zones = list(zones.values())

    def read(self) -> list[int] | None:
        """The counters; None if there are none or one of them cannot be read."""
        values = [_number(path) for path, _ in self._zones]
        known = [v for v in values if v is not None]
        return known if known and len(known) == len(values) else None

    def since(self, before: list[int] | None) -> float | None:
        """Joules since `before`, which `read` gave. A counter wraps around once at most."""
        now = self.read()
        if before is None or now is None:
            return None
        used = 0
        for old, new, (_, wraps) in zip(before, now, self._zones, strict=True):
            used += new - old if new >= old else new - old + wraps
        return used * 1e-6 if used > 0 else None


class Nvml:
    """The energy counter of a GPU, by the optional package ``nvidia-ml-py`` (module pynvml).

    Parameters
    ----------
    bus : str, optional
        PCI address of the GPU: NVML counts others than CUDA does where some are hidden. By default
        the first one.

    References
    ----------
    NVML API reference, nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver loaded).
    """

    def __init__(self, bus: str | None = None) -> None:
        self._handle: Any = None
        try:
            import pynvml
        except ModuleNotFoundError:
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = (
                pynvml.nvmlDeviceGetHandleByIndex(0)
                if bus is None
                else pynvml.nvmlDeviceGetHandleByPciBusId(bus.encode())
            )
        except pynvml.NVMLError:
            return

    def read(self) -> int | None:
        """The counter in millijoules, None if it cannot be read."""
        if self._handle is None:
            return None
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError:
            return None

    def since(self, before: int | None) -> float | None:
        """Joules since `before`, which `read` gave."""
        now = self.read()
        if before is None or now is None or now <= before:
            return None
        return (now - before) * 1e-3


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdecimal() else None
