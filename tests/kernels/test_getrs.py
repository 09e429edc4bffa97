"""getrs, potrs and the norm of the inverse, from factors by rows."""

import numpy as np
import pytest
import scipy.linalg

from mplinalg.kernels.cpu import routines
from mplinalg.kernels.cpu.getrf_blocks import getrf_rows
from mplinalg.kernels.cpu.getrs import getrs_rows, inverse_norm, potrs_rows
from mplinalg.kernels.cpu.potrf import potrf_rows
from mplinalg.testing import gallery

from ..ops.helpers import DTYPES, allowed, draw, is_complex, same_bits, wide

ORDERS = [1, 2, 15, 16, 17, 33, 64, 65, 129]
COLUMNS = [1, 2, 4, 5, 6, 7, 16, 40]
"""Both sides of where single solves end, and many."""
CAREFUL = pytest.mark.parametrize("careful", [False, True], ids=["by blocks", "careful"])


def addresses(dtype):
    return tuple(routines.address(name, np.dtype(dtype)) for name in ("gemm", "trsv", "trsm"))


def trsv(dtype):
    return addresses(dtype)[1]


def lu_of(a):
    lu, piv = np.array(a, order="C"), np.empty(len(a), np.int32)
    info = getrf_rows(lu, piv)
    return lu, piv, info


def backward_errors(a, lines, b):
    """Normwise, of each line."""
    x, b = wide(lines), wide(b)
    r = np.abs(x @ wide(a).T - b).max(axis=1)
    size = np.abs(a).sum(axis=1).max() * np.abs(x).max(axis=1) + np.abs(b).max(axis=1)
    return r / np.where(size > 0, size, 1.0)


@CAREFUL
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_getrs(rng, dtype, flipped, careful):
    for n in ORDERS:
        a = draw(rng, (n, n), dtype)
        lu, piv, _ = lu_of(a)
        before = lu.copy()
        for k in COLUMNS:
            b = draw(rng, (k, n), dtype)
            x = b.copy()
            getrs_rows(*addresses(dtype), lu, piv, x, flipped, careful)
            op = a.T if flipped else a
            assert np.all(backward_errors(op, x, b) <= allowed(n, dtype)), (n, k)
        assert same_bits(lu, before)


@CAREFUL
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_potrs_solves_with_the_conjugate(rng, dtype, upper, careful):
    for n in ORDERS:
        x = wide(draw(rng, (n, n), dtype)) / n**0.5
        a = np.asarray(np.eye(n) + x @ x.conj().T, dtype)
        unread = (np.tril if upper else np.triu)(np.ones((n, n), bool), -1 if upper else 1)
        c = np.where(unread, np.asarray(np.nan, dtype), a)
        herk = routines.address("herk" if is_complex(dtype) else "syrk", c.dtype)
        assert potrf_rows(routines.address("gemm", c.dtype), herk, c, upper) == 0
        for k in COLUMNS:
            b = draw(rng, (k, n), dtype)
            x = b.copy()
            potrs_rows(*addresses(dtype), c, upper, x, careful)
            assert np.all(backward_errors(a.conj(), x, b) <= allowed(n, dtype)), (n, k)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_substitution_does_not_suffer_from_ill_conditioned_blocks(rng, dtype):
    """Kahan's matrix: its inverse, formed, is inaccurate; `careful` must not form it."""
    n = 64
    u = np.asarray(gallery.matrix("kahan", n), dtype)
    lu, piv = np.ascontiguousarray(u), np.arange(n, dtype=np.int32)
    b = (draw(rng, (8, n), dtype) @ u.T).astype(dtype)
    x = b.copy()
    getrs_rows(*addresses(dtype), lu, piv, x, False, True)
    assert np.all(backward_errors(u, x, b) <= allowed(n, dtype))


# -- the norm of the inverse ---------------------------------------------------------------------


def true_norm(lu, piv, flipped):
    """||op(A)^-1||_1, A as the factors have it."""
    n = len(lu)
    lu = wide(lu)
    inverse = np.linalg.inv(np.triu(lu)) @ np.linalg.inv(np.tril(lu, -1) + np.eye(n))
    return np.linalg.norm(inverse, np.inf if flipped else 1)


def lapack_norm(lu, flipped):
    """What LAPACK's estimator, the same algorithm, makes of it: seldom, it fails."""
    (gecon,) = scipy.linalg.get_lapack_funcs(("gecon",), (lu,))
    rcond, _ = gecon(np.asfortranarray(lu), 1.0, norm="I" if flipped else "1")
    return 1 / rcond if rcond else np.inf


WELL_ENOUGH = [
    name
    for name in gallery.names()
    if gallery.facts(name).finite and not gallery.facts(name).singular
    and name not in ("denormal", "badly_scaled", "gfpp")
]  # fmt: skip


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("name", WELL_ENOUGH)
def test_the_norm_of_the_inverse(name, flipped):
    """Within a factor of ten, or as near as LAPACK comes, in every scale."""
    for dtype in ("float64", "complex128"):
        for n in (2, 13, 48):
            try:
                a = np.asarray(gallery.matrix(name, n, dtype))
            except ValueError:
                continue
            for power in (0, -600, 600):
                lu, piv, info = lu_of(np.ldexp(a.view(float), power).view(dtype))
                if info or not (np.isfinite(lu).all() and np.isfinite(a).all()):
                    continue
                # of factors so singular no one knows the norm to a factor of ten
                if np.linalg.cond(np.triu(wide(lu))) > 1e14:
                    continue
                estimate = inverse_norm(trsv(dtype), lu, piv, flipped)
                true = true_norm(lu, piv, flipped)
                least = min(0.1 * true, 0.99 * lapack_norm(lu, flipped))
                assert least <= estimate <= 1.01 * true, (dtype, n, power)


@pytest.mark.parametrize("power", [-600, 0, 600])
@pytest.mark.parametrize("flipped", [False, True])
def test_the_estimate_scales_with_the_matrix(flipped, power):
    """A power of two changes nothing else."""
    a = np.array(gallery.matrix("vandermonde", 48), order="C")
    plain = inverse_norm(trsv("float64"), *lu_of(a)[:2], flipped)
    scaled = inverse_norm(trsv("float64"), *lu_of(np.ldexp(a, power))[:2], flipped)
    assert scaled == np.ldexp(plain, -power)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_inverse_of_a_singular_matrix_is_infinite(dtype):
    a = np.diag([1, 0, 2]).astype(dtype)
    lu, piv, info = lu_of(a)
    assert info == 2
    assert inverse_norm(trsv(dtype), lu, piv, False) == np.inf
    lu[1, 1] = np.nan
    assert inverse_norm(trsv(dtype), lu, piv, True) == np.inf
