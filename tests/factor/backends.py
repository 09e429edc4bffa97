"""The backends in turn, and arrays of theirs, for randomly transformed matrices."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.factor.butterfly import padded
from mplinalg.ops import ops_for

from ..device import KINDS, library

SIZE = 128


@pytest.fixture(params=["numpy", *KINDS])
def ops(request):
    if request.param == "numpy":
        yield ops_for()
        return
    with library(request.param) as cupy:
        yield ops_for(cupy.zeros(1))


def host(x):
    return x.get() if hasattr(x, "get") else np.asarray(x)


def working_copy(ops, a, order="C"):
    """`a` in a corner, with NaN in the padding."""
    w = ops.xp.full((padded(len(a)),) * 2, np.nan, dtype=np.float32, order=order)
    w[: len(a), : len(a)] = ops.xp.asarray(a.astype(np.float32))
    return w
