"""Which Ops an array belongs to. The data decide; nothing is moved."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .batched import BatchedOps
from .fem import FemOps
from .nn import NnOps
from .nn_steps import StepOps
from .nn_updates import UpdateOps
from .numpy_batched import NumpyBatchedOps
from .numpy_lines import compiled
from .numpy_ops import NumpyOps
from .protocol import DirectOps, Ops
from .staging import HostStaging, Staging, host_free_bytes

_NUMPY = NumpyOps()
_NUMPY_BATCHED: Any = NumpyBatchedOps()


def ops_for(*arrays: Any) -> Ops:
    """The backend of `arrays`.

    Raises
    ------
    TypeError
        If an array lives where no backend computes, or some are of NumPy and some of CuPy.
    ValueError
        If they are on different devices.
    """
    for a in arrays:
        if not isinstance(a, np.ndarray):
            return _device_ops_for(arrays)
    return _NUMPY


def direct_ops_for(a: Any) -> DirectOps:
    """The backend of an array that `is_on_host`."""
    assert is_on_host(a)
    return _NUMPY


def batched_ops_for(*arrays: Any) -> BatchedOps:
    """The backend of stacks of small problems.

    Raises
    ------
    TypeError, ValueError
        As `ops_for`.
    """
    return _NUMPY_BATCHED if ops_for(*arrays) is _NUMPY else _cupy_batched()


def fem_ops_on(device: str) -> FemOps:
    """The backend of finite elements on "cpu", or "cuda".

    Raises
    ------
    ImportError
        CuPy is not installed.
    """
    return _numpy_fem() if ops_on(device) is _NUMPY else _cupy_fem()


def update_ops_for(*arrays: Any) -> UpdateOps:
    """The backend of parameters and their gradients.

    Raises
    ------
    TypeError, ValueError
        As `ops_for`.
    """
    return _numpy_updates() if ops_for(*arrays) is _NUMPY else _cupy_updates()


def nn_ops_for(*arrays: Any) -> NnOps:
    """The backend of layers on images.

    Raises
    ------
    TypeError, ValueError
        As `ops_for`.
    """
    return _numpy_nn() if ops_for(*arrays) is _NUMPY else _cupy_nn()


def step_ops_for(*arrays: Any) -> StepOps | None:
    """What trains such parameters without the host, or None."""
    if ops_for(*arrays) is _NUMPY:
        return None
    steps, is_taken = _cupy_steps()
    return steps if is_taken(*arrays) else None


def is_on_host(a: Any) -> bool:
    """Whether the backend of `a` is a `DirectOps`: that of NumPy's arrays is."""
    return isinstance(a, np.ndarray)


def is_on_device(a: Any) -> bool:
    """Whether `a` is a CuPy array."""
    return type(a).__module__.partition(".")[0] == "cupy" and hasattr(a, "device")


def _device_ops_for(arrays: tuple[Any, ...]) -> Ops:
    for a in arrays:
        if not (is_on_host(a) or is_on_device(a)):
            raise TypeError(
                f"no backend for arrays of type {type(a).__module__}.{type(a).__qualname__}: "
                "this version computes on NumPy and CuPy arrays; convert explicitly"
            )
    if any(is_on_host(a) for a in arrays):
        raise TypeError(
            "NumPy and CuPy arrays in one call: nothing is moved to or from a device unasked; "
            "convert with cupy.asarray or cupy.asnumpy"
        )
    ops = _cupy()
    ops.require_one_device(*arrays)
    return ops


@functools.cache
def _numpy_fem() -> FemOps:
    from .numpy_fem import NumpyFem

    return NumpyFem()


@functools.cache
def _cupy_fem() -> Any:
    from .cupy_fem import CupyFem

    return CupyFem()


@functools.cache
def _numpy_updates() -> UpdateOps:
    from .numpy_nn_updates import NumpyUpdates

    return NumpyUpdates()


@functools.cache
def _cupy_updates() -> Any:
    from .cupy_nn_updates import CupyUpdates

    return CupyUpdates()


@functools.cache
def _numpy_nn() -> NnOps:
    from .numpy_nn import NumpyNn

    return NumpyNn()


@functools.cache
def _cupy_nn() -> Any:
    from .cupy_nn import CupyNn

    return CupyNn()


@functools.cache
def _cupy_steps() -> tuple[Any, Any]:
    from .cupy_nn import is_taken
    from .cupy_nn_steps import CupySteps

    return CupySteps(), is_taken


@functools.cache
def _cupy_batched() -> Any:
    from .cupy_batched import CupyBatchedOps

    return CupyBatchedOps()


@functools.cache
def _cupy() -> Any:
    from .cupy_ops import CupyOps

    return CupyOps()


def ops_on(device: str) -> Ops:
    """The backend that computes on "cpu", or "cuda".

    Raises
    ------
    ImportError
        CuPy is not installed.
    """
    if device == "cpu":
        return _NUMPY
    try:
        ops: Ops = _cupy()
    except ModuleNotFoundError as error:
        raise ImportError(
            "device='cuda' needs CuPy: pip install 'mplinalg[cuda12]' or 'mplinalg[cuda13]'"
        ) from error
    return ops


def staging_on(device: str, limit: int, *, is_managed: bool = False) -> Staging:
    """What moves arrays to "cpu", or "cuda", where they may take `limit` bytes."""
    if device == "cpu":
        return HostStaging(_NUMPY)
    from .cupy_staging import CupyStaging

    return CupyStaging(ops_on(device), limit, is_managed=is_managed)


def free_bytes_on(device: str) -> int:
    """Memory of "cpu", or "cuda", that new allocations may take."""
    if device == "cpu":
        return host_free_bytes()
    from .cupy_staging import free_bytes

    return free_bytes()


def read_lines(descriptor: int, place: int, stride: int, line: Any, out: Any) -> int:
    """out[i] <- what is in a file from `place` + i `stride` on, in the dtype of `line`.

    `line` is as long as a row of `out`; both are real. Returns how many lines were read to their
    ends: all, unless something is wrong.
    """
    return int(compiled("files").read_lines(descriptor, place, stride, line, out))
