"""Devices: which is current, what they can do, and the handles of their libraries."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

from . import ledger, memory
from .settings import Misuse, settings

CUDA_VERSION = 12090


class CUDARuntimeError(RuntimeError):
    """As CuPy's: a code of the runtime, and what it says."""

    _names: ClassVar = {
        1: "cudaErrorInvalidValue", 2: "cudaErrorMemoryAllocation", 101: "cudaErrorInvalidDevice",
    }  # fmt: skip

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"{self._names.get(status, 'cudaErrorUnknown')}: {status}")


class _Local(threading.local):
    device = 0


_local = _Local()


def current_device() -> int:
    """Number of the device of this thread."""
    return _local.device


def set_device(device: int) -> None:
    """As cudaSetDevice."""
    if not 0 <= device < settings.devices:
        raise CUDARuntimeError(101)
    _local.device = device


def synchronize() -> None:
    """As cudaDeviceSynchronize."""
    from . import streams

    ledger.note_sync("Device.synchronize")
    streams.wait_for_device(current_device())


@dataclass
class Handle:
    """The state of a cuBLAS or cuSOLVER handle."""

    library: str
    device: int
    pointer_mode: int = 0
    math_mode: int = 0
    stream: int = 0
    workspace: Any = None
    """None: the library's own; else a weak reference to memory."""


_handles: dict[int, Handle] = {}
_own: dict[tuple[str, int, int], int] = {}
_numbers = itertools.count(0x10000, 16)


def create_handle(library: str) -> int:
    """On the current device."""
    number = next(_numbers)
    _handles[number] = Handle(library, current_device())
    return number


def destroy_handle(number: int) -> None:
    """It must not be used afterwards."""
    del _handles[number]


def handle(number: int, library: str) -> Handle:
    """The handle with that number, if it is one of the current device."""
    found = _handles.get(number)
    if found is None or found.library != library:
        raise Misuse(f"{number} is no handle of {library}")
    if found.device != current_device():
        raise Misuse(f"a handle of device {found.device}, while {current_device()} is current")
    return found


def default_handle(library: str) -> int:
    """CuPy's own of this thread and device."""
    key = (library, current_device(), threading.get_ident())
    if key not in _own:
        _own[key] = create_handle(library)
    return _own[key]


def handles_at_rest() -> list[str]:
    """What is not as a new handle has it, of CuPy's own handles."""
    return [
        f"the {state.library} handle of CuPy was left with {state}"
        for state in (_handles[number] for number in _own.values())
        if (state.pointer_mode, state.math_mode, state.workspace) != (0, 0, None)
    ]


def reset() -> None:
    """Device 0, no handles."""
    _local.device = 0
    _handles.clear()
    _own.clear()


class Device:
    """`cupy.cuda.Device`."""

    __module__ = "cupy.cuda.device"

    def __init__(self, device: Any = None) -> None:
        self.id = current_device() if device is None else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    def __enter__(self) -> Device:
        self._before.append(current_device())
        self.use()
        return self

    def __exit__(self, *error: Any) -> None:
        set_device(self._before.pop())

    def use(self) -> None:
        set_device(self.id)

    def synchronize(self) -> None:
        with self:
            synchronize()

    @property
    def compute_capability(self) -> str:
        return settings.compute_capability

    @property
    def mem_info(self) -> tuple[int, int]:
        return memory.total(self.id) - memory.held(self.id), memory.total(self.id)

    @property
    def pci_bus_id(self) -> str:
        return f"0000:{self.id:02X}:00.0"

    @property
    def cublas_handle(self) -> int:
        return default_handle("cublas")

    @property
    def cusolver_handle(self) -> int:
        return default_handle("cusolver")

    @property
    def attributes(self) -> dict[str, int]:
        return attributes()


def attributes() -> dict[str, int]:
    """Of every device; those of an H100 but for the number of multiprocessors."""
    return {
        "ClockRate": 1_980_000,
        "ConcurrentKernels": 1,
        "CooperativeLaunch": 1,
        "L2CacheSize": 50 * 2**20,
        "MaxBlockDimX": 1024,
        "MaxBlocksPerMultiprocessor": 32,
        "MaxGridDimX": 2**31 - 1,
        "MaxGridDimY": 65535,
        "MaxGridDimZ": 65535,
        "MaxRegistersPerBlock": 65536,
        "MaxRegistersPerMultiprocessor": 65536,
        "MaxSharedMemoryPerBlock": 48 * 1024,
        "MaxSharedMemoryPerBlockOptin": 227 * 1024,
        "MaxSharedMemoryPerMultiprocessor": 228 * 1024,
        "MaxThreadsPerBlock": 1024,
        "MaxThreadsPerMultiProcessor": 2048,
        "MultiProcessorCount": settings.multiprocessors,
        "ReservedSharedMemoryPerBlock": 1024,
        "WarpSize": 32,
    }


_CODES = {
    1: "MaxThreadsPerBlock", 8: "MaxSharedMemoryPerBlock", 10: "WarpSize", 13: "ClockRate",
    16: "MultiProcessorCount", 38: "L2CacheSize", 39: "MaxThreadsPerMultiProcessor",
    81: "MaxSharedMemoryPerMultiprocessor", 82: "MaxRegistersPerMultiprocessor",
    95: "CooperativeLaunch", 97: "MaxSharedMemoryPerBlockOptin",
}  # fmt: skip


def _attribute(attrib: int, device: int) -> int:
    if attrib not in _CODES:
        raise Misuse(f"attribute {attrib} of a device is not known here")
    return attributes()[_CODES[attrib]]


def _properties(device: int) -> dict[str, Any]:
    if not 0 <= device < settings.devices:
        raise CUDARuntimeError(101)
    known = attributes()
    return {
        "name": b"A device on the host",
        "major": int(settings.compute_capability[:-1]),
        "minor": int(settings.compute_capability[-1]),
        "totalGlobalMem": settings.total_memory,
        "multiProcessorCount": known["MultiProcessorCount"],
        "sharedMemPerBlock": known["MaxSharedMemoryPerBlock"],
        "sharedMemPerBlockOptin": known["MaxSharedMemoryPerBlockOptin"],
        "sharedMemPerMultiprocessor": known["MaxSharedMemoryPerMultiprocessor"],
        "regsPerMultiprocessor": known["MaxRegistersPerMultiprocessor"],
        "maxThreadsPerBlock": known["MaxThreadsPerBlock"],
        "maxThreadsPerMultiProcessor": known["MaxThreadsPerMultiProcessor"],
        "warpSize": 32,
        "clockRate": known["ClockRate"],
        "memoryClockRate": 2_619_000,
        "memoryBusWidth": 5120,
        "l2CacheSize": known["L2CacheSize"],
        "cooperativeLaunch": 1,
        "pciBusID": device,
        "pciDeviceID": 0,
        "pciDomainID": 0,
    }


runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDevice=current_device,
    setDevice=set_device,
    getDeviceCount=lambda: settings.devices,
    getDeviceProperties=_properties,
    deviceGetAttribute=_attribute,
    deviceSynchronize=synchronize,
    memGetInfo=lambda: Device().mem_info,
    runtimeGetVersion=lambda: CUDA_VERSION,
    driverGetVersion=lambda: CUDA_VERSION,
    is_hip=False,
    cudaDevAttrMultiProcessorCount=16,
    cudaDevAttrMaxThreadsPerMultiProcessor=39,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor=81,
    cudaDevAttrCooperativeLaunch=95,
    cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
    CUDA_R_32F=0,
    CUDA_R_64F=1,
    CUDA_R_16F=2,
    CUDA_C_32F=4,
    CUDA_C_64F=5,
    CUDA_R_16BF=14,
)
"""What `cupy.cuda.runtime` has."""
