"""The constants of the formats, verified by rounding with them."""

import dataclasses

import numpy as np
import pytest

from mplinalg.precision import (
    BF16,
    FORMATS,
    FP16,
    FP16X2,
    FP32,
    FP64,
    TF32,
    get_format,
    real_dtype,
    working_format,
)

ALL = list(FORMATS.values())
LOW = [FP16, BF16, TF32, FP16X2]
SIMPLE = [FP16, BF16, TF32, FP32, FP64]
"""Formats whose numbers are m 2^e; those of fp16x2 are sums of two."""


def rounded(fmt, value):
    """One float64 number that fp32 holds (fp64: any), rounded to the format."""
    return float(fmt.round(np.array([value]))[0])


# -- constants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", SIMPLE, ids=str)
def test_unit_roundoff_is_half_the_gap_above_one(fmt):
    u = fmt.unit_roundoff
    assert rounded(fmt, 1 + 2 * u) == 1 + 2 * u > 1
    # ties go to even; in fp64 the sums themselves are rounded
    assert rounded(fmt, 1 + u) == 1.0
    assert rounded(fmt, 1 + 3 * u) == 1 + 4 * u
    assert rounded(fmt, 1 + u * 1.25) == 1 + 2 * u
    assert rounded(fmt, 1 + u * 0.75) == 1.0


@pytest.mark.parametrize("fmt", SIMPLE, ids=str)
def test_largest_number(fmt):
    assert rounded(fmt, fmt.max) == fmt.max
    assert rounded(fmt, -fmt.max) == -fmt.max
    if fmt is not FP64:
        # (1 - u) 2^k and the power of two above it
        half_gap = fmt.max * fmt.unit_roundoff / (1 - fmt.unit_roundoff) / 2
        assert rounded(fmt, fmt.max + half_gap) == np.inf
        assert rounded(fmt, fmt.max + half_gap * 0.75) == fmt.max
        assert rounded(fmt, -2 * fmt.max) == -np.inf
    assert rounded(fmt, np.inf) == np.inf


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_smallest_numbers(fmt):
    tiny = fmt.smallest_subnormal
    assert rounded(fmt, tiny) == tiny
    assert rounded(fmt, -3 * tiny) == -3 * tiny
    assert rounded(fmt, fmt.smallest_normal) == fmt.smallest_normal
    if fmt not in (FP32, FP64):
        assert rounded(fmt, tiny / 2) == 0.0  # a tie goes to even
        assert rounded(fmt, tiny * 1.5) == 2 * tiny
        assert rounded(fmt, tiny * 0.75) == tiny
        assert rounded(fmt, tiny * 1.25) == tiny


@pytest.mark.parametrize("fmt", LOW, ids=str)
def test_numbers_within_the_range_are_wrong_by_the_unit_roundoff_at_most(fmt):
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, 20_000) * 2.0 ** rng.integers(-14, 15, 20_000)
    x = x.astype(np.float32)
    error = abs(fmt.round(x).astype(np.float64) - x) / x
    assert error.max() <= fmt.unit_roundoff
    assert error.max() >= fmt.unit_roundoff / 4


def test_fp16x2_has_the_range_of_fp16():
    assert rounded(FP16X2, 65504.0) == 65504.0
    assert rounded(FP16X2, 65520.0) == np.inf
    assert rounded(FP16X2, 1 + 2.0**-21) == 1 + 2.0**-21


@pytest.mark.parametrize("fmt", [FP32, FP64], ids=str)
def test_native_formats_are_those_of_numpy(fmt):
    info = np.finfo({"fp32": np.float32, "fp64": np.float64}[fmt.name])
    assert fmt.unit_roundoff == info.eps / 2
    assert fmt.max == info.max
    assert fmt.smallest_normal == info.tiny
    assert fmt.smallest_subnormal == info.smallest_subnormal
    assert fmt.bytes == info.bits // 8
    assert fmt.is_native


def test_half_precision_is_that_of_numpy():
    info = np.finfo(np.float16)
    assert FP16.unit_roundoff == info.eps / 2
    assert FP16.max == info.max
    assert FP16.smallest_normal == info.tiny
    assert FP16.smallest_subnormal == info.smallest_subnormal
    assert FP16.bytes == info.bits // 8


def test_what_needs_scaling_is_what_has_five_bits_of_exponent():
    assert [fmt.name for fmt in ALL if fmt.needs_scaling] == ["fp16", "fp16x2"]
    assert [fmt.name for fmt in ALL if fmt.is_native] == ["fp32", "fp64"]


# -- lookup --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"])
def test_get_format(name):
    fmt = get_format(name)
    assert fmt.name == str(fmt) == name
    assert get_format(fmt) is fmt
    assert FORMATS[name] is fmt


@pytest.mark.parametrize("wrong", ["fp8", "FP16", "", None, 16, ["fp16"], np.float32])
def test_get_format_names_the_formats_there_are(wrong):
    with pytest.raises(ValueError, match="fp16, bf16, tf32, fp16x2, fp32, fp64") as caught:
        get_format(wrong)
    assert repr(wrong) in str(caught.value)


def test_formats_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FP16.max = 1.0


def test_dtypes():
    for char, single, double in [
        ("f", "f", "d"),
        ("d", "f", "d"),
        ("F", "F", "D"),
        ("D", "F", "D"),
    ]:
        assert {fmt.dtype(char).char for fmt in [*LOW, FP32]} == {single}
        assert FP64.dtype(char).char == double
        assert real_dtype(char).char == char.lower()
        assert working_format(char) is (FP32 if char in "fF" else FP64)


# -- round ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_round_returns_a_new_array_and_keeps_the_order(fmt, dtype):
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(dtype)
    if x.dtype.kind == "c":
        x += 1j * x[::-1]
    plain = fmt.round(x)
    assert plain.dtype == fmt.dtype(dtype)
    assert not np.shares_memory(plain, x)
    assert np.array_equal(fmt.round(plain), plain)
    for view in (np.asfortranarray(x), x[::2, ::-1], x.T, x[:, 2:3], x[:0], x.reshape(5, 7, 1)):
        before = view.copy(order="K")
        y = fmt.round(view)
        assert np.array_equal(view, before)
        assert y.shape == view.shape
        expected = [rounded_alone(fmt, v) for v in view.ravel()]
        assert np.array_equal(y.ravel(), np.array(expected, y.dtype))
    assert fmt.round(np.asfortranarray(x)).flags.f_contiguous
    assert fmt.round(x).flags.c_contiguous


def rounded_alone(fmt, value):
    return fmt.round(np.array([value]))[0]


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_round_takes_real_and_imaginary_parts_apart(fmt):
    z = np.array([1 / 3 + 1e-3j, complex(np.nan, 0.1), complex(-np.inf, 1e-30), 1e30 - 1j])
    y = fmt.round(z)
    assert np.array_equal(y.real, fmt.round(z.real), equal_nan=True)
    assert np.array_equal(y.imag, fmt.round(z.imag), equal_nan=True)


def test_round_goes_by_way_of_single_precision():
    """Above a midpoint by less than fp32 can tell: the tie of fp32 decides."""
    assert rounded(FP16, 1 + 2.0**-11 + 2.0**-20) == 1 + 2.0**-10
    assert rounded(FP16, 1 + 2.0**-11 + 2.0**-40) == 1.0


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_round_keeps_nan_and_infinities(fmt):
    y = fmt.round(np.array([np.nan, np.inf, -np.inf, 0.0]))
    assert np.array_equal(y, [np.nan, np.inf, -np.inf, 0.0], equal_nan=True)
