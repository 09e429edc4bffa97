"""What the machine can do at most, measured in the same run: products, and a copy.

A shared machine is not equally fast all the time, so what is older than some seconds is measured
again: a row is compared with what was possible just before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mplinalg.bench import flops

__all__ = ["Ceilings", "best"]

ORDER = 1500
COPIED = 16_000_000
"""Numbers of 8 bytes that are copied: far more than caches hold."""
_RUNS = 4


MAX_AGE = 20.0
"""Seconds."""


class Ceilings:
    """Rates of this machine with the threads as they are, measured when asked for.

    GEMM is SciPy's BLAS, of order 1500; the best of a few runs. The copy is NumPy's, by one
    thread.

    Parameters
    ----------
    clock : callable
        Seconds; decides how old a rate is.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, float]] = {}

    def gemm(self, dtype: DTypeLike) -> float:
        """Flops per second of C = A B."""
        name = np.dtype(dtype).name
        return self._recent(name, lambda: _gemm_rate(name))

    def copy(self) -> float:
        """Bytes per second, those read and those written together."""
        return self._recent("copy", _copy_rate)

    def _recent(self, name: str, measure: Callable[[], float]) -> float:
        rate, measured = self._known.get(name, (0.0, -math.inf))
        if self._clock() - measured > MAX_AGE:
            rate = measure()
            self._known[name] = rate, self._clock()
        return rate

    def of(self, dtype: DTypeLike) -> tuple[float, ...]:
        """Flops per second of double and of single precision, real or complex as `dtype` is.

        A device that multiplies half-precision numbers adds the rate of these.
        """
        if np.dtype(dtype).kind == "c":
            return self.gemm("complex128"), self.gemm("complex64")
        return self.gemm("float64"), self.gemm("float32")


def _gemm_rate(name: str) -> float:
    from scipy.linalg import get_blas_funcs

    a = np.full((ORDER, ORDER), 0.5, dtype=name, order="F")
    c = np.zeros_like(a)
    product: Any = get_blas_funcs("gemm", (a,))
    return flops.gemm(ORDER, name) / best(lambda: product(1.0, a, a, beta=0.0, c=c, overwrite_c=1))


def _copy_rate() -> float:
    source = np.zeros(COPIED)
    target = np.ones_like(source)
    return 2.0 * source.nbytes / best(lambda: np.copyto(target, source))


def best(work: Callable[[], object], clock: Callable[[], float] | None = None) -> float:
    """Seconds of the fastest of a few runs, after one that is not counted."""
    now = clock or time.perf_counter
    work()
    times = []
    for _ in range(_RUNS):
        began = now()
        work()
        times.append(now() - began)
    return max(min(times), 1e-9)
