"""Products of stacks: entry by entry what they should be, whatever the route and the layout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mplinalg.batched.gemm import gemm
from mplinalg.kernels.cpu.batched import gemm as kernels
from mplinalg.kernels.cpu.batched import streamed, threads
from mplinalg.ops import numpy_batched_gemm
from mplinalg.ops import numpy_batched_plan as plan
from mplinalg.ops.numpy_batched_gemm import small_product
from mplinalg.precision import real_dtype

from .products import assert_product, route
from .systems import DTYPES, normal

__all__ = ["route"]  # a fixture

OPERATIONS = {
    "N": lambda x: x,
    "T": lambda x: x.swapaxes(-1, -2),
    "C": lambda x: x.swapaxes(-1, -2).conj(),
}
SOME = [1, 3, 8, 17]


@pytest.mark.parametrize(
    ("dtype", "n"),
    [("float64", n) for n in [*range(1, 21), 31, 32, 33, 64]]
    + [(dtype, n) for dtype in DTYPES if dtype != "float64" for n in SOME]
    + [
        pytest.param(dtype, n, marks=pytest.mark.slow)
        for dtype in DTYPES
        if dtype != "float64"
        for n in {*range(1, 30), 63, 64, 65} - set(SOME)
    ],
)
def test_every_size(rng, monkeypatch, dtype, n):
    monkeypatch.setattr(plan, "STRAIGHT_FROM", 0)
    monkeypatch.setattr(plan, "AHEAD_FROM", 0)
    a, b = normal(rng, (2, 7, n, n), dtype)
    found = gemm(a, b)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    assert_product(found, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_straight_code_is_of_the_sizes_it_is_for(rng, monkeypatch, dtype):
    seen = []
    small = kernels.small
    monkeypatch.setattr(kernels, "small", lambda *args: (seen.append(args[:3]), small(*args))[1])
    largest = kernels.LARGEST[
        real_dtype(dtype).itemsize, np.dtype(dtype).itemsize // real_dtype(dtype).itemsize
    ]
    for n, members in ((4, 1000), (4, 10), (largest + 1, 100)):
        a, b = normal(rng, (2, members, n, n), dtype)
        assert_product(gemm(a, b), a, b)
    assert seen == [(4, 4, 4)]


def test_members_of_some_tens_are_read_ahead(rng, monkeypatch):
    """Of all layouts but C of neither rows nor columns; complex ones are BLAS's."""
    seen = []
    multiply = streamed.multiply_stack
    monkeypatch.setattr(
        streamed, "multiply_stack", lambda *args: (seen.append(args[4]), multiply(*args))[1]
    )
    monkeypatch.setattr(threads, "blas_threads", lambda: 1)
    a, b = normal(rng, (9, 30, 40)), normal(rng, (9, 40, 50))
    assert_product(gemm(a, b), a, b)
    assert not seen  # in a cache
    monkeypatch.setattr(plan, "AHEAD_FROM", 9 * 30 * 40 * 50)
    for dtype, dimensions in (("float32", (30, 40, 50)), ("float64", (30, 40, 50)), ("c8", None)):
        x, y = a.astype(dtype), b.astype(dtype)
        assert_product(gemm(x, y), x, y)
        assert_product(gemm(x, y.swapaxes(1, 2).copy(), transb=True), x, y)
        assert seen == ([dimensions] * 2 if dimensions else [])
        seen.clear()
    by_columns = np.empty((9, 50, 30)).swapaxes(1, 2)
    assert_product(gemm(a, b, out=by_columns), a, b)
    assert seen == [(50, 40, 30)]
    assert_product(gemm(a, b, out=np.empty((9, 60, 100))[:, ::2, ::2]), a, b)
    assert_product(gemm(a[:, :5], b, out=np.empty((9, 5, 50))), a[:, :5], b)
    assert len(seen) == 1
    monkeypatch.setattr(threads, "blas_threads", lambda: 2)  # which BLAS takes for one large member
    large = normal(rng, (2, 70, 70))
    monkeypatch.setattr(plan, "AHEAD_FROM", 0)
    assert_product(gemm(large[:1], large[:1]), large[:1], large[:1])
    assert len(seen) == 1
    assert_product(gemm(large, large), large, large)
    assert sum(dimensions == (70, 70, 70) for dimensions in seen) >= 1


SHAPES = [(2, 3, 4), (5, 1, 3), (1, 6, 1), (13, 2, 11)]


@pytest.mark.parametrize(("m", "k", "n"), SHAPES, ids=str)
@pytest.mark.parametrize(
    "dtype", ["complex128", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in DTYPES[:3])]
)
def test_operations(rng, route, dtype, m, k, n):
    for transa, transb in itertools.product(OPERATIONS, repeat=2):
        a = normal(rng, (5, m, k) if transa == "N" else (5, k, m), dtype)
        b = normal(rng, (5, k, n) if transb == "N" else (5, n, k), dtype)
        found = gemm(a, b, transa=transa, transb=transb)
        assert_product(found, OPERATIONS[transa](a), OPERATIONS[transb](b))
    a, b = normal(rng, (5, k, m), dtype), normal(rng, (5, n, k), dtype)
    assert_product(gemm(a, b, transa=True, transb=True), a.swapaxes(1, 2), b.swapaxes(1, 2))


SCALARS = [(2.5, 0.0), (1.0, 1.0), (-0.5, 3.0), (0.0, 2.0), (0.0, 0.0)]


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("n", [3, 30])
def test_alpha_and_beta(rng, route, dtype, n):
    a, b, c = normal(rng, (3, 6, n, n), dtype)
    for alpha, beta in SCALARS:
        found = gemm(a, b, c, alpha=alpha, beta=beta)
        assert found.dtype == dtype
        assert_product(found, a, b, alpha, c, beta)


@pytest.mark.parametrize("n", [3, 30])
def test_complex_alpha_and_beta(rng, route, n):
    a, b, c = normal(rng, (3, 6, n, n), complex)
    assert_product(gemm(a, b, c, alpha=2 - 1j, beta=0.5j), a, b, 2 - 1j, c, 0.5j)
    found = gemm(a.real, b.real, alpha=1j)
    assert found.dtype == complex
    assert_product(found, a.real, b.real, 1j)
    assert gemm(a.real.astype("f4"), b.real.astype("f4"), alpha=1j).dtype == "complex64"


@pytest.mark.parametrize("n", [3, 30])
def test_what_is_not_read_may_be_nan(rng, route, n):
    a, b = normal(rng, (2, 6, n, n))
    bad = np.full_like(a, np.nan)
    assert_product(gemm(a, b, bad, beta=0.0), a, b)
    out = bad.copy()
    assert_product(gemm(a, b, out=out), a, b)
    c = normal(rng, (6, n, n))
    assert np.array_equal(gemm(bad, b, c, alpha=0.0, beta=2.0), 2.0 * c)
    assert np.array_equal(gemm(bad, b, alpha=0.0), np.zeros_like(a))


@pytest.mark.parametrize("n", [2, 30])
@pytest.mark.parametrize("kind", ["f", "F"])
def test_factors_are_rounded_to_the_dtype(rng, n, kind):
    """In stacks as in lists: 1e-50 is 0 in single precision, and what it goes with is not read."""
    a, b = normal(rng, (2, 3, n, n), kind)
    bad = np.full_like(a, np.nan)
    none, lists = np.zeros_like(a), (list(bad), list(b))
    for tiny in (1e-50, -1e-60, 1e-50 + 1e-60j)[: 3 if kind == "F" else 2]:
        for found in (gemm(bad, b, alpha=tiny), gemm(*lists, alpha=tiny)):
            assert np.array_equal(found, none)
        want = gemm(a, b)
        for found in (
            gemm(a, b, bad, beta=tiny), gemm(list(a), list(b), list(bad), beta=tiny)
        ):  # fmt: skip
            assert_product(np.array(found), a, b)
            assert found[0].dtype == want.dtype
    wide = np.full((3, n, n), np.nan)
    assert np.isnan(gemm(wide, wide, alpha=1e-50)).all()


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize(
    "shapes",
    [((4, 0, 3), (4, 3, 2)), ((4, 2, 3), (4, 3, 0)), ((4, 2, 0), (4, 0, 3)), ((0, 2, 3), (0, 3, 4)),
     ((0, 2, 3), (3, 4)), ((0, 0), (0, 0)), ((2, 0, 3, 3), (1, 3, 3))],
)  # fmt: skip
def test_nothing_to_do(rng, dtype, shapes):
    a, b = (normal(rng, shape, dtype) for shape in shapes)
    want = a @ b
    found = gemm(a, b)
    assert found.shape == want.shape
    assert found.dtype == dtype
    assert np.array_equal(found, want)
    c = normal(rng, want.shape, dtype)
    assert np.array_equal(gemm(a, b, c, beta=3.0), 3.0 * c)


BROADCAST = [
    ((3, 2), (2, 4)), ((5, 3, 2), (2, 4)), ((3, 2), (5, 2, 4)), ((5, 1, 3, 2), (7, 2, 4)),
    ((5, 7, 3, 2), (7, 2, 4)), ((1, 7, 3, 2), (5, 1, 2, 4)), ((2, 1, 3, 3, 2), (4, 1, 2, 4)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", BROADCAST, ids=str)
def test_batches_broadcast(rng, route, shapes):
    a, b = (normal(rng, shape) for shape in shapes)
    found = gemm(a, b)
    assert found.shape == (a @ b).shape
    assert_product(found, a, b)
    for c in (normal(rng, found.shape), normal(rng, (1, 4)), normal(rng, (6, *found.shape))):
        assert_product(gemm(a, b, c, beta=2.0), a, b, 1.0, c, 2.0)


def layouts(rng, shape, dtype):
    """Arrays of a shape that lie in memory in many ways."""
    *batch, m, n = shape
    plain = normal(rng, shape, dtype)
    yield plain
    yield np.asfortranarray(plain)
    yield np.ascontiguousarray(plain.swapaxes(-1, -2)).swapaxes(-1, -2)
    yield normal(rng, (*batch, 2 * m, 3 * n), dtype)[..., ::2, 1::3]
    yield normal(rng, (*batch, m + 2, n + 1), dtype)[..., 1:-1, :n]
    yield plain[::-1, ::-1, ::-1]
    yield np.moveaxis(normal(rng, (m, *batch, n), dtype), 0, -2)
    yield np.broadcast_to(normal(rng, (m, n), dtype), shape)
    yield np.broadcast_to(normal(rng, (*batch, m, 1), dtype), shape)
    yield np.broadcast_to(normal(rng, (n,), dtype), shape)
    record = np.zeros(shape, [("pad", real_dtype(dtype)), ("number", dtype)])
    record["number"] = plain
    yield record["number"]


@pytest.mark.parametrize(
    "dtype", ["complex128", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in DTYPES[:3])]
)
@pytest.mark.parametrize("sizes", [(3, 2, 4), (9, 31, 22)], ids=str)
def test_every_layout(rng, route, dtype, sizes):
    m, k, n = sizes
    b = normal(rng, (4, k, n), dtype)
    for a in layouts(rng, (4, m, k), dtype):
        a.flags.writeable = False
        assert_product(gemm(a, b), a, b)
        assert_product(gemm(b, a, transa="C", transb="C"), b.swapaxes(1, 2).conj(),
                       a.swapaxes(1, 2).conj())  # fmt: skip
    for out in layouts(rng, (4, n, m), dtype):
        if 0 in out.strides or not out.flags.aligned:
            continue
        a = normal(rng, (4, m, k), dtype)
        c = out.copy()
        assert gemm(b, a, out, transa=True, transb=True, beta=2.0, out=out) is out
        assert_product(out, b.swapaxes(1, 2), a.swapaxes(1, 2), 1.0, c, 2.0)


hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
AXIS = st.tuples(st.integers(1, 3), st.sampled_from([-3, -1, 1, 2]), st.booleans())


@st.composite
def view(draw, rng, core, batch):
    """An array of a shape with any sign and size of strides, and axes of stride 0."""
    shape = (*draw(st.sampled_from([batch, batch[1:]])), *core)
    index, base, fixed = [], [], []
    for count in shape:
        pad, step, repeated = draw(AXIS)
        room = (1 if repeated else count - 1) * abs(step) + 1 + pad
        first = 0 if step > 0 else (count - 1) * abs(step)
        base.append(room if not repeated else 1)
        fixed.append(repeated)
        stop = first + count * step
        index.append(slice(None) if repeated else slice(first, stop if stop >= 0 else None, step))
    order = draw(st.permutations(range(len(shape))))
    memory = normal(rng, [base[k] for k in order]).transpose(np.argsort(order))
    found = memory[tuple(index)]
    return np.broadcast_to(found, shape)


@pytest.mark.parametrize("sizes", [(2, 3, 2), (21, 2, 22)], ids=str)
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_any_strides(rng, route, sizes):
    m, k, n = sizes

    @hypothesis.given(st.data())
    def check(data):
        a, b = data.draw(view(rng, (m, k), (3, 2))), data.draw(view(rng, (k, n), (3, 2)))
        assert_product(gemm(a, b), a, b)

    check()


@pytest.mark.parametrize("n", [2, 30])
def test_out_may_be_an_operand(rng, route, n):
    a, b, c = normal(rng, (3, 8, n, n))
    want, added = gemm(a, b), gemm(a, b, c, alpha=2.0, beta=-1.0)
    for name in "abc":
        given = {"a": a.copy(), "b": b.copy(), "c": c.copy()}
        out = given[name]
        assert gemm(given["a"], given["b"], out=out) is out
        assert np.array_equal(out, want)
        given = {"a": a.copy(), "b": b.copy(), "c": c.copy()}
        gemm(given["a"], given["b"], given["c"], alpha=2.0, beta=-1.0, out=given[name])
        assert np.array_equal(given[name], added)
    same = a.copy()
    gemm(same, same, same, beta=1.0, out=same)
    assert_product(same, a, a, 1.0, a, 1.0)


@pytest.mark.parametrize("n", [2, 30])
def test_out_may_overlap_an_operand(rng, route, n):
    memory = normal(rng, (9, n, n))
    a, b = memory[:-1].copy(), normal(rng, (8, n, n))
    want = gemm(a, b)
    gemm(memory[:-1], b, out=memory[1:])
    assert np.array_equal(memory[1:], want)
    memory = normal(rng, (9, n, n))
    c = memory[1:].copy()
    gemm(a, b, memory[1:], beta=1.0, out=memory[:-1])
    assert_product(memory[:-1], a, b, 1.0, c, 1.0)


@pytest.mark.parametrize("n", [3, 30])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_a_bad_member_stays_alone(rng, route, dtype, n):
    a, b = normal(rng, (2, 40, n, n), dtype)
    good = gemm(a, b)
    a[3, 0, 1], b[8, 2, 2], a[21, 1, 1], a[22] = np.nan, np.inf, -np.inf, 0.0
    b[22, 0, 0] = np.inf
    found = gemm(a, b)
    with np.errstate(invalid="ignore"):
        want = a @ b
    bad = [3, 8, 21, 22]
    assert np.array_equal(np.isfinite(found), np.isfinite(want))
    if dtype == "float64":  # of complex products it depends on their order which parts are NaN
        assert np.array_equal(found[~np.isfinite(found)], want[~np.isfinite(want)], equal_nan=True)
    assert np.array_equal(np.delete(found, bad, 0), np.delete(good, bad, 0))


@pytest.mark.parametrize(("dtype", "n", "members"), [
    ("float64", 2, 100_003), ("float32", 3, 10_007), ("float64", 1, 1), ("float64", 2, 100_000),
    ("complex64", 2, 997), ("float64", 25, 307),
])  # fmt: skip
def test_many_members(rng, dtype, n, members):
    a, b = normal(rng, (2, members, n, n), dtype)
    assert_product(gemm(a, b), a, b)


@pytest.mark.parametrize(("n", "members"), [(3, 200_003), (25, 1009)])
def test_threads_give_the_same_bits(rng, monkeypatch, n, members):
    a, b = normal(rng, (2, members, n, n))
    chunks, run = [], threads.run_chunks
    monkeypatch.setattr(threads, "run_chunks", lambda *args: chunks.append(len(run(*args))))
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "blas_threads", lambda count=count: count)
        found.append(gemm(a, b))
    assert chunks[0] == 1 < min(chunks[1:])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (10, 4, 3, 5), (3, 0, 2, 4), (0, 3, 3, 3), (2, 3, 0, 4)]
)
def test_few_small_members(rng, monkeypatch, dtype, shape):
    """Of plain stacks in one call; the other routes give the same numbers, or nearly."""
    count, m, k, n = shape
    a, b = normal(rng, (count, m, k), dtype), normal(rng, (count, k, n), dtype)
    quick = gemm(a, b)
    assert small_product(a, b) is not None
    assert quick.flags.c_contiguous
    assert_product(quick, a, b)
    monkeypatch.setattr(plan, "STRAIGHT_FROM", 0)
    assert small_product(a, b) is None
    assert_product(gemm(a, b), a, b)


def test_the_largest_orders_of_straight_code():
    """Are known without the kernels, which are not loaded for a small product."""
    for (size, parts), order in kernels.LARGEST.items():
        assert numpy_batched_gemm._STRAIGHT[{4: "fF", 8: "dD"}[size][parts - 1]] == order


def test_what_is_no_small_product(rng):
    a = rng.standard_normal((3, 4, 4))
    for x, y in (
        (a, a.astype("f")), (a, a[0]), (a, a[:1]), (a, a.tolist()), (a, a[:, 1:]),
        (a.astype(">f8"), a.astype(">f8")), (a.astype(int), a.astype(int)),
        (a.view(np.recarray), a), (np.ones((20, 10, 10)), np.ones((20, 10, 10))),
        (np.ones((5, 40, 40)), np.ones((5, 40, 40))),
        (a.astype("g"), a.astype("g")),
    ):  # fmt: skip
        assert small_product(x, y) is None
    with pytest.raises(ValueError, match=r"op\(a\) has 4 columns and op\(b\) 3 rows"):
        gemm(a, a[:, 1:])
    assert np.array_equal(gemm(a, a, alpha=2.0), 2 * (a @ a))
    assert np.array_equal(gemm(a, a, transa=True), a.swapaxes(1, 2) @ a)
    with np.errstate(all="raise"):
        assert np.isnan(gemm(a * np.inf, a)).any()
        assert np.isinf(gemm(a * 1e200, a * 1e200)).any()
