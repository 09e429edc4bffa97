"""Every kernel compiles for every architecture, within the limits that the table states."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from mplinalg.kernels.cuda.catalogue import FOLDER, KERNELS

from .nvrtc import Nvrtc, instructions, is_available

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
AIMED_AT = 90
FILES = sorted({kernel.file for kernel in KERNELS})
PER_BLOCK = 65536
"""Registers that a block can have."""


@pytest.fixture(scope="module")
def nvrtc():
    if not is_available():
        if os.environ.get("CI"):
            pytest.fail("CI compiles the kernels: nvidia-cuda-nvrtc and -runtime are missing")
        pytest.skip("needs nvidia-cuda-nvrtc and nvidia-cuda-runtime")
    return Nvrtc()


@pytest.fixture(scope="module")
def compiled(nvrtc, request):
    """compiled("convert.cu", 90), once for all tests; what they will ask for by all cores."""

    def make(file, architecture):
        names = [k.name for k in KERNELS if k.file == file and k.is_template]
        cooperative = any(k.cooperative for k in KERNELS if k.file == file)
        options = ["-DMPLINALG_GRID_SYNC"] if cooperative else []
        return nvrtc.compile(FOLDER / file, names, architecture, options)

    found = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def get(file, architecture):
            if architecture not in nvrtc.architectures():
                pytest.skip(f"this NVRTC does not know sm_{architecture}")
            if (file, architecture) not in found:
                found[file, architecture] = pool.submit(make, file, architecture)
            return found[file, architecture].result()

        known = nvrtc.architectures()
        for item in request.session.items:
            if item.path != request.path or "compiled" not in item.fixturenames:
                continue
            asked = getattr(item, "callspec", None) and item.callspec.params
            if asked and asked.get("architecture") in known:
                key = asked["file"], asked["architecture"]
                if key not in found:
                    found[key] = pool.submit(make, *key)
        yield get
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_registers_and_shared_memory(compiled, file, architecture):
    """No spills; registers below the limit; shared memory as stated."""
    usage = compiled(file, architecture).usage
    entries = {k.name: k for k in KERNELS if k.file == file}
    assert set(usage) == set(entries)
    for name, kernel in entries.items():
        used = usage[name]
        assert used.spilled == 0, name
        assert used.registers <= kernel.registers, name
        assert used.shared == kernel.shared, name
        assert kernel.registers * kernel.threads <= PER_BLOCK, name


@pytest.mark.parametrize(
    "architecture", [AIMED_AT, *(pytest.param(a, marks=pytest.mark.slow) for a in (86, 89, 100))]
)
@pytest.mark.parametrize("file", FILES)
def test_one_instance_for_every_architecture(nvrtc, file, architecture):
    """The one that takes the fewest registers, which is the quickest to compile.

    Of all instances CI compiles those for the oldest and the newest architecture, and for the one
    that is aimed at.
    """
    if architecture not in nvrtc.architectures():
        pytest.skip(f"this NVRTC does not know sm_{architecture}")
    least = min((k for k in KERNELS if k.file == file), key=lambda k: k.registers)
    options = ["-DMPLINALG_GRID_SYNC"] if least.cooperative else []
    names = [least.name] if least.is_template else []
    usage = nvrtc.compile(FOLDER / file, names, architecture, options).usage
    assert usage[least.name].spilled == 0
    assert usage[least.name].registers <= least.registers


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_limits_are_not_generous(compiled, file):
    """A limit is within 24 registers of what the worst architecture takes."""
    for kernel in (k for k in KERNELS if k.file == file):
        worst = max(compiled(file, a).usage[kernel.name].registers for a in ARCHITECTURES)
        assert kernel.registers - worst <= 24, (kernel.name, worst)


def _code(file):
    """A file and what it includes, but for portable.cuh and comments."""
    text = re.sub(r"//.*", "", (FOLDER / file).read_text())
    included = re.findall(r'#include "(\w+\.cuh)"', text)
    return text + "".join(_code(name) for name in included if name != "portable.cuh")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_tensor_cores(compiled, nvrtc, tmp_path, file, architecture):
    """Kernels that say so multiply by tensor-core instructions, and the others do not."""
    wanted = any(k.tensor_cores for k in KERNELS if k.file == file)
    found = compiled(file, architecture)
    assert ("mma.sync" in found.ptx) == wanted
    if not wanted:
        return
    code = instructions(found.cubin, nvrtc.root, tmp_path)
    if code is not None:
        assert re.search(r"\b(HMMA|IMMA)\b", code)
        for in_source, instruction in (("ldmatrix_x4", "LDSM"), ("copy_async_16", "LDGSTS")):
            assert (f"{in_source}(" in _code(file)) == bool(re.search(rf"\b{instruction}\b", code))


def test_subnormal_numbers_are_flushed(compiled):
    """As in CuPy, whose option reaches the compiler; the tests on the host have it, too."""
    assert "mul.ftz.f32" in compiled("narrow.cu", AIMED_AT).ptx
