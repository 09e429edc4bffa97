"""NVRTC, NVIDIA's runtime compiler, called directly, as that needs no driver."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes of a multiprocessor."""

    registers: int
    spilled: int
    """Bytes of local memory that a thread's registers are spilled to."""
    shared: int
    """Bytes, static."""


@dataclass(frozen=True)
class Compiled:
    """The kernels of a file for one architecture."""

    usage: dict[str, Usage]
    """By the name in the source."""
    ptx: str
    cubin: bytes


class CompileError(RuntimeError):
    """NVRTC refused a file; its log."""


class Nvrtc:
    """The library of the packages nvidia-cuda-nvrtc and nvidia-cuda-runtime."""

    def __init__(self) -> None:
        self.root = _root()
        found = sorted((self.root / "lib").glob("libnvrtc.so.*"))
        if not found:
            raise FileNotFoundError(f"no libnvrtc below {self.root}")
        self._library = ctypes.CDLL(str(found[0]))

    def architectures(self) -> list[int]:
        """Compute capabilities it compiles for: 80 for 8.0."""
        count = ctypes.c_int()
        self._call("GetNumSupportedArchs", ctypes.byref(count))
        values = (ctypes.c_int * count.value)()
        self._call("GetSupportedArchs", values)
        return list(values)

    def compile(
        self, source: Path, instances: Sequence[str], architecture: int, options: Sequence[str] = ()
    ) -> Compiled:
        """Compile a file and, of its templates, the instances named.

        With ``-ftz=true``, which CuPy adds to the options of every kernel.
        """
        include = [self.root / "include", self.root / "include" / "cccl", source.parent]
        flags = [
            f"--gpu-architecture=sm_{architecture}", "--std=c++17", "-default-device",
            "--ptxas-options=-v", "-ftz=true", *(f"-I{folder}" for folder in include), *options,
        ]  # fmt: skip
        program = ctypes.c_void_p()
        self._call(
            "CreateProgram", ctypes.byref(program), source.read_bytes(), source.name.encode(), 0,
            None, None,
        )  # fmt: skip
        try:
            for name in instances:
                self._call("AddNameExpression", program, name.encode())
            words = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
            status = self._library.nvrtcCompileProgram(program, len(flags), words)
            log = self._text(program, "ProgramLog").decode()
            if status:
                raise CompileError(f"{source.name}, sm_{architecture}:\n{log}")
            lowered = {self._lowered(program, name): name for name in instances}
            usage = {lowered.get(name, name): found for name, found in _usage(log).items()}
            ptx = self._text(program, "PTX").decode()
            return Compiled(usage, ptx, self._text(program, "CUBIN"))
        finally:
            self._call("DestroyProgram", ctypes.byref(program))

    def _lowered(self, program: ctypes.c_void_p, name: str) -> str:
        found = ctypes.c_char_p()
        self._call("GetLoweredName", program, name.encode(), ctypes.byref(found))
        assert found.value is not None
        return found.value.decode()

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, text)
        return text.raw if what == "CUBIN" else text.value

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, f"nvrtc{function}")(*arguments)
        if status:
            raise CompileError(f"nvrtc{function}: status {status}")


def is_available() -> bool:
    """Whether the packages are installed."""
    try:
        Nvrtc()
    except (FileNotFoundError, OSError):
        return False
    return True


def instructions(cubin: bytes, root: Path, folder: Path) -> str | None:
    """The machine code as text, if nvdisasm is there."""
    tool = root / "bin" / "nvdisasm"
    if not tool.exists():
        return None
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    return subprocess.run([tool, "-c", path], capture_output=True, text=True, check=True).stdout


def _root() -> Path:
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        for folder in sorted(Path(place).glob("cu1*"), reverse=True):
            if (folder / "include" / "cuda_fp16.h").exists():
                return folder
    raise FileNotFoundError("pip install nvidia-cuda-nvrtc nvidia-cuda-runtime")


_FUNCTION = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def _usage(log: str) -> dict[str, Usage]:
    """What ptxas says under -v."""
    found: dict[str, Usage] = {}
    name, spilled = "", 0
    for line in log.splitlines():
        if match := _FUNCTION.search(line):
            name = match[1]
        elif match := _SPILLS.search(line):
            spilled = max(int(match[1]), int(match[2]))
        elif (match := _USED.search(line)) and name:
            found[name] = Usage(int(match[1]), spilled, int(match[2] or 0))
    return found
