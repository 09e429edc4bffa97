"""`cupy.linalg` and its like: NumPy's answers, on the device, without a word on singularity."""

import importlib

import numpy as np
import pytest

from ..ops.helpers import DTYPES, allowed, draw, is_small, same_bits
from .install import forbidden_transfers, recorded


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


def test_systems(cupy, dtype):
    rng = np.random.default_rng(0)
    x, b = draw(rng, (6, 6), dtype) + 6 * np.eye(6, dtype=dtype), draw(rng, (6, 2), dtype)
    spd = x @ x.conj().T
    a, s, c = cupy.asarray(x), cupy.asarray(spd), cupy.asarray(b)
    lapack = importlib.import_module("cupyx.lapack")
    with forbidden_transfers(), recorded() as ledger:
        found = [
            (x, cupy.linalg.solve(a, c)), (x, cupy.linalg.inv(a) @ c), (x, lapack.gesv(a, c)),
            (spd, lapack.posv(s, c)), (x, lapack.gels(a, c)),
            (x, importlib.import_module("cupyx.cusolver").gesv(a, c)),
        ]  # fmt: skip
        factor = cupy.linalg.cholesky(s)
    assert ledger.syncs == []
    for matrix, y in found:
        size = abs(matrix) @ abs(y.get()) + abs(b)
        assert is_small(abs(matrix @ y.get() - b), 10 * allowed(6, dtype) * size)
    assert same_bits(factor.get(), np.linalg.cholesky(spd))
    triangular = importlib.import_module("cupyx.scipy.linalg").solve_triangular
    y = triangular(factor, c, trans="C", lower=True).get()
    size = abs(factor.get().conj().T) @ abs(y) + abs(b)
    assert is_small(abs(factor.get().conj().T @ y - b), allowed(6, dtype) * size)


def test_several_results(cupy, dtype):
    x = draw(np.random.default_rng(0), (5, 3), dtype)
    a = cupy.asarray(x)
    for name, options in (("qr", {}), ("svd", {"full_matrices": False}), ("qr", {"mode": "r"})):
        found, wanted = (getattr(p.linalg, name)(v, **options) for p, v in ((cupy, a), (np, x)))
        assert type(found) in (tuple, cupy.ndarray)
        if name == "qr" and options:
            found, wanted = (found,), (wanted,)
        for f, w in zip(found, wanted, strict=True):
            assert type(f) is cupy.ndarray
            assert same_bits(f.get(), np.ascontiguousarray(w))


def test_a_singular_matrix_is_no_error(cupy):
    a = cupy.zeros((3, 3))
    for found in (
        cupy.linalg.solve(a, cupy.ones(3)), cupy.linalg.inv(a), cupy.linalg.cholesky(a - 1),
    ):  # fmt: skip
        assert np.isnan(found.get()).any()


def test_random_numbers_are_made_on_the_device(cupy):
    with forbidden_transfers(), recorded() as ledger:
        rng = cupy.random.default_rng(3)
        x = rng.standard_normal((4, 5), dtype="float32")
        rows = rng.integers(7, size=100)
        y = rng.random(50)
    assert ledger.syncs == []
    assert x.dtype == "float32"
    assert set(rows.get()) <= set(range(7))
    assert is_small(abs(y.get() - 0.5), 0.5)
    again = cupy.random.default_rng(3)
    assert same_bits(again.standard_normal((4, 5), dtype="float32").get(), x.get())
