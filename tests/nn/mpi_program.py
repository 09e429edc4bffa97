"""A program for two ranks under mpiexec: ``python mpi_program.py what folder``."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from mplinalg import nn

EPOCHS, HALF, BATCH = 4, 2, 16
STEPS = 4
"""In an epoch."""


def data():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50, 3))  # the last batch is of 2
    return x, np.stack([x[:, 0] * x[:, 1], np.sin(x[:, 2])], axis=1)


def built(loss="mse", seed=0):
    net = nn.Sequential(
        nn.Linear(3, 8, rng=seed, dtype=np.float64), nn.Tanh(), nn.Dropout(0.2, rng=seed),
        nn.Linear(8, 2, rng=seed + 1, dtype=np.float64),
    )  # fmt: skip
    made = nn.optim.Adam(net.parameters(), lr=0.02)
    return nn.Model(net).compile(made, loss, precision="fp64")


def weights(model):
    return np.concatenate([a.ravel() for a in model.net.state_dict().values()])


class Ends:
    """The mean squared error, and on rank 1 an end in the second step of the third epoch.

    Not in the first one: rank 0 may still be writing its file then. One call more is on trial.
    """

    def __init__(self, rank, end):
        self.left = 1 + HALF * STEPS + 2 if rank == 1 else -1
        self.end = end

    def __call__(self, prediction, y):
        self.left -= 1
        if self.left == 0:
            self.end()
        return nn.mse_loss(prediction, y)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def failed():
    raise OSError("the disk is gone")


def main(what, folder):
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    x, y = data()
    options = {"batch_size": BATCH, "seed": 2, "comm": comm}
    file = Path(folder) / "training.safetensors"
    if what == "plain":  # no Dropout: it would draw other numbers
        model = built()
        model.net[2].p = 0.0
        model.fit(x, y, EPOCHS, **options)
    elif what == "whole":
        model = built()
        model.fit(x, y, EPOCHS, **options)
    elif what == "resumed":
        model = built(seed=3 * comm.rank)
        if comm.rank == 0:
            model.load(file)
        model.fit(x, y, EPOCHS - HALF, batch_size=BATCH, comm=comm)
    elif what == "killed":
        built(Ends(comm.rank, killed)).fit(x, y, EPOCHS, save_to=file, **options)
    elif what == "failed":
        try:
            built(Ends(comm.rank, failed)).fit(x, y, EPOCHS, save_to=file, **options)
        except RuntimeError as error:
            (Path(folder) / f"{comm.rank}.txt").write_text(str(error))
            raise
    elif what == "failed outside":
        if comm.rank == 1:
            failed()
        built().fit(x, y, EPOCHS, **options)
    np.save(Path(folder) / f"{comm.rank}.npy", weights(model))
    (Path(folder) / f"{comm.rank}.json").write_text(json.dumps(model.history.rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
