"""`cupy.ElementwiseKernel`: its statements are carried out by NumPy, on whole arrays.

That takes statements that are Python as well, but for the type before a new name: assignments of
`+ - * /`, `sqrt`, `min`, `max`, and conversions ``T(0)``. All parameters are of type ``T``.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from . import ledger
from .array import ndarray, require_current, touch
from .capture import repeatable
from .settings import Misuse


class ElementwiseKernel:
    """A kernel that reads `in_params` and changes `out_params`, entry by entry."""

    __module__ = "cupy._core._kernel"

    def __init__(
        self, in_params: str, out_params: str, operation: str, name: str = "kernel"
    ) -> None:
        self.name = name
        self._reads, self._writes = _names(in_params), _names(out_params)
        source = "\n".join(re.sub(r"^\s*(T\s+)?", "", line) for line in operation.split(";"))
        self._code = compile(source, name, "exec")

    @repeatable
    def __call__(self, *args: Any) -> None:
        names = self._reads + self._writes
        if len(args) != len(names):
            raise TypeError(f"Wrong number of arguments for {self.name!r}.")
        arrays = {n: a for n, a in zip(names, args, strict=True) if isinstance(a, ndarray)}
        for a in arrays.values():
            require_current(a)
        if missing := [n for n in self._writes if n not in arrays]:
            raise TypeError(f"{self.name}: {missing} must be arrays")
        kinds = {a.dtype for a in arrays.values()}
        shapes = {a.shape for a in arrays.values()}
        if len(kinds) > 1 or len(shapes) > 1:
            raise Misuse(f"{self.name}: dtypes {kinds} and shapes {shapes} of one kernel")
        (kind,) = kinds
        known: dict[str, Any] = {"sqrt": np.sqrt, "max": np.fmax, "min": np.fmin, "T": kind.type}
        for n, a in zip(names, args, strict=True):
            known[n] = a._host.copy() if n in arrays else kind.type(a)
        ledger.note_launch(self.name)
        with np.errstate(all="ignore"):
            exec(self._code, known)
        for n in self._writes:
            assert known[n].dtype == kind, n
            arrays[n]._host[...] = known[n]
        reads = [arrays[n] for n in self._reads if n in arrays]
        touch(self.name, reads, [arrays[n] for n in self._writes])


def _names(parameters: str) -> list[str]:
    pairs = [one.split() for one in parameters.split(",")]
    if any(kind != "T" for kind, _ in pairs):
        raise NotImplementedError(f"parameters of another type than T: {parameters}")
    return [name for _, name in pairs]
