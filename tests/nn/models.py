"""Small models that several tests train."""

from __future__ import annotations

import numpy as np

from mplinalg import nn


def lenet(seed=0, dropout=0.0):
    """For the digits, (n, 1, 8, 8)."""
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 3, padding=1, rng=rng), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(dropout, rng=3), nn.Linear(64, 40, rng=rng), nn.ReLU(),
        nn.Linear(40, 10, rng=rng),
    )  # fmt: skip


def compiled(net, precision="fp32", lr=0.1, loss="cross_entropy", **options):
    optimizer = nn.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    return nn.Model(net).compile(optimizer, loss, precision=precision, **options)


def small(precision="fp32", dtype=np.float32, **options):
    """For data as `drawn`."""
    net = nn.Sequential(
        nn.Linear(3, 4, rng=0, dtype=dtype), nn.Tanh(), nn.Linear(4, 2, rng=1, dtype=dtype)
    )
    return compiled(net, precision, **options)


def drawn(n=50):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    return x, (x[:, 0] > x[:, 1]).astype(np.int64)


def is_same(state, other):
    """Whether two state dicts have the same bits."""
    return state.keys() == other.keys() and all(np.array_equal(state[k], other[k]) for k in state)
