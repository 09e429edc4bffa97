"""What the verbs of a backend on stacks have to give: against NumPy, SciPy, the other backend."""

import numpy as np
import scipy.linalg

from mplinalg.ops.batched import NOT_FINITE
from mplinalg.ops.numpy_batched import NumpyBatchedOps
from mplinalg.precision import get_format


def draw(rng, dtype, *shape):
    x = rng.standard_normal(shape)
    if dtype in "FD":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def definite(rng, dtype, count, n):
    g = draw(rng, dtype, count, n, n)
    return (g @ g.conj().swapaxes(1, 2) / n + np.eye(n)).astype(dtype)


def unit(dtype):
    return np.finfo(dtype).eps / 2


def wide(x):
    return np.asarray(x, np.result_type(x.dtype, np.float64))


def op(a, trans):
    a = a if trans == "N" else a.swapaxes(-1, -2)
    return a.conj() if trans == "C" else a


def assert_solves(a, x, b, dtype):
    """Each column to working precision, normwise."""
    a, x, b = wide(a), wide(x), wide(b)
    rows = abs(a).sum(axis=2).max(axis=1)[:, None]
    r, size = abs(b - a @ x).max(axis=1), rows * abs(x).max(axis=1) + abs(b).max(axis=1)
    assert (r <= 30 * a.shape[1] * unit(dtype) * size).all()


def check_gesv(ops, put, rng, dtype, n):
    a, b = draw(rng, dtype, 3, n, n), draw(rng, dtype, 3, n, 2)
    x, judged = ops.gesv_batched(put(a), put(b))
    assert_solves(a, x.get(), b, dtype)
    assert not judged.info.any()
    assert x.dtype == np.dtype(dtype)
    assert x.flags.c_contiguous


def check_posv(ops, put, rng, dtype, n):
    a, b = definite(rng, dtype, 3, n), draw(rng, dtype, 3, n, 2)
    given = a + np.tril(np.full((n, n), np.nan, dtype), -1)
    x, judged = ops.posv_batched(put(given), put(b))
    assert_solves(a, x.get(), b, dtype)
    assert not judged.members.size


def check_lu(ops, put, rng, dtype, n):
    a, b = draw(rng, dtype, 3, n, n), draw(rng, dtype, 3, n, 2)
    lu, piv, judged = ops.getrf_batched(put(a))
    assert not judged.info.any()
    for member in range(3):
        p = np.arange(n)
        for k, row in enumerate(piv[member].get()):
            p[[k, row]] = p[[row, k]]
        found = wide(lu[member].get())
        lower, upper = np.tril(found, -1) + np.eye(n), np.triu(found)
        bound = 8 * n * unit(dtype) * abs(lower) @ abs(upper)
        assert (abs(wide(a[member])[p] - lower @ upper) <= bound).all()
    for trans in "NTC":
        x = ops.getrs_batched(lu, piv, put(b), trans=trans)
        assert_solves(op(a, trans), x.get(), b, dtype)


def check_cholesky(ops, put, rng, dtype, n):
    a, b = definite(rng, dtype, 3, n), draw(rng, dtype, 3, n, 2)
    for lower in (True, False):
        c, piv, judged = ops.potrf_batched(put(a), lower=lower)
        assert piv is None
        assert not judged.members.size
        factor = wide(c.get())
        assert not (np.triu(factor, 1) if lower else np.tril(factor, -1)).any()
        factor = factor if lower else factor.conj().swapaxes(1, 2)
        both = abs(factor) @ abs(factor).swapaxes(1, 2)
        error = abs(factor @ factor.conj().swapaxes(1, 2) - wide(a))
        assert (error <= 8 * (n + 1) * unit(dtype) * both).all()
        assert_solves(a, ops.potrs_batched(c, put(b), lower=lower).get(), b, dtype)


def check_trsm(ops, put, rng, dtype, n):
    a = (draw(rng, dtype, 3, n, n) / n + 2 * np.eye(n)).astype(dtype)
    b = draw(rng, dtype, 3, n, 3)
    for lower in (True, False):
        for unit_diagonal in (False, True):
            t = np.tril(wide(a)) if lower else np.triu(wide(a))
            if unit_diagonal:
                t[:, range(n), range(n)] = 1
            for trans in "NTC":
                x, judged = ops.trsm_batched(
                    put(a), put(b), lower=lower, unit=unit_diagonal, trans=trans
                )
                assert_solves(op(t, trans), x.get(), b, dtype)
                assert not judged.members.size


def check_inv(ops, put, rng, dtype, n):
    a = draw(rng, dtype, 3, n, n)
    x, judged = ops.inv_batched(put(a))
    assert_solves(a, x.get(), np.broadcast_to(np.eye(n), a.shape), dtype)
    assert not judged.info.any()


def check_failing_members(ops, put, rng, dtype, n):
    a, b = definite(rng, dtype, 9, n), draw(rng, dtype, 9, n, 2)
    bad = a.copy()
    bad[1, :, 2] = bad[1, 2] = 0
    bad[4, 3, 1] = bad[4, 1, 3] = np.nan
    bad[6, n - 1, n - 1] = np.inf
    bad[7, 1, 1] = -1e3
    host = NumpyBatchedOps()
    for verb in ("gesv", "posv", "getrf", "potrf", "inv"):
        arguments = (b,) if verb.endswith("sv") else ()
        call = getattr(ops, f"{verb}_batched")
        good = call(put(a), *map(put, arguments))[0].get()
        found = call(put(bad), *map(put, arguments))
        expected = getattr(host, f"{verb}_batched")(bad, *arguments)
        judged, other = found[-1], expected[-1]
        info, told = np.zeros((2, 9), np.int32)
        info[judged.members], told[other.members] = judged.info, other.info
        np.testing.assert_array_equal(info, told)
        assert (info[[4, 6]] == NOT_FINITE).all()
        assert info[1] > 0
        healthy = [0, 2, 3, 5, 8]
        np.testing.assert_array_equal(found[0].get()[healthy], good[healthy])


def check_gemm(ops, put, rng, dtype, transa, transb):
    for m, n, k in [(3, 2, 5), (20, 17, 9), (70, 5, 6)]:
        a = draw(rng, dtype, 3, *((m, k) if transa == "N" else (k, m)))
        b = draw(rng, dtype, 3, *((k, n) if transb == "N" else (n, k)))
        left, right = wide(op(a, transa)), wide(op(b, transb))
        before = draw(rng, dtype, 3, m, n)
        beta = -0.5 if dtype in "fd" else -0.5 + 1j
        bound = 2 * (k + 3) * unit(dtype) * (2 * abs(left) @ abs(right) + 2 * abs(wide(before)))
        for c in (put(before), put(np.asfortranarray(before.T).T), put(np.asfortranarray(before))):
            ops.gemm_batched(2.0, put(a), put(b), beta, c, transa=transa, transb=transb)
            assert (abs(c.get() - 2 * left @ right - beta * wide(before)) <= bound).all()


def check_low_precision(ops, put, rng, dtype, name):
    fmt = get_format(name)
    for m, n, k in [(3, 4, 2), (20, 33, 17)]:
        a, b, before = (
            draw(rng, dtype, 3, m, k),
            draw(rng, dtype, 3, k, n),
            draw(rng, dtype, 3, m, n),
        )
        a[1] *= np.dtype(dtype).type(2.0**30)
        c, expected = put(before), before.copy()
        ops.gemm_batched(-2.0, put(a), put(b), 0.5, c, compute=fmt)
        NumpyBatchedOps().gemm_batched(-2.0, a, b, 0.5, expected, compute=fmt)
        size = 2 * abs(wide(a)) @ abs(wide(b)) + abs(wide(before))
        # parts of complex members have scales of their own here; sums round toward zero there
        lost = (
            2 * fmt.unit_roundoff if name == "fp16x2" or (dtype in "FD" and name == "fp16") else 0
        )
        assert (abs(wide(c.get()) - wide(expected)) <= (8 * (k + 4) * 2.0**-24 + lost) * size).all()


def check_qr(ops, put, rng, dtype, shape):
    a = draw(rng, dtype, 3, *shape)
    rank = min(shape)
    for mode in ("reduced", "complete"):
        q, r, judged = ops.qr_batched(put(a), mode=mode)
        q, r = wide(q.get()), wide(r.get())
        assert not judged.members.size
        assert q.shape[2] == r.shape[1] == (rank if mode == "reduced" else shape[0])
        bound = 30 * max(shape) * unit(dtype)
        size = np.linalg.norm(wide(a), axis=1)
        assert (np.linalg.norm(q @ r - wide(a), axis=1) <= bound * size).all()
        assert (abs(q.conj().swapaxes(1, 2) @ q - np.eye(q.shape[2])) <= bound).all()
        assert not np.tril(r, -1).any()
    empty, only, _ = ops.qr_batched(put(a), mode="r")
    assert empty.shape == (3, shape[0], 0)
    np.testing.assert_allclose(only.get(), r[:, :rank], atol=bound * abs(r).max())


def check_lstsq(ops, put, rng, dtype, shape):
    (m, n), count = shape, 6
    a, b = draw(rng, dtype, count, m, n), draw(rng, dtype, count, m, 2)
    a[2] = a[2, :, :1] * a[2, :1]
    a[4] = 0
    (x, judged), ranks, squares = ops.lstsq_batched(put(a), put(b))
    assert not judged.info.any()
    for member in range(count):
        expected, _, rank, _ = scipy.linalg.lstsq(wide(a[member]), wide(b[member]), cond=1e-5)
        assert ranks[member] == rank
        condition = np.linalg.cond(wide(a[member])) if rank == min(shape) else 10.0
        size = abs(expected).max() + abs(b[member]).max()
        found = x[member].get()
        assert (abs(found - expected) <= 30 * max(shape) * unit(dtype) * condition**2 * size).all()
        rest = (abs(wide(b[member]) - wide(a[member]) @ wide(found)) ** 2).sum(axis=0)
        assert (abs(squares[member].get() - rest) <= 1e3 * m * unit(dtype) * size**2).all()
