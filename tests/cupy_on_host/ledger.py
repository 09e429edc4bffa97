"""What happens between host and device: transfers, synchronisations, launches, library calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .settings import Misuse


@dataclass
class Ledger:
    """What happened while it was open."""

    to_host: list[int] = field(default_factory=list)
    """Bytes of each transfer from a device."""
    to_device: list[int] = field(default_factory=list)
    """Bytes of each transfer to a device; small numbers made into arrays are such, too."""
    syncs: list[str] = field(default_factory=list)
    """Why the host waited."""
    launches: Counter[str] = field(default_factory=Counter)
    """Launches of RawModule kernels by name."""
    operations: Counter[str] = field(default_factory=Counter)
    """Array functions of CuPy, each of one or more kernels of its own."""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls of cuBLAS and cuSOLVER by name."""
    flops: Counter[str] = field(default_factory=Counter)
    """Of those calls; a complex multiplication and addition count as eight."""
    compiled: list[str] = field(default_factory=list)
    """Kernel files that were compiled or loaded."""

    @property
    def bytes_to_host(self) -> int:
        return sum(self.to_host)

    @property
    def bytes_to_device(self) -> int:
        return sum(self.to_device)


_open: list[Ledger] = []
when_crossed: list[Any] = []
"""Functions of what is about to happen, a transfer or a wait."""
_limits: list[int] = []


@contextmanager
def recorded() -> Iterator[Ledger]:
    """The ledger of what happens inside."""
    ledger = Ledger()
    _open.append(ledger)
    try:
        yield ledger
    finally:
        _open.remove(ledger)


@contextmanager
def forbidden_transfers(limit_bytes: int = 0) -> Iterator[None]:
    """No single transfer, to either side, of more than so many bytes."""
    _limits.append(limit_bytes)
    try:
        yield
    finally:
        _limits.remove(limit_bytes)


def note_transfer(nbytes: int, *, to_host: bool) -> None:
    """Bytes that cross."""
    for look in when_crossed:
        look("a transfer")
    if _limits and nbytes > min(_limits):
        way = "to the host" if to_host else "to the device"
        raise Misuse(f"a transfer of {nbytes} bytes {way}, where at most {min(_limits)} may be")
    for ledger in _open:
        (ledger.to_host if to_host else ledger.to_device).append(nbytes)


def note_sync(why: str) -> None:
    """The host waits."""
    for look in when_crossed:
        look(why)
    for ledger in _open:
        ledger.syncs.append(why)


def note_launch(name: str) -> None:
    """A kernel of the library."""
    for ledger in _open:
        ledger.launches[name] += 1


def note_operation(name: str) -> None:
    """A function of CuPy."""
    for ledger in _open:
        ledger.operations[name] += 1


def note_call(name: str, flops: float) -> None:
    """A call of cuBLAS or cuSOLVER."""
    for ledger in _open:
        ledger.calls[name] += 1
        ledger.flops[name] += flops


def note_compiled(file: str) -> None:
    """A module was loaded."""
    for ledger in _open:
        ledger.compiled.append(file)


def reset() -> None:
    """Close what was left open."""
    _open.clear()
    _limits.clear()
