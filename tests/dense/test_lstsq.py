"""lstsq: what SciPy returns, faster, and nothing falls back silently."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import scipy.linalg

from mplinalg.dense.least_squares import is_small
from mplinalg.dense.lstsq import LstsqResult, lstsq
from mplinalg.errors import LinAlgError, LinAlgWarning
from mplinalg.precision import working_format
from mplinalg.report import SolveReport, Status

from .tall import LOSS, draw, with_cond

DTYPES = ["f", "d", "F", "D"]
PINNED = ["fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"]


def same_as_scipy(a, b, cond_a, **keywords):
    """x, residues and rank agree with SciPy's, within what cond(A) lets be compared."""
    ours = lstsq(a, b, **keywords)
    theirs = scipy.linalg.lstsq(a, b)
    dtype = theirs[0].dtype
    u = working_format(dtype).unit_roundoff
    assert ours.x.dtype == dtype
    assert ours.x.shape == theirs[0].shape
    assert ours.rank == theirs[2]
    scale = LOSS * max(a.shape) * u * cond_a**2
    assert np.linalg.norm(ours.x - theirs[0]) <= scale * np.linalg.norm(theirs[0])
    squares = np.asarray(theirs[1])
    assert ours.residues.shape == squares.shape
    size = np.linalg.norm(b) ** 2
    assert np.allclose(
        ours.residues, squares, rtol=1e-3 if u > 1e-10 else 1e-9, atol=LOSS * u * size
    )
    assert np.allclose(ours.s, theirs[3], rtol=0, atol=max(LOSS, *a.shape) * u * theirs[3][0])
    return ours


# -- shapes, dtypes, layouts ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (5, 1), (7, 3), (64, 64), (401, 131), (300, 250), (211, 211), (3, 7), (90, 150)],
)
@pytest.mark.parametrize("nrhs", [None, 1, 3])
def test_shapes(rng, dtype, order, shape, nrhs):
    a = draw(rng, shape, dtype, order)
    a += np.eye(*shape, dtype=dtype) * np.sqrt(shape[1]) * 2
    b = draw(rng, shape[:1] if nrhs is None else (shape[0], nrhs), dtype)
    kept = a.copy(), b.copy()
    same_as_scipy(a, b, np.linalg.cond(a))
    assert np.array_equal(a, kept[0])
    assert np.array_equal(b, kept[1])


@pytest.mark.parametrize("pinned", PINNED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (9, 2), (150, 130), (300, 65)])
def test_every_format_reaches_working_precision(rng, pinned, dtype, shape):
    if pinned == "fp64" and dtype in "fF":
        with pytest.raises(ValueError, match="wider"):
            lstsq(np.ones((3, 2), dtype), np.ones(3, dtype), precision=pinned)
        return
    a = with_cond(rng, *shape, 8.0, dtype)
    b = draw(rng, (shape[0], 2), dtype)
    ours = same_as_scipy(a, b, 8.0, precision=pinned, full_output=True)
    assert ours.report.status is Status.CONVERGED
    assert ours.report.precision == pinned
    assert (ours.report.backward_error <= LOSS * np.sqrt(shape[0]) * 1e-7).all()


LAYOUTS = {
    "negative rows": lambda a: a[::-1],
    "negative columns": lambda a: a[:, ::-1],
    "strided": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "byteswapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "list": lambda a: a.tolist(),
    "subclass": lambda a: a.view(np.matrix) if a.ndim == 2 else a,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(20, 4), (300, 150)])
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_layouts(rng, layout, shape):
    a, b = draw(rng, shape), draw(rng, (shape[0], 2))
    view = LAYOUTS[layout](a)
    expected = scipy.linalg.lstsq(np.asarray(view, dtype=float), b)
    ours = lstsq(view, b)
    assert type(ours.x) is np.ndarray
    assert np.allclose(ours.x, expected[0], rtol=1e-9, atol=1e-12)
    assert np.allclose(
        lstsq(a, LAYOUTS[layout](b)).x.sum(),
        scipy.linalg.lstsq(a, np.asarray(LAYOUTS[layout](b), float))[0].sum(),
    )


def test_read_only(rng):
    a, b = draw(rng, (300, 150)), draw(rng, 300)
    a.flags.writeable = b.flags.writeable = False
    assert lstsq(a, b, overwrite_a=True, overwrite_b=True).rank == 150


@pytest.mark.parametrize(
    ("p", "q"), [("i4", "f4"), ("f4", "f8"), ("f4", "c16"), ("f2", "f2"), ("?", "i8"), ("c8", "f4")]
)
@pytest.mark.parametrize("shape", [(6, 3), (400, 120)])
def test_mixed_dtypes(rng, p, q, shape):
    a = (draw(rng, shape) * 4 + 9 * np.eye(*shape)).astype(p)
    b = draw(rng, shape[0]).astype(q)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = scipy.linalg.lstsq(a, b)
    if expected[2] == shape[1]:
        ours = lstsq(a, b)
        assert ours.x.dtype == expected[0].dtype
        assert ours.residues.dtype == expected[0].dtype
        assert ours.s.dtype == expected[3].dtype


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("nrhs", [None, 2, 0])
def test_empty(shape, nrhs):
    a = np.zeros(shape)
    b = np.ones(shape[:1] if nrhs is None else (shape[0], nrhs))
    for full in (False, True):
        ours, theirs = lstsq(a, b, full_output=full), scipy.linalg.lstsq(a, b)
        assert len(ours) == 4 + full
        for p, q in zip(ours[:4], theirs, strict=True):
            assert np.array_equal(p, q)
            assert np.shape(p) == np.shape(q)


def test_no_right_hand_sides(rng):
    ours = lstsq(draw(rng, (300, 130)), np.empty((300, 0)))
    assert ours.x.shape == (130, 0)
    assert ours.residues.shape == (0,)
    assert ours.rank == 130
    assert ours.s.shape == (130,)


BATCHES = [((2,), ()), ((2, 1), (3,)), ((), (2,)), ((0,), ())]


@pytest.mark.parametrize(("first", "second"), BATCHES)
@pytest.mark.parametrize("core", [(9, 4), (4, 9), (4, 4), (260, 140), (5, 0), (0, 5)])
def test_a_batch_is_a_loop(rng, first, second, core):
    a, b = draw(rng, (*first, *core)), draw(rng, (*second, core[0], 2))
    ours = lstsq(a, b, full_output=True)
    batch = np.broadcast_shapes(first, second)
    a, b = np.broadcast_to(a, (*batch, *core)), np.broadcast_to(b, (*batch, core[0], 2))
    assert ours.x.shape == (*batch, core[1], 2)
    assert ours.s.shape == (*batch, min(core))
    assert np.shape(ours.rank) == batch
    for i in np.ndindex(batch):
        one = lstsq(a[i], b[i])
        assert np.array_equal(ours.x[i], one.x)
        assert np.array_equal(ours.residues[i], one.residues)
        assert np.array_equal(ours.s[i], one.s)
        assert ours.rank[i] == one.rank
    vector = lstsq(a, np.ones(core[0]))
    assert vector.x.shape == (*batch, core[1])
    assert vector.residues.shape == ((*batch, 0) if core[0] <= core[1] else batch)


# -- the result -----------------------------------------------------------------------------------


def test_result_is_the_tuple(rng):
    a, b = draw(rng, (300, 130)), draw(rng, (300, 2))
    ours = lstsq(a, b)
    x, residues, rank, s = ours
    assert x is ours[0] is ours[-4] is ours.x
    assert len(ours) == 4
    assert ours[1:3] == (residues, rank) or np.array_equal(ours[1:3][0], residues)
    assert [type(v) for v in ours[:3]] == [np.ndarray, np.ndarray, np.int64]
    assert s is ours[3]
    with pytest.raises(IndexError):
        ours[4]
    assert ours == lstsq(a, b)
    assert ours != lstsq(a, 2 * b)
    assert ours != (1, 2, 3)
    assert ours == tuple(ours)
    assert "rank=" in repr(ours)
    copy = pickle.loads(pickle.dumps(lstsq(a, b)))
    assert isinstance(copy, LstsqResult)
    assert copy == ours
    with_report = lstsq(a, b, full_output=True)
    assert len(with_report) == 5
    assert isinstance(with_report[4], SolveReport)
    assert with_report[4] is with_report.report
    assert str(with_report.report)


def test_singular_values_are_computed_when_read(rng, monkeypatch):
    a, b = draw(rng, (300, 130)), draw(rng, 300)
    calls = []
    original = scipy.linalg.svdvals
    monkeypatch.setattr(
        scipy.linalg, "svdvals", lambda *p, **k: calls.append(1) or original(*p, **k)
    )
    ours = lstsq(a, b)
    expected = original(a)
    _ = ours[0], ours[:3], ours[-2], len(ours), repr(ours)
    assert not calls
    a[:] = 0  # the caller's matrix may change meanwhile
    assert np.allclose(ours[3], expected, rtol=0, atol=300 * 2.0**-53 * expected[0])
    _ = ours.s, ours[3]
    assert len(calls) == 1


def test_small_problems_are_scipys_bit_for_bit(rng):
    a, b = draw(rng, (60, 10)), draw(rng, 60)
    assert is_small(60, 10)
    assert is_small(256, 256)
    assert not is_small(400, 130)
    assert not is_small(280, 280)
    for keywords in ({}, {"full_output": True}):
        ours = lstsq(a, b, **keywords)
        assert np.array_equal(ours.x, scipy.linalg.lstsq(a, b)[0])


# -- bad input ------------------------------------------------------------------------------------


BAD = {
    "1-D a": (np.ones(5), np.ones(5)),
    "rows": (np.ones((5, 3)), np.ones(4)),
    "rows, batch": (np.ones((2, 5, 3)), np.ones((2, 5))),
    "nan": (np.full((5, 3), np.nan), np.ones(5)),
    "inf": (np.ones((5, 3)), np.full(5, np.inf)),
    "object": (np.ones((5, 3), object), np.ones(5)),
    "scalar b": (np.ones((5, 3)), np.float64(1.0)),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("full", [False, True])
def test_bad_input(case, full):
    a, b = BAD[case]
    with pytest.raises(ValueError):
        lstsq(a, b, full_output=full)
    with pytest.raises((ValueError, TypeError, IndexError)):
        scipy.linalg.lstsq(a, b)


@pytest.mark.parametrize(
    "keywords",
    [
        {"precision": "fp8"},
        {"refine": "qr"},
        {"tol": -1.0},
        {"tol": 2.0},
        {"lapack_driver": "gels"},
    ],
)
def test_bad_options(keywords):
    with pytest.raises(ValueError):
        lstsq(np.ones((3, 2)), np.ones(3), **keywords)


@pytest.mark.parametrize("shape", [(6, 3), (300, 130)])
@pytest.mark.parametrize("where", [0, 1])
def test_unchecked_nan_does_not_pass_for_an_answer(rng, shape, where):
    args = [draw(rng, shape), draw(rng, shape[0])]
    args[where].flat[3] = np.nan
    with pytest.warns(LinAlgWarning, match="NaN"):
        ours = lstsq(*args, check_finite=False, full_output=True)
    assert np.isnan(ours.x).all()
    assert ours.report.status is Status.STAGNATED
    with pytest.raises(ValueError, match="infs or NaNs"):
        lstsq(*args)


# -- nothing falls back silently ------------------------------------------------------------------


@pytest.mark.parametrize("pinned", ["fp16", "bf16", "fp32"])
def test_a_pinned_format_that_cannot_deliver_is_reported(rng, pinned):
    a, b = with_cond(rng, 300, 130, 1e9), draw(rng, 300)
    with pytest.warns(LinAlgWarning, match=pinned):
        ours = lstsq(a, b, precision=pinned, full_output=True)
    assert ours.report.precision == "fp64"
    assert ours.report.rungs[0].format == pinned
    assert len(ours.report.rungs) > 1
    with pytest.raises(LinAlgError, match=pinned):
        lstsq(a, b, precision=pinned, fallback=False)


@pytest.mark.parametrize("keywords", [{"lapack_driver": "gelss"}, {}])
def test_a_pinned_format_where_there_is_none_is_reported(rng, keywords):
    a = draw(rng, (300, 130) if keywords else (130, 300))
    with pytest.warns(LinAlgWarning, match="cannot be used"):
        lstsq(a, np.ones(a.shape[0]), precision="fp32", **keywords)
    with pytest.raises(LinAlgError):
        lstsq(a, np.ones(a.shape[0]), precision="fp32", fallback=False, **keywords)


def test_auto_never_warns(rng):
    for cond in (1e1, 1e5, 1e9, 1e13, 1e20):
        a, b = with_cond(rng, 300, 130, cond), draw(rng, 300)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isfinite(lstsq(a, b).x).all()
            lstsq(a, b, fallback=False)


def test_refine_none_solves_once(rng):
    a, b = with_cond(rng, 300, 130, 10.0), draw(rng, 300)
    ours = lstsq(a, b, precision="fp32", refine=None, full_output=True)
    assert ours.report.status is Status.DIRECT
    exact = lstsq(a, b).x
    error = np.linalg.norm(ours.x - exact) / np.linalg.norm(exact)
    assert 1e-12 < error < 1e-3


def test_report(rng):
    a, b = with_cond(rng, 900, 160, 10.0), draw(rng, (900, 2))
    report = lstsq(a, b, full_output=True).report
    assert report.backward_error.shape == (2,)
    assert report.rungs[0].method.startswith("gram")
    assert report.rungs[-1].outcome == "converged"
    assert report.iterations >= 1
    assert {"factor", "solve", "total"} <= set(report.seconds)
    assert report.seconds["total"] >= report.seconds["factor"]
    assert report.workspace_bytes >= 3 * 160 * 160 * 8
    assert report.to_dict()["status"] == "converged"
    assert isinstance(lstsq(a, b[:, 0], full_output=True).report.backward_error, float)
    batch = lstsq(np.stack([a, a]), b, full_output=True).report
    assert batch.backward_error.shape == (2, 2)
    assert len(batch.members) == 2
