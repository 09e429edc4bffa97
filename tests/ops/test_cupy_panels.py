"""The CUDA backend: panels of LU and Cholesky, triangles and reflectors."""

import numpy as np
import pytest

from ..cupy_on_host.install import recorded
from .cupy_backend import assert_is_lu, cupy, ops, put, stand_in
from .helpers import (
    DTYPES,
    LAYOUTS,
    allowed,
    draw,
    is_small,
    norm,
    omegas,
    op,
    reflector_product,
    swapped,
    wide,
)

__all__ = ["cupy", "ops", "put", "stand_in"]  # fixtures


# -- LU panels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(300, 97), (513, 16), (40, 70), (33, 33), (1, 1), (65, 64)])
def test_panels_pivot_as_lapack_does(ops, put, rng, shape, layout):
    """Leaves, halves and what is left over; in place, as views."""
    a = put(draw(rng, shape, "float32"), layout)
    assert_is_lu(a, ops.getrf_panel(a.array))


@pytest.mark.parametrize(("rows", "kernel"), [
    (512, "panel_lu<32, 128, float>"), (513, "panel_lu<32, 384, float>"),
    (1536, "panel_lu<32, 384, float>"), (1537, "tournament<32>"),
])  # fmt: skip
def test_tall_panels_take_what_the_multiprocessors_hold(stand_in, ops, put, rng, rows, kernel):
    """Two of them, of one block each; beyond that a tournament."""
    from mplinalg.kernels.cuda import loader

    stand_in.multiprocessors = 2
    loader._multiprocessors.cache_clear()
    a = put(draw(rng, (rows, 32), "float32"), "C")
    with recorded() as ledger:
        found = ops.getrf_panel(a.array)
    assert kernel in ledger.launches
    assert_is_lu(a, found, tournament=kernel.startswith("tournament"))


def test_zero_pivots_of_a_panel_are_counted_from_its_first_column(ops, put, rng):
    x = draw(rng, (200, 90), "float32")
    x[:, 70] = 0
    _, info = ops.getrf_panel(put(x, "C").array)
    assert int(info[0]) == 71
    x[:, 40] = x[:, 39]
    _, info = ops.getrf_panel(put(np.round(4 * x), "C").array)
    assert int(info[0]) in (41, 71)  # cancellation need not be exact


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["C", "C-view"])
@pytest.mark.parametrize("shape", [(70, 70), (90, 50), (50, 90), (0, 3)])
def test_getrf_by_rows(ops, put, rng, shape, layout, dtype, monkeypatch):
    """A C-like matrix is factored in place, a panel at a time."""
    monkeypatch.setattr("mplinalg.ops.cupy_factors._WORKING_PANEL", 33)
    x = draw(rng, shape, dtype)
    a = put(x, layout)
    piv, info = ops.getrf(a.array)
    lu, k = wide(a.host()), min(shape)
    assert info == 0
    lower = np.tril(lu[:, :k], -1) + np.eye(shape[0], k)
    error = norm(swapped(wide(x), piv.get()) - lower @ np.triu(lu[:k]))
    assert error <= allowed(max(shape), dtype) * norm(wide(x))
    a.assert_rest_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_cholesky_by_rows(ops, put, rng, lower, dtype):
    n = 37
    x = wide(draw(rng, (n, n), dtype))
    x = np.asarray(np.eye(n) + x @ x.conj().T / n, dtype)
    c = put(x, "C")
    assert ops.potrf(c.array, lower=lower) == 0
    factor = np.tril(wide(c.host())) if lower else np.triu(wide(c.host()))
    product = factor @ factor.conj().T if lower else factor.conj().T @ factor
    assert norm(product - x) <= allowed(n, dtype) * norm(wide(x))
    y = draw(rng, (n, 3), dtype)
    b = put(y)
    ops.potrs(c.array, b.array, lower=lower)
    assert is_small(omegas(x, b.host(), y), allowed(n, dtype))


# -- triangles and reflectors --------------------------------------------------------------------


@pytest.mark.parametrize("trans", ["N", "T"])
@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize(("layout", "lower", "unit"), [
    ("C", True, True), ("C-view", False, False), ("F", True, False), ("F-view", False, True),
])  # fmt: skip
def test_triangles_with_inverted_diagonal_blocks(
    stand_in, ops, put, rng, layout, lower, unit, side, trans
):
    """As good as substitution; what is on the other side of the diagonal is not needed."""
    n, columns = 150, 260
    x = draw(rng, (n, n), "float32") / np.float32(n)
    np.fill_diagonal(x, 1.5)
    triangle = np.tril(wide(x)) if lower else np.triu(wide(x))
    if unit:
        np.fill_diagonal(triangle, 1.0)
    a = put(x, layout)
    y = draw(rng, (n, columns) if side == "L" else (columns, n), "float32")
    b = put(y, "F-view")
    with recorded() as ledger:
        ops.trsm(side, a.array, b.array, lower=lower, trans=trans, unit=unit, fast=True)
    assert dict(ledger.launches) == {"triangle_inverse<128>": 1}
    t, got = op(triangle, trans), wide(b.host())
    product, sizes = (t @ got, abs(t) @ abs(got)) if side == "L" else (got @ t, abs(got) @ abs(t))
    assert is_small(abs(product - wide(y)), allowed(n, np.float32) * sizes)
    a.assert_untouched()
    b.assert_rest_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(600, 70), (257, 32), (64, 64)])
def test_wide_panels_have_one_block_reflector(ops, put, rng, shape, dtype):
    """Several leaves, trees of two levels, the last leaf narrower."""
    m, n = shape
    x = draw(rng, shape, dtype)
    a = put(x, "F-view")
    tau, t = ops.geqrf_panel(a.array)
    qr, tau, t = wide(a.host()), tau.get(), t.get()
    v = np.tril(qr, -1) + np.eye(m, n)
    q = np.eye(m) - v @ wide(t) @ v.conj().T
    assert norm(q.conj().T @ q - np.eye(m)) <= allowed(m, dtype)
    assert norm(q[:, :n] @ np.triu(qr[:n]) - wide(x)) <= allowed(m, dtype) * norm(wide(x))
    assert norm(reflector_product(qr, tau) - q) <= allowed(m, dtype)
    assert np.all(np.tril(t, -1) == 0)
    a.assert_rest_untouched()
