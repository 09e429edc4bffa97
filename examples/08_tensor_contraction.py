"""Products of Legendre series: the contraction C[i, j, l] = sum_k A[k, i] B[k, j, l], three ways.

Spectral methods and polynomial chaos multiply functions that are given by their coefficients,
f = sum_i f_i P_i, and need the integrals of three Legendre polynomials,

    C_ijl = int_-1^1 P_i P_j P_l dx,        (f g)_l = (2 l + 1) / 2 sum_ij C_ijl f_i g_j.

With Gauss points x_k and weights w_k, enough of them to be exact, they are one contraction of
A[k, i] = w_k P_i(x_k) and B[k, j, l] = P_j(x_k) P_l(x_k):

    C[i, j, l] = sum_k A[k, i] B[k, j, l].

It is computed by numpy.einsum, by `mplinalg.fem.contract`, and by hand as what it is, a product of
matrices: C = A^T B, where the pair (j, l) is one index. The integrals are known: with
s = (i + j + l) / 2 and a_r = (2r)! / (2^r r!^2),

    C_ijl = 2 / (2 s + 1) a_(s-i) a_(s-j) a_(s-l) / a_s

if s is an integer and none of i, j, l is larger than the sum of the others, and zero else [1].

The coefficients of exp(t x) are (2 i + 1) i_i(t), with the modified spherical Bessel functions
i_i [2], and the product of exp(x) and exp(-x) must be 1.

[1] J. C. Adams, Proc. R. Soc. London 27 (1878) 63-71.
[2] NIST Digital Library of Mathematical Functions, 10.60.8 (https://dlmf.nist.gov/10.60).

    python examples/08_tensor_contraction.py
"""

import sys
from fractions import Fraction
from math import comb

import numpy as np
from _common import BLUE, GREEN, ORANGE, Checks, new_figure, options, save, timed
from scipy.special import spherical_in

import mplinalg.fem

U = 2.0**-53
SUBSCRIPTS = "ki,kjl->ijl"
SOURCE = "the integrals known from Adams (1878), in rational arithmetic; exp(x) exp(-x) = 1"


def exact_integrals(n):
    """int P_i P_j P_l for i, j, l < n, each rounded once."""
    a = [Fraction(comb(2 * r, r), 2**r) for r in range(3 * n // 2 + 1)]
    c = np.zeros((n, n, n))
    for i in range(n):
        for j in range(i + 1):
            for l in range(i - j, j + 1, 2):
                s = (i + j + l) // 2
                value = float(a[s - i] * a[s - j] * a[s - l] / a[s] * Fraction(2, 2 * s + 1))
                for place in ((i, j, l), (i, l, j), (j, i, l), (j, l, i), (l, i, j), (l, j, i)):
                    c[place] = value
    return c


def by_hand(a, b):
    """The pair (j, l) is one index of a matrix, and A is transposed: nothing is copied."""
    return (a.T @ b.reshape(len(b), -1)).reshape(a.shape[1], *b.shape[1:])


def exponential(t, n):
    """The first n Legendre coefficients of exp(t x)."""
    i = np.arange(n)
    return (2 * i + 1) * np.sign(t) ** i * spherical_in(i, abs(t))


def draw(args, c, seconds):
    slices = [0, args.n // 4, args.n // 2]
    ratios = {"width_ratios": [1, 1, 1, 1.2]}
    figure, axes = new_figure([[*slices, "times"]], size=(10, 3), gridspec_kw=ratios)
    for l in slices:
        size = np.ma.masked_less(np.abs(c[:, :, l]), 1e-12)  # zeros, but for rounding errors
        image = axes[l].imshow(np.ma.log10(size), vmin=-5, vmax=0.5, cmap="viridis")
        axes[l].set(title=f"log₁₀|C|, l = {l}", xlabel="j", ylabel="i")
    figure.colorbar(image, ax=[axes[l] for l in slices], shrink=0.8)
    bars = axes["times"].bar(list(seconds), [1e3 * s for s in seconds.values()])
    for bar, colour in zip(bars, (ORANGE, BLUE, GREEN), strict=True):
        bar.set_color(colour)
    axes["times"].set(title="one contraction", ylabel="milliseconds")
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=64, least=16, most=256, meaning="polynomials",
        output="tensor_contraction.png",
    )  # fmt: skip
    n = args.n
    rule = mplinalg.fem.TensorBasis.lagrange(dim=1, p=1, q=3 * n // 2)  # exact for degree 3 n - 1
    p = np.ascontiguousarray(np.polynomial.legendre.legvander(rule.points, n - 1))  # P_i(x_k)
    a, b = rule.weights[:, None] * p, p[:, :, None] * p[:, None, :]

    ways = {
        "einsum": lambda: np.einsum(SUBSCRIPTS, a, b),
        "contract": lambda: mplinalg.fem.contract(SUBSCRIPTS, a, b),
        "by hand": lambda: by_hand(a, b),
    }
    results, seconds = {}, {}
    for name, way in ways.items():
        results[name], seconds[name] = timed(way)

    print(mplinalg.fem.contract_path(SUBSCRIPTS, a, b))
    print()
    print(mplinalg.fem.contract_path("k,ki,kj,kl->ijl", rule.weights, p, p, p))

    checks, exact = Checks(SOURCE), exact_integrals(n)
    # Of a sum of q terms, and of four factors; the recurrence of P_i has an error of about i u.
    terms = 10 * (rule.q + n) * U
    allowed = terms * by_hand(np.abs(a), np.abs(b)).max()
    for name, c in results.items():
        error = np.abs(c - exact).max()
        checks.add(f"{name}: largest error of C", None, None, error, allowed, seconds[name])
    for name in ("einsum", "by hand"):
        distance = np.abs(results["contract"] - results[name]).max()
        checks.add(f"contract and {name}: distance", None, None, distance, allowed)
    whole, once = timed(lambda: mplinalg.fem.contract("k,ki,kj,kl->ijl", rule.weights, p, p, p))
    checks.add("of four operands: largest error", None, None, np.abs(whole - exact).max(), allowed,
               once)  # fmt: skip

    f, g = exponential(1.0, n), exponential(-1.0, n)
    product, once = timed(lambda: mplinalg.fem.contract("ijl,i,j->l", results["contract"], f, g))
    product *= (2 * np.arange(n) + 1) / 2
    error = np.abs(product - np.eye(n)[0]).max()
    checks.add("exp(x) exp(-x): coefficient of P_0", product[0], 1.0, error, terms * n, once)
    if not args.no_plot:
        draw(args, results["contract"], seconds)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
