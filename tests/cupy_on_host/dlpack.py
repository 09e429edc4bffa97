"""DLPack: capsules of device arrays, and device arrays of the capsules of others."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from . import memory, streams
from .array import ndarray
from .settings import Misuse

_K_DL_CUDA = 2
_KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _inside(capsule: Any) -> _Tensor:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return _Tensor.from_address(pointer(capsule, b"dltensor"))


def capsule_of(array: ndarray) -> Any:
    """NumPy's, which says that the data are on a device."""
    capsule = array._host.__dlpack__()
    tensor = _inside(capsule)
    tensor.device_type, tensor.device_id = _K_DL_CUDA, array._buffer.device_id
    return capsule


def from_dlpack(array: Any, *, device: Any = None, copy: Any = None) -> ndarray:
    """A view of what another library has on the device, or CuPy itself."""
    if array.__dlpack_device__()[0] != _K_DL_CUDA:
        raise BufferError(
            "CPU arrays cannot be directly imported to CuPy. "
            "Use `cupy.array(numpy.from_dlpack(input))` instead."
        )
    stream = streams.get_current_stream().ptr or 1
    try:
        capsule = array.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:
        capsule = array.__dlpack__(stream=stream)
    tensor = _inside(capsule)
    shape = tuple(tensor.shape[: tensor.ndim])
    size = tensor.bits // 8
    dtype = np.dtype(bool if tensor.code == 6 else f"{_KINDS[tensor.code]}{size}")
    strides = None
    if tensor.strides:
        strides = tuple(size * step for step in tensor.strides[: tensor.ndim])
    if 0 in shape:
        return ndarray(shape, dtype)
    address = tensor.data + tensor.byte_offset
    buffer = memory.buffer_at(address)
    if buffer is None:
        raise Misuse(f"{address:#x} is no address of live device memory")
    view = ndarray(shape, dtype, memory.MemoryPointer(buffer, address - buffer.ptr), strides)
    return view.copy() if copy else view
