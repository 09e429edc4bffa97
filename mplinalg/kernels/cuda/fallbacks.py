"""What is computed without the library's own kernels, device by device."""

from __future__ import annotations

import threading
import warnings

import cupy

from ...errors import LinAlgWarning
from .loader import KernelUnavailable

_notes: dict[int, list[str]] = {}
_lock = threading.Lock()


def note(reason: KernelUnavailable) -> None:
    """Remember that a kernel is replaced; the first one of a device is warned of."""
    device, line = cupy.cuda.Device().id, str(reason)
    with _lock:
        lines = _notes.setdefault(device, [])
        is_first, is_new = not lines, line not in lines
        if is_new:
            lines.append(line)
    if is_first:
        warnings.warn(
            f"device {device}: a kernel is replaced by functions of cuBLAS, cuSOLVER or CuPy, "
            f"which are slower: {line}",
            LinAlgWarning,
            stacklevel=3,
        )


def notes() -> tuple[str, ...]:
    """One line for each kernel that was replaced on the current device."""
    with _lock:
        return tuple(_notes.get(cupy.cuda.Device().id, ()))


def forget() -> None:
    """As if no kernel had been replaced."""
    with _lock:
        _notes.clear()
