"""Householder QR in every format, reduction trees, Gram matrices, CholeskyQR."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.linalg

from mplinalg.factor.cholesky_qr import cholesky_qr, householder_signs
from mplinalg.factor.columns import to_fortran
from mplinalg.factor.gram import gram
from mplinalg.factor.qr import QRFactors, geqrf, qr
from mplinalg.factor.triangle import Triangle
from mplinalg.factor.tsqr import tsqr
from mplinalg.ops import Counters, ops_for
from mplinalg.precision import FORMATS, FP32, FP64, get_format, working_format

OPS = ops_for(np.empty(0))
SHAPES = [
    (0, 0),
    (1, 1),
    (5, 0),
    (7, 1),
    (63, 63),
    (64, 64),
    (65, 65),
    (150, 131),
    (70, 129),
    (301, 64),
]
DTYPES = ["f", "d", "F", "D"]
LOSS = 30.0  # LAPACK's threshold of a scaled error


def random(rng, shape, dtype, order="C"):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a, dtype=dtype, order=order)


def with_cond(rng, m, n, cond, dtype="d"):
    u, _ = np.linalg.qr(random(rng, (m, n), "D" if np.dtype(dtype).kind == "c" else "d"))
    v, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return ((u * np.geomspace(1, 1 / cond, n)) @ v).astype(dtype)


def error_of(a, q_times_r, u):
    """||A - Q R|| / (||A|| max(m, n) u)"""
    size = np.linalg.norm(a)
    return np.linalg.norm(a - q_times_r) / (size * max(*a.shape, 1) * u) if size else 0.0


def unit(fmt, dtype):
    return max(fmt.unit_roundoff, working_format(dtype).unit_roundoff)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMATS)
def test_a_equals_q_r(rng, shape, dtype, name):
    fmt = get_format(name)
    if name == "fp64" and dtype in "fF":
        pytest.skip("wider than the data")
    a = random(rng, shape, dtype)
    before = a.copy()
    f = qr(OPS, a, fmt)
    k = min(shape)
    r = f.r(dtype)
    full = np.zeros(shape, dtype)
    full[:k] = r
    assert error_of(a, f.apply_q(full), unit(fmt, dtype)) < LOSS
    assert np.array_equal(a, before)
    assert np.array_equal(np.tril(r, -1), np.zeros_like(r))
    eye = np.eye(shape[0], dtype=dtype)
    u = max(FP32.unit_roundoff if name != "fp64" else 0, working_format(dtype).unit_roundoff)
    back = f.apply_q(f.apply_q(eye), "C")
    assert np.linalg.norm(back - eye) <= LOSS * max(shape[0], 1) * u


@pytest.mark.parametrize("name", ["fp16", "bf16", "tf32", "fp16x2"])
def test_low_formats_do_round(rng, name):
    """Trailing updates in a format lose what that format loses, and not more."""
    fmt = get_format(name)
    a = rng.standard_normal((256, 256))
    f = qr(OPS, a, fmt)
    error = np.linalg.norm(f.apply_q(f.r("d")) - a) / np.linalg.norm(a)
    assert 0.05 * fmt.unit_roundoff < error < LOSS * fmt.unit_roundoff


@pytest.mark.parametrize("block", [1, 7, 64, 500])
def test_block_size_does_not_matter(rng, block):
    a = rng.standard_normal((90, 50))
    f = qr(OPS, a, get_format("tf32"), block=block)
    assert error_of(a, f.apply_q(np.vstack([f.r("d"), np.zeros((40, 50))])), 2.0**-11) < LOSS


def test_geqrf_works_in_place_on_a_view(rng):
    base = np.asfortranarray(rng.standard_normal((40, 30)).astype("f"))
    inside = base[3:35, 5:25]
    a = inside.copy()
    outside = base.copy()
    tau = geqrf(OPS, inside, get_format("bf16"), block=8)
    assert tau.shape == (20,)
    outside[3:35, 5:25] = inside
    assert np.array_equal(outside, base)
    assert np.allclose(np.abs(np.diag(inside)), np.abs(np.diag(np.linalg.qr(a)[1])), rtol=0.1)


@pytest.mark.parametrize("layout", ["C", "F", "rows", "columns", "reversed"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_to_fortran_copies_any_layout(rng, layout, dtype):
    big = random(rng, (80, 66), dtype)
    a = {
        "C": big, "F": np.asfortranarray(big), "rows": big[10:43], "columns": big[:, 3:40],
        "reversed": np.asfortranarray(big)[:, 5:20],
    }[layout]  # fmt: skip
    counters = Counters()
    for target in ("f", "d") if np.dtype(dtype).kind == "f" else ("F", "D"):
        out = to_fortran(OPS, a, np.dtype(target), counters)
        assert out.flags.f_contiguous
        assert np.array_equal(out, a.astype(target))
        assert not np.shares_memory(out, a)
    assert (counters.overflows, counters.underflows) == (0, 0)


def test_conversion_counts_what_the_range_loses():
    a = np.array([[1e60, 1.0], [1.0, 1e-60]])
    counters = Counters()
    with np.errstate(over="ignore"):
        to_fortran(OPS, a, np.dtype("f"), counters)
    assert (counters.overflows, counters.underflows) == (1, 1)


@pytest.mark.parametrize("name", ["fp16", "fp32", "fp64"])
@pytest.mark.parametrize("scale", [2.0**996, 2.0**-996])
def test_columns_of_any_size_are_factored(rng, name, scale):
    a = rng.standard_normal((60, 40))
    plain = qr(OPS, a, get_format(name), scale=True)
    scaled = qr(OPS, a * scale, get_format(name))
    assert scaled.counters.overflows == 0
    assert np.array_equal(scaled.qr, plain.qr)
    graded = a * np.geomspace(1e-150, 1e150, 40)
    f = qr(OPS, graded, get_format(name))
    back = f.apply_q(np.vstack([np.triu(f.qr[:40]), np.zeros((20, 40), f.qr.dtype)]))
    wanted = graded * f.scale
    columns = np.linalg.norm((back - wanted) / np.linalg.norm(wanted, axis=0), axis=0)
    assert columns.max() < LOSS * 60 * get_format(name).unit_roundoff


# -- solves ---------------------------------------------------------------------------------------


def backward(a, x, b):
    size = np.linalg.norm(a) * np.linalg.norm(x, axis=0) + np.linalg.norm(b, axis=0)
    return (np.linalg.norm(a @ x - b, axis=0) / size).max()


@pytest.mark.parametrize("trans", ["N", "T", "C"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["fp16", "fp32", "fp64"])
def test_square_solve(rng, trans, dtype, name):
    if name == "fp64" and dtype in "fF":
        pytest.skip("wider than the data")
    fmt = get_format(name)
    a = random(rng, (130, 130), dtype) + 12 * np.eye(130, dtype=dtype)
    b = random(rng, (130, 3), dtype)
    before = b.copy()
    x = qr(OPS, a, fmt).solve(b, trans)
    op = {"N": a, "T": a.T, "C": a.conj().T}[trans]
    assert x.dtype == b.dtype
    assert x.flags.f_contiguous
    assert np.array_equal(b, before)
    assert backward(op, x, b) < LOSS * 130 * unit(fmt, dtype)


def test_solve_is_stable_where_elimination_is_not():
    """Wilkinson's matrix: LU with partial pivoting grows by 2^(n-1)."""
    n = 100
    a = np.tril(-np.ones((n, n)), -1) + np.eye(n)
    a[:, -1] = 1
    b = np.linspace(-1, 1, n)[:, None]
    x = qr(OPS, a, FP64).solve(b)
    assert backward(a, x, b) < LOSS * n * FP64.unit_roundoff
    assert backward(a, np.linalg.solve(a, b), b) > 1e6 * FP64.unit_roundoff


@pytest.mark.parametrize("trans", ["N", "T", "C"])
@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e40, 1e300])
def test_right_hand_sides_of_any_size(rng, trans, scale):
    a = rng.standard_normal((50, 50))
    b = rng.standard_normal((50, 3))
    f = qr(OPS, a, FP32)
    x = f.solve(b, trans)
    mixed = np.column_stack([b[:, 0], b[:, 1] * scale, 0 * b[:, 2]])
    y = f.solve(mixed, trans)
    assert np.array_equal(x[:, 0], y[:, 0])
    assert np.linalg.norm(y[:, 1] / scale - x[:, 1]) < 1e-3 * np.linalg.norm(x[:, 1])
    assert not y[:, 2].any()
    whole = qr(OPS, a * scale, FP32)
    z = whole.solve(b * scale, trans)
    assert np.linalg.norm(z - x) < 1e-3 * np.linalg.norm(x)


def test_upcast_applies_the_factors_more_accurately(rng):
    a = rng.standard_normal((60, 60))
    b = rng.standard_normal((60, 1))
    f = qr(OPS, a, FP32)
    exact = np.linalg.solve(f.apply_q(f.r("d").astype("d")), b)
    wide = f.solve(b, upcast=True)
    assert backward(a, wide, b) < 10 * 60 * FP32.unit_roundoff
    assert exact.shape == wide.shape


def test_square_factors_know_their_condition(rng):
    a = with_cond(rng, 60, 60, 1e4)
    f = qr(OPS, a, FP32)
    norm1 = np.linalg.norm(a, 1)
    true = 1 / np.linalg.cond(a, 1)
    assert true / 3 < f.rcond(norm1, a.dtype) < 4 * true
    assert f.is_usable
    assert f.growth(np.abs(a).max()) <= np.sqrt(60) * 1.1
    singular = qr(OPS, np.zeros((4, 4)), FP64)
    assert not singular.is_usable
    assert singular.rcond(1.0, np.dtype("d")) == 0.0


def test_solve_refuses_rectangles(rng):
    with pytest.raises(ValueError, match="square"):
        qr(OPS, rng.standard_normal((5, 3)), FP64).solve(np.ones((5, 1)))


def test_solve_r_and_pickle(rng):
    a = rng.standard_normal((30, 12))
    f = pickle.loads(pickle.dumps(qr(OPS, a, FP64)))
    assert isinstance(f, QRFactors)
    b = rng.standard_normal((12, 2))
    assert np.allclose(f.r() @ f.solve_r(b), b)
    assert np.allclose(f.r().T @ f.solve_r(b, "C"), b)


@pytest.mark.parametrize("cond", [1.0, 1e3, 1e8, 1e12])
@pytest.mark.parametrize("dtype", ["d", "D"])
def test_extreme_singular_values_are_estimated_within_a_factor(rng, cond, dtype):
    a = with_cond(rng, 200, 80, cond, dtype)
    _, r = scipy.linalg.qr(a, mode="economic")
    for layout in "CF":
        t = Triangle.of(OPS, np.asarray(r, order=layout))
        s = scipy.linalg.svdvals(r)
        assert s[-1] * (1 - 1e-3) <= t.smallest <= 3 * s[-1]
        assert s[0] / 3 <= t.largest <= s[0] * (1 + 1e-12)


def test_a_singular_triangle_has_rcond_zero():
    assert Triangle.of(OPS, np.diag([1.0, 0.0, 2.0])).rcond == 0.0
    assert Triangle.of(OPS, np.zeros((3, 3))).rcond == 0.0
    assert Triangle.of(OPS, np.full((2, 2), np.nan)).rcond == 0.0
    assert Triangle.of(OPS, np.diag([1.0, 1e-200])).equilibrated() > 0.5


# -- tall matrices --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize(
    ("m", "n", "rows"),
    [(7, 7, 7), (50, 7, 7), (61, 7, 8), (300, 20, None), (97, 1, 10), (40, 0, 10)],
)
def test_tsqr(rng, dtype, order, m, n, rows):
    a = random(rng, (m, n), dtype, order)
    u = working_format(dtype).unit_roundoff
    f = tsqr(OPS, a, working_format(dtype), rows)
    q = f.apply_q(np.eye(n, dtype=dtype))
    assert q.shape == (m, n)
    assert error_of(a, q @ f.r, u) < LOSS
    assert np.linalg.norm(q.conj().T @ q - np.eye(n)) <= LOSS * max(n, 1) * u
    c = random(rng, (m, 2), dtype)
    assert np.linalg.norm(f.apply_q(c, "C") - q.conj().T @ c) <= LOSS * m * u * np.linalg.norm(c)
    assert f.workspace_bytes >= sum(node.qr.nbytes for _, node in f.leaves)
    if rows:
        assert len(f.leaves) == max(m // max(rows, n), 1)


def test_tsqr_needs_rows(rng):
    with pytest.raises(ValueError, match=r"\(3, 5\)"):
        tsqr(OPS, np.ones((3, 5)), FP64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(5, 5), (700, 30), (1100, 3), (9, 1), (4, 0)])
def test_gram(rng, dtype, order, shape):
    a = random(rng, shape, dtype, order) + (np.eye(*shape, dtype=dtype) * 5)
    for fmt in {FP32, working_format(dtype)}:
        f = gram(OPS, a, fmt)
        g = a.conj().T @ a
        assert f.info == 0
        size = np.linalg.norm(g) if g.size else 1.0
        error = np.linalg.norm(f.r.conj().T.astype(dtype) @ f.r - g)
        assert error <= LOSS * max(shape[1], 1) * unit(fmt, dtype) * size
        assert not np.tril(f.r, -1).any()


def test_gram_reports_the_minor(rng):
    a = rng.standard_normal((50, 6))
    a[:, 3] = 0
    assert gram(OPS, a, FP64).info == 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cond", [1.0, 30.0, 300.0])
@pytest.mark.parametrize(
    ("name", "method"), [("fp32", "gram"), ("fp64", "gram"), ("fp32", "qr"), ("tf32", "qr")]
)
def test_cholesky_qr_is_orthonormal_with_lapacks_signs(rng, dtype, cond, name, method):
    fmt = get_format(name)
    if name == "fp64" and dtype in "fF":
        pytest.skip("wider than the data")
    if name == "tf32" and cond > 30:
        pytest.skip("tf32 is not trusted there")
    a = with_cond(rng, 240, 75, cond, dtype)
    u = working_format(dtype).unit_roundoff
    found = cholesky_qr(OPS, a.copy(), fmt, u, method=method)
    assert found.outcome == ""
    q, r = found.q, found.r
    assert np.linalg.norm(q.conj().T @ q - np.eye(75)) <= 30 * np.sqrt(75) * u * 1.5
    assert error_of(a, q @ r, u) < LOSS
    expected = scipy.linalg.qr(a, mode="economic")[1]
    assert np.array_equal(np.sign(np.diag(r).real), np.sign(np.diag(expected).real))
    assert np.linalg.norm(r - expected) <= LOSS * 75 * u * cond * np.linalg.norm(a)


def test_cholesky_qr_refuses_what_it_cannot_do(rng):
    u = FP64.unit_roundoff
    hopeless = cholesky_qr(OPS, with_cond(rng, 90, 30, 1e10), FP64, u)
    assert hopeless.q is None
    assert hopeless.outcome
    untrusted = cholesky_qr(OPS, with_cond(rng, 90, 30, 1e6), get_format("fp16"), u, method="qr")
    assert untrusted.q is None
    ambiguous = cholesky_qr(OPS, np.eye(9, 4), FP64, u)
    assert ambiguous.q is None
    assert "signs" in ambiguous.outcome


@pytest.mark.parametrize("n", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("dtype", ["d", "D"])
def test_signs_are_those_of_geqrf(rng, n, dtype):
    a = random(rng, (n + 40, n), dtype)
    r = scipy.linalg.qr(a, mode="economic")[1]
    q = np.linalg.qr(a)[0]
    positive = q * np.sign(np.diag(q.conj().T @ a).real)
    assert np.array_equal(householder_signs(OPS, positive[:n]).real, np.sign(np.diag(r).real))
