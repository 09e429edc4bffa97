"""Whole systems: gesv, posv, their checked and refined forms."""

import math

import numpy as np
import pytest

from .helpers import (
    DTYPES,
    LAYOUTS,
    Suite,
    allowed,
    cabs1,
    draw,
    is_complex,
    is_small,
    norm,
    omegas,
    op,
    unit_roundoff,
    wide,
)

ORDERS = [2, 7, 37, 131]
DOUBLE = ["float64", "complex128"]
CONTIGUOUS = ["F", "C"]


def definite(rng, n, dtype):
    """Hermitian, eigenvalues between about 1 and 5."""
    x = wide(draw(rng, (n, n), dtype)) / n**0.5
    return np.asarray(np.eye(n) + x @ x.conj().T, dtype)


def half_hidden(x, lower):
    """`x` with NaN in the triangle that is not to be read."""
    read = (np.tril if lower else np.triu)(np.ones(x.shape, bool))
    return np.where(read, x, np.asarray(np.nan, x.dtype))


class SystemSuite(Suite):
    # -- gesv ------------------------------------------------------------------------------------

    def assert_solved(self, x, omega, a, b):
        """x is backward stable, and omega does not say more than is so."""
        n, dtype = len(a), b.dtype
        true = omegas(a, self.to_host(x), b)
        assert is_small(true, allowed(n, dtype))
        assert omega <= allowed(n, dtype)
        bound = math.sqrt(n) * unit_roundoff(dtype)
        assert np.max(true) <= 1.5 * max(omega, bound) + 4 * unit_roundoff(dtype)

    @pytest.mark.parametrize("trans", ["N", "T"])
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gesv(self, rng, dtype, layout, trans):
        for n in ORDERS:
            x = draw(rng, (n, n), dtype)
            a = self.put(x, layout)
            for nrhs in (1, 4, 5, 17):
                y = draw(rng, (n, nrhs), dtype)
                b = self.put(y, "C" if nrhs == 5 else "F")
                seen = self.ops.gesv(a.array, b.array, trans=trans)
                assert seen.info == 0
                self.assert_solved(seen.x, seen.omega, op(x, trans), y)
                assert seen.norm == pytest.approx(norm(cabs1(op(x, trans))), rel=1e-5)
                self.assert_condition(seen.kappa, op(x, trans))
                # and the factors are good for more
                z = draw(rng, (n, 2), dtype)
                more = self.put(z)
                self.ops.getrs(
                    seen.factors, seen.piv, more.array, trans="T" if seen.transposed else "N"
                )
                assert is_small(omegas(x, more.host(), z), allowed(n, dtype))
                again, omega = self.ops.getrs_checked(a.array, seen, self.put(z).array, trans=trans)
                self.assert_solved(again, omega, op(x, trans), z)
                b.assert_untouched()
            a.assert_untouched()

    def assert_condition(self, kappa, a):
        """A lower bound; |re| + |im| may be sqrt(2) too large."""
        slack = 1.5 if is_complex(a.dtype) else 1.05
        assert 1e-6 <= kappa <= slack * np.linalg.cond(wide(a), np.inf)

    @pytest.mark.parametrize("layout", CONTIGUOUS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gesv_of_a_singular_matrix(self, rng, dtype, layout):
        for n in ORDERS:
            x = draw(rng, (n, n), dtype)
            x[:, n // 2] = 0
            y = draw(rng, (n, 2), dtype)
            seen = self.ops.gesv(self.put(x, layout).array, self.put(y).array)
            assert 1 <= seen.info <= n
            assert seen.omega == np.inf

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("layout", CONTIGUOUS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_what_is_not_finite_is_not_solved(self, rng, dtype, layout, bad):
        for n in ORDERS:
            spd, y = definite(rng, n, dtype), draw(rng, (n, 2), dtype)
            for i, j in [(0, 0), (n - 1, 0), (n // 2, n // 2)]:
                x, z = spd.copy(), y.copy()
                x[i, j] = x[j, i] = z[i, j % 2] = bad
                for m, r in [(x, y), (spd, z)]:
                    a, b = self.put(m, layout).array, self.put(r).array
                    assert self.ops.gesv(a, b).omega == np.inf
                    seen = self.ops.posv(a, b, lower=True)
                    assert seen.info or seen.omega == np.inf
                    if dtype in DOUBLE:
                        assert not self.ops.gesv_refined(a, b).converged
                        assert not self.ops.posv_refined(a, b, lower=True).converged

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_matrix_that_was_changed_is_noticed(self, rng, dtype):
        """`getrs_checked` and `potrs_checked` judge by the matrix as it is now."""
        n = 37
        x, y = definite(rng, n, dtype), draw(rng, (n, 2), dtype)
        a, b = self.put(x).array, self.put(y).array
        lu, cholesky = self.ops.gesv(a, b), self.ops.posv(a, b, lower=True)
        a[3, 2] += 30
        for _, omega in (
            self.ops.getrs_checked(a, lu, b),
            self.ops.potrs_checked(a, cholesky, b, lower=True),
        ):
            assert omega > 1e-3

    # -- posv ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("lower", [False, True])
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_posv(self, rng, dtype, layout, lower):
        for n in ORDERS:
            x = definite(rng, n, dtype)
            a = self.put(half_hidden(x, lower), layout)
            for nrhs in (1, 4, 5, 17):
                y = draw(rng, (n, nrhs), dtype)
                b = self.put(y, "C" if nrhs == 5 else "F")
                seen = self.ops.posv(a.array, b.array, lower=lower)
                assert seen.info == 0
                self.assert_solved(seen.x, seen.omega, x, y)
                assert seen.norm == pytest.approx(norm(cabs1(x)), rel=1e-5)
                self.assert_condition(seen.kappa, x)
                factor = wide(self.to_host(seen.factors))
                factor = np.tril(factor) if lower else np.triu(factor)
                product = factor @ factor.conj().T if lower else factor.conj().T @ factor
                assert norm(product - wide(x)) <= allowed(n, dtype) * norm(wide(x))
                z = draw(rng, (n, 2), dtype)
                again, omega = self.ops.potrs_checked(a.array, seen, self.put(z).array, lower=lower)
                self.assert_solved(again, omega, x, z)
                b.assert_untouched()
            a.assert_untouched()

    @pytest.mark.parametrize("lower", [False, True])
    @pytest.mark.parametrize("layout", CONTIGUOUS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_posv_reads_the_whole_matrix_if_asked(self, rng, dtype, layout, lower):
        n = 37
        a = self.put(half_hidden(definite(rng, n, dtype), lower), layout).array
        b = self.put(draw(rng, (n, 1), dtype)).array
        assert self.ops.posv(a, b, lower=lower).omega <= allowed(n, dtype)
        assert self.ops.posv(a, b, lower=lower, whole=True).omega == np.inf
        if dtype in DOUBLE:
            assert self.ops.posv_refined(a, b, lower=lower).converged
            assert not self.ops.posv_refined(a, b, lower=lower, whole=True).converged

    @pytest.mark.parametrize("lower", [False, True])
    @pytest.mark.parametrize("layout", CONTIGUOUS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_posv_names_the_first_minor_that_fails(self, rng, dtype, layout, lower):
        for n, bad in [(2, 1), (37, 20), (131, 131)]:
            x = definite(rng, n, dtype)
            x[bad - 1, :] = x[:, bad - 1] = 0
            a, b = self.put(x, layout).array, self.put(draw(rng, (n, 1), dtype)).array
            assert self.ops.posv(a, b, lower=lower).info == bad

    # -- refined ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DOUBLE)
    def test_refined(self, rng, dtype, layout):
        """Few right-hand sides of a well-conditioned matrix come out as good as in double."""
        for n in ORDERS:
            bound = 2 * math.sqrt(n) * unit_roundoff(dtype) + 4 * unit_roundoff(dtype)
            spd = definite(rng, n, dtype)
            general = self.put(draw(rng, (n, n), dtype) + n**0.5 * np.eye(n), layout)
            upper = self.put(half_hidden(spd, lower=False), layout)
            for nrhs in {1, self.ops.refines_columns}:
                y = draw(rng, (n, nrhs), dtype)
                b = self.put(y)
                for x, seen in [
                    (general.host(), self.ops.gesv_refined(general.array, b.array)),
                    (spd, self.ops.posv_refined(upper.array, b.array, lower=False)),
                ]:
                    assert seen.converged
                    assert is_small(omegas(x, self.to_host(seen.x), y), bound)
                    assert seen.steps >= 1
                    self.assert_condition(seen.kappa, x)
                b.assert_untouched()
            general.assert_untouched()
            upper.assert_untouched()

    @pytest.mark.parametrize("layout", CONTIGUOUS)
    @pytest.mark.parametrize("dtype", DOUBLE)
    def test_a_singular_matrix_is_not_refined(self, rng, dtype, layout):
        """Of rank n - 1 but for rounding, b in the range."""
        for n in ORDERS:
            q = np.linalg.qr(draw(rng, (n, n), dtype))[0]
            spectrum = np.linspace(0, 1, n)
            h = (q * spectrum) @ q.conj().T
            h = (h + h.conj().T) / 2
            g = (q * spectrum) @ np.linalg.qr(draw(rng, (n, n), dtype))[0]
            for x, solve in [
                (g, self.ops.gesv_refined),
                (h, lambda a, b: self.ops.posv_refined(a, b, lower=True)),
            ]:
                b = self.put(x @ np.ones((n, 1), dtype))
                assert not solve(self.put(x, layout).array, b.array).converged
