"""Q written out from block reflectors is the Q of LAPACK's orgqr."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.reflectors import form_q
from mplinalg.kernels.cpu import lapack
from mplinalg.ops import ops_for
from mplinalg.precision import working_format

OPS = ops_for(np.empty(0))


@pytest.mark.parametrize("dtype", ["f", "d", "F", "D"])
@pytest.mark.parametrize(
    ("m", "n", "columns"),
    [
        (1, 1, 1),
        (5, 3, 3),
        (5, 3, 4),
        (5, 3, 5),
        (33, 32, 33),
        (70, 64, 64),
        (64, 70, 64),
        (90, 0, 7),
    ],
)
@pytest.mark.parametrize("block", [1, 16, 33])
def test_form_q(rng, dtype, m, n, columns, block):
    a = rng.standard_normal((m, n))
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal((m, n))
    qr = np.asarray(a, dtype=dtype, order="F")
    t = lapack.geqrt(qr, block)
    kept = qr.copy(order="F")
    q = form_q(OPS, qr, t, columns)
    assert np.array_equal(qr, kept)
    k = min(m, n)
    places = np.arange(k)
    expected = np.zeros((m, columns), dtype, order="F")
    expected[:, :k] = qr[:, :k]
    lapack.orgqr(expected, t[places % len(t), places])
    u = working_format(dtype).unit_roundoff
    assert np.linalg.norm(q - expected) <= 30 * max(m, 1) * u


def test_a_column_that_needs_no_reflection(rng):
    """Zero below the diagonal: LAPACK's tau is zero, and H the identity."""
    a = np.triu(rng.standard_normal((40, 20)))
    qr = np.array(a, order="F")
    t = lapack.geqrt(qr, 8)
    q = form_q(OPS, qr, t, 40)
    assert np.allclose(np.abs(q), np.eye(40), atol=1e-15)
    assert np.allclose(q[:, :20] @ np.triu(qr[:20]), a, atol=1e-14)
