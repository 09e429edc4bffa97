"""Addresses: what library calls are given, checked against the memory that is live."""

from __future__ import annotations

import ctypes
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import memory
from .device import current_device
from .settings import Misuse


@dataclass
class Operand:
    """Device memory as NumPy sees it."""

    buffer: memory.Buffer | None
    host: np.ndarray

    @property
    def touched(self) -> list[tuple[memory.Buffer, np.ndarray]]:
        """For `hazards.touch`."""
        return [] if self.buffer is None else [(self.buffer, self.host)]


def integer(value: Any, name: str, bits: int = 32) -> int:
    """What Cython takes for an int."""
    value = operator.index(value)
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise OverflowError(f"{name} = {value} does not fit {bits} bits")
    return value


def address(value: Any, name: str) -> int:
    """What Cython takes for a size_t."""
    value = operator.index(value)
    if value < 0:
        raise OverflowError(f"{name}: can't convert negative value to size_t")
    return value


def strided(
    pointer: int, dtype: Any, shape: tuple[int, ...], steps: tuple[int, ...], name: str
) -> Operand:
    """An array at an address, elements apart by `steps` in each dimension; all of it is live."""
    dtype = np.dtype(dtype)
    pointer = address(pointer, name)
    if 0 in shape:
        return Operand(None, np.empty(shape, dtype))
    buffer = memory.buffer_at(pointer)
    if buffer is None:
        raise Misuse(f"{name}: {pointer:#x} is no address of live device memory")
    if buffer.device_id != current_device():
        raise Misuse(f"{name} is on device {buffer.device_id}, not on {current_device()}")
    if pointer % dtype.itemsize:
        raise Misuse(f"{name}: {pointer:#x} is not aligned for {dtype}")
    last = sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
    offset = pointer - buffer.ptr
    if offset + (last + 1) * dtype.itemsize > buffer.nbytes:
        raise Misuse(
            f"{name} of shape {shape} and steps {steps} ends {offset + (last + 1) * dtype.itemsize}"
            f" bytes after the beginning of an allocation of {buffer.nbytes}"
        )
    strides = tuple(step * dtype.itemsize for step in steps)
    return Operand(buffer, np.ndarray(shape, dtype, buffer.host, offset, strides))


def host_number(pointer: int, dtype: Any, name: str) -> Any:
    """A number that is read from the memory of the host."""
    dtype = np.dtype(dtype)
    pointer = address(pointer, name)
    if pointer == 0 or memory.buffer_at(pointer) is not None:
        raise Misuse(f"{name} is to be in memory of the host, as the pointer mode has it")
    return np.frombuffer(ctypes.string_at(pointer, dtype.itemsize), dtype)[0]


def write_host(pointer: int, value: np.ndarray, name: str) -> None:
    """A number that is written to the memory of the host."""
    pointer = address(pointer, name)
    if pointer == 0 or memory.buffer_at(pointer) is not None:
        raise Misuse(f"{name} is to be in memory of the host, as the pointer mode has it")
    ctypes.memmove(pointer, value.tobytes(), value.nbytes)


def require_apart(name: str, written: Operand, *read: Operand) -> None:
    """What is written overlaps nothing that is read."""
    if any(np.shares_memory(written.host, other.host) for other in read):
        raise Misuse(f"{name}: what is written overlaps an operand that is read")
