"""Updates of parameters on a device: one elementwise kernel each, compiled at the first call."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cupy

from .protocol import Array

# x, g and what is remembered, as in `mplinalg.kernels.cpu.nn.optimisers`. Statements that are C++
# and, but for the declarations, Python.
_SLOPE = "T slope = g + decay * x;"
_DESCEND = f"{_SLOPE} x = x - lr * slope"
_HEAVY = f"{_SLOPE} v = beta * v + slope; x = x - lr * v"
_NESTEROV = f"{_SLOPE} v = beta * v + slope; x = x - lr * (slope + beta * v)"
_ADAGRAD = f"{_SLOPE} s = s + slope * slope; x = x - lr * slope / (sqrt(s) + eps)"
_MEAN_SQUARE = f"{_SLOPE} s = alpha * s + rest * slope * slope;"
_RMSPROP = f"{_MEAN_SQUARE} x = x - lr * slope / (sqrt(s) + eps)"
_RMSPROP_HEAVY = f"{_MEAN_SQUARE} v = beta * v + slope / (sqrt(s) + eps); x = x - lr * v"
_RMSPROP_CENTRED = (
    f"{_MEAN_SQUARE} m = m + rest * (slope - m); T spread = max(s - m * m, T(0));"
    "v = beta * v + slope / (sqrt(spread) + eps); x = x - lr * v"
)
_ADADELTA = (
    f"{_SLOPE} s = rho * s + rest * slope * slope;"
    "T change = sqrt(d + eps) / sqrt(s + eps) * slope;"
    "d = rho * d + rest * change * change; x = x - lr * change"
)
_ADAM = (
    f"{_SLOPE} m = m + rest1 * (slope - m); s = beta2 * s + rest2 * slope * slope;"
    "x = shrink * x - lr * m / (sqrt(s) / root + eps)"
)


@functools.cache
def _kernel(name: str, body: str, numbers: str, arrays: str) -> Any:
    """The arrays, x first, are changed; g and the numbers are read."""
    given = ", ".join(f"T {word}" for word in ("g", *numbers.split()))
    changed = ", ".join(f"T {word}" for word in arrays.split())
    return cupy.ElementwiseKernel(given, changed, body, f"mplinalg_{name}")


class CupyUpdates:
    """`mplinalg.ops.nn_updates.UpdateOps` on CuPy arrays."""

    xp = cupy

    def descend(self, x: Array, g: Array, *, lr: float, decay: float) -> None:
        _kernel("descend", _DESCEND, "lr decay", "x")(g, lr, decay, x)

    def descend_heavy(
        self, x: Array, g: Array, v: Array, *, lr: float, decay: float, beta: float, nesterov: bool
    ) -> None:
        name, body = ("nesterov", _NESTEROV) if nesterov else ("heavy", _HEAVY)
        _kernel(name, body, "lr decay beta", "x v")(g, lr, decay, beta, x, v)

    def adagrad(self, x: Array, g: Array, s: Array, *, lr: float, decay: float, eps: float) -> None:
        _kernel("adagrad", _ADAGRAD, "lr decay eps", "x s")(g, lr, decay, eps, x, s)

    def rmsprop(
        self, x: Array, g: Array, s: Array, m: Array | None, v: Array | None, *,
        lr: float, decay: float, eps: float, alpha: float, beta: float,
    ) -> None:  # fmt: skip
        numbers = "lr decay eps alpha rest"
        given = g, lr, decay, eps, alpha, 1 - alpha
        if v is None:
            _kernel("rmsprop", _RMSPROP, numbers, "x s")(*given, x, s)
        elif m is None:
            kernel = _kernel("rmsprop_heavy", _RMSPROP_HEAVY, f"{numbers} beta", "x s v")
            kernel(*given, beta, x, s, v)
        else:
            kernel = _kernel("rmsprop_centred", _RMSPROP_CENTRED, f"{numbers} beta", "x s m v")
            kernel(*given, beta, x, s, m, v)

    def adadelta(
        self, x: Array, g: Array, s: Array, d: Array, *,
        lr: float, decay: float, eps: float, rho: float,
    ) -> None:  # fmt: skip
        kernel = _kernel("adadelta", _ADADELTA, "lr decay eps rho rest", "x s d")
        kernel(g, lr, decay, eps, rho, 1 - rho, x, s, d)

    def adam(
        self, x: Array, g: Array, m: Array, s: Array, *, lr: float, decay: float, shrink: float,
        eps: float, beta1: float, beta2: float, root: float,
    ) -> None:  # fmt: skip
        kernel = _kernel("adam", _ADAM, "lr decay shrink eps rest1 beta2 rest2 root", "x m s")
        kernel(g, lr, decay, shrink, eps, 1 - beta1, beta2, 1 - beta2, root, x, m, s)

    def scale(self, g: Array, factor: float) -> None:
        cupy.multiply(g, factor, out=g)

    def clamp(self, g: Array, bound: float) -> None:
        cupy.minimum(g, bound, out=g)
        cupy.maximum(g, -bound, out=g)

    def sum_of_squares(self, arrays: Sequence[Array], factor: float = 1.0) -> float:
        total = cupy.zeros(())
        for g in arrays:
            if factor != 1.0:
                self.scale(g, factor)
            total += cupy.square(g.astype(cupy.float64)).sum()
        return float(total)  # all that is waited for
