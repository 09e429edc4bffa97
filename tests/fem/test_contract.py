"""contract equals numpy.einsum, for random subscripts and typical ones, dtypes and strides."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.fem import contract, contract_path, lowering, plan, product
from mplinalg.kernels.cpu.batched import streamed, threads
from mplinalg.ops import numpy_batched_plan

from ..device import cupy  # noqa: F401  (a fixture)
from .einsum import assert_is_einsum, normal, step_of

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

DTYPES = ["float32", "float64", "complex64", "complex128"]


# -- equal to einsum on random subscripts --------------------------------------------------------


@st.composite
def contractions(draw):
    """Subscripts, and operands with any strides that fit them."""
    sizes = {i: draw(st.integers(0, 4)) for i in draw(st.permutations("aBcDeF"))[:5]}
    under = draw(st.lists(st.integers(0, 3), max_size=2))
    dtypes = draw(st.sampled_from([*((char,) for char in "fdFDei?"), tuple("fdFDi")]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs, operands = [], []
    for _ in range(draw(st.integers(1, 4))):
        term = draw(st.lists(st.sampled_from(sorted(sizes)), max_size=4))
        shape = [sizes[i] for i in term]
        for axis, i in enumerate(term):  # broadcast
            if term.count(i) == 1 and draw(st.integers(0, 9)) == 0:
                shape[axis] = 1
        if draw(st.integers(0, 3)) == 0:
            place = draw(st.integers(0, len(term)))
            own = under[draw(st.integers(0, len(under))) :]
            own = [1 if draw(st.integers(0, 4)) == 0 else size for size in own]
            term.insert(place, "...")
            shape[place:place] = own
        inputs.append("".join(term))
        operands.append(strided(draw, rng, shape, draw(st.sampled_from(dtypes))))
    given = ",".join(inputs)
    if draw(st.booleans()):
        given = given.replace(",", " , ")
    if draw(st.integers(0, 4)) == 0:
        return given, operands
    found = sorted({i for i in given if i.isalpha()})
    result = draw(st.permutations(found))[: draw(st.integers(0, len(found)))]
    if "..." in given:
        result.insert(draw(st.integers(0, len(result))), "...")
    return given + "->" + "".join(result), operands


def strided(draw, rng, shape, dtype):
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1])) for _ in shape]
    a = normal(rng, [shape[axis] * abs(steps[axis]) for axis in order], "F")
    a = (a if dtype in "FD" else 3 * a.real).astype(dtype)
    a = a.transpose(np.argsort(order)) if shape else a
    return a[tuple(slice(None, None, step) for step in steps)]


@hypothesis.settings(max_examples=400)
@hypothesis.given(contractions())
def test_random_subscripts_are_einsum(case):
    subscripts, operands = case
    assert_is_einsum(contract(subscripts, *operands), subscripts.replace(" ", ""), operands)


@hypothesis.settings(max_examples=150)
@hypothesis.given(contractions(), st.sampled_from("CFS"))
def test_out_is_written(case, order):
    subscripts, operands = case
    want = np.einsum(subscripts, *operands)
    shape = (*want.shape[:-1], 2 * want.shape[-1]) if order == "S" and want.ndim else want.shape
    out = np.ones(shape, want.dtype, order="F" if order == "F" else "C")
    out = out[..., ::2] if shape != want.shape else out
    assert contract(subscripts, *operands, out=out) is out
    assert_is_einsum(out, subscripts, operands)


@st.composite
def pairs(draw):
    """Two operands with indices of all four kinds, in any order of axes and in memory."""
    letters = "abcdefg"[: draw(st.integers(2, 7))]
    sizes = {i: draw(st.integers(2, 3)) for i in letters}
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs = [draw(st.permutations(letters))[: draw(st.integers(1, 5))] for _ in range(2)]
    operands = [strided(draw, rng, [sizes[i] for i in term], "d") for term in inputs]
    found = sorted({i for term in inputs for i in term})
    result = draw(st.permutations(found))[: draw(st.integers(0, len(found)))]
    return ",".join(map("".join, inputs)) + "->" + "".join(result), operands


@hypothesis.settings(max_examples=300)
@hypothesis.given(pairs(), st.data())
def test_every_way_is_right(case, data):
    """Not only the one that is expected to be fastest."""
    subscripts, operands = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            lowering, "min", lambda ways, key: data.draw(st.sampled_from(ways)), raising=False
        )
        plan.plan.cache_clear()
        got = contract(subscripts, *operands)
    plan.plan.cache_clear()
    assert_is_einsum(got, subscripts, operands)


# -- typical contractions ------------------------------------------------------------------------

TYPICAL = {
    "kI,kJL->IJL": [(7, 4), (7, 5, 3)],
    "ij,jk->ik": [(4, 5), (5, 6)],
    "ij,jk->ki": [(4, 5), (5, 6)],
    "ij,kj->ik": [(4, 5), (6, 5)],
    "bij,bjk->bik": [(3, 4, 5), (3, 5, 6)],
    "bij,jk->bik": [(3, 4, 5), (5, 6)],
    "abij,jk->abik": [(2, 3, 4, 5), (5, 6)],
    "akb,kn->anb": [(3, 4, 5), (4, 6)],
    "akb,nk->abn": [(3, 4, 5), (6, 4)],
    "bihd,bjhd->bhij": [(2, 4, 3, 5), (2, 6, 3, 5)],
    "abef,ijef->abij": [(3, 4, 5, 6), (2, 3, 5, 6)],
    "ekji,ai,bj,ck->ecba": [(3, 4, 4, 4), (5, 4), (5, 4), (5, 4)],
    "ijk,jr,kr->ir": [(5, 6, 7), (6, 3), (7, 3)],
    "i,j->ij": [(4,), (5,)],
    "ij,ij->": [(4, 5), (4, 5)],
    "bij,bj->bi": [(3, 4, 5), (3, 5)],
    "bi,ij,bj->b": [(6, 4), (4, 5), (6, 5)],
    "i,i,i->i": [(4,), (4,), (4,)],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("subscripts", TYPICAL)
def test_typical_contractions(rng, subscripts, dtype):
    operands = [normal(rng, shape, dtype) for shape in TYPICAL[subscripts]]
    assert_is_einsum(contract(subscripts, *operands), subscripts, operands)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("bij,bjk->bik", [(40, 3, 3), (40, 3, 3)]),
        ("ijb,jkb->ikb", [(3, 3, 40), (3, 3, 40)]),  # strides that BLAS would not take
        ("akb,kn->abn", [(40, 3, 3), (3, 3)]),
        ("abij,cbjk->acbik", [(3, 2, 3, 3), (4, 2, 3, 3)]),
        ("bij,bjk->bik", [(5, 20, 17), (5, 17, 19)]),
        ("xk,kn->xn", [(67, 5), (5, 6)]),  # tall: blocks of rows, and a rest
        ("kx,kn->xn", [(5, 64), (5, 6)]),
    ],
)
def test_stacks(rng, engine, subscripts, shapes, dtype):
    operands = [normal(rng, shape, dtype) for shape in shapes]
    assert_is_einsum(contract(subscripts, *operands), subscripts, operands)
    shape = np.einsum(subscripts, *operands).shape
    out = np.empty(shape, dtype)
    assert contract(subscripts, *operands, out=out) is out
    assert_is_einsum(out, subscripts, operands)


@pytest.mark.parametrize(("dtype", "narrow", "wide"), [("float32", 16, 17), ("float64", 8, 9)])
def test_tall_matrices_are_multiplied_by_blocks_of_rows(rng, monkeypatch, dtype, narrow, wide):
    seen = []
    multiply = streamed.multiply_stack
    monkeypatch.setattr(
        streamed, "multiply_stack", lambda *args: (seen.append(args[4]), multiply(*args))[1]
    )
    monkeypatch.setattr(threads, "blas_threads", lambda: 1)
    monkeypatch.setattr(product, "_MANY", 0)
    monkeypatch.setattr(product, "_TALL", 0)
    monkeypatch.setattr(numpy_batched_plan, "AHEAD_FROM", 0)
    for shapes, layout, blocks in [
        ([(700, 20), (20, wide)], "C", [(128, 20, wide)]),  # five blocks, and a rest
        ([(700, 20), (20, narrow)], "C", []),
        ([(700, 20), (20, wide)], "F", []),
        ([(3 * wide, 20), (20, wide)], "C", []),
    ]:
        operands = [np.asarray(normal(rng, shape, dtype), order=layout) for shape in shapes]
        assert_is_einsum(contract("xk,kn->xn", *operands), "xk,kn->xn", operands)
        out = np.zeros((shapes[0][0], 2 * shapes[1][1]), dtype)
        contract("xk,kn->xn", *operands, out=out[:, ::2])
        assert_is_einsum(out[:, ::2], "xk,kn->xn", operands)
        assert not out[:, 1::2].any()
        assert set(seen) == set(blocks)
        seen.clear()


def test_lists_in_place_of_a_string(rng):
    a, b = normal(rng, (3, 4)), normal(rng, (2, 4, 5))
    for arguments in [
        (a, [0, 1], b, [2, 1, 3]),
        (a, [0, 1], b, [2, 1, 3], [3, 0]),
        (a, (7, 1), b, (..., 1, 3), (..., 7)),
        (a, [np.int64(4), 1], b, [2, 1, 30]),
        (a, [1, 0]),
        (normal(rng, (3, 3)), [5, 5]),
    ]:
        want = np.einsum(*arguments)
        assert np.allclose(contract(*arguments), want, rtol=1e-14, atol=1e-14)
    many = [x for i in range(60) for x in (normal(rng, 2), [i])]
    assert np.isclose(contract(*many, []), np.prod([x.sum() for x in many[::2]]))


def test_array_likes_and_scalars():
    assert contract("i,i->", [1, 2, 3], (4.0, 5.0, 6.0)) == 32.0
    assert isinstance(contract("i,i", np.ones(3), np.ones(3)), np.float64)
    assert contract(",i->i", 2.0, np.ones(3, np.float32)).dtype == np.float64
    assert contract(",", np.float32(2), np.float32(3)) == 6


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool", "O"])
def test_other_dtypes_are_exact(rng, dtype):
    a, b, c = (rng.integers(0, 100, (3, 3)).astype(dtype) for _ in range(3))
    for subscripts, operands in [("ij,jk,kl->il", (a, b, c)), ("ii", (a,)), ("ij,kj", (a, b))]:
        got, want = contract(subscripts, *operands), np.einsum(subscripts, *operands)
        assert np.array_equal(got, want)
        assert np.asarray(got).dtype == np.asarray(want).dtype
    assert contract("ij,jk", a, np.ones((3, 2), np.float32)).dtype == np.result_type(dtype, "f")


def test_extended_precision(rng):
    a = normal(rng, (3, 4)).astype(np.longdouble)
    got = contract("ij,kj,kl->il", a, a, a)
    assert got.dtype == np.longdouble
    assert np.allclose(got, a @ a.T @ a, rtol=30 * np.finfo(np.longdouble).eps, atol=0)


def test_byte_order_and_alignment(rng):
    a, b = normal(rng, (3, 4)), normal(rng, (4, 5))
    swapped = a.astype(a.dtype.newbyteorder())
    crooked = np.empty(a.nbytes + 1, np.uint8)[1:].view(float).reshape(a.shape)
    crooked[...] = a
    fields = np.zeros((3, 4), [("skip", "u1"), ("a", "f8")])  # strides of 9 bytes
    fields["a"] = a
    for same in (swapped, crooked, fields["a"]):
        assert_is_einsum(contract("ij,jk", same, b), "ij,jk", [a, b])


def test_strides_that_are_no_multiples(rng, engine):
    """Complex numbers with a real one between them: aligned, and 1.5 numbers apart."""
    a, b = normal(rng, (6, 3, 3), complex), normal(rng, (6, 3, 3), complex)
    fields = np.zeros(a.shape, [("skip", "f8"), ("a", "c16")])
    fields["a"] = a
    assert fields["a"].flags.aligned
    assert step_of("bij,bjk->bik", fields["a"], b).layouts == ("strided", "as it is")
    got = contract("bij,bjk->bik", fields["a"], b)
    assert_is_einsum(got, "bij,bjk->bik", [a, b])


@pytest.mark.parametrize("optimize", [True, False, "greedy", "dp", [(0, 1), (0, 1)], [(0, 1, 2)]])
def test_any_order_of_the_products(rng, optimize):
    operands = [normal(rng, (4, 5)), normal(rng, (5, 6)), normal(rng, (6, 3))]
    got = contract("ij,jk,kl->il", *operands, optimize=optimize)
    assert_is_einsum(got, "ij,jk,kl->il", operands)
    assert len(contract_path("ij,jk,kl->il", *operands, optimize=optimize).steps) == 2


def test_the_order_that_numpy_found(rng):
    operands = [normal(rng, (4, 5)), normal(rng, (5, 6)), normal(rng, (6, 3))]
    path, _ = np.einsum_path("ij,jk,kl->il", *operands)
    got = contract("ij,jk,kl->il", *operands, optimize=path)
    assert_is_einsum(got, "ij,jk,kl->il", operands)
    assert np.array_equal(contract("ij->ji", operands[0], optimize=path[:1]), operands[0].T)


@pytest.mark.parametrize("dtype", ["float64", "int64", "longdouble"])
def test_any_letters(rng, dtype):
    a, b = rng.integers(0, 9, (3, 4)).astype(dtype), rng.integers(0, 9, (4, 5)).astype(dtype)
    for subscripts in ("αβ,βγ", "αβ,βγ->γα", "é...,...ü"):
        ascii_only = subscripts.translate(str.maketrans("αβγéü", "abcde"))
        assert_is_einsum(contract(subscripts, a, b), ascii_only, [a, b])
    many = [x for k in range(30) for x in (rng.integers(1, 3, 1).astype(dtype), [2 * k])]
    assert contract(*many, []) == np.prod([x[0] for x in many[::2]])


def test_the_order_takes_few_operations():
    n = 20
    chain = [np.ones((n, n)), np.ones((n, n)), np.ones(n)]
    assert contract_path("ij,jk,k->i", *chain).flops == 2 * 2 * n * n


@pytest.mark.parametrize("subscripts", ["ij,jk->ik", "bij,bjk->bik", "ij,j->i", "bi,bi->b"])
def test_a_bad_number_spoils_its_own_sums_only(rng, subscripts, engine):
    sizes = {"b": 3, "i": 4, "j": 5, "k": 6}
    given = subscripts.partition("->")[0].split(",")
    operands = [normal(rng, [sizes[i] for i in term]) for term in given]
    operands[0][(0,) * operands[0].ndim] = np.nan
    got, want = contract(subscripts, *operands), np.einsum(subscripts, *operands)
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert 0 < np.isnan(got).sum() < got.size


# -- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("subscripts", ["kI,kJL->IJL", "bij,bjk->bik", "i,j->ij", "ij,ij->",
                                        "bij,bj->bi", "i,i,i->i"])  # fmt: skip
def test_arrays_of_a_device(cupy, rng, subscripts):  # noqa: F811
    operands = [normal(rng, shape) for shape in TYPICAL[subscripts]]
    there = [cupy.asarray(a) for a in operands]
    got = contract(subscripts, *there)
    assert isinstance(got, cupy.ndarray)
    assert np.allclose(cupy.asnumpy(got), np.einsum(subscripts, *operands), rtol=1e-13, atol=1e-13)
    out = cupy.empty(got.shape)
    assert contract(subscripts, *there, out=out) is out
    assert np.allclose(cupy.asnumpy(out), cupy.asnumpy(got), rtol=1e-13, atol=1e-13)
    with pytest.raises(TypeError, match="NumPy and CuPy arrays in one call"):
        contract(subscripts, operands[0], *there[1:])
