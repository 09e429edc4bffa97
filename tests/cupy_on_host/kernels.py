"""Compiled kernels: which of the library's files a text is, and how it is launched on the host."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mplinalg.kernels.cuda.catalogue import FOLDER, KERNELS, Kernel

from ..cuda_on_host.build import CXX, CompileError, build
from ..cuda_on_host.module import Module
from . import ledger
from .settings import Misuse, settings


class CompileException(Exception):
    """`cupy.cuda.compiler.CompileException`."""

    def __init__(
        self, msg: str, source: str, name: str, options: Sequence[str], backend: str = "nvrtc"
    ) -> None:
        self._msg, self.source, self.name = msg, source, name
        self.options, self.backend = options, backend
        super().__init__()

    def __str__(self) -> str:
        return self._msg

    def get_message(self) -> str:
        return self._msg


class CUDADriverError(RuntimeError):
    """`cupy.cuda.driver.CUDADriverError`."""

    _names: ClassVar = {
        1: "CUDA_ERROR_INVALID_VALUE: invalid argument",
        500: "CUDA_ERROR_NOT_FOUND: named symbol not found",
        701: "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch",
        720: "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE: too many blocks in cooperative launch",
    }

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(self._names[status])


_KNOWN_OPTIONS = r"-?-std=|-I|-D|--?(generate-line-info|lineinfo|use_fast_math|maxrregcount)"

lock = threading.RLock()
"""The emulator launches one kernel at a time."""

_built: dict[Any, Module] = {}
_folder: tempfile.TemporaryDirectory[str] | None = None


def cache() -> Path:
    """Where compiled kernels are kept; MPLINALG_HOST_CACHE keeps them between runs."""
    global _folder
    kept = os.environ.get("MPLINALG_HOST_CACHE")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept)
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix="cupy_on_host-")
    return Path(_folder.name)


def entry_of(file: str | None, name: str) -> Kernel | None:
    """What the catalogue says of a kernel."""
    return next((k for k in KERNELS if (k.file, k.name) == (file, name)), None)


def file_of(code: str) -> str | None:
    """The file of the library that has this text."""
    return next((p.name for p in sorted(FOLDER.glob("*.cu")) if p.read_text() == code), None)


def require_compilable(code: str, options: Sequence[str]) -> None:
    """What NVRTC would stumble over, and the host's compiler does not."""
    if not isinstance(options, tuple):
        raise TypeError(f"Expected tuple, got {type(options).__name__}")
    unknown = [o for o in options if not re.match(_KNOWN_OPTIONS, o)]
    if unknown:
        raise Misuse(f"options {unknown} are not known here")
    includes = [Path(option[2:]) for option in options if option.startswith("-I")]
    for name in re.findall(r'^\s*#include\s+"([^"]+)"', code, re.MULTILINE):
        if not any((folder / name).exists() for folder in includes):
            raise _refused(f'could not open source file "{name}" (no directories in search list)')
    text = re.sub(r"//.*", "", code)
    if "grid_sync()" in text and "-DMPLINALG_GRID_SYNC" not in options:
        raise _refused('identifier "grid_sync" is undefined')


def _refused(message: str, code: str = "", options: Sequence[str] = ()) -> CompileException:
    return CompileException(f"error: {message}", code, "kernel.cu", options)


def compiled(code: str, options: Sequence[str], names: Sequence[str]) -> Module:
    """The kernels of a text; for a file of the library, all that the catalogue has of it."""
    require_compilable(code, options)
    file = file_of(code)
    known = [k.name for k in KERNELS if k.file == file and k.is_template]
    instances = [*known, *(name for name in names if "<" in name and name not in known)]
    with lock:
        key = (code, tuple(instances), settings.checked)
        if key not in _built:
            if shutil.which(CXX) is None:
                pytest.skip(f"needs a C++ compiler, {CXX}")
            _built[key] = _build(code, file, options, instances)
            ledger.note_compiled(file or "another text")
        return _built[key]


def _build(code: str, file: str | None, options: Sequence[str], names: Sequence[str]) -> Module:
    try:
        if file is not None:
            return build(FOLDER / file, names, cache=cache(), checked=settings.checked)
        defines = [o[2:].replace("=", " ", 1) for o in options if o.startswith("-D")]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "given.cu"
            text = "".join(f"#define {define}\n" for define in defines) + code
            if "portable.cuh" not in code:
                text = '#include "portable.cuh"\n' + text
            source.write_text(text)
            return build(source, names, cache=cache(), checked=settings.checked)
    except CompileError as error:
        raise _refused(str(error), code, options) from error
