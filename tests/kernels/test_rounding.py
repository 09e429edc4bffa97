"""Rounding to fp16, bf16, tf32 and fp16x2, against definitions that share no code with it.

`by_definition` rounds with frexp, ldexp and rint in float64, where all of these are exact; it is
itself held against rational arithmetic, and against NumPy's own casts to float16.
"""

from fractions import Fraction

import numpy as np
import pytest

from mplinalg.kernels.cpu import rounding
from mplinalg.precision import FP16X2, get_format

# significant bits, least and greatest exponent e of 2^e <= |x| < 2^(e+1)
SHAPES = {"fp16": (11, -14, 15), "bf16": (8, -126, 127), "tf32": (11, -126, 127)}
FORMATS = list(SHAPES)
INF = np.float32(np.inf)


def by_definition(name, x):
    """`x` to nearest even; float32 in, float32 out."""
    digits, least, greatest = SHAPES[name]
    with np.errstate(invalid="ignore"):  # signalling NaN
        x = x.astype(np.float64)
    _, exponent = np.frexp(x)  # x = m 2^exponent, 1/2 <= |m| < 1
    shift = digits - np.maximum(exponent, least + 1)
    y = np.ldexp(np.rint(np.ldexp(x, shift)), -shift)
    largest = (2 - 2.0 ** (1 - digits)) * 2.0**greatest
    return np.where(abs(y) > largest, np.copysign(np.inf, y), y).astype(np.float32)


def by_fractions(name, x):
    """One finite number to nearest even, in rational arithmetic."""
    digits, least, greatest = SHAPES[name]
    value = Fraction(float(x))
    exponent = least
    while abs(value) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    quantum = Fraction(2) ** (exponent - digits + 1)
    rounded = round(value / quantum) * quantum  # Python rounds halves to even
    if abs(rounded) >= Fraction(2) ** (greatest + 1):
        return np.copysign(INF, x)
    return np.copysign(np.float32(rounded), x)


def splits_by_definition(x):
    """(high, low) of x = high + 2^-11 low, both in fp16."""
    high = by_definition("fp16", x)
    with np.errstate(invalid="ignore"):
        rest = ((x.astype(np.float64) - high) * 2.0**11).astype(np.float32)
    rest[~np.isfinite(high)] = 0
    return high, by_definition("fp16", rest)


def kernel(name, src, dst, scale=1.0):
    """Run the kernel on lines; (overflows, underflows)."""
    if name == "fp16":
        return rounding.round_fp16(src, dst, np.float32(scale))
    return rounding.round_mantissa(src, dst, np.float32(scale), 24 - SHAPES[name][0])


def rounded(name, x, scale=1.0):
    dst = np.full((1, x.size), 7, np.float32)
    counts = kernel(name, x.reshape(1, -1), dst, scale)
    return dst[0], counts


def counted(before, after, name):
    """Finite values that became infinite; nonzero ones that became zero or subnormal."""
    smallest = 2.0 ** SHAPES[name][1]
    overflows = np.isinf(after) & ~np.isinf(before)
    underflows = (before != 0) & (abs(after) < smallest)
    return int(overflows.sum()), int(underflows.sum())


def same(x, y):
    """Equal as values, NaN like NaN, and the sign of zero told apart."""
    return (
        np.array_equal(x, y, equal_nan=True)
        and np.array_equal(np.signbit(x), np.signbit(y))
        and x.dtype == y.dtype
    )


def representable(name):
    """Every nonnegative finite number of the format, in order."""
    if name == "fp16":
        return np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    dropped = 24 - SHAPES[name][0]
    return (np.arange(0x7F800000 >> dropped, dtype=np.uint32) << np.uint32(dropped)).view(
        np.float32
    )


def with_neighbours(x):
    """`x`, the fp32 numbers next to it, and all of them negated."""
    x = np.concatenate([x, np.nextafter(x, INF), np.nextafter(x, -INF)])
    return np.concatenate([x, -x])


def ordinary(count=200_000):
    """Random fp32 words of every exponent: subnormals, infinities and NaN among them."""
    words = np.random.default_rng(0).integers(0, 2**32, count, dtype=np.uint32)
    special = np.array([0x0, 0x80000000, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7FC00000,
                        0x1, 0x80000001, 0x7F7FFFFF], np.uint32)  # fmt: skip
    return np.concatenate([special, words]).view(np.float32)


def finite(x):
    return x[np.isfinite(x)]


# -- the definitions agree -----------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_definition_is_that_of_rational_arithmetic(name):
    values = representable(name)
    some = np.random.default_rng(1).integers(0, values.size - 1, 200)
    ends = [0, 1, 2, 1023, 1024, values.size - 3, values.size - 2]
    at = np.concatenate([some, ends]).astype(int)
    midpoints = ((values[at].astype(np.float64) + values[at + 1]) / 2).astype(np.float32)
    x = np.concatenate([with_neighbours(midpoints), finite(ordinary(300))])
    x = np.append(x, np.float32([np.finfo(np.float32).max, -np.finfo(np.float32).max]))
    expected = np.array([by_fractions(name, v) for v in x], np.float32)
    assert same(by_definition(name, x), expected)


def test_definition_of_fp16_is_that_of_numpy():
    x = ordinary()
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    numbers = ~np.isnan(x)
    assert same(by_definition("fp16", x)[numbers], expected[numbers])


# -- the kernels and Format.round agree with them ------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_of_the_format_stay(name):
    values = representable(name)
    x = np.concatenate([values, -values])
    y, counts = rounded(name, x)
    assert same(y, x)
    assert counts == counted(x, x, name)
    assert same(get_format(name).round(x), x)


@pytest.mark.parametrize("name", FORMATS)
def test_midpoints_and_their_neighbours(name):
    """Between all neighbours of fp16 and bf16, and between every 64th of tf32."""
    values = np.append(representable(name), np.float32(2.0**16 if name == "fp16" else np.inf))
    low, high = values[:-1].astype(np.float64), values[1:].astype(np.float64)
    if name != "fp16":  # what would come next if the exponent went on
        high[-1] = 2.0**128
    low, high = (v[:: 64 if name == "tf32" else 1] for v in (low, high))
    middle = (low + high) / 2
    assert np.all(middle.astype(np.float32) == middle)
    x = with_neighbours(middle.astype(np.float32))
    expected = by_definition(name, x)
    y, counts = rounded(name, x)
    assert same(y, expected)
    assert counts == counted(x, expected, name)
    assert same(get_format(name).round(x), expected)


def test_the_last_midpoint_is_where_overflow_begins():
    for name, last in [
        ("fp16", 65520.0),
        ("bf16", 2.0**128 - 2.0**119),
        ("tf32", 2.0**128 - 2.0**116),
    ]:
        x = np.float32([last])
        below = np.nextafter(x, np.float32(0))
        assert rounded(name, x) == (INF, (1, 0))
        assert rounded(name, below) == (np.float32(get_format(name).max), (0, 0))


@pytest.mark.parametrize("name", FORMATS)
def test_words_of_every_exponent(name):
    x = ordinary()
    assert np.isnan(x).sum() > 100
    expected = by_definition(name, x)
    numbers = ~np.isnan(x)
    for y in [rounded(name, x)[0], get_format(name).round(x)]:
        assert np.isnan(y[~numbers]).all()
        assert same(y[numbers], expected[numbers])
    assert rounded(name, x)[1] == counted(x, expected, name)


@pytest.mark.parametrize("name", FORMATS)
def test_signs_of_zeros_and_nan_survive(name):
    x = np.array([0.0, -0.0, np.nan, -np.nan, -(2.0**-149)], np.float32)
    y, counts = rounded(name, x)
    assert same(y, np.array([0.0, -0.0, np.nan, -np.nan, -0.0], np.float32))
    assert counts == (0, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_in_place_use_gives_the_same_numbers_and_counts(name):
    x = ordinary(20_010).reshape(70, 286)[:, :143]  # lines with a gap between them
    dst = np.empty(x.shape, np.float32)
    counts = kernel(name, x, dst)
    around = np.full((70, 286), 3, np.float32)
    around[:, :143] = x
    assert kernel(name, around[:, :143], around[:, :143]) == counts
    assert around[:, :143].tobytes() == dst.tobytes()
    assert np.all(around[:, 143:] == 3)


@pytest.mark.parametrize("scale", [2.0**-126, 2.0**-30, 2.0**12, 2.0**60, 2.0**126])
@pytest.mark.parametrize("name", FORMATS)
def test_scale(name, scale):
    """Counts are of what becomes of the entries of `src`, by scaling and rounding together."""
    x = finite(ordinary())
    with np.errstate(over="ignore"):
        expected = by_definition(name, (x.astype(np.float64) * scale).astype(np.float32))
    y, counts = rounded(name, x, scale)
    assert same(y, expected)
    assert counts == counted(x, expected, name)


# -- fp16x2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 2.0**-20, 2.0**9])
def test_split(scale):
    x = ordinary()
    usual = 10.0 ** np.random.default_rng(2).uniform(-9, 5, 100_000)
    x = finite(np.concatenate([x, usual.astype(np.float32)]))
    with np.errstate(over="ignore"):
        scaled = (x.astype(np.float64) * scale).astype(np.float32)
    x = x[np.isfinite(scaled)]
    scaled = finite(scaled)
    high, low = np.empty((1, x.size), np.float32), np.empty((1, x.size), np.float32)
    counts = rounding.split_fp16x2(x.reshape(1, -1), high, low, np.float32(scale))
    expected = splits_by_definition(scaled)
    assert same(high[0], expected[0])
    assert np.array_equal(low[0], expected[1])
    assert counts == counted(x, expected[0], "fp16")


def test_split_of_nan_and_infinity():
    x = np.array([[np.nan, np.inf, -np.inf, 65520.0]], np.float32)
    high, low = np.empty_like(x), np.empty_like(x)
    counts = rounding.split_fp16x2(x, high, low, np.float32(1))
    assert same(high, np.array([[np.nan, np.inf, -np.inf, np.inf]], np.float32))
    assert np.all(low == 0)
    assert counts == (1, 0)


def test_format_fp16x2_is_the_sum_of_the_parts():
    """NaN stays, infinities stay; only the sign of -0.0 is lost, by -0.0 + 0.0."""
    usual = np.random.default_rng(3).standard_normal(100_000).astype(np.float32)
    x = np.concatenate([ordinary(), usual])
    high, low = splits_by_definition(x)
    with np.errstate(invalid="ignore"):
        expected = (high.astype(np.float64) + low * 2.0**-11).astype(np.float32)
    y = FP16X2.round(x)
    assert np.array_equal(y, expected, equal_nan=True)
    normal = (abs(x) >= 2.0**-14) & (abs(x) <= 65504)
    error = abs(y[normal].astype(np.float64) - x[normal])
    # |x - high| <= 2^-11 |x|, and what is left is rounded in the same way
    assert np.all(error <= 2.0**-22 * abs(x[normal]))
