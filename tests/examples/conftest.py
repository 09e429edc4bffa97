"""What all tests of examples use."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from .runs import FOLDER, NEEDS, RUNS


@pytest.fixture
def load(monkeypatch):
    """Import an example by its path, as running it as a script would."""

    def load(stem):
        for module in NEEDS.get(stem, ()):
            pytest.importorskip(module)
        monkeypatch.syspath_prepend(FOLDER)
        spec = importlib.util.spec_from_file_location(f"example_{stem}", FOLDER / f"{stem}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("_common", None)


@pytest.fixture(params=RUNS.values(), ids=RUNS.keys())
def run(request):
    return request.param
