"""cuBLAS inside of a captured stream, where CuPy's functions refuse to call it.

They set the stream of the handle at each call, and raise NotImplementedError if that stream is
captured (https://github.com/cupy/cupy/issues/6290). cuBLAS itself can be captured (its
documentation, "CUDA Graphs Support"): so the stream is set before, and its functions are then
called as they are, found in the library that CuPy's module is linked to.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cupy.cuda import device
from cupy_backends.cuda.libs import cublas

__all__ = ["captured", "routine"]

_INT, _POINTER, _LONG = ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong
_PLAIN = (
    *(_INT,) * 5, _POINTER, _POINTER, _INT, _POINTER, _INT, _POINTER, _POINTER, _INT,
)  # fmt: skip
_MIXED = (
    *(_INT,) * 5, _POINTER, _POINTER, _INT, _INT, _POINTER, _INT, _INT, _POINTER, _POINTER, _INT,
    _INT, _INT, _INT,
)  # fmt: skip
_STACKS = (
    *(_INT,) * 5, _POINTER, _POINTER, _INT, _INT, _LONG, _POINTER, _INT, _INT, _LONG, _POINTER,
    _POINTER, _INT, _INT, _LONG, _INT, _INT, _INT,
)  # fmt: skip
_SYMBOLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "sgemm": ("cublasSgemm_v2", _PLAIN), "dgemm": ("cublasDgemm_v2", _PLAIN),
    "gemmEx": ("cublasGemmEx", _MIXED),
    "gemmStridedBatchedEx": ("cublasGemmStridedBatchedEx", _STACKS),
}  # fmt: skip
"""Of CuPy's name: that in the library, and the arguments after the handle."""


class _Local(threading.local):
    is_captured = False


_local = _Local()


@contextlib.contextmanager
def captured(stream: Any) -> Iterator[None]:
    """Products go to `stream`, which is captured inside, and is current; not yet when it enters."""
    cublas.setStream(device.get_cublas_handle(), stream.ptr)
    _local.is_captured = True
    try:
        yield
    finally:
        _local.is_captured = False


def routine(given: Callable[..., Any]) -> Callable[..., Any]:
    """What is called in the place of a function of CuPy: itself, if nothing is captured."""
    return _direct(given.__name__) if _local.is_captured else given


@functools.cache
def _library() -> Any:
    return ctypes.CDLL(cublas.__file__)


@functools.cache
def _direct(name: str) -> Callable[..., None]:
    if name not in _SYMBOLS:
        raise NotImplementedError(f"cuBLAS's {name} is not known in a captured stream")
    symbol, kinds = _SYMBOLS[name]
    function = getattr(_library(), symbol)
    function.argtypes, function.restype = (_POINTER, *kinds), _INT

    def call(*arguments: Any) -> None:
        status = function(*arguments)
        if status:
            raise cublas.CUBLASError(status)

    return call
