"""batched.qr: the factors of a loop of SciPy's, whatever the shape, the size and the neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, Status
from mplinalg.batched import Ragged, qr
from mplinalg.kernels.cpu.batched import qr as kernels
from mplinalg.kernels.cpu.batched import qr_stacks, threads
from mplinalg.precision import working_format

# kernels are compiled for each dtype
DTYPES = ["d", "F", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in "fD")]
MODES = ["reduced", "complete", "r"]
SCIPY = {"reduced": "economic", "complete": "full"}
SHAPES = [(1, 1), (2, 2), (3, 3), (4, 4), (7, 3), (3, 7), (1, 5), (5, 1), (20, 4), (4, 20), (9, 8)]
LOSS = 30.0


def normal(rng, shape, dtype="d"):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return a.astype(dtype)


def adjoint(a):
    return np.swapaxes(a, -1, -2).conj()


def norms(a):
    return np.sqrt((np.abs(a) ** 2).sum(axis=(-2, -1)))


def check(a, q, r, mode="reduced"):
    """A = Q R with Q orthonormal and R upper triangular, each member scaled to size 1."""
    m, n = a.shape[-2:]
    columns, rows = (m, m) if mode == "complete" else (min(m, n), min(m, n))
    assert q.shape == (*a.shape[:-1], columns)
    assert r.shape == (*a.shape[:-2], rows, n)
    assert q.dtype == r.dtype == a.dtype
    assert q.flags.c_contiguous
    assert r.flags.c_contiguous
    bound = LOSS * m * working_format(a.dtype).unit_roundoff
    if a.size == 0:
        return
    wide = np.result_type(a, "d")
    size = np.abs(a).max(axis=(-2, -1), keepdims=True)
    size = np.where(size > 0, size, 1)
    scaled, factor = a.astype(wide) / size, r.astype(wide) / size
    assert np.all(norms(adjoint(q.astype(wide)) @ q - np.eye(columns)) <= bound)
    assert np.all(norms(scaled - q.astype(wide) @ factor) <= bound * norms(scaled))
    assert not np.tril(r, -1).any()


def check_signs(a, r):
    """The diagonal of R is real and has the signs of LAPACK's."""
    for index in np.ndindex(a.shape[:-2]):
        expected = np.diagonal(scipy.linalg.qr(a[index], mode="r")[0])
        found = np.diagonal(r[index])
        k = min(a.shape[-2:])
        assert np.array_equal(np.sign(found.real), np.sign(expected[:k].real))
        assert not found.imag.any()


def check_same(a, first, second):
    """Two R of A are what two backward stable methods find."""
    bound = LOSS * a.shape[-2] * working_format(a.dtype).unit_roundoff * np.linalg.cond(a)
    assert np.all(norms(first - second) <= bound * norms(a))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(rng, shape, dtype, mode):
    a = normal(rng, (19, *shape), dtype)
    kept = a.copy()
    if mode == "r":
        r = qr(a, mode="r")
        check_same(a, r, qr(a)[1])
    else:
        q, r = qr(a, mode=mode)
        check(a, q, r, mode)
        assert all(map(np.array_equal, qr(a, mode=SCIPY[mode]), (q, r)))
    check_signs(a, r)
    assert np.array_equal(a, kept)


@pytest.mark.parametrize("n", [*range(5, 25), 33, 64, 65])
def test_orders(rng, n):
    for dtype in "dF" if n in (5, 8, 17, 33) else "d":
        a = normal(rng, (11 if n < 30 else 1 + n % 4, n, n), dtype)
        q, r = qr(a)
        check(a, q, r)
        check_signs(a, r)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_lapack_takes_what_no_cache_holds(rng, dtype, mode, monkeypatch):
    stacks = [normal(rng, (5, *shape), dtype) for shape in [(9, 4), (4, 9), (7, 7), (40, 33)]]
    tiles = [qr(a, mode=mode) for a in stacks]
    monkeypatch.setattr(qr_stacks, "_LARGEST_TILE", 0)
    for a, found in zip(stacks, tiles, strict=True):
        again = qr(a, mode=mode)
        if mode != "r":
            check(a, *again, mode)
            found, again = found[1], again[1]
        check_signs(a, again)
        check_same(a, found, again)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 16, 17, 64, 67])
@pytest.mark.parametrize("shape", [(3, 2), (6, 6)])
def test_batches(rng, count, shape):
    """What is in a batch has no influence on a member, nor how many there are."""
    a = normal(rng, (67, *shape))
    whole, some = qr(a), qr(a[:count])
    assert np.array_equal(some[0], whole[0][:count])
    assert np.array_equal(some[1], whole[1][:count])
    shuffled = qr(a[::-1])
    assert np.array_equal(shuffled[0][::-1], whole[0])


@pytest.mark.parametrize("n", [2, 3, 6])
def test_a_hundred_thousand(rng, n):
    a = normal(rng, (100_000, n, n))
    check(a, *qr(a))


@pytest.mark.parametrize("batch", [(), (1,), (2, 3), (2, 0), (0,)])
@pytest.mark.parametrize("shape", [(4, 3), (3, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("mode", MODES)
def test_batch_dimensions_and_empty_matrices(rng, batch, shape, mode):
    a = normal(rng, (*batch, *shape))
    found, expected = qr(a, mode=mode), np.linalg.qr(a, mode=mode)
    pairs = [(found, expected)] if mode == "r" else list(zip(found, expected, strict=True))
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
    if mode != "r":
        check(a, *found, mode)
        if a.size == 0 and found[0].size:
            assert np.array_equal(found[0], np.broadcast_to(np.eye(shape[0]), found[0].shape))


@pytest.mark.parametrize("dtype", ["d", "F"])
@pytest.mark.parametrize("shape", [(3, 3), (7, 5)])
def test_layouts(rng, dtype, shape):
    a = normal(rng, (200, *shape), dtype)
    expected = qr(a)
    views = {
        "Fortran": np.asfortranarray(a),
        "members by columns": np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2),
        "backwards": a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
        "every other": np.repeat(a, 2, axis=2)[:, :, ::2],
        "two dimensions": a.reshape(2, 100, *shape),
        "wide": np.repeat(a[:, None], 3, axis=1)[:, 1],
        "other byte order": a.astype(a.dtype.newbyteorder()),
    }
    unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(dtype).reshape(a.shape)
    unaligned[...] = a
    views["unaligned"] = unaligned
    a.flags.writeable = False
    views["read-only"] = a
    for name, view in views.items():
        q, r = qr(view)
        assert np.array_equal(q.reshape(expected[0].shape), expected[0]), name
        assert np.array_equal(r.reshape(expected[1].shape), expected[1]), name
    one = np.broadcast_to(a[5], a.shape)
    assert np.array_equal(qr(one)[0], np.broadcast_to(expected[0][5], expected[0].shape))


@pytest.mark.parametrize(
    ("given", "dtype"), [("i4", "d"), ("?", "d"), ("e", "f"), ("g", "d"), ("u1", "d")]
)
def test_dtypes(given, dtype):
    a = np.array([[[2, 1], [0, 3]]]).astype(given)
    q, r = qr(a)
    assert q.dtype == r.dtype == np.dtype(dtype)
    check(a.astype(dtype), q, r)
    assert np.array_equal(r, qr(a.tolist())[1])


# -- matrices that are hard to factor -------------------------------------------------------------


def hostile(rng, m, n, dtype):
    """Matrices by name; of normal size where nothing else is said."""
    base = normal(rng, (m, n), dtype)
    real = np.dtype(dtype).type(0).real.dtype
    huge = real.type(1e300 if real == np.float64 else 1e30)
    return {
        "zero": 0 * base,
        "identity": np.eye(m, n).astype(dtype),
        "minus zero": -np.zeros((m, n), dtype),
        "triangle": np.triu(base.real).astype(dtype),
        "zero columns": base * (np.arange(n) % 2).astype(real),
        "leading zero column": base * (np.arange(n) > 0).astype(real),
        "zero rows": base * (np.arange(m) % 2).astype(real)[:, None],
        "equal columns": base[:, [0] * n],
        "rank one": (base[:, :1] @ base[:1]).astype(dtype),
        "huge": base * huge,
        "tiny": base / huge,
        "subnormal squares": base * (np.sqrt(np.finfo(real).tiny) / real.type(2.0**12)),
        "subnormal": base * np.finfo(real).tiny,
        "columns from huge to tiny": base * np.geomspace(huge, 1 / huge, n).astype(real),
        "rows from huge to tiny": base * np.geomspace(huge, 1 / huge, m).astype(real)[:, None],
        "one large number": base / huge + np.eye(m, n).astype(dtype),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 4), (4, 3), (3, 5), (20, 6), (6, 20)])
def test_hostile(rng, shape, dtype):
    matrices = hostile(rng, *shape, dtype)
    a = np.stack([*matrices.values(), normal(rng, shape, dtype)])
    q, r = qr(a)
    for k, name in enumerate(matrices):
        if name == "subnormal":  # entries have lost digits; Q has not
            gram = adjoint(q[k]) @ q[k]
            bound = LOSS * shape[0] * working_format(dtype).unit_roundoff
            assert norms(gram - np.eye(len(gram))) <= bound
            continue
        check(a[k], q[k], r[k])
        if name not in ("equal columns", "rank one", "zero rows", "rows from huge to tiny"):
            check_signs(a[k], r[k])  # of the others some are those of rounding errors
        if name in ("zero", "identity", "triangle"):
            assert np.array_equal(r[k], a[k][: len(r[k])]), name
        if name.startswith(("columns from", "one large")):  # column by column
            for j in range(shape[1]):
                column = a[k, :, [j]].T
                scaled, factor = (x / np.abs(column).max() for x in (column, r[k][:, [j]]))
                error = norms(scaled - q[k] @ factor) / norms(scaled)
                assert error <= LOSS * shape[0] * working_format(dtype).unit_roundoff


@pytest.mark.parametrize("dtype", ["d", "F"])
def test_numbers_near_the_largest_one(rng, dtype):
    a = normal(rng, (9, 20, 6), dtype)
    a[4] *= 0.9 * np.finfo(dtype).max / np.abs(a[4]).max()
    q, r = qr(a)
    gram = adjoint(q) @ q
    assert np.all(norms(gram - np.eye(6)) <= LOSS * 20 * working_format(dtype).unit_roundoff)
    others = np.delete(np.arange(9), 4)
    check(a[others], q[others], r[others])
    scaled = a[4] / a.real.dtype.type(2.0**20)
    expected = qr(scaled)[0]
    bound = LOSS * 20 * working_format(dtype).unit_roundoff * np.linalg.cond(scaled)
    assert norms(q[4] - expected) <= bound


@pytest.mark.parametrize("shape", [(3, 2), (5, 5), (4, 9)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_members_are_named_and_spoil_no_other(rng, shape, bad):
    a = normal(rng, (4, 15, *shape))
    expected = qr(a)
    places = [(0, 0), (1, 3), (3, 14)]
    for index, entry in zip(places, [(0, 0), (-1, 0), (1, -1)], strict=True):
        a[index][entry] = bad
    with pytest.raises(LinAlgError, match=r"3 of 60 members, \[\(0, 0\), \(1, 3\), \(3, 14\)\]"):
        qr(a)
    q, r, report = qr(a, raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == [list(place) for place in places]
    for index in np.ndindex(4, 15):
        if index in places:
            assert np.isnan(q[index]).all()
            assert np.isnan(r[index]).all()
            assert report.status[index] is Status.NOT_FINITE
            assert report.info[index] == -1
        else:
            assert np.array_equal(q[index], expected[0][index])
            assert np.array_equal(r[index], expected[1][index])
            assert report.status[index] is Status.DIRECT


# -- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["d", "F"])
def test_threads(rng, dtype, monkeypatch):
    stacks = [normal(rng, (1000, *shape), dtype) for shape in [(2, 2), (7, 4)]]
    alone = [qr(a) for a in stacks]
    monkeypatch.setattr(threads, "blas_threads", lambda: 3)
    monkeypatch.setattr(threads, "_WORTHWHILE", 1e-9)
    for a, expected in zip(stacks, alone, strict=True):
        assert all(map(np.array_equal, qr(a), expected))


@pytest.mark.parametrize("mode", MODES)
def test_lists(rng, mode):
    shapes = [(2, 2), (5, 3), (2, 2), (0, 3), (3, 6), (5, 3), (2, 2)]
    members = [normal(rng, shape, "F") for shape in shapes]
    found = qr(members, mode=mode)
    ragged = qr(Ragged.from_list(members), mode=mode)
    if mode == "r":
        found, ragged = (found,), (ragged,)
    for k, part in enumerate(found):
        assert isinstance(part, list)
        assert isinstance(ragged[k], Ragged)
        for i, a in enumerate(members):
            expected = qr(a[None], mode=mode)
            expected = (expected if mode == "r" else expected[k])[0]
            assert part[i].dtype == expected.dtype
            assert np.array_equal(part[i], expected)
            assert np.array_equal(ragged[k][i], expected)
    members[4] = members[4] * np.nan
    with pytest.raises(LinAlgError, match=r"1 of 7 members, \[4\]"):
        qr(members, mode=mode)
    assert [len(part) for part in qr([])] == [0, 0]


def test_report(rng):
    report = qr(normal(rng, (6, 4, 3), "f"), full_output=True)[-1]
    assert report.precision == "fp32"
    assert report.status.shape == report.info.shape == report.iterations.shape == (6,)
    assert report.backward_error is None
    assert report.failed.size == 0
    assert "6 direct" in str(report)
    assert qr(np.eye(3), full_output=True)[-1].status.shape == ()


@pytest.mark.parametrize(
    ("a", "keywords", "match"),
    [(np.ones(3), {}, "ndim"), (np.ones((2, 2)), {"mode": "raw"}, "mode"),
     (np.ones((2, 2), object), {}, "object"), ([np.ones(2)], {}, "matrices"),
     (np.array([["x"]]), {}, "numeric")],
)  # fmt: skip
def test_bad_input(a, keywords, match):
    with pytest.raises((ValueError, TypeError), match=match):
        qr(a, **keywords)


def test_the_border_of_straight_code(rng, monkeypatch):
    """Registers and tiles compute the same up to rounding."""
    a = normal(rng, (30, 4, 4))
    straight = qr(a)
    monkeypatch.setattr(kernels, "STRAIGHT", 0)
    tiles = qr(a)
    check(a, *tiles)
    check_same(a, straight[1], tiles[1])
