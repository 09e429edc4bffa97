"""Ranks that are threads of one process, and models for them to train.

A communicator has those methods of mpi4py's that are used. Sums are made in the order of the ranks,
each rank by itself. Nothing waits longer than `PATIENCE`.
"""

from __future__ import annotations

import threading
import traceback

import numpy as np

from mplinalg import nn

PATIENCE = 60.0
"""Seconds."""


class Group:
    """What the communicators of all ranks share."""

    def __init__(self, size):
        self.size = size
        self.arrays = [None] * size
        self.barrier = threading.Barrier(size, timeout=PATIENCE)
        self.lengths = []
        """Of what was summed."""

    def sum(self, rank, a):
        self.arrays[rank] = a
        self.barrier.wait()
        assert len({(b.shape, b.dtype) for b in self.arrays}) == 1
        with np.errstate(all="ignore"):
            total = self.arrays[0].copy()
            for b in self.arrays[1:]:
                total += b
        if rank == 0:
            self.lengths.append(a.size)
        self.barrier.wait()
        a[...] = total


class Threaded:
    """As an mpi4py communicator."""

    def __init__(self, group, rank):
        self.group, self.rank = group, rank

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.group.size

    def Allreduce(self, sent, a):
        assert sent is None  # in place
        self.group.sum(self.rank, a)


def on_ranks(size, work, *, comm=Threaded):
    """What ``work(comm)`` returns or raises on each rank, and the group."""
    group = Group(size)
    found = [None] * size

    def run(rank):
        try:
            found[rank] = work(comm(group, rank))
        except BaseException as error:
            found[rank] = error
            if isinstance(error, threading.BrokenBarrierError):
                traceback.print_exc()

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE + 10)
        assert not thread.is_alive(), "a rank hangs"
    return found, group


# -- models --------------------------------------------------------------------------------------

N, EPOCHS = 50, 4
U = 2.0**-53
OPTIMIZERS = {
    "momentum": lambda p: nn.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: nn.optim.Adam(p, lr=0.02),
}


def drawn(dtype=np.float64):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((N, 3)).astype(dtype)
    return x, (x[:, 0] > x[:, 1]).astype(np.int64)


def built(optimizer="momentum", *, seed=0, dropout=0.0, precision="fp64", loss="cross_entropy",
          **options):  # fmt: skip
    dtype = np.float64 if precision == "fp64" else np.float32
    net = nn.Sequential(
        nn.Linear(3, 8, rng=seed, dtype=dtype), nn.Tanh(), nn.Dropout(dropout, rng=seed),
        nn.Linear(8, 2, rng=seed + 1, dtype=dtype),
    )  # fmt: skip
    made = OPTIMIZERS[optimizer](net.parameters())
    return nn.Model(net).compile(made, loss, precision=precision, **options)


def weights(model):
    return np.concatenate([a.ravel() for a in model.net.state_dict().values()])


def well(found):
    """What ranks return, all of which have to."""
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def trained(size, build, *args, **options):
    """The models of `size` ranks, all of the same bits."""

    def work(comm):
        model = build()
        model.fit(*args, **options, comm=comm)
        return model

    models = well(on_ranks(size, work)[0])
    for model in models[1:]:
        assert np.array_equal(weights(model), weights(models[0]))
        assert model.history.rows == models[0].history.rows
    return models


def normalised():
    rng = np.random.default_rng(2)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, rng=rng, dtype=np.float64), nn.BatchNorm2d(2, dtype=np.float64),
        nn.Flatten(), nn.Linear(2, 2, rng=rng, dtype=np.float64),
    )  # fmt: skip
    made = nn.optim.SGD(net.parameters(), lr=0.1)
    return nn.Model(net).compile(made, "cross_entropy", precision="fp64")
