"""fem.contract of arrays of CuPy, whose part is played on the host: nothing leaves the device."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.fem import contract, product

from ..cupy_on_host.install import forbidden_transfers, recorded
from ..device import cupy, stand_in

__all__ = ["cupy", "stand_in"]

CASES = {
    "kI,kJL->IJL": {"k": 5, "I": 3, "J": 4, "L": 2},
    "pi,qj,rk,ijk->pqr": dict.fromkeys("pqr", 4) | dict.fromkeys("ijk", 3),
    "bi,ij,bj->b": {"b": 9, "i": 3, "j": 4},
    "bij,bjk->bik": {"b": 7, "i": 3, "j": 4, "k": 5},
    "bij,bkj->kib": {"b": 7, "i": 3, "j": 4, "k": 5},
    "ijk,kji->": dict.fromkeys("ijk", 4),
    "abcd,cdef->abef": dict.fromkeys("abcdef", 3),
    "bqi,q,bqj->bij": {"b": 6, "q": 5, "i": 3, "j": 3},
    "akb,bkc->kac": {"a": 3, "b": 4, "c": 5, "k": 6},
    "xakb,ybkc->xykac": {"x": 2, "y": 3, "a": 3, "b": 4, "c": 5, "k": 6},
    "bij,bjk->bik, large": {"b": 2, "i": 70, "j": 65, "k": 66},
    "ij,jk->ik": {"i": 33, "j": 6, "k": 5},
}


@pytest.fixture(params=[0, product._MANY], ids=["kernels", "library"])
def _engine(request, monkeypatch):
    """Products by the kernels, and by the array library, which small ones go to."""
    monkeypatch.setattr(product, "_MANY", request.param)


def operands_of(rng, name, dtype="float64"):
    subscripts, sizes = name.partition(", large")[0], CASES[name]
    shapes = [[sizes[i] for i in term] for term in subscripts.split("->")[0].split(",")]
    operands = [rng.standard_normal(shape) for shape in shapes]
    if dtype == "complex64":
        operands = [x + 1j * x[::-1] for x in operands]
    return subscripts, [x.astype(dtype) for x in operands]


def is_sum(found, subscripts, operands, terms):
    """Each number to the rounding errors of its sum."""
    wide = [np.asarray(x, np.result_type(x, np.float64)) for x in operands]
    size = np.einsum(subscripts, *map(abs, wide))
    bound = 4 * (terms + len(operands)) * np.finfo(operands[0].dtype).eps / 2
    assert (abs(found - np.einsum(subscripts, *wide)) <= bound * size).all()
    return True


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("name", CASES)
def test_contract(cupy, rng, name, dtype):
    """By whatever route; also of transposed operands, and into an array that is there."""
    subscripts, operands = operands_of(rng, name, dtype)
    there = [cupy.asarray(x) for x in operands]
    turned = [cupy.asarray(np.ascontiguousarray(x.T)).T for x in operands]
    terms = int(np.prod([CASES[name][i] for i in set(subscripts) & set(CASES[name])]))
    with forbidden_transfers(0):
        found, again = contract(subscripts, *there), contract(subscripts, *turned)
        out = cupy.full(found.shape, np.nan, dtype)
        assert contract(subscripts, *there, out=out) is out
    for result in (found, again, out):
        assert isinstance(result, cupy.ndarray)
        assert result.dtype == np.dtype(dtype)
        assert is_sum(result.get(), subscripts, operands, terms)


def test_small_members_are_multiplied_by_the_kernels(stand_in, rng, monkeypatch):
    """One launch a product, whichever index is the slowest, and no copies."""
    monkeypatch.setattr(product, "_MANY", 0)
    for name in ("bij,bjk->bik", "bij,bkj->kib", "akb,bkc->kac"):
        subscripts, operands = operands_of(rng, name)
        there = [stand_in.asarray(x) for x in operands]
        with recorded() as ledger:
            contract(subscripts, *there)
        assert sum(ledger.launches.values()) == 1, name
        assert not ledger.operations, name
        assert not ledger.syncs, name


def test_large_members_go_to_cublas_without_copies(stand_in, rng, monkeypatch):
    monkeypatch.setattr(product, "_MANY", 0)
    subscripts, operands = operands_of(rng, "bij,bjk->bik, large")
    there = [stand_in.asarray(np.ascontiguousarray(x.swapaxes(1, 2))) for x in operands]
    there = [x.swapaxes(1, 2) for x in there]
    with recorded() as ledger:
        found = contract(subscripts, *there)
    assert set(ledger.calls) == {"gemmStridedBatchedEx"}
    assert not ledger.operations
    assert is_sum(found.get(), subscripts, operands, 65)


@pytest.mark.parametrize("precision", ["fp16", "fp16x2", "fp32"])
def test_low_precision(cupy, rng, precision):
    from mplinalg.precision import get_format

    subscripts, operands = operands_of(rng, "pi,qj,rk,ijk->pqr")
    there = [cupy.asarray(x) for x in operands]
    with forbidden_transfers(0):
        found = contract(subscripts, *there, precision=precision)
    error = abs(found.get() - np.einsum(subscripts, *operands))
    size = np.einsum(subscripts, *map(abs, operands))
    u = get_format(precision).unit_roundoff
    assert (error <= (7 * u + 60 * 2.0**-24) * size).all()  # 3 products, of rounded operands
    assert error.max() > 2.0**-40


def test_integers_stay_exact(cupy, rng):
    a, b = rng.integers(-9, 9, (4, 3)), rng.integers(-9, 9, (3, 5))
    found = contract("ij,jk->ik", cupy.asarray(a), cupy.asarray(b))
    assert isinstance(found, cupy.ndarray)
    np.testing.assert_array_equal(found.get(), a @ b)
