"""batched.lstsq: the answers of a loop of SciPy's, whatever shapes, ranks and neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, Status
from mplinalg.batched import Ragged, lstsq
from mplinalg.kernels.cpu.batched import lstsq as kernels
from mplinalg.kernels.cpu.batched import qr_stacks, threads
from mplinalg.precision import working_format

# kernels are compiled for each dtype
DTYPES = ["d", "F", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in "fD")]
SHAPES = [(1, 1), (2, 2), (4, 4), (7, 3), (3, 7), (1, 5), (5, 1), (20, 4), (4, 20), (9, 8)]
LOSS = 30.0


def normal(rng, shape, dtype="d"):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return a.astype(dtype)


def loop(a, b, **keywords):
    """x, residues and ranks of SciPy, member by member; residues by their definition."""
    count, n = len(a), a.shape[2]
    x, ranks = np.empty((count, n, b.shape[2]), a.dtype), np.empty(count, int)
    for k in range(count):
        x[k], _, ranks[k], _ = scipy.linalg.lstsq(a[k], b[k], **keywords)
    wide = np.result_type(a, "d")
    squares = (np.abs(b.astype(wide) - a.astype(wide) @ x.astype(wide)) ** 2).sum(axis=1)
    return x, squares, ranks


def check(a, b, x, expected):
    """Two answers of backward stable methods, for matrices of full rank (Wedin 1973).

    The bound is linear in the condition number, and quadratic times the size of the residual.
    """
    m, n = a.shape[1:]
    u = working_format(a.dtype).unit_roundoff
    cond = np.linalg.cond(a.astype(np.result_type(a, "d")))[:, None]
    residual = np.linalg.norm(b - a @ expected, axis=1) if m > n else 0.0
    norm = np.linalg.norm(a, axis=(1, 2))[:, None]
    bound = cond * np.linalg.norm(expected, axis=1) + cond**2 * residual / norm
    assert np.all(np.linalg.norm(x - expected, axis=1) <= LOSS * max(m, n) * u * bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("nrhs", [1, 6])
def test_shapes(rng, shape, dtype, nrhs):
    a, b = normal(rng, (19, *shape), dtype), normal(rng, (19, shape[0], nrhs), dtype)
    kept = a.copy(), b.copy()
    x, report = lstsq(a, b, full_output=True)
    expected, squares, ranks = loop(a, b)
    assert x.dtype == a.dtype
    assert x.shape == expected.shape
    check(a, b, x, expected)
    assert np.array_equal(report.rank, ranks)
    size = (np.abs(b) ** 2).sum(axis=1)
    tolerance = LOSS * max(shape) * working_format(dtype).unit_roundoff
    if shape[0] > shape[1]:
        cond = np.linalg.cond(a)[:, None]
        assert np.all(np.abs(report.residues - squares) <= tolerance * cond * size)
    else:
        assert np.all(report.residues <= tolerance * size)
    assert np.array_equal(x, lstsq(a, b))
    assert np.array_equal(a, kept[0])
    assert np.array_equal(b, kept[1])


@pytest.mark.parametrize("n", [*range(3, 25), 33, 64, 65])
def test_orders(rng, n):
    for m, dtype in ((n, "d"), (n + 9, "F" if n % 4 else "d")):
        count = 9 if n < 30 else 1 + n % 4
        a, b = normal(rng, (count, m, n), dtype), normal(rng, (count, m, 2), dtype)
        check(a, b, lstsq(a, b), loop(a, b)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_lapack_takes_what_no_cache_holds(rng, dtype, monkeypatch):
    for shape in [(9, 4), (4, 9), (7, 7), (40, 33)]:
        a, b = normal(rng, (5, *shape), dtype), normal(rng, (5, shape[0], 2), dtype)
        with monkeypatch.context() as patch:
            patch.setattr(qr_stacks, "_LARGEST_TILE", 0)
            x, report = lstsq(a, b, full_output=True)
        expected, squares, ranks = loop(a, b)
        check(a, b, x, expected)
        assert np.array_equal(report.rank, ranks)
        bound = LOSS * max(shape) * working_format(dtype).unit_roundoff * np.linalg.cond(a)[:, None]
        assert np.all(np.abs(report.residues - squares) <= bound * (np.abs(b) ** 2).sum(axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (33, 20)])
@pytest.mark.parametrize("largest", [0, None])
def test_the_bound_on_the_condition_is_one(rng, shape, dtype, largest, monkeypatch):
    """Never above the reciprocal condition number, and not much below it."""
    if largest is not None:
        monkeypatch.setattr(qr_stacks, "_LARGEST_TILE", largest)
    count = 40
    u, _, v = np.linalg.svd(normal(rng, (count, *shape), dtype), full_matrices=False)
    rcond = np.geomspace(1, 100 * working_format(dtype).unit_roundoff, count)
    values = np.geomspace(1, rcond, min(shape)).T[:, None, :]
    a = (u * values.astype(u.real.dtype) @ v).astype(dtype)
    b, found = normal(rng, (count, shape[0], 1), dtype), np.empty(count, u.real.dtype)
    x, squares = np.empty((count, shape[1], 1), dtype), np.empty((count, 1), u.real.dtype)
    kernels.lstsq_stack(a, b, x, squares, found)
    exact = 1 / np.linalg.cond(a.astype(np.result_type(a, "d")))
    slack = LOSS * max(shape) * working_format(dtype).unit_roundoff
    assert np.all(found <= exact * (1 + slack / exact))
    # each of the two norms is above its own 2-norm by at most sqrt(n), complex ones by sqrt(2 n)
    assert np.all(found * 2 * min(shape) >= exact * (1 - slack / exact))


# -- ranks ----------------------------------------------------------------------------------------


def deficient(rng, m, n, dtype):
    """Matrices of all ranks and kinds."""
    base = normal(rng, (m, n), dtype)
    found = {"zero": 0 * base, "ones": np.ones((m, n), dtype), "identity": np.eye(m, n)}
    for rank in range(1, min(m, n)):
        product = normal(rng, (m, rank), dtype) @ normal(rng, (rank, n), dtype)
        found[f"rank {rank}"] = product
    found["zero column"] = base * (np.arange(n) > 0)
    found["zero row"] = base * (np.arange(m) > 0)[:, None]
    found["equal columns"] = base[:, np.arange(n) // 2]
    found["equal rows"] = base[np.arange(m) // 2]
    for digits in (4, 6, 8, 12, 15, 16, 17, 20):
        found[f"1e-{digits}"] = base * np.geomspace(1, 10.0**-digits, n)
    return {name: matrix.astype(dtype) for name, matrix in found.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 4), (7, 3), (3, 7), (20, 5), (12, 12)])
@pytest.mark.parametrize("cond", [None, 1e-3, 0.0])
def test_ranks_are_scipys(rng, shape, dtype, cond):
    matrices = deficient(rng, *shape, dtype)
    a, b = np.stack(list(matrices.values())), normal(rng, (len(matrices), shape[0], 2), dtype)
    x, report = lstsq(a, b, cond=cond, full_output=True)
    expected, squares, ranks = loop(a, b, cond=cond)
    assert report.rank.tolist() == ranks.tolist()
    assert all(status is Status.DIRECT for status in report.status.tolist())
    full = min(shape)
    doubtful = ranks < full
    assert np.array_equal(x[doubtful], expected[doubtful])  # the same routine, the same bits
    check(a[~doubtful], b[~doubtful], x[~doubtful], expected[~doubtful])
    # the rounding errors of b - A x
    norm = np.linalg.norm(a, axis=(1, 2))[:, None]
    size = np.linalg.norm(b, axis=1) + norm * np.linalg.norm(x, axis=1)
    error = LOSS * max(shape) * working_format(dtype).unit_roundoff * size
    bound = 2 * np.sqrt(squares) * error + error**2
    assert np.all(np.abs(report.residues - squares)[doubtful] <= bound[doubtful])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", ["huge", "tiny"])
@pytest.mark.parametrize("shape", [(3, 3), (6, 4), (4, 6)])
def test_numbers_far_from_one(rng, shape, dtype, scale):
    huge = 1e30 if dtype in "fF" else 1e300
    a, b = normal(rng, (9, *shape), dtype), normal(rng, (9, shape[0], 1), dtype)
    expected = lstsq(a, b)
    factor = np.dtype(dtype).type(2.0 ** np.round(np.log2(huge if scale == "huge" else 1 / huge)))
    x = lstsq(a * factor, b * factor)
    check(a, b, x, expected)
    x = lstsq(a * factor, b / 2)
    check(a, b, x * (2 * factor), expected)


# -- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 17, 67])
def test_batches(rng, count):
    a, b = normal(rng, (67, 5, 3)), normal(rng, (67, 5, 1))
    whole = lstsq(a, b)
    assert np.array_equal(lstsq(a[:count], b[:count]), whole[:count])


def test_a_hundred_thousand(rng):
    a, b = normal(rng, (100_000, 4, 2)), normal(rng, (100_000, 4, 1))
    x, report = lstsq(a, b, full_output=True)
    assert (report.rank == 2).all()
    # the residual is orthogonal to the columns of A, to the accuracy of the normal equations
    r = b - a @ x
    gradient = np.linalg.norm(np.swapaxes(a, 1, 2) @ r, axis=(1, 2))
    norm = np.linalg.norm(a, axis=(1, 2))
    size = norm * np.linalg.norm(x, axis=(1, 2)) + np.linalg.norm(b, axis=(1, 2))
    assert np.all(gradient <= LOSS * 4 * working_format("d").unit_roundoff * norm * size)


@pytest.mark.parametrize(
    ("first", "second"),
    [((), (5,)), ((), (5, 2)), ((4,), (5,)), ((4,), (5, 2)), ((4,), (4, 5, 1)), ((1,), (3, 5, 2)),
     ((2, 1), (3, 5, 1)), ((0,), (5,)), ((2, 0), (5, 2)), ((), (3, 5, 2)), ((3,), (3, 5, 0))],
)  # fmt: skip
@pytest.mark.parametrize("n", [0, 3, 7])
def test_broadcasting(rng, first, second, n):
    a, b = normal(rng, (*first, 5, n)), normal(rng, second)
    x, report = lstsq(a, b, full_output=True)
    columns = b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(first, columns.shape[:-2])
    nrhs = columns.shape[-1]
    tail = () if b.ndim == 1 else (nrhs,)
    assert x.shape == (*batch, n, *tail)
    assert report.rank.shape == report.status.shape == batch
    assert report.residues.shape == (*batch, *tail)
    a, columns = (np.broadcast_to(z, (*batch, *z.shape[-2:])) for z in (a, columns))
    for index in np.ndindex(batch):
        expected = np.linalg.lstsq(a[index], columns[index])[0]
        found = x[index].reshape(n, nrhs)
        assert report.rank[index] == min(5, n)
        if n and nrhs:
            check(a[index][None], columns[index][None], found[None], expected[None])
        if n == 0:
            square = (np.abs(columns[index]) ** 2).sum(axis=0)
            assert np.array_equal(report.residues[index].reshape(nrhs), square)


@pytest.mark.parametrize("shape", [(0, 3), (0, 0)])
def test_no_equations(shape):
    x, report = lstsq(np.ones((2, *shape)), np.ones((2, 0, 4)), full_output=True)
    assert np.array_equal(x, np.zeros((2, shape[1], 4)))
    assert not report.rank.any()
    assert np.array_equal(report.residues, np.zeros((2, 4)))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 0)])
def test_no_right_hand_sides(rng, shape, capfd):
    """There are ranks all the same; LAPACK is not asked for what it does not do."""
    a = normal(rng, (4, *shape))
    a[1] = 0
    a[2] = 1
    x, report = lstsq(a, np.ones((4, shape[0], 0)), full_output=True)
    assert x.shape == (4, shape[1], 0)
    assert report.residues.shape == (4, 0)
    assert report.rank.tolist() == [np.linalg.matrix_rank(member) for member in a]
    assert all(status.name == "DIRECT" for status in report.status)
    assert capfd.readouterr() == ("", "")


def test_residues_out_of_range():
    """Infinite, without a warning, with unknowns and without."""
    for n in (0, 2):
        report = lstsq(np.eye(3, n), np.full(3, 1e200), full_output=True)[1]
        assert report.residues == np.inf


@pytest.mark.parametrize("dtype", ["d", "F"])
@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_layouts(rng, dtype, shape):
    a, b = normal(rng, (90, *shape), dtype), normal(rng, (90, shape[0], 2), dtype)
    expected = lstsq(a, b)
    views = [
        np.asfortranarray,
        lambda z: z[::-1].copy()[::-1],
        lambda z: np.repeat(z, 2, axis=2)[:, :, ::2],
        lambda z: z.swapaxes(1, 2).copy().swapaxes(1, 2),
    ]
    for view in views:
        assert np.array_equal(lstsq(view(a), b), expected)
        assert np.array_equal(lstsq(a, view(b)), expected)
    a.flags.writeable = b.flags.writeable = False
    assert np.array_equal(lstsq(a, b), expected)
    assert np.array_equal(lstsq(a[5], b)[5], expected[5])


@pytest.mark.parametrize(
    ("first", "second", "dtype"),
    [("i4", "?", "d"), ("f", "d", "d"), ("f", "F", "F"), ("e", "F", "F"), ("g", "i8", "d")],
)
def test_dtypes(first, second, dtype):
    a = np.array([[2, 1], [0, 3], [1, 1]]).astype(first)
    b = np.array([1, 0, 1]).astype(second)
    x = lstsq(a, b)
    assert x.dtype == np.dtype(dtype)
    given = a.astype(dtype)[None], b.astype(dtype)[None, :, None]
    check(*given, x[None, :, None], loop(*given)[0])


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_members_are_named_and_spoil_no_other(rng, shape, bad):
    a, b = normal(rng, (30, *shape)), normal(rng, (30, shape[0], 2))
    a[20] = 0  # another one that LAPACK looks at
    expected, whole = lstsq(a, b, full_output=True)
    a[3, -1, 0] = a[17, 0, -1] = b[29, -1, 1] = bad
    with pytest.raises(LinAlgError, match=r"3 of 30 members, \[3, 17, 29\]"):
        lstsq(a, b)
    x, report = lstsq(a, b, raise_on_failure=False, full_output=True)
    assert report.failed.tolist() == [3, 17, 29]
    assert np.isnan(x[report.failed]).all()
    assert np.isnan(report.residues[report.failed]).all()
    assert not report.rank[report.failed].any()
    others = np.setdiff1d(np.arange(30), report.failed)
    assert np.array_equal(x[others], expected[others])
    assert np.array_equal(report.rank[others], whole.rank[others])
    assert np.array_equal(report.residues[others], whole.residues[others])


@pytest.mark.parametrize("dtype", ["d", "F"])
def test_threads(rng, dtype, monkeypatch):
    problems = [
        (normal(rng, (700, *shape), dtype), normal(rng, (700, shape[0], 1), dtype))
        for shape in [(4, 2), (3, 5)]
    ]
    problems[0][0][::3, :, 0] = 0
    alone = [lstsq(*problem) for problem in problems]
    monkeypatch.setattr(threads, "blas_threads", lambda: 3)
    monkeypatch.setattr(threads, "_WORTHWHILE", 1e-9)
    for problem, expected in zip(problems, alone, strict=True):
        assert np.array_equal(lstsq(*problem), expected)


@pytest.mark.parametrize("nrhs", [None, 1, 3])
def test_lists(rng, nrhs):
    shapes = [(2, 2), (5, 3), (2, 2), (0, 3), (3, 6), (5, 3), (5, 0)]
    tail = () if nrhs is None else (nrhs,)
    a = [normal(rng, shape, "f") for shape in shapes]
    b = [normal(rng, (m, *tail)) for m, _ in shapes]
    a[5] *= 0
    x, report = lstsq(a, b, full_output=True)
    ragged = lstsq(Ragged.from_list(a), Ragged.from_list(b))
    assert isinstance(x, list)
    assert isinstance(ragged, Ragged)
    assert report.status.shape == report.rank.shape == (7,)
    for k, (p, q) in enumerate(zip(a, b, strict=True)):
        expected, one = lstsq(p, q, full_output=True)
        assert np.array_equal(x[k], expected)
        assert np.array_equal(ragged[k], expected)
        assert x[k].dtype == np.float64
        assert report.rank[k] == one.rank
        assert np.array_equal(report.residues[k], one.residues)
    a[2] = a[2] * np.nan
    with pytest.raises(LinAlgError, match=r"1 of 7 members, \[2\]"):
        lstsq(a, b)
    x, report = lstsq([], [], full_output=True)
    assert x == []
    assert report.rank.dtype.kind == "i"


@pytest.mark.parametrize(
    ("a", "b", "keywords", "match"),
    [(np.ones(3), np.ones(3), {}, "ndim"), (np.ones((3, 2)), np.ones(2), {}, "incompatible"),
     (np.ones((4, 3, 2)), np.ones((4, 3)), {}, "b\\[..., None\\]"),
     (np.ones((4, 3, 2)), np.ones((5, 3, 1)), {}, "broadcast"),
     (np.ones((3, 2)), np.ones(3), {"cond": -1.0}, "cond"),
     (np.ones((3, 2)), np.ones(3), {"cond": np.nan}, "cond"),
     ([np.ones((3, 2))], np.ones(3), {}, "list"), ([np.ones((3, 2))], [np.ones(2)], {}, "incomp"),
     ([np.ones((3, 2))], [np.ones(3)] * 2, {}, "1 matrices"),
     ([np.ones(3)], [np.ones(3)], {}, "matrices")],
)  # fmt: skip
def test_bad_input(a, b, keywords, match):
    with pytest.raises((ValueError, TypeError), match=match):
        lstsq(a, b, **keywords)
