"""The table of kernels says what the sources are."""

from __future__ import annotations

import re

import pytest

from mplinalg.kernels.cuda.catalogue import BY_NAME, FOLDER, KERNELS

from .mutation import barriers

FILES = sorted(path.name for path in FOLDER.glob("*.cu"))
LEAST_SHARED = 99 * 1024
"""Bytes that a block can have on consumer cards of compute capability 8.6, 8.9 and 12.0."""


def test_every_file_has_an_entry():
    assert sorted({kernel.file for kernel in KERNELS}) == FILES


def test_names_are_unique():
    """Kernels are launched by name alone."""
    assert len(BY_NAME) == len(KERNELS)
    assert all(BY_NAME[kernel.name] is kernel for kernel in KERNELS)


@pytest.mark.parametrize("file", FILES)
def test_dynamic_shared_memory(file):
    """Of the kernels that have some, and within what every device can give a block."""
    has_some = "DYNAMIC_SHARED(" in (FOLDER / file).read_text()
    for kernel in (k for k in KERNELS if k.file == file):
        assert (kernel.dynamic > 0) == has_some
        assert kernel.shared + kernel.dynamic <= LEAST_SHARED
        assert kernel.shared <= 48 * 1024


@pytest.mark.parametrize("file", FILES)
def test_arguments(emulated, file):
    """The launch code is guarded by `arguments`, so it has to be what the source says."""
    module = emulated(file)
    entries = {k.name: k for k in KERNELS if k.file == file}
    assert set(module.names) == set(entries)
    for name, kernel in entries.items():
        assert module.signature(name) == kernel.arguments.split(), name


@pytest.mark.parametrize("file", FILES)
def test_the_rules_of_portable(file):
    """No PTX and no other header than the library's in a kernel."""
    text = (FOLDER / file).read_text()
    assert "asm" not in re.findall(r"\w+", text)
    included = re.findall(r"#include\s+(\S+)", text)
    assert all((FOLDER / name.strip('"')).exists() for name in included), included


@pytest.mark.parametrize("file", FILES)
def test_barriers_are_found(file):
    """The mutation tests see every barrier: one a line, and none spelled in another way."""
    text = (FOLDER / file).read_text()
    code = re.sub(r"//.*", "", text)
    assert len(barriers(file)) == len(re.findall(r"__sync\w+|grid_sync|copy_async_wait", code))


@pytest.mark.parametrize("file", FILES)
def test_opens_with_what_it_computes(file):
    """Formula, launch and bytes or flops stand at the head."""
    head = (FOLDER / file).read_text().split("#include")[0]
    assert head.startswith("//")
    assert "Launch:" in head
    assert re.search(r"Bytes|Flops|flops|bytes", head)
