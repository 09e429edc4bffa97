"""Updates of parameters on the CPU: one pass over memory, chunks of it on several threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu.batched.threads import GRAIN, run_chunks

Array = NDArray[Any]

_RATE = 1e9
"""Entries a second that one thread is good for, by which threads are woken."""
_SMALL = 2**16
"""Entries that one thread computes without ado."""
_PART = 2**14
"""Entries that are summed up at once."""


@functools.cache
def _kernels() -> ModuleType:
    from ..kernels.cpu.nn import optimisers

    return optimisers


class NumpyUpdates:
    """`mplinalg.ops.nn_updates.UpdateOps` on NumPy arrays."""

    xp = np

    def descend(self, x: Array, g: Array, *, lr: float, decay: float) -> None:
        _update(_kernels().descend, (x,), g, lr, decay)

    def descend_heavy(
        self, x: Array, g: Array, v: Array, *, lr: float, decay: float, beta: float, nesterov: bool
    ) -> None:
        kernel = _kernels().descend_nesterov if nesterov else _kernels().descend_heavy
        _update(kernel, (x, v), g, lr, decay, beta)

    def adagrad(self, x: Array, g: Array, s: Array, *, lr: float, decay: float, eps: float) -> None:
        _update(_kernels().adagrad, (x, s), g, lr, decay, eps)

    def rmsprop(
        self, x: Array, g: Array, s: Array, m: Array | None, v: Array | None, *,
        lr: float, decay: float, eps: float, alpha: float, beta: float,
    ) -> None:  # fmt: skip
        numbers = lr, decay, eps, alpha, 1 - alpha
        if v is None:
            _update(_kernels().rmsprop, (x, s), g, *numbers)
        elif m is None:
            _update(_kernels().rmsprop_heavy, (x, s, v), g, *numbers, beta)
        else:
            _update(_kernels().rmsprop_centred, (x, s, m, v), g, *numbers, beta)

    def adadelta(
        self, x: Array, g: Array, s: Array, d: Array, *,
        lr: float, decay: float, eps: float, rho: float,
    ) -> None:  # fmt: skip
        _update(_kernels().adadelta, (x, s, d), g, lr, decay, eps, rho, 1 - rho)

    def adam(
        self, x: Array, g: Array, m: Array, s: Array, *, lr: float, decay: float, shrink: float,
        eps: float, beta1: float, beta2: float, root: float,
    ) -> None:  # fmt: skip
        numbers = lr, decay, shrink, eps, 1 - beta1, beta2, 1 - beta2, root
        _update(_kernels().adam, (x, m, s), g, *numbers)

    def scale(self, g: Array, factor: float) -> None:
        _update(_kernels().scale, (g,), None, factor)

    def clamp(self, g: Array, bound: float) -> None:
        _update(_kernels().clamp, (g,), None, bound)

    def sum_of_squares(self, arrays: Sequence[Array], factor: float = 1.0) -> float:
        total = 0.0
        for g in arrays:
            flat = _flat(g)
            parts = np.empty(-(-flat.size // _PART))
            if factor == 1.0:
                kernel: Any = _kernels().square_parts
                given: tuple[Any, ...] = flat, _PART, parts
            else:
                kernel = _kernels().scale_and_square_parts
                given = flat, flat.dtype.type(factor), _PART, parts
            _by_parts(lambda *some, call=kernel, given=given: call(*given, *some), parts.size)
            if factor != 1.0:
                _put_back(g, flat)
            total += float(parts.sum())
        return total


def _update(kernel: Any, changed: tuple[Array, ...], g: Array | None, *numbers: float) -> None:
    """``kernel(x, g, ..., first, last)`` on flat arrays, the first of `changed` being x."""
    x = changed[0]
    flat = [_flat(a) for a in changed]
    read = [] if g is None else [_flat(g)]
    given = [flat[0], *read, *flat[1:], *map(x.dtype.type, numbers)]
    if x.size < _SMALL:
        kernel(*given, 0, x.size)
    else:
        run_chunks(lambda first, last: kernel(*given, first, last), x.size, 1 / _RATE)
    for a, values in zip(changed, flat, strict=True):
        _put_back(a, values)


def _flat(a: Array) -> Array:
    """A view if `a` is contiguous, else a copy."""
    return (a if a.flags.c_contiguous else np.ascontiguousarray(a)).reshape(-1)


def _put_back(a: Array, flat: Array) -> None:
    """What was computed in a copy, because `a` is not contiguous."""
    if not a.flags.c_contiguous:
        a[...] = flat.reshape(a.shape)


def _by_parts(work: Callable[..., Any], count: int) -> None:
    """``work(first, last)`` for `count` parts; `run_chunks` cuts at multiples of GRAIN."""

    def several(first: int, last: int) -> None:
        work(first // GRAIN, last // GRAIN)

    run_chunks(several, count * GRAIN, _PART / _RATE / GRAIN)
