"""What a hostile user found about formats, factors, reports, arguments and installations.

Each of these was wrong once.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import mplinalg
from mplinalg import (
    QR,
    LinAlgError,
    LinAlgWarning,
    cho_factor,
    cho_solve,
    lu_factor,
    lu_solve,
    solve,
)
from mplinalg.precision import FORMATS
from mplinalg.testing import backward_error, forward_error

U = np.finfo(float).eps / 2


# -- objects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=str)
def test_a_format_is_the_same_object_after_pickling(fmt):
    assert pickle.loads(pickle.dumps(fmt)) is fmt


def test_swapped_columns_are_a_modified_matrix():
    a = np.random.default_rng(0).standard_normal((300, 300))
    for i, j in ((3, 5), (7, 8), (100, 200)):
        factors = lu_factor(a)
        a[:, [i, j]] = a[:, [j, i]]
        with pytest.raises(LinAlgError, match="modified"):
            lu_solve(factors, np.ones(300))


def test_unpacking_in_threads_leaves_the_warning_filters_alone():
    rng = np.random.default_rng(0)
    before = list(warnings.filters)
    for _ in range(5):
        factors = [lu_factor(rng.standard_normal((64, 64))) for _ in range(8)]
        threads = [threading.Thread(target=tuple, args=(f,)) for f in factors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert list(warnings.filters) == before


@pytest.mark.filterwarnings("ignore::mplinalg.LinAlgWarning")
@pytest.mark.parametrize("n", [5, 300])
def test_nan_that_nobody_checked_is_not_called_a_modification(n):
    a = np.random.default_rng(0).standard_normal((n, n))
    a[1, 2] = np.nan
    assert np.isnan(lu_solve(lu_factor(a, check_finite=False), np.ones(n))).any()


def test_a_double_right_hand_side_of_single_factors_is_solved_in_double():
    a = np.random.default_rng(0).standard_normal((200, 150)).astype(np.float32)
    b = np.random.default_rng(1).standard_normal(200)
    x = QR(a).solve(b)
    assert x.dtype == np.float64
    expected = np.linalg.lstsq(a.astype(float), b)[0]
    assert forward_error(x, expected) <= 1e-12


@pytest.mark.parametrize("shape", [(9, 3), (900, 300)])
def test_a_negative_cutoff_is_refused_at_every_size(shape):
    a = np.random.default_rng(0).standard_normal(shape)
    with pytest.raises(ValueError, match=r"cond|rcond"):
        mplinalg.lstsq(a, np.ones(len(a)), cond=-1)


def test_rectangular_factors_do_not_solve():
    with pytest.raises(ValueError, match="square"):
        lu_solve(lu_factor(np.ones((3, 2)) + np.eye(3, 2)), np.ones(3))


@pytest.mark.parametrize("options", [{"refine": "gmres"}, {"refine": "x"}, {"tol": 1e-8}])
def test_a_plain_tuple_is_not_refined(options):
    a = np.array([[4.0, 1.0], [1.0, 3.0]])
    with pytest.raises(ValueError, match=r"refine|tol"):
        lu_solve(tuple(lu_factor(a)), np.ones(2), **options)
    with pytest.raises(ValueError, match=r"refine|tol"):
        cho_solve(tuple(cho_factor(a)), np.ones(2), **options)


@pytest.mark.parametrize("solver", [lu_solve, lambda f, b, **k: f.solve(b, **k)])
def test_the_report_of_a_vector_has_floats(solver):
    a = np.random.default_rng(0).standard_normal((300, 300))
    _, report = solver(lu_factor(a), np.ones(300), full_output=True)
    assert isinstance(report.backward_error, float)
    assert isinstance(report.componentwise_error, float)


# -- installation --------------------------------------------------------------------------------


def test_kernels_compile_where_nothing_can_be_cached(tmp_path):
    """A package and a home directory that cannot be written to.

    The import decorates all kernels; the solve compiles few, as nothing keeps what it compiles.
    """
    package = Path(mplinalg.__file__).parent
    shutil.copytree(package, tmp_path / "mplinalg", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"  # what an unwritable disk comes to, also for root
        "import numpy as np, mplinalg, mplinalg.batched, mplinalg.fem\n"
        "from mplinalg.kernels.cpu import structured\n"
        "a = np.eye(40) + np.triu(np.full((40, 40), 0.01))\n"
        "x = mplinalg.solve(a, np.ones(40), assume_a='upper triangular')\n"
        "assert structured.triangular_lines.signatures, 'nothing was compiled'\n"
        "print(abs(a @ x - 1).max() < 1e-12, mplinalg.__file__)"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", str(tmp_path / "mplinalg" / "__init__.py")]


# -- what comes in, and when it changes ----------------------------------------------------------


@pytest.mark.parametrize("assumed", ["banded", "sym", "upper triangular"])
def test_nothing_but_our_warnings(rng, assumed):
    """Of a norm that overflows NumPy warned too."""
    a = np.triu(rng.standard_normal((300, 300))) * 1e306
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solve(a + a.T if assumed == "sym" else a, np.ones(300), assume_a=assumed)
    assert {warning.category for warning in caught} <= {LinAlgWarning}


@pytest.mark.parametrize("n", [5, 300])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("kind", ["lu", "cho"])
def test_a_wider_right_hand_side_sees_the_matrix_as_it_is_now(rng, n, batch, kind):
    """Single-precision factors solve it with a copy of the matrix in double."""
    a = (5 * np.eye(n) + rng.standard_normal((n, n)) / n).astype(np.float32)
    a = (a + a.T) / 2
    a = np.array([a]) if batch else a
    factor, solve_with = (lu_factor, lu_solve) if kind == "lu" else (cho_factor, cho_solve)
    factors = factor(a)
    b = rng.standard_normal((1, n, 1) if batch else n)
    solve_with(factors, b)
    for change in (1e-6, 1e-3, 0.1):
        a[..., 0, 0] += np.float32(change)
        try:
            x = solve_with(factors, b)
        except LinAlgError:
            return
        error = backward_error(a.astype(float).reshape(n, n), x.reshape(n), b.reshape(n))
        assert error <= np.sqrt(max(n, 4)) * 2.0**-53


@pytest.mark.parametrize("n", [0, 1, 2])
def test_names_of_structures_are_checked_at_every_order(n):
    with pytest.raises(ValueError, match="garbage"):
        solve(np.eye(n), np.ones(n), assume_a="garbage")


@pytest.mark.parametrize("factor", ["lu", "cho"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_factors_of_a_padded_view_survive_a_copy(rng, factor, order, dtype):
    """A copy has another layout; the factors were then taken for those of the transpose."""
    whole = np.zeros((52, 53), dtype, order=order)
    a = whole[:50, :50]
    a[...] = rng.standard_normal((50, 50))
    if dtype == "complex128":
        a[...] += 1j * rng.standard_normal((50, 50))
    if factor == "cho":
        a[...] = a @ a.conj().T + 50 * np.eye(50)
    b = rng.standard_normal((50, 2)).astype(dtype)
    factors = lu_factor(a) if factor == "lu" else cho_factor(a)
    again = pickle.loads(pickle.dumps(factors))
    x = lu_solve(again, b) if factor == "lu" else cho_solve(again, b)
    assert backward_error(a, x, b).max() <= np.sqrt(50) * U


def test_residues_that_overflow_are_no_numpy_warning(rng):
    a, b = rng.standard_normal((2000, 500)), rng.standard_normal(2000) * 1e200
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert mplinalg.lstsq(a, b)[1] == np.inf
