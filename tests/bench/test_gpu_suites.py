"""The suites for a GPU, run on the stand-in for CuPy at tiny sizes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mplinalg.bench import catalogue, gpu
from mplinalg.bench.runner import Options, run
from mplinalg.bench.suite import Suite

from ..cupy_on_host.install import cupy_on_host
from .gpu_harness import N, cupy, quick

__all__ = ["cupy", "cupy_on_host", "quick"]  # fixtures


def suites():
    found = {name: catalogue.load(name) for name in catalogue.names("cuda")}
    return {name: suite for name, suite in found.items() if isinstance(suite, Suite)}


def test_every_stage_is_a_suite_for_a_gpu():
    assert set(gpu.STAGES) - {gpu.TESTS} == set(catalogue.names("cuda"))
    assert set(catalogue.names("cuda")).isdisjoint(catalogue.names())
    assert all(suite.device == "cuda" for suite in suites().values())


@pytest.mark.parametrize("name", catalogue.names("cuda"))
def test_a_suite_says_what_it_measures(name):
    text = (catalogue.folder() / f"{name}.py").read_text()
    assert text.startswith('"""')
    assert len(text.split('"""')[1]) > 200


@pytest.mark.parametrize("name", suites())
def test_a_right_answer_passes_and_one_slightly_wrong_does_not(cupy, name):
    suite = suites()[name]
    for parameters in suite.cases([N]):
        problem = suite.build(np.random.default_rng(0), **parameters)
        assert set(suite.peers) == set(problem.peers)
        answer, by = problem.ours(), 1 + max(1e-6, 100 * problem.bound)
        if isinstance(answer, list):
            wrong = [part * by for part in answer]
        else:
            wrong = (answer[0] * by, *answer[1:]) if isinstance(answer, tuple) else answer * by
        assert problem.error(answer) <= problem.bound, parameters
        assert not problem.error(wrong) <= problem.bound, parameters


@pytest.mark.parametrize("name", suites())
def test_the_librarys_own_solvers_pass_in_every_suite(cupy_on_host, name):
    """Its first row of each size, by the kernels themselves."""
    suite = suites()[name]
    for parameters in list(suite.cases([20, 33]))[:2]:
        problem = suite.build(np.random.default_rng(0), **parameters)
        assert problem.error(problem.ours()) <= problem.bound, parameters
        if problem.report is not None:
            assert problem.report().status.is_success, parameters


def test_a_suite_for_a_gpu_refuses_the_processor_and_the_other_way_round():
    suite = suites()["gpu_qr"]
    with pytest.raises(ValueError, match="the suite gpu_qr computes on cuda"):
        run(suite, Options(device="cpu"))
    with pytest.raises(ValueError, match="the suite qr computes on cpu"):
        run(catalogue.load("qr"), Options(device="cuda"))


def test_the_ceilings_cover_what_they_say():
    rows = list(catalogue.load("gpu_ceilings").cases([8192]))
    depths = {r["k"] for r in rows if r["what"] == "gemm"}
    assert depths == {256, 512, 1024, 8192}
    assert {r["format"] for r in rows if r["what"] == "gemm"} == {
        "fp16", "bf16", "tf32", "fp32", "fp64",
    }  # fmt: skip
    assert "fp16x2" in {r["format"] for r in rows if r["what"] == "product"}
    assert {r["what"] for r in rows} >= {"copy", "launch", "leaf", "panel", "residual", "convert"}
    assert len({json.dumps(r, sort_keys=True) for r in rows}) == len(rows)
