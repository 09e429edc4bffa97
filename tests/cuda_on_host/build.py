"""Compile a .cu file of the library with the host's C++ compiler, against the emulator."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mplinalg.kernels.cuda.catalogue import FOLDER

from .module import Module

EMULATOR = Path(__file__).parent / "emulator"
CXX = os.environ.get("CXX", "g++")
FLAGS = (
    "-std=c++20", "-fPIC", "-g1", "-O2", "-DMPLINALG_ON_HOST", "-fvisibility=hidden",
    "-fno-strict-aliasing", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-unknown-pragmas",
    "-Wno-sign-compare", "-Wno-unused-function",
)  # fmt: skip
CHECKED = (
    "-O1",  # compiled in two thirds of the time; the checker's calls take most of a run
    "-fsanitize=thread",
    "-fsanitize=bounds,alignment,shift,signed-integer-overflow,integer-divide-by-zero",
)
_ENTRY = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\('
)


def build(
    source: Path, instances: Sequence[str] = (), *, cache: Path, checked: bool = False,
    edit: Callable[[str], str] | None = None,
) -> Module:  # fmt: skip
    """Compile `source` and load it.

    Parameters
    ----------
    source : Path
    instances : sequence of str
        Instances of templates, as ``"tournament<32>"``; `extern "C"` kernels are found.
    cache : Path
        Folder of what was compiled before.
    checked : bool
        With the access checker: some thirty times slower.
    edit : callable, optional
        Changes the text first, for tests that break a kernel on purpose.

    Raises
    ------
    CompileError
        With what the compiler said.
    """
    text = source.read_text()
    if edit is not None:
        changed = edit(text)
        assert changed != text, "the edit changed nothing"
        text = changed
    names = [*_ENTRY.findall(text), *instances]
    flags = [*FLAGS, *_vector_flags(), *(CHECKED if checked else ())]
    headers = [*sorted(FOLDER.glob("*.cuh")), *sorted(EMULATOR.iterdir())]
    key = _digest(text, repr((names, flags)), *(path.read_text() for path in headers))
    library = cache / f"{source.stem}-{key}.so"
    if not library.exists():
        runtime = _runtime(cache)
        with _alone(library), tempfile.TemporaryDirectory(dir=cache) as name:
            folder = Path(name)
            if not library.exists():
                (folder / source.name).write_text(text)
                (folder / "unit.cpp").write_text(_unit(source.name, names, checked))
                include = [f"-I{folder}", f"-I{FOLDER}", f"-I{EMULATOR}"]
                _run([CXX, *flags, *include, "-c", folder / "unit.cpp", "-o", folder / "unit.o"])
                _run([CXX, "-shared", "-o", folder / "unit.so", folder / "unit.o", *runtime])
                os.replace(folder / "unit.so", library)
    return Module(library)


@contextlib.contextmanager
def _alone(library: Path) -> Iterator[None]:
    """Of several processes that want it, one compiles; the others wait and find it made."""
    with open(library.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing the file gives it back
        yield


class CompileError(RuntimeError):
    """The compiler refused a kernel."""


def _unit(source: str, names: Sequence[str], checked: bool) -> str:
    """The translation unit: the kernels, without external linkage, and a table of them."""
    exports = [(name, f"&emulator::Export<&{name}>") for name in names]
    rows = "".join(f'    {{"{name}", {e}::call, {e}::signature}},\n' for name, e in exports)
    visible = '__attribute__((visibility("default")))'
    return (
        f'#include "cuda_on_host.hpp"\nnamespace {{\n#include "{source}"\n}}\nextern "C" {{\n'
        f"extern {visible} const emulator::Entry emulator_kernels[] = {{\n{rows}    {{}}}};\n"
        f"{visible} int emulator_is_checked = {int(checked)};\n}}\n"
    )


def _runtime(cache: Path) -> list[Path]:
    """Object files of the emulator, never instrumented."""
    flags = [*FLAGS, *_vector_flags(), "-Wno-stringop-overflow"]
    texts = [path.read_text() for path in sorted(EMULATOR.iterdir())]
    folder = cache / f"runtime-{_digest(repr(flags), *texts)}"
    sources = sorted(EMULATOR.glob("*.cpp"))
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache) as name:
            made = Path(name) / "objects"
            made.mkdir()
            for source in sources:
                _run([CXX, *flags, "-c", source, "-o", made / f"{source.stem}.o"])
            try:
                os.rename(made, folder)
            except OSError:  # another process was faster
                if not folder.exists():
                    raise
    return [folder / f"{source.stem}.o" for source in sources]


@functools.cache
def _vector_flags() -> tuple[str, ...]:
    """Conversions to half and fused products in hardware, where there are any."""
    if platform.machine() != "x86_64":
        return ()
    flags = Path("/proc/cpuinfo").read_text().split("\n\n")[0].split()
    wanted = ("f16c", "avx2", "fma")
    return tuple(f"-m{flag}" for flag in wanted) if set(wanted) <= set(flags) else ()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _run(command: Sequence[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise CompileError(" ".join(map(str, command)) + "\n" + done.stderr)
