"""Launch the kernels of the catalogue, compiled when first asked for.

Each instance of a template is a module of its own. To compile one takes NVRTC 0.1 to 3 s, all of
a file up to 20 times as long, and a solver needs few; what they include is read in less than
0.1 s. CuPy keeps what was compiled on disk (instances of templates since 14.2), by source and
options. It does not look into what a source includes, so an option has a digest of that.

CuPy compiles with ``-ftz=true``, whatever it is told: kernels take fp32 subnormals for zeros.
"""

from __future__ import annotations

import functools
import hashlib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cupy
import numpy as np
from cupy.cuda import compiler, driver

from .catalogue import BY_NAME, FOLDER, Kernel

__all__ = [
    "KernelUnavailable", "architecture", "launch", "load", "multiprocessors", "resident_blocks",
]  # fmt: skip

# By value: CuPy has no null for a kernel, and what it makes of None is a pointer to no argument.
_NULL = np.uint64(0)


class KernelUnavailable(RuntimeError):
    """A kernel that this device, driver or compiler does not take; says why."""


@dataclass(frozen=True)
class _Loaded:
    """A kernel on one device."""

    function: Any
    """A cupy.cuda.Function."""
    resident: int
    """Most blocks that the device holds at once, of a cooperative kernel; 0 of others."""


_loaded: dict[tuple[int, str], _Loaded | str] = {}
"""By device and name; a string says why there is none."""
_locks: dict[tuple[int, str], threading.Lock] = {}
_guard = threading.Lock()
"""Of `_locks`."""


def launch(name: str, grid: int | Sequence[int], *arguments: Any) -> None:
    """Run a kernel on the current device and stream, without waiting for it.

    Parameters
    ----------
    name : str
        As in the catalogue, which also knows the threads of a block and its shared memory.
    grid : int or sequence of int
        Blocks, in up to three dimensions. With none in one of them nothing is launched.
    arguments
        CuPy arrays, which the kernel sees by their first entry, or None for null; numbers.

    Raises
    ------
    TypeError
        An argument is not what the catalogue says.
    ValueError
        There is no such kernel, or the blocks of a cooperative one do not fit the device at once.
    KernelUnavailable
        It cannot be compiled or loaded here.
    """
    kernel = _kernel(name)
    values = _checked(kernel, arguments)
    blocks = (int(grid),) if isinstance(grid, int | np.integer) else tuple(grid)
    if min(blocks) < 0:
        raise ValueError(f"{name}: {grid=} is negative")
    if min(blocks) == 0:  # CuPy would launch one
        return
    loaded = _get(kernel)
    if kernel.cooperative and math.prod(blocks) > loaded.resident:  # CuPy would launch fewer
        raise ValueError(
            f"{name}: {grid=} is more than the {loaded.resident} blocks that the device holds"
        )
    # Not by RawModule(enable_cooperative_groups=True), with which CuPy before 14.2 links the
    # library of device runtimes, which may be missing, and is not needed for a barrier.
    loaded.function(
        blocks, (kernel.threads,), values, shared_mem=kernel.dynamic,
        enable_cooperative_groups=kernel.cooperative,
    )  # fmt: skip


def load(name: str) -> None:
    """Have a kernel ready on the current device, or raise `KernelUnavailable`."""
    _get(_kernel(name))


def resident_blocks(name: str) -> int:
    """The largest grid of a cooperative kernel on the current device."""
    kernel = _kernel(name)
    if not kernel.cooperative:
        raise ValueError(f"{name} is not cooperative: its grid may have any size")
    return _get(kernel).resident


def multiprocessors() -> int:
    """Of the current device."""
    return _multiprocessors(cupy.cuda.get_device_id())


@functools.cache
def _multiprocessors(number: int) -> int:
    # kept, as CuPy asks the driver for all attributes of a device to tell one
    return int(cupy.cuda.Device(number).attributes["MultiProcessorCount"])


def architecture() -> int:
    """Compute capability of the current device, times 10: 90 for 9.0."""
    return int(cupy.cuda.Device().compute_capability)


def _kernel(name: str) -> Kernel:
    try:
        return BY_NAME[name]
    except KeyError:
        raise ValueError(f"there is no kernel {name!r} in the catalogue") from None


# -- arguments ------------------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """What an argument has to be.

    A factorization launches thousands of kernels that take microseconds: what is usual is told
    from what is not by these alone.
    """

    dtype: np.dtype[Any]
    numbers: tuple[type, ...]
    """Python's types of numbers that will do; none if it is an array."""
    least: float
    most: float


@functools.cache
def _wanted(name: str) -> list[_Wanted]:
    found = []
    for way, letters in (argument.split(":") for argument in BY_NAME[name].arguments.split()):
        dtype = np.dtype(letters)
        if way != "by":
            found.append(_Wanted(dtype, (), 0, 0))
        elif dtype.kind == "f":
            most = float(np.finfo(dtype).max)
            found.append(_Wanted(dtype, (int, bool, float), -most, most))
        else:
            limits = np.iinfo(dtype)
            found.append(_Wanted(dtype, (int, bool), int(limits.min), int(limits.max)))
    return found


def _checked(kernel: Kernel, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """What to pass: arrays, and numbers of the types that the kernel takes."""
    wanted = _wanted(kernel.name)
    if len(arguments) != len(wanted):
        raise TypeError(f"{kernel.name} takes {len(wanted)} arguments, got {len(arguments)}")
    values: list[Any] = []
    for given, (dtype, numbers, least, most) in zip(arguments, wanted, strict=True):
        if numbers:
            if type(given) not in numbers or not least <= given <= most:
                given = _number(kernel, len(values), given, dtype)
            values.append(dtype.type(given))
        elif given is None:
            values.append(_NULL)
        elif isinstance(given, cupy.ndarray) and given.dtype == dtype:
            values.append(given)
        else:
            is_array = isinstance(given, cupy.ndarray)
            raise _wrong(
                kernel, len(values), f"a CuPy array of {dtype}",
                f"one of {given.dtype}" if is_array else type(given).__name__,
            )  # fmt: skip
    return tuple(values)


def _number(kernel: Kernel, place: int, given: Any, dtype: np.dtype[Any]) -> Any:
    """A number that is not one of Python's, or not finite, if the kernel can have it."""
    wanted = f"a number of type {dtype}"
    kinds: tuple[Any, ...] = (int, np.integer)
    if dtype.kind == "f":
        kinds = (*kinds, float, np.floating)
    if not isinstance(given, kinds):
        raise _wrong(kernel, place, wanted, f"{given!r} of type {type(given).__name__}")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # to infinity
            return dtype.type(given)
    limits, value = np.iinfo(dtype), int(given)
    if not limits.min <= value <= limits.max:
        raise _wrong(kernel, place, wanted, f"{given}, which does not fit")
    return value


def _wrong(kernel: Kernel, place: int, wanted: str, given: str) -> TypeError:
    return TypeError(f"{kernel.name}: argument {place} has to be {wanted}, got {given}")


# -- modules --------------------------------------------------------------------------------------


def _get(kernel: Kernel) -> _Loaded:
    """The kernel on the current device, compiled once, whichever thread asks first."""
    key = cupy.cuda.get_device_id(), kernel.name
    found = _loaded.get(key)
    if found is None:
        with _guard:
            lock = _locks.setdefault(key, threading.Lock())
        with lock:  # others may compile other kernels meanwhile
            found = _loaded.get(key)
            if found is None:
                found = _loaded[key] = _load(kernel)
    if isinstance(found, str):
        raise KernelUnavailable(found)
    return found


def _load(kernel: Kernel) -> _Loaded | str:
    try:
        module = cupy.RawModule(
            code=(FOLDER / kernel.file).read_text(),
            options=_options(kernel),
            name_expressions=(kernel.name,) if kernel.is_template else None,
        )
        raw = module.get_function(kernel.name)
        if kernel.dynamic:  # more than 48 KiB have to be asked for
            raw.max_dynamic_shared_size_bytes = kernel.dynamic
        function = raw.kernel
        resident = 0
        if kernel.cooperative:
            resident = multiprocessors() * driver.occupancyMaxActiveBlocksPerMultiprocessor(
                function.ptr, kernel.threads, kernel.dynamic
            )
    # errors of NVRTC, the driver and the runtime are RuntimeErrors, and so is a missing toolkit;
    # a missing library of NVRTC is an ImportError or an OSError
    except (compiler.CompileException, RuntimeError, OSError, ImportError) as error:
        return (
            f"{kernel.name} of {kernel.file} is not to be had on a device of compute capability"
            f" {architecture() / 10}: {type(error).__name__}: {error}"
        )
    return _Loaded(function, resident)


def _options(kernel: Kernel) -> tuple[str, ...]:
    options = ("-std=c++17", f"-I{FOLDER}", f"-DMPLINALG_HEADERS={_headers()}")
    return (*options, "-DMPLINALG_GRID_SYNC") if kernel.cooperative else options


@functools.cache
def _headers() -> str:
    """A digest of all that a kernel may include."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.cuh")):
        digest.update(path.read_bytes())
    return f"0x{digest.hexdigest()[:16]}"
