"""panel_qr.cu: Householder QR of a tall panel by a tree of small ones, in LAPACK's form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg
from scipy.linalg import lapack

from .conftest import SCHEDULES
from .device_module import seen_by
from .module import LaunchError
from .mutation import barriers

FILE = "panel_qr.cu"
ROWS = 256
STEPS = ("tsqr_leaf", "tsqr_merge", "reconstruct", "tsqr_form")
SHAPES = [
    (1, 1, 16), (5, 5, 32), (16, 16, 16), (17, 16, 16), (32, 32, 32), (33, 32, 32), (255, 16, 16),
    (255, 32, 32), (256, 32, 32), (257, 16, 16), (257, 32, 32), (300, 5, 32), (300, 1, 16),
    (1000, 16, 16), (1000, 32, 32), (2309, 31, 32),
]  # fmt: skip
"""m, n, NB: one node; a last leaf of one row, or of fewer than NB; two levels of merges."""


def nodes(m, nb):
    """How many there are in each level of the tree."""
    found = [-(-m // ROWS)]
    while found[-1] > 1:
        found.append(-(-found[-1] * nb // ROWS))
    return found


def name(kernel, dtype, nb):
    return f"{kernel}<{'float' if dtype == np.float32 else 'double'}, {nb}>"


class Panel:
    """A panel that is launched step by step; between its columns there stand NaN."""

    def __init__(self, a, nb, *, padding=3):
        (self.m, self.n), self.nb, self.dtype = a.shape, nb, a.dtype
        self.lda, self.ldt = self.m + padding, self.n + 1
        self.whole = np.full((self.n, self.lda), np.nan, a.dtype)
        self.whole[:, : self.m] = a.T
        self.nodes = nodes(self.m, nb)
        merges = sum(self.nodes[1:])
        self.stacks = np.full((merges + 1, nb, ROWS), np.nan, a.dtype)
        self.triangles = np.full((self.nodes[0] + merges, nb, nb), np.nan, a.dtype)
        self.t = np.full((self.n, self.ldt), np.nan, a.dtype)
        self.squares = np.full((2, nb, nb), np.nan, a.dtype)

    @property
    def result(self):
        return self.whole[:, : self.m].T

    def launches(self):
        """Kernel, blocks, arguments, and those of them that are written before they are read."""
        m, n, lda, leaves = self.m, self.n, self.lda, self.nodes[0]
        a = self.whole.ravel()[: (n - 1) * lda + m]  # what comes after it is outside
        yield "tsqr_leaf", leaves, [m, n, a, lda, self.stacks, self.triangles], [4, 5]
        for level, count in enumerate(self.nodes[1:], 1):
            yield "tsqr_merge", count, [m, level, self.stacks, self.triangles], []
        squares, tree = self.squares, [self.stacks, self.triangles]
        yield "reconstruct", 1, [m, n, a, lda, *tree, self.t, self.ldt, squares], [6, 8]
        yield "tsqr_form", leaves, [m, n, a, lda, *tree, squares], []

    def factor(self, module, steps=None, **options):
        for kernel, blocks, arguments, uninitialised in list(self.launches())[:steps]:
            module[name(kernel, self.dtype, self.nb)](
                blocks, 256, arguments, uninitialised=uninitialised, **options
            )
        return self


def judge(a, result, t, *, least=0.0):
    """`result` and `t` are a QR of `a`, to 8 n u.

    Numbers of `a` and of R below `least` may be zeros.
    """
    n = a.shape[1]
    bound = 8 * n * np.finfo(a.dtype).eps / 2
    a, t = a.astype(float), t.astype(float)
    v = np.tril(result.astype(float), -1)
    np.fill_diagonal(v, 1)
    q = np.eye(*a.shape) - v @ t @ v[:n].T
    size = linalg.norm(a, axis=0)
    lost = least * np.sqrt(len(a) + n)
    assert (linalg.norm(a - q @ np.triu(result[:n]), axis=0) <= bound * size + lost).all()
    assert linalg.norm(q.T @ q - np.eye(n), 2) <= bound
    assert (np.tril(t, -1) == 0).all()
    # T^-1 + T^-T = V^T V, which is what larft solves, where no tau is zero
    keep = np.diag(t) != 0
    if not keep.any():
        assert (t == 0).all()
        return
    inverse = linalg.inv(t[np.ix_(keep, keep)])
    gram = v[:, keep].T @ v[:, keep]
    error = linalg.norm(inverse + inverse.T - gram, 2)
    assert error <= bound * np.linalg.cond(inverse) * linalg.norm(gram, 2)


def random(rng, m, n, dtype=np.float32):
    return rng.standard_normal((m, n)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "nb"), SHAPES)
def test_factors(compiled, rng, m, n, nb, dtype):
    """A = Q R, and the very V, R and T of LAPACK, signs included."""
    a = random(rng, m, n, dtype)
    panel = Panel(a, nb).factor(compiled(FILE))
    judge(a, panel.result, panel.t[:, :n].T)
    assert np.isnan(panel.whole[:, m:]).all()
    assert np.isnan(panel.t[:, n:]).all()
    bound = 8 * n * np.finfo(dtype).eps * np.linalg.cond(a)
    r = linalg.qr(a.astype(float), mode="r")[0][:n]
    size = linalg.norm(a, 2)
    assert abs(abs(np.triu(panel.result[:n])) - abs(r)).max() <= bound * size
    if m == n:  # where LAPACK leaves the last column as it is, and its tau 0
        return
    packed, t, _ = lapack.dgeqrt(n, a.astype(float))
    v = np.tril(panel.result, -1) - np.tril(packed, -1)
    assert linalg.norm(v, 2) <= bound * linalg.norm(np.tril(packed, -1) + np.eye(m, n), 2)
    assert abs(np.triu(panel.result[:n] - packed[:n])).max() <= bound * size
    assert linalg.norm(panel.t[:, :n].T - np.triu(t), 2) <= bound * np.linalg.cond(np.triu(t))


@pytest.mark.parametrize(("m", "n", "nb"), [(257, 16, 16), (530, 9, 32)])
def test_every_schedule(compiled, rng, schedule, checked, m, n, nb):
    """The same bits, whichever thread goes first, and no races."""
    a = random(rng, m, n)
    panel = Panel(a, nb).factor(compiled(FILE, checked=checked), schedule=schedule)
    judge(a, panel.result, panel.t[:, :n].T)
    other = Panel(a, nb).factor(compiled(FILE))
    np.testing.assert_array_equal(panel.whole, other.whole)
    np.testing.assert_array_equal(panel.t, other.t)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "nb"), [(3, 2, 16), (200, 16, 16), (256, 30, 32)])
def test_a_leaf_alone_is_in_the_form_of_lapack(compiled, rng, m, n, nb, dtype):
    """After one launch, with T where the leaves' stand."""
    a = random(rng, m, n, dtype)
    panel = Panel(a, nb).factor(compiled(FILE), steps=1)
    judge(a, panel.result, panel.triangles[0, :n, :n].T)


@pytest.mark.parametrize("size", [1e19, 1e-22, 1e-37])
@pytest.mark.parametrize("n", [4, 16])
def test_no_norm_leaves_the_range(compiled, rng, size, n):
    """Squares of such entries are infinite or zero in fp32."""
    a, module = (rng.standard_normal((600, n)) * size).astype(np.float32), compiled(FILE)
    panel = Panel(a, 16).factor(module)
    flushes = seen_by(module, np.float32(2.0**-127)) == 0
    judge(a, panel.result, panel.t[:, :n].T, least=2.0**-126 if flushes else 0.0)


@pytest.mark.parametrize("factors", [10.0 ** np.arange(-16, 16), 10.0 ** np.arange(16, -16, -1)])
def test_graded_columns(compiled, rng, factors):
    """Each column has the error of its own size."""
    a = (rng.standard_normal((600, 32)) * factors).astype(np.float32)
    panel = Panel(a, 32).factor(compiled(FILE))
    judge(a, panel.result, panel.t[:, :32].T)


def graded_rows(rng, m, n):
    return random(rng, m, n) * np.float32(10) ** rng.uniform(-20, 0, (m, 1)).astype(np.float32)


def zero_columns(rng, m, n):
    a = random(rng, m, n)
    a[:, [0, 3, n - 1]] = 0
    return a


def of_rank_two(rng, m, n):
    return random(rng, m, 2) @ random(rng, 2, n)


def equal_columns(rng, m, n):
    return np.repeat(random(rng, m, 1), n, axis=1)


def unit_columns(rng, m, n):
    return np.eye(m, n, dtype=np.float32)


def steep_rows(rng, m, n):
    """What is left of a column comes close to the smallest numbers."""
    return np.triu(random(rng, m, n)) + random(rng, m, n) * np.float32(1e-19)


def all_zeros(rng, m, n):
    return np.zeros((m, n), np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [16, 200, 515])
@pytest.mark.parametrize(
    "make",
    [graded_rows, zero_columns, of_rank_two, equal_columns, unit_columns, steep_rows, all_zeros],
)
def test_panels_of_any_rank(compiled, rng, make, m, dtype):
    """Q is orthonormal all the same."""
    a = make(rng, m, 16).astype(dtype)
    panel = Panel(a, 16).factor(compiled(FILE))
    judge(a, panel.result, panel.t[:, :16].T)
    if m <= ROWS:
        panel = Panel(a, 16).factor(compiled(FILE), steps=1)
        judge(a, panel.result, panel.triangles[0, :16, :16].T)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 3), (3, 3), (40, 3), (290, 0), (514, 15)])
def test_what_is_not_finite_is_seen_in_r(compiled, rng, value, place):
    """In the column where it stood and not in those before it; an index never is out of range."""
    a = random(rng, 515, 16)
    a[place] = value
    panel = Panel(a, 16).factor(compiled(FILE, checked=True))
    r = np.triu(panel.result[:16])
    assert np.isfinite(r[:, : place[1]]).all()
    assert not np.isfinite(r[:, place[1]]).all()
    good = linalg.qr(a[:, : place[1]].astype(float), mode="r")[0] if place[1] else np.empty((0, 0))
    bound = 8 * 16 * np.finfo(np.float32).eps * linalg.norm(good)
    k = place[1]
    assert (abs(abs(r[:k, :k]) - abs(good[:k])) <= bound).all()


@pytest.mark.parametrize("nb", [16, 32])
def test_one_barrier_a_column(emulated, rng, nb):
    """And one before T; on the way down two a merge and three a leaf."""
    m = 600
    module, panel = emulated(FILE), Panel(random(rng, m, nb), nb)
    found = []
    for kernel, blocks, arguments, _ in panel.launches():
        module[name(kernel, np.float32, nb)](blocks, 256, arguments)
        found.append((kernel, module.counts.barriers / blocks))
    assert found == [
        ("tsqr_leaf", nb + 1), ("tsqr_merge", nb + 1), ("reconstruct", 5), ("tsqr_form", 5),
    ]  # fmt: skip


@pytest.mark.parametrize("edit", barriers(FILE), ids=lambda edit: edit.__name__)
def test_no_barrier_can_be_spared(broken, rng, edit):
    """Without one of them two threads are seen to race, or the result is another."""
    module = broken(FILE, edit, *(name(k, np.float32, 16) for k in STEPS))
    a = random(rng, 600, 16)

    def is_right_under_all():
        for schedule in SCHEDULES:
            panel = Panel(a, 16).factor(module, schedule=schedule)
            judge(a, panel.result, panel.t[:, :16].T)

    with pytest.raises((LaunchError, AssertionError)):
        is_right_under_all()
