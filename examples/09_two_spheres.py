"""Two charged spheres by boundary elements, whose matrix is never whole.

Two conducting spheres of radius 1, their centres 2.5 apart, are held at the potentials V_1 and V_2.
By collocation at the centroids of N flat triangles the charge densities solve

    sum_j sigma_j int_j 1 / |x_i - y| dS(y) = V(x_i),

and the charges are Q_1 = c_11 V_1 + c_12 V_2, and with 1 and 2 exchanged.  Maxwell's method of
images gives the coefficients: with cosh(b) = 2.5 / 2, in units of 4 pi eps0,

    c_11 = sinh(b) sum_n 1 / sinh((2 n - 1) b),    c_12 = - sinh(b) sum_n 1 / sinh(2 n b)   [1].

The matrix is dense, and its entries are made when they are asked for, a block at a time.  It is
solved within an eighth of the memory that it would take, in a process of its own, which is killed
in the middle; another one goes on from the tiles that are on the disk.  The error of flat panels is
O(1/N), so a mesh with a quarter of them gives an extrapolation.

[1] W. R. Smythe, Static and Dynamic Electricity, 3rd ed., 1968, section 5.08.

    python examples/09_two_spheres.py
"""

import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import (
    Checks,
    draw_memory,
    new_figure,
    options,
    resident,
    save,
)  # fmt: skip
from _panels import octahedral_sphere, potentials

import mplinalg.tiled

DISTANCE, SHARE, BESIDES = 2.5, 8, 64 * 2**20
LEAST = 2**17
"""Of a memory limit, bytes."""
KILLED_AFTER = 40
"""Tiles: some block columns, and not all of them."""
CHILD = "--child"
"""First argument of the process that may be killed."""
SOURCE = "Maxwell's images (Smythe), and the run that was not killed"


def exact():
    """c_11 and c_12."""
    b = np.arccosh(DISTANCE / 2)
    n = np.arange(1, 200)
    return np.sinh(b) * np.sum(1 / np.sinh((2 * n - 1) * b)), -np.sinh(b) * np.sum(
        1 / np.sinh(2 * n * b)
    )


class Spheres:
    """The matrix as a function of rows and columns, for 16 k^2 triangles."""

    def __init__(self, k):
        one = octahedral_sphere(k)
        self.triangles = np.concatenate([one, one + np.array([DISTANCE, 0, 0])])
        self.points = self.triangles.mean(axis=1)
        sides = self.triangles[:, 1:] - self.triangles[:, :1]
        self.areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
        self.n = len(self.points)
        self.matrix = mplinalg.tiled.TiledMatrix.from_function(self, (self.n, self.n))

    def __call__(self, rows, columns):
        chunks = np.array_split(rows, max(1, rows.size * columns.size // 2**17))  # to save memory
        return np.concatenate(
            [potentials(self.triangles[columns], self.points[some])[0] for some in chunks]
        )

    @property
    def limit(self):
        """Bytes; more for the coarse mesh of a small one, whose rows are not small beside it."""
        return max(8 * self.n**2 // SHARE, LEAST)

    def solve(self, **options):
        """The densities for the potentials (1, 0) and (0, 1), and the report."""
        b = np.kron(np.eye(2), np.ones((self.n // 2, 1)))
        return mplinalg.tiled.solve(
            self.matrix, b, memory_limit=self.limit, full_output=True, **options
        )

    def capacitances(self, density):
        """((c_11, c_12), (c_21, c_22))"""
        return (self.areas[:, None] * density).reshape(2, -1, 2).sum(axis=1)


def child(k, work, resume, target):
    """What the process does that may be killed: solve, and tell."""
    spheres = Spheres(int(k))
    mplinalg.tiled.solve(np.eye(99) + np.ones((99, 99)), np.ones(99), tile=30)  # loads and compiles
    before = resident()
    density, report = spheres.solve(workdir=work, resume=resume == "resume")
    Path(target).write_bytes(pickle.dumps((density, report, resident() - before)))


def in_a_process(k, work, *, resume=False, kill_after=None):
    """What `child` tells, or None if it was killed when so many tiles were on the disk."""
    target = f"{work}.answer"
    arguments = [str(k), work, "resume" if resume else "begin", target]
    with subprocess.Popen([sys.executable, __file__, CHILD, *arguments]) as process:
        while process.poll() is None:
            time.sleep(0.005)
            if kill_after is not None and len(list(Path(work).glob("*/*.tile"))) >= kill_after:
                process.kill()
                return None
    if process.returncode:
        raise RuntimeError(f"the process ended with {process.returncode}")
    return pickle.loads(Path(target).read_bytes())


def draw(args, spheres, density, report, peak):
    figure, axes = new_figure([["charge", "memory"]], size=(9, 4.1), width_ratios=[3, 2])
    panel = axes["charge"]
    sigma = density @ [1, -1]  # opposite potentials
    order = np.argsort(spheres.points[:, 1])[::-1]
    x, _, z = spheres.points[order].T
    largest = abs(sigma).max()
    picture = panel.scatter(
        x, z, c=sigma[order], s=18000 / spheres.n, cmap="coolwarm", vmin=-largest, vmax=largest
    )
    panel.set(aspect="equal", xlabel="x", ylabel="z", title="charge density, potentials 1 and -1")
    figure.colorbar(picture, label="σ / (4π ε₀)", shrink=0.7)
    whole = 8 * spheres.n**2
    draw_memory(
        axes["memory"], f"N = {spheres.n}", whole, whole / 2, spheres.limit,
        report.traffic, peak,
    )  # fmt: skip
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=5184, least=256, most=50000, meaning="triangles, about",
        output="two_spheres.png",
    )  # fmt: skip
    k = 2 * max(2, round(np.sqrt(args.n / 64)))
    spheres, coarse = Spheres(k), Spheres(k // 2)
    folder = tempfile.mkdtemp(prefix="two-spheres-")
    try:
        killed = in_a_process(k, f"{folder}/killed", kill_after=KILLED_AFTER) is None
        left = len(list(Path(folder).glob("killed/*/*.tile")))
        density, resumed, _ = in_a_process(k, f"{folder}/killed", resume=True)
        began = time.perf_counter()
        other, report, peak = in_a_process(k, f"{folder}/whole")
        seconds = time.perf_counter() - began
    finally:
        shutil.rmtree(folder)
    print(
        f"{spheres.n} triangles; killed when {left} tiles were on the disk. The run that was not:\n"
    )
    print(report)

    checks = Checks(SOURCE)
    fine, before = spheres.capacitances(density), coarse.capacitances(coarse.solve()[0])
    best = fine + (fine - before) / 3  # the error is O(1/N), and N four times as large
    for j, (name, truth) in enumerate(zip(("c_11", "c_12"), exact(), strict=True)):
        c, step = best[0, j], abs(fine[0, j] - before[0, j])
        # of the last step, a tenth may remain
        checks.add(f"{name}, extrapolated", c, truth, abs(c - truth), step / 10)
    # the mesh is as symmetric as the spheres
    checks.add("c_12 against c_21", fine[0, 1], fine[1, 0], abs(fine[0, 1] - fine[1, 0]), 1e-11)
    checks.add("killed", int(killed), 1, 1 - killed, 0)
    checks.add(
        "density of the resumed run", None, None, float(abs(density - other).max()), 0, seconds
    )
    checks.add("bytes written by the resumed run", resumed.traffic.saved, report.traffic.saved,
               resumed.traffic.saved / report.traffic.saved, 0.999)  # fmt: skip
    checks.add("memory over the limit", report.traffic.peak, spheres.limit,
               max(0, report.traffic.peak - spheres.limit), 0)  # fmt: skip
    checks.add("of the process, beyond the limit", peak, spheres.limit,
               max(0, peak - spheres.limit), BESIDES)  # fmt: skip
    if not args.no_plot:
        draw(args, spheres, density, report, peak)
    return checks.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(*sys.argv[2:])
    else:
        sys.exit(main())
