"""Checks of the house itself: documentation that runs, import time, floors, packaging."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mplinalg
from mplinalg.bench.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", DOCS / "index.md", *sorted((DOCS / "guide").glob("*.md"))]
EXTRAS = [
    "PIL", "cupy", "dask", "distributed", "matplotlib", "mpi4py", "optuna", "safetensors",
    "sklearn", "torch", "tqdm",
]  # fmt: skip
PUBLIC = [name for name in mplinalg.__all__ if callable(getattr(mplinalg, name))]
FUNCTIONS = [name for name in PUBLIC if inspect.isroutine(getattr(mplinalg, name))]


# -- documentation -------------------------------------------------------------------------------


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_on_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    for number, block in enumerate(code_blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


def test_the_readme_has_an_example():
    assert code_blocks(ROOT / "README.md")


COMMAND_LINE = ROOT / "docs" / "guide" / "command-line.md"
COMMANDS = re.findall(r"^## `mplinalg (\w+)`$", COMMAND_LINE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_page_lists_the_options(command, capsys):
    assert main([command, "--help"]) == 0
    known = set(re.findall(r"(?<!\S)--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    text = COMMAND_LINE.read_text().partition(f"## `mplinalg {command}`\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(--[a-z-]+)`", text)) == known


def test_the_command_line_page_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    listed = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(COMMANDS) == sorted(listed)


def test_the_changelog_has_this_version():
    changelog = (ROOT / "docs" / "changelog.md").read_text()
    assert re.search(rf"^## {re.escape(mplinalg.__version__)}\b", changelog, re.MULTILINE)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_summary(name):
    summary = (inspect.getdoc(getattr(mplinalg, name)) or "").partition("\n")[0]
    assert summary.endswith("."), f"{name}: {summary!r}"


def test_the_reference_lists_the_public_names():
    text = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    sections = re.split(r"^\.\. currentmodule:: ", text, flags=re.MULTILINE)[1:]
    listed = {
        (section.split()[0], name)
        for section in sections
        for name in re.findall(
            r"^\.\. auto(?:function|class|exception):: (\w+)", section, re.MULTILINE
        )
    }
    assert {name for module, name in listed if module == "mplinalg"} == set(PUBLIC)


def numpydoc_section(doc: str, title: str) -> str:
    """Text of one section, "" if there is none; the next title ends it."""
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)", doc, re.DOTALL | re.MULTILINE)
    return match[1] if match else ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_documents_its_parameters_and_result(name):
    function = getattr(mplinalg, name)
    doc = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    described = numpydoc_section(doc, "Parameters")
    for parameter in signature.parameters:
        assert re.search(rf"^(.*, )?\*{{0,2}}{parameter}\b.*:", described, re.MULTILINE), parameter
    if signature.return_annotation not in (None, "None"):
        assert numpydoc_section(doc, "Returns")


# -- import --------------------------------------------------------------------------------------


def run_python(code: str, cwd: Path) -> str:
    """Output of `code` run where the checkout is not importable by accident."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if Path(path).is_dir())
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=env, check=True, capture_output=True, text=True
    ).stdout


def test_import_is_quick(tmp_path):
    # processor time, which other processes disturb less than they do the clock
    code = "import time; t = time.process_time(); import mplinalg; print(time.process_time() - t)"
    seconds = []
    while len(seconds) < 7 and min(seconds, default=1.0) >= 0.5:
        seconds.append(float(run_python(code, tmp_path)))
    assert min(seconds) < 0.5, f"processor seconds to import: {seconds}"


def test_import_loads_no_extra_and_no_compiler(tmp_path):
    code = "import json, sys, mplinalg; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run_python(code, tmp_path)))
    assert loaded.isdisjoint({"numba", "llvmlite", *EXTRAS})


def test_floors():
    """A file imports only from floors below its own; the contracts are in pyproject.toml."""
    lint = shutil.which("lint-imports", path=Path(sys.executable).parent)
    assert lint is not None, "import-linter is part of mplinalg[test]"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# -- packaging -----------------------------------------------------------------------------------


def test_the_wheel_holds_the_package_and_nothing_else():
    try:
        installed = importlib.metadata.distribution("mplinalg")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("mplinalg runs from the checkout")
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("an editable install holds no files")
    held = {str(path) for path in installed.files or ()}
    wanted = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.cu", "*.cuh", "py.typed")
        for path in (ROOT / "mplinalg").rglob(pattern)
    }
    assert "mplinalg/py.typed" in wanted
    suites = (ROOT / "benchmarks").glob("*.py")
    wanted |= {f"mplinalg/bench/suites/{path.name}" for path in suites}
    assert wanted <= held, f"not in the wheel: {sorted(wanted - held)}"
    others = {Path(path).parts[0] for path in held} - {"mplinalg", "..", "__pycache__"}
    assert all(part.endswith(".dist-info") for part in others), others


def test_every_folder_of_the_package_is_packaged():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "mplinalg").rglob("*.py")}
    names = {".".join(folder.parts) for folder in folders}
    assert sorted(setuptools["packages"]) == sorted(names | set(setuptools["package-dir"]))


def test_the_version_is_stated_once():
    assert importlib.metadata.version("mplinalg") == mplinalg.__version__
