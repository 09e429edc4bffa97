"""Pruning by size: counts, ties, norms, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import prune

from ..device import cupy  # noqa: F401


def mlp(dtype=np.float32):
    return nn.Sequential(
        nn.Linear(12, 10, rng=0, dtype=dtype), nn.ReLU(), nn.Linear(10, 8, rng=1, dtype=dtype),
        nn.ReLU(), nn.Linear(8, 4, rng=2, dtype=dtype),
    )  # fmt: skip


def convolutional():
    rng = np.random.default_rng(3)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, rng=rng), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, rng=rng), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5, rng=rng),
    )  # fmt: skip


def layer(values):
    """One Linear with these weights."""
    values = np.asarray(values, np.float64)
    found = nn.Linear(values.shape[1], values.shape[0], dtype=np.float64)
    found.weight.data[...] = values
    return found


# -- single weights ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sparsity", "kept"), [(0, 10), (0.04, 10), (0.05, 9), (0.5, 5), (0.9, 1), (0.999, 1)]
)
def test_counts_are_rounded_and_something_stays(sparsity, kept):
    net = layer(np.arange(1.0, 11).reshape(2, 5))
    masks = prune.magnitude(net, sparsity)
    assert masks.kept() == kept
    assert masks["weight"].reshape(-1)[-kept:].all()
    assert masks.sparsity() == 1 - kept / 10


def test_the_largest_magnitudes_stay_and_of_equal_ones_the_first():
    net = layer([[2, -5, 2, 0.5], [-2, 2, 7, -2]])
    masks = prune.magnitude(net, 0.5)
    assert masks["weight"].tolist() == [[True, True, True, False], [False, False, True, False]]
    assert net.weight.data[1, 1] == 2  # nothing is changed yet
    masks.apply()
    assert net.weight.data.tolist() == [[2, -5, 2, 0], [0, 0, 7, 0]]
    assert not np.signbit(net.weight.data[1, 3])


def test_of_many_equal_ones_the_first_stay(rng):
    w = rng.integers(1, 4, (80, 100)).astype(float)
    keep = prune.magnitude(layer(w), 0.5)["weight"].ravel()
    wanted = np.zeros(w.size, bool)
    wanted[sorted(range(w.size), key=lambda k: -w.flat[k])[: w.size // 2]] = True
    assert np.array_equal(keep, wanted)


def test_all_weights_and_no_biases_by_layer():
    net = convolutional()
    biases = [p.data.copy() for p in net.parameters() if p.ndim == 1]
    masks = prune.magnitude(net, 0.75).apply()
    assert list(masks) == ["0.weight", "4.weight", "7.weight"]
    for name, p in masks.parameters.items():
        assert np.count_nonzero(p.data) == p.size // 4 == masks.kept(name)
    after = [p.data for p in net.parameters() if p.ndim == 1]
    assert all(np.array_equal(a, b) for a, b in zip(biases, after, strict=True))
    assert prune.sparsity(net) == 0.75


def test_of_the_whole_network():
    net = mlp()
    everything = np.concatenate([abs(p.data).ravel() for p in net.parameters() if p.ndim == 2])
    masks = prune.magnitude(net, 0.9, scope="network")
    n = everything.size - int(0.9 * everything.size + 0.5)
    assert masks.kept() == n
    least = np.sort(everything)[-n]
    for name, p in masks.parameters.items():
        assert np.array_equal(masks[name], abs(p.data) >= least)
    net[0].weight.data *= 1e-3  # a layer may lose all its weights
    assert prune.magnitude(net, 0.9, scope="network").kept("0.weight") == 0


def test_shares_by_layer_and_by_parameter():
    net = mlp()
    masks = prune.magnitude(net, {"0": 0.5, "4.weight": 0.25})
    assert {name: masks.kept(name) for name in masks} == {"0.weight": 60, "4.weight": 24}
    outer = nn.Sequential(mlp(), nn.ReLU(), nn.Linear(4, 2, rng=4))
    assert list(prune.magnitude(outer, {"0": 0.5})) == ["0.0.weight", "0.2.weight", "0.4.weight"]


# -- rows, columns, blocks -----------------------------------------------------------------------


def test_rows_and_columns_by_norm():
    net = layer([[3, 0, 0], [2, 2, 2], [0, 0, 3.1], [3, 0, 0]])
    rows = prune.structured(net, {"weight": 0.5}, "row", biases=False)
    assert rows["weight"].all(axis=1).tolist() == [False, True, True, False]
    columns = prune.structured(net, {"weight": 0.4}, "column")
    assert columns["weight"].all(axis=0).tolist() == [True, False, True]
    assert rows.kept() == 6
    assert columns.kept() == 8


def test_of_equal_rows_the_first_stay():
    net = layer(np.ones((5, 3)))
    keep = prune.structured(net, {"weight": 0.6}, "row")["weight"]
    assert keep.all(axis=1).tolist() == [True, True, False, False, False]


def test_filters_and_channels():
    net = convolutional()
    w = net[4].weight.data
    masks = prune.structured(net, 0.5, "row")
    norms = np.sqrt((w.astype(float) ** 2).sum(axis=(1, 2, 3)))
    wanted = np.zeros(8, bool)
    wanted[np.argsort(norms)[4:]] = True
    assert np.array_equal(masks["4.weight"].all(axis=(1, 2, 3)), wanted)
    assert np.array_equal(masks["4.weight"].any(axis=(1, 2, 3)), wanted)
    assert np.array_equal(masks["4.bias"], wanted)
    masks = prune.structured(net, 1 / 3, "column")
    assert list(masks) == ["4.weight", "7.weight"]  # columns of the first are the inputs
    norms = np.sqrt((w.astype(float) ** 2).sum(axis=(0, 2, 3)))
    wanted = np.zeros(6, bool)
    wanted[np.argsort(norms)[2:]] = True
    assert np.array_equal(masks["4.weight"].all(axis=(0, 2, 3)), wanted)
    assert np.array_equal(masks["4.weight"].any(axis=(0, 2, 3)), wanted)


def test_a_row_takes_its_bias_and_its_normalisation_with_it():
    net = convolutional()
    net[1].bias.data += 1
    net[1].running_mean[:] = 0.3
    masks = prune.structured(net, 0.5).apply()
    assert list(masks) == ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"]
    gone = ~masks["0.bias"]
    assert gone.sum() == 3
    x = np.random.default_rng(0).standard_normal((2, 2, 6, 6)).astype(np.float32)
    assert not net.eval()[1](net[0](x)).data[:, gone].any()
    alone = prune.structured(net, 0.5, biases=False)
    assert list(alone) == ["0.weight", "4.weight"]


def test_biases_go_with_the_rows_that_are_theirs():
    tied = nn.Sequential(nn.Linear(4, 4, rng=0), nn.ReLU(), nn.Linear(4, 4, rng=1), nn.ReLU(),
                         nn.Linear(4, 2, rng=2))  # fmt: skip
    tied[2].weight = tied[0].weight
    masks = prune.structured(tied, 0.5)
    assert list(masks) == ["0.weight", "0.bias", "2.bias"]
    assert np.array_equal(masks["0.bias"], masks["2.bias"])

    class Scales(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.arange(6.0).reshape(3, 2))
            self.bias = nn.Parameter(np.ones((3, 2)))

    masks = prune.structured(Scales(), {"weight": 0.5}, "row")
    assert masks["weight"].all(axis=1).tolist() == [False, False, True]
    assert list(masks) == ["weight"]


@pytest.mark.parametrize("block", [1, 2, 3, 4, 20])
def test_blocks_with_smaller_ones_at_the_edges(block, rng):
    net = layer(rng.standard_normal((7, 10)))
    w = net.weight.data
    blocks = [
        (slice(i, i + block), slice(j, j + block))
        for i in range(0, 7, block)
        for j in range(0, 10, block)
    ]
    norms = np.array([np.linalg.norm(w[place]) for place in blocks])
    n = max(1, len(blocks) - int(np.floor(0.5 * len(blocks) + 0.5)))
    keep = prune.structured(net, 0.5, "block", block=block)["weight"]
    wanted = np.zeros_like(keep)
    for k in np.argsort(-norms)[:n]:
        wanted[blocks[k]] = True
    assert np.array_equal(keep, wanted)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_norms_do_not_overflow(scale, rng):
    w = rng.standard_normal((8, 6))
    wanted = prune.structured(layer(w), {"weight": 0.5})["weight"]
    assert np.array_equal(prune.structured(layer(w * scale), {"weight": 0.5})["weight"], wanted)


@pytest.mark.parametrize("kind", ["weight", "row", "column", "block"])
def test_what_stays_is_nearest(kind, rng):
    """No other choice of as many groups keeps more of the norm."""
    w = rng.standard_normal((4, 6))
    options = {"block": 2} if kind == "block" else {}
    if kind == "weight":
        keep = prune.magnitude(layer(w), 0.75)["weight"]
        groups = [np.eye(24, dtype=bool)[k].reshape(4, 6) for k in range(24)]
    else:
        keep = prune.structured(layer(w), {"weight": 0.5}, kind, **options)["weight"]
        marks = {
            "row": np.arange(4)[:, None] + np.zeros(6),
            "column": np.arange(6) + np.zeros((4, 1)),
            "block": np.arange(4)[:, None] // 2 * 3 + np.arange(6) // 2,
        }[kind]
        groups = [marks == k for k in np.unique(marks)]
    chosen = [g for g in groups if keep[g].all()]
    assert sum(g.sum() for g in chosen) == keep.sum()
    norms = sorted(((w[g] ** 2).sum() for g in groups), reverse=True)
    assert np.isclose((w[keep] ** 2).sum(), sum(norms[: len(chosen)]), rtol=1e-14)


# -- patterns ------------------------------------------------------------------------------------


def conv(kernels):
    kernels = np.asarray(kernels, np.float64)
    found = nn.Conv2d(kernels.shape[1], kernels.shape[0], kernels.shape[2:], dtype=np.float64)
    found.weight.data[...] = kernels
    return found


def test_each_kernel_has_the_pattern_that_keeps_most(rng):
    net = conv(rng.standard_normal((5, 4, 3, 3)))
    patterns = rng.random((6, 3, 3)) < 0.5
    patterns[:, 1, 1] = True
    keep = prune.pattern(net, patterns)["weight"]
    w = net.weight.data
    for o in range(5):
        for c in range(4):
            norms = [np.linalg.norm(w[o, c][one]) for one in patterns]
            assert np.array_equal(keep[o, c], patterns[int(np.argmax(norms))])


def test_natural_patterns_are_the_most_frequent():
    corner, cross = np.zeros((3, 3)), np.zeros((3, 3))
    corner[:2, :2] = [[4, 3], [2, 1]]
    cross[[0, 1, 1, 2], [1, 0, 2, 1]] = [1, -2, 3, -4]
    last = corner[::-1, ::-1]
    net = conv(np.array([[cross, corner, cross], [last, corner, cross]]))
    found = prune.natural_patterns(net, entries=4, number=2)
    assert np.array_equal(found, [cross != 0, corner != 0])
    assert len(prune.natural_patterns(net, entries=4, number=8)) == 3
    masks = prune.pattern(net, entries=4, number=3)
    assert np.array_equal(masks["weight"], net.weight.data != 0)
    masks = prune.pattern(net, entries=4, number=2).apply()
    assert masks.kept() == 6 * 4  # the set has no pattern for `last`; it has another
    assert np.count_nonzero(net.weight.data[1, 0]) < 4


def test_of_equal_entries_and_patterns_the_first_stay():
    net = conv(np.ones((1, 1, 3, 3)))
    found = prune.natural_patterns(net, entries=4)
    assert found.astype(int).tolist() == [[[1, 1, 1], [1, 0, 0], [0, 0, 0]]]
    two = [[[0, 0, 0], [1, 1, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 0], [0, 0, 0]]]
    assert np.array_equal(prune.pattern(net, two)["weight"][0, 0], np.array(two[0], bool))


def test_patterns_are_of_layers_with_3_by_3_kernels():
    net = nn.Sequential(nn.Conv2d(1, 4, 5, rng=0), nn.Conv2d(4, 6, 3, rng=1), nn.Flatten())
    masks = prune.pattern(net)
    assert list(masks) == ["1.weight"]
    assert masks.sparsity() == pytest.approx(5 / 9)
    with pytest.raises(ValueError, match=r"3 by 3; 0.weight has shape \(4, 1, 5, 5\)"):
        prune.pattern(net, layers=["0"])
    with pytest.raises(ValueError, match=r"there are none: 0.weight \(10, 12\), 2.weight"):
        prune.pattern(mlp())


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, float("nan")])
def test_shares_are_at_least_0_and_less_than_1(sparsity):
    for call in (prune.magnitude, prune.structured):
        with pytest.raises(ValueError, match=rf"sparsity must be .* in \[0, 1\); got {sparsity}"):
            call(mlp(), sparsity)
        with pytest.raises(ValueError, match=r"sparsity of '0' must be .* in \[0, 1\)"):
            call(mlp(), {"0": sparsity})
    with pytest.raises(ValueError, match=r"sparsity of 'a' must be .* in \[0, 1\)"):
        prune.nested(mlp(), {"a": sparsity})


def test_bad_input_is_named():
    net = convolutional()
    known = "there are weights in 0.weight, 4.weight, 7.weight"
    with pytest.raises(ValueError, match=rf"layer 2, ReLU\(\), has no weights; {known}"):
        prune.magnitude(net, {"2": 0.5})
    with pytest.raises(ValueError, match=r"0.bias has shape \(6,\), weights two dimensions"):
        prune.magnitude(net, {"0.bias": 0.5})
    with pytest.raises(ValueError, match=rf"unknown layer 'fc'; {known}"):
        prune.structured(net, {"fc": 0.5})
    with pytest.raises(ValueError, match=r"0.weight is given twice"):
        prune.magnitude(net, {"0": 0.5, "0.weight": 0.5})
    with pytest.raises(ValueError, match=r"names no weights"):
        prune.magnitude(net, {})
    with pytest.raises(ValueError, match=r"kind must be one of .*'row', 'column', 'block'"):
        prune.structured(net, 0.5, "weight")
    with pytest.raises(ValueError, match=r"scope must be one of"):
        prune.magnitude(net, 0.5, scope="global")
    with pytest.raises(TypeError, match=r"sparsity must be a number; got {'0': 0.5}"):
        prune.magnitude(net, {"0": 0.5}, scope="network")
    with pytest.raises(TypeError, match=r"block must be an integer; got None"):
        prune.structured(net, 0.5, "block")
    with pytest.raises(ValueError, match=r"block must be at least 1; got 0"):
        prune.structured(net, 0.5, "block", block=0)
    with pytest.raises(ValueError, match=r"block=4 is for kind='block', not 'row'"):
        prune.structured(net, 0.5, "row", block=4)
    with pytest.raises(ValueError, match=r"rows of the only weights are the outputs of Linear"):
        prune.structured(nn.Linear(3, 2), 0.5, "row")
    with pytest.raises(ValueError, match=r"has no weights to prune"):
        prune.magnitude(nn.Sequential(nn.ReLU()), 0.5)
    with pytest.raises(TypeError, match=r"net must be a Module, got list"):
        prune.magnitude([], 0.5)
    for bad, message in [
        (np.ones((3, 3)), r"shape \(P, 3, 3\).* got \(3, 3\)"),
        (np.zeros((1, 3, 3)), "keeps none"),
        (np.full((1, 3, 3), 2), "boolean, or 0 and 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            prune.pattern(net, bad)
    with pytest.raises(ValueError, match=r"entries must be 1 to 8 .* got 9"):
        prune.pattern(net, entries=9)
    with pytest.raises(TypeError, match=r"layers must be several names; got '0'"):
        prune.pattern(net, layers="0")


def test_weights_that_are_not_finite_are_no_candidates():
    net = mlp()
    net[2].weight.data[3, 1] = np.nan
    for call in (prune.magnitude, prune.structured):
        with pytest.raises(ValueError, match=r"2.weight, shape \(8, 10\), has entries that are no"):
            call(net, 0.5)


# -- masks ---------------------------------------------------------------------------------------


def test_masks_fit_their_parameters():
    weight = nn.Parameter(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"mask of w has shape \(3, 2\), w \(2, 3\)"):
        prune.Masks({"w": weight}, {"w": np.ones((3, 2), bool)})
    with pytest.raises(TypeError, match=r"must be boolean; got float64"):
        prune.Masks({"w": weight}, {"w": np.ones((2, 3))})
    with pytest.raises(ValueError, match=r"masks of \['v'\] for parameters \['w'\]"):
        prune.Masks({"w": weight}, {"v": np.ones((2, 3), bool)})
    masks = prune.Masks({"w": weight}, {"w": np.eye(2, 3, dtype=bool)})
    with pytest.raises(ValueError, match=r"no mask of 'v'; there are w"):
        masks.sparsity("v")
    assert repr(masks) == "Masks(kept w: 2 of 6)"


def test_masked_entries_that_are_not_finite_become_0():
    weight = nn.Parameter(np.array([[np.nan, -1], [np.inf, 2]]))
    weight.grad = np.array([[np.nan, 1], [-1, 2]])
    masks = prune.Masks({"w": weight}, {"w": np.array([[False, True], [False, True]])})
    masks.apply_to_gradients().apply()
    assert weight.data.tolist() == [[0, -1], [0, 2]]
    assert weight.grad.tolist() == [[0, 1], [0, 2]]


def test_zeros_are_found_again():
    net = mlp()
    masks = prune.magnitude(net, 0.8).apply()
    other = mlp()
    other.load_state_dict(net.state_dict())
    found = prune.nonzero(other)
    assert all(np.array_equal(found[name], masks[name]) for name in masks)


def test_weights_on_a_device(cupy):  # noqa: F811
    here, there = convolutional(), convolutional()
    there.to("cuda")
    for call in (
        lambda net: prune.magnitude(net, 0.7),
        lambda net: prune.magnitude(net, 0.7, scope="network"),
        lambda net: prune.structured(net, 0.5, "row"),
        lambda net: prune.structured(net, 0.5, "column"),
        lambda net: prune.structured(net, 0.5, "block", block=4),
        lambda net: prune.pattern(net),
    ):
        expected, found = call(here).apply(), call(there).apply()
        assert list(found) == list(expected)
        for name in expected:
            assert isinstance(found[name], cupy.ndarray)
            assert np.array_equal(found[name].get(), expected[name])
            assert np.array_equal(found.parameters[name].data.get(), expected.parameters[name].data)
        assert prune.sparsity(there) == prune.sparsity(here)
    masks = prune.magnitude(here, 0.5)
    here.to("cuda")
    with pytest.raises(TypeError, match=r"0.weight is not on the device of its mask"):
        masks.apply()
