"""Run where the real CuPy is: prints what it has, for `test_names.py`. Needs no device.

The modules of cuBLAS and cuSOLVER cannot be imported without those libraries, but the signatures
of their functions stand in the files.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any


def parameters(function: Any) -> list[list[Any]] | None:
    """Name, kind and default of each; None if they are not known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    return [
        [p.name, p.kind.name, None if p.default is p.empty else repr(p.default)]
        for p in signature.parameters.values()
    ]


def described(name: str, function: Any) -> list[str] | None:
    """Names of the parameters from the first line of what Cython documents."""
    return written((function.__doc__ or "").partition("\n")[0], name)


def written(line: str, name: str) -> list[str] | None:
    """Names of the parameters in ``name(int a, b=None) -> int``."""
    found = re.match(rf"(?:\w+\.)?{name}\((.*)\)", line)
    if found is None:
        return None
    parts = (part.partition("=")[0].split() for part in found[1].split(","))
    return [part[-1] for part in parts if part and part[-1] not in ("*", "self", "cls")]


def of_module(name: str) -> dict[str, Any] | None:
    """What a module has."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    found: dict[str, Any] = {}
    for key in dir(module):
        value = getattr(module, key, None)
        if isinstance(value, int):
            found[key] = {"value": value}
        elif isinstance(value, type):
            found[key] = {"members": sorted(m for m in dir(value) if not m.startswith("_"))}
        else:
            found[key] = {"parameters": parameters(value), "described": described(key, value)}
    return found


def of_file(name: str) -> dict[str, list[str]]:
    """Functions of a Cython module and their parameters, without importing it."""
    import cupy_backends

    folder = Path(cupy_backends.__path__[0], "cuda", "libs")
    (file,) = folder.glob(f"{name}.*.so")
    lines = re.findall(rb"[\x20-\x7e]{6,}", file.read_bytes())
    found = {}
    for line in map(bytes.decode, lines):
        match = re.match(r"(\w+)\(intptr_t handle.*\)", line)
        if match:
            found[match[1]] = written(line, match[1]) or []
    return found


def main() -> None:
    names = sys.argv[1:]
    import cupy

    print(
        json.dumps(
            {
                "version": cupy.__version__,
                "modules": {name: of_module(name) for name in names},
                "files": {name: of_file(name) for name in ("cublas", "cusolver")},
            }
        )
    )


if __name__ == "__main__":
    main()
