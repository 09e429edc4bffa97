"""compact: the smaller network gives what the masked one gives, and is as small as it can be."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import prune

from ..device import cupy  # noqa: F401
from .networks import drawn, filled

U = 2.0**-53


def sizes(net):
    return [p.shape for p in net.parameters() if p.ndim >= 2]


def magnitudes(net, x):
    """A bound of all sums of magnitudes of terms: errors spread by these sums, too.

    Activations have slopes of 1 at most, and values of 1 + |x| at most.
    """
    bound, net = nn.Tensor(np.abs(x)), copy.deepcopy(net)
    for layer in net:
        for p in layer.parameters():
            p.data[...] = abs(p.data)
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean[...] = -abs(layer.running_mean)
        saturates = isinstance(layer, nn.Sigmoid | nn.Tanh | nn.Softmax)
        bound = bound + 1.0 if saturates else layer(bound)
    return float(np.max(np.abs(bound.data)))


def check_equal(net, small, x):
    """Both differ by rounding: sums of some hundred terms, in some layers."""
    expected, found = net(x).data, small(x).data
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected)) <= 1000 * U * magnitudes(net, x)


def mlp(bias=True, act=nn.ReLU):
    return nn.Sequential(
        nn.Linear(12, 10, bias), act(), nn.Dropout(0.5), nn.Linear(10, 8, bias), act(),
        nn.Linear(8, 4, bias),
    )  # fmt: skip


def lenet(padding=2):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=padding), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(64 if padding == 2 else 16, 12), nn.ReLU(), nn.Linear(12, 10),
    )  # fmt: skip


def normalised(padding=0):
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.Tanh(),
        nn.Conv2d(6, 8, 3, stride=(1, 2), padding=padding, bias=False), nn.BatchNorm2d(8),
        nn.ReLU(), nn.MaxPool2d(2, padding=1), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear({0: 32, 1: 48}[padding], 5),
    )  # fmt: skip


NETS = {
    "mlp": (mlp, (3, 12)),
    "mlp, tanh": (lambda: mlp(act=nn.Tanh), (3, 12)),
    "mlp, sigmoid, no bias": (lambda: mlp(bias=False, act=nn.Sigmoid), (3, 12)),
    "lenet, padded": (lenet, (2, 1, 8, 8)),
    "lenet": (lambda: lenet(0), (2, 1, 12, 12)),
    "normalised": (normalised, (2, 2, 9, 9)),
    "normalised, padded": (lambda: normalised(1), (2, 2, 9, 9)),
}


@pytest.fixture(params=NETS.values(), ids=NETS.keys())
def case(request, rng):
    make, shape = request.param
    return filled(make(), rng), rng.standard_normal(shape)


@pytest.mark.parametrize("seed", range(80))
def test_networks_drawn_at_random(seed):
    rng = np.random.default_rng(seed)
    net, shape = drawn(rng)
    filled(net, rng)
    by_rows, by_columns = [(True, False), (False, True), (True, True)][rng.integers(3)]
    for p in net.parameters():
        if p.ndim == 1:
            p.data[rng.random(len(p)) < 0.15] = 0
            continue
        if by_rows:
            p.data[rng.random(len(p)) < 0.4] = 0
        if by_columns:
            p.data[:, rng.random(p.shape[1]) < 0.4] = 0
    small = prune.compact(net)
    check_equal(net, small, rng.standard_normal(shape))
    assert sizes(prune.compact(small)) == sizes(small)


# -- rows ----------------------------------------------------------------------------------------


def test_half_of_the_rows(case):
    net, x = case
    before = sizes(net)
    prune.structured(net, 0.5, "row").apply()
    small = prune.compact(net)
    last = before[-1]
    for old, new in zip(before, sizes(small), strict=True):
        assert new[0] == (last[0] if old is last else old[0] // 2)
    assert sizes(net) == before
    check_equal(net, small, x)


def test_half_of_the_columns(case):
    net, x = case
    before = sizes(net)
    prune.structured(net, 0.5, "column").apply()
    small = prune.compact(net)
    check_equal(net, small, x)
    linear = before[0][1:] == (12,)
    if linear:  # after Flatten, all columns of a channel would have to go
        assert [s[0] for s in sizes(small)] == [s[0] // 2 for s in before[:-1]] + [before[-1][0]]
    else:
        assert sizes(small)[0][0] == before[0][0] // 2


def test_biases_that_stay_are_folded_where_they_can_be(case):
    net, x = case
    before = sizes(net)
    prune.structured(net, 0.5, "row", biases=False).apply()
    small = prune.compact(net)
    check_equal(net, small, x)
    layers = list(net)
    weighted = [k for k, layer in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d)]
    for k, (here, there) in enumerate(itertools.pairwise(weighted)):
        after = layers[here + 1 : there + 1]
        new, half = sizes(small)[k][0], before[k][0] // 2
        if not any(isinstance(a, nn.Conv2d) and a.padding != (0, 0) for a in after):
            assert new == half
        elif any(isinstance(a, nn.BatchNorm2d) for a in after):
            assert new == 2 * half  # at the edge, these constants are none
        else:
            is_gone = (layers[here].weight.data == 0).all(axis=(1, 2, 3))
            is_zero = layers[here].bias.data <= 0  # after ReLU
            assert new == 2 * half - np.sum(is_gone & is_zero)


def test_the_constants_of_removed_units_reach_the_next_bias(rng):
    net = filled(mlp(), rng)
    w, b = net[0].weight.data, net[0].bias.data
    w[[1, 4]] = 0
    b[[1, 4]] = 0.75, -2
    expected = net[3].bias.data + 0.75 * net[3].weight.data[:, 1]
    small = prune.compact(net)
    assert small[0].weight.shape == (8, 12)
    np.testing.assert_allclose(small[3].bias.data, expected, rtol=4 * U)


def test_a_bias_is_made_where_there_is_none(rng):
    net = filled(nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 3, bias=False)), rng)
    net[0].weight.data[2] = 0
    x = rng.standard_normal((3, 5))
    small = prune.compact(net)
    assert small[2].bias.shape == (3,)
    assert net[2].bias is None
    check_equal(net, small, x)
    net = filled(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3, bias=False)), rng)
    net[0].weight.data[2] = net[0].bias.data[2] = 0
    assert prune.compact(net)[2].bias is None


# -- what goes and what stays --------------------------------------------------------------------


def test_it_is_done_at_once(case):
    net, x = case
    prune.magnitude(net, 0.9).apply()
    small = prune.compact(net)
    again = prune.compact(small)
    assert sizes(again) == sizes(small)
    assert list(again.state_dict()) == list(small.state_dict())
    assert all(
        np.array_equal(a, b)
        for a, b in zip(again.state_dict().values(), small.state_dict().values(), strict=True)
    )
    check_equal(net, small, x)


def test_dense_networks_stay_what_they_are(case):
    net, x = case
    small = prune.compact(net)
    assert sizes(small) == sizes(net)
    assert np.array_equal(small(x).data, net(x).data)
    small[0].weight.data[...] = 0
    assert net[0].weight.data.all()  # a copy


@pytest.mark.parametrize("which", range(3))
def test_all_units_of_a_layer(case, which):
    """All layers are then useless; one unit of each stays."""
    net, x = case
    layers = [layer for layer in net if isinstance(layer, nn.Linear | nn.Conv2d)]
    layer = layers[min(which, len(layers) - 2)]
    layer.weight.data[...] = 0
    if layer.bias is not None:
        layer.bias.data[...] = 0
    small = prune.compact(net)
    check_equal(net, small, x)
    found = [s for s in small if isinstance(s, nn.Linear | nn.Conv2d)]
    at = layers.index(layer)
    if not any(isinstance(m, nn.BatchNorm2d) for m in net) or at > 0:
        assert found[at].weight.shape[0] == 1
        # nothing is left to compute of what came before
        assert all(f.weight.shape[0] == 1 for f in found[:at])
        assert [s[0] for s in sizes(prune.compact(small))] == [s[0] for s in sizes(small)]


def test_what_is_not_used_goes_all_the_way_back(rng):
    """One output that uses one unit, which uses one unit."""
    net = filled(mlp(), rng)
    net[3].weight.data[:, 1:] = 0  # the first unit alone is used
    net[5].weight.data[:, :7] = 0
    small = prune.compact(net)
    assert sizes(small) == [(1, 12), (1, 1), (4, 1)]
    check_equal(net, small, rng.standard_normal((3, 12)))


def test_what_is_constant_goes_all_the_way_on(rng):
    net = filled(mlp(), rng)
    net[0].weight.data[1:] = 0
    net[3].weight.data[2:, 0] = 0  # units that depend on constants alone
    small = prune.compact(net)
    assert sizes(small) == [(1, 12), (2, 1), (4, 2)]
    check_equal(net, small, rng.standard_normal((3, 12)))


class Squares(nn.ReLU):
    """Somebody else's layer: nothing is known of it."""

    def forward(self, x):
        return x * x


@pytest.mark.parametrize("act", [nn.Softmax, Squares])
def test_units_before_other_layers_stay(act, rng):
    net = filled(nn.Sequential(nn.Linear(5, 6), act(), nn.Linear(6, 4), nn.Softmax()), rng)
    net[0].weight.data[:3] = 0
    net[2].weight.data[:2] = 0  # classes
    net[2].weight.data[:, 4] = 0
    assert sizes(prune.compact(net)) == [(6, 5), (4, 6)]


def test_layers_that_are_used_twice_stay(rng):
    twice = nn.Linear(6, 6)
    net = filled(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), twice, nn.ReLU(), twice), rng)
    net[0].weight.data[2] = twice.weight.data[3] = 0
    assert sizes(prune.compact(net)) == [(6, 4), (6, 6)]
    tied = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    tied[2].weight = tied[0].weight
    filled(tied, rng)
    tied[0].weight.data[1] = 0
    x = rng.standard_normal((3, 6))
    small = prune.compact(tied)
    assert np.array_equal(small(x).data, tied(x).data)


class Other(nn.Module):
    """A network that is no Sequential, of parts that are."""

    def __init__(self):
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x):
        return self.head(self.features(x) * 2)


def test_sequences_within_other_modules(rng):
    net = filled(Other(), rng)
    for name in ("features.0.weight", "features.2.0.weight", "head.1.weight"):
        dict(net.named_parameters())[name].data[:2] = 0
    x = rng.standard_normal((2, 1, 6, 6))
    expected = net(x).data
    small = prune.compact(net)
    assert sizes(small) == [(2, 1, 3, 3), (6, 2, 3, 3), (6, 24), (3, 6)]
    np.testing.assert_allclose(small(x).data, expected, rtol=1e-11)


def test_flatten_after_features_of_sequences(rng):
    """(N, 3, 4) of a Linear: its units are the last axis."""
    net = filled(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)), rng)
    net[0].weight.data[[0, 2]] = 0
    x = rng.standard_normal((6, 3, 5))
    small = prune.compact(net)
    assert sizes(small) == [(2, 5), (2, 6)]
    check_equal(net, small, x)


def test_convolutions_without_flatten_keep_their_filters(rng):
    """A Linear after a Conv2d acts on the last axis, not on channels."""
    net = filled(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 4)), rng)
    net[0].weight.data[:2] = 0
    assert sizes(prune.compact(net)) == [(4, 1, 3, 3), (4, 4)]


def test_features_that_are_pooled_stay(rng):
    """Of images (N, C, H, features), a pool mixes features."""
    layers = [nn.Linear(6, 8), nn.MaxPool2d(1, stride=1), nn.Linear(8, 2)]
    net = filled(nn.Sequential(*layers), rng)
    net[0].weight.data[:3] = 0
    assert sizes(prune.compact(net)) == [(8, 6), (2, 8)]


def test_modes_gradients_and_names(rng):
    net = filled(lenet(), rng).train()
    net[6].training = False
    net(rng.standard_normal((2, 1, 8, 8))).sum().backward()
    prune.structured(net, 0.5).apply()
    small = prune.compact(net)
    assert [layer.training for layer in small] == [layer.training for layer in net]
    assert all(p.grad is None for p in small.parameters())
    assert all(p.grad is not None for p in net.parameters())
    names = [(name, p.name) for name, p in net.named_parameters()]
    assert [(name, p.name) for name, p in small.named_parameters()] == names
    optimizer = nn.optim.SGD(small.parameters(), lr=0.1)
    small(rng.standard_normal((2, 1, 8, 8))).sum().backward()
    optimizer.step()
    with pytest.raises(TypeError, match="net must be a Module"):
        prune.compact("net")


def test_in_single_precision(rng):
    net = filled(lenet(), rng).to(dtype=np.float32)
    prune.structured(net, 0.5).apply()
    small = prune.compact(net)
    assert {p.dtype for p in small.parameters()} == {np.dtype(np.float32)}
    x = rng.standard_normal((4, 1, 8, 8)).astype(np.float32)
    expected, found = net(x).data, small(x).data
    assert np.max(np.abs(found - expected)) <= 1000 * 2.0**-24 * magnitudes(net, x)


def test_on_a_device(rng, cupy):  # noqa: F811
    net = filled(mlp(), rng)
    prune.structured(net, 0.5, biases=False).apply()
    here = prune.compact(net)
    there = prune.compact(net.to("cuda"))
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        assert isinstance(b.data, cupy.ndarray)
        np.testing.assert_allclose(b.data.get(), a.data, rtol=1e-14)
