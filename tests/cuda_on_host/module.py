"""Launch compiled kernels on NumPy arrays."""

from __future__ import annotations

import ctypes
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_SHARED = 227 * 1024
"""Bytes of shared memory that a block of compute capability 9.0 can have."""

CAN_FLUSH = platform.machine() == "x86_64"
"""Whether launches can take subnormal numbers for zeros."""

_SCHEDULES = {"forward": 0, "reverse": 1}
_RANDOM = 2


class LaunchError(RuntimeError):
    """A kernel did something that it must not, or did not end."""


class _Entry(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("signature", ctypes.CFUNCTYPE(ctypes.c_char_p)),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("begin", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("argument", ctypes.c_int32),
        ("is_initialised", ctypes.c_int32),
    )


class _Configuration(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("dynamic_shared", ctypes.c_uint32),
        ("most_shared", ctypes.c_uint32),
        ("is_cooperative", ctypes.c_uint32),
        ("resident", ctypes.c_uint32),
        ("rounds_toward_zero", ctypes.c_uint32),
        ("flushes", ctypes.c_uint32),
        ("schedule", ctypes.c_uint32),
        ("buffer_count", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("buffers", ctypes.POINTER(_Buffer)),
    )


class Counts(ctypes.Structure):
    """What the last launch did; accesses are counted by the checker only."""

    _fields_ = (
        ("barriers", ctypes.c_uint64),
        ("collectives", ctypes.c_uint64),
        ("accesses", ctypes.c_uint64),
    )
    barriers: int
    collectives: int
    accesses: int


class Module:
    """The kernels of one file."""

    _launched: Module | None = None
    """The last one, whose stacks are still mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts = Counts()
        self._library = ctypes.CDLL(str(path))
        table = ctypes.cast(self._library.emulator_kernels, ctypes.POINTER(_Entry))
        self._entries: dict[str, _Entry] = {}
        place = 0
        while table[place].name:
            self._entries[table[place].name.decode()] = table[place]
            place += 1
        # asked now, by one thread: the first call of each writes down what it returns
        self._signatures = {
            name: entry.signature().decode().split() for name, entry in self._entries.items()
        }

    @property
    def names(self) -> list[str]:
        """Of the kernels."""
        return list(self._entries)

    def signature(self, name: str) -> list[str]:
        """Of each argument how it is passed and its type: ``["in:f4", "out:i4", "by:u8"]``."""
        return self._signatures[name]

    def __getitem__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: self.launch(name, *args, **kwargs)

    def launch(
        self, name: str, grid: int | Sequence[int], block: int | Sequence[int],
        arguments: Sequence[Any], *, shared: int = 0, schedule: str | int = "forward",
        cooperative: bool = False, resident: int = 1, toward_zero: bool = False,
        flush: bool = False, uninitialised: Sequence[int] = (), most_shared: int = MOST_SHARED,
    ) -> None:  # fmt: skip
        """Run a kernel.

        Parameters
        ----------
        name : str
        grid, block : int or sequence of int
        arguments : sequence
            Arrays, views too, which the kernel changes in place; numbers; None for null.
        shared : int
            Bytes of dynamic shared memory.
        schedule : {"forward", "reverse"} or int
            Which thread goes next; an int is the seed of a random choice.
        cooperative : bool
            All blocks at once, which may meet in ``grid_sync()``.
        resident : int
            Otherwise, how many blocks at once: when one ends, the next one begins. With a random
            choice of threads, they take turns.
        toward_zero : bool
            Tensor-core products are rounded toward zero.
        flush : bool
            Subnormal numbers are zeros, as they are in fp32 with the compiler's -ftz=true; here
            those of fp64 are, too. On x86-64 only.
        uninitialised : sequence of int
            Arguments that the checker has to see written before they are read.

        Raises
        ------
        LaunchError
            With the thread and, from the checker, the line.
        TypeError
            An argument is not what the kernel takes.
        """
        if flush and not CAN_FLUSH:
            raise LaunchError("subnormal numbers are flushed on x86-64 only")
        entry, signature = self._entries[name], self.signature(name)
        if len(signature) != len(arguments):
            raise TypeError(f"{name} takes {len(signature)} arguments, got {len(arguments)}")
        held: list[Any] = []
        buffers: list[_Buffer] = []
        for place, (given, wanted) in enumerate(zip(arguments, signature, strict=True)):
            way, kind = wanted.split(":")
            where = f"{name}: argument {place}"
            if way == "by":
                held.append(_value(given, kind, where))
                continue
            held.append(np.array(0 if given is None else given.ctypes.data, np.uintp))
            if given is not None:
                if given.dtype != np.dtype(kind):
                    raise TypeError(
                        f"{where} is an array of {given.dtype}, the kernel wants {kind}"
                    )
                begin, end = np.lib.array_utils.byte_bounds(given)
                buffers.append(_Buffer(begin, end - begin, place, place not in uninitialised))
        pointers = (ctypes.c_void_p * len(held))(*(value.ctypes.data for value in held))
        is_random = schedule not in _SCHEDULES
        configuration = _Configuration(
            grid=_three(grid), block=_three(block), dynamic_shared=shared, most_shared=most_shared,
            is_cooperative=cooperative, resident=resident, rounds_toward_zero=toward_zero,
            flushes=flush, schedule=_RANDOM if is_random else _SCHEDULES[schedule],
            seed=schedule if is_random else 0,
            buffer_count=len(buffers), buffers=(_Buffer * max(1, len(buffers)))(*buffers),
        )  # fmt: skip
        if Module._launched not in (None, self):
            Module._launched._library.emulator_release()
        Module._launched = self
        message = ctypes.create_string_buffer(1024)
        if self._library.emulator_launch(
            ctypes.byref(entry), ctypes.byref(configuration), pointers, message, len(message),
            ctypes.byref(self.counts),
        ):  # fmt: skip
            raise LaunchError(f"{name}: {self._with_line(message.value.decode())}")

    def _with_line(self, text: str) -> str:
        """`text` with the offset that the checker gives replaced by a line, and without folders."""
        text = re.sub(r"\S*/(\w+\.cuh?)\b", r"\1", text)
        found = re.search(r"\{\+0x([0-9a-f]+)\}", text)
        if not found:
            return text
        address = int(found[1], 16) - 1  # of the call, not of what follows it
        done = subprocess.run(
            ["addr2line", "-i", "-e", str(self.path), hex(address)], capture_output=True, text=True
        )
        lines = [line for line in done.stdout.split("\n") if ".cu" in line and "?" not in line]
        place = Path(lines[0].split(" ")[0]).name if lines else "an unknown line"
        return text.replace(found[0], f"at {place}")


def _value(given: Any, kind: str, where: str) -> np.ndarray:
    """`given` as a number of the type that the kernel takes."""
    if isinstance(given, np.generic) and given.dtype != np.dtype(kind):
        raise TypeError(f"{where} is a {given.dtype}, the kernel wants {kind}")
    with np.errstate(over="ignore"):
        value = np.array(given).astype(kind)
    if kind[0] != "f" and value != given:
        raise TypeError(f"{where} = {given} does not fit {kind}")
    return value


def _three(extent: int | Sequence[int]) -> Any:
    extents = (extent,) if isinstance(extent, int) else tuple(extent)
    return (ctypes.c_uint32 * 3)(*extents, *(1,) * (3 - len(extents)))
