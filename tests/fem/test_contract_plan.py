"""What contract does: few operations, no copies where strides allow, nothing planned twice."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.fem import contract, contract_path, plan, product

from .einsum import assert_is_einsum, normal, step_of


@pytest.fixture
def seen(monkeypatch):
    """The operands of all matrix products."""
    operands = []
    gemm = product.Engine.gemm

    def watched(self, a, b, **keywords):
        operands.append((a, b))
        return gemm(self, a, b, **keywords)

    monkeypatch.setattr(product.Engine, "gemm", watched)
    return operands


def test_the_contraction_of_the_design_is_one_matrix_product(rng, seen):
    a, b = normal(rng, (7, 4)), normal(rng, (7, 5, 3))
    done = step_of("kI,kJL->IJL", a, b)
    assert (done.kind, done.m, done.n, done.k, done.batch) == ("gemm", 4, 15, 7, 1)
    assert done.layouts == ("transposed", "as it is")
    c = contract("kI,kJL->IJL", a, b)
    ((left, right),) = seen
    assert left.shape == (4, 7)
    assert right.shape == (7, 15)
    assert np.shares_memory(left, a)
    assert np.shares_memory(right, b)
    assert c.flags.c_contiguous


@pytest.mark.parametrize(
    ("subscripts", "shapes", "batch"),
    [
        ("ij,jk->ik", [(4, 5), (5, 6)], 1),
        ("ji,kj->ik", [(5, 4), (6, 5)], 1),
        ("ij,jk->ki", [(4, 5), (5, 6)], 1),
        ("abij,jk->abik", [(2, 3, 4, 5), (5, 6)], 1),
        ("abij,abjk->abik", [(2, 3, 4, 5), (2, 3, 5, 6)], 6),
        ("baij,abjk->abik", [(3, 2, 4, 5), (2, 3, 5, 6)], 6),
        ("akb,kn->anb", [(30, 40, 50), (40, 60)], 30),
        ("akb,nk->abn", [(30, 40, 50), (60, 40)], 30),
        ("bihd,bjhd->bhij", [(2, 40, 3, 50), (2, 60, 3, 50)], 6),
        ("ijkl,klm->ijm", [(2, 3, 4, 5), (4, 5, 6)], 1),
        ("ijb,jkb->ikb", [(3, 4, 500), (4, 3, 500)], 500),
        ("ij,j->i", [(40, 50), (50,)], 1),
        ("ijk,ijk->", [(4, 5, 6), (4, 5, 6)], 1),
    ],
)
def test_nothing_is_copied(rng, seen, subscripts, shapes, batch):
    operands = [normal(rng, shape) for shape in shapes]
    planned = contract_path(subscripts, *operands)
    assert planned.copied == 0
    assert step_of(subscripts, *operands).batch == batch
    contract(subscripts, *operands)
    ((left, right),) = seen
    if step_of(subscripts, *operands).swapped:
        left, right = right, left
    assert np.shares_memory(left, operands[0])
    assert np.shares_memory(right, operands[1])


@pytest.mark.parametrize(
    ("subscripts", "shapes", "copies"),
    [
        ("ijkl,jlm->ikm", [(30, 4, 30, 5), (4, 5, 60)], [True, False]),  # j and l are not one index
        ("ijkl,ljm->ikm", [(30, 4, 30, 5), (5, 4, 60)], [True, False]),
        ("akb,kn->abn", [(2, 50, 2000), (50, 60)], [False, False]),  # few large products
    ],
)
def test_a_copy_is_counted(rng, seen, subscripts, shapes, copies):
    operands = [normal(rng, shape) for shape in shapes]
    copied = contract_path(subscripts, *operands).copied
    contract(subscripts, *operands)
    used = [x for pair in seen for x in pair]
    fresh = [not any(np.shares_memory(a, x) for x in used) for a in operands]
    assert fresh == copies
    assert copied == sum(a.size for a, is_fresh in zip(operands, fresh, strict=True) if is_fresh)


def test_a_diagonal_is_a_view(rng, seen):
    a, b = normal(rng, (3, 3, 4)), normal(rng, (4, 5))
    contract("iij,jk->ik", a, b)
    assert np.shares_memory(seen[-1][0], a)
    # i and j are not one index of it
    assert contract_path("iij,ijk->k", a, normal(rng, (3, 4, 500))).copied == 3 * 4


def test_a_matrix_without_unit_stride_is_copied(rng, seen):
    """Which a stack of small ones is not."""
    a, b = normal(rng, (100, 100))[::2, ::2], normal(rng, (50, 50))
    assert step_of("ij,jk->ik", a, b).layouts == ("copied", "as it is")
    contract("ij,jk->ik", a, b)
    assert seen[-1][0].flags.c_contiguous
    stack = normal(rng, (20, 6, 6))[:, ::2, ::2]
    assert step_of("bij,bjk->bik", stack, stack).layouts == ("strided", "strided")


def test_many_small_products_are_one_after_a_copy(rng):
    """Copying 20,000 numbers takes less time than 5,000 products."""
    a, b = normal(rng, (5_000, 2, 2)), normal(rng, (2, 30))
    done = step_of("akb,kn->abn", a, b)
    assert (done.batch, done.copied) == (1, a.size)
    assert_is_einsum(contract("akb,kn->abn", a, b), "akb,kn->abn", [a, b])
    wide = np.broadcast_to(a[..., :1], a.shape)  # its last index has no stride
    assert_is_einsum(contract("akb,kn->abn", wide, b), "akb,kn->abn", [wide, b])


def test_indices_of_one_operand_are_summed_first(rng):
    a, b = normal(rng, (4, 5, 6)), normal(rng, (5, 7))
    assert step_of("xjy,jk->k", a, b).flops == 2 * 5 * 7


def test_one_operand_is_viewed(rng):
    a = normal(rng, (3, 3, 4))
    for subscripts in ("iij->ji", "ijk->kij", "i...", "iij->ij", "ijk"):
        view = contract(subscripts, a)
        assert np.shares_memory(view, a)
        assert view.flags.writeable
        assert np.array_equal(view, np.einsum(subscripts, a))
    assert contract("iij->j", a).base is not a


def test_operands_are_left_as_they_are(rng):
    operands = [normal(rng, (3, 4, 4)), normal(rng, (4, 5)), normal(rng, (5, 3))]
    before = [a.copy() for a in operands]
    contract("aii,ij,jb->ab", *operands)
    assert all(map(np.array_equal, operands, before))
    for a in operands:
        a.flags.writeable = False
    contract("aii,ij,jb->ab", *operands)


def test_plans_are_kept(rng):
    a, b = normal(rng, (4, 5)), normal(rng, (5, 6))
    plan.plan.cache_clear()
    for _ in range(5):
        contract("ij,jk", a, b)
    assert plan.plan.cache_info()[:2] == (4, 1)  # hits, misses
    contract("ij,jk", a, normal(rng, (6, 5)).T)  # other strides
    contract("ij,jk", a.astype(complex), b)
    assert plan.plan.cache_info().misses == 3


def test_the_plan_is_that_of_what_is_computed(rng):
    """Operands of other dtypes are converted before."""
    a, b = normal(rng, (30, 40)), normal(rng, (40, 50))
    want = str(contract_path("ij,jk", a + 0j, b + 0j))
    assert str(contract_path("ij,jk", a.astype("f"), b + 0j)) == want
    (step,) = contract_path("ij,jk", np.asfortranarray(a, "f"), b + 0j).steps
    assert step.product.layouts == ("transposed", "as it is")
    for dtype in ("f", "e", "i", "O"):
        copied = contract_path("ij,jk", a.astype(dtype), b.astype(dtype))
        assert copied.steps[0].product.layouts == ("as it is", "as it is")


def test_the_plan_is_a_table(rng):
    a, b, c = normal(rng, (4, 5)), normal(rng, (5, 6)), normal(rng, 4)
    text = str(contract_path("ij,jk,i->k", a, b, c))
    assert "'ij,jk,i->k', result of shape (6,)" in text
    assert len(text.splitlines()) == 5
    assert "no products" in str(contract_path("ij", a))
    assert "no products" in str(contract_path("ij,jk", a, np.ones((5, 0))))
