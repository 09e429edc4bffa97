"""What the examples share: the options, the table of checks, the clock and the figure."""

import argparse
import time

import numpy as np

from mplinalg.bench.output import check_output, replacing

# Okabe and Ito's colours, which readers with any kind of colour vision can tell apart.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"


def options(doc, argv, *, n, least, most, meaning, output, flags=None, values=None):
    """Parse --n, --output, --force, --no-plot and the `flags` and `values` (name: help).

    What is in the way of the picture is said before anything is computed. Of the files that exist,
    only the `output` of an earlier run is replaced without --force.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--n", type=int, default=n, help=f"{meaning} (default {n})")
    parser.add_argument("--output", default=output, help=f"picture, PNG (default {output})")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--no-plot", action="store_true", help="draw nothing")
    for name, text in (flags or {}).items():
        parser.add_argument(name, action="store_true", help=text)
    for name, text in (values or {}).items():
        parser.add_argument(name, help=text)
    args = parser.parse_args(argv)
    if not least <= args.n <= most:
        parser.error(f"--n must be from {least} to {most}, got {args.n}")
    args.force = args.force or args.output == output
    if not args.no_plot:
        _check_picture(parser, args)
    return args


def _check_picture(parser, args):
    """Exit with 2 unless a picture can be drawn, and written where it is to go."""
    try:
        check_output(args.output, args.force)
        import matplotlib.figure  # noqa: F401
    except ValueError as error:
        parser.error(str(error))
    except ImportError as error:
        reason = "pip install matplotlib, or give --no-plot"
        parser.error(f"the picture needs matplotlib: {reason} ({error})")


def timed(function, repeat=3):
    """The result of `function()` and the seconds of the fastest of `repeat` calls.

    A call before these, which loads and compiles, is not timed.
    """
    function()
    best = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return result, best


def resident():
    """The most memory that this process has had, in bytes, without files that are mapped."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


class Checks:
    """A table: what was computed, what was expected, the error, and the error allowed.

    `source` says where the expected comes from, which is not this library.
    """

    def __init__(self, source):
        self.source = source
        self.rows = []
        self.failed = []

    def add(self, what, computed, expected, error, allowed, seconds=None):
        """Add a row. It passes if the error is at most what is allowed, which NaN never is."""
        passed = bool(error <= allowed)
        if not passed:
            self.failed.append(what)
        row = (
            f"{what:<40}{_number(computed):>14}{_number(expected):>14}{error:>10.1e}"
            f"{allowed:>10.1e}{'' if seconds is None else f'{seconds:.4f}':>9}"
            f"{'' if passed else '  FAILED'}"
        )
        self.rows.append(row.rstrip())

    def finish(self):
        """Print the table; the exit status, 0 if every row passed and 1 if not."""
        columns = f"{'computed':>14}{'expected':>14}{'error':>10}{'allowed':>10}{'seconds':>9}"
        print(f"\n{'':<40}{columns}", *self.rows, sep="\n")
        print(f"Expected: {self.source}.")
        print(f"\nFAILED: {'; '.join(self.failed)}" if self.failed else "\nAll checks passed.")
        return 1 if self.failed else 0


def _number(value):
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.8g}"


def new_figure(mosaic, size=(8, 4), **keywords):
    """A figure without a window, and its axes by name. `keywords` go to `subplot_mosaic`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplot_mosaic(mosaic, **keywords)


def save(figure, args):
    """Write a PNG of 256 colours: a fraction of the bytes, and no difference to the eye."""
    from PIL import Image  # a dependency of matplotlib

    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    coverage, none = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    picture = picture.quantize(256, method=coverage, dither=none)
    with replacing(args.output, args.force) as file:
        picture.save(file, format="PNG", optimize=True)
    print(f"Drawn to {args.output}.")


def draw_memory(panel, title, whole, factors, limit, traffic, process):
    """Bars of bytes: a matrix and its factors, the limit of a solve, what it took of it."""
    bars = {
        "the matrix": (whole, GREY), "its factors, fp32": (factors, BLUE),
        "memory limit": (limit, ORANGE), "tiles and vectors": (traffic.peak, VERMILION),
        "all that the process took": (process, VERMILION),
    }  # fmt: skip
    names = list(bars)[::-1]
    panel.barh(
        names, [bars[name][0] / 2**20 for name in names], color=[bars[name][1] for name in names]
    )
    panel.set(xlabel="MiB", title=title)
