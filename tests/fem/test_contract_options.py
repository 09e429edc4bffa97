"""Options of contract, out and precision, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mplinalg.fem import contract, product
from mplinalg.precision import get_format

from .einsum import assert_is_einsum, normal

DTYPES = ["float32", "float64", "complex64", "complex128"]


# -- out -----------------------------------------------------------------------------------------


def test_out_may_overlap(rng, engine):
    for subscripts, shape in [
        ("ij,jk->ik", (4, 4)), ("ij,ij->ij", (4, 4)), ("ij,kj->ki", (4, 4)),
        ("bij,bjk->bik", (9, 20, 20)), ("bij,bjk,bkl->bil", (9, 3, 3)),
    ]:  # fmt: skip
        out = normal(rng, shape)
        operands = [out] * (1 + subscripts.count(","))
        want = np.einsum(subscripts, *operands)
        assert contract(subscripts, *operands, out=out) is out
        assert np.allclose(out, want, rtol=1e-13, atol=1e-13)
    a = normal(rng, (4, 4))
    before = a.copy()
    contract("ij->ji", a, out=a)
    assert np.array_equal(a, before.T)


def test_out_is_written_without_a_copy(rng, monkeypatch):
    a, b = normal(rng, (4, 5)), normal(rng, (5, 6, 7))
    targets = []
    gemm = product.Engine.gemm

    def watched(self, *operands, out=None, **keywords):
        targets.append(out)
        return gemm(self, *operands, out=out, **keywords)

    monkeypatch.setattr(product.Engine, "gemm", watched)
    for subscripts, shape in [("ij,jkl->ikl", (4, 6, 7)), ("ij,jkl->kli", (6, 7, 4))]:
        out = np.zeros(shape)
        contract(subscripts, a, b, out=out)
        assert np.shares_memory(targets[-1], out)
    x, y = normal(rng, (2, 3, 4, 5)), normal(rng, (2, 3, 5, 6))
    out = np.zeros((2, 3, 4, 6)).transpose(2, 0, 1, 3)  # as the stack is computed
    contract("abij,abjk->iabk", x, y, out=out)
    assert np.shares_memory(targets[-1], out)
    assert_is_einsum(out, "abij,abjk->iabk", [x, y])
    out = np.zeros((4, 6, 14))[..., ::2]
    contract("ij,jkl->ikl", a, b, out=out)
    assert targets[-1] is None
    assert_is_einsum(out, "ij,jkl->ikl", [a, b])


def test_out_may_be_wider(rng):
    a, b = normal(rng, (3, 4), "f"), normal(rng, (4, 5), "f")
    out = np.empty((3, 5))
    contract("ij,jk", a, b, out=out)
    assert np.array_equal(out, contract("ij,jk", a, b).astype(float))
    counts = np.empty((3, 3), np.int64)
    contract("ij,kj", np.ones((3, 4), np.int32), np.ones((3, 4), np.int32), out=counts)
    assert np.all(counts == 4)


@pytest.mark.parametrize("rows", [3, 200_000])  # by NumPy, and by kernels that get an address
def test_a_read_only_out(rng, rows):
    out = np.zeros((rows, 6))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        contract("ij,jk", normal(rng, (rows, 6)), normal(rng, (6, 6)), out=out)
    assert not out.any()


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.empty((3, 3)), ValueError),
        (np.empty((3, 5, 1)), ValueError),
        (np.empty((3, 5), np.float32), TypeError),
        (np.empty((3, 5), int), TypeError),
        ([[0.0] * 5] * 3, TypeError),
    ],
)
def test_an_out_that_does_not_fit(rng, out, error):
    a, b = normal(rng, (3, 4)), normal(rng, (4, 5))
    with pytest.raises(error, match="out"):
        contract("ij,jk", a, b, out=out)
    with pytest.raises(error, match="out"):
        contract("ij,ij->", a, a, out=np.empty((1,)) if error is ValueError else np.empty((), "f"))


# -- what is refused -----------------------------------------------------------------------------

BAD = [
    ("ijk,jk->i", [(2, 3), (3, 4)], "operand 0 has 2 dimensions, but its subscripts 'ijk' are 3"),
    ("ij,j->i", [(2, 3), (3, 4)], "operand 1 has 2 dimensions, but its subscripts 'j' are 1"),
    ("i...j,j", [(2,), (3,)], "operand 0 has 1 dimensions, but .* at least 2"),
    ("ij,jk", [(2, 3), (4, 5)], "index 'j' is 3 in operand 0 and 4 in operand 1"),
    ("ij,k,jk", [(2, 3), (4,), (3, 5)], "index 'k' is 4 in operand 1 and 5 in operand 2"),
    ("ii", [(2, 3)], "index 'i' is 2 and 3 in operand 0"),
    ("ii", [(1, 3)], "index 'i' is 1 and 3 in operand 0"),
    ("i,i", [(0,), (3,)], "index 'i' is 0 in operand 0 and 3 in operand 1"),
    ("...,...", [(2, 3), (4, 3)], "an ellipsis is 2 in operand 0 and 4 in operand 1"),
    ("ij,jk->il", [(2, 3), (3, 4)], "index 'l' of the result is in no operand"),
    ("ij->iji", [(2, 3)], "index 'i' is 2 times in the result"),
    ("ij->", [(2, 3), (3, 4)], "subscripts of 1 operands, for 2"),
    ("ij,jk->ik", [(2, 3)], "subscripts of 2 operands, for 1"),
    ("i...->i", [(2, 3)], "the result has no ellipsis"),
    ("i..j", [(2, 3)], "'.' in the subscripts of operand 0 is not a letter"),
    ("...i...", [(2, 3)], "'.' in the subscripts of operand 0"),
    ("i1", [(2, 3)], "'1' in the subscripts of operand 0"),
    ("ij->i->j", [(2, 3)], "'-' in the subscripts of the result"),
    ("i>j", [(2, 3)], "'>' in the subscripts of operand 0"),
]


@pytest.mark.parametrize(("subscripts", "shapes", "message"), BAD)
def test_what_is_wrong_is_said(subscripts, shapes, message):
    for dtype in (float, int):
        operands = [np.ones(shape, dtype) for shape in shapes]
        with pytest.raises(ValueError):
            np.einsum(subscripts, *operands)
        with pytest.raises(ValueError, match=message) as raised:
            contract(subscripts, *operands)
        assert subscripts in str(raised.value)
        assert all(str(shape) in str(raised.value) for shape in shapes)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("ij",), ValueError, "no operands"),
        ((np.ones(2), [0], np.ones(2), 0), TypeError, "list of indices"),
        ((np.ones(2), ["i"]), TypeError, "integer or an ellipsis"),
        ((np.ones(2), [0], [1]), ValueError, "is in no operand"),
        (("i", np.array(["a"])), TypeError, "operand 0 must be numeric"),
        (("i", np.ma.array([1.0])), ValueError, r"masked .*operand 0"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, error, message):
    with pytest.raises(error, match=message):
        contract(*arguments)


@pytest.mark.parametrize(
    ("optimize", "error", "message"),
    [
        ("fast", ValueError, "optimize='fast'.* not found"),
        ([(0, 3), (0, 1)], ValueError, r"\(0, 3\) are not positions among 3"),
        ([(0, 0), (0, 1)], ValueError, r"\(0, 0\) are not positions"),
        ([(-1, 0), (0, 1)], ValueError, r"\(-1, 0\) are not positions"),
        ([(0, 1), ()], ValueError, r"\(\) are not positions"),
        ([(0, 1)], ValueError, "leaves 2 of 3 operands"),
        (5, TypeError, "optimize must be a name"),
        (("greedy", 100), TypeError, "optimize must be a name"),
        ([0, 1], TypeError, "optimize must be a name"),
        (np.array([[0, 1], [0, 1]]), TypeError, "optimize must be a name"),
    ],
)
def test_an_order_that_is_none(optimize, error, message):
    a = np.ones((2, 2))
    with pytest.raises(error, match=message):
        contract("ij,jk,kl", a, a, a, optimize=optimize)


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32", "fp16x2"])
def test_low_precision(rng, precision, dtype):
    """Each operand of a product is rounded: 2 units of the format for two, and small errors."""
    unit = get_format(precision).unit_roundoff
    for subscripts, shapes in [("kI,kJL->IJL", [(7, 4), (7, 5, 3)]),
                               ("bij,bjk->bik", [(3, 4, 5), (3, 5, 6)])]:  # fmt: skip
        operands = [normal(rng, shape, dtype) for shape in shapes]
        got = contract(subscripts, *operands, precision=precision)
        assert_is_einsum(got, subscripts, operands, unit)
        exact = np.einsum(subscripts, *operands)
        assert np.abs(got - exact).max() > unit / 64 * np.abs(exact).max()


def test_fp32_products_of_double(rng):
    a, b = normal(rng, (6, 7)), normal(rng, (7, 8))
    got = contract("ij,jk", a, b, precision="fp32")
    assert got.dtype == float
    assert_is_einsum(got, "ij,jk", [a, b], 2.0**-24)
    assert not np.array_equal(got, contract("ij,jk", a, b))
    for same in ("working", "fp64"):
        assert np.array_equal(contract("ij,jk", a, b, precision=same), contract("ij,jk", a, b))


def test_sums_of_a_low_precision_are_matrix_products(rng):
    """Dot products in a stack too, though the numbers would be used once."""
    a = normal(rng, (50, 2, 3))
    got = contract("bij,bij->b", a, a, precision="bf16")
    assert not np.array_equal(got, contract("bij,bij->b", a, a))
    assert_is_einsum(got, "bij,bij->b", [a, a], 2.0**-8)


@pytest.mark.parametrize(
    ("precision", "dtype", "message"),
    [
        ("fp8", "f", "precision must be one of .*'working'"),
        ("fp64", "f", "wider than the float32"),
        ("fp16", "i", "dtype int32"),
    ],
)
def test_a_precision_that_cannot_be(precision, dtype, message):
    a = np.ones((2, 2), dtype)
    with pytest.raises(ValueError, match=message):
        contract("ij,jk", a, a, precision=precision)


def test_more_indices_than_einsum_knows():
    letters = [chr(0x3B1 + k) for k in range(53)]
    subscripts = ",".join(a + b for a, b in itertools.pairwise(letters))
    ones = [np.ones((1, 1), int)] * 52
    with pytest.raises(ValueError, match="of dtype int64, knows 52 indices; got 53"):
        contract(subscripts, *ones)
    assert contract(subscripts, *(a.astype(float) for a in ones)).ravel() == 1
