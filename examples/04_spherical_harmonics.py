"""Least squares with a known answer: the potential of a buried charge, and a polynomial.

The potential 1/|x - y| of a charge at y, |y| = rho < 1, is measured at m points scattered over the
unit sphere, and its expansion into real spherical harmonics of degree at most L is wanted:

    min_c sum_i (1/|x_i - y| - sum_lm c_lm Y_lm(x_i))^2,      n = (L + 1)^2 unknowns, m = 4 n.

This is how models of the Earth's gravity and magnetism are fitted to data.  Here the answer is
known: 1/|x - y| = sum_l rho^l P_l(cos gamma), and by the addition theorem [1]

    c_lm = 4 pi / (2 l + 1) rho^l Y_lm(y / rho).

rho^(L + 1) is put at 1e-17, so that what the fit cannot represent is below roundoff.  The matrix is
well conditioned, and the m n^2 work of a factorization is what a fit costs: `mplinalg.lstsq` takes
it in single precision and refines.

The twin is the same problem made as ill conditioned as one likes: monomials on [0, 1].  There the
reference is the exact solution, in rational arithmetic, of the system as it stands in floating
point.  That limits the size to where `lstsq` would hand the problem to SciPy and err as SciPy does:
its own road begins at m n^2 = 5e6 max(1, 64 / n).  Naming a refinement keeps the problem on it.
No solver can be expected to come closer to it than the condition number kappa allows, to

    u (kappa + kappa^2 |r| / (|A| |x|))        for the residual r and the unit roundoff u [2, 3].

[1] NIST Digital Library of Mathematical Functions, 14.30.9.
[2] P.-A. Wedin, BIT 13 (1973) 217-232.
[3] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, chapter 20.

    python examples/04_spherical_harmonics.py
"""

import sys
from fractions import Fraction

import numpy as np
import scipy.linalg
from _common import BLUE, GREY, ORANGE, Checks, new_figure, options, save, timed
from scipy.special import sph_harm_y_all

import mplinalg

U = 2.0**-53
CHARGE = np.array([0.48, 0.6, 0.64])  # the direction of y
ORDERS = range(4, 15)  # of the polynomial fits
SOURCE = "the addition theorem (NIST, 14.30.9); monomials: rational arithmetic"


def harmonics(degree, points):
    """Real orthonormal Y_lm at points (m, 3) of the unit sphere: (m, (degree + 1)^2)."""
    theta, phi = np.arccos(points[:, 2]), np.arctan2(points[:, 1], points[:, 0])
    y = sph_harm_y_all(degree, degree, theta, phi)  # (l, order, point), complex
    columns = []
    for l in range(degree + 1):
        columns += [np.sqrt(2) * y[l, k].imag for k in range(l, 0, -1)] + [y[l, 0].real]
        columns += [np.sqrt(2) * y[l, k].real for k in range(1, l + 1)]
    return np.stack(columns, axis=1)


def buried_charge(degree):
    """The points, the matrix, the data, and the coefficients that are expected."""
    points = np.random.default_rng(0).standard_normal((4 * (degree + 1) ** 2, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]
    rho = 1e-17 ** (1 / (degree + 1))
    l = degrees(degree)
    expected = 4 * np.pi / (2 * l + 1) * rho**l * harmonics(degree, CHARGE[None])[0]
    data = 1 / np.linalg.norm(points - rho * CHARGE, axis=1)
    return points, harmonics(degree, points), data, expected


def degrees(degree):
    """The degree l of each unknown."""
    return np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1)


def exact_least_squares(a, b):
    """min |b - a x| for the floating-point numbers in a and b, by the normal equations, exactly."""
    rows = [[Fraction(v) for v in row] for row in np.column_stack([a, b]).tolist()]
    n = a.shape[1]
    g = [[sum(row[i] * row[j] for row in rows) for j in range(n + 1)] for i in range(n)]
    for k in range(n):  # Gauss and Jordan; a positive definite matrix needs no pivoting
        g[k] = [v / g[k][k] for v in g[k]]
        for i in set(range(n)) - {k}:
            g[i] = [v - g[i][k] * w for v, w in zip(g[i], g[k], strict=True)]
    return [row[n] for row in g]


def polynomial_fits(checks):
    """Fit exp(t) + cos(40 t) / 100 by polynomials; kappa, errors of both solvers, the limit."""
    found = []
    print(f"\nmonomials{'kappa':>12}{'mplinalg':>12}{'SciPy':>12}{'limit':>12}")
    for n in ORDERS:
        t = np.linspace(0, 1, 4 * n)
        a, b = np.vander(t, n, increasing=True), np.exp(t) + np.cos(40 * t) / 100
        exact = exact_least_squares(a, b)
        largest = max(abs(v) for v in exact)
        # So small a problem would be handed to SciPy, but for the named refinement.
        solutions = [mplinalg.lstsq(a, b, refine="classical").x, scipy.linalg.lstsq(a, b)[0]]
        errors = [
            float(
                max(abs(Fraction(v) - e) for v, e in zip(x.tolist(), exact, strict=True)) / largest
            )
            for x in solutions
        ]
        x, kappa = np.array(exact, dtype=float), np.linalg.cond(a)
        residual = np.linalg.norm(b - a @ x) / (np.linalg.norm(a, 2) * np.linalg.norm(x))
        found.append((kappa, *errors, U * (kappa + kappa**2 * residual)))
        print(f"{n:>9}" + "".join(f"{v:>12.1e}" for v in found[-1]))
    kappa, ours, scipys, limit = np.array(found).T
    for name, errors in [("mplinalg", ours), ("SciPy", scipys)]:
        worst = np.argmax(errors / limit)
        # sqrt(m n): roundoffs of that many operations add up like a random walk.
        allowed = 2 * ORDERS[worst] * limit[worst]  # m = 4 n
        checks.add(
            f"monomials, worst at {ORDERS[worst]}, {name}", None, None, errors[worst], allowed
        )
    return kappa, ours, scipys, limit


def draw(args, points, data, l, expected, errors, fits):
    mosaic, special = [["map", "degrees"], ["map", "fits"]], {"map": {"projection": "mollweide"}}
    figure, axes = new_figure(mosaic, (9.6, 5), per_subplot_kw=special, width_ratios=[1.15, 1])
    panel = axes["map"]
    longitude, latitude = np.arctan2(points[:, 1], points[:, 0]), np.arcsin(points[:, 2])
    dots = panel.scatter(longitude, latitude, c=data, s=5, cmap="cividis")
    panel.set(xticks=[], yticks=[], title=f"potential at {len(points)} points of the sphere")
    bar = {"orientation": "horizontal", "shrink": 0.8, "aspect": 30, "pad": 0.03}
    figure.colorbar(dots, ax=panel, label="potential / (charge / radius)", **bar)

    panel, each = axes["degrees"], np.arange(l[-1] + 1)
    for name, values, style in [
        ("known coefficients", expected, {"color": GREY, "ls": "--"}),
        ("error of SciPy", errors["SciPy"], {"color": ORANGE, "marker": "s", "ms": 3}),
        ("error of mplinalg", errors["mplinalg"], {"color": BLUE, "marker": "o", "ms": 3}),
    ]:
        norms = np.array([np.linalg.norm(values[l == j]) for j in each])
        panel.semilogy(each, np.maximum(norms, U / 10), label=name, **style)  # 0 has no logarithm
    panel.set(xlabel="degree l", ylabel="norm over the orders")
    panel.set_title("harmonics")
    panel.legend(fontsize="small")

    panel, (kappa, ours, scipys, limit) = axes["fits"], fits
    panel.loglog(kappa, limit, "--", color=GREY, label="Wedin's limit")
    panel.loglog(kappa, scipys, "s-", color=ORANGE, ms=3, label="error of SciPy")
    panel.loglog(kappa, ours, "o-", color=BLUE, ms=3, label="error of mplinalg")
    panel.set(xlabel="condition number κ", ylabel="relative error")
    panel.set_title("monomials on [0, 1]")
    panel.legend(fontsize="small")
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=1024, least=16, most=2500, meaning="coefficients, rounded to a square",
        output="spherical_harmonics.png",
    )  # fmt: skip
    degree = round(np.sqrt(args.n)) - 1
    points, a, data, expected = buried_charge(degree)
    x, seconds = timed(lambda: mplinalg.lstsq(a, data).x)
    other, scipys = timed(lambda: scipy.linalg.lstsq(a, data)[0])
    print(f"Degree {degree}: {a.shape[0]} measurements, {a.shape[1]} coefficients")
    print(f"mplinalg.lstsq: {seconds:.4f} s; scipy.linalg.lstsq: {scipys:.4f} s")
    report = mplinalg.lstsq(a, data, full_output=True).report  # which takes longer
    print(f"The report, of another call: {report.precision}, {report.iterations} steps")

    checks, singular = Checks(SOURCE), scipy.linalg.svdvals(a)
    # Data, matrix and solution carry some roundoffs each, which the fit magnifies by at most kappa;
    # sines and harmonics of degree l carry l of them.
    allowed = (degree + 10) * U * singular[0] / singular[-1]
    errors = {"mplinalg": x - expected, "SciPy": other - expected}
    for (name, error), s in zip(errors.items(), [seconds, scipys], strict=True):
        relative = np.linalg.norm(error) / np.linalg.norm(expected)
        first = {"mplinalg": x, "SciPy": other}[name][0]
        checks.add(f"coefficients, c_00, {name}", first, expected[0], relative, allowed, s)
    fits = polynomial_fits(checks)
    if not args.no_plot:
        draw(args, points, data, degrees(degree), expected, errors, fits)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
