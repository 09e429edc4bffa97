"""The suites of many small problems on a GPU, on the stand-in for CuPy, by the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.bench import catalogue, gpu_stacks, stacks

from ..cupy_on_host.install import cupy_on_host

__all__ = ["cupy_on_host"]  # a fixture

MANY = ("gpu_batched_gemm", "gpu_batched_solve", "gpu_contraction")


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(stacks, "SCALE", 1e-4)


@pytest.mark.parametrize("name", MANY)
def test_every_row_of_many_small_problems(cupy_on_host, name):
    """By the kernels themselves: answers are good, and so are those of the peer that is here."""
    suite = catalogue.load(name)
    for parameters in suite.cases([9]):
        problem = suite.build(np.random.default_rng(0), **parameters)
        assert problem.report is None
        for method in (problem.ours, problem.peers[suite.default_peers[0]]):
            assert problem.error(method()) <= problem.bound, parameters
        assert problem.flops > 0
        assert problem.traffic(None) > 0


def test_finite_elements(cupy_on_host):
    """Of few unknowns, and every degree; the peers' answers are ours."""
    suite = catalogue.load("gpu_fem")
    for parameters in suite.cases([1, 2, 7]):
        problem = suite.build(np.random.default_rng(0), **parameters)
        for method in (problem.ours, *problem.peers.values()):
            assert problem.error(method()) <= problem.bound, parameters
        assert problem.unknowns > 100
        assert problem.traffic(None) >= 24 * problem.unknowns
        answer = problem.ours()
        for wrong in (answer.get(), answer[1:], answer * np.nan, answer * (1 + 1e-9)):
            assert not problem.error(wrong) <= problem.bound


@pytest.mark.parametrize("name", MANY)
def test_an_answer_that_is_none(cupy_on_host, name):
    """On the host, of another shape, not finite: not good, whatever the numbers."""
    parameters = next(iter(catalogue.load(name).cases([9])))
    problem = catalogue.load(name).build(np.random.default_rng(0), **parameters)
    answer = problem.peers[catalogue.load(name).default_peers[0]]()
    assert problem.error(answer) <= problem.bound
    for wrong in (answer.get(), answer[1:], answer * np.nan, answer * np.inf):
        assert not problem.error(wrong) <= problem.bound


def test_errors_are_those_of_the_host(cupy_on_host, rng, monkeypatch):
    """Looked at some members at a time."""
    monkeypatch.setattr(gpu_stacks, "_AT_ONCE", 40)
    a, b = rng.standard_normal((7, 4, 4)), rng.standard_normal((7, 4, 2))
    x, c = np.linalg.solve(a, b), a @ b
    x[5, 1, 1] *= 1 + 1e-9
    c[6, 3, 0] += 1e-9
    for made, plain, answer in (
        (gpu_stacks.solve_error, stacks.solve_error, x),
        (gpu_stacks.product_error, stacks.product_error, c),
    ):
        found = made(cupy_on_host.asarray(a), cupy_on_host.asarray(b))(cupy_on_host.asarray(answer))
        assert found == pytest.approx(plain(a, b)(answer), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_positive_definite_members(cupy_on_host, monkeypatch, dtype):
    monkeypatch.setattr(gpu_stacks, "_AT_ONCE", 60)
    a = gpu_stacks.positive_definite(np.random.default_rng(0), 9, 5, dtype).get()
    assert a.dtype == dtype
    np.testing.assert_array_equal(a, a.conj().swapaxes(1, 2))
    assert np.linalg.eigvalsh(a).min() > 0.009
    assert len(np.unique(a[:, 0, 0])) == 9
