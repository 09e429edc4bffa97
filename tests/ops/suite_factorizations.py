"""getrf, getrs, gecon, potrf, potrs, geqrf, ormqr, gesvd, trcon, and the panels."""

import numpy as np
import pytest

from .helpers import (
    DTYPES,
    F_LIKE,
    LAYOUTS,
    NRHS,
    SHAPES,
    SQUARE,
    Suite,
    allowed,
    draw,
    flags,
    is_complex,
    is_small,
    op,
    real,
    reflector_product,
    same_bits,
    swapped,
    wide,
)

SHAPES = [*SHAPES, (131, 67), (67, 131)]


def norm(x):
    """The infinity norm."""
    return float(np.max(np.abs(x).sum(axis=1), initial=0.0))


def definite(rng, n, dtype):
    """Hermitian, eigenvalues between about 1 and 5."""
    x = wide(draw(rng, (n, n), dtype)) / max(n, 1) ** 0.5
    return np.asarray(np.eye(n) + x @ x.conj().T / 2, dtype)


def half_hidden(x, lower):
    """`x` with NaN in the triangle that is not to be read."""
    read = np.tril(np.ones(x.shape, bool)) if lower else np.triu(np.ones(x.shape, bool))
    return np.where(read, x, np.asarray(np.nan, x.dtype)), read


def reciprocal_condition(a, order):
    return 1 / np.linalg.cond(wide(a), order)


class FactorizationSuite(Suite):
    # -- LU --------------------------------------------------------------------------------------

    def solves(self, got, a, b, dtype):
        """The normwise backward error of each column of `got` is below 30 n u."""
        r = np.abs(wide(b) - wide(a) @ wide(got))
        sizes = norm(wide(a)) * np.abs(wide(got)).max(axis=0, initial=0.0)
        sizes = sizes + np.abs(wide(b)).max(axis=0, initial=0.0)
        return is_small(r.max(axis=0, initial=0.0), allowed(a.shape[0], dtype) * sizes)

    @pytest.mark.parametrize("layout", F_LIKE)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("verb", ["getrf", "getrf_panel"])
    def test_getrf(self, rng, verb, dtype, layout):
        for m, n in SHAPES:
            k = min(m, n)
            x = draw(rng, (m, n), dtype)
            a = self.put(x, layout)
            piv, info = getattr(self.ops, verb)(a.array)
            piv, lu = self.to_host(piv), wide(a.host())
            assert info == 0
            assert piv.shape == (k,)
            assert np.all((piv >= np.arange(k)) & (piv < m))
            l, u = np.tril(lu[:, :k], -1), np.triu(lu[:k])
            # complex pivots are compared by |re| + |im|
            largest = 2**0.5 if is_complex(dtype) else 1.0
            assert np.all(np.abs(l) <= largest + allowed(1, dtype))
            l[np.arange(k), np.arange(k)] = 1
            assert norm(swapped(wide(x), piv) - l @ u) <= allowed(max(m, n), dtype) * norm(wide(x))
            a.assert_rest_untouched()

    @pytest.mark.parametrize("verb", ["getrf", "getrf_panel"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_getrf_names_the_first_zero_pivot(self, rng, dtype, verb):
        getrf = getattr(self.ops, verb)
        x = draw(rng, (13, 7), dtype)
        x[:, 4] = 0
        assert getrf(self.put(x).array)[1] == 5
        x[:, 2] = 0
        assert getrf(self.put(x).array)[1] == 3
        assert getrf(self.put(np.zeros((3, 3), dtype)).array)[1] == 1
        last = np.diag([1, 2, 0]).astype(dtype)
        assert getrf(self.put(last).array)[1] == 3

    @pytest.mark.parametrize("shape", [(1, 1), (13, 13), (131, 17), (67, 67)])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_getrf_of_nan_has_pivots_in_range(self, rng, dtype, shape):
        m, n = shape
        all_nan = np.full(shape, np.nan, dtype)
        for x in [all_nan, np.where(np.arange(n) == n // 2, all_nan, draw(rng, shape, dtype))]:
            a = self.put(np.asarray(x, dtype), "F-view")
            piv, _ = self.ops.getrf(a.array)
            piv = self.to_host(piv)
            assert np.all((piv >= 0) & (piv < m))
            assert np.isnan(a.host()).any()
            a.assert_rest_untouched()

    @pytest.mark.parametrize("layout", F_LIKE)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_getrs(self, rng, dtype, layout):
        for n in SQUARE:
            x = draw(rng, (n, n), dtype)
            lu = self.put(x, layout)
            piv, _ = self.ops.getrf(lu.array)
            factors = lu.host()
            for trans in flags(dtype):
                for nrhs in NRHS:
                    y = draw(rng, (n, nrhs), dtype)
                    b = self.put(y, layout)
                    self.ops.getrs(lu.array, piv, b.array, trans=trans)
                    assert self.solves(b.host(), op(x, trans), y, dtype), (n, trans, nrhs)
                    b.assert_rest_untouched()
            assert same_bits(lu.host(), factors)

    @pytest.mark.parametrize("kind", ["1", "I"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gecon(self, rng, dtype, kind):
        for n in [1, 2, 7, 37]:
            x = draw(rng, (n, n), dtype)
            x[0] *= real(dtype).type(1e-3)
            order = 1 if kind == "1" else np.inf
            lu = self.put(x)
            self.ops.getrf(lu.array)
            rcond = self.ops.gecon(lu.array, float(np.linalg.norm(wide(x), order)), kind)
            true = reciprocal_condition(x, order)
            # an estimate of ||A^-1|| is never above it
            assert 0.99 * true <= rcond <= 10 * true
        assert isinstance(rcond, float)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gecon_of_a_singular_matrix_is_zero(self, dtype):
        lu = self.put(np.diag([1, 0, 2]).astype(dtype))
        self.ops.getrf(lu.array)
        assert self.ops.gecon(lu.array, 2.0) == 0.0

    # -- Cholesky --------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", F_LIKE)
    @pytest.mark.parametrize("lower", [True, False])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_potrf_and_potrs(self, rng, dtype, lower, layout):
        for n in [*SQUARE, 131]:
            x = definite(rng, n, dtype)
            hidden, read = half_hidden(x, lower)
            c = self.put(hidden, layout)
            assert self.ops.potrf(c.array, lower=lower) == 0
            after = c.host()
            assert np.isnan(after[~read]).all(), "the other triangle was written"
            factor = wide(np.where(read, after, 0))
            product = factor @ factor.conj().T if lower else factor.conj().T @ factor
            assert norm(product - wide(x)) <= allowed(n, dtype) * norm(wide(x))
            assert np.all(factor.diagonal().real > 0)
            assert np.all(factor.diagonal().imag == 0)
            for nrhs in NRHS:
                y = draw(rng, (n, nrhs), dtype)
                b = self.put(y, layout)
                self.ops.potrs(c.array, b.array, lower=lower)
                assert self.solves(b.host(), x, y, dtype), (n, nrhs)
                b.assert_rest_untouched()
            assert same_bits(c.host(), after)
            c.assert_rest_untouched()

    @pytest.mark.parametrize("lower", [True, False])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_potrf_names_the_first_minor_that_fails(self, rng, dtype, lower):
        for n, bad in [(1, 1), (7, 1), (7, 4), (7, 7), (131, 100)]:
            for value in [0.0, -1.0]:
                x = definite(rng, n, dtype)
                x[bad - 1, :] = x[:, bad - 1] = 0
                x[bad - 1, bad - 1] = value
                assert self.ops.potrf(self.put(x).array, lower=lower) == bad

    # -- QR --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", F_LIKE)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_geqrf(self, rng, dtype, layout):
        for m, n in SHAPES:
            x = draw(rng, (m, n), dtype)
            a = self.put(x, layout)
            tau = self.to_host(self.ops.geqrf(a.array))
            assert tau.shape == (min(m, n),)
            assert tau.dtype == dtype
            qr = a.host()
            q = reflector_product(qr, tau)
            assert norm(q.conj().T @ q - np.eye(m)) <= allowed(m, dtype)
            assert norm(q @ np.triu(wide(qr)) - wide(x)) <= allowed(max(m, n), dtype) * norm(
                wide(x)
            )
            a.assert_rest_untouched()

    @pytest.mark.parametrize("layout", F_LIKE)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_geqrf_panel_gives_the_block_reflector(self, rng, dtype, layout):
        for m, n in [(0, 0), (3, 0), (1, 1), (7, 7), (37, 5), (131, 33)]:
            x = draw(rng, (m, n), dtype)
            a = self.put(x, layout)
            tau, t = map(self.to_host, self.ops.geqrf_panel(a.array))
            qr = a.host()
            q = reflector_product(qr, tau)
            assert norm(q[:, :n] @ np.triu(wide(qr))[:n] - wide(x)) <= allowed(m, dtype) * norm(x)
            # Q = I - V T V^H
            v = np.tril(wide(qr), -1) + np.eye(m, n)
            assert t.shape == (n, n)
            assert np.all(np.tril(t, -1) == 0)
            assert norm(np.eye(m) - v @ wide(t) @ v.conj().T - q) <= allowed(m, dtype)
            a.assert_rest_untouched()

    @pytest.mark.parametrize("layout", F_LIKE)
    @pytest.mark.parametrize("side", ["L", "R"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_ormqr(self, rng, dtype, side, layout):
        for m, k in [(0, 0), (3, 0), (1, 1), (7, 7), (37, 5)]:
            qr = self.put(draw(rng, (m, k), dtype), layout)
            tau = self.ops.geqrf(qr.array)
            before = qr.host()
            q = reflector_product(before, self.to_host(tau))
            for trans in ["N", "C"] if is_complex(dtype) else ["N", "T", "C"]:
                for n in NRHS:
                    y = draw(rng, (m, n) if side == "L" else (n, m), dtype)
                    c = self.put(y, layout)
                    self.ops.ormqr(side, trans, qr.array, tau, c.array)
                    t, w = op(q, trans), wide(y)
                    expected = t @ w if side == "L" else w @ t
                    assert norm(c.host() - expected) <= allowed(m, dtype) * max(norm(w), norm(w.T))
                    c.assert_rest_untouched()
            assert same_bits(qr.host(), before)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gesvd(self, rng, dtype, layout):
        for m, n in SHAPES:
            k = min(m, n)
            a = self.put(draw(rng, (m, n), dtype), layout)
            before = a.host()
            u, s, vh = map(self.to_host, self.ops.gesvd(a.array))
            assert same_bits(a.host(), before)
            assert (u.shape, s.shape, vh.shape) == ((m, k), (k,), (k, n))
            assert u.dtype == vh.dtype == dtype
            assert s.dtype == real(dtype)
            assert np.all(s >= 0)
            assert np.all(s[:-1] >= s[1:])
            bound = allowed(max(m, n), dtype)
            u, vh, size = wide(u), wide(vh), norm(wide(before))
            assert norm(u * s @ vh - wide(before)) <= bound * size
            assert norm(u.conj().T @ u - np.eye(k)) <= bound
            assert norm(vh @ vh.conj().T - np.eye(k)) <= bound
            none, alone, too = self.ops.gesvd(a.array, vectors=False)
            assert none is None
            assert too is None
            assert is_small(abs(self.to_host(alone) - s), bound * size)

    @pytest.mark.parametrize("lower", [True, False])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_trcon(self, rng, dtype, lower):
        for n in [1, 2, 7, 37]:
            x = draw(rng, (n, n), dtype) / real(dtype).type(n)
            x = np.tril(x) if lower else np.triu(x)
            np.fill_diagonal(x, np.linspace(1e-2, 1, n))
            hidden, _ = half_hidden(x, lower)
            rcond = self.ops.trcon(self.put(hidden, "F-view").array, lower=lower)
            true = reciprocal_condition(x, 1)
            assert 0.99 * true <= rcond <= 10 * true
        np.fill_diagonal(x, 0)
        assert self.ops.trcon(self.put(x).array, lower=lower) == 0.0
