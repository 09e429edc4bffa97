"""batched.gemm and trsm of arrays of CuPy, whose part is played on the host."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import LinAlgError
from mplinalg.batched import Ragged, gemm, trsm

from ..cupy_on_host.install import forbidden_transfers, recorded
from ..device import cupy, stand_in

__all__ = ["cupy", "stand_in"]

FACTOR = 4  # of the terms and factors of a sum, in units of u
DTYPES = ("float64", "complex64")


def draw(rng, shape, dtype):
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype[0] == "c" else x).astype(dtype)


def op(a, flag):
    a = a if flag in ("N", False) else a.swapaxes(-1, -2)
    return a.conj() if flag == "C" else a


def assert_close(found, want, size, terms, dtype):
    """Each number to the rounding errors of a sum of so many terms."""
    bound = FACTOR * (terms + 4) * np.finfo(dtype).eps / 2
    assert found.dtype == np.dtype(dtype)
    assert found.shape == want.shape
    assert (abs(found - want) <= bound * size).all()


def is_product(found, alpha, a, b, beta=0.0, c=0.0):
    wide = [np.asarray(x, np.result_type(x, np.float64)) for x in (a, b, np.asarray(c))]
    a, b, c = wide
    size = abs(alpha) * abs(a) @ abs(b) + abs(beta) * abs(c)
    assert_close(found, alpha * a @ b + beta * c, size, a.shape[-1], found.dtype.name)
    return True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("flags", ["NN", "TN", "NT", "CC"])
def test_gemm(cupy, rng, dtype, flags):
    """alpha op(a) op(b) + beta c, by a kernel (4) and by cuBLAS (70)."""
    for n in (4, 70):
        a = draw(rng, (3, *((n, 5) if flags[0] == "N" else (5, n))), dtype)
        b = draw(rng, (3, *((5, 6) if flags[1] == "N" else (6, 5))), dtype)
        c = draw(rng, (3, n, 6), dtype)
        given = [cupy.asarray(x) for x in (a, b, c)]
        x = gemm(*given, alpha=2.0, beta=-0.5, transa=flags[0], transb=flags[1])
        assert isinstance(x, cupy.ndarray)
        assert is_product(x.get(), 2.0, op(a, flags[0]), op(b, flags[1]), -0.5, c)
        for before, after in zip((a, b, c), given, strict=True):
            np.testing.assert_array_equal(after.get(), before)


def test_gemm_of_operands_that_are_broadcast(cupy, rng):
    """One matrix for all, one for each of a row of members, one dimension of the batch each."""
    shapes = [((5, 3, 4), (4, 2)), ((4, 3), (6, 3, 2)), ((3, 1, 2, 4), (1, 5, 4, 3))]
    for left, right in shapes:
        a, b = rng.standard_normal(left), rng.standard_normal(right)
        x = gemm(cupy.asarray(a), cupy.asarray(b))
        assert is_product(x.get(), 1.0, a, b)
        c = rng.standard_normal((1, x.shape[-1]))  # a row for all
        x = gemm(cupy.asarray(a), cupy.asarray(b), cupy.asarray(c), beta=2.0)
        assert is_product(x.get(), 1.0, a, b, 2.0, np.broadcast_to(c, x.shape))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_gemm_in_any_layout(cupy, rng, count):
    """Strides of all signs and 0, members with room between them, an output that is an operand."""
    a, b = rng.standard_normal((2, count, 3, 3))
    there = cupy.asarray(a), cupy.asarray(b)
    want = gemm(*there).get()
    room = cupy.full((2 * count, 5, 7), np.nan)
    spread = room[::2, 1:4, ::3]
    spread[...] = there[0]
    backwards = cupy.ascontiguousarray(there[0][::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    turned = cupy.ascontiguousarray(there[0].swapaxes(1, 2)).swapaxes(1, 2)
    for x in (spread, backwards, turned):
        np.testing.assert_array_equal(gemm(x, there[1]).get(), want)
    out = room[::2, 1:4, ::3]
    assert gemm(out, there[1], out=out) is out
    np.testing.assert_array_equal(out.get(), want)
    assert np.isnan(room.get()[1::2]).all()
    assert np.isnan(room.get()[:, [0, 4]]).all()


def test_gemm_in_place(cupy, rng):
    a, c = rng.standard_normal((2, 4, 3, 3))
    there = cupy.asarray(c)
    assert gemm(cupy.asarray(a), there, there, beta=3.0, out=there) is there
    assert is_product(there.get(), 1.0, a, c, 3.0, c)


@pytest.mark.parametrize("name", ["fp16", "bf16", "fp16x2"])
def test_gemm_in_low_precision(cupy, rng, name):
    """Within the errors of rounded operands, and not as good as in working precision."""
    from mplinalg.precision import get_format

    a, b = rng.standard_normal((2, 5, 20, 20))
    x = gemm(cupy.asarray(a), cupy.asarray(b), precision=name).get()
    error, size = abs(x - a @ b), abs(a) @ abs(b)
    u = get_format(name).unit_roundoff
    assert (error <= (2.1 * u + 30 * 2.0**-24) * size).all()
    assert error.max() > 2.0**-40


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_lists(cupy, rng, dtype):
    """A list for lists, a Ragged if one is; a single matrix for all members."""
    shapes = [(3, 4), (1, 4), (3, 4), (7, 4)]
    a = [draw(rng, shape, dtype) for shape in shapes]
    b = draw(rng, (4, 2), dtype)
    there = [cupy.asarray(x) for x in a]
    for given in (there, Ragged.from_list(there)):
        found = gemm(given, cupy.asarray(b), alpha=2.0)
        assert type(found) is type(given)
        for x, left in zip(found, a, strict=True):
            assert isinstance(x, cupy.ndarray)
            assert is_product(x.get(), 2.0, left, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [4, 40, 130])
def test_trsm(cupy, rng, dtype, n):
    a = (draw(rng, (3, n, n), dtype) / n + 2 * np.eye(n)).astype(dtype)
    b = draw(rng, (n, 2), dtype)
    for lower, unit, trans in ((False, False, "N"), (True, True, "C"), (True, False, "T")):
        there = cupy.asarray(a), cupy.asarray(b)
        x = trsm(*there, lower=lower, unit_diagonal=unit, trans=trans)
        assert isinstance(x, cupy.ndarray)
        t = np.tril(a) if lower else np.triu(a)
        if unit:
            t[:, range(n), range(n)] = 1
        assert is_product(np.broadcast_to(b, x.shape), 1.0, op(t, trans), x.get())


def test_triangles_that_fail(cupy, rng):
    """Named by their places in the batch; the others do not change by a bit."""
    a, b = rng.standard_normal((2, 3, 4, 4)) + 3 * np.eye(4), rng.standard_normal((2, 3, 4, 1))
    want = trsm(cupy.asarray(a), cupy.asarray(b)).get()
    a[0, 1, 2, 2] = a[1, 2, 0, 0] = 0.0
    with pytest.raises(LinAlgError, match=r"2 of 6 members, \[\(0, 1\), \(1, 2\)\].*entry 3"):
        trsm(cupy.asarray(a), cupy.asarray(b))
    x = trsm(cupy.asarray(a), cupy.asarray(b), raise_on_failure=False).get()
    bad = np.zeros((2, 3), bool)
    bad[0, 1] = bad[1, 2] = True
    assert np.isnan(x[bad]).all()
    np.testing.assert_array_equal(x[~bad], want[~bad])
    members = [cupy.asarray(a[0, 1]), cupy.asarray(a[0, 0, :3, :3])]
    right = [cupy.asarray(b[0, 1]), cupy.asarray(b[0, 0, :3])]
    with pytest.raises(LinAlgError, match=r"1 of 2 members, \[0\]"):
        trsm(members, right)
    first, second = trsm(members, right, raise_on_failure=False)
    assert np.isnan(first.get()).all()
    assert np.isfinite(second.get()).all()


def test_nothing_crosses_to_the_host(stand_in, rng):
    """Of products nothing, and nothing is waited for; of triangles how many have zeros."""
    a, b = (stand_in.asarray(x) for x in rng.standard_normal((2, 50, 4, 4)) + 3 * np.eye(4))
    gemm(a, b), gemm(a, b, precision="fp16"), trsm(a, b)  # kernels are compiled
    with forbidden_transfers(0), recorded() as ledger:
        gemm(a, b, a, beta=2.0, transa="C")
        gemm(a, b[0], precision="fp16", out=b)
    assert not ledger.syncs
    with forbidden_transfers(8), recorded() as ledger:
        trsm(a, b)
    assert len(ledger.syncs) == 1


def test_lists_stay_on_the_device(stand_in, rng):
    """What crosses of them is where their members are."""
    members = [stand_in.asarray(x) for x in rng.standard_normal((40, 6, 6))]
    members[1] = stand_in.asarray(rng.standard_normal((3, 6)))
    with forbidden_transfers(8 * len(members)), recorded() as ledger:
        gemm(Ragged.from_list(members), members[0])
    assert ledger.bytes_to_host == 0
