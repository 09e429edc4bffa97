"""qr and QR: what SciPy returns; Q orthonormal to working precision whatever the route."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import scipy.linalg

from mplinalg.dense import qr as module
from mplinalg.dense.qr import QR, qr
from mplinalg.errors import LinAlgWarning
from mplinalg.kernels.cpu import lapack
from mplinalg.precision import working_format
from mplinalg.report import SolveReport, Status

DTYPES = ["f", "d", "F", "D"]
PINNED = ["fp16", "bf16", "tf32", "fp16x2", "fp32"]
LOSS = 30.0


@pytest.fixture
def fast(monkeypatch):
    """Small matrices take the route of large ones."""
    monkeypatch.setattr(module, "_LEAST_WORK", 0)
    monkeypatch.setattr(module, "_LEAST_HOUSEHOLDER", 0)
    monkeypatch.setattr(module, "_LEAST_SQUARE", 0)
    monkeypatch.setattr(module, "_TALL", 1)
    monkeypatch.setattr(lapack, "geqrt_block", lambda n: 32)


def random(rng, shape, dtype="d", order="C"):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a, dtype=dtype, order=order)


def with_cond(rng, m, n, cond, dtype="d"):
    u, _ = np.linalg.qr(random(rng, (m, n), "D" if np.dtype(dtype).kind == "c" else "d"))
    v, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return ((u * np.geomspace(1, 1 / cond, n)) @ v).astype(dtype)


def check(a, q, r, cond=None):
    """Q^H Q = I, Q R = A and the R of SciPy."""
    m, n = a.shape
    u = working_format(a.dtype).unit_roundoff
    expected_q, expected_r = scipy.linalg.qr(a, mode="economic")
    assert q.shape == expected_q.shape
    assert r.shape == expected_r.shape
    assert q.dtype == r.dtype == a.dtype
    bound = LOSS * max(m, n) * u
    assert np.linalg.norm(q.conj().T @ q - np.eye(q.shape[1])) <= bound
    scale = np.abs(a).max() or 1.0
    assert np.linalg.norm((a - q @ r) / scale) <= bound * np.linalg.norm(a / scale)
    assert not np.tril(r, -1).any()
    cond = np.linalg.cond(a / scale) if cond is None else cond
    assert np.linalg.norm((r - expected_r) / scale) <= bound * cond * np.linalg.norm(a / scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("shape", [(2, 1), (9, 4), (33, 32), (200, 63), (131, 130)])
@pytest.mark.parametrize("cond", [1.0, 10.0, 200.0])
@pytest.mark.parametrize("most", [0.0, np.inf])
@pytest.mark.usefixtures("fast")
def test_economic(rng, dtype, order, shape, cond, most, monkeypatch):
    """By Householder QR, and by CholeskyQR."""
    monkeypatch.setattr(module, "_MOST_CONDITION", most)
    a = np.asarray(with_cond(rng, *shape, cond, dtype), order=order)
    kept = a.copy()
    q, r = qr(a, mode="economic")
    check(a, q, r, cond)
    assert np.array_equal(a, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("cond", [1.0, 3.0, 10.0, 100.0, 1e3])
@pytest.mark.usefixtures("fast")
def test_q_is_as_orthonormal_as_that_of_householder(rng, dtype, order, cond, monkeypatch):
    """Also where one pass of CholeskyQR leaves far more than rounding errors."""
    monkeypatch.setattr(module, "_MOST_CONDITION", np.inf)
    a = np.asarray(with_cond(rng, 900, 300, cond, dtype), order=order)
    q, r = qr(a, mode="economic")

    def distance(q):
        return np.linalg.norm(q.conj().T.astype("D") @ q - np.eye(300))

    assert distance(q) <= 3 * distance(scipy.linalg.qr(a, mode="economic")[0])
    u = working_format(dtype).unit_roundoff
    assert np.linalg.norm(a - q @ r) <= LOSS * np.sqrt(300) * u * np.linalg.norm(a)


@pytest.mark.parametrize("mode", ["full", "economic", "r", "raw", "qr"])
@pytest.mark.parametrize("shape", [(90, 40), (40, 90), (70, 70), (64, 1), (1, 64)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
def test_block_reflectors(rng, mode, shape, dtype, order, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_HOUSEHOLDER", 0)
    monkeypatch.setattr(module, "_LEAST_SQUARE", 0)
    monkeypatch.setattr(lapack, "geqrt_block", lambda n: 16)
    a = random(rng, shape, dtype, order)
    kept = a.copy()
    ours, theirs = qr(a, mode=mode), scipy.linalg.qr(a, mode=mode)
    assert np.array_equal(a, kept)
    assert len(ours) == len(theirs)
    u = working_format(dtype).unit_roundoff

    def same(p, q):
        assert p.dtype == q.dtype
        assert p.shape == q.shape
        assert np.linalg.norm(p - q) <= LOSS * max(shape) * u * max(np.linalg.norm(q), 1)

    if mode == "raw":
        same(np.triu(ours[0][0]), np.triu(theirs[0][0]))
        same(ours[0][1], theirs[0][1])
        m, k = shape[0], min(shape)
        full = np.eye(m, dtype=dtype)
        for i in reversed(range(k)):  # Q = H_1 H_2 ...
            v = np.concatenate([np.zeros(i), [1], ours[0][0][i + 1 :, i]])
            full -= ours[0][1][i] * np.outer(v, v.conj() @ full)
        q = full[:, :k]
    elif mode != "r":
        q = ours[0]
        assert np.linalg.norm(q.conj().T @ q - np.eye(q.shape[1])) <= LOSS * max(shape) * u
    same(ours[-1], theirs[-1])
    assert not np.tril(ours[-1], -1).any()
    if mode != "r":
        assert np.linalg.norm(a - q @ ours[-1]) <= LOSS * max(shape) * u * np.linalg.norm(a)


@pytest.mark.parametrize("pinned", PINNED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pinned(rng, pinned, dtype):
    a = with_cond(rng, 300, 96, 5.0, dtype)
    q, r, report = qr(a, mode="economic", precision=pinned, full_output=True)
    check(a, q, r, 5.0)
    if pinned != "fp32" or dtype in "dD":
        assert report.precision == pinned
        assert report.status is Status.CONVERGED
        u = working_format(dtype).unit_roundoff
        assert report.forward_error_bound <= 30 * np.sqrt(96) * u
        assert report.backward_error <= LOSS * 300 * u
        assert 1e-3 < report.rcond <= 1
        assert report.workspace_bytes >= r.nbytes


@pytest.mark.parametrize("cond", [1.0, 1e4, 1e6, 1e9, 1e14, 1e20])
@pytest.mark.usefixtures("fast")
def test_ill_conditioned(rng, cond, monkeypatch):
    """Householder QR is taken without trying where it is foreseen, and else where it must be."""
    a = with_cond(rng, 240, 60, cond)
    q, r, report = qr(a, mode="economic", full_output=True)
    check(a, q, r, 1e16 if cond > 1e8 else cond)
    assert (report.status is Status.DIRECT) == (cond > 1.0)
    monkeypatch.setattr(module, "_MOST_CONDITION", np.inf)
    q, r, report = qr(a, mode="economic", full_output=True)
    check(a, q, r, 1e16 if cond > 1e8 else cond)
    assert (report.status is Status.DIRECT) == (cond > 1e7)
    assert report.rungs[0].method.startswith("gram")


MATRICES = {
    "zero": np.zeros((12, 4)),
    "identity": np.eye(12, 4),
    "triangle": np.triu(np.arange(1.0, 49.0).reshape(12, 4)),
    "rank one": np.ones((12, 4)),
    "zero column": np.arange(48.0).reshape(12, 4) * [1, 0, 1, 1],
    "huge": np.random.default_rng(1).standard_normal((40, 9)) * 1e300,
    "tiny": np.random.default_rng(1).standard_normal((40, 9)) * 1e-300,
    "graded": np.random.default_rng(1).standard_normal((40, 9)) * np.geomspace(1, 1e-12, 9),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("dtype", ["d", "D"])
@pytest.mark.usefixtures("fast")
def test_special_matrices(name, dtype):
    a = MATRICES[name].astype(dtype)
    q, r = qr(a, mode="economic")
    check(a, q, r, 1e3)


@pytest.mark.parametrize("mode", ["full", "economic", "r", "raw", "qr"])
@pytest.mark.parametrize("pivoting", [False, True])
@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (4, 4), (1, 1), (0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", ["f", "D", "i"])
def test_other_modes_are_scipys(rng, mode, pivoting, shape, dtype):
    a = (9 * random(rng, shape, "D" if dtype == "D" else "d")).astype(dtype)
    ours = qr(a, mode=mode, pivoting=pivoting)
    # SciPy before 1.17 leaves an empty matrix of integers what it is
    theirs = scipy.linalg.qr(a.astype(float) if dtype == "i" else a, mode=mode, pivoting=pivoting)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)

    def flat(parts):
        return [x for p in parts for x in (flat(p) if isinstance(p, tuple) else [p])]

    assert len(ours) == len(theirs)
    for p, q in zip(flat(ours), flat(theirs), strict=True):
        assert p.dtype == q.dtype
        if 0 not in shape:
            assert np.array_equal(p, q)
        assert p.shape == q.shape
    with_report = qr(a, mode=mode, pivoting=pivoting, full_output=True)
    assert isinstance(with_report[-1], SolveReport)
    assert len(with_report) == len(ours) + 1


@pytest.mark.parametrize("batch", [(2,), (2, 3), (0,)])
@pytest.mark.parametrize("mode", ["full", "economic", "r", "raw"])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (120, 30)])
@pytest.mark.usefixtures("fast")
def test_a_batch_is_a_loop(rng, batch, mode, shape):
    a = random(rng, (*batch, *shape))
    ours = qr(a, mode=mode)
    for i in np.ndindex(batch):
        one = qr(a[i], mode=mode)
        assert np.array_equal(ours[-1][i], one[-1])
        if mode == "raw":
            assert np.array_equal(ours[0][0][i], one[0][0])
            assert np.array_equal(ours[0][1][i], one[0][1])
    k = shape[0] if mode in ("full", "r") else min(shape)
    assert ours[-1].shape == (*batch, k, shape[1])


@pytest.mark.usefixtures("fast")
def test_layouts(rng):
    a = random(rng, (150, 40))
    for view in (a[::-1], a[:, ::-1], np.repeat(a, 2, 1)[:, ::2], a.astype(">f8")):
        check(np.array(view, float), *qr(view, mode="economic"))
    assert np.allclose(qr(a.tolist(), mode="economic")[1], qr(a, mode="economic")[1])
    a.flags.writeable = False
    check(a, *qr(a, mode="economic"))


@pytest.mark.parametrize(
    ("a", "keywords", "match"),
    [(np.ones(3), {}, "2-D"), (np.ones((3, 2)), {"mode": "thin"}, "Mode argument"),
     (np.full((3, 2), np.nan), {}, "infs or NaNs"), (np.ones((3, 2)), {"precision": "fp8"}, "fp16"),
     (np.ones((3, 2)), {"lwork": 2}, "lwork"), (np.ones((3, 2), object), {}, "object")],
)  # fmt: skip
def test_bad_input(a, keywords, match):
    with pytest.raises(ValueError, match=match):
        qr(a, **keywords)


@pytest.mark.usefixtures("fast")
def test_unchecked_nan_gives_nan():
    a = np.ones((40, 4))
    a[3, 2] = np.nan
    _, r, report = qr(a, mode="economic", check_finite=False, full_output=True)
    assert np.isnan(r).any()
    assert report.status is not Status.CONVERGED


def test_a_pinned_format_that_cannot_deliver_is_reported(rng):
    a = with_cond(rng, 200, 80, 1e9)
    with pytest.warns(LinAlgWarning, match="fp16"):
        q, r = qr(a, mode="economic", precision="fp16")
    check(a, q, r, 1e9)
    for keywords in ({"mode": "full"}, {"mode": "economic", "pivoting": True}, {"mode": "r"}):
        with pytest.warns(LinAlgWarning, match="fp32"):
            qr(a, precision="fp32", **keywords)
    with pytest.warns(LinAlgWarning, match="fp32"):
        qr(a.T, precision="fp32", mode="economic")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qr(a, mode="economic", precision="fp64")


# -- the factor object ----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", *PINNED])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 3), (200, 70), (70, 70)])
def test_factors_solve(rng, precision, dtype, shape):
    a, b = with_cond(rng, *shape, 8.0, dtype), random(rng, (shape[0], 3), dtype)
    u = working_format(dtype).unit_roundoff
    factors = QR(a, precision)
    expected = scipy.linalg.lstsq(a, b)[0]
    for k in range(2):
        x = factors.solve(b)
        assert x.dtype == a.dtype
        assert np.linalg.norm(x - expected) <= LOSS * shape[0] * u * 8**2 * np.linalg.norm(expected)
        y, report = factors.solve(b[:, k], full_output=True)
        assert y.shape == (shape[1],)
        assert report.status is Status.CONVERGED
        assert isinstance(report.backward_error, float)
    if precision != "auto":
        assert factors.precision == precision
    assert 1 / 24 < factors.rcond() < 0.5
    assert factors.shape == shape


def test_factors_pickle(rng):
    a, b = random(rng, (60, 20)), random(rng, 60)
    factors = QR(a)
    again = pickle.loads(pickle.dumps(factors))
    assert np.array_equal(factors.solve(b), again.solve(b))
    assert again.rcond() == factors.rcond()
    assert str(again.report) == str(factors.report)


def test_factors_are_made_once(rng, monkeypatch):
    a = random(rng, (300, 80))
    factors, x = QR(a), scipy.linalg.lstsq(a, np.ones(300))[0]
    monkeypatch.setattr("mplinalg.refine.least_squares_ladder.factor", None)  # would fail if called
    for _ in range(3):
        assert np.allclose(factors.solve(np.ones(300)), x)


def test_factors_of_a_rank_deficient_or_wide_matrix(rng):
    for a in (np.ones((9, 4)), random(rng, (4, 9))):
        b = random(rng, (a.shape[0], 2))
        factors = QR(a)
        assert np.allclose(factors.solve(b), scipy.linalg.lstsq(a, b)[0])
        assert factors.report.status is Status.DIRECT


def test_factors_check_their_input(rng):
    factors = QR(random(rng, (9, 4)))
    with pytest.raises(ValueError, match="does not fit"):
        factors.solve(np.ones(8))
    with pytest.raises(ValueError, match="complex"):
        factors.solve(np.ones(9) * 1j)
    with pytest.raises(ValueError, match="infs or NaNs"):
        factors.solve(np.full(9, np.nan))
    with pytest.raises(ValueError, match="matrix"):
        QR(np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="refine"):
        factors.solve(np.ones(9), refine="cg")
    assert factors.solve(np.ones((9, 0))).shape == (4, 0)
