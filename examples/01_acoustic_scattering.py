"""Sound scattered by a cylinder: how fast does the computed wave converge?

A plane wave meets a sound-soft cylinder.  Its echo satisfies an integral equation on the
circumference; with n nodes that is a dense complex system, n by n, for `mplinalg.solve`.  The
exact wave is a series of Bessel functions, so every error below is a true error.  Kress's
quadrature converges exponentially: a few more nodes per wavelength, and all digits are there,
provided that the solver delivers them.

    python examples/01_acoustic_scattering.py
    python examples/01_acoustic_scattering.py --n 2880 --output convergence.pdf
"""

import argparse
import sys

import numpy as np

from mplinalg import solve
from mplinalg.testing import boundary_elements as be

NODES_PER_WAVELENGTH = [2, 3, 4, 5, 6, 8, 12, 24, 48]


def errors(n, wavenumber):
    """Solve with n nodes; the errors relative to the largest exact value, and the report."""
    boundary = be.circle(n)
    a = be.combined_field_matrix(boundary, wavenumber)
    b = be.plane_wave_rhs(boundary, wavenumber)
    density, report = solve(a, b, full_output=True)

    exact = be.cylinder_series(wavenumber)
    ring = be.circle(200, radius=2.0).points
    angles = np.linspace(0, 2 * np.pi, 721)
    near = be.scattered_field(density, boundary, wavenumber, ring)
    far = be.far_field(density, boundary, wavenumber, angles)
    near_error = distance(near, exact.scattered_field(ring))
    return near_error, distance(far, exact.far_field(angles)), report


def distance(computed, exact):
    return np.abs(computed - exact).max() / np.abs(exact).max()


def draw(file, near, far):
    """Plot both errors against the resolution, if matplotlib is installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print("\nNo picture: pip install 'mplinalg[plot]' brings matplotlib.")
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.loglog(NODES_PER_WAVELENGTH, near, "o-", label="near field")
    axes.loglog(NODES_PER_WAVELENGTH, far, "s-", label="far field")
    axes.set(xlabel="nodes per wavelength", ylabel="relative error")
    axes.set_xticks(NODES_PER_WAVELENGTH, [str(m) for m in NODES_PER_WAVELENGTH], minor=False)
    axes.minorticks_off()
    axes.legend()
    figure.savefig(file)
    print(f"\nDrawn to {file}.")


def main():
    parser = argparse.ArgumentParser(description="Scattering by a cylinder: a convergence study.")
    parser.add_argument("--n", type=int, default=1440, help="nodes of the finest system")
    parser.add_argument("--output", default="acoustic_scattering.png", help="picture of the errors")
    args = parser.parse_args()
    if args.n < 192:
        parser.error("--n must be at least 192")

    wavenumber = args.n / NODES_PER_WAVELENGTH[-1]
    print(f"Cylinder of {wavenumber / np.pi:.1f} wavelengths in diameter\n")
    print("     n  per wavelength  near error   far error  precision  steps  seconds")
    near, far = [], []
    for resolution in NODES_PER_WAVELENGTH:
        n = round(resolution * wavenumber)
        near_error, far_error, report = errors(n, wavenumber)
        near.append(near_error)
        far.append(far_error)
        print(
            f"{n:6d}{resolution:16d}{near_error:12.1e}{far_error:12.1e}"
            f"{report.precision:>11}{report.iterations:7d}{report.seconds['total']:9.3f}"
        )
    draw(args.output, near, far)

    # Phases k r carry k r roundoffs: allow for that, and for nothing else.
    allowed = 1e-14 * (10 + wavenumber)
    if not max(near[-1], far[-1]) <= allowed:
        sys.exit(f"The error on the finest grid exceeds {allowed:.1e}.")


if __name__ == "__main__":
    main()
