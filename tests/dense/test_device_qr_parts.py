"""The parts of `qr` and `lstsq` on arrays of CuPy, or of what plays its part on the host."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mplinalg.dense.singular_values import singular_values
from mplinalg.factor.band import upper_band
from mplinalg.factor.qr import qr as factor
from mplinalg.factor.triangle import Triangle
from mplinalg.factor.tsqr import tsqr
from mplinalg.ops import ops_for
from mplinalg.precision import FP64, get_format

from ..cupy_on_host import ledger
from ..cupy_on_host.settings import settings
from ..device import cupy, stand_in
from .tall import LOSS, draw, norm, roundoff, same_as_scipy, with_cond

__all__ = ["cupy", "stand_in"]  # fixtures


def test_triangles_are_waited_for_once(stand_in, cupy, rng):
    r = np.triu(draw(rng, (40, 40))) + 9 * np.eye(40)
    given = cupy.asarray(r, order="F")
    with ledger.recorded() as seen:
        made = Triangle.of(ops_for(given), given)
    assert len(seen.syncs) == 1
    on_host = Triangle.of(ops_for(r), np.asfortranarray(r))
    assert made.rcond == pytest.approx(on_host.rcond, rel=1e-12)
    given[3, 3] = cupy.nan
    assert Triangle.of(ops_for(given), given).rcond == 0.0


def test_singular_values(cupy, rng):
    r = np.triu(draw(rng, (20, 20)))
    s = singular_values(cupy.asarray(r))
    assert np.allclose(cupy.asnumpy(s), scipy.linalg.svdvals(r), rtol=1e-12)


@pytest.mark.parametrize("schedule", ["reverse", 7])
def test_other_schedules(stand_in, cupy, rng, schedule):
    settings.schedule = schedule
    a, b = with_cond(rng, 150, 60, 5.0), draw(rng, (150, 2))
    same_as_scipy(cupy, a, b, 5.0, precision="fp16")


def test_low_formats_do_round(cupy, rng):
    """What is computed in a format has its errors, on a device as on the host."""
    a = draw(rng, (128, 128))
    given = cupy.asarray(a)
    for name in ("fp16", "bf16"):
        made = factor(ops_for(given), given, get_format(name), block=32)
        back = cupy.asnumpy(made.apply_q(made.r("d")))
        error = norm(back - a) / norm(a)
        u = get_format(name).unit_roundoff
        assert 0.05 * u < error < LOSS * u


def test_reduction_trees(cupy, rng):
    a = draw(rng, (150, 20))
    given = cupy.asarray(a)
    made = tsqr(ops_for(given), given, FP64, 40)
    assert norm(cupy.asnumpy(made.apply_q(made.r)) - a) <= LOSS * 150 * roundoff(float) * norm(a)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_bands(cupy, rng, dtype):
    a = draw(rng, (70, 70), dtype)
    given = cupy.asarray(a, order="F")
    rows = cupy.asnumpy(upper_band(ops_for(given), given, 8))
    band = sum(np.diag(rows[8 - i, i:], i) for i in range(9))
    s = scipy.linalg.svdvals(a)
    assert np.allclose(scipy.linalg.svdvals(band), s, rtol=0, atol=LOSS * roundoff(float) * s[0])
