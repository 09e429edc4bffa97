"""The data decide which backend computes."""

import numpy as np
import pytest

from mplinalg.ops import ops_for


def test_numpy_arrays_are_computed_on_by_numpy():
    assert ops_for(np.zeros(3), np.zeros((2, 2))).name == "numpy"
    assert ops_for(np.zeros(3)).xp is np


@pytest.mark.parametrize("other", [[1.0, 2.0], None, memoryview(b"")])
def test_anything_else_is_refused_by_name(other):
    with pytest.raises(TypeError, match=type(other).__qualname__):
        ops_for(np.zeros(3), other)
