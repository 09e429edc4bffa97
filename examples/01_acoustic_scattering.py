"""Sound scattered by a cylinder, held to the exact wave.

A plane wave exp(ikx) meets a sound-soft cylinder of radius 1, on which the total field vanishes.
Seek the echo as a combined double- and single-layer potential [1]: its density phi solves

    phi + K phi - i eta S phi = -2 exp(ikx)        on the circle,

uniquely for every wavenumber k.  With n nodes on the circle this is a dense complex system, n by
n, and the n^3 of its factorization is nearly all of the work: the case for `mplinalg.solve`,
which factors in complex64 and refines to complex128.  The exact wave is a series of Bessel
functions [2], summed here with SciPy's, so that every error below is a true one.

`--study` lets n grow at k = 20.  Two quadratures for the logarithmic kernel: Kress's [1] splits
the logarithm off and integrates it exactly, and converges faster than any power of n; the
trapezoidal rule with a corrected diagonal [3] has the order 3.

[1] R. Kress, Mathematical and Computer Modelling 15 (1991) 229-243.
[2] D. Colton and R. Kress, Inverse Acoustic and Electromagnetic Scattering Theory, Springer.
[3] A. Sidi and M. Israeli, Journal of Scientific Computing 3 (1988) 201-231.

    python examples/01_acoustic_scattering.py
    python examples/01_acoustic_scattering.py --study
"""

import sys

import numpy as np
import scipy.linalg
from _common import BLUE, GREY, VERMILION, Checks, new_figure, options, save, timed
from scipy.special import hankel1, jv

import mplinalg
from mplinalg.bench.picture import total_field
from mplinalg.testing import boundary_elements as be

STUDY_WAVENUMBER = 20.0
ANGLES = np.linspace(0, 2 * np.pi, 361)
SOURCE = "the series of Bessel functions of Colton and Kress, with SciPy's functions"


def exact_fields(k, r, angles):
    """Echo at radius `r`, and its far field: -sum_m i^m J_m(k) / H_m(k) H_m(kr) exp(im angle)."""
    m = np.arange(int(k + 10 * np.cbrt(k)) + 12)  # and -m, with the same coefficient
    terms = np.where(m > 0, -2, -1) * jv(m, k) / hankel1(m, k) * np.cos(np.outer(angles, m))
    near = terms @ (np.array([1, 1j, -1, -1j])[m % 4] * hankel1(m, k * r))
    # (-i)^m sqrt(2 / (pi z)) exp(i (z - pi / 4)) is H_m(z) for large z.
    return near, np.sqrt(2 / (np.pi * k)) * np.exp(-0.25j * np.pi) * terms.sum(axis=1)


def fields(density, k):
    """Near field, on the circle of radius 2, and far field: {name: (computed, exact)}."""
    boundary = be.circle(len(density))
    ring = 2 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    near, far = exact_fields(k, 2.0, ANGLES)
    return {
        "near field": (be.scattered_field(density, boundary, k, ring), near),
        "far field": (be.far_field(density, boundary, k, ANGLES), far),
    }


def distance(computed, exact):
    return np.abs(computed - exact).max() / np.abs(exact).max()


def corrected_trapezoidal_matrix(n, k):
    """The same equation on the unit circle; every integral is h times a sum over the nodes.

    At the pole of log|t| the value log(h / 2 pi) stands in for it: the error is then O(h^3).
    """
    eta, h = be.default_coupling(k), 2 * np.pi / n
    t = h * np.arange(1, n)
    r = 2 * np.sin(t / 2)
    column = np.empty(n, dtype=complex)
    double = 0.5j * k * (np.cos(t) - 1) / r * hankel1(1, k * r)
    column[1:] = h * (double + 0.5 * eta * hankel1(0, k * r))
    pole = 1 + 2j / np.pi * (np.log(k / 2 * h / (2 * np.pi)) + np.euler_gamma)
    column[0] = 1 + h * (0.5 * eta * pole - 1 / (2 * np.pi))
    return scipy.linalg.circulant(column)


def scatter(args, checks):
    """One system, resolved to roundoff."""
    n, k = args.n, args.n / 24
    print(f"Cylinder of {k / np.pi:.1f} wavelengths in diameter, {n} unknowns")
    boundary = be.circle(n)
    a, b = be.combined_field_matrix(boundary, k), be.plane_wave_rhs(boundary, k)
    density, seconds = timed(lambda: mplinalg.solve(a, b))
    _, scipys = timed(lambda: scipy.linalg.solve(a, b))
    print(f"mplinalg.solve: {seconds:.3f} s; scipy.linalg.solve: {scipys:.3f} s")
    _, report = mplinalg.solve(a, b, full_output=True)  # which takes longer
    print(f"The report, of another call: {report.precision}, {report.iterations} steps")
    # A phase k r carries k r roundoffs: allow for that, and for nothing else.
    allowed = 1e-14 * (10 + k)
    for name, (wave, exact) in fields(density, k).items():
        largest = [np.abs(w).max() for w in (wave, exact)]
        checks.add(f"{name}, largest value", *largest, distance(wave, exact), allowed, seconds)
    if not args.no_plot:
        figure, axes = new_figure([["field"]], size=(7.2, 5.8))
        field = np.abs(total_field(density, k, pixels=440))
        picture = axes["field"].imshow(field, extent=(-2.5, 2.5) * 2, cmap="cividis", vmin=0)
        axes["field"].set(xlabel="x / radius", ylabel="y / radius")
        axes["field"].set_title(f"Plane wave from the left, ka = {k:.4g}, {n} unknowns")
        figure.colorbar(picture, label="|total field| / |incident wave|")
        save(figure, args)


def study(args, checks):
    """The error as n grows, for both quadratures."""
    k = STUDY_WAVENUMBER
    rules = {
        "Kress": (range(40, 132, 4), lambda n: be.combined_field_matrix(be.circle(n), k)),
        "trapezoidal": (
            [n for n in (80, 120, 160, 240, 320, 480, 640, 960, 1280) if n <= args.n],
            lambda n: corrected_trapezoidal_matrix(n, k),
        ),
    }
    found = {}
    for name, (sizes, matrix) in rules.items():
        found[name] = []
        print(f"\n{name:<12}{'n':>6}{'far field error':>18}{'order':>8}")
        for i, n in enumerate(sizes):
            density = mplinalg.solve(matrix(n), be.plane_wave_rhs(be.circle(n), k))
            found[name].append(distance(*fields(density, k)["far field"]))
            order = f"{slope(sizes[i - 1 : i + 1], found[name][-2:]):8.2f}" if i else ""
            print(f"{'':<12}{n:>6}{found[name][-1]:>18.1e}{order}")

    sizes, error = np.array(rules["Kress"][0]), np.array(found["Kress"])
    falling = (error < 1e-2) & (error > 1e-12)  # from where n resolves the wave to roundoff
    halves = np.array_split(np.flatnonzero(falling), 2)
    first, second = (slope(sizes[half], error[half]) for half in halves)
    print(f"\nKress: order {first:.0f}, then {second:.0f}: no power of n, as expected")
    rate = np.polyfit(sizes[falling], np.log10(error[falling]), 1)[0]
    print(f"Kress: {-rate:.2f} digits more with every node")
    checks.add("Kress: growth of the order, from / to", first, second, first / second, 1.0)
    checks.add("Kress: error on the finest grid", None, 0.0, error[-1], 1e-14 * (10 + k))
    order = slope(rules["trapezoidal"][0][-3:], found["trapezoidal"][-3:])
    checks.add("trapezoidal: order", order, 3.0, abs(order - 3), 0.1)
    if not args.no_plot:
        figure, axes = new_figure([["plot"]], size=(8, 5))
        for (name, y), style in zip(found.items(), ["o-", "s-"], strict=True):
            colour = BLUE if name == "Kress" else VERMILION
            axes["plot"].loglog(rules[name][0], y, style, color=colour, label=f"{name} quadrature")
        n = np.array([120, rules["trapezoidal"][0][-1]])
        axes["plot"].loglog(n, 0.2 * (80 / n) ** 3, "--", color=GREY, label="order 3")
        axes["plot"].axvline(4 * k, color=GREY, lw=0.8, ls=":")
        axes["plot"].annotate("four nodes per wavelength", (4 * k, 1e-14), (-14, 0), rotation=90,
                              textcoords="offset points", color=GREY)  # fmt: skip
        axes["plot"].set(xlabel="unknowns n", ylabel="error of the far field / largest value")
        axes["plot"].set_xticks([40, 80, 160, 320, 640, 1280], [40, 80, 160, 320, 640, 1280])
        axes["plot"].minorticks_off()
        axes["plot"].set_title(f"A plane wave on a cylinder, ka = {k:g}")
        axes["plot"].grid(alpha=0.3)
        axes["plot"].legend()
        save(figure, args)


def slope(sizes, error):
    """The order p of an error c n^-p, fitted."""
    return -np.polyfit(np.log(sizes), np.log(error), 1)[0]


def main(argv=None):
    args = options(
        __doc__, argv, n=1440, least=160, most=8000, meaning="unknowns, at most, of a system",
        output="acoustic_scattering.png", flags={"--study": "how the error falls as n grows"},
    )  # fmt: skip
    if args.study and args.n < 320:
        sys.exit(f"--study needs --n of at least 320, got {args.n}")
    checks = Checks(SOURCE)
    (study if args.study else scatter)(args, checks)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
