"""Products and triangular solves of lists of matrices: a loop over the members is the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import LinAlgError
from mplinalg.batched import ragged
from mplinalg.batched.gemm import gemm
from mplinalg.batched.ragged import Ragged
from mplinalg.batched.trsm import trsm
from mplinalg.kernels.cpu.batched import streamed, threads
from mplinalg.ops import numpy_batched_plan
from mplinalg.ops import numpy_batched_ragged as verbs

from .lists import assert_products, members, size
from .systems import DTYPES, normal

# -- products ------------------------------------------------------------------------------------


def pairs(rng, sizes, dtype=float):
    """Members of A and of B of sizes (m, k, n)."""
    return (
        members(rng, [s[:2] for s in sizes], dtype),
        members(rng, [s[1:] for s in sizes], dtype),
    )


SKEWED = [
    *[(2, 3, 2)] * 400,
    (200, 150, 130),
    *[(1, 1, 1)] * 50,
    (70, 70, 70),
    (3, 0, 4),
    (0, 3, 0),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gemm_is_a_loop(rng, dtype):
    sizes = rng.integers(0, 40, (150, 3))
    a, b = pairs(rng, sizes, dtype)
    c = members(rng, sizes[:, ::2], dtype)
    found = gemm(a, b)
    assert isinstance(found, list)
    assert {x.dtype for x in found} == {np.dtype(dtype)}
    assert_products(found, a, b)
    assert_products(gemm(a, b, c, alpha=2.0, beta=-1.0), a, b, 2.0, c, -1.0)
    for form in (gemm(Ragged.from_list(a), b), gemm(tuple(a), Ragged.from_list(b))):
        assert isinstance(form, Ragged)
        assert all(np.array_equal(x, y) for x, y in zip(form, found, strict=True))
    flipped = [x.T.copy() for x in a], [x.conj() for x in b]
    assert_products(gemm(*flipped, transa=True), a, flipped[1])
    adjoint = [x.conj().T.copy() for x in b]
    assert_products(gemm(a, adjoint, transb="C"), a, b)


def test_gemm_of_one_matrix_with_a_list(rng):
    a, b = normal(rng, (3, 4)), members(rng, [(4, k) for k in (2, 0, 5, 2)])
    assert_products(gemm(a, b), [a] * 4, b)
    assert_products(gemm(Ragged.from_list(b), a, transa=True, transb=True),
                    [x.T for x in b], [a.T] * 4)  # fmt: skip
    c = np.ones((3, 2))
    assert_products(gemm(a, [b[0]] * 3, c, beta=2.0), [a] * 3, [b[0]] * 3, 1.0, [c] * 3, 2.0)
    assert_products(gemm([a], b[:1]), [a], b[:1])


def test_gemm_of_few_and_of_none(rng):
    assert gemm([], []) == []
    assert gemm([], np.ones((2, 2))) == []
    assert len(gemm(Ragged.from_list([]), [])) == 0
    (found,) = gemm([np.ones((2, 0))], [np.ones((0, 3))])
    assert np.array_equal(found, np.zeros((2, 3)))
    c = [np.full((2, 3), 5.0)]
    (found,) = gemm([np.ones((2, 0))], [np.ones((0, 3))], c, beta=2.0)
    assert np.array_equal(found, np.full((2, 3), 10.0))
    (found,) = gemm([np.full((2, 2), np.nan)], [np.ones((2, 3))], c, alpha=0.0, beta=2.0)
    assert np.array_equal(found, np.full((2, 3), 10.0))


def test_gemm_into_out(rng):
    sizes = rng.integers(0, 20, (60, 3))
    sizes[:, 1] = sizes[:, 2]
    a, b = pairs(rng, sizes)
    want = gemm(a, b)
    out = [np.full(x.shape, np.nan) for x in want]
    assert gemm(a, b, out=out) is out
    assert all(np.array_equal(x, y) for x, y in zip(out, want, strict=True))
    ra, rb = Ragged.from_list(a), Ragged.from_list(b)
    room = Ragged.from_list(out)
    room.data[...] = np.nan
    assert gemm(ra, rb, out=room) is room
    assert all(np.array_equal(x, y) for x, y in zip(room, want, strict=True))
    kept = Ragged.from_list(a)
    assert gemm(ra, rb, ra, beta=1.0, out=ra) is ra
    assert_products(ra, list(kept), b, 1.0, list(kept), 1.0)
    assert gemm(a, b, out=a) is a
    assert all(np.array_equal(x, y) for x, y in zip(a, want, strict=True))
    with pytest.raises(ValueError, match="out has 59 members, the result 60"):
        gemm(a, b, out=out[1:])
    with pytest.raises(TypeError, match="dtype float64, got float32"):
        gemm(a, b, out=[x.astype("f4") for x in out])
    k = next(k for k, x in enumerate(out) if x.shape != x.T.shape)
    with pytest.raises(ValueError, match=rf"out\[{k}\].shape=\({out[k].shape[1]}, .* the result"):
        gemm(a, b, out=Ragged.from_list([x.T for x in out]))
    with pytest.raises(ValueError, match="no operand is"):
        gemm(a[0], b[0], out=[out[0]])


@pytest.fixture(params=["read ahead", "blas"])
def ahead(request, monkeypatch):
    """Members of some tens by either kernel, however few they are."""
    number = 0 if request.param == "read ahead" else float("inf")
    monkeypatch.setattr(numpy_batched_plan, "AHEAD_FROM", number)


@pytest.mark.usefixtures("ahead")
def test_out_of_any_layout_for_members_of_some_tens(rng):
    a, b = (
        members(rng, [(30, 20), (20, 40), (25, 35)]),
        members(rng, [(20, 40), (40, 30), (35, 40)]),
    )
    shapes = [(30, 40), (20, 30), (25, 40)]
    rooms = [np.full((m + 2, n + 2), np.nan) for m, n in shapes]
    by_rows = [room[1:-1, 1:-1] for room in rooms]
    by_columns = [np.full((n + 2, m + 2), np.nan).T for m, n in shapes]
    spread = [np.full((2 * m, 3 * n), np.nan) for m, n in shapes]
    for out, kept in [
        (by_rows, rooms),
        ([x[1:-1, 1:-1] for x in by_columns], by_columns),
        ([x[::2, ::3] for x in spread], spread),
        ([x[::2, ::3][::-1, ::-1] for x in spread], spread),
    ]:
        assert gemm(a, b, out=out) is out
        assert_products(out, a, b)
        for x in out:
            x[...] = np.nan
        assert all(np.isnan(x).all() for x in kept)


@pytest.mark.usefixtures("ahead")
def test_members_of_some_tens_are_not_read_where_alpha_is_zero(rng):
    a = [np.full((n, n), np.nan) for n in (20, 33)]
    c = [rng.standard_normal((n, n)) for n in (20, 33)]
    for x in gemm(a, a, alpha=0.0):
        assert not x.any()
    for x, y in zip(gemm(a, a, c, alpha=0.0, beta=2.0), c, strict=True):
        assert np.array_equal(x, 2.0 * y)


@pytest.mark.usefixtures("ahead")
def test_one_matrix_goes_with_members_of_some_tens(rng):
    """Its copy serves all of them, those among which it is not copied too."""
    a = members(rng, [(m, 90) for m in (40, 7, 50, 31, 32, 6, 3, 64)])
    for b in (rng.standard_normal((90, 100)), rng.standard_normal((100, 90)).T):
        assert_products(gemm(a, b), a, [b] * len(a))


@pytest.mark.parametrize("count", [1, 2])
def test_large_members_are_fewer_than_threads(rng, monkeypatch, count):
    """BLAS divides them among its threads."""
    seen = []
    multiply = streamed.multiply_listed
    monkeypatch.setattr(
        streamed, "multiply_listed", lambda *args: (seen.append(args[0].size), multiply(*args))
    )
    monkeypatch.setattr(threads, "blas_threads", lambda: count)
    a = members(rng, [(150, 150), (20, 20)])
    assert_products(gemm(a, a), a, a)
    assert not seen  # in a cache
    monkeypatch.setattr(numpy_batched_plan, "AHEAD_FROM", 150**3 + 20**3)
    assert_products(gemm(a, a), a, a)
    assert sum(seen) == (2 if count == 1 else 1)


def test_who_keeps_one_of_an_answer_keeps_little_more(rng):
    """Large members are arrays of their own, small ones of one shape share some memory."""
    sizes = [3] * 6000 + [40] * 20 + [200] * 2 + [0]
    a = [rng.standard_normal((n, n)) for n in rng.permutation(sizes)]
    found = gemm(a, a)
    for x, y in zip(found, a, strict=True):
        np.testing.assert_allclose(x, y @ y, rtol=0, atol=1e-12)
        assert x.flags.writeable
        assert x.flags.c_contiguous
        owner = x if x.base is None else x.base
        assert owner.nbytes <= max(x.nbytes, ragged._PIECE)
        assert owner.shape[-2:] == x.shape
    assert len({id(x.base) for x in found if x.base is not None}) <= 10


def overlapping(rng):
    """Square factors, and results that lie in the memory of some of them, or of each other."""
    flat = rng.standard_normal(200)
    a = [flat[9 * k : 9 * k + 9].reshape(3, 3) for k in range(4)]
    b = [rng.standard_normal((3, 3)) for _ in range(4)]
    apart = np.zeros(100)
    rooms = {
        "apart": [apart[9 * k : 9 * k + 9].reshape(3, 3) for k in range(4)],
        "by columns": [apart[9 * k : 9 * k + 9].reshape(3, 3).T for k in range(4)],
        "backwards": [apart[9 * k : 9 * k + 9].reshape(3, 3)[::-1, ::-1] for k in range(4)],
        "a": a,
        "a, in another order": a[::-1],
        "between those of a": [flat[9 * k + 4 : 9 * k + 13].reshape(3, 3) for k in range(1, 5)],
        "b": b[1:] + b[:1],
        "the end of a": [flat[35 + 9 * k : 44 + 9 * k].reshape(3, 3) for k in range(4)],
    }
    return a, b, rooms


@pytest.mark.parametrize("where", list(overlapping(np.random.default_rng(0))[2]))
@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_results_in_the_memory_of_factors(rng, where, beta):
    a, b, rooms = overlapping(rng)
    out = rooms[where]
    want = [x @ y + beta * z for x, y, z in zip(a, b, out, strict=True)]
    assert gemm(a, b, out, beta=beta, out=out) is out
    for found, exact in zip(out, want, strict=True):
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-13)


def test_a_summand_in_the_memory_of_the_result(rng):
    """c is another list than out, of the same memory, in the same and in another order."""
    a, b, _ = overlapping(rng)
    for turned in (False, True):
        out = list(rng.standard_normal((4, 3, 3)))
        c = [x[:] for x in (out[::-1] if turned else out)]
        want = [x @ y + 2 * z for x, y, z in zip(a, b, c, strict=True)]
        gemm(a, b, c, beta=2.0, out=out)
        for found, exact in zip(out, want, strict=True):
            np.testing.assert_allclose(found, exact, rtol=0, atol=1e-13)


def test_results_that_share_memory(rng):
    """Not with the factors, but with each other: that of the last one stands."""
    a, b = rng.standard_normal((2, 5, 2, 2))
    room = np.zeros((2, 2))
    gemm(list(a), list(b), out=[room] * 5)
    np.testing.assert_allclose(room, a[-1] @ b[-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_precision_is_that_of_stacks(rng, name, dtype):
    sizes = rng.integers(0, 30, (20, 3))
    a, b = pairs(rng, sizes, dtype)
    a[3] *= 1e250
    b[4] *= 1e-250
    found = gemm(a, b, precision=name)
    for x, y, z in zip(found, a, b, strict=True):
        stacked = gemm(y[None], z[None], precision=name)[0]
        u = max(np.finfo(dtype).eps, 2.0**-24 if name != "fp64" else 0.0)
        assert np.all(np.abs(x - stacked) <= 2 * (y.shape[1] + 6) * u * (size(y) @ size(z)))
    c = members(rng, sizes[:, ::2], dtype)
    again = gemm(a, b, c, alpha=2.0, beta=0.5, precision=name)
    for x, y, z in zip(again, found, c, strict=True):
        assert np.all(np.abs(x - (2.0 * y + 0.5 * z)) <= 4e-16 * (size(y) + size(z)) * 2)


def test_dtypes_of_lists_are_joined(rng):
    a, b = pairs(rng, [(2, 3, 4), (5, 1, 2)])
    mixed = [a[0].astype("f4"), a[1]]
    assert gemm(mixed, b)[0].dtype == "float64"
    assert gemm([x.astype("f4") for x in a], [x.astype("f4") for x in b])[0].dtype == "float32"
    assert gemm(a, Ragged.from_list([1j * x for x in b])).dtype == "complex128"
    assert gemm([np.ones((2, 2), int)], [np.ones((2, 2), int)])[0].dtype == "float64"
    assert gemm(Ragged.from_list([x.astype("f4") for x in a]), b).dtype == "float64"
    assert gemm(a, b, alpha=1j)[1].dtype == "complex128"


def test_lists_that_do_not_fit(rng):
    a, b = pairs(rng, [(2, 3, 4), (5, 1, 2), (3, 3, 3)])
    with pytest.raises(ValueError, match="a has 3, b has 2"):
        gemm(a, b[:2])
    with pytest.raises(ValueError, match=r"a\[1\].shape=\(5, 1\), b\[1\].shape=\(4, 2\)"):
        gemm(a, [b[0], np.ones((4, 2)), b[2]])
    with pytest.raises(ValueError, match=r"c\[2\].shape=\(3, 2\)"):
        gemm(a, b, [np.ones((2, 4)), np.ones((5, 2)), np.ones((3, 2))], beta=1.0)
    with pytest.raises(ValueError, match="matrices"):
        gemm([np.ones(3)], [np.ones((3, 1))])


@pytest.mark.parametrize("container", [list, Ragged.from_list])
def test_threads_give_the_same_bits(rng, monkeypatch, container):
    a, b = (container(x) for x in pairs(rng, SKEWED + [(30, 31, 32)] * 600))
    chunks, run = [], threads.run_chunks
    monkeypatch.setattr(threads, "run_chunks", lambda *args: chunks.append(len(run(*args))))
    monkeypatch.setattr(verbs, "SINGLE_THREADED", 10**9)
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "blas_threads", lambda count=count: count)
        found.append(gemm(a, b))
    assert max(chunks) > 1
    assert_products(found[0], a, b)
    for other in found[1:]:
        assert all(np.array_equal(x, y) for x, y in zip(found[0], other, strict=True))


def test_skewed_lists_are_cut_evenly(monkeypatch):
    """However sizes are spread, no piece but that of a giant costs much more than its share."""
    products = np.array([2**3] * 5000 + [60**3] * 40 + [2**3] * 5000, np.int64)
    seen = []
    monkeypatch.setattr(threads, "blas_threads", lambda: 2)
    verbs._run_balanced(seen.append, products, 2.0, np.zeros_like(products), np.dtype("d"))
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(products.size))
    costs = [float(np.sum(verbs._CALL + 2.0 * products[piece] / 3e10)) for piece in seen]
    giant = 2.0 * 60**3 / 3e10
    assert len(costs) > 20
    assert max(costs) <= sum(costs) / len(costs) * 2 + giant


# -- triangles -----------------------------------------------------------------------------------


def triangles(rng, orders, lower, dtype=float):
    """Triangles, and the same with NaN where they are not to be read."""
    clean, given = [], []
    for n in orders:
        a = normal(rng, (n, n), dtype)
        read = np.tril(np.ones((n, n), bool)) if lower else np.triu(np.ones((n, n), bool))
        clean.append(np.where(read, a, 0).astype(dtype))
        given.append(np.where(read, a, np.nan).astype(dtype))
    return clean, given


def assert_solves(a, x, b):
    u = np.finfo(x.dtype).eps / 2
    columns, rhs = (y[:, None] if y.ndim == 1 else y for y in (x, b))
    residual = np.abs(rhs - a.astype(np.result_type(a, "d")) @ columns)
    assert np.all(residual <= 2 * (len(a) + 10) * u * (size(a) @ size(columns)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_trsm_is_a_loop(rng, dtype, lower):
    orders = [3, 0, 1, 8, 25, 3, 3, 70, 2]
    clean, given = triangles(rng, orders, lower, dtype)
    for columns in ([2, 1, 0, 4, 3, 1, 1, 5, 2], None):
        shapes = (
            [(n,) for n in orders] if columns is None else list(zip(orders, columns, strict=True))
        )
        b = members(rng, shapes, dtype)
        x = trsm(given, b, lower=lower)
        assert isinstance(x, list)
        assert [y.shape for y in x] == shapes
        for one in zip(clean, x, b, strict=True):
            assert_solves(*one)
        contained = trsm(Ragged.from_list(given), b, lower=lower)
        assert isinstance(contained, Ragged)
        assert all(np.array_equal(y, z) for y, z in zip(contained, x, strict=True))
    for trans, flipped in (("T", lambda y: y.T), ("C", lambda y: y.conj().T)):
        x = trsm(given, b, lower=lower, trans=trans)
        for one in zip(map(flipped, clean), x, b, strict=True):
            assert_solves(*one)
        again = trsm([np.asfortranarray(y) for y in given], b, lower=lower, trans=trans)
        for one in zip(map(flipped, clean), again, b, strict=True):
            assert_solves(*one)


def test_trsm_with_one_for_all(rng):
    (clean,), (given,) = triangles(rng, [4], True)
    b = members(rng, [(4, 2), (4, 0), (4, 5)])
    for x, y in zip(trsm(given, b, lower=True), b, strict=True):
        assert_solves(clean, x, y)
    for x in trsm([given, given], b[0][:, 0], lower=True):
        assert x.shape == (4,)
        assert_solves(clean, x, b[0][:, 0])
    assert trsm([], [], lower=True) == []


def test_singular_members_of_lists(rng):
    clean, given = triangles(rng, [3, 20, 5, 1], True)
    b = members(rng, [(3,), (20,), (5,), (1,)])
    good = trsm(given, b, lower=True)
    given[1][4, 4] = given[3][0, 0] = 0.0
    with pytest.raises(LinAlgError, match=r"2 of 4 members, \[1, 3\]; of the first, entry 5"):
        trsm(given, b, lower=True)
    x = trsm(given, b, lower=True, raise_on_failure=False)
    assert np.isnan(x[1]).all()
    assert np.isnan(x[3]).all()
    assert np.array_equal(x[0], good[0])
    assert np.array_equal(x[2], good[2])
    unit = trsm(given, b, lower=True, unit_diagonal=True)
    np.fill_diagonal(clean[1], 1.0)
    assert_solves(clean[1], unit[1], b[1])
    with pytest.raises(ValueError, match=r"square matrices: a\[0\].shape=\(2, 3\)"):
        trsm([np.ones((2, 3))], [np.ones(2)])
    with pytest.raises(ValueError, match=r"a\[0\].shape=\(2, 2\), b\[0\].shape=\(3,\)"):
        trsm([np.ones((2, 2))], [np.ones(3)])
