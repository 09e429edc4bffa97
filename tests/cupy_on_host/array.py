"""`cupy.ndarray`: an array that wraps NumPy's, in device memory, and never becomes one unasked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from . import hazards, ledger, memory, streams
from .capture import repeatable
from .device import Device, current_device
from .dtypes import dtype_of, is_scalar
from .subnormals import flushed

_GARBAGE = {"i": 0x7E, "u": 0x7E, "b": 0x01}
"""The byte that new integers are made of, large as an index; other memory is NaN."""
_K_DL_CUDA = 2


class Flags:
    """What `ndarray.flags` shows."""

    def __init__(self, host: np.ndarray, owndata: bool) -> None:
        self.c_contiguous, self.f_contiguous = host.flags.c_contiguous, host.flags.f_contiguous
        self.owndata = owndata

    @property
    def fnc(self) -> bool:
        return self.f_contiguous and not self.c_contiguous

    @property
    def forc(self) -> bool:
        return self.f_contiguous or self.c_contiguous

    @repeatable
    def __getitem__(self, name: str) -> bool:
        names = {"C": "c_contiguous", "F": "f_contiguous", "O": "owndata"}
        return getattr(self, names.get(name, name.lower()))

    def __repr__(self) -> str:
        return "".join(
            f"  {name.upper()} : {getattr(self, name)}\n"
            for name in ("c_contiguous", "f_contiguous", "owndata")
        )


class ndarray:
    """`cupy.ndarray`."""

    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: memory.MemoryPointer | None = None,
        strides: Any = None, order: str = "C",
    ) -> None:  # fmt: skip
        dtype = dtype_of(dtype)
        shape = (shape,) if np.isscalar(shape) else tuple(int(length) for length in shape)
        if any(length < 0 for length in shape):
            raise ValueError("Negative dimensions are not allowed")
        nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if memptr is None:
            if strides is not None:
                raise ValueError("memptr is required if strides is given.")
            memptr = memory.alloc(nbytes)
            memptr.mem.host[:] = _GARBAGE.get(dtype.kind, 0xFF)
        offset = memptr.ptr - memptr.mem.ptr
        self._host = np.ndarray(
            shape, dtype, memptr.mem.host, offset, strides, order="C" if order is None else order
        )
        self._buffer = memptr.mem
        self.base: ndarray | None = None

    # -- what it is -----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        view = self._host.view()
        view.shape = shape  # without a copy, or not at all
        self._host = view

    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: Flags(self._host, self.base is None))
    device = property(lambda self: Device(self._buffer.device_id))

    @property
    def data(self) -> memory.MemoryPointer:
        offset = self._host.ctypes.data - self._buffer.ptr if self._buffer.nbytes else 0
        return memory.MemoryPointer(self._buffer, offset)

    @property
    def T(self) -> ndarray:
        return self if self.ndim < 2 else self.transpose()

    @property
    def real(self) -> ndarray:
        return view_of(self, self._host.real) if self.dtype.kind == "c" else self

    @real.setter
    def real(self, value: Any) -> None:
        self.real[...] = value

    @property
    def imag(self) -> ndarray:
        if self.dtype.kind == "c":
            return view_of(self, self._host.imag)
        return fresh("imag", np.zeros(self.shape, self.dtype))

    @imag.setter
    def imag(self, value: Any) -> None:
        if self.dtype.kind != "c":
            raise TypeError("cupy.ndarray does not have imaginary part to set")
        self.imag[...] = value

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr if self.size else 0, False),
            "stream": streams.get_current_stream().ptr or 1,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return _K_DL_CUDA, self._buffer.device_id

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None,
        copy: Any = None,
    ) -> Any:  # fmt: skip
        from .dlpack import capsule_of

        return capsule_of(self)

    # -- to the host and back -------------------------------------------------------------------

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
            if out.dtype != self.dtype:
                raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
            if out.shape != self.shape:
                raise ValueError(
                    f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}"
                )
            if not out.flags.forc:
                raise RuntimeError("`out` cannot be specified when copying to non-contiguous")
        host = np.empty(self.shape, self.dtype, _order(order, self)) if out is None else out
        if self.size == 0:
            return host
        contiguous = host.flags.c_contiguous and self.flags.c_contiguous
        if not contiguous and not (host.flags.f_contiguous and self.flags.f_contiguous):
            with Device(self._buffer.device_id):  # brought into order on the device first
                ndarray(self.shape, self.dtype)
        _bring("get", self, host, stream if blocking else None)
        return host

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        ledger.note_transfer(self.nbytes, to_host=False)
        with Device(self._buffer.device_id):
            touch("set", [], [self], stream)
        self._host[...] = arr

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self._fetch("item").item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)

    def _fetch(self, why: str) -> np.ndarray:
        host = np.empty(self.shape, self.dtype)
        if self.size:
            _bring(why, self, host, None)
        return host

    def __bool__(self) -> bool:
        if self.size == 0:
            return False
        return bool(self._fetch("bool"))

    def __int__(self) -> int:
        return int(self._fetch("int"))

    def __float__(self) -> float:
        return float(self._fetch("float"))

    def __complex__(self) -> complex:
        return complex(self._fetch("complex"))

    def __repr__(self) -> str:
        return repr(self._host)  # for people and failing tests, so that it is no transfer

    def __str__(self) -> str:
        return str(self._host)

    def __format__(self, format_spec: str) -> str:
        return format(self._fetch("format"), format_spec)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __reduce__(self) -> Any:
        from .creation import array

        return array, (self.get(),)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        with self.device:
            return self.copy()

    # -- elements -------------------------------------------------------------------------------

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[ndarray]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, key: Any) -> ndarray:
        from .indexing import get

        return get(self, key)

    @repeatable
    def __setitem__(self, key: Any, value: Any) -> None:
        from .indexing import put

        put(self, key, value)

    @repeatable
    def fill(self, value: Any) -> None:
        if isinstance(value, np.ndarray):
            if value.shape != ():
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            value = value.item()
        if isinstance(value, ndarray):
            self[...] = value
            return
        if not is_scalar(value):
            raise TypeError(f"Unsupported type {type(value)}")
        touch("fill", [], [self])
        with np.errstate(all="ignore"):
            self._host[...] = value

    # -- copies and views -----------------------------------------------------------------------

    @repeatable
    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None,
        copy: bool = True,
    ) -> ndarray:  # fmt: skip
        if casting is not None:
            raise TypeError("casting is not supported yet")
        if subok is not None:
            raise TypeError("subok is not supported yet")
        dtype = dtype_of(dtype)
        with np.errstate(all="ignore"):
            host = self._host.astype(dtype, order="K" if order is None else order, copy=copy)
            if host is self._host:
                return self
            if dtype != self.dtype and "f" in (dtype.char.lower(), self.dtype.char.lower()):
                host[...] = flushed(flushed(self._host).astype(dtype))
        return fresh("astype", host, [self], order="K")

    def copy(self, order: str = "C") -> ndarray:
        if self._buffer.device_id == current_device():
            return self.astype(self.dtype, order=order)
        if not self.flags.forc:
            raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
        with self.device:
            touch("copy", [self], [])
        return fresh("copy", self._host.copy("A"), order="K")

    def view(self, dtype: Any = None, array_class: Any = None) -> ndarray:
        return view_of(self, self._host.view(self.dtype if dtype is None else dtype_of(dtype)))

    @repeatable
    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> ndarray:
        return of_result("reshape", self._host.reshape(*shape, order=order), [self])

    @repeatable
    def ravel(self, order: str = "C") -> ndarray:
        return of_result("ravel", self._host.ravel(order), [self])

    @repeatable
    def flatten(self, order: str = "C") -> ndarray:
        return fresh("flatten", self._host.flatten(order), [self])

    def transpose(self, *axes: Any) -> ndarray:
        return view_of(self, self._host.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        return view_of(self, self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> ndarray:
        return view_of(self, self._host.squeeze(axis))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
        host = self._host.diagonal(offset, axis1, axis2)
        host.flags.writeable = True  # CuPy has no views that may not be written
        return view_of(self, host)

    def conj(self) -> ndarray:
        from .ufuncs import UFUNCS

        return UFUNCS["conj"](self) if self.dtype.kind == "c" else self

    conjugate = conj

    # -- NumPy's functions ----------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from .ufuncs import UFUNCS

        if "out" in kwargs:
            if len(kwargs["out"]) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            kwargs["out"] = kwargs["out"][0]
        known = UFUNCS.get(ufunc.__name__)
        if method != "__call__" or known is None:
            return NotImplemented
        return known(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from .namespace import find

        known = find(func)
        if known is None or any(t not in (ndarray, np.ndarray) for t in types):
            return NotImplemented
        return known(*args, **kwargs)


def _order(order: str, array: ndarray) -> str:
    order = order.upper()
    if order == "A":
        return "F" if array.flags.f_contiguous else "C"
    if order not in ("C", "F"):
        raise ValueError(f"unsupported order: {order}")
    return order


def _bring(why: str, array: ndarray, host: np.ndarray, stream: Any) -> None:
    """To the host, which waits."""
    ledger.note_transfer(array.nbytes, to_host=True)
    ledger.note_sync(why)
    line = stream.line if stream is not None else None
    with Device(array._buffer.device_id):
        line = line or streams.current_line()
        hazards.touch(line, [(array._buffer, array._host)], [], why)
        hazards.host_waits(line.clock)
    host[...] = array._host


def touch(
    what: str, reads: Iterable[ndarray], writes: Iterable[ndarray], stream: Any = None
) -> None:
    """An operation of the device: on the current stream, unless said, noted in the ledger."""
    ledger.note_operation(what)
    hazards.touch(
        streams.current_line() if stream is None else stream.line,
        [(a._buffer, a._host) for a in reads if a.size],
        [(a._buffer, a._host) for a in writes if a.size],
        what,
    )


def view_of(array: ndarray, host: np.ndarray) -> ndarray:
    """Of the same memory."""
    made = ndarray.__new__(ndarray)
    made._host, made._buffer = host, array._buffer
    made.base = array if array.base is None else array.base
    return made


def fresh(what: str, host: np.ndarray, reads: Iterable[ndarray] = (), order: str = "C") -> ndarray:
    """A new array on the current device with the numbers of `host`, the result of an operation.

    By rows, as those of CuPy are, whatever the layout of the operands; `order="K"` keeps that of
    `host`.
    """
    dtype_of(host.dtype)
    by_columns = (order == "K" and host.flags.fnc) or order == "F"
    made = ndarray(host.shape, host.dtype, order="F" if by_columns else "C")
    if order == "K" and not host.flags.forc:
        like = np.empty_like(host)
        made = ndarray(host.shape, host.dtype, made.data, like.strides)
    touch(what, reads, [made])
    made._host[...] = host
    return made


def of_result(what: str, host: np.ndarray, reads: list[ndarray], order: str = "C") -> ndarray:
    """A view if NumPy made one, else a new array."""
    if host.size:
        for array in reads:
            begin, address = array._buffer.ptr, host.ctypes.data
            if begin <= address < begin + array._buffer.nbytes:
                return view_of(array, host)
    return fresh(what, host, reads, order)


def lowered(x: Any, reads: list[ndarray]) -> Any:
    """An operand for NumPy; arrays are added to `reads`."""
    if isinstance(x, ndarray):
        require_current(x)
        reads.append(x)
        return x._host
    if isinstance(x, np.ndarray) or not (x is None or is_scalar(x)):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def require_current(array: ndarray) -> None:
    """On the current device, as kernels of one device do not reach into another."""
    if array._buffer.device_id != current_device():
        raise ValueError(
            f"The device where the array resides ({array._buffer.device_id}) is different from "
            f"the current device ({current_device()}). "
            "Peer access is unavailable between these devices."
        )


def require_array(x: Any) -> ndarray:
    """Of the stand-in, for functions that take nothing else."""
    if not isinstance(x, ndarray):
        raise TypeError(f"Argument has incorrect type (expected cupy.ndarray, got {type(x)})")
    return x
