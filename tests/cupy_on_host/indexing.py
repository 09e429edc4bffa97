"""Elements of device arrays: views by slices and integers, copies by index arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import ledger, streams
from .array import fresh, ndarray, require_current, touch, view_of
from .dtypes import is_scalar
from .settings import Misuse


def _lowered(key: Any, reads: list[ndarray]) -> tuple[Any, ...]:
    """The key for NumPy, as a tuple; index arrays of the host are brought to the device."""
    parts = key if isinstance(key, tuple) else (key,)
    done = []
    for part in parts:
        if isinstance(part, ndarray):
            require_current(part)
            reads.append(part)
            done.append(part._host)
        elif isinstance(part, list | np.ndarray):
            part = np.asarray(part, None if len(part) else np.intp) if np.ndim(part) else part
            ledger.note_transfer(np.asarray(part).nbytes, to_host=False)
            done.append(part)
        elif isinstance(part, bool | np.bool_):
            raise Misuse("an index that is True or False")
        else:
            done.append(part)
    return tuple(done)


def _is_basic(key: tuple[Any, ...]) -> bool:
    return not any(isinstance(part, np.ndarray | list) for part in key)


def _has_mask(key: tuple[Any, ...]) -> bool:
    return any(isinstance(part, np.ndarray) and part.dtype == bool for part in key)


def get(array: ndarray, key: Any) -> ndarray:
    """array[key]"""
    reads: list[ndarray] = []
    lowered = _lowered(key, reads)
    if _is_basic(lowered):
        lowered = lowered if any(part is Ellipsis for part in lowered) else (*lowered, Ellipsis)
        return view_of(array, array._host[lowered])
    require_current(array)
    if _has_mask(lowered):
        streams.fetch_size("index by a mask")
    return fresh("take", np.asarray(array._host[lowered]), [array, *reads])


def put(array: ndarray, key: Any, value: Any) -> None:
    """array[key] = value"""
    reads: list[ndarray] = []
    lowered = _lowered(key, reads)
    require_current(array)
    if _has_mask(lowered):
        streams.fetch_size("assignment by a mask")
    if isinstance(value, ndarray):
        require_current(value)
        reads.append(value)
        _require_distinct(lowered)
        value = value._host
    elif not _is_basic(lowered):  # CuPy makes an array of it first, even of a number
        value = np.asarray(value, array.dtype)
        ledger.note_transfer(value.nbytes, to_host=False)
    else:
        value = _filling(value)
    target = array[key] if _is_basic(lowered) else array
    touch("assign", reads, [target])
    with np.errstate(all="ignore"):
        array._host[lowered] = value


def _filling(value: Any) -> Any:
    """What a slice can be filled with."""
    if isinstance(value, np.ndarray):
        if value.shape != ():
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        return value.item()
    if not is_scalar(value):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _require_distinct(key: tuple[Any, ...]) -> None:
    """CuPy leaves open which value stays where an index stands twice."""
    arrays = [part for part in key if isinstance(part, np.ndarray) and part.dtype != bool]
    if len(arrays) == 1 and np.unique(arrays[0]).size < arrays[0].size:
        raise Misuse("an index array with an index twice, and different values assigned")
