"""Random butterflies, diagonal blocks by way of inverses, and substitution with these."""

import numpy as np
import pytest

from mplinalg.factor.butterfly import butterflies

from .helpers import LAYOUTS, Suite, allowed, draw, is_small, norm, unit_roundoff, wide

C_LIKE = ["C", "C-view"]
SUMS = 16
"""Terms of an entry of a transformed matrix: 8 operations each way, and a rounding."""
CONVERSIONS = [("float64", "float64"), ("float64", "float32"), ("float32", "float32")]


def dense(groups):
    """U by its definition, in double precision."""
    outer, inner = wide(groups).reshape(-1, 2, 4).transpose(1, 2, 0).reshape(2, -1)
    half = len(outer) // 2

    def butterfly(d):
        first, second = np.diag(d[: len(d) // 2]), np.diag(d[len(d) // 2 :])
        return np.block([[first, second], [first, -second]]) / np.sqrt(2)

    zero = np.zeros((half, half))
    blocks = np.block([[butterfly(inner[:half]), zero], [zero, butterfly(inner[half:])]])
    return blocks @ butterfly(outer)


def block_triangular(rng, n, size, lower):
    """Dense diagonal blocks, near the identity; NaN in the other triangle."""
    block = np.arange(n) // size
    inside = block[:, None] > block if lower else block[:, None] < block
    x = np.where(inside, rng.standard_normal((n, n)) / max(n, 1), 0.0)
    diagonal = block[:, None] == block
    x[diagonal] = (np.eye(n) + rng.standard_normal((n, n)) / (4 * size))[diagonal]
    return x.astype(np.float32), inside | diagonal, diagonal


class ButterflySuite(Suite):
    def drawn(self, n, seed=1):
        """U and V there, and dense here."""
        u, v = butterflies(self.ops, n, seed)
        return u, v, *(dense(self.to_host(x)) for x in (u, v))

    def test_butterflies_are_those_of_the_works_cited(self):
        u, v = (self.to_host(x).copy() for x in butterflies(self.ops, 4000))
        for x in (u, v):
            assert x.dtype == np.float32
            assert x.shape == (1000, 8)
            s = 10 * np.log(wide(x))
            assert 0.49 < s.max() <= 0.5 + 1e-6
            assert -0.5 - 1e-6 <= s.min() < -0.49
            assert abs(s.mean()) < 0.02
        assert not np.array_equal(u, v)
        again = self.to_host(butterflies(self.ops, 4000, seed=1)[0])
        assert not np.array_equal(u, again)

    # -- the matrix ------------------------------------------------------------------------------

    @pytest.mark.parametrize("layout", C_LIKE)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_butterfly(self, rng, dtype, layout):
        """U^T diag(A, padding I) V, entry by entry."""
        for n, order in [(4, 4), (4, 1), (8, 5), (20, 18), (260, 260), (1028, 1025)]:
            x = draw(rng, (order, order), dtype)
            u, v, left, right = self.drawn(n)
            a, c = self.put(x, layout), self.put(np.full((n, n), np.nan, np.float32), layout)
            self.ops.butterfly(a.array, c.array, u, v, padding=2.0)
            whole = 2.0 * np.eye(n)
            whole[:order, :order] = x
            size = abs(left).T @ abs(whole) @ abs(right)
            error = abs(c.host() - left.T @ whole @ right)
            assert is_small(error, SUMS * unit_roundoff(np.float32) * size), (n, order)
            a.assert_untouched()
            c.assert_rest_untouched()

    @pytest.mark.parametrize("layout", C_LIKE)
    @pytest.mark.parametrize(("n", "order"), [(4, 3), (132, 130)])
    def test_butterfly_in_place(self, rng, n, order, layout):
        """To the bits of the transformation into another array."""
        x = np.full((n, n), np.nan, np.float32)
        x[:order, :order] = draw(rng, (order, order), "float32")
        u, v, _, _ = self.drawn(n)
        a = self.put(x, layout)
        self.ops.butterfly(a.array[:order, :order], a.array, u, v)
        c = self.put(np.zeros_like(x), "C")
        self.ops.butterfly(self.put(x[:order, :order], "C").array, c.array, u, v)
        np.testing.assert_array_equal(a.host(), c.host())
        a.assert_rest_untouched()

    def test_butterfly_keeps_what_is_not_finite(self, rng):
        x = draw(rng, (20, 20), "float64")
        x[7, 13] = np.nan
        u, v, _, _ = self.drawn(20)
        c = self.put(np.zeros((20, 20), np.float32), "C")
        self.ops.butterfly(self.put(x, "C").array, c.array, u, v)
        expected = np.zeros((20, 20), bool)
        expected[np.ix_(range(2, 20, 5), range(3, 20, 5))] = True
        np.testing.assert_array_equal(np.isnan(c.host()), expected)

    # -- vectors ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("layouts", [("F", "F"), ("C", "F-view"), ("F-view", "C-view")])
    @pytest.mark.parametrize("dtypes", CONVERSIONS, ids="-".join)
    @pytest.mark.parametrize("transposed", [True, False], ids=["into", "out of"])
    def test_butterfly_vectors(self, rng, transposed, dtypes, layouts):
        source, target = dtypes if transposed else dtypes[::-1]
        for n, order in [(4, 4), (4, 1), (20, 18), (1028, 1025)]:
            for columns in (0, 1, 3):
                u, _, left, _ = self.drawn(n)
                matrix = left.T[:, :order] if transposed else left[:order]
                x = draw(rng, (matrix.shape[1], columns), source)
                b = self.put(x, layouts[0])
                y = self.put(np.full((len(matrix), columns), np.nan, target), layouts[1])
                self.ops.butterfly_vectors(b.array, y.array, u, transposed=transposed)
                bound = SUMS * max(map(unit_roundoff, (source, target))) * (abs(matrix) @ abs(x))
                assert is_small(abs(wide(y.host()) - matrix @ wide(x)), bound)
                b.assert_untouched()
                y.assert_rest_untouched()

    # -- diagonal blocks -------------------------------------------------------------------------

    def factored(self, a, *, offset=0, info=0):
        """L^-1 P, U^-1 and info, on the host."""
        size = self.ops.diagonal_block
        lower, upper = (self.put(np.full((size, size), np.nan, np.float32), "C") for _ in range(2))
        found = self.put(np.full((1, 1), info, np.int32), "C")
        self.ops.getrf_block(a.array, lower.array, upper.array, found.array.reshape(1), offset)
        return lower.host(), upper.host(), int(found.host()[0, 0])

    @pytest.mark.parametrize("layout", C_LIKE)
    def test_getrf_block(self, rng, layout):
        """Within the bounds of elimination and substitution; pivots are the largest."""
        size = self.ops.diagonal_block
        for n in (1, 2, 7, size // 2 + 1, size - 1, size):
            x = draw(rng, (n, n), "float32")
            a = self.put(x, layout)
            lower, upper, info = self.factored(a)
            assert info == 0
            for inverse in (lower, upper):
                np.testing.assert_array_equal(inverse[n:], np.eye(size)[n:])
                np.testing.assert_array_equal(inverse[:, n:], np.eye(size)[:, n:])
            lower, upper, u = (wide(v[:n, :n]) for v in (lower, upper, np.triu(a.host())))
            assert not np.tril(upper, -1).any()
            assert is_small(abs(upper @ u - np.eye(n)), allowed(n, "float32") * abs(upper) @ abs(u))
            factor = np.linalg.inv(lower)  # P^T L
            assert abs(factor).max() <= 1 + allowed(n, "float32") * norm(factor) * norm(lower)
            error = abs(lower @ x - u)
            assert is_small(error, allowed(n, "float32") * abs(lower) @ abs(factor) @ abs(u))
            a.assert_rest_untouched()

    def test_getrf_block_names_the_first_useless_pivot(self, rng):
        x = draw(rng, (50, 50), "float32")
        x[:, [12, 30]] = 0
        for before, after in [(0, 113), (5, 5), (500, 113)]:
            assert self.factored(self.put(x, "C"), offset=100, info=before)[-1] == after
        for value in (np.nan, np.inf):
            x = draw(rng, (50, 50), "float32")
            x[30, 12] = value
            assert 1 <= self.factored(self.put(x, "C"))[-1] <= 50
        tiny = np.diag(np.array([1, 1e-40, 1], np.float32))
        assert self.factored(self.put(tiny, "C"))[-1] == 2

    # -- substitution ----------------------------------------------------------------------------

    @pytest.mark.parametrize("trans", ["N", "T", "C"])
    @pytest.mark.parametrize("lower", [True, False])
    def test_trsm_inverted(self, rng, lower, trans):
        size = self.ops.diagonal_block
        for n, columns in [(1, 1), (size - 1, 3), (size + 1, 1), (3 * size, 2), (2 * size + 5, 19)]:
            x, meant, diagonal = block_triangular(rng, n, size, lower)
            hidden = np.where(meant & ~diagonal, x, np.float32(np.nan))
            count = -(-n // size)
            inverses = np.tile(np.eye(size, dtype=np.float32), (count, 1, 1))
            for place in range(count):
                k = slice(place * size, min((place + 1) * size, n))
                width = k.stop - k.start
                inverses[place, :width, :width] = np.linalg.inv(wide(x[k, k]))
            there = self.to_device(inverses)
            t = wide(x) if trans == "N" else wide(x).T
            y = draw(rng, (n, columns), "float32")
            for layout in LAYOUTS:
                a, b = self.put(hidden, C_LIKE[layout.endswith("view")]), self.put(y, layout)
                self.ops.trsm_inverted(a.array, there, b.array, lower=lower, trans=trans)
                got = wide(b.host())
                bound = allowed(n, "float32") * abs(np.linalg.inv(t)) @ abs(t) @ abs(got)
                assert is_small(abs(got - np.linalg.solve(t, wide(y))), bound), (n, columns, layout)
                a.assert_untouched()
                b.assert_rest_untouched()
