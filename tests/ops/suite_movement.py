"""convert, round, amax, lange, copies, laswp."""

import numpy as np
import pytest

from mplinalg.ops import Counters
from mplinalg.precision import FORMATS, FP16, get_format, working_format

from .helpers import (
    DTYPES,
    LAYOUTS,
    SHAPES,
    SINGLE,
    Suite,
    allowed,
    cabs1,
    draw,
    is_complex,
    is_small,
    real,
    same_bits,
    swapped,
)

LOW = [name for name, fmt in FORMATS.items() if not fmt.is_native]
CONVERSIONS = [("float64", "float32"), ("float32", "float32"), ("float64", "float64"),
               ("complex128", "complex64"), ("complex64", "complex64")]  # fmt: skip
SAME_LAYOUT = [("F", "F"), ("C", "C"), ("F-view", "F"), ("C-view", "C-view")]


def parts(x):
    """Real and imaginary parts as one array of reals."""
    return np.stack([x.real, x.imag]) if is_complex(x.dtype) else x


def lost(before, after, fmt):
    """(overflows, underflows) by definition, of finite numbers `before` that became `after`."""
    before, after = parts(before), np.abs(parts(after))
    underflows = (before != 0) & (after < fmt.smallest_normal)
    return int(np.isinf(after).sum()), int(underflows.sum())


def spread(rng, shape, dtype, low, high):
    """Numbers of both signs with magnitudes from 10^low to 10^high, one in eight zero."""

    def one():
        x = 10.0 ** rng.uniform(low, high, shape) * rng.choice([-1.0, 1.0], shape)
        return np.where(rng.random(shape) < 0.125, 0.0, x)

    return np.asarray(one() + 1j * one() if is_complex(dtype) else one(), dtype)


def powers(rng, count, dtype, low, high):
    return np.ldexp(np.ones(count, real(dtype)), rng.integers(low, high + 1, count))


def scaled(x, rows, cols):
    """diag(rows) x diag(cols), rounded once: the factors are powers of two."""
    shift = np.frexp(rows)[1][:, None] + np.frexp(cols)[1][None, :] - 2
    if not is_complex(x.dtype):
        return np.ldexp(x, shift)
    y = np.empty_like(x)
    y.real, y.imag = np.ldexp(x.real, shift), np.ldexp(x.imag, shift)
    return y


class MovementSuite(Suite):
    # -- convert ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", SAME_LAYOUT, ids="->".join)
    @pytest.mark.parametrize("dtypes", CONVERSIONS, ids="->".join)
    def test_convert_casts_and_sums_rows(self, rng, dtypes, layout):
        for shape in SHAPES:
            x = draw(rng, shape, dtypes[0])
            src, dst = self.put(x, layout[0]), self.put(np.zeros(shape, dtypes[1]), layout[1])
            seen = self.ops.convert(src.array, dst.array)
            assert same_bits(dst.host(), x.astype(dtypes[1]))
            sums = cabs1(x).sum(axis=1)
            row_sums = self.to_host(seen.row_sums)
            assert row_sums.shape == sums.shape
            assert is_small(abs(row_sums - sums), allowed(shape[1], dtypes[0]) * sums)
            assert (seen.overflows, seen.underflows) == (0, 0)
            src.assert_untouched()
            dst.assert_rest_untouched()

    @pytest.mark.parametrize("layout", ["F", "C"])
    @pytest.mark.parametrize("dtypes", [CONVERSIONS[0], CONVERSIONS[3]], ids="->".join)
    def test_convert_counts_what_single_precision_loses(self, rng, dtypes, layout):
        x = spread(rng, (37, 23), dtypes[0], -60, 60)
        x[0, :4] = 2.0**-126, -(2.0**-127), 2.0**-150, 2.0**-1074
        x[1, :2] = np.finfo(np.float32).max, 2.0**128
        dst = self.put(np.zeros(x.shape, dtypes[1]), layout)
        seen = self.ops.convert(self.put(x, layout).array, dst.array)
        with np.errstate(over="ignore"):
            expected = x.astype(dtypes[1])
        assert same_bits(dst.host(), expected)
        counts = lost(x, expected, working_format(dtypes[1]))
        assert min(counts) > 100
        assert (seen.overflows, seen.underflows) == counts

    @pytest.mark.parametrize("layout", ["F", "C"])
    @pytest.mark.parametrize("dtype", ["float64", "complex128"])
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_convert_makes_row_sums_of_bad_rows_not_finite(self, rng, bad, dtype, layout):
        x = draw(rng, (37, 23), dtype)
        rows = [0, 5, 36]
        x[rows, [22, 0, 7]] = bad
        dst = self.put(np.zeros(x.shape, dtype), layout)
        seen = self.ops.convert(self.put(x, layout).array, dst.array)
        finite = np.isfinite(self.to_host(seen.row_sums))
        assert list(np.flatnonzero(~finite)) == rows
        assert np.array_equal(dst.host(), x, equal_nan=True)

    @pytest.mark.parametrize("layout", SAME_LAYOUT, ids="->".join)
    @pytest.mark.parametrize("dtypes", CONVERSIONS, ids="->".join)
    def test_convert_scales_exactly(self, rng, dtypes, layout):
        for shape in SHAPES:
            x = draw(rng, shape, dtypes[0])
            rows, cols = (powers(rng, count, dtypes[0], -30, 30) for count in shape)
            for r, c in [(rows, cols), (rows, None), (None, cols)]:
                src, dst = self.put(x, layout[0]), self.put(np.zeros(shape, dtypes[1]), layout[1])
                given = {
                    name: self.to_device(scale)
                    for name, scale in [("rows", r), ("cols", c)]
                    if scale is not None
                }
                seen = self.ops.convert(src.array, dst.array, **given)
                r_, c_ = (
                    np.ones(shape[0]) if r is None else r,
                    np.ones(shape[1]) if c is None else c,
                )
                assert same_bits(dst.host(), scaled(x, r_, c_).astype(dtypes[1]))
                assert (seen.overflows, seen.underflows) == (0, 0)
                src.assert_untouched()
                dst.assert_rest_untouched()

    @pytest.mark.parametrize("layout", ["F", "C"])
    @pytest.mark.parametrize("dtypes", [CONVERSIONS[0], *CONVERSIONS[2:4]], ids="->".join)
    def test_convert_scales_extremes_without_leaving_the_range_on_the_way(
        self, rng, dtypes, layout
    ):
        """1e-300 2^600 2^600 is representable, and so is 1e300 2^-600 2^-600."""
        x = spread(rng, (37, 23), dtypes[0], -307, 307)
        rows, cols = (powers(rng, count, dtypes[0], -600, 600) for count in x.shape)
        x[0, 0], rows[0], cols[0] = 1e-300, 2.0**600, 2.0**600
        x[1, 1], rows[1], cols[1] = 1e300, 2.0**-600, 2.0**-600
        dst = self.put(np.zeros(x.shape, dtypes[1]), layout)
        seen = self.ops.convert(
            self.put(x, layout).array, dst.array, rows=self.to_device(rows),
            cols=self.to_device(cols),
        )  # fmt: skip
        with np.errstate(over="ignore", under="ignore"):
            expected = scaled(x, rows, cols).astype(dtypes[1])
        assert same_bits(dst.host(), expected)
        counts = lost(x, expected, working_format(dtypes[1]))
        assert min(counts) > 10
        assert (seen.overflows, seen.underflows) == counts

    def test_convert_refuses_what_does_not_fit(self):
        one = self.put(np.zeros((3, 4)), "F").array
        with pytest.raises(ValueError, match=r"\(3, 4\).*\(4, 3\)"):
            self.ops.convert(one, self.put(np.zeros((4, 3)), "F").array)
        with pytest.raises(ValueError, match="layout"):
            self.ops.convert(one, self.put(np.zeros((3, 4)), "C").array)

    # -- round -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", SINGLE)
    @pytest.mark.parametrize("name", LOW)
    def test_round(self, rng, name, dtype, layout):
        fmt = get_format(name)
        for shape in SHAPES:
            x = spread(rng, shape, dtype, -12, 8)
            a, counters = self.put(x, layout), Counters(overflows=3, underflows=4)
            self.ops.round(a.array, fmt, counters)
            assert same_bits(a.host(), fmt.round(x))
            a.assert_rest_untouched()
            # what is lost by fp16x2 is what its high part loses
            counted = FP16 if name == "fp16x2" else fmt
            overflows, underflows = lost(x, counted.round(x), counted)
            assert (counters.overflows, counters.underflows) == (3 + overflows, 4 + underflows)

    @pytest.mark.parametrize("name", LOW)
    def test_round_at_the_ends_of_the_range(self, name):
        fmt = get_format(name)
        fp32 = np.finfo(np.float32)
        x = np.array(
            [[fmt.max, -fp32.max, np.inf, -np.inf], [fmt.smallest_normal, 2.0**-149, 0.0, np.nan]],
            np.float32,
        )
        a, counters = self.put(x, "C"), Counters()
        self.ops.round(a.array, fmt, counters)
        expected = np.array(
            [[fmt.max, -np.inf, np.inf, -np.inf], [fmt.smallest_normal, 0.0, 0.0, np.nan]]
        )
        assert np.array_equal(a.host(), expected, equal_nan=True)
        assert (counters.overflows, counters.underflows) == (1, 1)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_round_to_a_native_format_changes_nothing(self, rng, dtype):
        x = draw(rng, (5, 7), dtype)
        a = self.put(x)
        self.ops.round(a.array, working_format(dtype), Counters())
        a.assert_untouched()

    @pytest.mark.parametrize("dtype", ["float64", "complex128"])
    @pytest.mark.parametrize("name", LOW)
    def test_round_wants_low_formats_in_single_precision(self, name, dtype):
        a = self.put(np.full((2, 3), 1 / 3, dtype))
        with pytest.raises(TypeError, match=dtype.replace("complex128", "float64")):
            self.ops.round(a.array, get_format(name))
        a.assert_untouched()

    # -- norms -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_amax(self, rng, dtype, layout):
        for shape in SHAPES:
            x = draw(rng, shape, dtype)
            largest = float(np.max(cabs1(x), initial=0.0))
            value = self.ops.amax(self.put(x, layout).array)
            assert isinstance(value, float)
            assert abs(value - largest) <= allowed(1, dtype) * largest

    @pytest.mark.parametrize("layout", ["F", "C-view"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_amax_sees_nan_and_infinity(self, rng, dtype, layout):
        for at in [(0, 0), (4, 6), (2, 3)]:
            x = draw(rng, (5, 7), dtype)
            x[at] = -np.inf
            assert self.ops.amax(self.put(x, layout).array) == np.inf
            x[at] = np.nan
            assert np.isnan(self.ops.amax(self.put(x, layout).array))
            x[2, 2] = np.inf
            assert np.isnan(self.ops.amax(self.put(x, layout).array))

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("norm", ["1", "I"])
    def test_lange(self, rng, norm, dtype, layout):
        axis = 0 if norm == "1" else 1
        for shape in [*SHAPES, (307, 3), (3, 307)]:
            x = draw(rng, shape, dtype)
            expected = np.max(cabs1(x).sum(axis=axis), initial=0.0)
            value = self.ops.lange(norm, self.put(x, layout).array)
            assert abs(value - expected) <= allowed(shape[axis], dtype) * expected

    @pytest.mark.parametrize("norm", ["1", "I"])
    def test_lange_sees_nan_and_infinity(self, rng, norm):
        for at in [(0, 0), (306, 2), (100, 1)]:
            x = draw(rng, (307, 3), "float64")
            x[at] = np.inf
            assert self.ops.lange(norm, self.put(x).array) == np.inf
            x[at] = np.nan
            assert np.isnan(self.ops.lange(norm, self.put(x).array))

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_extents(self, rng, dtype, layout):
        for shape in SHAPES:
            x, rows = draw(rng, shape, dtype), powers(rng, shape[0], dtype, -9, 9)
            for factors in [None, rows]:
                a = self.put(x, layout)
                given = None if factors is None else self.to_device(factors)
                got = [self.to_host(v) for v in self.ops.extents(a.array, rows=given)]
                size = cabs1(x) if factors is None else cabs1(x) * rows[:, None]
                for axis in (0, 1):
                    largest = size.max(axis=1 - axis, initial=0.0)
                    assert got[axis].dtype == real(dtype)
                    assert got[axis].shape == largest.shape
                    assert is_small(abs(got[axis] - largest), allowed(1, dtype) * largest)
                a.assert_untouched()

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_sizes(self, rng, dtype, layout):
        for shape in SHAPES:
            x, before = draw(rng, shape, dtype), abs(draw(rng, (2, shape[1]), real(dtype)))
            a, columns = self.put(x, layout), self.to_device(before)
            rows = self.to_host(self.ops.sizes(a.array, columns))
            columns, size = self.to_host(columns), cabs1(x).astype("f8")
            assert rows.dtype == columns.dtype == real(dtype)
            exact = [(rows[0], size.sum(axis=1)), (rows[1], size.max(axis=1, initial=0.0)),
                     (columns[0], before[0] + size.sum(axis=0)),
                     (columns[1], size.max(axis=0, initial=0.0).clip(before[1]))]  # fmt: skip
            for got, wanted in exact:
                assert got.shape == wanted.shape
                assert is_small(abs(got - wanted), allowed(max(shape), dtype) * wanted)
            a.assert_untouched()

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_sizes_see_nan_and_infinity(self, rng, dtype, layout):
        for at in [(0, 0), (30, 2), (69, 40)]:
            for bad in (np.nan, np.inf):
                x = draw(rng, (70, 41), dtype)
                x[at] = bad
                columns = self.to_device(np.zeros((2, 41), real(dtype)))
                rows = self.to_host(self.ops.sizes(self.put(x, layout).array, columns))
                for found, place in zip((rows, self.to_host(columns)), at, strict=True):
                    same = np.isnan(found) if np.isnan(bad) else np.isposinf(found)
                    assert same.sum() == 2
                    assert same[:, place].all()

    def test_is_f_like(self):
        for layout, expected in [("F", True), ("F-view", True), ("C", False), ("C-view", False)]:
            assert self.ops.is_f_like(self.put(np.zeros((3, 4)), layout).array) == expected
        for layout in LAYOUTS:
            assert self.ops.is_f_like(self.put(np.zeros((1, 1)), layout).array)
        assert not self.ops.is_f_like(self.put(np.zeros((4, 4))).array[::2])

    # -- copies ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("into", LAYOUTS)
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_lacpy(self, rng, dtype, layout, into):
        for m, n in [*SHAPES, (130, 67)]:
            x = draw(rng, (m, n), dtype)
            source, copy = self.put(x, layout), self.put(np.zeros_like(x), into)
            self.ops.lacpy(source.array, copy.array)
            assert same_bits(copy.host(), x)
            copy.assert_rest_untouched()
            source.assert_untouched()

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_copy_rows(self, rng, dtype, layout):
        for m, n in SHAPES:
            x, y = draw(rng, (m, n), dtype), draw(rng, (m + 3, n), dtype)
            for count in {0, m // 2, m}:
                source, copy = self.put(x, layout), self.put(y, layout)
                places = rng.integers(0, max(m, 1), count)
                targets = rng.permutation(m + 3)[:count]
                self.ops.copy_rows(source.array, places, copy.array, targets)
                wanted = y.copy()
                wanted[targets] = x[places]
                assert same_bits(copy.host(), wanted)
                copy.assert_rest_untouched()
                source.assert_untouched()

    # -- laswp -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_laswp(self, rng, dtype, layout):
        for m, n in SHAPES:
            for count in {0, m // 2, m}:
                x = draw(rng, (m, n), dtype)
                piv = np.array([rng.integers(i, m) for i in range(count)], np.int32)
                a, on_device = self.put(x, layout), self.to_device(piv)
                self.ops.laswp(a.array, on_device)
                assert same_bits(a.host(), swapped(x, piv))
                a.assert_rest_untouched()
                self.ops.laswp(a.array, on_device, forward=False)
                a.assert_untouched()
                self.ops.laswp(a.array, on_device, forward=False)
                assert same_bits(a.host(), swapped(x, piv, forward=False))
                assert np.array_equal(self.to_host(on_device), piv)
