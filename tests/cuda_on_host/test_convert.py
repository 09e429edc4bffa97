"""convert.cu: a matrix in another format, sums along lines, and what is lost."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.precision import get_format

from .module import LaunchError
from .mutation import barriers_of_header

TARGETS = [
    ("double, double", np.float64, "fp64"), ("double, float", np.float32, "fp32"),
    ("double, half", np.float16, "fp16"), ("double, __nv_bfloat16", np.uint16, "bf16"),
    ("float, float", np.float32, "fp32"), ("float, half", np.float16, "fp16"),
    ("float, __nv_bfloat16", np.uint16, "bf16"),
]  # fmt: skip


def source_of(rng, types, shape):
    dtype = np.float64 if types.startswith("double") else np.float32
    a = rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 9, shape)
    a[0, 0] = 0.0
    return a.astype(dtype)


def launch(module, types, a, target, fmt, *, left=None, right=None, pair=1, **options):
    sums, lost = np.full(len(a), np.nan), np.zeros(2, np.uint64)
    module[f"convert<{types}>"](
        3, 256,
        [*a.shape, a, a.strides[0] // a.itemsize, target, target.strides[0] // target.itemsize,
         left, right, pair, fmt.max, fmt.smallest_normal, sums, lost],
        uninitialised=[4, 11], **options,
    )  # fmt: skip
    return sums, lost


def rounded(a, name):
    """By the plain definition of the format, as the words that the kernel writes."""
    with np.errstate(over="ignore"):
        if name == "fp16":  # once, and not by way of fp32
            return a.astype(np.float16)
        y = get_format(name).round(a)
        return (y.view(np.uint32) >> 16).astype(np.uint16) if name == "bf16" else y


@pytest.mark.parametrize(("types", "dtype", "name"), TARGETS, ids=[t for t, *_ in TARGETS])
@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (5, 300), (2, 1025)])
def test_every_format(compiled, rng, schedule, checked, types, dtype, name, shape):
    fmt, a = get_format(name), source_of(rng, types, shape)
    target = np.empty(shape, dtype)
    sums, lost = launch(
        compiled("convert.cu", checked=checked), types, a, target, fmt, schedule=schedule
    )
    np.testing.assert_array_equal(target, rounded(a, name))
    np.testing.assert_allclose(sums, abs(a.astype(float)).sum(axis=1), rtol=1e-13)
    size = abs(a.astype(float))
    assert lost.tolist() == [
        (size > fmt.max).sum(),
        ((size < fmt.smallest_normal) & (a != 0)).sum(),
    ]


def test_padded_lines(compiled, rng):
    """Entries between the lines are neither read nor written."""
    whole = np.full((4, 20), np.nan, np.float32)
    whole[:, :13] = rng.standard_normal((4, 13))
    target = np.full((4, 17), 7, np.float16)
    sums, _ = launch(
        compiled("convert.cu", checked=True), "float, half", whole[:, :13], target[:, :13],
        get_format("fp16"),
    )  # fmt: skip
    np.testing.assert_array_equal(target[:, :13], whole[:, :13].astype(np.float16))
    assert (target[:, 13:] == 7).all()
    assert np.isfinite(sums).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(compiled, value):
    a = np.ones((2, 40))
    a[1, 17] = value
    target = np.empty(a.shape, np.float32)
    sums, lost = launch(compiled("convert.cu"), "double, float", a, target, get_format("fp32"))
    np.testing.assert_array_equal(target, a.astype(np.float32))
    assert sums[0] == 40
    assert not np.isfinite(sums[1])
    assert lost.tolist() == [int(np.isinf(value)), 0]


def test_scaling_leaves_the_range_nowhere(compiled):
    """1e300 scaled by 2^-1000 and 2^10: by the larger factor first it would overflow."""
    a = np.array([[1e300, 1e-300, 3.0]])
    left, right = np.array([2.0**-990]), np.array([2.0**10, 2.0**990, 2.0**980])
    target = np.empty(a.shape)
    launch(
        compiled("convert.cu"), "double, double", a, target, get_format("fp64"), left=left,
        right=right,
    )  # fmt: skip
    expected = [1e300 * 2.0**-980, 1e-300, 3.0 * 2.0**-10]
    np.testing.assert_array_equal(target[0], expected)


def test_complex_lines_share_a_factor(compiled, rng):
    """Real and imaginary part of an entry have the factor of its column."""
    a = rng.standard_normal((3, 8)) + 1j * rng.standard_normal((3, 8))
    left, right = 2.0 ** np.arange(3), 2.0 ** -np.arange(8.0)
    target = np.empty((3, 16), np.float32)
    launch(
        compiled("convert.cu"), "double, float", a.view(np.float64), target, get_format("fp32"),
        left=left, right=right, pair=2,
    )  # fmt: skip
    expected = (left[:, None] * a * right).astype(np.complex64)
    np.testing.assert_array_equal(target.view(np.complex64), expected)


def test_the_same_sums_in_every_run(compiled, rng):
    """To the last bit, whichever thread went first."""
    a = rng.standard_normal((2, 999))
    target = np.empty(a.shape, np.float32)
    found = [
        launch(compiled("convert.cu"), "double, float", a, target, get_format("fp32"),
               schedule=schedule)[0]
        for schedule in ("forward", "reverse", 3)
    ]  # fmt: skip
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


@pytest.mark.parametrize("edit", barriers_of_header("reduce.cuh"), ids=lambda edit: edit.__name__)
def test_barriers_of_reductions_are_needed(broken, rng, edit):
    module = broken("convert.cu", edit, "convert<double, float>")
    a, target = rng.standard_normal((9, 300)), np.empty((9, 300), np.float32)
    caught = 0
    for schedule in ("forward", "reverse", 1):
        try:
            launch(module, "double, float", a, target, get_format("fp32"), schedule=schedule)
        except LaunchError:
            caught += 1
    assert caught
