"""What the stand-in has, CuPy has: names, parameters, numbers of enumerations."""

import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from . import array, capture, creation, cublas, cusolver, device, functions, memory, raw, streams
from .namespace import ALIASES, MODULES
from .real_names import parameters

OURS = {"cupy.random": {"default_rng"}}
"""Functions whose parameters are not compared."""
CLASSES = {
    "cupy.ndarray": array.ndarray,
    "cupy.RawModule": raw.RawModule,
    "cupy.RawKernel": raw.RawKernel,
    "cupy.cuda.Stream": streams.Stream,
    "cupy.cuda.Event": streams.Event,
    "cupy.cuda.Graph": capture.Graph,
    "cupy.cuda.Device": device.Device,
    "cupy.cuda.MemoryPool": memory.MemoryPool,
    "cupy.cuda.MemoryPointer": memory.MemoryPointer,
}
OWN_MEMBERS = {
    "cupy.cuda.Stream": {"line"},
    "cupy.cuda.Event": {"clock", "seconds"},
    "cupy.RawKernel": {"occupancy"},
    "cupy.cuda.MemoryPointer": {"bytes_from"},
}
"""What only the tests use."""


@pytest.fixture(scope="module")
def real():
    """What the real CuPy says of itself, in a process of its own."""
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    script = Path(__file__).with_name("real_names.py")
    done = subprocess.run(
        [sys.executable, "-P", script, *MODULES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def same_parameters(name, ours, theirs):
    """Ours are the first of theirs, and by keyword only may be those of theirs by position."""
    kinds = {"POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD"}
    given = [(p, k, d) for p, k, d in ours if "VAR" not in k]
    known = {p: (place, k, d) for place, (p, k, d) in enumerate(theirs)}
    for place, (parameter, kind, default) in enumerate(given):
        assert parameter in known, f"{name}: no parameter {parameter} in {theirs}"
        there, real_kind, real_default = known[parameter]
        if kind in kinds:
            assert (there, real_kind in kinds) == (place, True), f"{name}: {parameter}"
        assert default == real_default, f"{name}: {parameter}"


@pytest.mark.parametrize("module", list(MODULES))
def test_names(real, module):
    there = real["modules"][module]
    if there is None:
        pytest.skip(f"{module} cannot be imported without its library")
    missing = [name for name in MODULES[module] if name not in there]
    assert missing == []
    for name, ours in MODULES[module].items():
        entry = there[name]
        if isinstance(ours, int) and not isinstance(ours, bool):
            assert entry["value"] == ours, name
        if name in OURS.get(module, ()) or not inspect.isroutine(ours):
            continue
        if entry.get("parameters") is not None:
            if not any("VAR" in kind for _, kind, _ in entry["parameters"]):
                same_parameters(name, parameters(ours), entry["parameters"])
        elif entry.get("described") is not None:
            assert [p for p, *_ in parameters(ours)] == entry["described"], name


@pytest.mark.parametrize("library", [cublas, cusolver], ids=["cublas", "cusolver"])
def test_libraries(real, library):
    there = real["files"][library.__name__.rpartition(".")[2]]
    compared = 0
    for name, function in library.FUNCTIONS.items():
        if name == "create":
            continue
        assert name in there, name
        assert list(inspect.signature(function).parameters) == there[name], name
        compared += 1
    assert compared > 40


@pytest.mark.parametrize("name", list(CLASSES))
def test_members(real, name):
    module, _, last = name.rpartition(".")
    there = set(real["modules"][module][last]["members"])
    ours = {m for m in dir(CLASSES[name]) if not m.startswith("_")}
    assert ours - there - OWN_MEMBERS.get(name, set()) == set()


def test_attributes_of_a_device(real):
    there = real["modules"]["cupy_backends.cuda.api.runtime"]
    for name in device.attributes():
        assert f"cudaDevAttr{name}" in there
    for code, name in device._CODES.items():
        assert there[f"cudaDevAttr{name}"]["value"] == code


def test_aliases(cupy):
    for alias, name in ALIASES.items():
        parent, _, last = alias.rpartition(".")
        assert getattr(sys.modules[parent], last) is sys.modules[name]


def test_what_stands_here_is_used():
    """Every function of the tables is in the namespace."""
    assert {*functions.FUNCTIONS} <= {*MODULES["cupy"]}
    assert inspect.isfunction(creation.empty)
