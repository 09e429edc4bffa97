"""Ragged containers: members in and out, and stacks of those of one shape."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from mplinalg.batched.gemm import gemm
from mplinalg.batched.ragged import Ragged, group_by_shape
from mplinalg.ops import numpy_batched_ragged as verbs
from mplinalg.ops.dispatch import batched_ops_for

from .lists import assert_products, members
from .systems import DTYPES, normal

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


@pytest.mark.parametrize("dtype", [object, "U5", "S3", [("a", float), ("b", float)]])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(TypeError, match="dtype must be one of numbers"):
        Ragged.from_list([np.eye(2)], dtype=dtype)
    with pytest.raises(TypeError, match="dtype must be one of numbers"):
        Ragged.empty([(2, 2)], dtype)
