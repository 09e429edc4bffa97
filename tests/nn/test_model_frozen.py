"""Parameters that are not trained."""

import numpy as np
import pytest

from mplinalg import nn


@pytest.mark.parametrize("is_told", [True, False])
def test_what_has_no_gradient_keeps_its_values(is_told, rng):
    net = nn.Sequential(nn.Linear(3, 4, rng=0), nn.ReLU(), nn.Linear(4, 2, rng=1))
    for parameter in net[0].parameters():
        parameter.requires_grad = False
    before = net.state_dict()
    told = net.parameters() if is_told else net[2].parameters()
    model = nn.Model(net).compile(nn.optim.AdamW(told, weight_decay=0.1), "mse")
    x = rng.standard_normal((8, 3))
    model.fit(x, x[:, :2], 2, 4)
    same = {name: np.array_equal(a, before[name]) for name, a in net.state_dict().items()}
    assert same == {name: name.startswith("0.") for name in same}


def test_what_is_to_be_trained_belongs_to_the_optimiser():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"2 parameters.*not the 4 .* nor the 4 with"):
        nn.Model(net).compile(nn.optim.SGD(net[1].parameters()), "mse")
    for parameter in net.parameters():
        parameter.requires_grad = False
    with pytest.raises(ValueError, match="none is trained"):
        nn.Model(net).compile(nn.optim.SGD(net.parameters()), "mse")
