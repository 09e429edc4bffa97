"""Streams that are captured, and graphs: what is asked for is written down and done at launches.

Here everything is carried out when it is asked for, to know the shapes of what comes of it; at
the end of a capture all memory is as it was, and new memory is garbage. A launch repeats the
calls in order, on the same memory. Refused are, while a stream is captured: transfers and waits,
work on other streams, memory that comes from no pool of its own, cuBLAS by CuPy's functions or
without a workspace of its own, and functions that are not among those that can be repeated; at a
launch: memory, a workspace, or a pool, that was given back. A pool that a graph has taken memory
from gives none to others, which the launches would write to.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from . import hazards, ledger, memory
from .settings import Misuse

CUBLAS_FILE = "cublas of the stand-in"
"""What `cublas.__file__` says, by which its library is found."""
_REFUSED = "calling cuBLAS API during stream capture is currently unsupported"
_DIRECT = {
    "cublasSgemm_v2": ("sgemm", 4, (5, 10)), "cublasDgemm_v2": ("dgemm", 8, (5, 10)),
    "cublasGemmEx": ("gemmEx", 4, (5, 12)),
    "cublasGemmStridedBatchedEx": ("gemmStridedBatchedEx", 4, (5, 14)),
}  # fmt: skip
"""Of a symbol: CuPy's name, bytes of alpha and beta, and their places."""


class Capture:
    """What happens to a stream from `begin_capture` to `end_capture`."""

    def __init__(self, stream: Any) -> None:
        gc.collect()
        self.stream = stream
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []
        self.depth = 0
        self.before = {b: b.host.copy() for b in memory.live()}
        self.pools: set[Any] = set()
        self.taken: list[Any] = []

    def restore(self) -> None:
        """Nothing was done."""
        for buffer in memory.live():
            buffer.host[:] = self.before.get(buffer, 0xFF)


_active: list[Capture] = []
_issued: list[str] = []
"""Of a call of cuBLAS that is none of CuPy's, while it lasts."""
_owned: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""Of a pool: the graph that has memory of it, weakly."""


def is_captured(stream: Any) -> bool:
    """Whether that one is."""
    return bool(_active) and _active[0].stream == stream


def begin(stream: Any) -> None:
    """As cudaStreamBeginCapture."""
    if stream.ptr in (0, 2):
        raise RuntimeError(
            "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
        )
    if _active:
        raise Misuse("one stream is captured at a time here")
    _active.append(Capture(stream))


def end(stream: Any) -> Graph:
    """As cudaStreamEndCapture."""
    if not is_captured(stream):
        raise RuntimeError("cudaErrorIllegalState: the stream is not captured")
    done = _active.pop()
    done.restore()
    return Graph._of(done)


def reset() -> None:
    """Nothing is captured."""
    _active.clear()
    _owned.clear()


def repeatable(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the device that a graph can repeat."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _active:
            return function(*args, **kwargs)
        here = _active[0]
        here.depth += 1
        try:
            result = function(*args, **kwargs)
        finally:
            here.depth -= 1
        if not here.depth:
            here.calls.append((function, args, kwargs, result))
        return result

    return call


def watch(line: hazards.Line, what: str) -> bool:
    """An operation of the device: whether it is captured."""
    if not _active:
        return False
    if line is not _active[0].stream.line:
        raise Misuse(f"{what} on another stream while one is captured")
    if not _active[0].depth:
        raise Misuse(f"{what} cannot be repeated by a graph here")
    return True


def refuse(what: str) -> None:
    """What a captured stream does not take."""
    if _active:
        raise Misuse(f"{what} while a stream is captured")


def note_pool(allocator: Any) -> None:
    """Memory is taken."""
    pool = getattr(allocator, "__self__", None)
    if pool in _owned and _owned[pool]() is not None:
        raise Misuse("memory of the pool of a graph is taken, to which its launches write")
    if not _active:
        return
    if pool is None:
        raise Misuse("memory of the common pool while a stream is captured: others will have it")
    _active[0].pools.add(pool)


def is_direct() -> bool:
    """Whether cuBLAS is called by none of CuPy's functions."""
    return bool(_issued)


def keep(buffer: Any) -> None:
    """The pool has it as long as the graph is there."""
    if _active:
        _active[0].taken.append(buffer)


def refuse_cublas() -> None:
    """CuPy's functions set the stream, and do not if it is captured."""
    if _active and not _issued:
        raise NotImplementedError(_REFUSED)


class Graph:
    """`cupy.cuda.Graph`."""

    __module__ = "cupy.cuda.graph"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            "currently this class cannot be initiated by the user and must be created via stream "
            "capture"
        )

    @classmethod
    def _of(cls, done: Capture) -> Graph:
        made = cls.__new__(cls)
        made._pools = [weakref.ref(pool) for pool in done.pools]
        _owned.update({pool: weakref.ref(made) for pool in done.pools})
        made._taken = done.taken
        made._given = {}
        made._calls = [
            (
                f,
                made._loosened(args, done),
                made._loosened(kwargs, done),
                made._loosened(result, done),
            )
            for f, args, kwargs, result in done.calls
        ]
        return made

    def _loosened(self, x: Any, done: Capture) -> Any:
        """Arrays that were there before are not kept by a graph."""
        from .array import ndarray

        if isinstance(x, tuple | list):
            return type(x)(self._loosened(part, done) for part in x)
        if isinstance(x, dict):
            return {key: self._loosened(part, done) for key, part in x.items()}
        if not isinstance(x, ndarray) or x._buffer not in done.before:
            return x
        self._given[id(x._buffer)] = weakref.ref(x._buffer)
        made = ndarray.__new__(ndarray)
        made._host, made._buffer, made.base = x._host, weakref.proxy(x._buffer), None
        return made

    def upload(self, stream: Any = None) -> None:
        """Nothing is to be done."""

    def launch(self, stream: Any = None) -> None:
        from .array import ndarray
        from .streams import get_current_stream

        refuse("the launch of a graph")
        if any(ref() is None for ref in self._given.values()):
            raise Misuse("a graph uses memory that was given back")
        if any(ref() is None for ref in self._pools):
            raise Misuse("a graph uses memory of a pool that is gone")
        ledger.note_call("graphLaunch", 0.0)
        with get_current_stream() if stream is None else stream:
            for function, args, kwargs, before in self._calls:
                now = function(*args, **kwargs)
                pairs = zip(_several(before), _several(now), strict=True)
                for old, new in pairs:
                    if isinstance(old, ndarray) and old._host.ctypes.data != new._host.ctypes.data:
                        old._host[...] = new._host


def _several(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


# -- cuBLAS itself ---------------------------------------------------------------------------------


class CublasLibrary:
    """What `ctypes.CDLL` finds behind CuPy's module: functions that leave the stream alone."""

    def __init__(self) -> None:
        self.cublasSetWorkspace_v2 = _set_workspace
        for symbol in _DIRECT:
            setattr(self, symbol, _direct(symbol))


def _set_workspace(handle: int, pointer: int, size: int) -> int:
    from . import device

    state = device.handle(handle, "cublas")
    buffer = memory.buffer_at(pointer)
    if buffer is None or pointer % 256 or pointer + size > buffer.ptr + buffer.nbytes:
        raise Misuse(f"{size} bytes at {pointer:#x} are no workspace")
    if is_captured_by(state.stream):
        raise Misuse("a workspace is given to a handle whose stream is captured already")
    state.workspace = weakref.ref(buffer)
    return 0


def is_captured_by(stream: int) -> bool:
    """Whether the stream of a handle is."""
    return bool(_active) and _active[0].stream.ptr == stream


def _direct(symbol: str) -> Callable[..., int]:
    from . import cublas, device, streams

    name, size, places = _DIRECT[symbol]

    @repeatable
    def run(
        mode: int, stream: int, workspace: Any, numbers: list[np.ndarray], handle: int, *args: Any
    ) -> int:  # fmt: skip
        state = device.handle(handle, "cublas")
        if stream != streams.get_current_stream().ptr and is_captured(streams.get_current_stream()):
            raise Misuse(f"{symbol} goes to stream {stream:#x}, which is not the captured one")
        if workspace is not None and workspace() is None:
            raise Misuse(f"the workspace of {symbol} was given back")
        given, before = list(args), state.pointer_mode
        for place, number in zip(places, numbers, strict=False):
            given[place] = number.ctypes.data
        state.pointer_mode = mode
        _issued.append(symbol)
        try:
            cublas.FUNCTIONS[name](handle, *given)
        except cublas.CUBLASError as error:
            return error.status
        finally:
            _issued.pop()
            state.pointer_mode = before
        return 0

    def call(handle: int, *args: Any) -> int:
        state = device.handle(handle, "cublas")
        if _active and state.workspace is None:
            raise Misuse(f"{symbol} without a workspace of its own while a stream is captured")
        numbers = []
        if state.pointer_mode == 0:  # read now, as by a graph
            numbers = [np.frombuffer(ctypes.string_at(args[k], size), np.uint8) for k in places]
        return int(run(state.pointer_mode, state.stream, state.workspace, numbers, handle, *args))

    call.__name__ = symbol
    return call
