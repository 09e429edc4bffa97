"""What was computed from parameters that were changed since is not differentiated."""

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import Tensor, prune

from ..device import cupy, stand_in  # noqa: F401


def test_what_was_changed_in_between_is_not_differentiated():
    layer = nn.Linear(3, 2, rng=0)
    x = np.ones((4, 3), np.float32)
    optimizer = nn.optim.SGD(layer.parameters(), lr=0.1)
    first, second = layer(Tensor(x)).sum(), layer(Tensor(x)).sum()
    first.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"Parameter\('weight'.*changed after Affine"):
        second.backward()
    third = layer(Tensor(x)).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="changed after"):
        third.backward()
    layer(Tensor(x)).sum().backward()  # the network itself goes on


def test_weights_that_are_pruned_in_between():
    layer = nn.Linear(3, 2, rng=0)
    masks = prune.magnitude(nn.Sequential(layer), 0.5)
    loss = layer(Tensor(np.ones((4, 3), np.float32))).sum()
    masks.apply()
    with pytest.raises(RuntimeError, match="changed after"):
        loss.backward()
