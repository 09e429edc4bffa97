"""Poisson's equation on a bent cube, by finite elements of degree 1 to 6 without a matrix.

The problem -Δu = f with u given on the boundary has a solution that is known beforehand, a
product of sines.  The domain is the image of the unit cube under

    (x, y, z) -> (x + s sin(πy), y + s sin(πz), z + s sin(πx)),       s = 0.12,

whose faces are all curved.  Elements are isoparametric: the mapping too is interpolated in their
nodes.  As the cells of the mesh shrink, h -> 0, the error of elements of degree p goes to zero like

    |u - u_h|_1 = O(h^p)  in the energy norm,       ||u - u_h||_0 = O(h^(p+1))  in L2  [1].

Both are measured by p + 4 Gauss points in each dimension on three meshes for each p, and the order
is that of the two finest.  The systems are solved by conjugate gradients in single precision, with
the solution and its residual in double precision; one is solved by SciPy's as well.

[1] P. G. Ciarlet, The Finite Element Method for Elliptic Problems, 1978, chapters 3 and 4.

    python examples/07_poisson.py
"""

import sys

import numpy as np
import scipy.sparse.linalg
from _common import BLUE, GREEN, GREY, ORANGE, VERMILION, Checks, new_figure, options, save, timed

import mplinalg.fem

BEND = 0.12
WAVES, PHASES = (2.0, 1.5, 2.5), (0.3, 0.6, 0.1)
COLOURS = [BLUE, ORANGE, GREEN, VERMILION, GREY, "black"]
NORMS = {"energy norm": 0, "L2": 1}
"""By how much the order exceeds p."""
SOURCE = "theory, O(h^p) in the energy norm and O(h^(p+1)) in L2 (Ciarlet), and SciPy's cg"
TOL = 1e-12


def bent_cube(x, y, z):
    """The mapping of the unit cube."""
    return tuple(a + BEND * np.sin(np.pi * b) for a, b in ((x, y), (y, z), (z, x)))


def angles(*x):
    return [w * xk + t for w, t, xk in zip(WAVES, PHASES, x, strict=True)]


def exact(*x):
    """The solution."""
    return np.prod([np.sin(angle) for angle in angles(*x)], axis=0)


def exact_gradient(*x):
    """Its gradient, the components first."""
    sines = [np.sin(angle) for angle in angles(*x)]
    slopes = [w * np.cos(angle) for w, angle in zip(WAVES, angles(*x), strict=True)]
    parts = [[slopes[k] if k == d else sines[k] for k in range(3)] for d in range(3)]
    return np.array([np.prod(part, axis=0) for part in parts])


def load(*x):
    """-Δu."""
    return sum(w * w for w in WAVES) * exact(*x)


def system(mesh, p):
    """Basis, operator and right-hand side of the discrete problem."""
    basis = mplinalg.fem.TensorBasis.lagrange(dim=3, p=p, q=p + 2)
    operator = mplinalg.fem.DiffusionOperator(mesh, basis, dirichlet="boundary")
    b = mplinalg.fem.load_vector(mesh, basis, load)
    return basis, operator, operator.right_hand_side(b, exact(*mesh.coordinates(basis)))


def errors(mesh, p, u):
    """Energy norm and L2 norm of the error, by p + 4 Gauss points in each dimension."""
    basis = mplinalg.fem.TensorBasis.lagrange(dim=3, p=p, q=p + 4)
    local = mesh.gather(u, basis)
    squares = np.zeros(2)
    for some in np.array_split(np.arange(mesh.nelem), 1 + mesh.nelem // 2048):
        geometry = mesh.geometry(basis, some)
        points = np.moveaxis(geometry.points, 1, 0)
        value = basis.interp(local[some])[:, 0] - exact(*points)
        slope = geometry.gradient(basis.grad(local[some]))[:, 0].swapaxes(0, 1)
        slope = slope - exact_gradient(*points)
        squares += [(geometry.weights * s).sum() for s in ((slope**2).sum(axis=0), value**2)]
    return np.sqrt(squares)


def finest(n, p):
    """Cells along an edge, for about n nodes: a multiple of 4."""
    return 4 * max(2, round(n / (4 * p)))


def study(n, p):
    """Cells along an edge, errors, shape (3, 2), and steps of the iteration, of three meshes."""
    cells, found, steps = [finest(n, p) // k for k in (4, 2, 1)], [], []
    for m in cells:
        mesh = mplinalg.fem.StructuredMesh(3, m, mapping=bent_cube)
        _, operator, b = system(mesh, p)
        u, report = mplinalg.fem.solve(operator, b, tol=TOL, precision="fp32", full_output=True)
        found.append(errors(mesh, p, u))
        steps.append(report.inner_iterations)
    return cells, np.array(found), steps


def compare(n, checks):
    """One system in single and in double precision, and by SciPy."""
    p = 3
    _, operator, b = system(mplinalg.fem.StructuredMesh(3, finest(n, p), mapping=bent_cube), p)
    inverse = 1 / operator.diagonal()
    jacobi = scipy.sparse.linalg.LinearOperator(operator.shape, lambda r: inverse * r)
    linear = operator.as_linear_operator()
    u, seconds = timed(lambda: mplinalg.fem.solve(operator, b, tol=TOL, precision="fp32"))
    _, double = timed(lambda: mplinalg.fem.solve(operator, b, tol=TOL, precision="fp64"))
    expected, peer = timed(lambda: scipy.sparse.linalg.cg(linear, b, rtol=TOL, M=jacobi)[0])
    print(f"\nDegree {p}, {len(b)} unknowns: mplinalg.fem.solve in fp32 {seconds:.3f} s, in fp64")
    print(f"{double:.3f} s; scipy.sparse.linalg.cg with the same operator {peer:.3f} s")
    difference = np.linalg.norm(u - expected) / np.linalg.norm(expected)
    checks.add(f"p = {p}: solution against SciPy's", None, None, difference, 1e-9, seconds)


def draw(args, results):
    figure, axes = new_figure([["energy norm", "L2", "slice"]], (10, 3.6))
    for name, more in NORMS.items():
        ax = axes[name]
        for p, (cells, found, _) in results.items():
            h, colour = 1 / np.array(cells), COLOURS[p - 1]
            ax.loglog(h, found[:, more], "o-", color=colour, ms=4, label=f"p = {p}")
            ax.loglog(h, found[-1, more] * (h / h[-1]) ** (p + more), ":", color=colour)
        ax.minorticks_off()
        ticks = [2**k for k in range(1, 8) if 2**k <= finest(args.n, 1)]
        ax.set_xticks([1 / k for k in ticks], labels=[f"1/{k}" for k in ticks])
        ax.set(xlabel="h", title=f"error, {name}; theory dotted")
    axes["L2"].legend(fontsize="x-small")

    p, m = 3, finest(args.n, 3)
    mesh = mplinalg.fem.StructuredMesh(3, m, mapping=bent_cube)
    basis, operator, b = system(mesh, p)
    half = (3, *mesh.node_shape(basis))
    u = mplinalg.fem.solve(operator, b).reshape(half[1:])[m * p // 2]
    x, y, _ = mesh.coordinates(basis).reshape(half)[:, m * p // 2]
    ax = axes["slice"]
    shown = ax.pcolormesh(x, y, u, shading="gouraud", cmap="viridis")
    for lines in (x[::p].T, y[::p].T), (x[:, ::p], y[:, ::p]):
        ax.plot(*lines, color="white", lw=0.4)
    ax.set(title="u where z = 1/2 was", xlabel="x", ylabel="y", aspect="equal")
    figure.colorbar(shown, ax=ax)
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=48, least=8, most=128, meaning="nodes along an edge of the cube, about",
        output="poisson.png", flags={"--quick": "degrees 1 to 3 only"},
    )  # fmt: skip
    checks = Checks(SOURCE)
    results = {}
    print("  p  cells  unknowns  steps   energy norm  order          L2  order")
    for p in range(1, 4 if args.quick else 7):
        cells, found, steps = results[p] = study(args.n, p)
        orders = np.log2(found[:-1] / found[1:])
        for k, m in enumerate(cells):
            energy, l2 = ["-", "-"] if k == 0 else [f"{order:.2f}" for order in orders[k - 1]]
            print(
                f"{p:>3}{m:>7}{(m * p + 1) ** 3:>10}{steps[k]:>7}"
                f"{found[k, 0]:>14.2e}{energy:>7}{found[k, 1]:>12.2e}{l2:>7}"
            )
        for name, more in NORMS.items():
            order = orders[-1, more]
            checks.add(f"p = {p}: order, {name}", order, p + more, abs(order - p - more), 0.2)
    compare(args.n, checks)
    if not args.no_plot:
        draw(args, results)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
