"""How kernels are compiled: how often, and what a first call compiles beside them."""

import os
import subprocess
import sys

import numba
import pytest

from mplinalg.kernels.cpu.jit import kernel, shared_kernel


@kernel
def _signed(x, negative):
    return -x if negative else x


@shared_kernel
def _signed_once(x, negative):
    return -x if negative else x


@kernel
def _both(x):
    return _signed(x, True) + 2 * _signed(x, False), _signed_once(x, True) + 3 * _signed_once(
        x, negative=False
    )


def test_constants():
    """A shared kernel is compiled once for all of them."""
    assert _both(2.0) == (2.0, 4.0)
    _both.recompile()  # what an earlier run left on disk says nothing of the others
    literal = [s for s in _signed.signatures if isinstance(s[1], numba.types.Literal)]
    assert len(literal) == 2
    assert [str(s) for s in _signed_once.signatures] == ["(float64, bool)"]


def test_kernels_are_imported_where_nothing_is_compiled():
    """NUMBA_DISABLE_JIT leaves functions, which have no template to replace."""
    command = [sys.executable, "-c", "import mplinalg.kernels.cpu.gesv"]
    subprocess.run(command, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, check=True)


_FIRST_CALLS = """
import numba.core.event as event
import numpy as np
from mplinalg import solve

compiled = []

class Listener(event.Listener):
    def on_start(self, e):
        compiled.append(e.data["dispatcher"])

    def on_end(self, e):
        pass

event.register("numba:compile", Listener())
for n in (40, 800):
    a = np.random.default_rng(0).standard_normal((n, n))
    solve(a, a[0])
    solve(a @ a.T + n * np.eye(n), a[0], assume_a="pos")
print(*{f.py_func.__code__.co_filename for f in compiled}, sep="\\n")
"""


@pytest.mark.slow
def test_a_first_solve_compiles_no_texts(tmp_path):
    """Numba's messages about slices of different shapes take longer than LU."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _FIRST_CALLS], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    files = done.stdout.split()
    assert any(file.endswith("getrf.py") for file in files)
    assert not [file for file in files if file.endswith("unicode.py")]
