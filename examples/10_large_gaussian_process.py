"""A Gaussian process on more measurements than its covariance matrix leaves room for.

The brightness of a star is measured n times in thirty nights, with noise of variance v; by day
nothing is seen.  Model it as a Gaussian process in time with Matern's covariance of order 3/2 [1],

    k(t, t') = s (1 + r) exp(-r),  r = sqrt(3) |t - t'| / l,        K_ij = k(t_i, t_j) + v delta_ij.

The brightness at other times t* then has the mean k*^T K^-1 y and the covariance
k** - k*^T K^-1 k*.  K is dense.  Its blocks are made when they are asked for, and `cho_factor`
works within an eighth of the memory that K would take, in a process of its own, whose memory the
system tells.  The factors are kept for two solves: with y, and with all k*.

In one dimension this process is also the solution of a stochastic differential equation [2],

    d(f, f') = [[0, 1], [-q^2, -2q]] (f, f') dt + (0, dw),  q = sqrt(3) / l,

so that Kalman's filter and Rauch's smoother give the very same posterior, without K, in O(n): the
independent answer.  The filter's errors e_i and their variances S_i also give y^T K^-1 y, which is
the sum of e_i^2 / S_i, and log p(y).  log det K is not to be had from factors in tiles; but the
log likelihood of measurements y* that were held back, log p(y* | y), needs solves only, and is
log p(y, y*) - log p(y) by two filters.

[1] C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006.
[2] J. Hartikainen and S. Sarkka, IEEE International Workshop on Machine Learning for Signal
    Processing (2010) 379-384.

    python examples/10_large_gaussian_process.py
"""

import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.linalg
from _common import (
    BLUE,
    GREY,
    ORANGE,
    Checks,
    draw_memory,
    new_figure,
    options,
    resident,
    save,
)  # fmt: skip

import mplinalg.tiled

S, L, V = 1.0, 0.8, 0.01  # variance, length in days, variance of the noise
NIGHTS, NIGHT = 30, 0.35  # days
HELD_BACK, DRAWN = 40, 6.4
SHARE, BESIDES, FORETOLD = 8, 64 * 2**20, 1.3
CHILD = "--child"
"""First argument of the process whose memory is measured."""
SOURCE = "Kalman's filter and Rauch's smoother of the same process, and statistics"


def matern(t1, t2):
    """k(t1, t2), of all pairs."""
    r = np.abs(np.subtract.outer(t1, t2))
    r *= np.sqrt(3) / L
    k = np.exp(-r)
    k *= 1 + r
    return S * k


class Star:
    """n times t with measurements y, and others, held back, at times of day and night."""

    def __init__(self, n):
        rng = np.random.default_rng(0)
        seen = rng.integers(NIGHTS, size=n) + NIGHT * rng.random(n)
        every = np.concatenate([seen, (NIGHTS - 1 + NIGHT) * rng.random(HELD_BACK)])
        order = np.argsort(every)
        self.times = every[order]
        self.is_seen = order < n
        self.values = simulated(self.times, rng) + np.sqrt(V) * rng.standard_normal(len(every))
        self.t, self.y = self.times[self.is_seen], self.values[self.is_seen]
        self.new, self.held_back = self.times[~self.is_seen], self.values[~self.is_seen]
        self.n = n
        self.matrix = mplinalg.tiled.TiledMatrix.from_function(self, (n, n))

    def __call__(self, rows, columns):
        """A block of K."""
        k = matern(self.t[rows], self.t[columns])
        return np.add(k, V, out=k, where=rows[:, None] == columns)

    @property
    def limit(self):
        """Bytes."""
        return 8 * self.n**2 // SHARE

    def solve(self):
        """K^-1 y and K^-1 k*, and the reports of the two solves."""
        factor = mplinalg.tiled.cho_factor(self.matrix, memory_limit=self.limit)
        weights, fit = factor.solve(self.y, full_output=True)
        explained, prediction = factor.solve(matern(self.t, self.new), full_output=True)
        return np.column_stack([weights, explained]), fit, prediction


# -- the state-space model -----------------------------------------------------------------------


def step(dt):
    """A and Q of z(t + dt) = A z(t) + w, w of covariance Q, for z = (f, f')."""
    q = np.sqrt(3) / L
    a = np.exp(-q * dt) * np.array([[1 + q * dt, dt], [-(q**2) * dt, 1 - q * dt]])
    stationary = np.diag([S, q**2 * S])
    return a, stationary - a @ stationary @ a.T


def simulated(times, rng):
    """f at these times, drawn from the process."""
    z, f = np.zeros(2), []
    for dt in np.diff(times, prepend=-np.inf):
        a, q = step(dt) if dt < np.inf else (np.zeros((2, 2)), step(1e3)[1])
        values, vectors = np.linalg.eigh(q)
        z = a @ z + vectors @ (np.sqrt(values.clip(0)) * rng.standard_normal(2))
        f.append(z[0])
    return np.array(f)


def kalman(times, values):
    """Of the filter the predicted and filtered (mean, covariance), sum e^2 / S, and log p.

    A value that is NaN is one that was not measured.
    """
    mean, cov, before = np.zeros(2), step(1e3)[1], times[0]
    predicted, filtered, square, log_p = [], [], 0.0, 0.0
    for t, value in zip(times, values, strict=True):
        a, q = step(t - before)
        mean, cov, before = a @ mean, a @ cov @ a.T + q, t
        predicted.append((mean, cov, a))
        if not np.isnan(value):
            e, variance = value - mean[0], cov[0, 0] + V
            gain = cov[:, 0] / variance
            mean, cov = mean + gain * e, cov - np.outer(gain, gain) * variance
            square += e**2 / variance
            log_p -= (e**2 / variance + np.log(2 * np.pi * variance)) / 2
        filtered.append((mean, cov))
    return predicted, filtered, square, log_p


def smoothed(times, values):
    """Mean and variance of f at these times, given all the values."""
    predicted, filtered, _, _ = kalman(times, values)
    mean, cov = filtered[-1]
    found = [(mean[0], cov[0, 0])]
    for (m, p, a), (mf, pf) in zip(predicted[:0:-1], filtered[-2::-1], strict=True):
        gain = np.linalg.solve(p, a @ pf).T
        mean, cov = mf + gain @ (mean - m), pf + gain @ (cov - p) @ gain.T
        found.append((mean[0], cov[0, 0]))
    return np.array(found[::-1]).T


# -- the process whose memory is measured --------------------------------------------------------


def child(n, target):
    """Solve, and tell."""
    star = Star(int(n))
    small = mplinalg.tiled.cho_factor(np.eye(99), tile=30)  # loads and compiles
    small.solve(np.ones(99)), small.solve(np.ones((99, 2)))
    before = resident()
    found = star.solve()
    Path(target).write_bytes(pickle.dumps((*found, resident() - before)))


def in_a_process(n):
    """The solutions, the reports, and the bytes that the process took."""
    with tempfile.TemporaryDirectory(prefix="gaussian-process-") as folder:
        target = Path(folder) / "answer"
        subprocess.run([sys.executable, __file__, CHILD, str(n), str(target)], check=True)
        return pickle.loads(target.read_bytes())


def draw(args, star, mean, deviation, report, peak):
    figure, axes = new_figure([["curve", "memory"]], size=(9, 4.1), width_ratios=[3, 2])
    panel, grid = axes["curve"], np.linspace(0, DRAWN, 400)
    times = np.concatenate([star.t, grid])
    order = np.argsort(times)
    values = np.concatenate([star.y, np.full(grid.shape, np.nan)])[order]
    middle, variance = smoothed(times[order], values)[:, order >= star.n]
    width = 2 * np.sqrt(variance)
    some, near = star.t < DRAWN, star.new < DRAWN
    panel.fill_between(
        grid, middle - width, middle + width, color=ORANGE, alpha=0.4, lw=0, label="smoother"
    )
    panel.plot(star.t[some], star.y[some], ".", ms=1.5, color=GREY, label="measured")
    panel.errorbar(
        star.new[near], mean[near], 2 * deviation[near], fmt="o", ms=4, color=BLUE,
        label="predicted at t*",
    )  # fmt: skip
    panel.set(xlabel="time (days)", ylabel="brightness", title="the first nights, two deviations")
    panel.legend(fontsize="small")
    whole = 8 * star.n**2
    draw_memory(
        axes["memory"], f"n = {star.n}", whole, whole / 4, star.limit,
        report.traffic, peak,
    )  # fmt: skip
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=4000, least=500, most=50000, meaning="measurements",
        output="large_gaussian_process.png",
    )  # fmt: skip
    star = Star(args.n)
    began = time.perf_counter()
    found, fit, prediction, peak = in_a_process(args.n)
    seconds = time.perf_counter() - began
    print(f"{args.n} measurements. Factoring, and the solve with y:\n")
    print(fit)

    x, w, cross = found[:, 0], found[:, 1:], matern(star.t, star.new)
    mean, c = cross.T @ x, matern(star.new, star.new) - cross.T @ w
    deviation = np.sqrt(np.diag(c))
    d = star.held_back - mean
    c[np.diag_indices(HELD_BACK)] += V
    factor = scipy.linalg.cho_factor(c)
    whitened = scipy.linalg.cho_solve(factor, d)
    log_p = -d @ whitened / 2 - np.log(np.diag(factor[0])).sum() - HELD_BACK / 2 * np.log(2 * np.pi)

    began = time.perf_counter()
    means, variances = smoothed(star.times, np.where(star.is_seen, star.values, np.nan))
    means, deviations = means[~star.is_seen], np.sqrt(variances[~star.is_seen])
    _, _, square, log_p_y = kalman(star.t, star.y)
    log_p_all = kalman(star.times, star.values)[3]
    print(f"\nThe Kalman filters and the smoother took {time.perf_counter() - began:.2f} s.")

    checks = Checks(SOURCE)
    # What is solved is (K + E) x = y with |E| <= sqrt(n) u |K|, and |K| <= n s + v. To first order
    # y^T x changes by x^T E x, the mean by w^T E x, and the covariance by w^T E w, w = K^-1 k*.
    e = np.sqrt(args.n) * 2.0**-53 * (args.n * S + V)
    norm_x, norm_w = np.linalg.norm(x), np.linalg.norm(w, axis=0)
    mine = star.y @ x
    checks.add("y^T K^-1 y", mine, square, abs(mine - square), e * norm_x**2, seconds)
    j = np.argmax(abs(mean - means))
    allowed = e * norm_w.max() * norm_x
    checks.add("mean, where worst", mean[j], means[j], abs(mean[j] - means[j]), allowed)
    j = np.argmax(abs(deviation - deviations))
    error, allowed = abs(deviation[j] - deviations[j]), e * norm_w.max() ** 2 / deviation.min() / 2
    checks.add("deviation, where worst", deviation[j], deviations[j], error, allowed)
    norm_of_w, norm_z = np.linalg.norm(norm_w), np.linalg.norm(whitened)
    allowed = e * (norm_of_w**2 * (HELD_BACK / V + norm_z**2) / 2 + norm_z * norm_of_w * norm_x)
    expected = log_p_all - log_p_y
    checks.add("log p(y* | y)", log_p, expected, abs(log_p - expected), allowed)
    # chi squared of so many degrees of freedom, whose deviation is the root of twice as many
    square = d @ whitened
    checks.add("held back: d^T C^-1 d", square, HELD_BACK,
               abs(square - HELD_BACK), 4 * np.sqrt(2 * HELD_BACK))  # fmt: skip

    top = max(report.traffic.peak for report in (fit, prediction))
    checks.add("memory over the limit", top, star.limit, max(0, top - star.limit), 0)
    checks.add("of the process, beyond the limit", peak, star.limit,
               max(0, peak - star.limit), BESIDES)  # fmt: skip
    for name, report in (("factor and fit", fit), ("prediction", prediction)):
        moved, foretold = report.traffic.moved, report.traffic.predicted
        ratio = max(moved / foretold, foretold / moved)
        checks.add(f"bytes moved, {name}", moved, foretold, ratio - 1, FORETOLD - 1)
    if not args.no_plot:
        draw(args, star, mean, deviation, fit, peak)
    return checks.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(*sys.argv[2:])
    else:
        sys.exit(main())
