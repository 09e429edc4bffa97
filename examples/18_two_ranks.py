"""Handwritten digits, learnt by several processes together.

A network with one hidden layer, z = W2 tanh(W1 x + b1) + b2, is trained on scikit-learn's digits by
gradient descent with momentum.  Every process, or rank, is given all of the data and takes its
share of each batch; gradients are averaged, weighted by the number of samples in a share.  The last
batch of an epoch is smaller, and shares differ by one sample where a batch cannot be cut evenly.
None of this may change the weights beyond rounding.

The independent answer is the same descent in one process, written out in NumPy below, in double
precision as well.  Run as one process, the example does without mpi4py.

    python examples/18_two_ranks.py
    mpiexec -n 2 python -m mpi4py examples/18_two_ranks.py

(`-m mpi4py` has mpiexec end all ranks if one of them fails outside of `fit`.)
"""

import contextlib
import os
import sys

import numpy as np
from _common import BLUE, GREY, ORANGE, Checks, new_figure, options, save

from mplinalg import nn

HIDDEN, CLASSES, EPOCHS, BATCH, SEED = 32, 10, 15, 51, 1
RATE, MOMENTUM = 0.1, 0.9
SOURCE = "the same descent in one process by NumPy"


def world():
    """The communicator of all ranks; None if this process is the only one."""
    try:
        from mpi4py import MPI
    except ImportError:
        return None
    return MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None


def network():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, HIDDEN, rng=SEED, dtype=np.float64), nn.Tanh(),
        nn.Linear(HIDDEN, CLASSES, rng=SEED + 1, dtype=np.float64),
    )  # fmt: skip


def flat(arrays):
    return np.concatenate([a.ravel() for a in arrays])


def by_hand(x, y):
    """The weights after each epoch and its mean loss, and the last weights layer by layer."""
    weights = [p.data.copy() for p in network().parameters()]
    velocities = [np.zeros_like(w) for w in weights]
    x, one_hot = x.reshape(len(x), -1), np.eye(CLASSES)[y]
    found, losses = [], []
    for _ in range(EPOCHS):
        loss = 0.0
        for start in range(0, len(x), BATCH):
            rows = slice(start, start + BATCH)
            w1, b1, w2, b2 = weights
            h = np.tanh(x[rows] @ w1.T + b1)
            z = h @ w2.T + b2
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            loss -= np.log((p * one_hot[rows]).sum(axis=1)).sum()
            # dz = (p - one-hot) / n,  dh = dz W2,  da = dh (1 - h^2)
            dz = (p - one_hot[rows]) / len(p)
            da = dz @ w2 * (1 - h**2)
            gradients = [da.T @ x[rows], da.sum(axis=0), dz.T @ h, dz.sum(axis=0)]
            velocities = [MOMENTUM * v + g for v, g in zip(velocities, gradients, strict=True)]
            weights = [w - RATE * v for w, v in zip(weights, velocities, strict=True)]
        found.append(flat(weights))
        losses.append(loss / len(x))
    return found, losses, weights


def together(x, y, comm):
    """The model, and its weights after each epoch."""
    net = network()
    made = nn.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    model = nn.Model(net).compile(made, "cross_entropy", precision="fp64")
    found = []
    for _ in range(EPOCHS):  # fit goes on where it was
        model.fit(x, y, 1, BATCH, shuffle=False, comm=comm)
        found.append(flat(p.data for p in net.parameters()))
    return model, found


def draw(args, losses, expected, apart, allowed, ranks):
    figure, axes = new_figure([["loss", "apart"]], size=(9, 3.8))
    epochs = np.arange(1, EPOCHS + 1)
    panel = axes["loss"]
    panel.plot(epochs, losses, color=BLUE, label=f"mplinalg, {ranks}")
    panel.plot(epochs, expected, "o", color=ORANGE, ms=4, label="NumPy, one process")
    panel.set(yscale="log", xlabel="epoch", ylabel="mean loss", title="handwritten digits")
    panel.legend()
    panel = axes["apart"]
    panel.plot(epochs, np.maximum(apart, 1e-17), color=BLUE, label="weights, where worst")
    panel.plot(epochs, allowed, ls="--", color=GREY, label="allowed")
    panel.set(yscale="log", xlabel="epoch", ylabel="relative difference", title="to NumPy")
    panel.legend()
    save(figure, args)


def main(argv=None):
    comm = world()
    rank, size = (0, 1) if comm is None else (comm.Get_rank(), comm.Get_size())
    with contextlib.ExitStack() as stack:
        if rank:  # rank 0 speaks for all
            silent = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(silent))
        return run(argv, comm, size, rank)


def run(argv, comm, size, rank):
    args = options(
        __doc__, argv, n=1400, least=200, most=1700, meaning="digits to learn from",
        output="two_ranks.png",
    )  # fmt: skip
    try:
        x, y = nn.data.digits(np.float64)
    except ImportError:
        sys.exit("This example needs scikit-learn: pip install scikit-learn")
    order = np.random.default_rng(SEED).permutation(len(x))
    x, y = x[order], y[order]
    model, found = together(x[: args.n], y[: args.n], comm)
    ranks = "one rank" if size == 1 else f"{size} ranks"
    steps = -(-args.n // BATCH)
    print(f"{ranks}, {args.n} digits, {steps} steps in each of {EPOCHS} epochs")
    print(f"{'epoch':>5}{'loss':>10}{'accuracy':>10}{'apart':>10}")
    weights, expected, (w1, b1, w2, b2) = by_hand(x[: args.n], y[: args.n])
    losses, accuracies = model.history["loss"], model.history["accuracy"]
    apart = [abs(a - b).max() / abs(b).max() for a, b in zip(found, weights, strict=True)]
    # a step sums BATCH terms in another order, and counts rate / (1 - momentum) times, that is once
    allowed = [k * steps * BATCH * 2.0**-53 for k in range(1, EPOCHS + 1)]
    for k in range(EPOCHS):
        print(f"{k + 1:>5}{losses[k]:>10.5f}{accuracies[k]:>10.3f}{apart[k]:>10.1e}")
    checks = Checks(SOURCE)
    seconds = float(np.median(model.history["seconds"]))
    checks.add("weights, where worst", None, None, apart[-1], allowed[-1], seconds)
    checks.add("mean loss of the last epoch", losses[-1], expected[-1],
               abs(losses[-1] / expected[-1] - 1), allowed[-1])  # fmt: skip
    judged, wanted = x[args.n :], y[args.n :]
    hidden = np.tanh(judged.reshape(len(judged), -1) @ w1.T + b1)
    theirs = ((hidden @ w2.T + b2).argmax(axis=1) == wanted).mean()
    mine = model.evaluate(judged, wanted).accuracy
    checks.add("accuracy, digits not seen", mine, theirs, abs(mine - theirs), 0)
    if not args.no_plot and rank == 0:
        draw(args, losses, expected, apart, allowed, ranks)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
