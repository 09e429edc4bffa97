"""Kalman filters: 100,000 tracks at once, each with noise of its own.

A track has a position and a velocity in the plane, x = (p, v).  From one moment to the next

    x <- F x + w,   z = H x + e,   cov w = Q,   cov e = R:

the velocity is disturbed, and the position is measured.  The filter of Kalman [1] carries the best
estimate of x and its covariance P along.  In each step

    x <- F x,   P <- F P F' + Q                                 predict
    S K' = H P,   S = H P H' + R                                gain
    x <- x + K (z - H x),   P <- P - K H P                      update

which are products of 4 x 4 and 2 x 4 matrices and a positive definite system of order 2: nothing
for one track, and for many tracks, with Q and R of their own, all of the time goes into calling.
`mplinalg.batched.gemm` and `mplinalg.batched.solve` take the stacks of all tracks.

The answers are held against what has no filter in it:

- the covariance settles down, to the solution of a Riccati equation, by SciPy [2];
- the last estimate is that of all measurements together, a problem of weighted least squares [3];
- of the true errors d, d' P^-1 d is 4 on average, with a variance of 8 (chi squared).

[1] R. E. Kalman, Journal of Basic Engineering 82 (1960) 35-45.
[2] B. D. O. Anderson and J. B. Moore, Optimal Filtering, Prentice-Hall 1979, section 4.4.
[3] D. B. Duncan and S. D. Horn, Journal of the American Statistical Association 67 (1972) 815-821.

    python examples/06_kalman_filters.py
"""

import functools
import sys

import numpy as np
import scipy.linalg
from _common import BLUE, GREY, ORANGE, Checks, new_figure, options, save, timed

import mplinalg.batched

STEPS, TIMED = 80, 10
SAMPLE = 5
"""Tracks that are computed by other means as well."""
F = np.eye(4) + np.eye(4, k=2)
H = np.eye(2, 4)
SOURCE = "Riccati's equation and least squares by SciPy, and the statistics of chi squared"


def noise(rng, n):
    """Q (n, 4, 4) and R (n, 2, 2) of all tracks: agile or lazy ones, seen well or badly."""
    # a random force that is constant within a step moves position and velocity together
    within = np.kron([[0.25, 0.5], [0.5, 1.0]], np.eye(2))
    q = 10.0 ** rng.uniform(-2.5, -0.5, n)[:, None, None] * (within + 0.05 * np.eye(4))
    root = rng.standard_normal((n, 2, 2))
    return q, root @ root.transpose(0, 2, 1) + 0.2 * np.eye(2)


def simulated(rng, q, r):
    """Last true states (n, 4, 1), all of the first track (STEPS, 4, 1), and what is measured."""
    n = len(q)
    q_root, r_root = np.linalg.cholesky(q), np.linalg.cholesky(r)
    x = rng.standard_normal((n, 4, 1))
    path, measured = np.empty((STEPS, 4, 1)), np.empty((STEPS, n, 2, 1))
    for k in range(STEPS):
        x = F @ x + q_root @ rng.standard_normal((n, 4, 1))
        path[k], measured[k] = x[0], H @ x + r_root @ rng.standard_normal((n, 2, 1))
    return x, path, measured


def filtered(measured, q, r, gemm, solve):
    """Last estimates and covariances; all estimates of the first track; starts from x ~ N(0, I)."""
    n = len(q)
    x, p = np.zeros((n, 4, 1)), np.tile(np.eye(4), (n, 1, 1))
    first = []
    for z in measured:
        x, p = gemm(F, x), gemm(gemm(F, p), F.T) + q
        hp = p[:, :2]  # H p
        gain = solve(hp[:, :, :2] + r, hp).transpose(0, 2, 1)
        x = x + gemm(gain, z - x[:, :2])
        p = p - gemm(gain, hp)
        first.append(x[0])
    return x, p, np.array(first)


def weighted_least_squares(measured, q, r):
    """The last state of one track from all measurements at once: min ||A y - c||, y all states."""
    rows, right = [], []

    def add(blocks, value, covariance):
        root = np.linalg.cholesky(covariance)
        row = np.zeros((len(value), 4 * (STEPS + 1)))
        for k, block in blocks.items():
            row[:, 4 * k : 4 * k + 4] = block
        rows.append(scipy.linalg.solve_triangular(root, row, lower=True))
        right.append(scipy.linalg.solve_triangular(root, value, lower=True))

    add({0: np.eye(4)}, np.zeros(4), np.eye(4))
    for k in range(STEPS):
        add({k: -F, k + 1: np.eye(4)}, np.zeros(4), q)
        add({k + 1: H}, measured[k, :, 0], r)
    y = scipy.linalg.lstsq(np.vstack(rows), np.concatenate(right))[0]
    return y[-4:]


def draw(args, path, measured, first, scores):
    figure, axes = new_figure([["track", "scores"]], size=(9, 4))
    track, panel = axes["track"], axes["scores"]
    track.plot(*measured[:, 0, :, 0].T, ".", color=GREY, ms=4, label="measured")
    track.plot(*path[:, :2, 0].T, "-", color=ORANGE, label="true")
    track.plot(*first[:, :2, 0].T, "-", color=BLUE, label="estimated")
    track.set(title="One of the tracks", xlabel="x", ylabel="y")
    track.legend()
    bins = np.linspace(0, 20, 81)
    panel.hist(scores, bins, density=True, color=BLUE, alpha=0.6, label="all tracks")
    panel.plot(bins, bins / 4 * np.exp(-bins / 2), color=ORANGE, label="chi squared, 4 degrees")
    panel.set(title="d' P⁻¹ d of the last estimates", xlabel="squared distance")
    panel.legend()
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=100_000, least=1000, most=500_000, meaning="tracks",
        output="kalman_filters.png",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    q, r = noise(rng, args.n)
    true, path, measured = simulated(rng, q, r)

    def positive_definite(a, b):
        return mplinalg.batched.solve(a, b, assume_a="pos")

    tools = {"mplinalg": (mplinalg.batched.gemm, positive_definite),
             "numpy": (np.matmul, np.linalg.solve)}  # fmt: skip
    seconds = {}
    for name, (gemm, solve) in tools.items():
        run = functools.partial(filtered, measured[:TIMED], q, r, gemm, solve)
        seconds[name] = timed(run)[1] / TIMED
    x, p, first = filtered(measured, q, r, *tools["mplinalg"])
    print(f"{args.n} tracks, {STEPS} steps")
    print(f"a step: mplinalg.batched {seconds['mplinalg']:.4f} s, numpy {seconds['numpy']:.4f} s")

    checks = Checks(SOURCE)
    worst = 0.0
    for k in range(SAMPLE):
        settled = scipy.linalg.solve_discrete_are(F.T, H.T, q[k], r[k])  # before a measurement
        gain = settled @ H.T @ np.linalg.inv(H @ settled @ H.T + r[k])
        after = settled - gain @ H @ settled
        worst = max(worst, np.linalg.norm(p[k] - after) / np.linalg.norm(after))
    # what is left of the start after so many steps, by far more than rounding
    checks.add("covariance: Riccati's equation", None, None, worst, 1e-6, seconds["mplinalg"])
    worst = 0.0
    for k in range(SAMPLE):
        expected = weighted_least_squares(measured[:, k], q[k], r[k])
        worst = max(worst, np.linalg.norm(x[k, :, 0] - expected) / np.linalg.norm(expected))
    checks.add("last state: least squares", None, None, worst, 1e-11)
    d = true - x
    scores = (d * positive_definite(p, d)).sum(axis=(1, 2))
    # five standard deviations of the mean
    mean, allowed = float(scores.mean()), 5 * np.sqrt(8 / args.n)
    checks.add("mean of d' P^-1 d", mean, 4.0, abs(mean - 4.0), allowed)
    if not args.no_plot:
        draw(args, path, measured, first, scores)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
