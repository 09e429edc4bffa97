"""A surrogate for echoes: a network trained with solutions of boundary integral equations.

A plane wave of wavenumber k meets a sound-soft cylinder whose section is an ellipse of the
semi-axes 1 and r.  Sought is the magnitude of the echo that is sent back where the wave came from,
|F(d + pi)| for 16 directions d between the axes, as a function of (k, r).

One pair (k, r) is one dense complex system with 16 right-hand sides, for `mplinalg.solve`: the
combined-field equation by Kress's method (see 01_acoustic_scattering.py).  A few hundred pairs, in
Halton's sequence, are the data from which an MLP learns the function from two numbers to 16.
Another 100 pairs, drawn at random, judge it.  So does the circle, r = 1, of which the echo is a
series of Bessel functions, for the solver and the surrogate alike.

A root mean square error of a hundredth of the largest echo, 0.1 dB, is allowed.  The seconds of a
solve are those of assembling the matrix and solving; those of the surrogate, of 100 pairs at once.

    python examples/14_scattering_surrogate.py
"""

import sys
import time

import numpy as np
from _common import BLUE, ORANGE, Checks, new_figure, options, save, timed
from scipy.special import hankel1, jv
from scipy.stats import qmc

import mplinalg
from mplinalg import nn
from mplinalg.testing import boundary_elements as be

NODES = 96
DIRECTIONS = np.linspace(0, np.pi / 2, 16)
LEAST, MOST = np.array([0.5, 0.4]), np.array([5.0, 1.0])
"""Of (k, r)."""
UNSEEN, ALLOWED = 100, 0.01
SOURCE = "the solver, for pairs that the network has not seen; Bessel functions for the circle"


def echoes(k, r):
    """|F(d + pi)| for all directions d, by one solve."""
    curve = be.ellipse(NODES, (1.0, r))
    waves = np.stack([be.plane_wave_rhs(curve, k, d) for d in DIRECTIONS], axis=1)
    density = mplinalg.solve(be.combined_field_matrix(curve, k), waves)
    back = zip(density.T, DIRECTIONS + np.pi, strict=True)
    return np.array([abs(be.far_field(phi, curve, k, d)) for phi, d in back])


def circle_echo(k):
    """|F| of the unit circle, of one direction as of all others."""
    m = np.arange(40)
    terms = np.where(m > 0, 2, 1) * jv(m, k) / hankel1(m, k) * (-1.0) ** m
    return np.sqrt(2 / (np.pi * k)) * abs(terms.sum())


def surrogate(pairs, values, epochs):
    """A function of pairs (n, 2) that was learned from values (n, 16), and its model."""
    rng, width = np.random.default_rng(0), 64
    net = nn.Sequential(
        nn.Linear(2, width, rng=rng), nn.Tanh(), nn.Linear(width, width, rng=rng), nn.Tanh(),
        nn.Linear(width, width, rng=rng), nn.Tanh(), nn.Linear(width, values.shape[1], rng=rng),
    )  # fmt: skip
    model = nn.Model(net).compile(
        nn.optim.Adam(net.parameters(), lr=5e-3), "mse", schedule=nn.schedules.Cosine(epochs, 1e-5)
    )
    mean, spread = values.mean(axis=0), values.std(axis=0)

    def inputs(some):
        return 2 * (some - LEAST) / (MOST - LEAST) - 1

    model.fit(inputs(pairs), (values - mean) / spread, epochs, batch_size=20)
    return lambda some: model.predict(inputs(some)) * spread + mean, model


def draw(args, model, predict, r=0.5):
    figure, axes = new_figure([["loss", "echo"]], size=(9, 4), width_ratios=[2, 3])
    axes["loss"].semilogy(model.history["loss"], color=BLUE)
    axes["loss"].set(xlabel="epoch", title="mean square, scaled")
    k = np.linspace(LEAST[0], MOST[0], 40)
    solved = np.array([echoes(one, r) for one in k])
    learned = predict(np.c_[k, np.full(len(k), r)])
    for j, style in ((0, "-"), (-1, "--")):
        name = "along the long axis" if j == 0 else "along the short axis"
        axes["echo"].plot(k, learned[:, j], style, color=BLUE, label=f"surrogate, {name}")
        axes["echo"].plot(k, solved[:, j], "o", color=ORANGE, ms=3, label=None if j else "solver")
    axes["echo"].set(xlabel="wavenumber k", title=f"echo |F|, r = {r}")
    axes["echo"].legend()
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=400, least=50, most=100_000, meaning="pairs to train with",
        output="scattering_surrogate.png",
    )  # fmt: skip
    pairs = qmc.scale(qmc.Halton(2, rng=1).random(args.n), LEAST, MOST)
    unseen = np.random.default_rng(2).uniform(LEAST, MOST, (UNSEEN, 2))
    values, truth = (np.array([echoes(*pair) for pair in some]) for some in (pairs, unseen))
    began = time.perf_counter()
    predict, model = surrogate(pairs, values, 400)
    seconds = time.perf_counter() - began
    one = timed(lambda: echoes(*unseen[0]))[1]
    many = timed(lambda: predict(unseen))[1] / UNSEEN
    print(f"{args.n} solves of order {NODES}, {len(DIRECTIONS)} right-hand sides: {one:.5f} s each")
    print(f"training: {seconds:.1f} s; a pair by the surrogate, of {UNSEEN} at once: {many:.1e} s")
    print(f"the surrogate is {one / many:.0f} times as fast; it pays after", end=" ")
    print(f"{args.n + seconds / one:.0f} pairs\n")

    checks, largest = Checks(SOURCE), truth.max()
    errors = predict(unseen) - truth
    worst, rms = abs(errors).max() / largest, np.sqrt(np.mean(errors**2)) / largest
    print(f"errors of pairs unseen, over the largest echo: {rms:.1e} rms, {worst:.1e} at most")
    k = np.linspace(*(ends[0] for ends in (LEAST, MOST)), 10)
    exact = np.array([circle_echo(one) for one in k])[:, None]
    circle = np.array([echoes(one, 1.0) for one in k])
    checks.add("solver, circle", circle[0, 0], exact[0, 0], abs(circle - exact).max(), 1e-12, one)
    learned = predict(np.c_[k, np.ones(len(k))])
    error = np.sqrt(np.mean((learned - exact) ** 2)) / largest
    checks.add("surrogate, circle: rms", learned[0, 0], exact[0, 0], error, ALLOWED, many)
    checks.add("surrogate, pairs unseen: rms", None, None, rms, ALLOWED, many)
    if not args.no_plot:
        draw(args, model, predict)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
