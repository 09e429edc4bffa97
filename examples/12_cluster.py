"""A boundary integral equation on a cluster, whose points are numbered in two ways.

The potential inside of a kite-shaped curve, given on the curve, is sought as a double layer.  With
n points y_j = y(2 pi j / n) and normals N_j of the length |y'|, the density phi solves [1]

    sum_j K(x_i, y_j) phi_j - phi_i / 2 = g(x_i),    K(x, y_j) = (x - y_j) . N_j / (n |x - y_j|^2),

at the same points x_i; where the two coincide, K is its limit by the curvature.  The potential is
u(x) = sum_j K(x, y_j) phi_j, and the rule converges faster than any power of n.  With
g = log |x - x_0| of a point outside, u is the same logarithm inside: the independent answer.

The matrix is well conditioned, however its rows are numbered.  But if the potential was measured
beginning at the other side of the curve, the blocks on the diagonal are those of points far from
each other, which are singular to rounding.  `dask.array.linalg.solve` seeks its pivots within them.
`mplinalg.tiled` seeks them in all rows of a block column, in a tournament [2].

Both run on a cluster of two processes on this machine.  The workers make the blocks of the matrix,
and keep the factors.

[1] R. Kress, Linear Integral Equations, 3rd ed., Springer 2014, chapters 6 and 12.
[2] L. Grigori, J. Demmel and H. Xiang, SIAM Journal on Matrix Analysis 32 (2011) 1317-1350.

    python examples/12_cluster.py
"""

import sys
import time

import numpy as np
from _common import BLUE, ORANGE, Checks, new_figure, options, save

import mplinalg.tiled
from mplinalg.testing import backward_error

OUTSIDE = np.array([1.6, 1.2])
"""x_0"""
TILES = 4
"""Block rows, and block columns."""
ALIKE, OTHERWISE = "alike", "from the other side"
SOURCE = "the logarithm; sqrt(n) u of a stable solver; and one machine"


def kite(s, order=0):
    """y(s), or its first or second derivative: of shape (2, len(s))."""
    first = np.cos(s + order * np.pi / 2)
    second = 0.65 * 2**order * np.cos(2 * s + order * np.pi / 2)
    x = first + second - (0.65 if order == 0 else 0)
    return np.stack([x, 1.5 * np.sin(s + order * np.pi / 2)])


def harmonic(x):
    """log |x - x_0|"""
    return np.log(np.hypot(*(x.T - OUTSIDE).T))


class Layer:
    """The equation of n points, those of the rows numbered from number `first` on."""

    def __init__(self, n, first):
        self.n, self.first = n, first

    @property
    def shape(self):
        """(n, n)"""
        return self.n, self.n

    def angles(self, numbers):
        """Of points on the curve."""
        return 2 * np.pi * numbers / self.n

    def potentials(self, x, columns):
        """K(x, y_j): of shape (points, columns), where no x is a y_j."""
        s = self.angles(columns)
        distance, (dx, dy) = x[:, :, None] - kite(s)[:, None], kite(s, 1)
        normal = np.stack([dy, -dx])[:, None]
        return (distance * normal).sum(axis=0) / (distance**2).sum(axis=0) / self.n

    def __call__(self, rows, columns):
        """A block of the matrix."""
        numbers = (rows + self.first) % self.n
        same = numbers[:, None] == columns
        with np.errstate(invalid="ignore"):
            block = self.potentials(kite(self.angles(numbers)), columns)
        s = self.angles(columns)
        (x1, y1), (x2, y2) = kite(s, 1), kite(s, 2)
        limit = -(x1 * y2 - y1 * x2) / (2 * self.n * (x1**2 + y1**2))
        return np.where(same, limit - 0.5, block)

    def given(self):
        """g, as the rows are numbered."""
        return harmonic(kite(self.angles((np.arange(self.n) + self.first) % self.n)))

    def tiled(self, **options):
        """phi and the report."""
        matrix = mplinalg.tiled.TiledMatrix.from_function(self, self.shape)
        tile = self.n // TILES
        return mplinalg.tiled.solve(matrix, self.given(), tile=tile, full_output=True, **options)

    def dask(self):
        """phi by `dask.array.linalg.solve`, in the same tiles, on the cluster there is."""
        import dask.array

        def block(rows, columns):
            return self(rows[:, 0], columns[0])

        tile = self.n // TILES
        numbers = dask.array.arange(self.n, chunks=tile)
        a = dask.array.map_blocks(block, numbers[:, None], numbers[None], meta=np.empty((0, 0)))
        b = dask.array.from_array(self.given(), chunks=tile)
        return dask.array.linalg.solve(a, b).compute()


def solutions(layers):
    """Of each numbering phi by the one and by the other, and the report, on a cluster."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        sys.exit("This example needs dask and distributed: pip install 'mplinalg[dask]'")
    found = {}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        executor = mplinalg.tiled.DaskExecutor(client)
        for name, layer in layers.items():
            began = time.perf_counter()
            mine, report = layer.tiled(executor=executor)
            seconds = time.perf_counter() - began
            found[name] = mine, layer.dask(), report, seconds
    return found


def inside(n):
    """A grid, its points that the rule serves, and which of the grid they are.

    At the distance d from the curve the rule errs by exp(-n d / |y'|), and |y'| < 2.1.
    """
    grid = np.stack(np.meshgrid(np.linspace(-1.6, 1.1, 130), np.linspace(-1.6, 1.6, 150)))
    x, curve = grid.reshape(2, -1), kite(2 * np.pi * np.arange(400) / 400)
    nearest = np.hypot(*(x[:, :, None] - curve[:, None])).min(axis=1)
    # the double layer of the density 1 is -1 inside and 0 outside
    around = Layer(400, 0).potentials(x, np.arange(400)).sum(axis=1) < -0.5
    is_inside = around & (nearest > 80 / n)
    return grid, x[:, is_inside], is_inside


def draw(args, n, u, place, errors):
    grid, _, is_inside = place
    figure, axes = new_figure([["potential", "errors"]], size=(9, 4.1), width_ratios=[2, 3])
    panel, picture = axes["potential"], np.full(is_inside.shape, np.nan)
    picture[is_inside] = u
    shown = panel.contourf(*grid, picture.reshape(grid.shape[1:]), 14, cmap="cividis")
    curve = kite(np.linspace(0, 2 * np.pi, 400))
    panel.plot(*curve, color="black", lw=1.2)
    panel.plot(*OUTSIDE, "o", color=ORANGE)
    panel.set(aspect="equal", xlabel="x", ylabel="y", title="potential of a line charge")
    figure.colorbar(shown, shrink=0.7)
    panel = axes["errors"]
    for shift, (solver, colour) in enumerate([("mplinalg.tiled", BLUE), ("dask.array", ORANGE)]):
        values = [errors[name][shift] for name in errors]
        panel.barh(
            np.arange(len(values)) - 0.2 + 0.4 * shift, values, 0.36, color=colour, label=solver
        )
    panel.set_yticks(range(len(errors)), [f"numbered\n{name}" for name in errors])
    panel.set(xscale="log", xlim=(1e-18, 10), xlabel="backward error")
    panel.axvline(np.sqrt(n) * 2.0**-53, ls="--", lw=0.9, color="black", label="sqrt(n) u")
    panel.set_title(f"n = {n}, two processes")
    panel.invert_yaxis()
    panel.legend(fontsize="small", loc="center right")
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=1024, least=320, most=20000, meaning="points on the curve, about",
        output="cluster.png",
    )  # fmt: skip
    n, u = args.n // TILES * TILES, 2.0**-53  # dask.array wants tiles of one size
    layers = {ALIKE: Layer(n, 0), OTHERWISE: Layer(n, n // 2)}
    found = solutions(layers)
    print(found[OTHERWISE][2])
    print(f"\n{'Backward errors, points numbered':<36}{'mplinalg.tiled':>15}{'dask.array':>12}")

    place, checks, errors, kappa = inside(n), Checks(SOURCE), {}, None
    exact, to_inside = harmonic(place[1]), layers[ALIKE].potentials(place[1], np.arange(n))
    for name, layer in layers.items():
        phi, others, _, seconds = found[name]
        a, b = layer(np.arange(n), np.arange(n)), layer.given()
        errors[name] = [float(backward_error(a, x, b)) for x in (phi, others)]
        print(f"{name:<36}{errors[name][0]:>15.1e}{errors[name][1]:>12.1e}")
        checks.add(f"{name}: backward error", None, None, errors[name][0], np.sqrt(n) * u, seconds)
        # Two backward stable solutions are as far apart as the condition number lets them be.
        kappa = kappa or np.linalg.cond(a)  # however the rows are numbered
        alone, _ = layer.tiled()
        apart = np.linalg.norm(phi - alone) / np.linalg.norm(alone)
        allowed = 2 * kappa * np.sqrt(n) * u
        checks.add(f"{name}: from one machine's", phi[0], alone[0], apart, allowed)
        # Neighbours are h apart: rounding of x - y_j makes an error of the order u / h^2 / n in K.
        inner, size = to_inside @ phi, np.linalg.norm(to_inside, axis=1).max()
        j = abs(inner - exact).argmax()
        checks.add(f"{name}: potential", inner[j], exact[j], abs(inner[j] - exact[j]),
                   kappa * n * u * size * np.linalg.norm(phi))  # fmt: skip
    if not args.no_plot:
        draw(args, n, inner, place, errors)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
