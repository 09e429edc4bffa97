"""The demonstration: sound scattered by a cylinder, solved, checked, compared and drawn.

The matrix comes from an integral equation, the answer it is held to from a series; SciPy solves
the same system beside us, in turns, so that both see the same machine.  The report is that of a
call of its own, as a call with a report takes longer.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mplinalg.bench import picture
from mplinalg.bench.output import check_output, replacing
from mplinalg.bench.png import colours, encode_png
from mplinalg.testing import boundary_elements as be

if TYPE_CHECKING:
    from mplinalg.report import SolveReport

__all__ = ["DemoResult", "Row", "run"]

ROUNDS = 5  # of timed solves in turns: ours, SciPy's, unrefined; ours, SciPy's, unrefined; ...
NEAR_RADIUS = 1.5  # of the ring where the near field is compared, in radii of the cylinder
OURS, PEER, UNREFINED = "mplinalg.solve", "scipy.linalg.solve", "fp32 only, no refinement"

Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Row:
    """One solver: median seconds, and errors relative to the largest value of the series."""

    name: str
    seconds: float
    near_error: float
    far_error: float


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found.

    Attributes
    ----------
    n, wavenumber : int, float
        Nodes on the cylinder, and its radius times the wavenumber.
    assembly_seconds : float
    rows : tuple of Row
        mplinalg, SciPy, and single precision without refinement.
    first_seconds : float
        Of the first call of mplinalg, which loads and compiles, and is not part of the medians.
    ratios : tuple of float
        Seconds of SciPy over seconds of mplinalg, round by round.
    expected_error : float
        The most by which discretisation and roundoff together explain a difference to the series.
    report : SolveReport
        Of another call, which is not timed.
    output : str or None
        The picture, if one was drawn.
    """

    n: int
    wavenumber: float
    assembly_seconds: float
    rows: tuple[Row, ...]
    first_seconds: float
    ratios: tuple[float, ...]
    expected_error: float
    report: SolveReport
    output: str | None

    @property
    def speedup(self) -> float:
        """Median of the ratios: above 1, mplinalg was faster."""
        return median(self.ratios)

    @property
    def passed(self) -> bool:
        """True if the refined answer agrees with the series, and its solver said it would."""
        ours = self.rows[0]
        errors = (ours.near_error, ours.far_error)
        accurate = all(error <= self.expected_error for error in errors)  # NaN is not
        return accurate and self.report.status.is_success

    def to_dict(self) -> dict[str, Any]:
        """The result as plain Python data."""
        plain = {name: getattr(self, name) for name in ("n", "wavenumber", "assembly_seconds")}
        return plain | {
            "rows": [asdict(row) for row in self.rows],
            "first_seconds": self.first_seconds,
            "ratios": list(self.ratios),
            "speedup": self.speedup,
            "expected_error": self.expected_error,
            "passed": self.passed,
            "report": self.report.to_dict(),
            "output": self.output,
        }

    def __str__(self) -> str:
        lines = [f"{'':<26}{'seconds':>10}{'near field':>14}{'far field':>14}"]
        for row in self.rows:
            errors = f"{row.near_error:>14.1e}{row.far_error:>14.1e}"
            lines.append(f"{row.name:<26}{row.seconds:>10.3f}{errors}")
        lines.append(
            f"Errors are against the series; up to {self.expected_error:.1e} is expected. "
            f"Seconds are medians of {len(self.ratios)} rounds in turns,\n"
            f"of calls without a report; "
            f"a first call of mplinalg, which loads and compiles, took {self.first_seconds:.3f} s."
        )
        faster = self.speedup >= 1
        factor = self.speedup if faster else 1 / self.speedup
        lines.append(
            f"mplinalg was {factor:.2f} times as {'fast' if faster else 'slow'} as SciPy here "
            f"(ratios {', '.join(f'{r:.2f}' for r in sorted(self.ratios))})."
        )
        if not self.passed:
            lines.append("FAILED: the answer does not agree with the series as it should.")
        return "\n".join(lines)


def run(
    n: int = 2400,
    wavenumber: float | None = None,
    output: str = "mplinalg-demo.png",
    force: bool = False,
    plot: bool = True,
    echo: Callable[[str], None] | None = print,
) -> DemoResult:
    """Solve the scattering problem, compare with SciPy and the series, and draw the wave.

    Parameters
    ----------
    n : int
        Nodes on the cylinder, at least 8 * wavenumber + 80, where the discretisation error
        is below roundoff.
    wavenumber : float, optional
        Radius of the cylinder in wavelengths, times 2 pi; n / 24 by default, 24 nodes to a
        wavelength.
    output : str
        PNG file of the picture; an existing file is kept unless `force`.
    plot : bool
        Whether to draw.
    echo : callable, optional
        Is given the progress and the findings, line by line; None for silence.

    Returns
    -------
    DemoResult

    Raises
    ------
    ValueError
        If there are too few nodes or too many for the memory, or `output` cannot be written:
        before anything is computed.
    """
    import scipy.linalg

    import mplinalg

    say = echo if echo is not None else lambda line: None
    wavenumber = n / 24 if wavenumber is None else float(wavenumber)
    _check_resolution(n, wavenumber)
    _check_memory(n)
    if plot:
        check_output(output, force)

    say(f"A plane wave meets a sound-soft cylinder, {wavenumber / np.pi:.1f} wavelengths across.")
    start = time.perf_counter()
    curve = be.circle(n)
    a = be.combined_field_matrix(curve, wavenumber)
    b = be.plane_wave_rhs(curve, wavenumber)
    assembly = time.perf_counter() - start
    size = a.nbytes / 2**20
    say(f"Assembled {n} x {n}, {a.dtype}, {size:.0f} MiB, in {assembly:.2f} s.")

    solvers: dict[str, Callable[[], Any]] = {
        OURS: lambda: mplinalg.solve(a, b),
        PEER: lambda: scipy.linalg.solve(a, b),
        UNREFINED: lambda: mplinalg.solve(a, b, precision="fp32", refine=None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    densities: dict[str, Complex] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mplinalg.LinAlgWarning)  # the report has it too
        for _ in range(1 + ROUNDS):  # the first loads and compiles
            for name, solver in solvers.items():
                start = time.perf_counter()
                densities[name] = solver()
                seconds[name].append(time.perf_counter() - start)
        _, report = mplinalg.solve(a, b, full_output=True)
    first = {name: times.pop(0) for name, times in seconds.items()}
    say(f"Solved. The report of {OURS}, from a call of its own, which is not timed:\n")
    say(f"{report}\n")

    near, far = _judge(densities, curve, wavenumber)
    rows = tuple(
        Row(name, median(seconds[name]), near[name], _relative(far.computed[name], far.exact))
        for name in solvers
    )
    result = DemoResult(
        n=n,
        wavenumber=wavenumber,
        assembly_seconds=assembly,
        rows=rows,
        first_seconds=first[OURS],
        ratios=tuple(t / o for t, o in zip(seconds[PEER], seconds[OURS], strict=True)),
        expected_error=expected_error(wavenumber),
        report=report,
        output=str(output) if plot else None,
    )
    say(str(result))
    if plot:
        title = f"Plane wave on a sound-soft cylinder, ka = {wavenumber:g}, n = {n}"
        with replacing(output, force) as file:
            lacking = _draw(file, densities[OURS], wavenumber, far, title)
        say(f"Drawn to {output}.")
        if lacking:
            say(lacking)
    return result


def expected_error(wavenumber: float) -> float:
    """Bound on the error relative to the series, where the wave is resolved.

    The phase k r is known to k r u, so that every evaluation of a wave, in the series too, loses
    digits in proportion to k.  The factor 20 is about ten times what was observed for k a from
    0.5 to 300.
    """
    return float(20 * np.finfo(np.float64).eps * (10 + wavenumber))


def _check_resolution(n: int, wavenumber: float) -> None:
    if not (np.isfinite(wavenumber) and wavenumber > 0):
        raise ValueError(f"Expected a positive wavenumber, got {wavenumber}")
    least = int(np.ceil(8 * wavenumber)) + 80
    if n < least:
        raise ValueError(
            f"Expected n >= {least} to resolve the wavenumber {wavenumber:g}, got {n=}"
        )


def _check_memory(n: int) -> None:
    needed, available = n**2 * np.dtype(np.complex128).itemsize, _available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"The matrix of order {n} takes {needed / 2**30:.1f} GiB, "
            f"and {available / 2**30:.1f} GiB of memory are available; give a smaller --n"
        )


def _available_memory() -> int | None:
    """Bytes that can be had without swapping, as Linux estimates them; None if it is not known."""
    try:
        with open("/proc/meminfo") as file:
            found = dict(line.split(":", 1) for line in file)
        return int(found["MemAvailable"].split()[0]) * 1024  # kB
    except (OSError, KeyError, ValueError):
        return None


def _draw(
    file: BinaryIO, density: Complex, wavenumber: float, far: picture.FarField, title: str
) -> str:
    """Draw, without matplotlib the wave alone; what to say of its lack, "" if it is there."""
    try:
        picture.draw(file, density, wavenumber, far, title)
    except ImportError as error:  # installed, but broken; nothing is written yet
        field = np.abs(picture.total_field(density, wavenumber))
        file.write(encode_png(colours(field, 0.0, 2.0)))
        return f"(Far field and errors are not drawn, as matplotlib cannot be imported: {error})"
    if picture.have_matplotlib():
        return ""
    return "(pip install 'mplinalg[plot]' adds the far field and the errors to the picture.)"


def _judge(
    densities: dict[str, Complex], curve: be.Curve, wavenumber: float
) -> tuple[dict[str, float], picture.FarField]:
    """Near-field error on a ring, and the far field, of every density."""
    series = be.cylinder_series(wavenumber)
    # An odd number of points on the ring: not where the nodes are.
    ring = be.circle(361, NEAR_RADIUS).points
    exact = series.scattered_field(ring)
    near = {
        name: _relative(be.scattered_field(density, curve, wavenumber, ring), exact)
        for name, density in densities.items()
    }
    angles = np.linspace(-np.pi, np.pi, 1441)
    far = picture.FarField(
        angles,
        series.far_field(angles),
        {
            name: be.far_field(density, curve, wavenumber, angles)
            for name, density in densities.items()
        },
    )
    return near, far


def _relative(x: Complex, exact: Complex) -> float:
    return float(np.abs(x - exact).max() / np.abs(exact).max())
