"""LU in the layout that a backend likes."""

import numpy as np
import pytest

from .helpers import (
    DTYPES,
    Suite,
    allowed,
    cabs1,
    draw,
    flags,
    is_small,
    norm,
    omegas,
    op,
    swapped,
    wide,
)

ORDERS = [2, 7, 37, 131]
CONTIGUOUS = ["F", "C"]


class LayoutSuite(Suite):
    @pytest.mark.parametrize("layout", CONTIGUOUS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_getrf_of_the_view_that_is_faster(self, rng, dtype, layout):
        for n in ORDERS:
            x = draw(rng, (n, n), dtype)
            a = self.put(x, layout)
            view = self.ops.getrf_view(a.array)
            turned = not np.array_equal(self.to_host(view), x)
            v = x.T if turned else x
            assert np.array_equal(self.to_host(view), v)
            piv, info = self.ops.getrf(view)
            assert info == 0
            lu = wide(self.to_host(view).copy())
            assert np.array_equal(a.host(), (lu.T if turned else lu).astype(dtype)), "not in place"
            l, u = np.tril(lu, -1) + np.eye(n), np.triu(lu)
            assert np.all(cabs1(l) <= 2)
            error = norm(swapped(wide(v), self.to_host(piv)) - l @ u)
            assert error <= allowed(n, dtype) * norm(np.abs(l) @ np.abs(u))
            for trans in flags(dtype):
                for nrhs, placed in [(1, "F"), (3, "F-view"), (17, "F")]:
                    y = draw(rng, (n, nrhs), dtype)
                    b = self.put(y, placed)
                    self.ops.getrs(view, piv, b.array, trans=trans)
                    got = omegas(op(v, trans), b.host(), y)
                    assert is_small(got, allowed(n, dtype)), (n, trans, nrhs)
                    b.assert_rest_untouched()

    @pytest.mark.parametrize("kind", ["1", "I"])
    @pytest.mark.parametrize("layout", CONTIGUOUS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gecon_of_the_view(self, rng, dtype, layout, kind):
        order = 1 if kind == "1" else np.inf
        for n in ORDERS:
            x = draw(rng, (n, n), dtype) * np.linspace(1e-3, 1, n).astype(dtype)
            a = self.put(x, layout)
            view = self.ops.getrf_view(a.array)
            v = wide(self.to_host(view).copy())
            self.ops.getrf(view)
            rcond = self.ops.gecon(view, float(np.linalg.norm(v, order)), kind)
            true = 1 / np.linalg.cond(v, order)
            assert 0.99 * true <= rcond <= 10 * true

    @pytest.mark.parametrize("layout", CONTIGUOUS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_zero_column_of_the_view_is_named(self, rng, dtype, layout):
        for n, j in [(2, 1), (37, 0), (37, 20), (131, 130)]:
            a = self.put(draw(rng, (n, n), dtype), layout)
            view = self.ops.getrf_view(a.array)
            view[:, j] = 0
            assert self.ops.getrf(view)[1] == j + 1
            assert self.ops.gecon(view, 1.0) == 0.0
