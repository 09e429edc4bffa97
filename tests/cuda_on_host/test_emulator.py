"""The emulator reports what is wrong with a kernel, and nothing where nothing is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .build import CompileError
from .module import LaunchError

BROKEN = Path(__file__).parent / "broken.cu"


def reals(n=64):
    return np.zeros(n, np.float32)


def integers(n=64):
    return np.zeros(n, np.int32)


RACES = {
    # of each its grid, block and arguments, and what the report says
    "race_in_shared": (1, 64, lambda: [reals()], "race|nobody wrote"),
    "race_in_warp": (1, 32, lambda: [reals()], "race|nobody wrote"),
    "race_of_blocks": (3, 32, lambda: [reals()], "race, .* argument 0, with block"),
    "reads_what_nobody_wrote": (
        1,
        32,
        lambda: [reals()],
        "read of what nobody wrote, byte .* of static",
    ),
    "runs_over_the_end": (1, 32, lambda: [60, reals()], "outside all arguments|over the end"),
    "runs_over_shared": (1, 32, lambda: [reals() + 1], "index 32 out of bounds of 'float"),
    "is_misaligned": (1, 2, lambda: [reals()], "not aligned to 16 bytes at broken.cu"),
    "copy_is_not_awaited": (1, 32, lambda: [reals(128), reals()], "nobody wrote|race"),
    "overflows_an_integer": (1, 1, lambda: [50000, reals()], "overflow of a product at broken.cu"),
}
ALWAYS = {
    "barrier_diverges": (1, 64, lambda: [integers()], "divergent barrier: .*broken.cu"),
    "barrier_after_the_end": (1, 64, lambda: [40, integers()], "have ended|ends while"),
    "shuffle_diverges": (1, 32, lambda: [integers()], "divergent warp operation"),
    "waits_for_ever": (1, 32, lambda: [integers()], "lane .* waits at|deadlock"),
    "overflows_its_stack": (1, 32, lambda: [20000, reals()], "stack overflow|invalid address"),
    "reads_through_null": (1, 32, lambda: [None, reals()], "invalid address|outside all arguments"),
    "gives_up": (1, 32, lambda: [reals()], r"__trap\(\)"),
}


@pytest.mark.parametrize("name", RACES)
def test_the_checker_reports(emulated, schedule, name):
    grid, block, arguments, text = RACES[name]
    if name == "copy_is_not_awaited" and schedule not in ("reverse",):
        pytest.skip("the copy may have been made in time")
    with pytest.raises(LaunchError, match=text):
        emulated(BROKEN, checked=True)[name](grid, block, arguments(), schedule=schedule)


@pytest.mark.parametrize("name", ALWAYS)
def test_the_scheduler_reports(emulated, schedule, checked, name):
    grid, block, arguments, text = ALWAYS[name]
    module = emulated(BROKEN, checked=checked)
    with pytest.raises(LaunchError, match=text):
        module[name](grid, block, arguments(), schedule=schedule)
    x = reals()  # and it goes on working
    module["no_race_of_blocks"](4, 32, [x])
    assert x[0] == 128


def test_the_line_is_named(emulated):
    text = BROKEN.read_text().splitlines()
    line = next(i for i, code in enumerate(text, 1) if "s[63 - threadIdx.x]" in code)
    with pytest.raises(LaunchError, match=f"at broken.cu:({line - 1}|{line})$"):
        emulated(BROKEN, checked=True)["race_in_shared"](1, 64, [reals()])


def test_no_false_report(emulated, schedule, checked):
    module = emulated(BROKEN, checked=checked)
    start = np.arange(64, dtype=np.float32)
    x = start.copy()
    module["no_race_in_shared"](1, 64, [x], schedule=schedule)
    np.testing.assert_array_equal(x, start[::-1])
    x = start[:32].copy()
    module["no_race_in_warp"](1, 32, [x], schedule=schedule)
    np.testing.assert_array_equal(x, start[:32][::-1])
    x, y = reals(96), reals(96)
    module["no_race_over_the_grid"](3, 32, [x, y], schedule=schedule, cooperative=True)
    np.testing.assert_array_equal(y, np.repeat([1, 2, 3], 32))
    x, y = np.arange(128, dtype=np.float32), reals(32)
    module["copy_is_awaited"](1, 32, [x, y], schedule=schedule)
    np.testing.assert_array_equal(y, x[::-1][:32])


def test_races_over_the_grid(emulated, schedule):
    with pytest.raises(LaunchError, match="race"):
        emulated(BROKEN, checked=True)["race_over_the_grid"](
            3, 32, [reals(96)], schedule=schedule, cooperative=True
        )


def test_a_grid_barrier_needs_a_cooperative_launch(emulated):
    with pytest.raises(LaunchError, match="not cooperative"):
        emulated(BROKEN)["no_race_over_the_grid"](3, 32, [reals(96), reals(96)])


def test_too_much_shared_memory(emulated):
    with pytest.raises(LaunchError, match="bytes of shared memory, the device has"):
        emulated(BROKEN)["gives_up"](1, 1, [reals()], shared=300_000)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([3, np.zeros(4)], "argument 1 is an array of float64, the kernel wants f4"),
        ([2**31, reals()], "argument 0 = 2147483648 does not fit i4"),
        ([np.int64(1), reals()], "argument 0 is a int64, the kernel wants i4"),
        ([1], "takes 2 arguments, got 1"),
    ],
)
def test_arguments_are_checked(emulated, arguments, text):
    with pytest.raises(TypeError, match=text):
        emulated(BROKEN)["runs_over_the_end"](1, 1, arguments)


def test_what_the_compiler_says(broken):
    with pytest.raises(CompileError, match="no_such_function"):
        broken(BROKEN, lambda text: text.replace("__trap()", "no_such_function()"))


def test_multiply_f16(emulated, rng, schedule, checked):
    """Sums of integers are exact, so the layout of the fragments is what is tested."""
    a = rng.integers(-9, 9, (16, 16)).astype(np.float16)
    b = rng.integers(-9, 9, (16, 8)).astype(np.float16)
    d = np.full((16, 8), np.nan, np.float32)
    emulated(BROKEN, checked=checked)["multiply_f16"](1, 32, [a, b, d], schedule=schedule)
    np.testing.assert_array_equal(d, a.astype(float) @ b.astype(float))


def test_multiply_tf32(emulated, rng):
    """Low bits of the operands are cut off."""
    a = rng.integers(-9, 9, (16, 8)).astype(np.float32)
    b = rng.integers(-9, 9, (8, 8)).astype(np.float32)
    d = np.full((16, 8), np.nan, np.float32)
    emulated(BROKEN)["multiply_tf32"](1, 32, [a + np.float32(2.0**-11), b, d])
    cut = ((a + np.float32(2.0**-11)).view(np.uint32) & 0xFFFFE000).view(np.float32)
    np.testing.assert_array_equal(d, (cut.astype(float) @ b).astype(np.float32))


def test_rounding_toward_zero(emulated):
    a, b = np.ones((16, 16), np.float16), np.ones((16, 8), np.float16)
    a[:, 1:] = 2.0**-14
    d = np.empty((16, 8), np.float32)
    for toward_zero in (False, True):
        emulated(BROKEN)["multiply_f16"](1, 32, [a, b, d], toward_zero=toward_zero)
        assert (d == np.float32(1 + 15 * 2.0**-14)).all()
    a[:, 0], a[:, 1:] = 1024, 1 - 2.0**-11
    exact = 1024 + 15 * (1 - 2.0**-11)
    emulated(BROKEN)["multiply_f16"](1, 32, [a, b, d], toward_zero=True)
    assert (d <= exact).all()
    assert (d == np.nextafter(np.float32(exact), np.float32(0))).all() or (d == exact).all()
