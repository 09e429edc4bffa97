"""The random right-hand side that tells singular matrices, alone and beside b."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.lu import lu
from mplinalg.ops.dispatch import ops_for
from mplinalg.precision import FP32
from mplinalg.refine.probe import Probe
from mplinalg.refine.system import LinearSystem

N = 60


def system_of(a, columns=2):
    ops = ops_for(a)
    b = np.asfortranarray(a @ np.random.default_rng(1).standard_normal((len(a), columns)))
    u = np.finfo(a.dtype).eps / 2
    return LinearSystem(ops, a, b, float(abs(a).sum(axis=1).max()), u)


def probe_of(a):
    ops = ops_for(a)
    kept = np.asfortranarray(a.astype(FP32.dtype(a.dtype)))
    return Probe(system_of(a), lu(ops, kept, FP32))


def drawn(rng, dtype, rank=N):
    a = rng.standard_normal((N, rank)) @ rng.standard_normal((rank, N))
    return np.asfortranarray(a.astype(dtype))


def ride(probe):
    """First solve, first residual and first correction, with z."""
    x = probe.first_solve()
    r, _ = probe.residual(x, np.arange(x.shape[1]))
    return x, r, probe.correct(np.asfortranarray(r))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_beside_b_it_says_what_it_says_alone(rng, dtype):
    for rank, expected in ((N, True), (N - 1, False)):
        a = drawn(rng, dtype, rank)
        alone, beside = probe_of(a), probe_of(a)
        ride(beside)
        assert alone.shows_regular(by_gmres=False) == expected
        assert beside.shows_regular(by_gmres=False) == expected


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_b_does_not_notice(rng, dtype):
    """But for rounding, as single columns and several go through different products."""
    probe = probe_of(drawn(rng, dtype))
    system, factors = probe.system, probe.factors
    x, r, d = ride(probe)
    assert np.allclose(x, system.timed_solve(factors, system.b), rtol=1e-3)
    exact, _ = system.residual(x, np.arange(2))
    scale = system.norm_a * abs(x).max() + abs(system.b).max()
    assert abs(r - exact).max() <= 4 * N * system.unit_roundoff * scale
    assert np.allclose(d, system.timed_solve(factors, r), rtol=1e-3)


def test_riding_costs_no_solve_of_its_own(rng, monkeypatch):
    probe = probe_of(drawn(rng, "float64"))
    ride(probe)

    def never(*given, **options):
        raise AssertionError("solved once more")

    monkeypatch.setattr(type(probe.factors), "solve", never)
    assert probe.shows_regular(by_gmres=False)
