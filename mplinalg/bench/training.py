"""Training of a network, by mplinalg and by PyTorch from the same start: rows of suites."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mplinalg import nn
from mplinalg.bench.suite import Parameters, Problem
from mplinalg.kernels.cpu.batched.threads import blas_threads

Array = Any

__all__ = [
    "BATCH", "INSTALLED", "PEERS", "Setting", "cases", "convolution_flops", "dense_flops", "images",
    "problem",
]  # fmt: skip

BATCH = 100
JUDGED = 10
"""Steps after which the weights are compared."""
_DRAWS = 12
"""Orders of the samples that are tried."""
_NUDGE = 16
"""Units roundoff by which weights are moved to see whether that matters."""
UNITS = {"fp32": 2.0**-24, "fp16-mixed": 2.0**-11, "bf16-mixed": 2.0**-8}
"""Unit roundoffs of the operands of products."""
PEERS = {"torch": "PyTorch: torch.nn, torch.optim.SGD, torch.autocast"}
INSTALLED = PEERS if importlib.util.find_spec("torch") is not None else {}


class Setting:
    """How a network is trained.

    Parameters
    ----------
    net : callable
        Makes the network, always with the same weights.
    torch_net : callable
        The same of PyTorch's modules, with any weights.
    flops : int
        Of products, for one sample, forwards and backwards.
    lr, weight_decay : float
    """

    def __init__(
        self, net: Callable[[], nn.Sequential], torch_net: Callable[[], Any], flops: int, *,
        lr: float, weight_decay: float,
    ) -> None:  # fmt: skip
        self.net, self.torch_net, self.flops = net, torch_net, flops
        self.options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}


def cases(sizes: Any, **parameters: Any) -> list[Parameters]:
    """Rows for each number of images and each precision."""
    return [{"n": n, **parameters, "precision": name} for name in UNITS for n in sizes]


def images(rng: np.random.Generator, n: int, edge: int) -> tuple[Array, Array]:
    """Grey images of ten classes: a pattern of the class, and noise; and their labels."""
    patterns = rng.random((10, edge, edge), dtype=np.float32)
    y = rng.integers(0, 10, n)
    x = rng.random((n, edge, edge), dtype=np.float32)
    x += patterns[y]
    x *= 0.5
    return x, y


def problem(setting: Setting, x: Array, y: Array, epochs: int, precision: str) -> Problem:
    """Train from the same start over `epochs` rounds of shuffled samples.

    The first steps take samples in order; the answer are the weights after them, in one array.
    How wrong they are: the distance to training in double precision, over the way gone.

    In single precision samples are put in another order where the weights hang on rounding: if what
    a ReLU is given is so close to 0 that its sign is rounding's, one sample may move them by some
    percent of their way.
    """
    judged = min(JUDGED * BATCH, len(x))
    start = setting.net().state_dict()
    old = _flat(start).astype(float)
    rng = np.random.default_rng(0)
    for _ in range(_DRAWS):
        some = x[:judged].astype(float), y[:judged]
        exact = _trained(setting, *some, "fp64")
        way = float(np.linalg.norm(exact - old))
        bound = _bound(float(np.linalg.norm(old)) / way, precision)
        moved = rng.uniform(-1, 1, old.size) * (_NUDGE * UNITS["fp32"])
        if precision != "fp32" or all(
            np.linalg.norm(_trained(setting, *some, "fp64", 1 + sign * moved) - exact) < bound * way
            for sign in (1, -1)
        ):
            break
        order = rng.permutation(len(x))
        x, y = x[order], y[order]

    def ours() -> Array:
        net, model = _model(setting, precision)
        model.fit(x[:judged], y[:judged], batch_size=min(BATCH, judged), shuffle=False)
        found = _flat(net.state_dict())
        model.fit(x, y, epochs, min(BATCH, len(x)))
        return found

    peers: Mapping[str, Callable[[], Array]] = {}
    if INSTALLED:
        peers = {"torch": _by_torch(setting, start, x, y, judged, epochs, precision)}
    return Problem(
        ours=ours, peers=peers, report=None, bound=bound,
        error=lambda found: float(np.linalg.norm(found - exact)) / way,
        dtype="float32", flops=float(setting.flops) * (judged + epochs * len(x)),
    )  # fmt: skip


def _bound(length: float, precision: str) -> float:
    """Of the error after `JUDGED` steps, for weights of a length over the way that they go.

    About a part u of what ReLUs are given is so close to 0 that rounding changes its sign, which
    makes that part of the entries of gradients wrong: sqrt(u) of their norm. Weights are rounded in
    each step.
    """
    return 2 * math.sqrt(UNITS[precision]) + JUDGED * length * UNITS["fp32"]


def _model(setting: Setting, precision: str) -> tuple[nn.Sequential, nn.Model]:
    net = setting.net()
    if precision == "fp64":
        net.to(dtype=np.float64)
    optimizer = nn.optim.SGD(net.parameters(), **setting.options)
    return net, nn.Model(net).compile(optimizer, "cross_entropy", precision=precision)


def _trained(
    setting: Setting, x: Array, y: Array, precision: str, factors: Array | float = 1.0
) -> Array:
    """The weights after a round of samples in order; the first ones are multiplied by `factors`."""
    net, model = _model(setting, precision)
    start = net.state_dict()
    flat = _flat(start) * factors
    ends = np.cumsum([value.size for value in start.values()])[:-1]
    parts = zip(start, np.split(flat, ends), strict=True)
    net.load_state_dict({name: part.reshape(start[name].shape) for name, part in parts})
    model.fit(x, y, batch_size=min(BATCH, len(x)), shuffle=False)
    return _flat(net.state_dict())


def _flat(state: Mapping[str, Any]) -> Array:
    return np.concatenate([np.asarray(value).ravel() for value in state.values()])


def _by_torch(
    setting: Setting, start: Mapping[str, Array], x: Array, y: Array, judged: int, epochs: int,
    precision: str,
) -> Callable[[], Array]:  # fmt: skip
    """The usual loop: batches by indices, no sums kept of losses."""
    import torch

    torch.set_num_threads(blas_threads())
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    kind = {"fp16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(precision)
    measure = torch.nn.CrossEntropyLoss()

    def run() -> Array:
        net = setting.torch_net()
        net.load_state_dict({name: torch.from_numpy(value) for name, value in start.items()})
        optimizer = torch.optim.SGD(net.parameters(), **setting.options)
        scaler = torch.amp.GradScaler("cpu", enabled=kind is torch.float16)

        def epoch(order: Any) -> None:
            for chosen in torch.split(order, BATCH):
                optimizer.zero_grad()
                with contextlib.nullcontext() if kind is None else torch.autocast("cpu", kind):
                    loss = measure(net(inputs[chosen]), labels[chosen])
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()

        epoch(torch.arange(judged))
        found = _flat({name: value.clone() for name, value in net.state_dict().items()})
        for _ in range(epochs):
            epoch(torch.randperm(len(inputs)))
        return found

    return run


def dense_flops(*sizes: int) -> int:
    """Of the products of linear layers for one sample; the first has no gradient for its input."""
    layers = [a * b for a, b in itertools.pairwise(sizes)]
    return 6 * sum(layers) - 2 * layers[0]


def convolution_flops(channels: int, filters: int, kernel: int, out: int, *, first: bool) -> int:
    """The same of a convolution with square kernels."""
    return (4 if first else 6) * channels * filters * (kernel * out) ** 2
