"""The stand-in comes and goes without a trace."""

import importlib
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest

from mplinalg.kernels import cuda

from .install import Misuse, installed, settings

LOADER = "mplinalg.kernels.cuda.loader"


def of_cupy():
    return {name for name in sys.modules if name.split(".")[0] in ("cupy", "cupyx")}


def test_it_comes_and_goes():
    before = of_cupy()
    with installed() as module:
        assert importlib.import_module("cupy") is module
        assert importlib.util.find_spec("cupy") is not None
        assert importlib.import_module("cupy.cuda").Device(0) == module.cuda.Device()
        assert importlib.import_module("cupy_backends.cuda.libs.cublas").CUBLAS_OP_T == 1
        with pytest.raises(ImportError):
            importlib.import_module("cupy.polynomial")
    assert of_cupy() == before


def test_another_cupy_comes_back(monkeypatch):
    other = ModuleType("cupy")
    monkeypatch.setitem(sys.modules, "cupy", other)
    with installed() as module:
        assert sys.modules["cupy"] is module
    assert sys.modules["cupy"] is other


def test_what_imported_it_is_imported_anew():
    with installed() as module:
        first = importlib.import_module(LOADER)
        assert first.cupy is module
    assert LOADER not in sys.modules
    assert not hasattr(cuda, "loader")
    with installed() as module:
        assert importlib.import_module(LOADER).cupy is module
    assert "mplinalg.kernels.cuda.catalogue" in sys.modules


def test_everything_begins_as_new():
    with installed() as cupy:
        settings.schedule, settings.multiprocessors = 5, 1
        cupy.cuda.Device(1).use()
        cupy.cuda.Stream().use()
    with installed() as cupy:
        assert (settings.schedule, settings.multiprocessors) == ("forward", 4)
        assert cupy.cuda.get_device_id() == 0
        assert cupy.cuda.get_current_stream().ptr == 0


def test_a_handle_left_in_another_mode_is_found():
    def leave(function, value):
        with installed() as cupy:
            blas = importlib.import_module("cupy_backends.cuda.libs.cublas")
            getattr(blas, function)(cupy.cuda.Device().cublas_handle, value)

    leave("setPointerMode", 0)
    with pytest.raises(Misuse, match="pointer_mode=1"):
        leave("setPointerMode", 1)
    with pytest.raises(Misuse, match="math_mode=3"):
        leave("setMathMode", 3)


def test_an_error_of_the_test_is_not_hidden():
    def fail():
        with installed() as cupy:
            a = cupy.zeros(3)
            a._buffer._whole[0] = 1
            raise KeyError("of the test")

    with pytest.raises(KeyError):
        fail()
    with installed() as cupy:
        assert np.array_equal(cupy.ones(3).get(), np.ones(3))
