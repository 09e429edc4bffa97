"""Fragments of ldmatrix and mma, lane by lane: in the emulator, on a device, in the PTX manual.

Operands are small integers, all different, and sums of their products are exact: a number in
another place is another number.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parent / "fragments.cu"
LANES = range(32)

# Of the PTX manual's sections "Matrix Fragments for mma.m16n8k16 with floating point type",
# "... mma.m16n8k8" and "ldmatrix": of register or element i of a lane its row and column, from
# groupID = %laneid >> 2 and threadID_in_group = %laneid % 4.


def place_in_a(lane, i, kind):
    group, thread = lane >> 2, lane % 4
    if kind == "tf32":
        return group if i in (0, 2) else group + 8, thread if i in (0, 1) else thread + 4
    row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
    return row, thread * 2 + (i & 1) + (8 if i >= 4 else 0)


def place_in_b(lane, i, kind):
    group, thread = lane >> 2, lane % 4
    if kind == "tf32":
        return thread if i == 0 else thread + 4, group
    return thread * 2 + (i & 1) + (8 if i >= 2 else 0), group


def place_in_d(lane, i):
    group, thread = lane >> 2, lane % 4
    return group if i < 2 else group + 8, thread * 2 + (i & 1)


def words(x, kind):
    """Integers as numbers of the format."""
    x = x.astype(np.float32)
    if kind == "f16":
        return x.astype(np.float16).view(np.uint16)
    if kind == "bf16":
        return (x.view(np.uint32) >> 16).astype(np.uint16)
    return x.view(np.uint32)


def fragment(x, place, kind):
    """The registers of all lanes, the lower half of each first."""
    count = x.size // 32
    return np.array([[x[place(lane, i, kind)] for i in range(count)] for lane in LANES]).view(
        np.uint32
    )


def product(module, kind, low_bits=0):
    """The fragments of D <- D + A B, and what they have to be.

    `low_bits` are set in all words of A and B.
    """
    depth = 8 if kind == "tf32" else 16
    a = np.arange(16 * depth).reshape(16, depth) - 8 * depth
    b = np.arange(depth * 8).reshape(depth, 8) - 4 * depth
    before = 1000 * np.arange(16 * 8).reshape(16, 8)
    d = np.array([[before[place_in_d(lane, i)] for i in range(4)] for lane in LANES], np.float32)
    left = fragment(words(a, kind), place_in_a, kind) | np.uint32(low_bits)
    right = fragment(words(b, kind), place_in_b, kind) | np.uint32(low_bits)
    assert (left.shape, right.shape) == ((32, 4), (32, 2))
    module[f"multiply_{kind}"](1, 32, [left, right, d])
    after = before + a @ b
    assert len(np.unique(after)) == after.size
    return d, np.array([[after[place_in_d(lane, i)] for i in range(4)] for lane in LANES])


def loaded(module):
    """The registers of ldmatrix, and transposed, and what they have to be."""
    matrices = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    found = np.zeros((2, 32, 4), np.uint32)
    module["load"](1, 32, [matrices, *found])

    def registers(matrices):
        return [
            [int(m[lane // 4, lane % 4 * 2]) | int(m[lane // 4, lane % 4 * 2 + 1]) << 16
             for m in matrices]
            for lane in LANES
        ]  # fmt: skip

    return found, np.array([registers(matrices), registers(matrices.transpose(0, 2, 1))])


def test_ldmatrix(compiled, checked):
    np.testing.assert_array_equal(*loaded(compiled(FILE, checked=checked)))


@pytest.mark.parametrize("kind", ["f16", "bf16", "tf32"])
def test_mma(compiled, schedule, kind):
    np.testing.assert_array_equal(*product(compiled(FILE), kind))


def test_low_bits_of_tf32_are_ignored(compiled):
    """The 13 that fp32 has and tf32 has not, of which formats.cuh says so."""
    np.testing.assert_array_equal(*product(compiled(FILE), "tf32", low_bits=0x1FFF))


@pytest.mark.gpu
def test_a_device_does_what_the_emulator_does(on_device, emulated):
    """Bit for bit."""
    device, emulator = on_device(FILE), emulated(FILE)
    np.testing.assert_array_equal(loaded(device)[0], loaded(emulator)[0])
    for kind in ("f16", "bf16", "tf32"):
        np.testing.assert_array_equal(product(device, kind)[0], product(emulator, kind)[0])
