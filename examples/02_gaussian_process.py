"""Gaussian-process regression: how far has a diabetes patient's disease progressed in a year?

442 patients, ten measurements x of each, and the progression y of the disease a year later [1].
Model y as a Gaussian process with noise: with theta = log(s, l, v), its covariance is

    K(theta)_ij = s exp(-|x_i - x_j|^2 / (2 l^2)) + v delta_ij.

The log marginal likelihood of the training data and its gradient are [2, eq. 2.30 and 5.9]

    L(theta) = -1/2 y^T K^-1 y - 1/2 log det K - n/2 log 2 pi,
    dL/dtheta_j = 1/2 trace((a a^T - K^-1) dK/dtheta_j),       a = K^-1 y.

Maximise L; then a patient x* is predicted to have the mean k*^T a and the variance
s + v - k*^T K^-1 k*.  K is symmetric positive definite, and every evaluation of L factors another
one: n^3 work in a loop, so that `cho_factor` and `cho_solve` decide what n one can afford.

mplinalg's have SciPy's signatures, so that the same lines run with either.  Below the order 1024,
and so for these patients, the factor is kept in double precision: at so small a size refinement
costs more at every solve than a factor in single precision saves once.  `cho_solve` checks each
answer against the matrix; unpacking gives the triangle itself, which log det K and K^-1 take.
So this is a test of the drop-in replacement, not of speed: the seconds of SciPy are printed too.

The independent answer is scikit-learn's GaussianProcessRegressor [3] with the same kernel.

[1] B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Annals of Statistics 32 (2004) 407-499.
[2] C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006.
[3] F. Pedregosa et al., Journal of Machine Learning Research 12 (2011) 2825-2830.

    python examples/02_gaussian_process.py
"""

import sys

import numpy as np
import scipy.linalg
from _common import BLUE, GREY, VERMILION, Checks, new_figure, options, save, timed
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

import mplinalg

BOUNDS = {"s": (1e-3, 1e3), "l": (1e-1, 1e3), "v": (1e-5, 1e2)}
STARTS = [(1.0, 1.0, 0.1), (1.0, 5.0, 0.5), (10.0, 20.0, 0.5)]  # (s, l, v)
JITTER = 1e-10  # on the diagonal, as scikit-learn adds


def patients(n):
    """Standardised data: n patients to learn from, and the others to predict."""
    try:
        from sklearn.datasets import load_diabetes
    except ImportError:
        sys.exit("This example needs scikit-learn: pip install scikit-learn")
    x, y = load_diabetes(return_X_y=True)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:n], order[n:]
    return x[train], y[train], x[test], y[test]


def smooth(theta, x1, x2):
    """The covariance without the noise, and the squared distances over l^2."""
    s, l, _ = np.exp(theta)
    scaled = cdist(x1, x2, "sqeuclidean") / l**2
    return s * np.exp(-scaled / 2), scaled


def likelihood(theta, x, y, linalg=mplinalg):
    """L(theta) and its gradient. `linalg` may be `scipy.linalg` too."""
    n, v = len(y), np.exp(theta[2])
    k, scaled = smooth(theta, x, x)
    factor = linalg.cho_factor(k + (v + JITTER) * np.eye(n))
    a = linalg.cho_solve(factor, y)
    u, lower = factor
    value = -y @ a / 2 - np.log(np.diag(u)).sum() - n / 2 * np.log(2 * np.pi)
    w = np.outer(a, a) - linalg.cho_solve((u, lower), np.eye(n))
    gradient = np.array([np.vdot(w, k), np.vdot(w, k * scaled), v * np.trace(w)]) / 2
    return value, gradient


def predict(theta, x, y, new):
    """Mean and standard deviation of the observation at each new x."""
    s, _, v = np.exp(theta)
    k, cross = smooth(theta, x, x)[0], smooth(theta, x, new)[0]
    factor = mplinalg.cho_factor(k + (v + JITTER) * np.eye(len(y)))
    explained = mplinalg.cho_solve(factor, cross)
    mean = cross.T @ mplinalg.cho_solve(factor, y)
    return mean, np.sqrt(s + v - np.einsum("ij,ij->j", cross, explained))


def maximise(x, y):
    """theta and L at the best of several local maxima."""
    limits = np.log(list(BOUNDS.values()))

    def descend(theta):
        value, gradient = likelihood(theta, x, y)
        return -value, -gradient

    found = [
        minimize(descend, np.log(start), jac=True, bounds=limits, options={"ftol": 1e-12})
        for start in STARTS
    ]
    best = min(found, key=lambda r: r.fun)
    return best.x, -best.fun


def of_scikit_learn(x, y, seed=None):
    """scikit-learn's regressor with the same kernel; it maximises L itself if given a seed."""
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    kernel = kernels.ConstantKernel(1.0, BOUNDS["s"]) * kernels.RBF(1.0, BOUNDS["l"])
    kernel += kernels.WhiteKernel(0.5, BOUNDS["v"])
    chosen = {"optimizer": None} if seed is None else {"n_restarts_optimizer": 3}
    return GaussianProcessRegressor(kernel, alpha=JITTER, random_state=seed, **chosen).fit(x, y)


def draw(args, theta, x, y, truth, mean, deviation):
    figure, axes = new_figure([["prediction", "surface"]], size=(9, 4.2))
    panel = axes["prediction"]
    panel.errorbar(
        truth, mean, 2 * deviation, fmt="o", ms=3.5, color=BLUE, ecolor="#A6CBE3", lw=0.8
    )
    ends = np.array([truth.min(), truth.max()])
    panel.plot(ends, ends, "--", color=GREY, label="predicted = observed")
    panel.set(xlabel="observed (standard deviations)", ylabel="predicted, with two deviations")
    panel.set_title(f"{len(truth)} patients not seen before")
    panel.legend(loc="upper left")

    lengths, noises = np.geomspace(2, 40, 20), np.geomspace(0.25, 1.0, 20)
    grid = [
        [likelihood(np.log([np.exp(theta[0]), l, v]), x, y)[0] for l in lengths] for v in noises
    ]
    panel = axes["surface"]
    below = np.max(grid) - np.array(grid)
    levels = [0, 0.5, 1, 2, 4, 8, 16, 32, 64]
    panel.contourf(lengths, noises, below, levels, cmap="cividis_r", norm="symlog", extend="max")
    lines = panel.contour(lengths, noises, below, levels[1:], colors="white", linewidths=0.7)
    panel.clabel(lines, fmt="%g", fontsize=8)
    panel.plot(*np.exp(theta[1:]), "*", ms=14, color=VERMILION, mec="white")
    panel.set(xscale="log", yscale="log", xlabel="length scale l", ylabel="noise variance v")
    panel.set_xticks([2, 5, 10, 20, 40], [2, 5, 10, 20, 40])
    panel.set_yticks([0.25, 0.5, 1], [0.25, 0.5, 1])
    panel.minorticks_off()
    panel.set_title("log likelihood below its maximum")
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=331, least=60, most=400, meaning="patients to learn from",
        output="gaussian_process.png",
    )  # fmt: skip
    x, y, new, truth = patients(args.n)
    checks = Checks("scikit-learn's GaussianProcessRegressor with the same kernel")

    # The same hyperparameters, away from the maximum: L, its gradient, and the predictions.
    theirs = of_scikit_learn(x, y)
    theta = theirs.kernel_.theta
    (value, gradient), seconds = timed(lambda: likelihood(theta, x, y))
    _, scipys = timed(lambda: likelihood(theta, x, y, scipy.linalg))
    expected, slope = theirs.log_marginal_likelihood(theta, eval_gradient=True)
    checks.add("log likelihood", value, expected, abs(value / expected - 1), 1e-10, seconds)
    for name, mine, other in zip(["s", "l", "v"], gradient, slope, strict=True):
        checks.add(f"its derivative by log {name}", mine, other, abs(mine / other - 1), 1e-10)
    means, deviations = theirs.predict(new, return_std=True)
    mean, deviation = predict(theta, x, y, new)
    for name, mine, other in [("mean", mean, means), ("deviation", deviation, deviations)]:
        distance = np.abs(mine - other).max() / np.abs(other).max()
        checks.add(f"predicted {name}, first patient", mine[0], other[0], distance, 1e-10)

    # The maximum, found by either.
    theta, best = maximise(x, y)
    reference = of_scikit_learn(x, y, seed=0).log_marginal_likelihood_value_
    short = max(0.0, (reference - best) / abs(reference))
    checks.add("largest log likelihood", best, reference, short, 1e-8)

    mean, deviation = predict(theta, x, y, new)
    s, l, v = np.exp(theta)
    print(f"Maximum at s = {s:.4g}, l = {l:.4g}, v = {v:.4g}")
    print(f"{len(truth)} unseen patients: {np.mean((truth - mean) ** 2):.3f} mean squared error,")
    inside = np.mean(np.abs(truth - mean) <= 2 * deviation)
    print(f"{inside:.0%} of the truth within two standard deviations")
    print(f"One likelihood with its gradient: {seconds:.4f} s; with scipy.linalg {scipys:.4f} s")
    if not args.no_plot:
        draw(args, theta, x, y, truth, mean, deviation)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
