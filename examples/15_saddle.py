"""The paths of nine optimisers past a saddle point.

    f(x, y) = x^2 - y^2 + y^4 / 4

has a saddle at the origin, where every path here would end that begins on y = 0, and its minimum,
-1, at (0, +-sqrt(2)).  The paths begin at (-1.5, 0.01), near the ridge y = 0.

Along x the gradient is linear, so that of three optimisers x is known after k steps:
(1 - 2 lr)^k x_0 of gradient descent, and with momentum [1] the first entry of M^k (x_0, 0), for M
the map (x, v) -> (x - lr v', v') with v' = beta v + 2 x; Nesterov's steps along beta v' + 2 x.
Adadelta does not come to rest: the ratio by which it scales the gradient grows where this is small.

[1] B. T. Polyak, USSR Computational Mathematics and Mathematical Physics 4 (1964) 1-17.

    python examples/15_saddle.py
"""

import sys

import numpy as np
from _common import Checks, new_figure, options, save

from mplinalg import nn

START, BETA = (-1.5, 0.01), 0.9
OPTIMISERS = {
    "GD": lambda p: nn.optim.GD(p, 0.05),
    "momentum": lambda p: nn.optim.SGD(p, 0.02, momentum=BETA),
    "Nesterov": lambda p: nn.optim.SGD(p, 0.02, momentum=BETA, nesterov=True),
    "Adagrad": lambda p: nn.optim.Adagrad(p, 0.3),
    "AdagradNorm": lambda p: nn.optim.AdagradNorm(p, 0.5),
    "RMSprop": lambda p: nn.optim.RMSprop(p, 0.02),
    "Adadelta": lambda p: nn.optim.Adadelta(p, 10.0),
    "Adam": lambda p: nn.optim.Adam(p, 0.05),
    "AdamW": lambda p: nn.optim.AdamW(p, 0.05),
}
SOURCE = "powers of matrices by NumPy, and the minimum"


def height(x, y):
    return x * x - y * y + y**4 / 4


def path(optimiser, steps):
    """All points, (steps + 1, 2)."""
    point = nn.Parameter(np.array(START))
    step = optimiser([point])
    points = [point.data.copy()]
    for _ in range(steps):
        step.zero_grad()
        height(point[0], point[1]).backward()
        step.step()
        points.append(point.data.copy())
    return np.array(points)


def expected(name, steps):
    """x after so many steps."""
    if name == "GD":
        return START[0] * (1 - 2 * 0.05) ** steps
    # v' = 2 x + beta v;   x - lr v', or x - lr (beta v' + 2 x)
    new = np.array([2, BETA])
    along = new if name == "momentum" else BETA * new + [2, 0]
    return np.linalg.matrix_power([[1, 0] - 0.02 * along, new], steps)[0, 0] * START[0]


def draw(args, paths):
    figure, axes = new_figure([["paths"]], size=(8, 5))
    panel = axes["paths"]
    x, y = np.meshgrid(np.linspace(-1.7, 1.2, 200), np.linspace(-0.5, 2.1, 200))
    levels = np.arange(-1, 3.2, 0.2).round(1)
    lines = panel.contour(x, y, height(x, y), levels, colors="0.75", linewidths=0.8)
    panel.clabel(lines, levels[::3], fontsize="small")
    for k, (name, points) in enumerate(paths.items()):
        style = {"marker": "o^sv*DPX<"[k], "ls": "--" if name == "AdamW" else "-"}
        panel.plot(*points.T, markevery=10, ms=5, lw=1.3, label=name, **style)
    panel.set(xlabel="x", ylabel="y", title=f"{args.n} steps", xlim=(-1.7, 1.2), ylim=(-0.5, 2.1))
    panel.legend(fontsize="small", ncols=5, loc="lower center")
    save(figure, args)


def main(argv=None):
    args = options(__doc__, argv, n=200, least=100, most=1000, meaning="steps", output="saddle.png")
    paths = {name: path(optimiser, args.n) for name, optimiser in OPTIMISERS.items()}
    checks, nearest = Checks(SOURCE), np.array([0, np.sqrt(2)])
    print(f"{args.n} steps from ({START[0]}, {START[1]})\n")
    print(f"{'':<14}{'x':>10}{'y':>10}{'f':>11}{'beyond the saddle after':>26}")
    for name, points in paths.items():
        f = height(*points.T)
        below = np.flatnonzero(f < -0.5)
        after = f"{below[0]} steps" if below.size else "-"
        x, y = points[-1].round(5) + 0.0  # no -0
        print(f"{name:<14}{x:>10.5f}{y:>10.5f}{f[-1]:>11.6f}{after:>26}")
    print(f"{'minimum':<14}{nearest[0]:>10.5f}{nearest[1]:>10.5f}{-1:>11.6f}")
    for name in ("GD", "momentum", "Nesterov"):
        x, exact = paths[name][-1, 0], expected(name, args.n)
        # a rounding a step, of numbers of the size of the first
        allowed = args.n * 2.0**-52 * abs(START[0])
        checks.add(f"{name}: x", f"{x:.5e}", f"{exact:.5e}", abs(x - exact), allowed)
    for name, points in paths.items():
        f = height(*points[-1])
        # a tenth of the saddle's height above the minimum
        checks.add(f"{name}: f", f, -1.0, abs(f + 1), 0.1)
    if not args.no_plot:
        draw(args, paths)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
