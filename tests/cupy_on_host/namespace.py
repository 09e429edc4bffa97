"""The modules of CuPy, put together of what stands in this folder."""

from __future__ import annotations

import contextlib
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np

from . import (
    capture,
    creation,
    cublas,
    cusolver,
    device,
    dlpack,
    elementwise,
    generators,
    kernels,
    linalg,
    memory,
    raw,
    streams,
    transforms,
)
from .array import ndarray
from .functions import FUNCTIONS, as_strided
from .settings import settings
from .ufuncs import UFUNCS, ufunc

VERSION = "14.2.0"

CREATION = (
    "array", "arange", "asanyarray", "asarray", "ascontiguousarray", "asfortranarray",
    "asnumpy", "copy", "empty", "empty_like", "eye", "full", "full_like",
    "identity", "linspace", "ones", "ones_like", "tri", "zeros", "zeros_like",
)  # fmt: skip

FROM_NUMPY = (
    "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "intp",
    "float16", "float32", "float64", "complex64", "complex128", "dtype", "finfo", "iinfo",
    "generic", "number", "integer", "floating", "inexact", "complexfloating", "newaxis", "inf",
    "nan", "pi", "e", "promote_types", "broadcast_shapes",
)  # fmt: skip


def find(function: Any) -> Any:
    """CuPy's function for one of NumPy's, by its module and name, or None."""
    path = function.__module__.split(".")[1:]
    place: Any = linalg.FUNCTIONS if path == ["linalg"] else {} if path else TOP
    found = place.get(function.__name__)
    return None if found is function else found


def get_array_module(*args: Any) -> ModuleType:
    """`cupy` if one of the arrays is CuPy's, else NumPy."""
    import sys

    return sys.modules["cupy"] if any(isinstance(x, ndarray) for x in args) else np


TOP: dict[str, Any] = {
    **{name: getattr(np, name) for name in FROM_NUMPY},
    **{name: getattr(creation, name) for name in CREATION},
    **FUNCTIONS,
    **UFUNCS,
    "ndarray": ndarray,
    "ufunc": ufunc,
    "RawModule": raw.RawModule,
    "RawKernel": raw.RawKernel,
    "ElementwiseKernel": elementwise.ElementwiseKernel,
    "from_dlpack": dlpack.from_dlpack,
    "get_array_module": get_array_module,
    "get_default_memory_pool": lambda: _POOL,
    "get_default_pinned_memory_pool": memory.PinnedMemoryPool,
    "show_config": lambda *, _full=False: print("CuPy on the host"),
    "is_available": lambda: True,
    "__version__": VERSION,
}
_POOL = memory.DefaultPool()

_RUNTIME = dict(vars(device.runtime))

_DRIVER = {
    "CUDADriverError": kernels.CUDADriverError,
    "occupancyMaxActiveBlocksPerMultiprocessor": raw.occupancyMaxActiveBlocksPerMultiprocessor,
    "get_build_version": lambda: device.CUDA_VERSION,
}

_CUBLAS = {
    "__file__": capture.CUBLAS_FILE,
    "CUBLASError": cublas.CUBLASError,
    **cublas.ENUMERATIONS,
    **cublas.FUNCTIONS,
}

_CUSOLVER = {"CUSOLVERError": cusolver.CUSOLVERError, **cusolver.ENUMERATIONS, **cusolver.FUNCTIONS}

_MEMORY = {
    "OutOfMemoryError": memory.OutOfMemoryError,
    "Memory": memory.device_memory,
    "MemoryPointer": memory.MemoryPointer,
    "MemoryPool": memory.MemoryPool,
    "alloc": memory.alloc,
}

_STREAM = {
    "Stream": streams.Stream,
    "Event": streams.Event,
    "get_current_stream": streams.get_current_stream,
    "get_elapsed_time": streams.get_elapsed_time,
}

_GRAPH = {"Graph": capture.Graph}

_DEVICE = {
    "Device": device.Device,
    "get_device_id": device.current_device,
    "get_compute_capability": lambda: settings.compute_capability,
    "get_cublas_handle": lambda: device.default_handle("cublas"),
    "get_cusolver_handle": lambda: device.default_handle("cusolver"),
}

_NVTX = {
    "RangePush": lambda message, id_color=-1: None,
    "RangePop": lambda: None,
    "Mark": lambda message, id_color=-1: None,
}

CUDA = {
    **_STREAM,
    **_GRAPH,
    "Function": raw.Function,
    "Device": device.Device,
    "Memory": memory.device_memory,
    "MemoryPointer": memory.MemoryPointer,
    "MemoryPool": memory.MemoryPool,
    "alloc": memory.alloc,
    "get_device_id": device.current_device,
    "get_cublas_handle": _DEVICE["get_cublas_handle"],
    "is_available": lambda: True,
    "using_allocator": memory.using_allocator,
    "malloc_managed": memory.malloc_managed,
    "alloc_pinned_memory": memory.alloc_pinned_memory,
}

MODULES: dict[str, dict[str, Any]] = {
    "cupy": TOP,
    "cupy.fft": transforms.FUNCTIONS,
    "cupy.linalg": linalg.FUNCTIONS,
    "cupy.lib": {},
    "cupy.lib.stride_tricks": {"as_strided": as_strided},
    "cupy.random": generators.FUNCTIONS,
    "cupy.cuda": CUDA,
    "cupy.cuda.compiler": {"CompileException": kernels.CompileException},
    "cupy.cuda.device": _DEVICE,
    "cupy.cuda.graph": _GRAPH,
    "cupy.cuda.function": {"Function": raw.Function},
    "cupy.cuda.memory": _MEMORY,
    "cupy.cuda.nvtx": _NVTX,
    "cupy.cuda.stream": _STREAM,
    "cupy_backends": {},
    "cupy_backends.cuda": {},
    "cupy_backends.cuda.api": {},
    "cupy_backends.cuda.api.driver": _DRIVER,
    "cupy_backends.cuda.api.runtime": _RUNTIME,
    "cupy_backends.cuda.libs": {},
    "cupy_backends.cuda.libs.cublas": _CUBLAS,
    "cupy_backends.cuda.libs.cusolver": _CUSOLVER,
    "cupyx": {"errstate": lambda **kwargs: contextlib.nullcontext()},
    "cupyx.cusolver": linalg.CUSOLVER,
    "cupyx.lapack": linalg.LAPACK,
    "cupyx.scipy": {},
    "cupyx.scipy.linalg": linalg.SCIPY,
    "cupyx.scipy.sparse": {},
    "cupyx.scipy.sparse.linalg": {"LinearOperator": linalg.LinearOperator},
}
"""Names of each module; a module is an attribute of the one that it stands in."""

ALIASES = {
    "cupy.cuda.driver": "cupy_backends.cuda.api.driver",
    "cupy.cuda.runtime": "cupy_backends.cuda.api.runtime",
    "cupy.cuda.cublas": "cupy_backends.cuda.libs.cublas",
    "cupy.cuda.cusolver": "cupy_backends.cuda.libs.cusolver",
}
"""Attributes that are a module from elsewhere."""


def modules() -> dict[str, ModuleType]:
    """All of them, made anew."""
    made: dict[str, ModuleType] = {}
    for name, names in MODULES.items():
        module = made[name] = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        vars(module).update(names)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(made[parent], last, module)
    for alias, name in ALIASES.items():
        parent, _, last = alias.rpartition(".")
        setattr(made[parent], last, made[name])
    return made
