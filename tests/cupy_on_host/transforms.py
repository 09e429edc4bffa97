"""`cupy.fft`, by NumPy. A plan is made by a call of cuFFT, and kept by CuPy for a while."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from . import capture
from .array import require_array
from .functions import run

_SIGNATURES = {
    "rfft2": "a, s=None, axes=(-2, -1), norm=None",
    "irfft2": "a, s=None, axes=(-2, -1), norm=None",
}


def _made(name: str, text: str) -> Callable[..., Any]:
    signature = inspect.signature(eval(f"lambda {text}: None"))
    is_real = name.startswith("i")

    def function(a: np.ndarray, *args: Any) -> np.ndarray:
        result = getattr(np.fft, name)(a, *args)
        is_single = a.dtype.char in "fF"
        return result.astype(("fF" if is_single else "dD")[not is_real])

    def call(*args: Any, **kwargs: Any) -> Any:
        capture.refuse("a transform, whose plan may be gone when a graph is launched,")
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        require_array(bound.arguments["a"])
        return run(f"fft.{name}", function, bound.arguments.values(), {})

    call.__name__ = name
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


FUNCTIONS: dict[str, Any] = {name: _made(name, text) for name, text in _SIGNATURES.items()}
