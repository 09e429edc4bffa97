"""Pruned networks in use, made compact: an MLP 784-528-528-10 and LeNet-5, images of 28 by 28.

Single precision, weights as they start, random images, n at a time. Ours is the network that
`mplinalg.nn.prune.compact` makes of the masked one; an answer is compared with the masked one in
double precision. Rows and columns go; single weights and blocks leave zeros in matrices that are
multiplied all the same, and rows of the table that say so.

- masked: the network before `compact`, which takes as long as it did before pruning.
"""

import copy

import numpy as np

from mplinalg import nn
from mplinalg.bench.suite import Problem, Suite
from mplinalg.nn import prune

METHODS = (  # name, share that goes, options of `structured`
    ("row", 0.5, {}),
    ("row", 0.75, {}),
    ("column", 0.5, {}),
    ("block", 0.5, {"block": 4}),
    ("weight", 0.9, {}),
)
PEERS = {"masked": "the masked network, by mplinalg"}


def cases(sizes):
    return [
        {"net": net, "method": method, "sparsity": sparsity, "n": n}
        for method, sparsity, _ in METHODS
        for net in NETS
        for n in sizes
    ]


def mlp(rng):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 528, rng=rng), nn.ReLU(), nn.Linear(528, 528, rng=rng),
        nn.ReLU(), nn.Linear(528, 10, rng=rng),
    )  # fmt: skip


def lenet(rng):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120, rng=rng), nn.ReLU(), nn.Linear(120, 84, rng=rng), nn.ReLU(),
        nn.Linear(84, 10, rng=rng),
    )  # fmt: skip


NETS = {"mlp": mlp, "lenet": lenet}
POSITIONS = {"0.weight": 28 * 28, "3.weight": 10 * 10}
"""Of LeNet-5's kernels on an image."""
ROUNDINGS = 5 * 784
"""Layers, and terms of a sum, at most."""


def build(rng, net, method, sparsity, n):
    masked = NETS[net](rng)
    options = next(found for *key, found in METHODS if key == [method, sparsity])
    if method == "weight":
        masks = prune.magnitude(masked, sparsity)
    else:
        masks = prune.structured(masked, sparsity, method, **options)
    masks.apply()
    small = prune.compact(masked)
    x = rng.random((n, 1, 28, 28), dtype=np.float32)
    exact = nn.Model(copy.deepcopy(masked).to(dtype=np.float64)).predict(x.astype(float))
    size = float(np.max(np.abs(exact)))
    dense = {name: p for name, p in masked.named_parameters() if p.ndim >= 2}
    places = POSITIONS if net == "lenet" else {}

    def findings():
        left = sum(p.size for p in small.parameters())
        return {
            "masked weights": prune.sparsity(masked),
            "parameters left": left / sum(p.size for p in masked.parameters()),
        }

    return Problem(
        ours=lambda: nn.Model(small).predict(x, batch_size=n),
        peers={"masked": lambda: nn.Model(masked).predict(x, batch_size=n)},
        report=None,
        error=lambda found: float(np.max(np.abs(found - exact))) / size,
        bound=ROUNDINGS * 2.0**-24,
        dtype="float32",
        flops=float(sum(2 * n * p.size * places.get(name, 1) for name, p in dense.items())),
        findings=findings,
    )


SUITE = Suite(
    title="pruned networks made compact, an MLP and LeNet-5",
    sizes="10,100,1000",
    cases=cases,
    peers=PEERS,
    default_peers=tuple(PEERS),
    error_measure="largest error over the largest entry",
    build=build,
    numpy_too=True,  # products of layers are NumPy's
)
