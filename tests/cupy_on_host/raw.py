"""`cupy.RawModule` and `cupy.RawKernel`: launches are checked as strictly as can be."""

from __future__ import annotations

import itertools
import operator
import warnings
from typing import Any

import numpy as np

from mplinalg.kernels.cuda.catalogue import Kernel

from ..cuda_on_host.module import CAN_FLUSH, MOST_SHARED
from . import hazards, kernels, ledger, memory, streams
from .array import ndarray
from .capture import repeatable
from .device import current_device
from .kernels import CUDADriverError
from .settings import Misuse, settings

_UNASKED = 48 * 1024
"""Bytes of shared memory that a block has without being asked for."""
_RESERVED = 1024
_MOST_THREADS = 1024
_REGISTERS, _THREADS, _BLOCKS, _SHARED = 65536, 2048, 32, 228 * 1024
"""Of a multiprocessor."""

_functions: dict[int, RawKernel] = {}
_numbers = itertools.count(0x5000, 16)


class Function:
    """`cupy.cuda.Function`: a kernel on the device that was current when it was loaded."""

    __module__ = "cupy.cuda.function"

    def __init__(self, kernel: RawKernel) -> None:
        self.ptr = next(_numbers)
        self.device_id = current_device()
        self._kernel = kernel
        _functions[self.ptr] = kernel

    @repeatable
    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, shared_mem: int = 0,
        stream: Any = None, enable_cooperative_groups: bool = False,
    ) -> None:  # fmt: skip
        for name, given in (("grid", grid), ("block", block)):
            if not isinstance(given, tuple):
                raise TypeError(
                    f"Argument '{name}' has incorrect type (expected tuple, got {type(given)})"
                )
        name, shared_mem = self._kernel.name, operator.index(shared_mem)
        cooperative = bool(enable_cooperative_groups)
        if self.device_id != current_device():
            raise Misuse(f"{name} was loaded on device {self.device_id}, not {current_device()}")
        block = _three(block)
        grid = self._checked(_three(grid), int(np.prod(block)), shared_mem, cooperative)
        module = self._kernel._module()
        signature = module.signature(name)
        values, reads, writes = _arguments(name, signature, tuple(args))
        ledger.note_launch(name)
        line = streams.current_line() if stream is None else stream.line
        hazards.touch(line, reads, writes, name)
        has_doubles = any(kind.endswith("f8") for kind in signature)
        with kernels.lock:
            module.launch(
                name, grid, block, values, shared=shared_mem, schedule=settings.schedule,
                cooperative=cooperative, toward_zero=settings.toward_zero,
                flush=settings.flush and CAN_FLUSH and not has_doubles,
            )  # fmt: skip

    def _checked(
        self, grid: tuple[int, ...], threads: int, dynamic: int, cooperative: bool
    ) -> tuple[int, ...]:
        """The grid, if the device would take it."""
        name, entry = self._kernel.name, self._kernel._entry
        if threads > _MOST_THREADS or grid[0] >= 2**31 or max(grid[1:]) > 65535:
            raise CUDADriverError(1)
        if entry is not None and threads != entry.threads:
            raise Misuse(f"{name} is for blocks of {entry.threads} threads, not {threads}")
        if entry is not None and dynamic != entry.dynamic:
            raise Misuse(f"{name} takes {entry.dynamic} bytes of shared memory, not {dynamic}")
        if dynamic > self._kernel.max_dynamic_shared_size_bytes:
            raise CUDADriverError(1)
        if not cooperative:
            if entry is not None and entry.cooperative:
                raise Misuse(f"{name} has to be launched cooperatively")
            return grid
        most = self._kernel.occupancy(threads, dynamic) * settings.multiprocessors
        if int(np.prod(grid)) <= most:
            return grid
        if grid[1:] != (1, 1):
            raise ValueError(f"The specified grid size ({grid}) exceeds the limit ({most}).")
        warnings.warn(
            f"The grid size will be reduced from {grid[0]} to {most}, as the specified grid size "
            "exceeds the limit.",
            stacklevel=3,
        )
        return most, 1, 1


class RawModule:
    """`cupy.RawModule`."""

    __module__ = "cupy._core.raw"

    def __init__(
        self, *, code: str | None = None, path: str | None = None, options: tuple[str, ...] = (),
        backend: str = "nvrtc", translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False, name_expressions: Any = None,
        jitify: bool = False,
    ) -> None:  # fmt: skip
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if code is None or backend != "nvrtc" or translate_cucomplex or jitify:
            raise Misuse("only code for NVRTC can be compiled here")
        if not isinstance(options, tuple):
            raise TypeError(
                f"Argument 'options' has incorrect type (expected tuple, got {type(options)})"
            )
        self.code, self.file_path, self.options, self.backend = code, None, options, backend
        self.enable_cooperative_groups = bool(enable_cooperative_groups)
        self.name_expressions = None if name_expressions is None else tuple(name_expressions)

    def compile(self, log_stream: Any = None) -> None:
        kernels.compiled(self.code, self.options, self.name_expressions or ())

    def get_function(self, name: str) -> RawKernel:
        kernel = RawKernel(
            self.code, name, self.options, self.backend,
            enable_cooperative_groups=self.enable_cooperative_groups,
        )  # fmt: skip
        kernel.name_expressions = self.name_expressions
        assert kernel.kernel.ptr
        return kernel

    def get_global(self, name: str) -> Any:
        raise Misuse("global variables of a kernel are not to be had here")


class RawKernel:
    """`cupy.RawKernel`."""

    __module__ = "cupy._core.raw"

    def __init__(
        self, code: str, name: str, options: tuple[str, ...] = (), backend: str = "nvrtc", *,
        translate_cucomplex: bool = False, enable_cooperative_groups: bool = False,
        jitify: bool = False,
    ) -> None:  # fmt: skip
        self.code, self.name, self.options, self.backend = code, name, options, backend
        self.enable_cooperative_groups = bool(enable_cooperative_groups)
        self.name_expressions: tuple[str, ...] | None = None
        self.file_path = None
        self.__name__ = name
        self._file = kernels.file_of(code)
        self._loaded: dict[int, Function] = {}
        self._most_dynamic: dict[int, int] = {}

    # -- what it takes --------------------------------------------------------------------------

    @property
    def _entry(self) -> Kernel | None:
        return kernels.entry_of(self._file, self.name)

    @property
    def kernel(self) -> Function:
        device = current_device()
        if device not in self._loaded:
            self.compile()
            self._loaded[device] = Function(self)
        return self._loaded[device]

    @property
    def num_regs(self) -> int:
        return self._entry.registers if self._entry else 32

    @property
    def shared_size_bytes(self) -> int:
        return self._entry.shared if self._entry else 0

    @property
    def max_threads_per_block(self) -> int:
        return self._entry.threads if self._entry else _MOST_THREADS

    local_size_bytes = const_size_bytes = 0
    preferred_shared_memory_carveout = -1

    @property
    def binary_version(self) -> int:
        return int(settings.compute_capability)

    ptx_version = binary_version

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._most_dynamic.get(current_device(), _UNASKED - self.shared_size_bytes)

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, nbytes: int) -> None:
        nbytes = operator.index(nbytes)
        if nbytes < 0 or nbytes + self.shared_size_bytes > MOST_SHARED:
            raise CUDADriverError(1)
        self._most_dynamic[current_device()] = nbytes

    @property
    def attributes(self) -> dict[str, int]:
        names = (
            "max_threads_per_block", "shared_size_bytes", "const_size_bytes", "local_size_bytes",
            "num_regs", "ptx_version", "binary_version", "max_dynamic_shared_size_bytes",
            "preferred_shared_memory_carveout",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def occupancy(self, threads: int, dynamic: int) -> int:
        """Blocks that a multiprocessor holds."""
        registers = -(-self.num_regs // 8) * 8 * threads
        shared = self.shared_size_bytes + dynamic + _RESERVED
        return min(_REGISTERS // registers, _THREADS // threads, _SHARED // shared, _BLOCKS)

    # -- to be run ------------------------------------------------------------------------------

    def compile(self, log_stream: Any = None) -> None:
        if self.name not in self._module().names:
            raise CUDADriverError(500)

    def _module(self) -> Any:
        names = self.name_expressions or ()
        if "<" in self.name and self.name not in names:
            raise CUDADriverError(500)
        return kernels.compiled(self.code, self.options, names)

    def __call__(self, grid: Any, block: Any, args: Any, **kwargs: Any) -> None:
        """`shared_mem` may be given."""
        self.kernel(
            grid, block, args, enable_cooperative_groups=self.enable_cooperative_groups, **kwargs
        )


def _three(extents: tuple[int, ...]) -> tuple[int, ...]:
    extents = tuple(operator.index(extent) for extent in extents)
    return tuple(max(1, extent) for extent in (*extents, 1, 1)[:3])


def occupancyMaxActiveBlocksPerMultiprocessor(
    func: int, blockSize: int, dynamicSMemSize: int
) -> int:
    """Of `cupy.cuda.driver`."""
    return _functions[func].occupancy(blockSize, dynamicSMemSize)


# -- arguments -------------------------------------------------------------------------------------


def _arguments(
    name: str, signature: list[str], given: tuple[Any, ...]
) -> tuple[list[Any], Any, Any]:
    """For the emulator, and what is read and written."""
    if len(signature) != len(given):
        raise TypeError(f"{name} takes {len(signature)} arguments, got {len(given)}")
    values: list[Any] = []
    reads: list[Any] = []
    writes: list[Any] = []
    for place, (value, wanted) in enumerate(zip(given, signature, strict=True)):
        way, kind = wanted.split(":")
        where = f"{name}: argument {place} ({wanted})"
        if way == "by":
            values.append(_number(value, np.dtype(kind), where))
            continue
        buffer, host = _pointer(value, np.dtype(kind), where)
        values.append(host)
        if buffer is not None:
            (reads if way == "in" else writes).append((buffer, host))
    return values, reads, writes


def _number(value: Any, dtype: np.dtype[Any], where: str) -> Any:
    """CuPy passes the bytes of a number, whatever the kernel makes of them."""
    if isinstance(value, bool):
        raise TypeError(f"{where} is {value}")
    if type(value) in (int, float):  # passed as 64 bits
        value = np.float64(value) if isinstance(value, float) else np.int64(value)
    if not isinstance(value, np.generic):
        raise TypeError(f"Unsupported type {type(value)}: {where}")
    same = value.dtype == dtype or {value.dtype.kind, dtype.kind} <= set("iu")
    if not same or value.dtype.itemsize != dtype.itemsize:
        raise Misuse(f"{where} is passed as a {value.dtype}")
    return value.astype(dtype)


def _pointer(
    value: Any, dtype: np.dtype[Any], where: str
) -> tuple[memory.Buffer | None, np.ndarray | None]:
    if value is None:
        raise Misuse(f"{where} is None, of which CuPy 13 makes no null pointer; pass np.intp(0)")
    if isinstance(value, ndarray):
        if value.device.id != current_device():
            raise Misuse(f"{where} is on device {value.device.id}, not {current_device()}")
        if value.dtype != dtype:
            raise TypeError(f"{where} is an array of {value.dtype}")
        return (value._buffer, value._host) if value.data.ptr else (None, None)
    if isinstance(value, memory.MemoryPointer):
        value = value.ptr
    if isinstance(value, bool) or not isinstance(value, int | np.int64 | np.uint64):
        raise TypeError(f"Unsupported type {type(value)}: {where}")
    if value == 0:
        return None, None
    buffer = memory.buffer_at(int(value))
    if buffer is None or buffer.device_id != current_device():
        raise Misuse(f"{where}: {int(value):#x} is no address of this device's memory")
    offset = int(value) - buffer.ptr
    if offset % dtype.itemsize:
        raise Misuse(f"{where}: {int(value):#x} is not aligned for {dtype}")
    count = (buffer.nbytes - offset) // dtype.itemsize
    return buffer, np.ndarray(count, dtype, buffer.host, offset)
