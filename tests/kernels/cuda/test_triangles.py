"""Solves with float32 factors by plans: right, in place, in two launches, and nobody waits."""

import itertools
import threading

import numpy as np
import pytest
import scipy.linalg

from ...cupy_on_host.install import recorded
from ...ops.helpers import (
    LAYOUTS,
    Placed,
    allowed,
    draw,
    is_small,
    op,
    same_bits,
    swapped,
    wide,
)

SIZES = [1, 7, 128, 150, 300]
F_LIKE = ["F", "F-view"]


@pytest.fixture
def put(on_device):
    """put(x, "F-view"): `x` on the device in that layout."""
    return lambda x, layout="F": Placed(on_device, x, layout)


@pytest.fixture
def triangles(cupy):
    from mplinalg.kernels.cuda import triangles

    return triangles


class Factors:
    """P A = L U, or A = L L^T, with `a` what the factors multiply to: their error is not judged."""

    def __init__(self, rng, n):
        x = draw(rng, (n, n), "float32")
        self.lu, self.piv, _ = scipy.linalg.lapack.sgetrf(x)
        self.piv = self.piv.astype(np.int32)
        l, u = np.tril(wide(self.lu), -1) + np.eye(n), np.triu(wide(self.lu))
        self.a = swapped(l @ u, self.piv, forward=False)
        self.size = swapped(abs(l) @ abs(u), self.piv, forward=False)


class Definite:
    """The other triangle of `c` is NaN."""

    def __init__(self, rng, n, lower):
        x = draw(rng, (n, n), "float32")
        l = np.linalg.cholesky(wide(x @ x.T) / n + np.eye(n)).astype(np.float32)
        self.c = (l if lower else l.T).copy()
        self.c[np.triu_indices(n, 1) if lower else np.tril_indices(n, -1)] = np.nan
        self.a, self.size = wide(l) @ wide(l.T), abs(wide(l)) @ abs(wide(l.T))


def assert_solves(a, size, x, b):
    """|b - A x| <= 30 n u (|L| |U| |x| + |b|), normwise by columns."""
    residual = np.max(abs(a @ wide(x) - wide(b)), axis=0, initial=0)
    bound = np.max(size @ abs(wide(x)) + abs(wide(b)), axis=0, initial=0)
    assert is_small(residual, allowed(len(a), "float32") * bound)


@pytest.mark.parametrize("trans", ["N", "T", "C"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", SIZES)
def test_getrs(cupy, triangles, put, rng, nothing_crosses, n, layout, trans):
    factors = Factors(rng, n)
    lu, piv = put(factors.lu, layout), cupy.asarray(factors.piv)
    plan = triangles.plan(lu.array, piv)
    for nrhs, of_b in itertools.product((0, 1, 2, 4, 5, triangles.WIDE), F_LIKE):
        y = draw(rng, (n, nrhs), "float32")
        b = put(y, of_b)
        triangles.getrs(plan, b.array, trans)  # compiles
        again = put(y, of_b)
        with nothing_crosses():
            triangles.getrs(plan, again.array, trans)
        assert same_bits(b.host(), again.host())
        assert_solves(op(factors.a, trans), op(factors.size, trans), b.host(), y)
        b.assert_rest_untouched()
    lu.assert_untouched()
    assert same_bits(piv.get(), factors.piv)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", SIZES)
def test_potrs(triangles, put, rng, nothing_crosses, n, layout, lower):
    factors = Definite(rng, n, lower)
    c = put(factors.c, layout)
    plan = triangles.potrs_plan(c.array, lower)
    for nrhs, of_b in itertools.product((0, 1, 3, 6, triangles.WIDE), F_LIKE):
        y = draw(rng, (n, nrhs), "float32")
        b = put(y, of_b)
        with nothing_crosses():
            triangles.potrs(plan, b.array)
        assert_solves(factors.a, factors.size, b.host(), y)
        b.assert_rest_untouched()
    c.assert_untouched()


def test_no_rows(cupy, triangles):
    empty = cupy.empty((0, 0), np.float32)
    plan = triangles.plan(empty, cupy.empty(0, np.int32))
    triangles.getrs(plan, cupy.empty((0, 3), np.float32, order="F"))
    triangles.potrs(triangles.potrs_plan(empty, True), cupy.empty((0, 1), np.float32, order="F"))


@pytest.mark.parametrize(("nrhs", "groups"), [(1, 1), (2, 1), (4, 1), (5, 2), (15, 4)])
def test_two_launches_and_nothing_else(cupy, triangles, put, rng, nrhs, groups):
    factors = Factors(rng, 150)
    plan = triangles.plan(put(factors.lu, "C").array, cupy.asarray(factors.piv))
    b = put(draw(rng, (150, nrhs), "float32")).array
    triangles.getrs(plan, b)
    for trans in "NT":
        with recorded() as ledger:
            triangles.getrs(plan, b, trans)
        assert sum(ledger.launches.values()) == 2 * groups
        most = {1: 1}.get(nrhs, 4)
        assert all(name.startswith(f"triangle_solve<{most}, ") for name in ledger.launches)
        assert not ledger.operations
        assert not ledger.calls


def test_columns_do_not_depend_on_their_neighbours(cupy, triangles, put, rng):
    factors = Factors(rng, 150)
    plan = triangles.plan(put(factors.lu, "C").array, cupy.asarray(factors.piv))
    y = draw(rng, (150, 7), "float32")
    together = put(y)
    triangles.getrs(plan, together.array)
    y[:, 2] = np.nan
    spoilt = put(y)
    triangles.getrs(plan, spoilt.array)
    others = [0, 1, 3, 4, 5, 6]
    assert same_bits(spoilt.host()[:, others], together.host()[:, others])
    assert np.isnan(spoilt.host()[:, 2]).all()


@pytest.mark.parametrize("layout", ["C", "F"])
def test_a_singular_factor(cupy, triangles, put, rng, layout):
    """As by substitution, the answer is not finite, and nobody waits for ever."""
    factors = Factors(rng, 300)
    factors.lu[140, 140] = 0
    plan = triangles.plan(put(factors.lu, layout).array, cupy.asarray(factors.piv))
    for trans in "NT":
        b = put(draw(rng, (300, 1), "float32"))
        triangles.getrs(plan, b.array, trans)
        assert not np.isfinite(b.host()).all()


def test_memory_of_a_plan(cupy, triangles, put, rng):
    n = 256
    factors = Factors(rng, n)
    plan = triangles.plan(put(factors.lu, "C").array, cupy.asarray(factors.piv))
    b = put(draw(rng, (n, 1), "float32"))
    triangles.getrs(plan, b.array)
    parts = plan.lower.inverses, plan.upper.inverses, plan.order
    assert sum(x.nbytes for x in parts) == 1028 * n
    assert plan.states.current().nbytes == 4 + n // 32
    assert plan.lower.rows is plan.lu


def test_two_streams_and_two_threads(cupy, triangles, put, rng):
    """Each has its own flags: the stand-in refuses work that shares memory and is not ordered."""
    factors = Factors(rng, 150)
    plan = triangles.plan(put(factors.lu, "C").array, cupy.asarray(factors.piv))
    b = [put(draw(rng, (150, 1), "float32")) for _ in range(3)]
    given = [x.host() for x in b]
    ready = cupy.cuda.get_current_stream().record()
    states = []

    def solve(x):
        stream = cupy.cuda.Stream(non_blocking=True)
        stream.wait_event(ready)
        with stream:
            triangles.getrs(plan, x.array)
            states.append(plan.states.current())
        stream.synchronize()

    solve(b[0])
    solve(b[1])
    thread = threading.Thread(target=solve, args=(b[2],))
    thread.start()
    thread.join()
    assert len({state.data.ptr for state in states}) == 3
    for x, y in zip(b, given, strict=True):
        assert_solves(factors.a, factors.size, x.host(), y)


@pytest.mark.parametrize("instance", ["false", "true"])
@pytest.mark.parametrize("nrhs", [1, 5])
def test_nothing_is_changed_without_a_kernel(
    cupy, triangles, put, rng, monkeypatch, nrhs, instance
):  # fmt: skip
    from mplinalg.kernels.cuda import loader

    factors, definite = Factors(rng, 40), Definite(rng, 40, True)
    plan = triangles.plan(put(factors.lu, "C").array, cupy.asarray(factors.piv))
    other = triangles.potrs_plan(put(definite.c, "C").array, True)
    real = loader.launch

    def launch(name, *arguments):
        if name.startswith("triangle_solve") and name.endswith(f"{instance}>"):
            raise loader.KernelUnavailable("none here")
        real(name, *arguments)

    monkeypatch.setattr(loader, "launch", launch)
    y = draw(rng, (40, nrhs), "float32")
    b = put(y)
    with pytest.raises(loader.KernelUnavailable):
        triangles.getrs(plan, b.array, "N" if instance == "false" else "T")
    with pytest.raises(loader.KernelUnavailable):
        triangles.potrs(other, b.array)
    assert same_bits(b.host(), y)


def test_what_is_refused(cupy, triangles):
    single = cupy.zeros((3, 3), np.float32)
    piv = cupy.zeros(3, np.int32)
    with pytest.raises(TypeError, match="float32"):
        triangles.plan(cupy.zeros((3, 3)), piv)
    with pytest.raises(TypeError, match="float32"):
        triangles.potrs_plan(cupy.zeros((3, 3), np.complex64), True)
    with pytest.raises(TypeError, match="int32"):
        triangles.plan(single, cupy.zeros(3, np.int64))
    with pytest.raises(ValueError, match="shapes"):
        triangles.plan(single, piv[:2])
    with pytest.raises(ValueError, match="shapes"):
        triangles.plan(single[:2], piv)
    with pytest.raises(ValueError, match="unit stride"):
        triangles.plan(cupy.zeros((6, 6), np.float32)[::2, ::2], piv)
    plan = triangles.plan(cupy.eye(3, dtype=np.float32), cupy.arange(3, dtype=np.int32))
    with pytest.raises(TypeError, match="float32"):
        triangles.getrs(plan, cupy.zeros((3, 1)))
    with pytest.raises(ValueError, match="column-major"):
        triangles.getrs(plan, cupy.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="shapes"):
        triangles.getrs(plan, cupy.zeros((2, 1), np.float32))
