"""What both kernels of triangular systems in batches have to do."""

from __future__ import annotations

import numpy as np
import pytest

from .batched_systems import (
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

NONE, OWN, UNIT = 0, 1, 2
"""What is done with a triangle."""


def solve(
    kernel, m, b, lower=NONE, upper=NONE, *, mirrored=0, conjugated=False, piv=None,
    is_last=False, told=True, **options,
):  # fmt: skip
    """info, x"""
    info = blank(len(m), np.int32) if told else None
    x = blank((*b.shape[:2], b.shape[2]), m.dtype)
    kernel.launch(
        m, lower, upper, mirrored, int(conjugated), piv, int(is_last), info, b.shape[2], reals(b),
        *strides(b), reals(x), uninitialised=[12, 18], **options,
    )  # fmt: skip
    return info, x


def matrices(rng, dtype, batch, n):
    """With triangles that are well conditioned, unit diagonal or not."""
    m = draw(rng, dtype, batch, n, n) / n
    m[:, range(n), range(n)] += 1
    return m.astype(dtype)


def triangle(m, how, *, lower):
    """As float64."""
    m = wide(m)
    part = np.tril(m, -1) if lower else np.triu(m, 1)
    diagonal = np.ones(m.shape[:2]) if how == UNIT else m[:, range(m.shape[1]), range(m.shape[1])]
    return part + diagonal[:, None] * np.eye(m.shape[1])


class TrianglesSuite:
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

    @pytest.mark.parametrize("how", [OWN, UNIT], ids=["own", "unit"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_one_triangle(self, kernel, rng, dtype, how):
        """The other one may hold anything."""
        for n in (n for n in self.SIZES if kernel.has(dtype, n)):
            m, b = matrices(rng, dtype, self.BATCH, n), draw(rng, dtype, self.BATCH, n, 3)
            for lower in (True, False):
                given = m.copy()
                rows, columns = np.triu_indices(n, 1) if lower else np.tril_indices(n, -1)
                given[:, rows, columns] = np.nan
                info, x = solve(kernel, given, b, *((how, NONE) if lower else (NONE, how)))
                assert not info.any()
                errors = backward_errors(triangle(m, how, lower=lower), x, b)
                assert (errors <= 30 * n * u(dtype)).all(), n

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_transposed_and_conjugated(self, kernel, rng, dtype):
        n = self.N
        m, b = matrices(rng, dtype, 3, n), draw(rng, dtype, 3, n, 2)
        _, x = solve(kernel, m.swapaxes(1, 2), b, NONE, OWN, conjugated=True)
        t = triangle(m, OWN, lower=True).conj().swapaxes(1, 2)
        assert (backward_errors(t, x, b) <= 30 * n * u(dtype)).all()

    @pytest.mark.parametrize("mirrored", [1, 2])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_mirrored(self, kernel, rng, dtype, mirrored):
        """A = L L^H or U^H U from one factor; the other triangle may hold anything."""
        n = self.N
        m, b = matrices(rng, dtype, 3, n), draw(rng, dtype, 3, n, 2)
        m[:, range(n), range(n)] = abs(m[:, range(n), range(n)])
        t = triangle(m, OWN, lower=mirrored == 1)
        rows, columns = np.triu_indices(n, 1) if mirrored == 1 else np.tril_indices(n, -1)
        m[:, rows, columns] = np.nan
        info, x = solve(kernel, m, b, OWN, OWN, mirrored=mirrored)
        assert not info.any()
        other = t.conj().swapaxes(1, 2)
        a = t @ other if mirrored == 1 else other @ t
        assert (backward_errors(a, x, b) <= 30 * n * u(dtype)).all()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_factors_with_interchanges(self, kernel, rng, dtype):
        """L U x = P b, and U^H L^H P x = b."""
        n = self.N
        m, b = matrices(rng, dtype, 4, n), draw(rng, dtype, 4, n, 2)
        piv = rng.integers(np.arange(n), n, (4, n)).astype(np.int32)
        lower, upper = triangle(m, UNIT, lower=True), triangle(m, OWN, lower=False)
        rows = np.tile(np.arange(n), (4, 1))
        for member in range(4):
            for k, p in enumerate(piv[member]):
                rows[member, [k, p]] = rows[member, [p, k]]
        p = np.eye(n)[rows]
        a = p.swapaxes(1, 2) @ lower @ upper
        info, x = solve(kernel, m, b, UNIT, OWN, piv=piv)
        assert not info.any()
        assert (backward_errors(a, x, b) <= 30 * n * u(dtype)).all()
        _, x = solve(kernel, m.swapaxes(1, 2), b, OWN, UNIT, piv=piv, is_last=True, conjugated=True)
        assert (backward_errors(a.conj().swapaxes(1, 2), x, b) <= 30 * n * u(dtype)).all()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_checked(self, checked_kernel, rng, schedule, dtype):
        for n, batch in self.CHECKED:
            if not checked_kernel.has(dtype, n):
                continue
            m, b = matrices(rng, dtype, batch, n), draw(rng, dtype, batch, n, 2)
            piv = np.tile(np.arange(n)[::-1].clip(n // 2), (batch, 1)).astype(np.int32)
            piv = np.maximum(piv, np.arange(n)).astype(np.int32)
            for upper in (NONE, OWN):
                info, x = solve(
                    checked_kernel, m, b, UNIT, upper, piv=piv, is_last=upper == OWN,
                    schedule=schedule,
                )  # fmt: skip
                assert not info.any()
                assert np.isfinite(x).all()

    def test_zeros_on_the_diagonal(self, kernel, rng):
        """The first one is told, its member has no solution; where it is not read it is none."""
        n = self.N
        m, b = matrices(rng, "d", 5, n), draw(rng, "d", 5, n, 2)
        good = solve(kernel, m, b, OWN)[1]
        m[1, 4, 4] = m[1, 6, 6] = m[3, n - 1, n - 1] = 0
        info, x = solve(kernel, m, b, OWN)
        assert info.tolist() == [0, 5, 0, n, 0]
        assert np.isnan(x[[1, 3]]).all()
        np.testing.assert_array_equal(x[::2], good[::2])
        info, x = solve(kernel, m, b, UNIT)
        assert not info.any()
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(solve(kernel, m, b, UNIT, told=False)[1], x)

    def test_what_is_not_finite_stays_in_its_member(self, kernel, rng):
        n = self.N
        m, b = matrices(rng, "F", 5, n), draw(rng, "F", 5, n, 2)
        good = solve(kernel, m, b, OWN)[1]
        m[1, 4, 2], b[3, 0, 1] = np.nan, np.inf
        _, x = solve(kernel, m, b, OWN)
        np.testing.assert_array_equal(x[[0, 2, 4]], good[[0, 2, 4]])
        np.testing.assert_array_equal(x[3, :, 0], good[3, :, 0])
        assert np.isnan(x[1, 4:]).all()

    @pytest.mark.parametrize("batch", [0, 1, 7])
    def test_batches_and_columns(self, kernel, rng, batch):
        n = self.N
        m, b = matrices(rng, "d", batch, n), draw(rng, "d", batch, n, 19)
        x = solve(kernel, m, b, OWN, UNIT)[1]
        for columns in (0, 1, 5, 16):
            found = solve(kernel, m, b[..., :columns], OWN, UNIT)[1]
            np.testing.assert_array_equal(found, x[..., :columns])
        for member in range(batch):
            one = slice(member, member + 1)
            np.testing.assert_array_equal(solve(kernel, m[one], b[one], OWN, UNIT)[1], x[one])
