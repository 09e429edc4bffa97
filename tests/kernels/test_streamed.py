"""Products of matrices of some tens: every block, every layout, nothing but the entries written."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mplinalg.kernels.cpu.batched import streamed
from mplinalg.kernels.cpu.batched.blocks import LEAST_ROWS

REALS = ["float32", "float64"]
# Rows that need blocks of every height, and columns of two registers and more, of every rest of
# a division by a register of 16, 32 or 64 bytes.
ROWS = [*range(LEAST_ROWS, 26), 37]
COLUMNS = [17, 18, 24, 31, 32, 33, 40, 47, 48, 49, 63, 64, 65, 95, 97]
SUITABLE = [(m, 1 + (5 * m + n) % 11, n) for m in ROWS for n in COLUMNS]


def whole(rng, shape, dtype):
    """Small integers, of which products and sums are exact."""
    return rng.integers(-8, 9, shape).astype(dtype)


def framed(rng, shape, dtype):
    """A view of a larger array of NaN, and that array."""
    *batch, m, n = shape
    room = np.full((*batch, m + 2, n + 5), np.nan, dtype)
    return room[..., 1 : m + 1, 3 : n + 3], room


def operand(a):
    return a.ctypes.data, a.strides[-2:]


def multiply(a, b, c, alpha=1.0, beta=0.0):
    """C <- alpha A B + beta C of stacks of one dimension."""
    shape = np.array(c.shape[:1])
    strides = np.array([[x.strides[0]] for x in (a, b, c)])
    dimensions = (*a.shape[-2:], c.shape[-1])
    alpha, beta = (c.dtype.type(number) for number in (alpha, beta))
    assert streamed.takes(*dimensions, c.itemsize)
    streamed.multiply_stack(
        0, len(c), shape, strides, dimensions, alpha, operand(a), operand(b), beta, operand(c)
    )


@pytest.mark.parametrize("dtype", REALS)
def test_every_block(rng, dtype):
    for m, k, n in SUITABLE:
        a, b = whole(rng, (3, m, k), dtype), whole(rng, (3, k, n), dtype)
        c, room = framed(rng, (3, m, n), dtype)
        multiply(a, b, c)
        assert np.array_equal(c, a @ b), (m, k, n)
        c[...] = np.nan
        assert np.isnan(room).all(), f"{(m, k, n)}: something else was written"


@pytest.mark.parametrize("dtype", REALS)
def test_alpha_and_beta(rng, dtype):
    for m, k, n in SUITABLE[::7]:
        a, b, c = (whole(rng, (2, *shape), dtype) for shape in ((m, k), (k, n), (m, n)))
        for alpha, beta in ((2.0, 0.0), (0.5, 1.0), (-1.0, -4.0)):
            found = c.copy()
            multiply(a, b, found, alpha, beta)
            assert np.array_equal(found, alpha * (a @ b) + beta * c), (m, k, n, alpha, beta)


LAYOUTS = {
    "rows": lambda x: np.ascontiguousarray(x),
    "members in turn": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    "transposed": lambda x: x.swapaxes(1, 2).copy().swapaxes(1, 2),
    "reversed": lambda x: x[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "spread": lambda x: np.repeat(np.repeat(x, 2, axis=1), 3, axis=2)[:, ::2, ::3],
    "one for all": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("of_b", LAYOUTS)
@pytest.mark.parametrize("of_a", LAYOUTS)
def test_any_layout_of_a_and_b(rng, of_a, of_b):
    for dtype in REALS:
        for m, k, n in ((6, 1, 17), (9, 5, 18), (13, 16, 33), (30, 33, 40), (20, 150, 130)):
            a = LAYOUTS[of_a](whole(rng, (4, m, k), dtype))
            b = LAYOUTS[of_b](whole(rng, (4, k, n), dtype))
            c, room = framed(rng, (4, m, n), dtype)
            multiply(a, b, c)
            assert np.array_equal(c, a @ b), (dtype, m, k, n)
            c[...] = np.nan
            assert np.isnan(room).all()


def test_batches_of_several_dimensions(rng):
    a, b = whole(rng, (3, 1, 4, 7, 5), float), whole(rng, (2, 4, 5, 20), float)
    c = np.empty((3, 2, 4, 7, 20))
    shape = np.array(c.shape[:3])
    views = np.broadcast_to(a, (3, 2, 4, 7, 5)), np.broadcast_to(b, (3, 2, 4, 5, 20)), c
    strides = np.array([x.strides[:3] for x in views])
    for first, last in ((0, 7), (7, 8), (8, 24)):
        streamed.multiply_stack(
            first, last, shape, strides, (7, 5, 20), 1.0, *map(operand, views[:2]), 0.0, operand(c)
        )
    assert np.array_equal(c, a @ b)


def test_a_copy_of_b_serves_as_long_as_b_is_the_same(rng):
    """Along the inner dimension of a batch, or the outer one; B is transposed, or large."""
    for k, n, turned in ((9, 20, True), (150, 130, False)):
        a = whole(rng, (2, 3, 8, k), float)
        b = whole(rng, (3, n, k), float).swapaxes(1, 2) if turned else whole(rng, (3, k, n), float)
        for views in (np.broadcast_to(b[:2, None], (2, 3, k, n)), np.broadcast_to(b, (2, 3, k, n))):
            c = np.empty((2, 3, 8, n))
            strides = np.array([x.strides[:2] for x in (a, views, c)])
            streamed.multiply_stack(
                0, 6, np.array([2, 3]), strides, (8, k, n), 1.0, operand(a), operand(views), 0.0,
                operand(c),
            )  # fmt: skip
            assert np.array_equal(c, a @ views)


def test_the_same_bits_however_a_stack_is_cut(rng):
    a, b = rng.standard_normal((7, 40, 90)), rng.standard_normal((7, 100, 90)).swapaxes(1, 2)
    whole_c, c = np.empty((7, 40, 100)), np.empty((7, 40, 100))
    multiply(a, b, whole_c)
    for first, last in ((0, 1), (1, 4), (4, 7)):
        multiply(a[first:last], b[first:last], c[first:last])
    assert np.array_equal(c, whole_c)


def test_a_member_has_no_part_in_others(rng):
    a, b = whole(rng, (5, 20, 20), float), whole(rng, (5, 20, 20), float)
    want = a @ b
    a[1, 3], b[3, :, 19] = np.nan, np.inf
    c = np.empty((5, 20, 20))
    multiply(a, b, c)
    assert np.array_equal(c[[0, 2, 4]], want[[0, 2, 4]])
    assert np.isnan(c[1, 3]).all()
    assert np.array_equal(np.delete(c[1], 3, 0), np.delete(want[1], 3, 0))
    assert not np.isfinite(c[3, :, 19]).any()
    assert np.array_equal(c[3, :, :19], want[3, :, :19])


def test_lists_of_any_sizes(rng):
    for dtype in REALS:
        a = [whole(rng, (m, k), dtype) for m, k, _ in SUITABLE]
        b = [whole(rng, (k, n), dtype) for _, k, n in SUITABLE]
        b[::3] = [np.asfortranarray(x) for x in b[::3]]
        framed_c = [framed(rng, (m, n), dtype) for m, _, n in SUITABLE]
        c = [x for x, _ in framed_c]
        tables = [np.array([(x.ctypes.data, *x.shape, *x.strides) for x in xs]) for xs in (a, b, c)]
        chosen = rng.permutation(len(c))[: len(c) // 2]
        one = np.dtype(dtype).type(1)
        streamed.multiply_listed(chosen, one, tables[0], tables[1], 0 * one, tables[2])
        for t, (x, y, z) in enumerate(zip(a, b, c, strict=True)):
            if t in chosen:
                assert np.array_equal(z, x @ y), SUITABLE[t]
                z[...] = np.nan
        assert all(np.isnan(room).all() for _, room in framed_c)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("layout", ["rows", "transposed", "spread"])
def test_the_copy_of_b_stays_in_its_room(rng, dtype, layout):
    """Wherever the room begins, between lines of the cache."""
    like = np.dtype(dtype).type(0)
    for k, n in ((2, 17), (16, 18), (33, 40), (150, 130)):
        b = LAYOUTS[layout](whole(rng, (1, k, n), dtype))
        second = b.ctypes.data, b.strides[1:]
        needed = streamed._room_for(64, k, n, second, b.itemsize)
        assert bool(needed) == (layout != "rows" or b.nbytes >= 2**16)
        if not needed:
            continue
        for offset in range(64 // b.itemsize):
            guarded = np.full(needed + 64, np.nan, dtype)
            room = guarded[offset : offset + needed]
            target = streamed.place_in(room)
            line = streamed.bytes_of_line(n, b.itemsize)
            streamed.copy_by_rows(k, n, second, target, line, like)
            assert target % 64 == 0
            assert line // 64 % 2 == 1
            assert room.ctypes.data <= target
            assert target + k * line <= room.ctypes.data + room.nbytes
            start = (target - guarded.ctypes.data) // b.itemsize
            rows = guarded[start : start + k * line // b.itemsize].reshape(k, -1)
            assert np.array_equal(rows[:, :n], b[0])
            rows[:, :n] = np.nan
            assert np.isnan(guarded).all()


_AT_THE_END = """
import ctypes, mmap
import numpy as np
from mplinalg.kernels.cpu.batched import streamed
from tests.kernels import test_streamed as t

page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
rng = np.random.default_rng(0)

def at_the_end(x):
    pages = -(-x.nbytes // page)
    room = mmap.mmap(-1, (pages + 1) * page)
    bytes_ = np.frombuffer(room, np.uint8)
    address = ctypes.c_void_p(bytes_.ctypes.data + pages * page)
    assert libc.mprotect(address, page, 0) == 0  # PROT_NONE
    first = pages * page - x.nbytes
    held.append(room)
    y = bytes_[first : first + x.nbytes].view(x.dtype)
    order = "C" if x.flags.c_contiguous else "F"
    y = y.reshape(x.shape[1:], order=order)[None]
    y[...] = x
    return y

held = []
for dtype in t.REALS:
    for m, k, n in ((6, 1, 17), (7, 17, 19), (13, 33, 40), (40, 130, 131)):
        for turned_a in (False, True):
            for turned_b in (False, True):
                a, b = t.whole(rng, (1, m, k), dtype), t.whole(rng, (1, k, n), dtype)
                a = np.asfortranarray(a[0])[None] if turned_a else a
                b = np.asfortranarray(b[0])[None] if turned_b else b
                a, b, c = at_the_end(a), at_the_end(b), at_the_end(np.zeros((1, m, n), dtype))
                t.multiply(a, b, c)
                assert np.array_equal(c, a @ b)
                t.multiply(a, b, c, 1.0, 1.0)
                assert np.array_equal(c, 2 * (a @ b))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
def test_nothing_behind_the_last_entries_is_read():
    done = subprocess.run(
        [sys.executable, "-c", _AT_THE_END], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:] or f"signal {-done.returncode}"


def test_what_is_too_small_or_too_large_is_left_to_others():
    bytes_ = streamed._register_bytes()
    width = bytes_ // 8
    assert streamed.takes(LEAST_ROWS, 1, width + 1, 8)
    assert not streamed.takes(LEAST_ROWS - 1, 1, width + 1, 8)
    assert not streamed.takes(LEAST_ROWS, 1, width, 8)
    assert not streamed.takes(LEAST_ROWS, 0, width + 1, 8)
    assert streamed.takes(360, 360, 360, 8)
    assert not streamed.takes(365, 365, 365, 8)
    assert streamed.takes(500, 500, 500, 4)
    sizes = np.array([5, 6, 350, 365])
    found = streamed.takes(sizes, sizes, sizes + width, 8)
    assert found.tolist() == [False, True, True, False]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86")
@pytest.mark.parametrize(("processor", "bytes_"), [("x86-64", 16), ("haswell", 32)])
def test_processors_with_fewer_registers(processor, bytes_):
    code = (
        "import numpy as np\n"
        "from tests.kernels import test_streamed as t\n"
        f"assert t.streamed._register_bytes() == {bytes_}\n"
        "for dtype in t.REALS:\n"
        "    t.test_every_block(np.random.default_rng(0), dtype)\n"
        "t.test_any_layout_of_a_and_b(np.random.default_rng(0), 'transposed', 'transposed')\n"
    )
    features = "+avx,+avx2,+fma" if bytes_ == 32 else ""
    environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
