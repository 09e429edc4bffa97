"""The suite of training on a GPU, on the stand-in for CuPy, by the kernels."""

import numpy as np
import pytest

from mplinalg.bench import catalogue

from ..cupy_on_host.install import cupy_on_host

__all__ = ["cupy_on_host"]  # a fixture


@pytest.mark.parametrize("net", ["mlp", "lenet"])
def test_a_row(cupy_on_host, net):
    """Training is as good as that in double precision, by a graph; the start is not, nor others."""
    suite = catalogue.load("gpu_nn")
    problem = suite.build(np.random.default_rng(0), net=net, precision="fp32", n=60)
    found = problem.ours()
    assert problem.error(found) <= problem.bound
    assert problem.findings()["captured"], problem.findings()["note"]
    again = [a.copy() for a in found]
    for a, b in zip(problem.ours(), again, strict=True):
        np.testing.assert_array_equal(a.get(), b.get())
    for wrong in (found[1:], [a.get() for a in found], [a * np.nan for a in found], None):
        assert not problem.error(wrong) <= problem.bound
    assert not problem.error([a + 1 for a in again]) <= problem.bound


def test_rows():
    suite = catalogue.load("gpu_nn")
    rows = list(suite.cases([1000]))
    assert len(rows) == 4
    assert rows[0] == {"net": "mlp", "precision": "fp32", "n": 1000}
