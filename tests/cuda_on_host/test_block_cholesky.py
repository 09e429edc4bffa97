"""block_cholesky.cu: Cholesky factorization of a diagonal block, and the inverse of the factor."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from .module import LaunchError
from .mutation import barriers

TYPES = {"float": np.float32, "double": np.float64}
SIZES = [(64, 1), (64, 16), (64, 61), (64, 64), (128, 17), (128, 97), (128, 127), (128, 128)]


def block_of(rng, n, dtype):
    """Positive definite, of condition 1e4 or so, with NaN above the diagonal and to the right."""
    whole = np.full((n, n + 3), np.nan, dtype)
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = (q * np.geomspace(1, 1e4, n)) @ q.T
    lower = np.tril_indices(n)
    whole[lower] = a[lower]
    return whole, whole[:, :n]


def factor(module, kind, order, a, *, offset=0, info=0, **options):
    """L^-1 and info; L goes to `a`."""
    inverse, found = np.full((order, order), np.nan, a.dtype), np.array([info], np.int32)
    module[f"block_cholesky<{kind}, {order}>"](
        1, 256, [len(a), a, a.strides[0] // a.itemsize, inverse, offset, found],
        uninitialised=[3], **options,
    )  # fmt: skip
    return inverse, found[0]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("order", "n"), SIZES)
def test_factor_and_inverse(compiled, rng, schedule, checked, kind, order, n):
    whole, a = block_of(rng, n, TYPES[kind])
    given = np.tril(a).astype(np.longdouble)
    given += np.tril(given, -1).T
    module = compiled("block_cholesky.cu", checked=checked)
    inverse, info = factor(module, kind, order, a, schedule=schedule)
    assert info == 0
    bound = 4 * n * np.finfo(a.dtype).eps / 2
    l = np.tril(a).astype(np.longdouble)
    assert (abs(l @ l.T - given) <= bound * abs(l) @ abs(l.T)).all()
    x = inverse[:n, :n].astype(np.longdouble)
    assert (abs(l @ x - np.eye(n)) <= bound * abs(l) @ abs(x)).all()
    assert not np.triu(inverse, 1).any()
    np.testing.assert_array_equal(inverse[n:], np.eye(order)[n:])
    assert np.isnan(whole[np.triu_indices(n, 1, n + 3)]).all()  # neither read nor written


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("order", "n"), SIZES)
def test_a_barrier_a_column(emulated, rng, kind, order, n):
    module, (_, a) = emulated("block_cholesky.cu"), block_of(rng, n, TYPES[kind])
    factor(module, kind, order, a)
    assert module.counts.barriers == n


@pytest.mark.parametrize("kind", TYPES)
def test_as_lapack(compiled, rng, kind):
    """Factors of well conditioned matrices agree: ||A^-1|| ||A|| = 4 is all the difference."""
    n, dtype = 100, TYPES[kind]
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = ((q * np.linspace(1, 4, n)) @ q.T).astype(dtype)
    expected = scipy.linalg.cholesky(a.astype(float), lower=True)
    inverse, _ = factor(compiled("block_cholesky.cu"), kind, 128, a)
    u = np.finfo(dtype).eps / 2
    np.testing.assert_allclose(np.tril(a), expected, atol=4 * n * u * 4)
    np.testing.assert_allclose(inverse[:n, :n], np.linalg.inv(expected), atol=4 * n * u * 4)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 15, 16, 70])
@pytest.mark.parametrize("kind", TYPES)
def test_minors_that_are_not_positive(compiled, rng, kind, place, value):
    """The first is told; rows above it are as ever."""
    _, a = block_of(rng, 90, TYPES[kind])
    a[place, :place] = 0
    good = a.copy()
    a[place, place] = value
    module = compiled("block_cholesky.cu")
    factor(module, kind, 128, good)
    inverse, info = factor(module, kind, 128, a, offset=1000)
    assert info == 1000 + place + 1
    np.testing.assert_array_equal(np.tril(a)[:place], np.tril(good)[:place])
    assert not np.isfinite(a[place, place]) or a[place, place] == 0
    below = inverse[place + 1 : 90, place]
    assert not np.isfinite(below).any() or np.isinf(value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_seen(compiled, rng, value):
    """Off the diagonal: the minor of its row is no number."""
    _, a = block_of(rng, 50, np.float32)
    a[30, 12] = value
    inverse, info = factor(compiled("block_cholesky.cu"), "float", 64, a)
    assert info == 31
    assert not np.isfinite(a[30, 12])
    assert not np.isfinite(inverse[30, 12])


@pytest.mark.parametrize(("before", "after"), [(0, 108), (5, 5), (500, 108)])
def test_info_keeps_the_first(compiled, before, after):
    a = np.eye(30, dtype=np.float32)
    a[7, 7] = a[20, 20] = -1
    module = compiled("block_cholesky.cu", checked=True)
    assert factor(module, "float", 64, a, offset=100, info=before)[1] == after


@pytest.mark.parametrize("kind", TYPES)
def test_the_same_in_every_run(compiled, rng, kind):
    _, a = block_of(rng, 128, TYPES[kind])
    found = []
    for schedule in ("forward", "reverse", 3):
        l = a.copy()
        found.append((factor(compiled("block_cholesky.cu"), kind, 128, l, schedule=schedule)[0], l))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("edit", barriers("block_cholesky.cu"))
def test_every_barrier_is_needed(broken, rng, edit):
    _, a = block_of(rng, 33, np.float32)
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        factor(broken("block_cholesky.cu", edit, "block_cholesky<float, 64>"), "float", 64, a)
