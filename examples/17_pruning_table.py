"""Pruning LeNet-5: how many weights can go, what accuracy is left, and what time is saved.

LeNet-5 [1] learns scikit-learn's handwritten digits [2], 8 by 8 pixels, drawn twice as large.  Then
weights go, and it is trained for some more epochs:

- single weights of least magnitude [3], at once, or after ADMM [4] has drawn them to zero;
- blocks of weights, columns and rows of least norm.  A row is a neuron or a filter;
- rows once more, for two networks that share their weights, one within the other.

Zeros in a matrix save no time, as it is multiplied all the same.  Rows and columns that are zero
are another matter: `mplinalg.nn.prune.compact` takes them out, together with what depends on them,
and what is left gives the same answers.  With half of the neurons and filters, a layer has a
quarter of the products.

Accuracy is that of digits not seen before.  80 % of all weights, 90 % by ADMM, or half of the rows
or columns are to cost less than five points of a hundred; and before it is trained again, a network
is to be better for ADMM than for as many more steps of the dense one.  The answers of compact
networks are held against those of the masked ones, computed by SciPy in double precision.  Times
are printed and depend on what else the machine does; that flops are saved is checked.

[1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Proceedings of the IEEE 86 (1998) 2278-2324.
[2] E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository 1998.
[3] S. Han, J. Pool, J. Tran and W. J. Dally, NeurIPS 2015, arXiv:1506.02626.
[4] T. Zhang et al., ECCV 2018, arXiv:1804.03294.

    python examples/17_pruning_table.py
"""

import copy
import functools
import sys
import time

import numpy as np
from _common import BLUE, GREY, ORANGE, VERMILION, Checks, new_figure, options, save
from scipy.signal import correlate

import mplinalg.nn
from mplinalg.nn import optim, prune

nn = mplinalg.nn
STEPS, AGAIN, BATCH = 300, 80, 50
"""Of training; of training a pruned network, before and after; digits in each."""
ROUNDS = 9
SOURCE = "SciPy in double precision; counts; the dense network; a third of the flops saved"
ADMM, HALF_OF_ROWS = "weights, ADMM", "rows"
# What goes: the masks of a network.
METHODS = {
    "weights, 80 %": lambda net: prune.magnitude(net, 0.8),
    "weights, 90 %": lambda net: prune.magnitude(net, 0.9),
    ADMM: lambda net: prune.magnitude(net, 0.9),
    "blocks of 4 x 4": lambda net: prune.structured(net, 0.5, "block", block=4),
    "columns": lambda net: prune.structured(net, 0.5, "column"),
    HALF_OF_ROWS: lambda net: prune.structured(net, 0.5, "row"),
}
AS_GOOD = ("weights, 80 %", ADMM, "columns", HALF_OF_ROWS)
POINTS = 0.05
"""What accuracy these may cost."""
NESTED = {"rows, shared": 0.5, "rows, shared, few": 0.7}


def digits(n):
    """Images of 16 by 16 and labels: n to learn from, and the others."""
    try:
        x, y = nn.data.digits()
    except ImportError as error:
        sys.exit(f"This example needs scikit-learn: pip install scikit-learn ({error})")
    order = np.random.default_rng(0).permutation(len(y))
    x, y = np.kron(x, np.ones((2, 2), np.float32))[order], y[order]
    return (x[:n], y[:n]), (x[n:], y[n:])


def lenet(rng):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 120, rng=rng), nn.ReLU(), nn.Linear(120, 84, rng=rng), nn.ReLU(),
        nn.Linear(84, 10, rng=rng),
    )  # fmt: skip


def train(net, data, steps, wrapped=lambda optimizer: optimizer):
    """By Adam, or by what is `wrapped` around it."""
    optimizer = wrapped(optim.Adam(net.parameters(), lr=2e-3))
    epochs = -(-steps // -(-len(data[1]) // BATCH))
    nn.Model(net).compile(optimizer, "cross_entropy").fit(*data, epochs, BATCH)


def accuracy(net, data):
    return float(np.mean(nn.Model(net).predict(data[0]).argmax(axis=1) == data[1]))


def pruned(dense, name, data, unseen):
    """A copy of the dense network, pruned by `name` and trained again; masks, accuracy between."""
    net, goal = copy.deepcopy(dense), METHODS[name]
    masked = functools.partial(goal, net)
    by_admm = functools.partial(prune.ADMM, constraint=masked, rho=0.2, every=25)
    train(net, data, 2 * AGAIN, by_admm if name == ADMM else lambda optimizer: optimizer)
    masks = masked().apply()
    between = accuracy(net, unseen)
    train(net, data, AGAIN, lambda optimizer: prune.Masked(optimizer, masks))
    return net, masks, between


def shared(dense, data):
    """Two networks of shared weights, their masks, and how many of the weights differ."""
    both = prune.nested(copy.deepcopy(dense), NESTED, "row", rng=0)
    train(both, data, 3 * len(NESTED) * AGAIN)
    large, small = (both.model(name) for name in both.names)
    masks = both.masks(both.names[1])
    weights = [dict(net.named_parameters()) for net in (large, small)]
    differ = sum(
        int(np.sum(weights[0][key].data[keep] != weights[1][key].data[keep]))
        for key, keep in masks.items()
    )
    return {name: (both.model(name), both.masks(name), None) for name in both.names}, differ


def latencies(nets, x):
    """Milliseconds of each network for all of x at once, the least of some, in turns."""
    models = {name: nn.Model(net) for name, net in nets.items()}
    best = dict.fromkeys(models, float("inf"))
    for _ in range(ROUNDS):
        for name, model in models.items():
            start = time.perf_counter()
            model.predict(x, batch_size=len(x))
            best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return best


def flops(net, x):
    """Of the answers to x."""
    model = nn.Model(net).compile(optim.SGD(net.parameters(), lr=0.1), "cross_entropy")
    return model.profile(x, batch_size=len(x), repeats=1).total.forward_flops


def by_scipy(net, x):
    """What LeNet-5 gives, in double precision."""
    x = x.astype(float)
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            w, b = layer.weight.data.astype(float), layer.bias.data.astype(float)
            p = layer.padding[0]
            x = np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)])
            images = [[correlate(image, f, "valid")[0] for f in w] for image in x]
            x = np.array(images) + b[:, None, None]
        elif isinstance(layer, nn.Linear):
            x = x @ layer.weight.data.astype(float).T + layer.bias.data
        elif isinstance(layer, nn.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, nn.MaxPool2d):
            n, c, h, w = x.shape
            x = x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
        else:
            x = x.reshape(len(x), -1)
    return x


def draw(args, table, dense):
    figure, axes = new_figure([["accuracy", "latency"]], size=(9, 4.2))
    names = list(table)[::-1]
    columns = {key: [100 * table[name][key] for name in names] for key in ("sparsity", "accuracy")}
    panel, places = axes["accuracy"], np.arange(len(names))
    panel.barh(places + 0.2, columns["sparsity"], 0.38, color=GREY, label="weights that are 0")
    panel.barh(places - 0.2, columns["accuracy"], 0.38, color=BLUE, label="digits that are right")
    panel.axvline(100 * dense["accuracy"], color=VERMILION, lw=1, label="right, dense")
    panel.set(yticks=places, yticklabels=names, xlabel="percent", xlim=(0, 100))
    figure.legend(loc="outside upper left", ncols=3, fontsize=8)
    panel = axes["latency"]
    for shift, key, colour in [(0.2, "masked", GREY), (-0.2, "compact", ORANGE)]:
        panel.barh(places + shift, [table[name][key] for name in names], 0.38, color=colour,
                   label=key)  # fmt: skip
    panel.set(yticks=places, yticklabels=[], xlabel="milliseconds for all digits")
    panel.set_xlim(0, 1.35 * panel.get_xlim()[1])
    panel.legend(loc="center right", fontsize=8)
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=1297, least=300, most=1397, meaning="digits to learn from",
        output="pruning_table.png",
    )  # fmt: skip
    data, unseen = digits(args.n)
    dense = lenet(np.random.default_rng(0))
    train(dense, data, STEPS)
    found = {name: pruned(dense, name, data, unseen) for name in METHODS}
    pair, differ = shared(dense, data)
    found |= pair

    checks = Checks(SOURCE)
    everything = np.concatenate([data[0], unseen[0]])
    full = accuracy(dense, unseen)
    table = {}
    for name, (net, masks, between) in found.items():
        small = prune.compact(net)
        table[name] = {"sparsity": prune.sparsity(net), "between": between}
        table[name] |= {"accuracy": accuracy(net, unseen)}
        table[name] |= latencies({"masked": net, "compact": small}, everything)
        table[name] |= {"flops": flops(small, everything[:BATCH])}
        weights = dict(net.named_parameters())
        left = sum(int(np.count_nonzero(weights[key].data[~masks[key]])) for key in masks)
        checks.add(f"{name}: masked weights not 0", left, 0, left, 0)
        if name in AS_GOOD:
            right = table[name]["accuracy"]
            checks.add(f"{name}: below dense", right, full, max(0.0, full - right), POINTS)
        expected = by_scipy(net, unseen[0][:20])
        distance = np.abs(nn.Model(small).predict(unseen[0][:20]) - expected).max()
        # a rounding for each term of a sum, 150 at most, in each of five layers
        error = distance / np.abs(expected).max()
        checks.add(f"{name}: compact, logits", None, None, error, 5 * 150 * 2.0**-24)
    checks.add("shared weights that differ", differ, 0, differ, 0)
    once, by_admm = (table[name]["between"] for name in ("weights, 90 %", ADMM))
    checks.add("ADMM, pruned: below at once", by_admm, once, max(0.0, once - by_admm), 0)
    left = table[HALF_OF_ROWS]["flops"] / flops(dense, everything[:BATCH])
    checks.add("half of the rows: flops left", left, 2 / 3, max(0.0, left - 2 / 3), 0)

    head = f"{'zeros':>8}{'pruned':>9}{'trained':>9}{'masked':>11}{'compact':>11}{'rate':>7}"
    print(f"{'':<20}{head}\n{'dense':<20}{0:>8.1%}{'':>9}{full:>9.1%}")
    for name, row in table.items():
        between = "" if row["between"] is None else f"{row['between']:.1%}"
        shares = f"{row['sparsity']:>8.1%}{between:>9}{row['accuracy']:>9.1%}"
        times = f"{row['masked']:>8.2f} ms{row['compact']:>8.2f} ms"
        print(f"{name:<20}{shares}{times}{row['masked'] / row['compact']:>6.2f}x")
    if not args.no_plot:
        draw(args, table, {"accuracy": full})
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
