"""New device arrays: of nothing, of numbers, of what the host has, of what a device has."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import ledger
from .array import fresh, ndarray, require_array, require_current, touch, view_of
from .capture import repeatable
from .device import current_device
from .dtypes import dtype_of, is_scalar


def _like(a: ndarray, dtype: Any, order: str, shape: Any) -> ndarray:
    require_array(a)
    dtype = a.dtype if dtype is None else dtype_of(dtype)
    if shape is not None and order in ("K", "A", None):
        order = "C"
    model = np.empty_like(a._host, dtype, order or "K", shape=shape)
    made = ndarray(model.shape, dtype, order="F" if model.flags.fnc else "C")
    return made if model.flags.forc else ndarray(model.shape, dtype, made.data, model.strides)


@repeatable
def _filled(what: str, made: ndarray, value: Any) -> ndarray:
    if isinstance(value, ndarray):
        made[...] = value
        return made
    if not is_scalar(value):
        raise TypeError(f"Unsupported type {type(value)}")
    touch(what, [], [made])
    with np.errstate(all="ignore"):
        made._host[...] = value
    return made


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return _filled("zeros", ndarray(shape, dtype, order=order), 0)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return _filled("ones", ndarray(shape, dtype, order=order), 1)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.array(fill_value).dtype
    return _filled("full", ndarray(shape, dtype, order=order), fill_value)


def empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None
) -> ndarray:
    return _like(prototype, dtype, order, shape)


def zeros_like(
    a: ndarray, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None
) -> ndarray:
    return _filled("zeros_like", _like(a, dtype, order, shape), 0)


def ones_like(
    a: ndarray, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None
) -> ndarray:
    return _filled("ones_like", _like(a, dtype, order, shape), 1)


def full_like(
    a: ndarray, fill_value: Any, dtype: Any = None, order: str = "K", subok: None = None,
    shape: Any = None,
) -> ndarray:  # fmt: skip
    return _filled("full_like", _like(a, dtype, order, shape), fill_value)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float, order: str = "C") -> ndarray:
    return fresh("eye", np.eye(N, M, k, dtype_of(dtype), order=order), order=order)


def identity(n: int, dtype: Any = float) -> ndarray:
    return eye(n, dtype=dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    if any(isinstance(x, ndarray | np.ndarray) for x in (start, stop, step)):
        raise TypeError("arange takes numbers")
    start, stop = (0, start) if stop is None else (start, stop)
    return fresh("arange", np.arange(start, stop, step, dtype))


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0,
) -> Any:  # fmt: skip
    done = np.linspace(start, stop, num, endpoint, retstep, dtype, axis)
    return (fresh("linspace", done[0]), done[1]) if retstep else fresh("linspace", done)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = float) -> ndarray:
    return fresh("tri", np.tri(N, M, k, dtype_of(dtype)))


# -- from what there is ----------------------------------------------------------------------------


@repeatable
def array(
    obj: Any, dtype: Any = None, copy: bool | None = True, order: str = "K", subok: bool = False,
    ndmin: int = 0, *, blocking: bool = False,
) -> ndarray:  # fmt: skip
    if subok:
        raise NotImplementedError
    dtype = None if dtype is None else dtype_of(dtype)
    if isinstance(obj, ndarray):
        made = _of_device(obj, dtype, copy, order)
    elif copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    elif isinstance(obj, list | tuple) and _holds_arrays(obj):
        made = _of_nested(obj, dtype, order)
    else:
        made = _uploaded(obj, dtype, order)
    if made.ndim < ndmin:
        made = view_of(made, made._host[(None,) * (ndmin - made.ndim)])
    return made


def _of_device(obj: ndarray, dtype: Any, copy: bool | None, order: str) -> ndarray:
    order = "K" if order is None else order
    dtype = obj.dtype if dtype is None else dtype
    if obj._buffer.device_id != current_device():
        obj = obj.copy("A")
        copy = None if copy else copy
    made = obj.astype(dtype, order, copy=bool(copy))
    if copy is False and made is not obj:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    return made


def _holds_arrays(obj: Any) -> bool:
    return any(
        isinstance(x, ndarray) or (isinstance(x, list | tuple) and _holds_arrays(x)) for x in obj
    )


def _of_nested(obj: Any, dtype: Any, order: str) -> ndarray:
    """Lists that hold device arrays, as one array."""
    reads: list[ndarray] = []

    def lowered(x: Any) -> Any:
        if isinstance(x, ndarray):
            require_current(x)
            reads.append(x)
            return x._host
        return [lowered(part) for part in x] if isinstance(x, list | tuple) else x

    host = np.array(lowered(obj), dtype, order="F" if order == "F" else "C")
    return fresh("array", host, reads, order="K")


def _uploaded(obj: Any, dtype: Any, order: str) -> ndarray:
    """What the host has, in the layout of the host where that is by rows or by columns."""
    order = {"K": "A", None: "A"}.get(order, order)
    host = np.array(obj, dtype, order=order)
    dtype_of(host.dtype)
    if not host.ndim:  # a number is an argument of a kernel
        return fresh("fill", host)
    ledger.note_transfer(host.nbytes, to_host=False)
    return fresh("upload", host, order="K" if host.flags.forc else "C")


def asarray(
    a: Any, dtype: Any = None, order: str | None = None, *, copy: bool | None = None,
    blocking: bool = False,
) -> ndarray:  # fmt: skip
    return array(a, dtype, copy, order or "K")


asanyarray = asarray


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    return array(a, dtype, None, "C", ndmin=1)


def asfortranarray(a: Any, dtype: Any = None) -> ndarray:
    return array(a, dtype, None, "F", ndmin=1)


def copy(a: Any, order: str = "K") -> ndarray:
    return a.copy(order) if isinstance(a, ndarray) else array(a, order=order)


def asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    return np.asarray(a, order=order)
