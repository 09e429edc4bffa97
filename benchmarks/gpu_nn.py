"""Networks trained on a GPU: one epoch from the same start, data on the device, in order.

mlp: 784-528-528-10 with ReLU, batches of 100, rate 0.2, weight decay 0.001: the published setting
of MagmaDNN. lenet: LeNet-5 on the same images of 28 by 28, rate 0.05. n images of ten classes, the
pattern of a class with as much noise, random normal.

Answers are weights. They are judged by the loss of all images that they have, computed in double
precision: its difference from that of weights trained in double precision, step by step, over the
loss before training. A hundredth of that is taken for the bound: rounding moves the path of a
network with ReLUs, not where it leads. Weights that were not trained are at about 1.

- steps: mplinalg without a graph, the host asking for each kernel.
- torch: PyTorch, eager; in "fp16-mixed" with autocast and its GradScaler.
"""

import itertools
import math

import numpy as np

from mplinalg import nn
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Problem, Suite
from mplinalg.errors import LinAlgError

BATCH = 100
PRECISIONS = ("fp32", "fp16-mixed")
BOUND = 0.01
RATES = {"mlp": 0.2, "lenet": 0.05}
DECAY = 0.001
PRODUCTS = {
    "mlp": (784 * 528, 528 * 528, 528 * 10),
    "lenet": (25 * 6 * 28**2, 25 * 6 * 16 * 10**2, 400 * 120, 120 * 84, 84 * 10),
}
"""Multiplications of a sample in each layer, forwards; the first has no gradient to its input."""


def mlp(dtype=np.float32):
    rng = np.random.default_rng(0)
    sizes = (784, 528, 528, 10)
    layers = [nn.Flatten()]
    for wide, narrow in itertools.pairwise(sizes):
        layers += [nn.Linear(wide, narrow, rng=rng, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet(dtype=np.float32):
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, rng=rng, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, rng=rng, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120, rng=rng, dtype=dtype), nn.ReLU(),
        nn.Linear(120, 84, rng=rng, dtype=dtype), nn.ReLU(),
        nn.Linear(84, 10, rng=rng, dtype=dtype),
    )  # fmt: skip


NETS = {"mlp": mlp, "lenet": lenet}


class Training:
    """Epochs by mplinalg, each from the start."""

    def __init__(self, net, x, y, size, precision, capture="auto"):
        self.x, self.y, self.size = x, y, size
        dtype = np.float64 if precision == "fp64" else np.float32
        self.net = NETS[net]().to("cuda", dtype)
        self.start = self.net.state_dict()
        optimizer = nn.optim.SGD(self.net.parameters(), lr=RATES[net], weight_decay=DECAY)
        self.model = nn.Model(self.net)
        self.model.compile(optimizer, "cross_entropy", precision=precision, capture=capture)

    def epoch(self):
        self.net.load_state_dict(self.start)
        self.model.fit(self.x, self.y, batch_size=self.size, shuffle=False)
        return [p.data for p in self.net.parameters()]

    def found(self):
        row = self.model.history.rows[-1]
        return {
            "captured": bool(row.get("captured", False)), "note": self.model.capture_note,
            "loss": row["loss"], "accuracy": row["accuracy"],
        }  # fmt: skip


def by_torch(net, start, x, y, size, precision):
    """The same, eager."""
    import cupy
    import torch

    layers = torch.nn
    if net == "mlp":
        model = layers.Sequential(
            layers.Flatten(), layers.Linear(784, 528), layers.ReLU(), layers.Linear(528, 528),
            layers.ReLU(), layers.Linear(528, 10),
        )  # fmt: skip
    else:
        model = layers.Sequential(
            layers.Conv2d(1, 6, 5, padding=2), layers.ReLU(), layers.MaxPool2d(2),
            layers.Conv2d(6, 16, 5), layers.ReLU(), layers.MaxPool2d(2), layers.Flatten(),
            layers.Linear(400, 120), layers.ReLU(), layers.Linear(120, 84), layers.ReLU(),
            layers.Linear(84, 10),
        )  # fmt: skip
    model = model.cuda()
    state = {name: torch.from_dlpack(a) for name, a in start.items()}
    images, labels = torch.from_dlpack(x), torch.from_dlpack(y)
    is_mixed = precision == "fp16-mixed"
    scaler = torch.amp.GradScaler("cuda", enabled=is_mixed)

    def epoch():
        model.load_state_dict(state)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATES[net], weight_decay=DECAY)
        for k in range(0, len(images), size):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16, enabled=is_mixed):
                prediction = model(images[k : k + size])
                loss = layers.functional.cross_entropy(prediction, labels[k : k + size])
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return [cupy.from_dlpack(p.detach()) for p in model.parameters()]

    return epoch


def build(rng, net, precision, n):
    x = normal(rng, (n, 1, 28, 28), "float32")
    y = normal(rng, (n, 10), "float32").argmax(axis=1)
    x += normal(rng, (10, 1, 28, 28), "float32").take(y, axis=0)
    size = min(BATCH, max(n // 3, 1))
    ours = Training(net, x, y, size, precision)
    steps = Training(net, x, y, size, precision, False)
    peer = []

    def torch_epoch():
        if not peer:
            peer.append(by_torch(net, ours.start, x, y, size, precision))
        return peer[0]()

    first, *others = PRODUCTS[net]
    return Problem(
        ours=ours.epoch,
        peers={"steps": steps.epoch, "torch": torch_epoch},
        report=None,
        error=difference(net, x, y, size, ours.start),
        bound=BOUND,
        dtype="float32",
        flops=2.0 * n * (2 * first + 3 * sum(others)),
        findings=ours.found,
    )


def difference(net, x, y, size, start):
    """Of the loss from that after training in double precision, over that before."""
    exact = Training(net, x.astype("float64"), y, size, "fp64", False)
    names = list(start)
    known = []

    def loss(weights):
        exact.net.load_state_dict(dict(zip(names, weights, strict=True)))
        try:
            return exact.model.evaluate(exact.x, y).loss
        except LinAlgError:  # it is not finite
            return math.nan

    def error(found):
        import cupy

        if not known:
            known.extend(map(loss, ([a.copy() for a in exact.epoch()], start.values())))
        if not isinstance(found, list) or [a.shape for a in found] != [
            a.shape for a in start.values()
        ]:
            return math.nan
        if not all(isinstance(a, cupy.ndarray) for a in found):
            return math.nan
        return abs(loss(found) - known[0]) / known[1]

    return error


SUITE = Suite(
    title="networks, one epoch of training",
    sizes="60000",
    cases=lambda sizes: [
        {"net": net, "precision": precision, "n": n}
        for n in sizes for net in NETS for precision in PRECISIONS
    ],
    peers={
        "steps": "the same by mplinalg, capture=False",
        "torch": "the same in PyTorch, eager: autocast and GradScaler in fp16-mixed",
    },
    default_peers=("steps", "torch"),
    error_measure="difference of the loss from that of double precision, over that before",
    build=build,
    device="cuda",
)  # fmt: skip
