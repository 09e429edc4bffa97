"""Hilbert's matrix: how many digits survive, and how to keep all of them.

Approximating a function on [0, 1] by 1, t, ..., t^(n-1) leads to Hilbert's matrix H,
h_ij = 1 / (i + j + 1), i, j = 0, ..., n - 1.  Its condition number kappa grows like
(1 + sqrt 2)^4n / sqrt n [1], and any solver in double precision, u = 2^-53, loses about log10 kappa
of the 16 digits of x:

    |computed x - x| / |x|  ~  kappa u.

`mplinalg.solve(..., residual="extended")` refines with residuals in twice the working precision,
and the digits come back, |computed x - x| / |x| ~ u, as long as kappa u < 1 [2].  Beyond that
nothing is certain, and the solver must say so.

A rounded H is another matrix, whose solution differs by kappa u as well: the question would have
the error that the answer is to be free of.  So solve lcm(1, ..., 2n - 1) H x = b: for n <= 16 all
its entries are integers below 2^53, exact in floating point, and so are those of b.  The exact x
is rational: the inverse of H is known [3], and A x = b is verified without rounding.

[1] H. S. Wilf, Finite Sections of Some Classical Inequalities, Springer 1970.
[2] J. Demmel et al., ACM Transactions on Mathematical Software 32 (2006) 325-351.
[3] M.-D. Choi, American Mathematical Monthly 90 (1983) 301-312.

    python examples/05_hilbert.py
"""

import sys
import warnings
from fractions import Fraction
from math import comb, lcm

import numpy as np
import scipy.linalg
from _common import BLUE, GREY, ORANGE, VERMILION, Checks, new_figure, options, save, timed

import mplinalg

U = 2.0**-53
SOURCE = "the inverse known from Choi (1983), in rational arithmetic; kappa u and 1 by theory"
SOLVERS = {
    "scipy": scipy.linalg.solve,
    "mplinalg": lambda a, b: mplinalg.solve(a, b),
    "extended": lambda a, b: mplinalg.solve(a, b, residual="extended"),
}


def hilbert_system(n):
    """Integers a, b and the exact x with a x = b, and the condition number of a."""
    scale = lcm(*range(1, 2 * n))
    a = [[scale // (i + j + 1) for j in range(n)] for i in range(n)]
    b = np.random.default_rng(n).integers(-99, 100, n).tolist()
    inverse = [[Fraction(inverse_entry(n, i, j), scale) for j in range(n)] for i in range(n)]
    x = [sum(p * q for p, q in zip(row, b, strict=True)) for row in inverse]
    assert [sum(p * q for p, q in zip(row, x, strict=True)) for row in a] == b
    assert all(int(float(v)) == v for row in a for v in row)
    norms = [max(sum(abs(v) for v in row) for row in m) for m in (a, inverse)]
    return np.array(a, dtype=float), np.array(b, dtype=float), x, float(norms[0] * norms[1])


def inverse_entry(n, i, j):
    """Of the inverse of H, an integer [3]."""
    sign = (-1) ** (i + j)
    return (
        sign * (i + j + 1) * comb(n + i, n - j - 1) * comb(n + j, n - i - 1) * comb(i + j, i) ** 2
    )


def attempt(solver, a, b, exact):
    """Error relative to the largest entry of x, measured exactly; whether it warned; seconds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", scipy.linalg.LinAlgWarning)
        x, seconds = timed(lambda: solver(a, b))
    distance = max(abs(Fraction(v) - e) for v, e in zip(x.tolist(), exact, strict=True))
    return float(distance / max(abs(e) for e in exact)), bool(caught), seconds


def draw(args, kappa, errors, warned):
    figure, axes = new_figure([["plot"]], size=(8, 5))
    panel, digits = axes["plot"], {k: -np.log10(np.maximum(e, U / 4)) for k, e in errors.items()}
    panel.semilogx(kappa, np.clip(-np.log10(kappa * U), 0, 16), "--", color=GREY, label="−log₁₀ κu")
    labels = ["scipy.linalg.solve", "mplinalg.solve", 'mplinalg.solve, residual="extended"']
    styles = zip(SOLVERS, labels, [ORANGE, BLUE, VERMILION], "s^o", strict=True)
    for name, label, colour, marker in styles:
        y = np.maximum(digits[name], 0)
        panel.semilogx(kappa, y, "-", marker=marker, color=colour, label=label)
        panel.semilogx(kappa[warned[name]], y[warned[name]], marker, color="white", mec=colour)
    panel.axvline(1 / U, color=GREY, lw=0.8, ls=":")
    panel.annotate("κu = 1", (1 / U, 13.5), (4, 0), textcoords="offset points", color=GREY)
    panel.set(xlabel="condition number κ", ylabel="correct digits of x", ylim=(-0.5, 17))
    panel.set_title(f"Hilbert's matrix, n = 2, ..., {len(kappa) + 1}; hollow: warned")
    panel.grid(alpha=0.3)
    panel.legend(loc="lower left")
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=15, least=12, most=16, meaning="largest order", output="hilbert.png"
    )
    orders = np.arange(2, args.n + 1)
    systems = [hilbert_system(n) for n in orders.tolist()]
    kappa = np.array([system[3] for system in systems])
    errors, warned, seconds = {}, {}, {}
    for name, solver in SOLVERS.items():
        outcomes = [attempt(solver, *system[:3]) for system in systems]
        errors[name], warned[name], seconds[name] = (
            np.array(v) for v in zip(*outcomes, strict=True)
        )

    print(f"{'n':>3}{'kappa u':>10}" + " ".join(f"{name:>12}" for name in SOLVERS))
    for i, n in enumerate(orders):
        cells = (f"{errors[s][i]:>12.1e}{'!' if warned[s][i] else ' '}" for s in SOLVERS)
        print((f"{n:>3}{kappa[i] * U:>10.1e}" + "".join(cells)).rstrip())
    print("! the solver warned")

    checks, solvable = Checks(SOURCE), kappa * U < 1
    grown = solvable & (orders > 2)
    power = np.polyfit(np.log(kappa[grown]), np.log(errors["scipy"][grown]), 1)[0]
    checks.add("scipy: error ~ kappa^p", power, 1.0, abs(power - 1), 0.15, seconds["scipy"][-1])
    worst = np.max(errors["mplinalg"][solvable] / (kappa * U)[solvable])
    # 1 by first-order perturbation theory; rounding errors add up, by n at the most.
    checks.add("mplinalg: error / kappa u", None, None, worst, args.n, seconds["mplinalg"][-1])
    worst = errors["extended"][solvable].max()
    # x itself is rounded to double precision; allow for that twice.
    checks.add(
        "extended: error while kappa u < 1", worst, 0.0, worst, 2 * U, seconds["extended"][-1]
    )
    for name in ("mplinalg", "extended"):
        wrong = int(np.sum(warned[name] != ~solvable))
        checks.add(f"{name}: warned, of {len(orders)} systems", int(warned[name].sum()),
                   int((~solvable).sum()), wrong, 0)  # fmt: skip
    if not args.no_plot:
        draw(args, kappa, errors, warned)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
