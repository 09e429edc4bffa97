"""LU of randomly transformed matrices on the ladder: what happens when it does not do."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import LinAlgError, LinAlgWarning, Status
from mplinalg.dense.matrix import BUTTERFLY, LU, QR, Matrix
from mplinalg.dense.refined import solve_on_ladder
from mplinalg.dense.rungs import Options, rungs_of
from mplinalg.dense.structure import GENERAL, HERMITIAN
from mplinalg.factor.butterfly import butterflies, butterfly_lu
from mplinalg.factor.unpivoted import getrf_unpivoted
from mplinalg.ops import ops_for
from mplinalg.precision import BF16, FP16, FP16X2, FP32, FP64
from mplinalg.refine.ladder import Rung
from mplinalg.testing import backward_error, gallery

from ..device import library
from ..ops.suite_butterfly import dense
from .backends import SIZE, host, ops, working_copy

__all__ = ["ops"]  # a fixture


def climb(ops, a, fmt, *, pivoting="butterfly", structure=GENERAL, columns=2, check=True, **more):
    """The ladder that begins in `fmt`, for right-hand sides of random numbers."""
    n = len(a)
    b = np.random.default_rng(n).standard_normal((n, columns)).astype(a.dtype)
    triangle = None if structure == GENERAL else "L"
    matrix = Matrix(
        ops, ops.xp.asarray(a), structure, triangle, fmt, check_finite=check, pivoting=pivoting
    )
    found = solve_on_ladder(matrix, ops.xp.asarray(b), Options(**more), first=fmt)
    return found, host(found.x), b


# -- the ladder ----------------------------------------------------------------------------------


def needs_pivots(name, n=300):
    """Matrices whose diagonal blocks are singular, or that grow."""
    rng = np.random.default_rng(7)
    if name == "zero diagonal":
        a = rng.standard_normal((n, n))
        np.fill_diagonal(a, 0)
    elif name == "permutation":
        a = np.eye(n)[rng.permutation(n)]
    elif name == "exchanges":
        a = np.kron(np.eye(n // 2), [[0.0, 1.0], [1.0, 0.0]])
    elif name == "halves exchanged":
        a = np.roll(np.eye(n), n // 2, axis=0)
    elif name == "zero block":
        a = rng.standard_normal((n, n))
        a[: n // 2, : n // 2] = 0
    elif name == "wilkinson":
        a = np.eye(n) - np.tril(np.ones((n, n)), -1)
        a[:, -1] = 1
    else:
        a = gallery.randsvd(n, 1e4) if name == "randsvd" else gallery.matrix(name, n)
    return a


PIVOTED = [
    "zero diagonal", "exchanges", "halves exchanged", "zero block", "wilkinson", "random_normal",
    "randsvd",
]  # fmt: skip


@pytest.mark.parametrize("fmt", [FP16X2, FP32], ids=str)
@pytest.mark.parametrize("name", PIVOTED)
def test_matrices_that_need_pivots(ops, name, fmt):
    """The first rung delivers, and does it by classical refinement."""
    a = needs_pivots(name)
    found, x, b = climb(ops, a, fmt)
    assert [(r.format, r.method, r.outcome) for r in found.report.rungs] == [
        (fmt.name, "butterfly LU + classical", "converged")
    ]
    assert found.status is Status.CONVERGED
    assert found.message is None
    assert backward_error(a, x, b).max() <= np.sqrt(len(a)) * FP64.unit_roundoff


@pytest.mark.parametrize("name", ["halves exchanged", "zero block"])
def test_without_the_transformation_they_break_down(ops, name):
    a = ops.xp.asarray(needs_pivots(name).astype(np.float32))
    assert getrf_unpivoted(ops, a, FP32)[-1] == 1


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("trans", ["N", "T"])
def test_single_precision_in_either_layout(ops, rng, order, trans):
    n = 150
    a = np.array(rng.standard_normal((n, n)), np.float32, order=order)
    b = rng.standard_normal((n, 3)).astype(np.float32)
    matrix = Matrix(ops, ops.xp.asarray(a), GENERAL, None, FP16, pivoting="butterfly")
    found = solve_on_ladder(matrix, ops.xp.asarray(b), Options(), first=FP16, trans=trans)
    assert found.report.rungs[0].method.startswith(BUTTERFLY)
    assert found.ascent.rung == Rung(FP16, BUTTERFLY)
    op = a if trans == "N" else a.T
    assert backward_error(op, host(found.x), b).max() <= np.sqrt(n) * FP32.unit_roundoff


@pytest.mark.parametrize("pivoting", ["butterfly", "partial"])
@pytest.mark.parametrize("fmt", [FP16, FP32], ids=str)
def test_one_triangle_is_read(ops, rng, fmt, pivoting):
    """Scaled by rows and columns that differ, the other one is not its mirror image."""
    n = 150
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = (q * np.where(np.arange(n) % 2, 1.0, -2.0)) @ q.T
    a = (a + a.T) / 2
    given = np.tril(a) + np.triu(np.full((n, n), 1e30), 1)
    found, x, b = climb(ops, given, fmt, structure=HERMITIAN, pivoting=pivoting)
    method = BUTTERFLY if pivoting == "butterfly" else LU
    assert [r[:2] for r in found.report.rungs] == [(fmt.name, f"{method} + classical")]
    assert backward_error(a, x, b).max() <= np.sqrt(n) * FP64.unit_roundoff


def test_rows_and_columns_of_any_size(ops, rng):
    """Also such that products would leave the range: the matrix is scaled before."""
    n = 140
    for exponent in (8, 200):
        rows, cols = (np.exp2(rng.integers(-exponent, exponent, n)) for _ in range(2))
        a = rng.standard_normal((n, n))
        graded = rows[:, None] * a * cols
        b = rows * rng.standard_normal(n)
        matrix = Matrix(ops, ops.xp.asarray(graded), GENERAL, None, FP32, pivoting="butterfly")
        found = solve_on_ladder(matrix, ops.xp.asarray(b[:, None]), Options(), first=FP32)
        assert found.report.rungs[0].method == "butterfly LU + classical"
        x = host(found.x)[:, 0]
        r = abs(b - graded @ x) / (abs(graded) @ abs(x) + abs(b))
        assert r.max() <= 10 * np.sqrt(n) * FP64.unit_roundoff


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_entries_of_any_size(ops, rng, size):
    """Which need no scaling in fp32, but are not of the size of the padding."""
    a = size * rng.standard_normal((150, 150))
    found, x, b = climb(ops, a, FP32)
    assert [r.method for r in found.report.rungs] == ["butterfly LU + classical"]
    assert backward_error(a, x, b).max() <= np.sqrt(150) * FP64.unit_roundoff


def spoiled(ops, n=300):
    """A such that the leading block of U^T A V is zero up to rounding, with U and V of that order.

    Its rows and columns need no scaling: their largest entries lie in [1/2, 1).
    """
    a = np.random.default_rng(3).uniform(-1, 1, (n, n))
    left, right = (dense(host(x)) for x in butterflies(ops, n))
    block = np.zeros((n, n))
    block[:SIZE, :SIZE] = (left.T @ a @ right)[:SIZE, :SIZE]
    a = (a - np.linalg.solve(left.T, block) @ np.linalg.inv(right)) / 2
    for axis in (0, 1):
        largest = abs(a).max(axis=axis)
        assert largest.min() >= 0.5
        assert largest.max() < 1
    assert abs((left.T @ a @ right)[:SIZE, :SIZE]).max() < 1e-12
    return a


@pytest.mark.parametrize("fmt", [FP16X2, FP32], ids=str)
def test_a_failure_climbs(ops, fmt):
    """To pivots, and the report says so: in the next format, but not as far as fp64."""
    a = spoiled(ops)
    found, x, b = climb(ops, a, fmt)
    first, *_, last = found.report.rungs
    assert first[:2] == (fmt.name, "butterfly LU + classical")
    assert first.outcome != "converged"
    assert found.ascent.rung == Rung(FP32, LU)
    assert found.status is Status.CONVERGED
    assert (last.method.split(" + ")[0], last.outcome) == ("LU", "converged")
    assert backward_error(a, x, b).max() <= np.sqrt(len(a)) * FP64.unit_roundoff


def test_sparse_matrices_may_be_too_sparse(ops):
    """Of a permutation, sixteen entries a row are no protection against singular blocks."""
    a = needs_pivots("permutation")
    found, x, b = climb(ops, a, FP32)
    assert [r.method for r in found.report.rungs] == ["butterfly LU + classical", "LU + classical"]
    assert found.status is Status.CONVERGED
    assert backward_error(a, x, b).max() <= np.sqrt(len(a)) * FP64.unit_roundoff


def test_another_seed_would_not_fail(ops):
    a = spoiled(ops)
    failed, good = (butterfly_lu(ops, working_copy(ops, a), 300, FP32, seed=s) for s in (0, 1))
    assert failed.growth(1.0) > 1e5 > 1e3 > good.growth(1.0)


def test_a_breakdown_climbs(ops, rng, monkeypatch):
    """Factors that are said to be of no use are not tried."""
    monkeypatch.setattr("mplinalg.factor.butterfly.ButterflyFactors.is_usable", False)
    found, *_ = climb(ops, rng.standard_normal((40, 40)), FP32)
    assert found.report.rungs[0] == ("fp32", BUTTERFLY, "broke down")
    assert found.ascent.rung == Rung(FP32, LU)


@pytest.mark.parametrize("fmt", [FP16X2, FP32], ids=str)
def test_singular(ops, rng, fmt):
    n = 150
    a = rng.standard_normal((n, n))
    a[:, 17] = 0
    with pytest.raises(LinAlgError, match="singular"):
        climb(ops, a, fmt)
    with pytest.raises(LinAlgError, match="singular"):
        climb(ops, np.zeros((n, n)), fmt)
    a = rng.standard_normal((n, n))
    a[:, 17] = a[:, 3]
    found, *_ = climb(ops, a, fmt)
    assert found.status is Status.ILL_CONDITIONED
    assert "ill-conditioned" in found.message
    # of low rank, and a right-hand side in its range: x exists, and is not to be believed
    low = np.outer(rng.standard_normal(n), rng.standard_normal(n)) + np.diag(np.arange(n) > 3)
    found, *_ = climb(ops, low @ low, fmt)
    assert found.status is Status.ILL_CONDITIONED


def test_nan(ops, rng):
    a = rng.standard_normal((150, 150))
    a[3, 140] = np.nan
    with pytest.raises(ValueError, match="infs or NaNs"):
        climb(ops, a, FP32)
    found, *_ = climb(ops, a, FP32, check=False)
    assert not found.status.is_success
    assert found.report.rungs[0][1:] == (BUTTERFLY, "broke down")


# -- which rungs ---------------------------------------------------------------------------------


def rungs(ops, n, first, *, pivoting=None, dtype=float, structure=GENERAL, factors=None, **options):
    a = ops.xp.eye(n, dtype=dtype)
    triangle = None if structure == GENERAL else "L"
    matrix = Matrix(ops, a, structure, triangle, first, pivoting=pivoting)
    return [(r.format.name, r.method) for r in rungs_of(matrix, first, Options(**options), factors)]


def test_rungs_where_it_is_asked_for():
    ops, ask = ops_for(), {"pivoting": "butterfly"}
    rest = [("fp64", LU), ("fp64", QR)]
    assert rungs(ops, 40, FP16, **ask) == [("fp16", BUTTERFLY), ("fp32", LU), *rest]
    # fp64 is a long way up
    assert rungs(ops, 40, FP32, **ask) == [("fp32", BUTTERFLY), ("fp32", LU), *rest]
    pinned = rungs(ops, 40, FP16, precision=FP16, **ask)
    assert pinned == [("fp16", BUTTERFLY), ("fp16", LU), ("fp32", LU), *rest]
    assert rungs(ops, 40, FP64, **ask) == rest
    for sure in ({"fallback": False}, {"refine": None}):
        assert rungs(ops, 40, FP16, **sure, **ask) == [("fp16", LU), ("fp32", LU), *rest]
    assert rungs(ops, 40, FP16, dtype=complex, **ask)[0] == ("fp16", LU)


def test_rungs_where_nothing_is_said(ops):
    """The backend has its preference, the format has to be fine enough, and factors are kept."""
    is_device = ops.name == "cupy"
    assert ops.prefers_butterfly == is_device
    found = [method for _, method in rungs(ops, 200, FP16)]
    assert (found[0] == BUTTERFLY) == is_device
    assert found.count(BUTTERFLY) == is_device
    if not is_device:
        return
    rest = [("fp32", LU), ("fp64", LU), ("fp64", QR)]
    assert rungs(ops, 200, FP16) == [("fp16", BUTTERFLY), ("fp16x2", LU), *rest]
    # 300 is more than bf16 bears
    assert rungs(ops, 300, BF16)[:3] == [("bf16", LU), ("fp16", BUTTERFLY), ("fp16x2", LU)]
    for pivoting in ("partial", "tournament"):
        assert rungs(ops, 200, FP16, pivoting=pivoting)[0] == ("fp16", LU)

    class Kept:
        method = BUTTERFLY

    assert rungs(ops, 200, FP32, factors=Kept())[0] == ("fp32", BUTTERFLY)
    Kept.method = "LU"
    assert rungs(ops, 200, FP32, factors=Kept())[:2] == [("fp32", LU), ("fp64", LU)]


def test_without_its_kernels_a_device_pivots(monkeypatch):
    """And says so, once."""
    with library("stand-in") as cupy:
        from mplinalg.kernels.cuda import fallbacks, loader

        def load(name):
            raise loader.KernelUnavailable(f"{name} was taken away")

        fallbacks.forget()
        monkeypatch.setattr(loader, "load", load)
        ops = ops_for(cupy.zeros(1))
        with pytest.warns(LinAlgWarning, match="block_lu_pivoted<128> was taken away"):
            assert not ops.prefers_butterfly
        assert rungs(ops, 200, FP16)[0] == ("fp16", LU)
        fallbacks.forget()
