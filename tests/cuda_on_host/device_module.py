"""Launch the library's kernels on a device, on NumPy arrays as in the emulator."""

from __future__ import annotations

import ctypes
import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mplinalg.kernels.cuda.catalogue import FOLDER, KERNELS, Kernel

from .module import Module

GUARD, GUARD_BYTE = 512, 0xA5
"""Bytes before and behind what a kernel is given, which it must not change."""
ALIGNED = 256
"""An address on the device is that of the host by this modulus: alignment has no other effects."""


class DeviceModule:
    """The kernels of one file on the current device, with the face of `Module`.

    Arrays are copied to the device with all that lies between their entries, and back after the
    launch. Those that share memory on the host do so on the device. What only the emulator can
    do, the order of threads, ways of rounding, checks, is not asked for: these options change
    nothing.

    Parameters
    ----------
    file : str or Path
        A file of the library, or the path of another one, whose kernels take pointers alone.
    cupy : module
        CuPy, or what plays its part.
    """

    most_copied = 2**30
    """Bytes. Of arrays that are spread over more only the entries are copied."""

    def __init__(self, file: str | Path, cupy: ModuleType) -> None:
        self._cupy = cupy
        self._kernels = {k.name: k for k in KERNELS if k.file == file}
        self._raw = None
        if not self._kernels:
            options = ("-std=c++17", f"-I{FOLDER}")
            self._raw = cupy.RawModule(code=Path(file).read_text(), options=options)

    @property
    def names(self) -> list[str]:
        """Of the kernels, those of the catalogue."""
        return list(self._kernels)

    def signature(self, name: str) -> list[str]:
        """As the catalogue has it."""
        return self._kernels[name].arguments.split()

    def __getitem__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: self.launch(name, *args, **kwargs)

    def launch(
        self, name: str, grid: int | Sequence[int], block: int, arguments: Sequence[Any], *,
        shared: int = 0, cooperative: bool = False, resident: int = 1,
        schedule: str | int = "forward", toward_zero: bool = False, flush: bool = False,
        uninitialised: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Run a kernel and wait for it; `Module.launch` tells the parameters.

        Raises
        ------
        AssertionError
            The kernel wrote beside what it was given.
        """
        if self._raw is not None:
            with self._copied(arguments) as copies:
                self._raw.get_function(name)(_three(grid), _three(block), tuple(copies))
            return
        kernel, loader = self._kernels[name], _loader()
        if (block, shared, cooperative) != (kernel.threads, kernel.dynamic, kernel.cooperative):
            raise ValueError(f"{name} is launched in another way than the catalogue says")
        if cooperative:
            _skip_unless_resident(loader, kernel, grid)
        with self._copied(arguments) as copies:
            loader.launch(name, grid, *copies)

    @contextmanager
    def _copied(self, arguments: Sequence[Any]) -> Iterator[list[Any]]:
        """What to launch a kernel with; on leaving, arrays have what it made of them."""
        arrays = [given for given in arguments if isinstance(given, np.ndarray)]
        regions = [self._region(span) for span in _spans(arrays)]
        yield [
            next(region for region in regions if region.has(given)).on_device(given)
            if isinstance(given, np.ndarray) else given
            for given in arguments
        ]  # fmt: skip
        for region in regions:
            region.copy_back()

    def _region(self, span: _Span) -> _Whole | _Entries:
        kind = _Whole if span.end - span.begin <= self.most_copied else _Entries
        return kind(self._cupy, span)


def seen_by(module: Module | DeviceModule, x: np.ndarray) -> np.ndarray:
    """fp32 numbers as arithmetic takes them: on a device subnormal ones are zeros.

    So they are with the compiler's -ftz=true, with which CuPy compiles. In the emulator they are
    what they are, unless a launch asks for `flush`.
    """
    assert x.dtype == np.float32
    if isinstance(module, Module):
        return x
    return np.where(abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def _loader() -> ModuleType:
    # found anew, as the stand-in for CuPy makes the library forget who imported it
    return importlib.import_module("mplinalg.kernels.cuda.loader")


def _skip_unless_resident(loader: ModuleType, kernel: Kernel, grid: int | Sequence[int]) -> None:
    wanted, most = math.prod(_three(grid)), loader.resident_blocks(kernel.name)
    if wanted > most:
        pytest.skip(f"of {kernel.name} this device holds {most} blocks at once, not {wanted}")


def _three(extent: int | Sequence[int]) -> tuple[int, ...]:
    extents = (extent,) if isinstance(extent, int) else tuple(extent)
    return (*extents, *(1,) * (3 - len(extents)))


# -- copies ---------------------------------------------------------------------------------------


@dataclass
class _Span:
    """Addresses from `begin` to `end`, and the arrays that stand there."""

    begin: int
    end: int
    arrays: list[np.ndarray]


def _bounds(array: np.ndarray) -> tuple[int, int]:
    if array.size == 0:
        return array.ctypes.data, array.ctypes.data
    return np.lib.array_utils.byte_bounds(array)


def _spans(arrays: Sequence[np.ndarray]) -> list[_Span]:
    """Of arrays that share memory one."""
    found: list[_Span] = []
    for array in sorted(arrays, key=_bounds):
        begin, end = _bounds(array)
        if found and (begin < found[-1].end or (begin, end) == _bounds(found[-1].arrays[-1])):
            found[-1].end = max(found[-1].end, end)
            found[-1].arrays.append(array)
        else:
            found.append(_Span(begin, end, [array]))
    return found


class _Region:
    """The memory of a span on the device, between guards."""

    def __init__(self, cupy: ModuleType, span: _Span) -> None:
        self._cupy, self._span = cupy, span
        self._first = GUARD + span.begin % ALIGNED
        self._last = self._first + span.end - span.begin

    def has(self, array: np.ndarray) -> bool:
        return any(array is other for other in self._span.arrays)

    def on_device(self, array: np.ndarray) -> Any:
        place = self._first + array.ctypes.data - self._span.begin
        return self._cupy.ndarray(
            array.shape, array.dtype, memptr=self._buffer.data + place, strides=array.strides
        )

    def _check(self, *guards: np.ndarray) -> None:
        for where, guard in zip(("before", "behind"), guards, strict=True):
            assert (guard == GUARD_BYTE).all(), f"the kernel wrote {where} an argument"


class _Whole(_Region):
    """All bytes are copied."""

    def __init__(self, cupy: ModuleType, span: _Span) -> None:
        super().__init__(cupy, span)
        host = np.full(self._last + GUARD, GUARD_BYTE, np.uint8)
        host[self._first : self._last] = self._bytes()
        self._buffer = cupy.asarray(host)

    def _bytes(self) -> np.ndarray:
        length = self._span.end - self._span.begin
        if length == 0:
            return np.empty(0, np.uint8)
        return np.ctypeslib.as_array((ctypes.c_uint8 * length).from_address(self._span.begin))

    def copy_back(self) -> None:
        host = self._cupy.asnumpy(self._buffer)
        self._check(host[: self._first], host[self._last :])
        self._bytes()[...] = host[self._first : self._last]


class _Entries(_Region):
    """One array that is spread widely, of which the entries are copied."""

    def __init__(self, cupy: ModuleType, span: _Span) -> None:
        super().__init__(cupy, span)
        (self._array,) = span.arrays
        try:
            self._buffer = cupy.empty(self._last + GUARD, np.uint8)
        except cupy.cuda.memory.OutOfMemoryError as error:
            pytest.skip(str(error))
        self._buffer[: self._first] = self._buffer[self._last :] = GUARD_BYTE
        self.on_device(self._array)[...] = cupy.asarray(np.ascontiguousarray(self._array))

    def copy_back(self) -> None:
        asnumpy = self._cupy.asnumpy
        self._check(asnumpy(self._buffer[: self._first]), asnumpy(self._buffer[self._last :]))
        self._array[...] = asnumpy(self.on_device(self._array))
