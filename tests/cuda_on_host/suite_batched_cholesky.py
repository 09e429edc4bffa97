"""What both kernels of batched Cholesky factorizations have to do."""

from __future__ import annotations

import numpy as np
import pytest

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


def posv(kernel, a, b=None, *, upper=False, factors=True, probed=True, **options):
    """The factor, info, kappa, x; None where it was not asked for."""
    batch, n, _ = a.shape
    factor = blank(a.shape, a.dtype) if factors else None
    info = blank(batch, np.int32)
    kappa = blank(batch, a.real.dtype) if probed and b is not None else None
    x, nrhs, given = None, 0, [None, 0, 0, 0]
    if b is not None:
        x, nrhs, given = blank((batch, n, b.shape[2]), a.dtype), b.shape[2], [reals(b), *strides(b)]
    kernel.launch(
        a, int(upper), reals(factor), info, kappa, nrhs, *given, reals(x),
        uninitialised=[7, 8, 9, 15], **options,
    )  # fmt: skip
    return factor, info, kappa, x


def definite(rng, dtype, batch, n):
    """Hermitian and positive definite."""
    g = draw(rng, dtype, batch, n, n)
    return (g @ g.conj().swapaxes(1, 2) + n / 4 * np.eye(n)).astype(dtype)


def triangle(a, upper):
    """What is read, with NaN in the other triangle and imaginary parts on the diagonal."""
    a = a.copy()
    n = a.shape[-1]
    a[:, *(np.tril_indices(n, -1) if upper else np.triu_indices(n, 1))] = np.nan
    if a.dtype.kind == "c":
        a[:, range(n), range(n)] += 1j
    return a


class CholeskySuite:
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

    @pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_factors_and_solutions(self, kernel, rng, dtype, upper):
        for n in (n for n in self.SIZES if kernel.has(dtype, n)):
            a, b = definite(rng, dtype, self.BATCH, n), draw(rng, dtype, self.BATCH, n, 3)
            factor, info, _, x = posv(kernel, triangle(a, upper), b, upper=upper)
            assert not info.any()
            other = np.tril(factor, -1) if upper else np.triu(factor, 1)
            assert not other.any()
            assert not factor[:, range(n), range(n)].imag.any()
            lower = wide(factor)
            lower = lower.conj().swapaxes(1, 2) if upper else lower
            both = abs(lower) @ abs(lower).swapaxes(1, 2)
            bound = (8 if dtype in "FD" else 4) * (n + 1) * u(dtype) * both
            assert (abs(lower @ lower.conj().swapaxes(1, 2) - wide(a)) <= bound).all(), n
            assert (backward_errors(a, x, b) <= 30 * n * u(dtype)).all(), n

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_checked(self, checked_kernel, rng, schedule, dtype):
        for n, batch in self.CHECKED:
            if not checked_kernel.has(dtype, n):
                continue
            a, b = definite(rng, dtype, batch, n), draw(rng, dtype, batch, n, 2)
            upper = bool(n % 2)
            _, info, kappa, x = posv(
                checked_kernel, triangle(a, upper), b, upper=upper, schedule=schedule
            )
            assert not info.any()
            assert np.isfinite(kappa).all()
            assert (backward_errors(a, x, b) <= 30 * n * u(dtype)).all()

    def test_the_same_in_every_run(self, kernel, rng):
        a, b = definite(rng, "d", 3, self.N), draw(rng, "d", 3, self.N, 1)
        first, *others = (posv(kernel, a, b, schedule=s) for s in ("forward", "reverse", 3))
        for other in others:
            for one, two in zip(first, other, strict=True):
                np.testing.assert_array_equal(one, two)

    @pytest.mark.parametrize("batch", BATCHES)
    def test_batches(self, kernel, rng, batch):
        a, b = definite(rng, "d", batch, self.N), draw(rng, "d", batch, self.N, 1)
        found = posv(kernel, a, b)
        for member in range(batch):
            alone = posv(kernel, a[member : member + 1], b[member : member + 1])
            for one, two in zip(found, alone, strict=True):
                np.testing.assert_array_equal(one[member], two[0])

    @pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
    def test_layouts(self, kernel, rng, upper):
        """By columns the lower triangle is the conjugate of an upper one."""
        a, b = definite(rng, "F", 3, self.N), draw(rng, "F", 3, self.N, 2)
        factor, info, kappa, x = posv(kernel, a, b, upper=upper)
        turned = np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2)
        again = posv(kernel, turned, b, upper=upper)
        for one, two in zip((factor, info, kappa, x), again, strict=True):
            np.testing.assert_array_equal(one, two)
        mirrored = posv(kernel, a.conj().swapaxes(1, 2), b, upper=not upper)
        np.testing.assert_array_equal(mirrored[0], factor.conj().swapaxes(1, 2))
        np.testing.assert_array_equal(mirrored[3], x)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_failing_members(self, kernel, rng, dtype):
        n = self.N
        a, b = definite(rng, dtype, 8, n), draw(rng, dtype, 8, n, 2)
        good = posv(kernel, a, b)
        bad = a.copy()
        bad[1, 4, 4] = -1
        bad[2] = 0
        bad[4, 3, 2] = np.nan
        bad[6, n - 1, n - 1] = np.inf
        bad[7, n - 1, n - 1] = 0
        found = posv(kernel, bad, b)
        info, x = found[1], found[3]
        assert info.tolist() == [0, 5, 1, 0, -4, 0, -n, n]
        assert np.isnan(x[info != 0]).all()
        for one, two in zip(good, found, strict=True):
            np.testing.assert_array_equal(one[info == 0], two[info == 0])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_ends_of_the_range(self, kernel, rng, dtype):
        """Scaling by powers of four changes nothing but the scale."""
        a, b = definite(rng, dtype, 3, self.N), draw(rng, dtype, 3, self.N, 1)
        x = posv(kernel, a, b)[3]
        real = np.dtype(dtype).type(0).real.dtype.type
        for power in (100, -100) if dtype in "fF" else (1000, -1000):
            scale = np.ldexp(real(1), power)
            info, _, found = posv(kernel, a * scale, b)[1:]
            assert not info.any()
            expected = wide(x * np.ldexp(real(1), -power))
            inverse = abs(np.linalg.inv(wide(a))) @ abs(wide(a))
            bound = 8 * self.N * u(dtype) * inverse @ abs(expected)
            assert (abs(wide(found) - expected) <= bound).all()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_condition(self, kernel, rng, dtype):
        n = self.N
        for condition in (1e1, 1e4):
            q = np.linalg.qr(wide(draw(rng, dtype, 6, n, n)))[0]
            a = (q * np.geomspace(1, 1 / condition, n) @ q.conj().swapaxes(1, 2)).astype(dtype)
            kappa = posv(kernel, a, draw(rng, dtype, 6, n, 1))[2]
            true = np.linalg.cond(wide(a))
            assert (kappa <= 4 * n * true).all()
            assert (kappa >= true / (100 * n)).all()

    def test_parts_that_are_not_wanted(self, kernel, rng):
        a, b = definite(rng, "d", 3, self.N), draw(rng, "d", 3, self.N, 2)
        factor, info, kappa, x = posv(kernel, a, b)
        for one, two in zip((factor, info), posv(kernel, a), strict=False):
            np.testing.assert_array_equal(one, two)
        *_, bare = posv(kernel, a, b, factors=False, probed=False)
        np.testing.assert_array_equal(bare, x)
        np.testing.assert_array_equal(posv(kernel, a, b, factors=False)[2], kappa)
