"""Where suites are found: by name among those that come with mplinalg, or by the path of a file."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from mplinalg.bench.machine import checkout
from mplinalg.bench.suite import Suite, Survey

__all__ = ["folder", "load", "names"]


_OF_GPU = "gpu_"


def folder() -> Path:
    """``benchmarks`` of the checkout that mplinalg stands in, else ``suites`` of the package."""
    root = checkout()
    return root / "benchmarks" if root is not None else Path(__file__).parent / "suites"


def names(device: str = "cpu") -> list[str]:
    """The suites that come with mplinalg for "cpu" or "cuda", sorted.

    Those for a GPU are called gpu_... .
    """
    is_wanted = {"cpu": False, "cuda": True}[device]
    return sorted(
        path.stem
        for path in folder().glob("*.py")
        if path.stem.startswith(_OF_GPU) == is_wanted and _is_suite(path)
    )


def load(name: str) -> Suite | Survey:
    """The suite called `name`, or that of the file `name` if it ends in ``.py``.

    Raises
    ------
    ValueError
        If there is none, or the file is not Python.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"{name}: no such file")
        if not _is_suite(path):
            raise ValueError(f"{name}: not a suite, it defines no SUITE")
    else:
        known = names() + names("cuda")
        if name not in known:
            raise ValueError(f"unknown suite {name!r}; choose from {', '.join(known)}")
        path = folder() / f"{name}.py"
    suite = _imported(path).SUITE
    if not isinstance(suite, Suite | Survey):
        raise ValueError(f"{name}: SUITE is a {type(suite).__name__}, not a Suite or a Survey")
    return suite.named(path.stem)


def _is_suite(path: Path) -> bool:
    """A file of Python that defines SUITE; others of its folder are not imported to find out."""
    try:
        lines = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError) as error:  # not UTF-8 either
        raise ValueError(f"{path}: not a file of Python: {error}") from None
    return any(_assigns(line, "SUITE") for line in lines)


def _assigns(line: ast.stmt, name: str) -> bool:
    targets: list[ast.expr] = []
    if isinstance(line, ast.Assign):
        targets = line.targets
    elif isinstance(line, ast.AnnAssign) and line.value is not None:
        targets = [line.target]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _imported(path: Path) -> ModuleType:
    name = f"mplinalg.bench.suites.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
