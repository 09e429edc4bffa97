"""Capacitance of a square plate and of a sphere by boundary elements.

A conductor at the potential 1 carries the charge density sigma that solves, in units of
4 pi eps0, an integral equation of the first kind on its surface S:

    int_S sigma(y) / |x - y| dS(y) = 1   for x on S,       C = int_S sigma dS.

Plate: Galerkin's method with constants on m by m rectangles.  With F_xxyy = 1 / sqrt(x^2 + y^2)
each entry, a fourfold integral, is F differenced over the four corners in x and the four in y.
The matrix inherits from 1 / |x - y| that it is symmetric positive definite: assume_a="pos",
half of the work of LU.  By Thomson's principle the C of Galerkin's method is too small.
The charge grows like d^-1/2 near an edge, so the error is only O(1/m); nodes graded by the
power 2 towards the edges make it O(1/m^2).  No formula for C is known; computations agree on
C = 0.36679 for the unit square [1].

Sphere: collocation at the centroids of N flat triangles, with the potential of a triangle
in closed form [2].  That matrix is not symmetric, so LU it is.  C = 1 exactly; the error is that
of the flat panels, O(1/N).

[1] F. H. Read, Journal of Computational Physics 133 (1997) 1-5.
[2] D. R. Wilton et al., IEEE Transactions on Antennas and Propagation 32 (1984) 276-281.

    python examples/03_capacitance.py
"""

import sys
from functools import partial

import numpy as np
import scipy.linalg
from _common import BLUE, GREEN, VERMILION, Checks, new_figure, options, save, timed
from _panels import octahedral_sphere, potentials

import mplinalg

PLATE, HALF_DIGIT = 0.36679, 5e-6
SOURCE = "Read's C of the plate (1997), C = 1 of the sphere, and scipy.linalg.solve"


def nodes(m, power):
    """m + 1 nodes on [0, 1], graded towards both ends."""
    t = np.linspace(-1, 1, m + 1)
    return 0.5 + 0.5 * np.sign(t) * (1 - (1 - np.abs(t)) ** power)


def plate(m, power):
    """Galerkin's matrix on a grid of m by m rectangles, right-hand side, and areas, its equal."""
    x = nodes(m, power)
    d = np.abs(np.subtract.outer(x, x))
    p, q = d[:, :, None, None], d[None, None]  # |x_i - x_k|, |y_j - y_l|
    quotient = np.divide(q, p, out=np.zeros(np.broadcast(p, q).shape), where=p > 0)
    inverse = np.divide(p, q, out=np.zeros_like(quotient), where=q > 0)
    f = p * q / 2 * (p * np.arcsinh(quotient) + q * np.arcsinh(inverse)) - np.hypot(p, q) ** 3 / 6
    for axis in range(4):
        f = np.diff(f, axis=axis)
    areas = np.outer(np.diff(x), np.diff(x)).ravel()
    return f.transpose(0, 2, 1, 3).reshape(m * m, m * m), areas, areas


def sphere(k):
    """The collocation matrix of 8 k^2 triangles, its right-hand side, and their areas."""
    triangles = octahedral_sphere(k)
    blocks = np.split(triangles.mean(axis=1), range(256, len(triangles), 256))  # to save memory
    rows = [potentials(triangles, block) for block in blocks]
    return np.concatenate([a for a, _ in rows]), np.ones(len(triangles)), rows[0][1]


def sequence(name, sizes, problem, assume):
    """C for each size, and of the largest the density and SciPy's C.

    The precision is that of the report of another call, which takes longer than the one timed.
    """
    print(f"\n{name:<14}{'unknowns':>9}{'C':>13}{'precision':>11}{'seconds':>9}{'SciPy':>9}")
    found = []
    for size in sizes:
        a, b, areas = problem(size)
        density, seconds = timed(partial(mplinalg.solve, a, b, assume_a=assume))
        other, scipys = timed(partial(scipy.linalg.solve, a, b, assume_a=assume))
        _, report = mplinalg.solve(a, b, assume_a=assume, full_output=True)
        found.append(areas @ density)
        print(
            f"{'':<14}{len(a):>9}{found[-1]:>13.9f}{report.precision:>11}"
            f"{seconds:>9.4f}{scipys:>9.4f}"
        )
    return np.array(found), density, areas @ other


def order(found, exact=None):
    """p, if an error c h^p falls as h is halved; with the last step for the error if unknown."""
    steps = np.diff(found) if exact is None else exact - found
    return np.log2(steps[-2] / steps[-1])


def extrapolated(found, p):
    """Richardson: the last two C combined so that an error c h^p drops out."""
    return found[-1] + (found[-1] - found[-2]) / (2**p - 1)


def draw(args, density, m, errors):
    figure, axes = new_figure([["charge", "error"]], size=(9, 4.1))
    x, panel = nodes(m, 2), axes["charge"]
    picture = panel.pcolormesh(x, x, density.reshape(m, m).T, cmap="cividis", norm="log")
    first = x[1] / 2
    panel.set(xscale="log", yscale="log", xlim=(first, 0.5), ylim=(first, 0.5), aspect="equal")
    panel.set(xlabel="x / side", ylabel="y / side", title="charge density near a corner")
    figure.colorbar(picture, label="σ · side / (4π ε₀)")
    panel = axes["error"]
    styles = zip(errors.items(), [VERMILION, BLUE, GREEN], "os^", strict=True)
    for (name, (unknowns, error, p)), colour, marker in styles:
        root = np.sqrt(unknowns)
        panel.loglog(root, error, marker, color=colour, label=f"{name}, order {p}")
        panel.loglog(root, error[-1] * (root[-1] / root) ** p, "--", color=colour, lw=0.9)
    panel.set(xlabel="square root of the number of unknowns", ylabel="relative error of C")
    panel.set_title("dashed: the expected order")
    ticks = [m // 8, m // 4, m // 2, m]
    panel.set_xticks(ticks, ticks)
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=2304, least=256, most=5000, meaning="unknowns, about, of the finest mesh",
        output="capacitance.png",
    )  # fmt: skip
    m, k = (8 * max(1, round(np.sqrt(args.n / per) / 8)) for per in (1, 8))
    sizes = [m // 8, m // 4, m // 2, m]
    even, _, _ = sequence("even plate", sizes, partial(plate, power=1), "pos")
    graded, density, scipys = sequence("graded plate", sizes, partial(plate, power=2), "pos")
    ball, _, _ = sequence("sphere", [k // 8, k // 4, k // 2, k], sphere, "gen")

    print("\nprecision: by the report of another call, which is not timed")
    checks, best = Checks(SOURCE), extrapolated(graded, 2)
    for name, p, rate in [
        ("even plate", 1, order(even)),
        ("graded plate", 2, order(graded)),
        ("sphere", 2, order(ball, exact=1.0)),
    ]:
        checks.add(f"{name}: order", rate, p, abs(rate - p), 0.25)
    # Extrapolation removes the leading error: of the last step, a tenth may remain.
    allowed = HALF_DIGIT + (graded[-1] - graded[-2]) / 10
    checks.add("plate: C, extrapolated", best, PLATE, abs(best - PLATE), allowed)
    above = max(0.0, graded[-1] - PLATE)
    checks.add("plate: C, by which it is too large", graded[-1], PLATE, above, HALF_DIGIT)
    # sigma and A are positive, so C changes by no more than the largest relative change of an
    # entry: whatever the condition number, two stable solvers agree to about n roundoffs.
    roundoff = m * m * 2.0**-53
    checks.add(
        "plate: C against SciPy's", graded[-1], scipys, abs(graded[-1] / scipys - 1), roundoff
    )
    best = extrapolated(ball, 2)
    checks.add("sphere: C, extrapolated", best, 1.0, abs(best - 1), (1 - ball[-1]) / 10)
    if not args.no_plot:
        unknowns = np.array(sizes) ** 2
        draw(args, density, m, {
            "plate, even mesh": (unknowns, 1 - even / PLATE, 1),
            "plate, graded mesh": (unknowns, 1 - graded / PLATE, 2),
            "sphere": (8 * (k // np.array([8, 4, 2, 1])) ** 2, 1 - ball, 2),
        })  # fmt: skip
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
