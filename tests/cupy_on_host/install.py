"""A stand-in for CuPy, in its place for as long as a test lasts: the CUDA backend without a GPU.

Device arrays wrap NumPy's and never become one unasked. Kernels of `RawModule` are compiled and
launched by `tests.cuda_on_host`; cuBLAS and cuSOLVER are called with raw addresses, as ever, and
carried out by NumPy and SciPy. Names and signatures are those of CuPy 14 (`test_names.py` holds
them against the real one), as far as 13.4 has them, too.

What a GPU would not tell, or only by a wrong answer now and then, is an error here, `Misuse`:
pointers outside of what is allocated, operands that overlap, numbers of another type than the
kernel takes, work on two streams that nothing orders, library handles left in another mode, writes
beside an array. New memory is NaN. Tests see what crosses between host and device and what waits
(`recorded`, `forbidden_transfers`), and how much memory is held (`memory.peak`, `limit_memory`).

Not told: time; the rounding of the libraries on a device; what needs several things to run at
once, beyond the order of streams.

    from ..cupy_on_host.install import cupy_on_host, forbidden_transfers, recorded

    def test_something(cupy_on_host):
        a = cupy_on_host.asarray(...)
        with forbidden_transfers(8), recorded() as ledger:
            ...
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from . import capture, device, ledger, memory, streams
from .ledger import forbidden_transfers, recorded
from .memory import limit_memory
from .namespace import modules
from .settings import Misuse, settings

__all__ = [
    "Misuse", "cupy_on_host", "forbidden_transfers", "installed", "limit_memory", "recorded",
    "settings",
]  # fmt: skip

_ROOTS = ("cupy", "cupyx", "cupy_backends")
_KEPT = "mplinalg.kernels.cuda.catalogue"


def _is_of_cupy(name: str) -> bool:
    return name.split(".")[0] in _ROOTS


def _imports_cupy(name: str) -> bool:
    return name.startswith("mplinalg.ops.cupy_") or (
        name.startswith("mplinalg.kernels.cuda.") and name != _KEPT
    )


def _forget_importers() -> None:
    """The library's modules that hold a CuPy are imported anew."""
    for name in [name for name in sys.modules if _imports_cupy(name)]:
        del sys.modules[name]
        parent, _, last = name.rpartition(".")
        if hasattr(sys.modules.get(parent), last):
            delattr(sys.modules[parent], last)
    dispatch = sys.modules.get("mplinalg.ops.dispatch")
    for value in list(vars(dispatch).values()) if dispatch else ():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def _library_of(load: Any) -> Any:
    """`ctypes.CDLL`, which finds cuBLAS by the file of CuPy's module."""

    def found(name: Any, *args: Any, **kwargs: Any) -> Any:
        if name == capture.CUBLAS_FILE:
            return capture.CublasLibrary()
        return load(name, *args, **kwargs)

    return found


@contextmanager
def installed() -> Iterator[ModuleType]:
    """`import cupy` finds the stand-in while inside, which begins as new.

    On leaving, nothing may have gone wrong that could not be raised: writes beside an array,
    memory given back while a stream may use it, library handles left in another mode.
    """
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_of_cupy(name)}
    _forget_importers()
    for part in (settings, ledger, streams, device, memory):
        part.reset()
    made = modules()
    sys.modules.update(made)
    load = ctypes.CDLL
    ctypes.CDLL = _library_of(load)  # type: ignore[misc]
    gc.freeze()  # what was there before is left out of the collections below
    try:
        yield made["cupy"]
        gc.collect()
        memory.check_all_guards()
        wrong = [*memory.found, *device.handles_at_rest()]
        if wrong:
            raise Misuse("; ".join(wrong))
    finally:
        ctypes.CDLL = load  # type: ignore[misc]
        _forget_importers()
        gc.collect()  # what these modules kept is given back while its streams are known
        gc.unfreeze()
        for name in [name for name in sys.modules if _is_of_cupy(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        for part in (settings, ledger, streams, device, memory):
            part.reset()


@pytest.fixture
def cupy_on_host() -> Iterator[ModuleType]:
    """The stand-in's `cupy`, installed."""
    with installed() as module:
        yield module
