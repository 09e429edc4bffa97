"""The picture that the demonstration draws: the wave around a cylinder.

With matplotlib a figure of three panels; without it the same field as a plain PNG.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0, j1, y0, y1

from mplinalg.bench.png import colours, encode_png
from mplinalg.testing.boundary_elements import default_coupling

__all__ = ["FarField", "draw", "have_matplotlib", "total_field"]

HALF_WIDTH = 2.5  # of the square drawn, in radii of the cylinder
PIXELS = 900

Complex = NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class FarField:
    """Far-field patterns at `angles` (radians): the exact one, and one per solver by name."""

    angles: NDArray[np.float64]
    exact: Complex
    computed: dict[str, Complex]


def have_matplotlib() -> bool:
    """Whether matplotlib is installed (it is imported only when something is drawn)."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(
    file: BinaryIO, density: Complex, wavenumber: float, far_field: FarField, title: str
) -> None:
    """Write a PNG of the wave around the unit circle, given the density on equidistant nodes."""
    field = np.abs(total_field(density, wavenumber))
    if have_matplotlib():
        _draw_figure(file, field, far_field, title)
    else:
        file.write(encode_png(colours(field, 0.0, 2.0)))


def total_field(
    density: Complex, wavenumber: float, half_width: float = HALF_WIDTH, pixels: int = PIXELS
) -> Complex:
    """Incident plus scattered wave on a square of pixels around the unit circle.

    Parameters
    ----------
    density : (n,) ndarray of complex128
        Solution of the combined-field equation of `mplinalg.testing.boundary_elements` for the
        plane wave that travels to the right.
    wavenumber : float
    half_width : float
        Of the square, more than 1.
    pixels : int
        Along each side.

    Returns
    -------
    (pixels, pixels) ndarray of complex128
        Row 0 is the top; NaN inside the circle.  Good for the eye: within half a percent in the
        root mean square.

    Notes
    -----
    On a concentric ring the potential is a circular convolution of the density with the kernel
    of one node, and so a product of Fourier transforms.  The field is computed on rings, with the
    factor e^{ikr} taken out, and interpolated linearly from there.
    """
    n, k = len(density), wavenumber
    spread = max(1, int(np.ceil(max(1000.0, 16 * k) / n)))  # angles between two nodes
    dense = np.zeros(n * spread, dtype=np.complex128)
    dense[::spread] = density
    spectrum = np.fft.fft(dense)
    angle = 2 * np.pi * np.arange(len(dense)) / len(dense)
    # Within some node spacings of the curve the trapezoidal rule is poor: e^{-n gap}, 1e-4 at the
    # innermost ring.  On the curve u = 0.
    gap = min(3 * np.pi / n, 0.5)
    radii = np.linspace(1 + gap, np.sqrt(2) * half_width, max(pixels // 2, 2))
    rings = np.empty((len(radii) + 1, len(dense) + 1), dtype=np.complex128)
    rings[0, :-1] = -np.exp(1j * k * (np.cos(angle) - 1))
    for ring, r in zip(rings[1:], radii, strict=True):
        kernel = _kernel_of_first_node(r, angle, k) * (0.5j * np.pi / n)
        ring[:-1] = np.fft.ifft(np.fft.fft(kernel) * spectrum) * np.exp(-1j * k * r)
    rings[:, -1] = rings[:, 0]

    centres = half_width * ((2 * np.arange(pixels) + 1) / pixels - 1)
    x, y = centres, -centres[:, None]
    r = np.hypot(x, y)
    turn = np.arctan2(y, x) / (2 * np.pi) % 1.0 * len(dense)
    depth = np.interp(r, np.concatenate([[1.0], radii]), np.arange(len(rings)))
    scattered = _interpolate(rings, depth, turn) * np.exp(1j * k * r)
    return np.where(r < 1, np.nan, scattered + np.exp(1j * k * x))


def _kernel_of_first_node(r: float, angle: NDArray[np.float64], k: float) -> Complex:
    """(4 / i) times the combined kernel at radius `r`, for the node at (1, 0)."""
    across = r * np.cos(angle) - 1
    distance = np.hypot(across, r * np.sin(angle))
    z = k * distance
    double = k * (across / distance) * (j1(z) + 1j * y1(z))
    return np.asarray(double - 1j * default_coupling(k) * (j0(z) + 1j * y0(z)))


def _interpolate(table: Complex, i: NDArray[Any], j: NDArray[Any]) -> Complex:
    """Bilinear interpolation of `table` at fractional indices."""
    i0 = np.minimum(i.astype(np.intp), table.shape[0] - 2)
    j0_ = np.minimum(j.astype(np.intp), table.shape[1] - 2)
    s, t = i - i0, j - j0_
    upper = (1 - t) * table[i0, j0_] + t * table[i0, j0_ + 1]
    lower = (1 - t) * table[i0 + 1, j0_] + t * table[i0 + 1, j0_ + 1]
    return np.asarray((1 - s) * upper + s * lower)


def _draw_figure(
    file: BinaryIO, field: NDArray[np.float64], far_field: FarField, title: str
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels: dict[str, Any] = figure.subplot_mosaic(
        [["field", "pattern"], ["field", "error"]], width_ratios=[1.1, 1], height_ratios=[1.3, 1]
    )
    square, pattern, error = panels["field"], panels["pattern"], panels["error"]
    extent = (-HALF_WIDTH, HALF_WIDTH, -HALF_WIDTH, HALF_WIDTH)
    square.imshow(colours(field, 0.0, 2.0), extent=extent, interpolation="antialiased")
    square.set(xlabel="x / radius", ylabel="y / radius", title="magnitude of the total field")

    error.sharex(pattern)
    degrees = np.degrees(far_field.angles)
    largest = np.abs(far_field.exact).max()
    first, *_ = far_field.computed.values()
    pattern.plot(degrees, _decibels(first / largest), color="tab:blue", lw=2, label="computed")
    exact = _decibels(far_field.exact / largest)
    pattern.plot(degrees, exact, color="black", lw=0.8, ls="--", label="series")
    pattern.set(ylabel="dB below the forward peak", title="far field")
    pattern.legend(loc="upper right")
    for name, computed in far_field.computed.items():
        distance = np.abs(computed - far_field.exact) / largest
        error.semilogy(degrees, np.maximum(distance, 1e-18), lw=0.9, label=name)
    error.set(xlabel="angle to the incident wave (degrees)", ylabel="error / largest value")
    error.set(title="difference to the series", xlim=(degrees[0], degrees[-1]))
    error.grid(alpha=0.3)
    error.legend(loc="upper right", fontsize="small")
    figure.savefig(file, format="png", dpi=120)


def _decibels(x: Complex) -> NDArray[np.float64]:
    return np.asarray(20 * np.log10(np.maximum(np.abs(x), 1e-6)))
