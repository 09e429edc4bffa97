"""Masks against those of torch.nn.utils.prune."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import prune

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("torch.nn.utils.prune")

SHARES = [0.1, 0.37, 0.5, 0.9]
"""Of none of the sizes below a half: PyTorch rounds halves to even counts."""


def pair(shape, rng):
    """A layer of this library and one of PyTorch, of the same weights."""
    if len(shape) == 2:
        ours, other = nn.Linear(*shape[::-1]), torch.nn.Linear(*shape[::-1])
    else:
        ours = nn.Conv2d(shape[1], shape[0], shape[2:])
        other = torch.nn.Conv2d(shape[1], shape[0], shape[2:])
    ours.weight.data[...] = rng.standard_normal(shape)
    other.weight.data = torch.from_numpy(ours.weight.data.copy())
    return ours, other


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("shape", [(11, 12), (7, 8, 3, 5)])
def test_weights_of_a_layer(shape, share, rng):
    ours, other = pair(shape, rng)
    theirs.l1_unstructured(other, "weight", share)
    found = prune.magnitude(ours, share)["weight"]
    assert np.array_equal(found, other.weight_mask.numpy() == 1)


@pytest.mark.parametrize("share", [0.1, 0.37, 0.6])
@pytest.mark.parametrize("shape", [(11, 12), (7, 8, 3, 5)])
@pytest.mark.parametrize("kind", ["row", "column"])
def test_rows_and_columns_of_a_layer(kind, shape, share, rng):
    ours, other = pair(shape, rng)
    theirs.ln_structured(other, "weight", share, n=2, dim=["row", "column"].index(kind))
    found = prune.structured(ours, {"weight": share}, kind)["weight"]
    assert np.array_equal(found, other.weight_mask.numpy() == 1)


@pytest.mark.parametrize("share", SHARES)
def test_weights_of_the_whole_network(share, rng):
    layers = [pair(shape, rng) for shape in [(9, 5, 3, 3), (11, 12), (3, 3)]]
    net = nn.Sequential(*[ours for ours, _ in layers])
    others = [(other, "weight") for _, other in layers]
    theirs.global_unstructured(others, theirs.L1Unstructured, amount=share)
    masks = prune.magnitude(net, share, scope="network")
    for keep, (other, _) in zip(masks.values(), others, strict=True):
        assert np.array_equal(keep, other.weight_mask.numpy() == 1)
