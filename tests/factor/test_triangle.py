"""Products with the inverse of R, and what a quarter of the columns shows."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.gram import foreseen_condition
from mplinalg.factor.triangle import divide, triangular_product
from mplinalg.ops import ops_for
from mplinalg.precision import working_format

OPS = ops_for(np.empty(0))


def random(rng, shape, dtype):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return a.astype(dtype)


@pytest.mark.parametrize("dtype", ["f", "d", "F", "D"])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 200])
def test_divide_undoes_a_product(rng, dtype, order, n):
    r = np.triu(random(rng, (n, n), dtype)) + 3 * np.sqrt(n) * np.eye(n, dtype=dtype)
    r = np.asarray(r, dtype=dtype, order=order)
    a = np.asarray(random(rng, (n + 30, n), dtype), order=order)
    x = a.copy(order=order)
    divide(OPS, x, r)
    size = np.linalg.norm(x) * np.linalg.norm(r)
    assert np.linalg.norm(x @ r - a) <= 30 * max(n, 1) * working_format(dtype).unit_roundoff * size


def test_divide_is_stable_where_r_is_ill_conditioned(rng):
    """The residual is that of a triangular solve and does not grow with the condition number."""
    a = rng.standard_normal((400, 150))
    u, _, v = np.linalg.svd(a, full_matrices=False)
    a = (u * np.geomspace(1, 1e-10, 150)) @ v
    r = np.linalg.qr(a, mode="r")
    x = a.copy()
    divide(OPS, x, r)
    assert np.linalg.norm(x @ r - a) <= 30 * 150 * 2.0**-53 * np.linalg.norm(a)
    assert np.linalg.norm(x.T @ x - np.eye(150)) < 1e-3


@pytest.mark.parametrize("n", [1, 127, 128, 300])
def test_triangular_product(rng, n):
    left, right = np.triu(rng.standard_normal((2, n, n)))
    assert np.allclose(triangular_product(OPS, left, right), left @ right, rtol=0, atol=1e-11)


@pytest.mark.parametrize("cond", [1.5, 10.0, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("seed", range(3))
def test_a_geometric_spectrum_is_foreseen(cond, seed):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.standard_normal((800, 200)))
    v, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    foreseen = foreseen_condition(OPS, (u * np.geomspace(1, 1 / cond, 200)) @ v)
    assert cond / 20 <= foreseen <= 20 * cond


def test_column_scaling_is_not_taken_for_condition(rng):
    a = rng.standard_normal((400, 100))
    assert foreseen_condition(OPS, a * np.geomspace(1, 1e-9, 100)) < 5
    assert foreseen_condition(OPS, a) < 5


def test_dependent_leading_columns_are_seen(rng):
    a = rng.standard_normal((400, 100))
    a[:, 7] = a[:, 2]
    assert foreseen_condition(OPS, a) > 1e3
    a[:, 7] = 0
    assert foreseen_condition(OPS, a) == np.inf
