"""LU of randomly transformed matrices: errors of the factors and of solves."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.butterfly import butterfly_lu, suits
from mplinalg.factor.scaling import Scaling, equilibrate
from mplinalg.precision import BF16, FP16, FP16X2, FP32, TF32
from mplinalg.testing import backward_error, gallery

from ..ops.suite_butterfly import SUMS, dense
from .backends import SIZE, host, ops, working_copy

__all__ = ["ops"]  # a fixture

ORDERS = [1, 2, 3, 5, 127, 128, 129, 300]
FORMATS = [FP16, BF16, TF32, FP16X2, FP32]
NAMES = [fmt.name for fmt in FORMATS]


def factors_of(f):
    """diag(P)^T L and U, in double precision."""
    lu, n = host(f.lu).astype(float), len(f.lu)
    lower, upper = np.tril(lu, -1), np.triu(lu)
    for place, start in enumerate(range(0, n, SIZE)):
        k = slice(start, min(start + SIZE, n))
        width = k.stop - start
        lower[k, k] = np.linalg.inv(host(f.lower)[place, :width, :width].astype(float))
    return lower, upper


def transformed(f, a, *, size=False):
    """U^T diag(A, I) V, or that of A^T, in double precision; with magnitudes if `size`."""
    whole = np.eye(len(f.lu))
    whole[: f.n, : f.n] = a.T if f.transposed else a
    left, right = (abs(d) if size else d for d in (dense(host(x)) for x in (f.u, f.v)))
    return left.T @ whole @ right


# -- factors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_error_of_the_factors(ops, rng, fmt, order):
    """Entry by entry: of operands in every update, of sums, of inverses, and of transformation."""
    for n in ORDERS:
        a = rng.uniform(-1, 1, (n, n)).astype(np.float32)
        f = butterfly_lu(ops, working_copy(ops, a, order), n, fmt, block=SIZE)
        assert f.is_usable
        assert f.transposed == (order == "F")
        lower, upper = factors_of(f)
        wanted = transformed(f, a)
        rounding = 0 if fmt is FP32 or n <= SIZE else 2.1 * fmt.unit_roundoff
        # an inverse is as good as its block is conditioned
        spread = np.ones(len(wanted))
        for place, start in enumerate(range(0, len(wanted), SIZE)):
            k = slice(start, min(start + SIZE, len(wanted)))
            width = k.stop - start
            inverse = abs(host(f.upper)[place, :width, :width].astype(float))
            spread[k] = (inverse @ abs(upper[k, k])).sum(axis=0).max()
        size = abs(lower) @ (spread[:, None] * abs(upper))
        bound = rounding * abs(lower) @ abs(upper) + 30 * len(wanted) * 2.0**-24 * size
        bound += SUMS * 2.0**-24 * transformed(f, abs(a), size=True)
        assert (abs(lower @ upper - wanted) <= bound).all(), n


@pytest.mark.parametrize("upcast", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("fmt", [FP16, FP32], ids=str)
def test_solves(ops, rng, fmt, order, upcast):
    """A x = b and A^T x = b of scaled matrices, both in single and in double precision."""
    for n in ORDERS:
        a = rng.standard_normal((n, n)) * np.exp2(rng.integers(-9, 9, (n, 1)))
        there = ops.xp.asarray(a)
        scaling = equilibrate(ops, there)
        w = working_copy(ops, a * host(scaling.rows)[:, None] * host(scaling.cols), order)
        f = butterfly_lu(ops, w, n, fmt, scaling=scaling, block=SIZE)
        unit = FP32.unit_roundoff if n <= SIZE else fmt.unit_roundoff
        for dtype in (np.float32, np.float64):
            for trans, matrix in [("N", a), ("T", a.T), ("C", a.T)]:
                b = rng.standard_normal((n, 3)).astype(dtype)
                x = f.solve(ops.xp.asarray(b, order="F"), trans, upcast=upcast)
                assert x.dtype == dtype
                assert x.shape == b.shape
                rows, cols = (host(v) for v in (scaling.rows, scaling.cols))
                if trans != "N":
                    rows, cols = cols, rows
                # as the scaled system is solved
                scaled = rows[:, None] * matrix * cols
                error = backward_error(scaled, host(x) / cols[:, None], b * rows[:, None])
                # ORDERS of one or two blocks: entries of L U grow by less than this
                assert error.max() <= 30 * n * unit, (n, trans)


def test_columns_of_any_size(ops, rng):
    """Corrections as small as they come are not flushed, and columns do not mix."""
    n = 40
    a = rng.uniform(-1, 1, (n, n))
    f = butterfly_lu(ops, working_copy(ops, a), n, FP32)
    b = rng.standard_normal((n, 4)) * [1.0, 1e-200, 1e200, 0.0]
    x = host(f.solve(ops.xp.asarray(b, order="F")))
    assert backward_error(a, x[:, :3], b[:, :3]).max() <= 30 * n * FP32.unit_roundoff
    assert not x[:, 3].any()
    assert f.solve(ops.xp.zeros((n, 0))).shape == (n, 0)


def test_scaling_takes_no_right_hand_side_out_of_range(ops, rng):
    """Rows of size 2^-140, and a solve in single precision."""
    n = 40
    a = rng.uniform(-1, 1, (n, n))
    rows = ops.xp.full(n, 2.0**-140)
    scaling = Scaling(rows, ops.xp.ones(n))
    f = butterfly_lu(ops, working_copy(ops, a), n, FP32, scaling=scaling)
    b = rng.standard_normal((n, 2))
    x = host(f.solve(ops.xp.asarray(b, order="F")))
    error = backward_error(a, x * 2.0**140, b)
    assert error.max() <= 30 * n * FP32.unit_roundoff


def test_blocks_change_no_more_than_rounding(ops, rng):
    """A panel of all columns, by halves, and panels of one diagonal block."""
    n = 3 * SIZE + 12
    a = rng.uniform(-1, 1, (n, n)) + 6 * np.eye(n)
    found = [
        host(butterfly_lu(ops, working_copy(ops, a), n, FP32, block=block).lu)
        for block in (SIZE, 2 * SIZE, 1000)
    ]
    for other in found[1:]:
        assert abs(np.triu(other - found[0])).max() <= 1e-4 * abs(np.triu(found[0])).max()


def test_products_inside_of_panels_are_converted_when_they_are_large(ops, rng, monkeypatch):
    n = 4 * SIZE
    a = rng.uniform(-1, 1, (n, n)).astype(np.float32) + 6 * np.eye(n)
    errors = []
    for least in (2**62, 0):
        monkeypatch.setattr("mplinalg.factor.unpivoted._CONVERTS_FROM", least)
        f = butterfly_lu(ops, working_copy(ops, a), n, FP16, block=n)
        lower, upper = factors_of(f)
        error = np.linalg.norm(lower @ upper - transformed(f, a))
        errors.append(error / np.linalg.norm(abs(lower) @ abs(upper)))
    assert errors[0] <= FP16.unit_roundoff / 1000
    assert FP16.unit_roundoff / 50 <= errors[1] <= 2.1 * FP16.unit_roundoff


def test_what_is_lost_is_counted(ops, rng):
    n = 300
    a = rng.uniform(-1, 1, (n, n)) + 6 * np.eye(n)
    a[250, :] *= 1e-9  # not equilibrated: with it 16 entries of a column
    f = butterfly_lu(ops, working_copy(ops, a), n, FP16, block=SIZE)
    assert f.counters.overflows == 0
    assert butterfly_lu(ops, working_copy(ops, a), n, FP32).counters.underflows == 0
    zero = butterfly_lu(ops, working_copy(ops, np.diag(np.geomspace(1, 1e-30, n))), n, FP16,
                        block=SIZE)  # fmt: skip
    assert zero.counters.underflows > 0


def test_useless_factors(ops):
    zero = butterfly_lu(ops, working_copy(ops, np.zeros((8, 8))), 8, FP32)
    assert (zero.info, zero.is_usable, zero.rcond(1.0, np.float64)) == (1, False, 0.0)
    nan = butterfly_lu(ops, working_copy(ops, np.full((300, 300), np.nan)), 300, FP16, block=SIZE)
    assert not nan.is_usable


def test_figures_of_factors(ops, rng):
    """The condition number of A, the growth of what was transformed, bytes held."""
    n = 200
    a = gallery.randsvd(n, 1e3)
    there = ops.xp.asarray(a)
    scaling = equilibrate(ops, there)
    w = working_copy(ops, a * host(scaling.rows)[:, None] * host(scaling.cols))
    f = butterfly_lu(ops, w, n, FP32, scaling=scaling)
    true = 1 / np.linalg.cond(a, 1)
    assert 0.9 * true <= f.rcond(float(abs(a).sum(axis=0).max()), np.float64) <= 4 * true
    assert f.growth(1e9) == abs(np.triu(host(f.lu))).max()
    f.scaling = None
    assert f.growth(2.0) == abs(np.triu(host(f.lu))).max() / 2
    assert f.workspace_bytes == 4 * n * n + 2 * 2 * 4 * SIZE**2 + 2 * 8 * n


def test_the_same_call_repeats_itself(ops, rng):
    n = 140
    a = rng.standard_normal((n, n))
    first, second = (butterfly_lu(ops, working_copy(ops, a), n, FP16) for _ in range(2))
    np.testing.assert_array_equal(host(first.lu), host(second.lu))
    other = butterfly_lu(ops, working_copy(ops, a), n, FP16, seed=1)
    assert not np.array_equal(host(other.u), host(first.u))


def test_butterflies_are_for_orders_that_the_format_bears():
    assert suits(2048, FP16)
    assert not suits(2049, FP16)
    assert suits(10**6, FP16X2)
    assert not suits(300, BF16)
