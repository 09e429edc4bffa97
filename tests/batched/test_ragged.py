"""Ragged containers, and products and triangular solves of lists of different sizes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from mplinalg import LinAlgError
from mplinalg.batched.gemm import gemm
from mplinalg.batched.ragged import Ragged, group_by_shape
from mplinalg.batched.trsm import trsm
from mplinalg.kernels.cpu.batched import threads
from mplinalg.ops import numpy_batched_ragged as verbs
from mplinalg.ops.dispatch import batched_ops_for

DTYPES = ["float32", "float64", "complex64", "complex128"]


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def members(rng, shapes, dtype=float):
    return [normal(rng, shape, dtype) for shape in shapes]


def size(x):
    return np.abs(x.real) + np.abs(x.imag)


def assert_products(found, a, b, alpha=1.0, c=None, beta=0.0):
    assert len(found) == len(a) == len(b)
    for k, (x, y, z) in enumerate(zip(found, a, b, strict=True)):
        u = np.finfo(x.dtype).eps / 2
        wide = np.result_type(x, "d")
        want = alpha * (y.astype(wide) @ z.astype(wide))
        scale = abs(alpha) * (size(y) @ size(z))
        if c is not None:
            want = want + beta * c[k]
            scale = scale + abs(beta) * size(c[k])
        assert x.shape == want.shape
        # k products and sums, and k of the product that is compared with
        assert np.all(np.abs(x - want) <= 2 * (y.shape[1] + 6) * u * scale)


SHAPES = [(3, 2), (1, 1), (3, 2), (0, 4), (5, 7), (3, 2), (2, 3), (4, 0), (1, 1)]


# -- the container -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [*DTYPES, "int32", "bool", "float16", "longdouble", "clongdouble", "uint8"]
)
def test_there_and_back(rng, dtype):
    for shapes in (SHAPES, [(3,), (0,), (5,), (3,)], [(2, 2)], [(0, 0)]):
        given = [(10 * normal(rng, shape)).astype(dtype) for shape in shapes]
        r = Ragged.from_list(given)
        assert len(r) == len(given)
        assert r.dtype == dtype
        assert r.shapes.tolist() == [list(shape) for shape in shapes]
        assert r.data.size == sum(x.size for x in given)
        for found in (r.to_list(), list(r), [r[k] for k in range(len(r))]):
            for x, y in zip(found, given, strict=True):
                assert x.shape == y.shape
                assert np.array_equal(x, y)
                assert np.shares_memory(x, r.data) or not x.size


@pytest.mark.parametrize("known", [True, False])
def test_members_of_any_layout(rng, monkeypatch, known):
    """Whether their addresses are read off their headers, or asked for one by one."""
    assert verbs._headers_are_known()
    monkeypatch.setattr(verbs, "_headers_are_known", lambda: known)
    base = normal(rng, (6, 8))
    given = [
        base, base.T, base[::-2, 1::3], base[:, 2:3], np.broadcast_to(base[0], (3, 8)), base[:0],
        np.asfortranarray(base), np.broadcast_to(base[:, :1], (6, 4)),
    ]  # fmt: skip
    for x, y in zip(Ragged.from_list(given), given, strict=True):
        assert np.array_equal(x, y)
    products = gemm(given, given, transb=True)
    assert_products(products, given, [x.T for x in given])
    vectors = [base[0], base[:, 3], base[::-2, 1], base[0, :0]]
    for x, y in zip(Ragged.from_list(vectors), vectors, strict=True):
        assert np.array_equal(x, y)


def test_members_of_any_kind(rng):
    a = normal(rng, (3, 3))
    memory = np.zeros(a.nbytes + 1, np.uint8)
    shifted = memory[1:].view(float).reshape(a.shape)
    shifted[...] = a
    given = [
        a, a.tolist(), shifted, a.astype(">f8"), np.arange(4).reshape(2, 2), a.astype("f4"),
        pickle.loads(pickle.dumps(a)), np.ones((1, 2), bool),
    ]  # fmt: skip
    r = Ragged.from_list(given)
    assert r.dtype == "float64"
    for x, y in zip(r, given, strict=True):
        assert np.array_equal(x, np.asarray(y))
    assert Ragged.from_list(given, "f4").dtype == "float32"
    assert Ragged.from_list([a, 1j * a]).dtype == "complex128"


class _Foreign:
    """An array of another library."""

    def __init__(self, a):
        self._a = a

    def __dlpack__(self, **options):
        return self._a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._a.__dlpack_device__()


def test_members_of_other_libraries(rng):
    given = [normal(rng, (3, 2)), normal(rng, (2, 2))]
    foreign = [_Foreign(a) for a in given]
    assert all(map(np.array_equal, Ragged.from_list(foreign), given))
    found = gemm(foreign, foreign, transa=True)
    assert isinstance(found, list)
    assert all(map(np.array_equal, found, gemm(given, given, transa=True)))


def test_members_that_do_not_go_together(rng):
    with pytest.raises(ValueError, match=r"arrays\[0\].shape=\(2, 2\), arrays\[1\].shape=\(3,\)"):
        Ragged.from_list([np.ones((2, 2)), np.ones(3)])
    with pytest.raises(ValueError, match="all vectors or all matrices"):
        Ragged.from_list([np.ones((2, 2, 2))])
    with pytest.raises(ValueError, match="object"):
        Ragged.from_list([np.array([[None]])])
    for given in ([np.ma.ones((2, 2)), np.ones((2, 2))], [np.ones((2, 2)), np.ma.ones((2, 2))]):
        with pytest.raises(ValueError, match="masked"):  # as data they lose their masks
            Ragged.from_list(given)


def test_no_members():
    r = Ragged.from_list([])
    assert len(r) == 0
    assert r.to_list() == []
    assert r.groups() == []
    assert repr(r) == "Ragged(0 matrices, float64)"
    assert Ragged.from_list([], "f4").dtype == "float32"


def test_what_users_lay_out(rng):
    data = normal(rng, 20)
    r = Ragged(data, [10, 0, 4], [(2, 3), (2, 2), (0, 5)])
    assert r.data is data
    assert np.array_equal(r[0], data[10:16].reshape(2, 3))
    assert np.array_equal(r[-2], data[:4].reshape(2, 2))
    r[1][...] = 7.0
    assert (data[:4] == 7.0).all()
    assert r.ndim == 2
    assert Ragged(data, [3], [(5,)]).ndim == 1
    assert repr(r) == "Ragged(3 matrices, float64, shapes (0, 2) to (2, 5))"
    part = r[1:]
    assert len(part) == 2
    assert part.data is data
    assert part[1].shape == (0, 5)
    with pytest.raises(IndexError, match="member 3 of 3"):
        r[3]
    with pytest.raises(ValueError, match="read-only"):
        r.offsets[0] = 1


def test_buffers_that_members_do_not_fit(rng):
    data = np.zeros(10)
    for offset, shape in (
        (7, (2, 2)),
        (-1, (1, 1)),
        (11, (0, 1)),
        (0, (2**40, 2**40)),
        (0, (-1, -1)),
    ):
        with pytest.raises(ValueError, match="does not lie within a buffer of 10"):
            Ragged(data, [0, offset], [(1, 1), shape])
    Ragged(data, [10, 6], [(0, 3), (2, 2)])
    with pytest.raises(ValueError, match="members 2 and 0 overlap"):
        Ragged(data, [3, 6, 0], [(2, 1), (1, 2), (2, 2)])
    Ragged(data, [3, 3], [(0, 1), (2, 2)])
    data.flags.writeable = False
    shared = Ragged(data, [0, 0], [(2, 2), (3, 3)])
    again = pickle.loads(pickle.dumps(shared))
    assert not again.data.flags.writeable
    with pytest.raises(ValueError, match="2 offsets and 1 shapes"):
        Ragged(data, [0, 0], [(2, 2)])
    with pytest.raises(ValueError, match="contiguous vector"):
        Ragged(data[::2], [0], [(2, 2)])
    with pytest.raises(TypeError, match="integers"):
        Ragged(data, [0.0], [(2, 2)])
    with pytest.raises(ValueError, match=r"shapes of shape \(N, 1\)"):
        Ragged(data, [0], [(2, 2, 2)])


def test_pickles_and_structure(rng):
    r = Ragged.from_list(members(rng, SHAPES))
    again = pickle.loads(pickle.dumps(r))
    assert r.same_structure(again)
    assert all(np.array_equal(x, y) for x, y in zip(r, again, strict=True))
    again[0][...] = 0.0
    assert not r.same_structure(Ragged.from_list(members(rng, SHAPES, "f4")))
    assert not r.same_structure(Ragged.from_list(members(rng, SHAPES[::-1])))
    places = [10 * k for k in range(len(SHAPES))]
    spread = Ragged(np.zeros(10 * len(SHAPES)), places, np.minimum(r.shapes, 3))
    assert not r.same_structure(spread)
    assert spread.same_structure(Ragged.from_list(spread.to_list()))


# -- members of one shape ------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [4, 1000, 2**40])
@pytest.mark.parametrize("ndim", [1, 2])
def test_groups(rng, largest, ndim):
    shapes = rng.choice([0, 1, 2, 3, largest], (500, ndim))
    groups = group_by_shape(shapes)
    assert [group.shape for group in groups] == sorted({tuple(s) for s in shapes.tolist()})
    for group in groups:
        assert np.array_equal(group.members, np.flatnonzero((shapes == group.shape).all(axis=1)))


def test_stacks(rng):
    given = members(rng, SHAPES)
    tidy = Ragged.from_list(given)
    order = rng.permutation(len(given))
    sizes = np.array([x.size for x in given])
    offsets = np.empty(len(given), int)
    offsets[order] = np.concatenate([[0], np.cumsum(sizes[order] + 1)[:-1]])
    mixed = Ragged(np.zeros(100), offsets, SHAPES)
    for k, x in enumerate(given):
        mixed[k][...] = x
    for r, is_view in ((tidy, True), (mixed, False)):
        for group in r.groups():
            stack = r.stack(group)
            assert stack.shape == (len(group.members), *group.shape)
            assert all(np.array_equal(stack[i], given[k]) for i, k in enumerate(group.members))
            if group.shape == (3, 2):
                assert np.shares_memory(stack, r.data) == is_view
            r.put(group, 2 * stack[..., ::-1])
            assert all(np.array_equal(r[k], 2 * given[k][..., ::-1]) for k in group.members)
        with pytest.raises(ValueError, match="members"):
            r.put(r.groups()[0], np.zeros((1, 9, 9)))


def test_stacks_of_members_that_changed_places(rng):
    data = normal(rng, 16)
    r = Ragged(data, [0, 8, 4, 12], [(2, 2)] * 4)
    (group,) = r.groups()
    stack = r.stack(group)
    assert all(np.array_equal(stack[k], r[k]) for k in range(4))
    r.put(group, stack + 1.0)
    assert all(np.array_equal(stack[k] + 1.0, r[k]) for k in range(4))


def test_copies_keep_to_their_members(rng):
    ops = batched_ops_for(np.empty(0))
    for part in (np.s_[:, :3], np.s_[1:, ::2], np.s_[::-1, 5:]):
        source, target = normal(rng, (4, 8)), np.zeros((4, 8))
        want = target.copy()
        want[part] = source[part]
        ops.copy_listed(ops.listed([source[part]]), ops.listed([target[part]]))
        assert np.array_equal(target, want)


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
