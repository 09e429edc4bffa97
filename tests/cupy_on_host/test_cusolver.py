"""cuSOLVER from addresses: LAPACK's factors, pivots from 1, info on the device."""

import numpy as np
import pytest

from ..ops.helpers import allowed, draw, is_small, op, wide
from .install import Misuse, recorded
from .matrices import KINDS, On

FLAGS = "NTC"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


class Solver:
    """Calls with work space as large as wanted."""

    def __init__(self, cupy, kind):
        from cupy_backends.cuda.libs import cusolver

        self.cupy, self.kind, self.module = cupy, kind, cusolver
        self.handle = cupy.cuda.Device().cusolver_handle
        self.info = cupy.full(1, 99, "int32")

    def __getattr__(self, name):
        return lambda *args: getattr(self.module, self.kind + name)(self.handle, *args)

    def work(self, size):
        self.space = self.cupy.empty(size, KINDS[self.kind])
        return self.space.data.ptr

    @property
    def at_info(self):
        return self.info.data.ptr


@pytest.fixture
def solver(cupy, kind):
    return Solver(cupy, kind)


def lu_of(solver, a, m, n):
    piv = solver.cupy.full(min(m, n), 99, "int32")
    work = solver.work(solver.getrf_bufferSize(m, n, a.ptr, a.ld))
    solver.getrf(m, n, a.ptr, a.ld, work, piv.data.ptr, solver.at_info)
    return piv


@pytest.mark.parametrize(("m", "n"), [(6, 6), (9, 4), (4, 9), (1, 1)])
def test_getrf(cupy, solver, kind, rng, m, n):
    dtype = KINDS[kind]
    x = draw(rng, (m, n), dtype)
    a = On(cupy, x)
    with recorded() as ledger:
        piv = lu_of(solver, a, m, n)
    assert ledger.to_host == ledger.syncs == []
    assert ledger.calls == {f"{kind}getrf": 1}
    found, rows = wide(a.get()), np.arange(m)
    for i, p in enumerate(piv.get() - 1):
        assert i <= p < m
        rows[[i, p]] = rows[[p, i]]
    steps = min(m, n)
    l, u = np.tril(found[:, :steps], -1) + np.eye(m, steps), np.triu(found[:steps])
    assert is_small(abs(l @ u - wide(x)[rows]), allowed(n, dtype) * (abs(l) @ abs(u)))
    assert a.rest_is_untouched()
    assert solver.info.get() == [0]
    assert np.isnan(solver.space.get()).all(), "nothing is left in the work space"


@pytest.mark.parametrize("trans", range(3))
def test_getrs(cupy, solver, kind, rng, trans):
    dtype, n = KINDS[kind], 7
    x, b = draw(rng, (n, n), dtype), draw(rng, (n, 3), dtype)
    a, c = On(cupy, x), On(cupy, b)
    piv = lu_of(solver, a, n, n)
    solver.getrs(trans, n, 3, a.ptr, a.ld, piv.data.ptr, c.ptr, c.ld, solver.at_info)
    found, factor = wide(c.get()), op(wide(x), FLAGS[trans])
    size = abs(factor) @ abs(found) + abs(wide(b))
    assert is_small(abs(factor @ found - wide(b)), n * allowed(n, dtype) * size)
    assert c.rest_is_untouched()
    piv[0] = 0
    with pytest.raises(Misuse, match="pivots are rows from 1"):
        solver.getrs(trans, n, 3, a.ptr, a.ld, piv.data.ptr, c.ptr, c.ld, solver.at_info)


def test_a_singular_matrix_is_told_by_info(cupy, solver, kind):
    x = np.ones((4, 4), KINDS[kind])
    lu_of(solver, On(cupy, x), 4, 4)
    assert solver.info.get() == [2]
    a = On(cupy, x)
    work = solver.work(solver.potrf_bufferSize(0, 4, a.ptr, a.ld))
    solver.potrf(0, 4, a.ptr, a.ld, work, solver.space.size, solver.at_info)
    assert solver.info.get() == [2]


@pytest.mark.parametrize("uplo", range(2))
def test_cholesky(cupy, solver, kind, rng, uplo):
    dtype, n = KINDS[kind], 6
    x, b = draw(rng, (n, n), dtype), draw(rng, (n, 2), dtype)
    spd = x @ x.conj().T + n * np.eye(n, dtype=dtype)
    given = np.where(np.tri(n, dtype=bool) if uplo == 0 else np.tri(n, dtype=bool).T, spd, np.nan)
    a, c = On(cupy, given, dtype=dtype), On(cupy, b)
    work = solver.work(solver.potrf_bufferSize(uplo, n, a.ptr, a.ld))
    solver.potrf(uplo, n, a.ptr, a.ld, work, solver.space.size, solver.at_info)
    assert solver.info.get() == [0]
    inside = np.isfinite(given)
    assert np.isnan(a.get()[~inside]).all(), "the other triangle is left alone"
    solver.potrs(uplo, n, 2, a.ptr, a.ld, c.ptr, c.ld, solver.at_info)
    found = wide(c.get())
    size = abs(wide(spd)) @ abs(found) + abs(wide(b))
    assert is_small(abs(wide(spd) @ found - wide(b)), allowed(n, dtype) * size)


@pytest.mark.parametrize("side", range(2))
def test_qr(cupy, solver, kind, rng, side):
    dtype, (m, n) = KINDS[kind], (8, 5)
    x = draw(rng, (m, n), dtype)
    c = draw(rng, (3, m) if side else (m, 3), dtype)
    letters, transposed = ("un", 2) if kind in "cz" else ("or", 1)
    a, product = On(cupy, x), On(cupy, c)
    tau = cupy.empty(n, dtype)
    work = solver.work(solver.geqrf_bufferSize(m, n, a.ptr, a.ld))
    solver.geqrf(m, n, a.ptr, a.ld, tau.data.ptr, work, solver.space.size, solver.at_info)
    r = np.triu(wide(a.get())[:n])
    q = On(cupy, a.get())
    work = solver.work(
        getattr(solver, f"{letters}gqr_bufferSize")(m, n, n, q.ptr, q.ld, tau.data.ptr)
    )
    getattr(solver, f"{letters}gqr")(
        m, n, n, q.ptr, q.ld, tau.data.ptr, work, solver.space.size, solver.at_info
    )  # fmt: skip
    orthogonal = wide(q.get())
    assert is_small(abs(orthogonal @ r - wide(x)), allowed(m, dtype) * np.linalg.norm(x))
    given = side, transposed, *c.shape, n, a.ptr, a.ld, tau.data.ptr, product.ptr, product.ld
    work = solver.work(getattr(solver, f"{letters}mqr_bufferSize")(*given))
    getattr(solver, f"{letters}mqr")(*given, work, solver.space.size, solver.at_info)
    done = wide(product.get())
    # C Q^H in full; its norm is kept, and Q^H C has the product with the thin Q on top
    assert np.isclose(np.linalg.norm(done), np.linalg.norm(c), rtol=allowed(m, dtype))
    if side == 0:
        wanted = orthogonal.conj().T @ wide(c)
        assert is_small(abs(done[:n] - wanted), allowed(m, dtype) * np.linalg.norm(c))
    assert product.rest_is_untouched()
    refused = 1 if kind in "cz" else 2
    with pytest.raises(solver.module.CUSOLVERError, match="INVALID_VALUE"):
        getattr(solver, f"{letters}mqr_bufferSize")(side, refused, *given[2:])


def test_work_space_has_to_be_there(cupy, solver, kind, rng):
    x = draw(rng, (5, 5), KINDS[kind])
    a = On(cupy, x)
    piv = cupy.empty(5, "int32")
    size = solver.getrf_bufferSize(5, 5, a.ptr, a.ld)
    with pytest.raises(Misuse, match="work"):
        solver.getrf(5, 5, a.ptr, a.ld, solver.work(size // 2), piv.data.ptr, solver.at_info)
    with pytest.raises(solver.module.CUSOLVERError, match="INVALID_VALUE"):
        solver.potrf(0, 5, a.ptr, a.ld, solver.work(3), 3, solver.at_info)
    with pytest.raises(Misuse, match="devIpiv"):
        solver.getrf(5, 5, a.ptr, a.ld, solver.work(size), piv.data.ptr + 8, solver.at_info)
    with pytest.raises(Misuse, match="pivoting"):
        solver.getrf(5, 5, a.ptr, a.ld, solver.work(size), 0, solver.at_info)
    with pytest.raises(solver.module.CUSOLVERError):
        solver.getrf(5, 5, a.ptr, 4, solver.work(size), piv.data.ptr, solver.at_info)
