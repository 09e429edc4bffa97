"""narrow.cu: operands of low-precision products, with scales that stay on the device."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np
import pytest

from mplinalg.precision import get_format

from .device_module import seen_by
from .module import CAN_FLUSH, LaunchError
from .mutation import barriers

FILE = "narrow.cu"
FORMATS = {"half": "fp16", "__nv_bfloat16": "bf16", "float": "tf32", "fp16x2": "fp16x2"}
TYPES = {"half": np.float16, "__nv_bfloat16": np.uint16, "float": np.float32, "fp16x2": np.float16}
INSTANCES = [
    *((name, 1, False) for name in FORMATS),
    *((name, 2, turned) for name in ("half", "__nv_bfloat16") for turned in (False, True)),
    ("fp16x2", 1, True), ("fp16x2", 2, False), ("fp16x2", 2, True),
]  # fmt: skip
IDS = [f"{n.strip('_')}-{p}{'-turned' if t else ''}" for n, p, t in INSTANCES]
SHAPES = [(1, 1), (7, 33), (65, 34), (2, 1100)]
TOP = np.float32(6550.4)


def images(x, name):
    """The planes of the format, by its definition, from numbers that are scaled already."""
    x = x.astype(np.float32)
    if name == "fp16x2":
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            high = x.astype(np.float16)
            rest = np.where(np.isfinite(high), np.float32(2048) * (x - high.astype(np.float32)), 0)
            return [high, rest.astype(np.float16)]
    y = get_format(FORMATS[name]).round(x)
    if name == "__nv_bfloat16":
        return [(y.view(np.uint32) >> 16).astype(np.uint16)]
    return [y.astype(TYPES[name])]


def losses(x, image, name):
    """Overflows and underflows of an image, as the plain definition counts them."""
    if name == "__nv_bfloat16":
        image = (image.astype(np.uint32) << 16).view(np.float32)
    least = get_format("fp16" if name == "fp16x2" else FORMATS[name]).smallest_normal
    with np.errstate(invalid="ignore"):  # signalling NaN
        size = abs(image.astype(float))
    return np.array([(np.isinf(size) & np.isfinite(x)).sum(), ((size < least) & (x != 0)).sum()])


def numbers(rng, shape):
    """All of fp32, and in every second column numbers near one."""
    x = rng.integers(0, 2**32, shape, np.uint64).astype(np.uint32).view(np.float32)
    x[:, ::2] = rng.standard_normal(x[:, ::2].shape) * 10.0 ** rng.integers(-6, 6, (len(x), 1))
    x[0, -1] = 0.0
    return x


def entries(rng, shape, parts):
    x = numbers(rng, (shape[0], shape[1] * parts))
    return x if parts == 1 else x.view(np.complex64)


def launch(module, name, parts, turned, a, *, bits=None, top=TOP, conjugated=False, padding=0,
           grid=3, **options):  # fmt: skip
    """The planes that the kernel writes, the scale and the counts."""
    lines, length = a.shape
    shape = (length, lines) if turned else (lines, length)
    count = parts * (2 if name == "fp16x2" else 1)
    dtype = TYPES[name]
    fill = 7 if padding else (0xDEAD if dtype == np.uint16 else np.nan)
    planes = np.full((count, shape[0], shape[1] + padding), fill, dtype)
    scale, lost = np.full(1, np.nan, np.float32), np.zeros(2, np.uint64)
    module[f"narrow<{name}, {parts}, {str(turned).lower()}>"](
        grid, 256,
        [lines, length, a.view(np.float32), a.strides[0] // 4, int(conjugated), bits, top, planes,
         planes.shape[2], planes[0].size, scale, lost],
        uninitialised=[7, 10] if not padding else [10], **options,
    )  # fmt: skip
    if padding:
        assert (planes[:, :, shape[1] :] == 7).all()
    return planes[:, :, : shape[1]], float(scale[0]), lost


def assert_is_image(module, planes, lost, a, name, turned, *, scale=1.0):
    """Bit for bit: every NaN is one, as NumPy and CUDA choose different ones."""
    parts = [a.real, a.imag] if a.dtype.kind == "c" else [a]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = [images(seen_by(module, np.float32(scale) * part), name) for part in parts]
    counted = sum(losses(part, found[0], name) for part, found in zip(parts, expected, strict=True))
    for plane, image in zip(planes, [p for found in expected for p in found], strict=True):
        given = plane.T if turned else plane
        if image.dtype == np.uint16:
            given, image = ((x.astype(np.uint32) << 16).view(np.float32) for x in (given, image))
        if image.dtype == np.float32:  # a product by one need not be one, and flushes nothing
            given, image = seen_by(module, given), seen_by(module, image)
        np.testing.assert_array_equal(given, image)
    np.testing.assert_array_equal(lost, counted)


@pytest.mark.parametrize(("name", "parts", "turned"), INSTANCES, ids=IDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_instance(compiled, rng, schedule, name, parts, turned, shape):
    a = entries(rng, shape, parts)
    module = compiled(FILE)
    planes, scale, lost = launch(module, name, parts, turned, a, schedule=schedule)
    assert scale == 1
    assert_is_image(module, planes, lost, a, name, turned)


@pytest.mark.parametrize(("name", "parts", "turned"), INSTANCES, ids=IDS)
def test_checked(compiled, rng, schedule, name, parts, turned):
    """Edges of tiles; nothing beside the lines is read or written."""
    whole = entries(rng, (65, 40), parts)
    whole[:, 34:] = np.nan
    a, bits = whole[:, :34], np.array([2.0**20], np.float32).view(np.uint32)
    module = compiled(FILE, checked=True)
    planes, scale, lost = launch(
        module, name, parts, turned, a, bits=bits, padding=3, schedule=schedule
    )
    assert scale == 2.0**-8
    assert_is_image(module, planes, lost, a, name, turned, scale=scale)


@pytest.mark.parametrize("shape", [(1, 5000), (3000, 3), (300, 31), (5, 257)], ids=str)
@pytest.mark.parametrize("grid", [1, 7, 400])
def test_any_grid(compiled, rng, shape, grid):
    """Few long lines and many short ones, more and fewer blocks than pieces."""
    a, module = entries(rng, shape, 1), compiled(FILE)
    planes, _, lost = launch(module, "half", 1, False, a, grid=grid)
    assert_is_image(module, planes, lost, a, "half", turned=False)
    planes, _, lost = launch(module, "fp16x2", 1, True, a, grid=grid)
    assert_is_image(module, planes, lost, a, "fp16x2", turned=True)


@pytest.mark.parametrize("name", ["half", "__nv_bfloat16", "fp16x2"])
@pytest.mark.parametrize("turned", [False, True])
def test_conjugates(compiled, rng, name, turned):
    a, module = entries(rng, (9, 40), 2), compiled(FILE)
    planes, _, lost = launch(module, name, 2, turned, a, conjugated=True)
    assert_is_image(module, planes, lost, a.conj(), name, turned)


def exact_scale(largest, top):
    """floor(log2(top / largest)), in exact arithmetic."""
    if largest == 0 or not np.isfinite(largest):
        return 1.0
    ratio = Fraction(float(top)) / Fraction(float(largest))
    exponent = floor(np.log2(float(top)) - np.log2(float(largest))) - 2
    while Fraction(2) ** (exponent + 1) <= ratio:
        exponent += 1
    return 2.0 ** min(max(exponent, -126), 126)


def scales(module, largest, top=TOP, **options):
    a, found = np.ones((1, 1), np.float32), []
    for number in np.asarray(largest, np.float32).view(np.uint32):
        bits = np.array([number])
        found.append(launch(module, "half", 1, False, a, bits=bits, top=top, **options)[1])
    return found


@pytest.mark.parametrize("top", [TOP, np.float32(2.0**12), np.nextafter(np.float32(1), 0)])
def test_the_scale_is_the_largest_power(compiled, rng, top):
    """Also where the ratio is a power of two, or one unit beside it, and of subnormal numbers."""
    largest = [top * np.float32(2.0**e) for e in (-100, -1, 0, 1, 20)]
    largest += [np.nextafter(x, y, dtype=np.float32) for x in largest for y in (0, np.inf)]
    largest += [2.0**-149, 3 * 2.0**-149, 2.0**-127, 2.0**-126, 3.4e38]
    largest += (10.0 ** rng.uniform(-40, 38, 20)).tolist()
    largest += [0.0, np.inf, np.nan]
    with np.errstate(under="ignore"):
        largest = np.array(largest, np.float32)
    assert scales(compiled(FILE), largest, top) == [exact_scale(x, top) for x in largest]


def test_scaled_numbers_are_rounded_once(compiled, rng):
    a = (2.0**40 * rng.standard_normal((5, 300))).astype(np.float32)
    bits, module = abs(a).max().reshape(1).view(np.uint32), compiled(FILE)
    planes, scale, lost = launch(module, "half", 1, False, a, bits=bits)
    assert 0.5 * TOP < scale * abs(a).max() <= TOP
    assert_is_image(module, planes, lost, a, "half", turned=False, scale=scale)
    assert lost[0] == 0


def test_nobody_asks_for_scale_and_counts(compiled, rng):
    a, target = numbers(rng, (3, 5)), np.empty((3, 5), np.float16)
    compiled(FILE, checked=True)["narrow<half, 1, false>"](
        1, 256, [3, 5, a, 5, 0, None, TOP, target, 5, 15, None, None]
    )
    np.testing.assert_array_equal(target, images(a, "half")[0])


def test_what_the_halves_leave(compiled, rng):
    """2^-22 of a number in the range of normal halves; 2^-36 below it."""
    x = (np.exp2(rng.uniform(-14, 15.99, (1, 4000))) * rng.choice([-1, 1], 4000)).astype(np.float32)
    for exponent in (0, -20):
        a = np.ldexp(x, exponent)
        (high, low), *_ = launch(compiled(FILE), "fp16x2", 1, False, a)
        rest = a.astype(float) - high.astype(float) - low.astype(float) / 2048
        assert (abs(rest) <= np.maximum(2.0**-22 * abs(a.astype(float)), 2.0**-36)).all()


def test_limits_of_the_range(compiled):
    """65504 is the largest half; what is nearer to it than to 65536 does not overflow."""
    x = [65504, 65519.996, 65520, -1e30, np.inf, np.nan, 2.0**-14, 6.1e-5, 0]
    expected = [65504, 65504, np.inf, -np.inf, np.inf, np.nan, 2.0**-14, 6.1e-5, 0]
    (high, low), _, lost = launch(compiled(FILE), "fp16x2", 1, False, np.array([x], np.float32))
    np.testing.assert_array_equal(high[0], np.array(expected, np.float16))
    assert low[0, 1] == 32768  # 16 by 2^11, the last digits of 65519.996 being rounded
    assert (low[0, 2:6] == 0).all()
    assert lost.tolist() == [2, 1]


SUBNORMAL = [2.0**-149, -(2.0**-127), 1.5 * 2.0**-126, 0.0, 2.0**-126, 1.0, 0.0, np.inf]


@pytest.mark.skipif(not CAN_FLUSH, reason="the emulator flushes on x86-64 only")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("exponent", [0, -1])
def test_flushed_numbers_are_counted(compiled, name, exponent):
    """Those below 2^-126, before scaling or after it, become zeros, and are lost; zeros are not."""
    a = np.array([SUBNORMAL], np.float32)
    # brings `top` itself to half of it
    bits = None if exponent == 0 else np.array([2 * TOP]).view(np.uint32)
    planes, scale, lost = launch(compiled(FILE), name, 1, False, a, bits=bits, flush=True)
    assert scale == 2.0**exponent
    # in fp16 all four are; else the first two and, halved, those that come to lie below 2^-126
    assert lost.tolist() == [0, 2 if name in ("__nv_bfloat16", "float") and exponent == 0 else 4]
    words = planes[0][0].view(np.uint32 if name == "float" else np.uint16)
    assert words[:2].tolist() == [0, 1 << 8 * words.itemsize - 1]  # zeros with their signs


@pytest.mark.skipif(not CAN_FLUSH, reason="the emulator flushes on x86-64 only")
def test_scales_of_flushed_numbers(compiled):
    """Found from bits, so that they are the same."""
    largest = np.array([2.0**-149, 3 * 2.0**-149, 2.0**-127, 1e-20, 1e38], np.float32)
    assert scales(compiled(FILE), largest, flush=True) == scales(compiled(FILE), largest)


# ---------------------------------------------------------------- quotient


@pytest.mark.parametrize(
    ("alpha", "a", "b", "expected"),
    [(3.0, 2.0**5, 2.0**-3, 0.75), (-1.0, None, None, -1.0), (1.0, None, 4.0, 0.25),
     (1.0, 2.0, None, 0.5), (2.0**100, 2.0**126, 2.0**100, 2.0**-126),
     (2.0**-100, 2.0**-100, 2.0**-120, 2.0**120), (1.0, 2.0**-126, 2.0**126, 1.0)],
)  # fmt: skip
def test_quotient(compiled, schedule, alpha, a, b, expected):
    """Also where the product of the scales leaves the range of fp32."""
    scales = [None if s is None else np.array([s], np.float32) for s in (a, b)]
    result = np.full(1, np.nan, np.float32)
    compiled(FILE, checked=True)["quotient"](
        1, 256, [alpha, *scales, result], uninitialised=[3], schedule=schedule
    )
    assert result[0] == expected


# ---------------------------------------------------------------- round_format


def launch_round(module, name, a, **options):
    lost = np.zeros(2, np.uint64)
    options = {"grid": 3, **options}
    module[f"round_format<{name}>"](
        options.pop("grid"), 256, [*a.shape, a, a.strides[0] // 4, lost], **options
    )
    return lost


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rounding_in_place(compiled, rng, schedule, checked, name, shape):
    if checked and shape[0] > 7:
        shape = (9, 34)
    whole = numbers(rng, (shape[0], shape[1] + 2))
    before, a = whole.copy(), whole[:, : shape[1]]
    given = a.copy()
    module = compiled(FILE, checked=checked)
    lost = launch_round(module, name, a, schedule=schedule)
    expected = get_format(FORMATS[name]).round(given)
    np.testing.assert_array_equal(seen_by(module, a), seen_by(module, expected))
    np.testing.assert_array_equal(whole[:, shape[1] :], before[:, shape[1] :])
    np.testing.assert_array_equal(lost, losses(given, images(given, name)[0], name))


@pytest.mark.parametrize("name", FORMATS)
def test_rounding_twice_changes_nothing(compiled, rng, name):
    a = rng.standard_normal((30, 40)).astype(np.float32)
    launch_round(compiled(FILE), name, a)
    once = a.copy()
    assert launch_round(compiled(FILE), name, a, grid=50).tolist() == [0, 0]
    np.testing.assert_array_equal(a, once)


# ---------------------------------------------------------------- what all have in common


def test_the_counts_are_raised(compiled):
    """Not set: several operands count in one place."""
    a, lost = np.array([[1e6, 1e-9, 1.0]], np.float32), np.array([5, 7], np.uint64)
    compiled(FILE)["round_format<half>"](2, 256, [1, 3, a, 3, lost])
    assert lost.tolist() == [6, 8]


def test_nothing_to_do(compiled):
    a = np.empty((3, 0), np.float32)
    for turned in (False, True):
        planes, scale, lost = launch(compiled(FILE), "fp16x2", 1, turned, a, padding=1)
        assert (scale, lost.tolist()) == (1.0, [0, 0])
        assert planes.size == 0


EDITS = barriers(FILE)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_no_barrier_can_go(broken, rng, edit):
    """Of a transposing copy, that goes on to a second tile."""
    module = broken(FILE, edit, "narrow<fp16x2, 1, true>")
    a, caught = entries(rng, (70, 40), 1), 0
    for schedule in ("forward", "reverse", 1):
        try:
            launch(module, "fp16x2", 1, True, a, grid=1, schedule=schedule)
        except LaunchError as error:
            caught += "race" in str(error) or "nobody wrote" in str(error)
    assert caught


def test_there_are_barriers():
    assert len(EDITS) == 2
    assert all(one.__name__ != other.__name__ for one, other in pairwise(EDITS))
