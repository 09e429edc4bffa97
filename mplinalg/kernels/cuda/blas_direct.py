"""cuBLAS inside of a captured stream, where CuPy's functions refuse to call it.

They set the stream of the handle at each call, and raise NotImplementedError if that stream is
captured (https://github.com/cupy/cupy/issues/6290). cuBLAS itself can be captured (its
documentation, "CUDA Graphs Support"): so the stream is set before, and its functions are then
called as they are, found in the library that CuPy's module is linked to.

It is given a workspace, which a graph uses at every launch. Without one cuBLAS puts nodes into the
graph that allocate it and give it back, around each product that wants one.
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
_SET_WORKSPACE = "cublasSetWorkspace_v2"
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
def captured(stream: Any, workspace: Any) -> Iterator[None]:
    """Products go to `stream`, which is captured inside, and is current; not yet when it enters.

    `workspace` is an array of bytes that has to last as long as what is captured.
    """
    handle = device.get_cublas_handle()
    cublas.setStream(handle, stream.ptr)  # first, as it takes away any workspace
    try:
        set_workspace = _symbol(_SET_WORKSPACE, (_POINTER, ctypes.c_size_t))
        set_workspace(handle, workspace.data.ptr, workspace.nbytes)
        _local.is_captured = True
        yield
    finally:
        _local.is_captured = False
        cublas.setStream(handle, 0)  # as CuPy sets it at each call, for cuBLAS's own workspace


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
    return _symbol(*_SYMBOLS[name])


def _symbol(symbol: str, kinds: tuple[Any, ...]) -> Callable[..., None]:
    """A function of the library, which takes a handle and arguments of these kinds."""
    try:
        function = getattr(_library(), symbol)
    except (AttributeError, OSError) as error:
        raise NotImplementedError(f"{symbol} is not found in {cublas.__file__}") from error
    function.argtypes, function.restype = (_POINTER, *kinds), _INT

    def call(*arguments: Any) -> None:
        status = function(*arguments)
        if status:
            raise cublas.CUBLASError(status)

    return call
