"""What both kernels of batched LU, batched_lu.cu and batched_lu_block.cu, have to do."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from .batched_systems import (
    BATCHES,
    DTYPES,
    Kernel,
    backward_errors,
    blank,
    draw,
    reals,
    strides,
    u,
    wide,
)


def gesv(kernel, a, b=None, *, factors=True, probed=True, **options):
    """L\\U, piv, info, kappa, x; None where it was not asked for."""
    batch, n, _ = a.shape
    lu, piv = (blank(a.shape, a.dtype), blank((batch, n), np.int32)) if factors else (None, None)
    info = blank(batch, np.int32)
    kappa = blank(batch, a.real.dtype) if probed and b is not None else None
    x, nrhs, given = None, 0, [None, 0, 0, 0]
    if b is not None:
        x, nrhs, given = blank((batch, n, b.shape[2]), a.dtype), b.shape[2], [reals(b), *strides(b)]
    kernel.launch(
        a, reals(lu), piv, info, kappa, nrhs, *given, reals(x),
        uninitialised=[6, 7, 8, 9, 15], **options,
    )  # fmt: skip
    return lu, piv, info, kappa, x


def interchanged(a, piv):
    """P A"""
    a = a.copy()
    for k, p in enumerate(piv):
        a[[k, p]] = a[[p, k]]
    return a


def assert_factors(a, lu, piv):
    """Within n u |L| |U|, entry by entry, with LAPACK's pivots."""
    n = len(a)
    lower, upper = np.tril(wide(lu), -1) + np.eye(n), np.triu(wide(lu))
    factor = 8 if a.dtype.kind == "c" else 4
    error = abs(interchanged(wide(a), piv) - lower @ upper)
    assert (error <= factor * n * u(a.dtype) * (abs(lower) @ abs(upper))).all()
    size = abs(a.real) + abs(a.imag)
    rows = np.arange(n)
    for k, p in enumerate(piv):  # in exact arithmetic the pivot is the largest of its column
        rows[[k, p]] = rows[[p, k]]
    assert sorted(rows) == list(range(n))
    assert (abs(lower) <= 1.5).all(), size


class LuSuite:
    """Tests for a class with ROUTINE; SIZES; N, a typical one; and CHECKED, sizes and batches."""

    ROUTINE = ""
    SIZES = ()
    BATCH = 5
    N = 0
    CHECKED = ()

    @pytest.fixture
    def kernel(self, compiled):
        return Kernel(compiled(f"batched_{self.ROUTINE}.cu"), self.ROUTINE)

    @pytest.fixture
    def checked_kernel(self, compiled):
        return Kernel(compiled(f"batched_{self.ROUTINE}.cu", checked=True), self.ROUTINE)

    def sizes(self, dtype, kernel):
        return [n for n in self.SIZES if kernel.has(dtype, n)]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_factors_and_solutions(self, kernel, rng, dtype):
        for n in self.sizes(dtype, kernel):
            a, b = draw(rng, dtype, self.BATCH, n, n), draw(rng, dtype, self.BATCH, n, 3)
            lu, piv, info, _, x = gesv(kernel, a, b)
            assert not info.any()
            for member in range(self.BATCH):
                assert_factors(a[member], lu[member], piv[member])
            assert (backward_errors(a, x, b) <= 30 * n * u(dtype)).all(), n

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_pivots_are_those_of_lapack(self, kernel, rng, dtype):
        """Where rounding does not decide: entries are small integers, ties included."""
        n = self.N + 3
        a = rng.integers(-3, 4, (4, n, n)).astype(dtype)
        if dtype in "FD":
            a += (1j * rng.integers(-3, 4, a.shape)).astype(dtype)
        a[:, range(n), range(n)] += 9
        a = np.take_along_axis(a, rng.permuted(np.tile(np.arange(n), (4, 1)), axis=1)[..., None], 1)
        _, piv, _, _, _ = gesv(kernel, a)
        for member in range(4):
            np.testing.assert_array_equal(piv[member], scipy.linalg.lu_factor(a[member])[1])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_checked(self, checked_kernel, rng, schedule, dtype):
        """No race, no read of what nobody wrote, nothing outside of the arrays."""
        for n, batch in self.CHECKED:
            if not checked_kernel.has(dtype, n):
                continue
            a, b = draw(rng, dtype, batch, n, n), draw(rng, dtype, batch, n, 2)
            *_, info, kappa, x = gesv(checked_kernel, a, b, schedule=schedule)
            assert not info.any()
            assert np.isfinite(kappa).all()
            assert (backward_errors(a, x, b) <= 30 * n * u(dtype)).all()

    def test_the_same_in_every_run(self, kernel, rng):
        n = self.N + 2
        a, b = draw(rng, "d", 3, n, n), draw(rng, "d", 3, n, 1)
        first, *others = (gesv(kernel, a, b, schedule=s) for s in ("forward", "reverse", 3))
        for other in others:
            for one, two in zip(first, other, strict=True):
                np.testing.assert_array_equal(one, two)

    @pytest.mark.parametrize("batch", BATCHES)
    def test_batches(self, kernel, rng, batch):
        """Of any size; each member as if it were alone."""
        n = self.N
        a, b = draw(rng, "d", batch, n, n), draw(rng, "d", batch, n, 1)
        found = gesv(kernel, a, b)
        for member in range(batch):
            alone = gesv(kernel, a[member : member + 1], b[member : member + 1])
            for one, two in zip(found, alone, strict=True):
                np.testing.assert_array_equal(one[member], two[0])

    def test_numbers_of_right_hand_sides(self, kernel, rng):
        """Any number; a column as if it were alone."""
        n = self.N
        a, b = draw(rng, "d", 3, n, n), draw(rng, "d", 3, n, 37)
        x = gesv(kernel, a, b)[-1]
        for columns in (0, 1, 2, 15, 16, 17):
            for probed in (False, True):
                found = gesv(kernel, a, b[..., :columns], probed=probed)[-1]
                np.testing.assert_array_equal(found, x[..., :columns])

    @pytest.mark.parametrize("dtype", ["d", "F"])
    def test_layouts(self, kernel, rng, dtype):
        """Columns, negative strides, every other member, one matrix for all: the same answers."""
        n = self.N
        a, b = draw(rng, dtype, 5, n, n), draw(rng, dtype, 5, n, 2)
        expected = gesv(kernel, a, b)

        def again(a, b):
            for one, two in zip(expected, gesv(kernel, a, b), strict=True):
                np.testing.assert_array_equal(one, two)

        def columns(x):
            return np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)

        def backwards(x):
            return np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1]

        def spread(x):
            whole = blank((2 * len(x), x.shape[1] + 1, x.shape[2] + 2), dtype)
            view = whole[::2, 1:, 1:-1]
            view[...] = x
            return view

        again(columns(a), columns(b))
        again(spread(a), spread(b))
        if dtype == "d":
            again(backwards(a), backwards(b))
        one = np.broadcast_to(a[:1], a.shape)
        expected = gesv(kernel, np.ascontiguousarray(one), b)
        again(one, b)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_failing_members(self, kernel, rng, dtype):
        """Zero pivots and what is not finite; neighbours do not notice, to the last bit."""
        n = self.N
        a, b = draw(rng, dtype, 9, n, n), draw(rng, dtype, 9, n, 2)
        good = gesv(kernel, a, b)
        bad = a.copy()
        bad[1, :, 3] = 0
        bad[2, 4] = 0
        bad[4, 2, 1] = np.nan
        bad[5, n - 1, n - 1] = np.inf
        bad[7, 0, n - 1] = -np.inf
        found = gesv(kernel, bad, b)
        lu, _, info, _, x = found
        assert info[1] == 4
        assert info[2] == n
        assert (info[[4, 5, 7]] < 0).all()
        assert (info[[4, 5, 7]] >= -n).all()
        failing = info != 0
        assert failing.tolist() == [i in (1, 2, 4, 5, 7) for i in range(9)]
        assert np.isnan(x[failing]).all()
        for one, two in zip(good, found, strict=True):
            np.testing.assert_array_equal(one[~failing], two[~failing])
        assert_factors(bad[1], lu[1], found[1][1])  # a factorization, as LAPACK's

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_ends_of_the_range(self, kernel, rng, dtype):
        """Scaling by powers of two changes nothing but the scale, as long as all is normal."""
        n = self.N
        a, b = draw(rng, dtype, 4, n, n), draw(rng, dtype, 4, n, 1)
        x = gesv(kernel, a, b)[-1]
        power, inverse = 110 if dtype in "fF" else 1000, abs(np.linalg.inv(wide(a)))
        real = np.dtype(dtype).type(0).real.dtype.type
        for up, other in ((power, power), (-power, -power), (power, 0), (-power, 0)):
            one, two = np.ldexp(real(1), up), np.ldexp(real(1), other)
            info, _, found = gesv(kernel, a * one, b * two)[2:]
            assert not info.any()
            expected = wide(x * np.ldexp(real(1), other - up))
            bound = 8 * n * u(dtype) * inverse @ abs(wide(a)) @ abs(expected)
            assert (abs(wide(found) - expected) <= bound).all()

    def test_subnormal_pivots(self, kernel):
        """In single precision they count as zero, in double they divide."""
        n = self.N
        a = np.eye(n)[None].repeat(2, 0)
        a[1, 2, 2] = 1e-310
        b = a.sum(axis=2)[..., None]
        info, _, x = gesv(kernel, a, b)[2:]
        assert not info.any()
        np.testing.assert_array_equal(x, np.ones((2, n, 1)))
        a[1, 2, 2] = 1e-41
        info = gesv(kernel, a.astype("f"), b.astype("f"))[2]
        assert info.tolist() == [0, 3]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_condition(self, kernel, rng, dtype):
        """Of the order of the condition number, whatever that is."""
        n, cap = self.N, 0.01 / u(dtype)
        for condition in (1e1, 1e3, 1e5):
            if condition > cap:
                continue
            q = [np.linalg.qr(wide(draw(rng, dtype, 6, n, n)))[0] for _ in range(2)]
            a = (q[0] * np.geomspace(1, 1 / condition, n) @ q[1]).astype(dtype)
            kappa = gesv(kernel, a, draw(rng, dtype, 6, n, 1))[3]
            true = np.linalg.cond(wide(a))
            assert (kappa <= 4 * n * true).all()
            assert (kappa >= true / (100 * n)).all()

    def test_a_solution_that_overflows(self, kernel):
        n = self.N
        a = np.eye(n)[None].repeat(3, 0)
        b = np.ones((3, n, 1))
        a[1, 1, 1], b[1, 1] = 1e-200, 1e200
        info, kappa, x = gesv(kernel, a, b)[2:]
        assert not info.any()
        assert np.isinf(kappa).tolist() == [False, True, False]
        assert np.isinf(x[1, 1, 0])
        np.testing.assert_array_equal(x[[0, 2]], np.ones((2, n, 1)))

    def test_parts_that_are_not_wanted(self, kernel, rng):
        n = self.N
        a, b = draw(rng, "d", 3, n, n), draw(rng, "d", 3, n, 2)
        lu, piv, info, kappa, x = gesv(kernel, a, b)
        alone = gesv(kernel, a)
        for one, two in zip((lu, piv, info), alone, strict=False):
            np.testing.assert_array_equal(one, two)
        *_, bare = gesv(kernel, a, b, factors=False, probed=False)
        np.testing.assert_array_equal(bare, x)
        np.testing.assert_array_equal(gesv(kernel, a, b, factors=False)[3], kappa)
