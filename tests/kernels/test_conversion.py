"""The conversion kernels: what the backend's suite in tests/ops does not reach."""

import numpy as np
import pytest

from mplinalg.kernels.cpu import conversion

FP32 = np.finfo(np.float32)
LARGEST, SMALLEST = float(FP32.max), float(FP32.tiny)


def draw(*shape, dtype=np.float64):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_taken_in_float64(dtype):
    """So that the infinity norm of a large float32 matrix is not short of digits."""
    x = abs(draw(3, 100_000, dtype=dtype)) + dtype(1)
    for lines, function, axis in [
        (x, conversion.copy_sum_along, 1),
        (np.ascontiguousarray(x.T), conversion.copy_sum_across, 0),
    ]:
        sums, out = np.empty(3), np.empty_like(lines)
        function(lines, out, sums, LARGEST, SMALLEST)
        expected = lines.sum(axis=axis, dtype=np.longdouble)
        assert np.all(abs(sums - expected) <= 100_000 * 2.0**-53 * expected)
        assert out.tobytes() == lines.tobytes()


@pytest.mark.parametrize("function", [conversion.copy_sum_along, conversion.copy_sum_across])
def test_counts_begin_just_outside_the_range(function):
    up, down = np.nextafter(LARGEST, np.inf), np.nextafter(SMALLEST, 0)
    x = np.array([[LARGEST, -LARGEST, SMALLEST, -SMALLEST, 0.0, -0.0, np.nan, 1.0],
                  [up, -up, down, -down, 5e-324, 2 * up, 1e300, -5e-324]])  # fmt: skip
    sums, out = np.empty(8), np.empty(x.shape)
    assert function(x, out, sums, LARGEST, SMALLEST) == (4, 4)
    assert function(x[:1], out[:1], sums, LARGEST, SMALLEST) == (0, 0)


@pytest.mark.parametrize("exponent", [-1000, -1074, 1000])
def test_scaling_in_place_counts_as_elsewhere(exponent):
    x = np.ldexp(draw(7, 11), np.random.default_rng(0).integers(-900, 900, (7, 11)))
    x[2, 3] = 0.0
    along, across = np.full(7, np.ldexp(1.0, exponent)), np.ones(11)
    out, place = np.empty(x.shape), x.copy()
    limits = (np.finfo(np.float64).max, np.finfo(np.float64).tiny)
    counts = conversion.scaled_copy(x, out, along, across, 1, *limits)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.ldexp(x, exponent)
    assert np.array_equal(out, expected)
    small = (abs(expected) < limits[1]) & (x != 0)
    assert counts == (np.isinf(expected).sum(), small.sum())
    assert max(counts) > 10
    assert conversion.scaled_copy(place, place, along, across, 1, *limits) == counts
    assert place.tobytes() == out.tobytes()


def test_complex_numbers_share_the_factor_of_their_column():
    x = draw(3, 5) + 1j * draw(3, 5)
    along, across = 2.0 ** np.arange(3), 2.0 ** -np.arange(5)
    out = np.empty_like(x)
    conversion.scaled_copy(x.view(float), out.view(float), along, across, 2, LARGEST, SMALLEST)
    assert np.array_equal(out, along[:, None] * x * across)


def test_largest_magnitude_does_not_lose_nan():
    x = draw(5, 1031)
    assert conversion.largest_magnitude(x) == abs(x).max()
    for at in [(0, 0), (4, 1030), (2, 517)]:
        y = x.copy()
        y[at] = -1e300
        assert conversion.largest_magnitude(y) == 1e300
        y[at] = np.nan
        y[1, 1] = np.inf
        assert np.isnan(conversion.largest_magnitude(y))


def test_line_extents_of_scaled_lines():
    x = draw(5, 7)
    left, right = 2.0 ** np.arange(5), 2.0 ** -np.arange(7)
    along, across = np.zeros(5), np.zeros(7)
    conversion.line_extents(x, left, right, 1, along, across)
    size = abs(left[:, None] * x * right)
    assert np.array_equal(along, size.max(axis=1))
    assert np.array_equal(across, size.max(axis=0))
