"""What refinement knows of a matrix and of its factors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..ops.protocol import Array, Counters, Ops
from .criterion import Criterion

__all__ = ["Factors", "LinearSystem"]


class Factors(Protocol):
    """What the ladder needs of a factorization."""

    @property
    def method(self) -> str: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def is_usable(self) -> bool: ...
    @property
    def workspace_bytes(self) -> int: ...
    def solve(self, b: Array, trans: str = "N", *, upcast: bool = False) -> Array: ...
    def rcond(self, norm1: float, dtype: Any) -> float: ...
    def growth(self, amax: float) -> float: ...


@dataclass
class LinearSystem:
    """op(A) x = b as refinement sees it; b is F-ordered, (n, nrhs), in working precision."""

    ops: Ops
    a: Array
    b: Array
    norm_a: float
    unit_roundoff: float
    trans: str = "N"
    triangle: str | None = None
    extended: bool = False
    tol: float | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"solve": 0.0, "residual": 0.0})

    streams = False
    """Each pass over A, and over its factors, reads them from afar: columns go together."""

    @property
    def n(self) -> int:
        return int(self.a.shape[0])

    @property
    def criterion(self) -> Criterion:
        is_complex = self.a.dtype.kind == "c"
        return Criterion(self.ops, self.n, self.norm_a, self.unit_roundoff, is_complex, self.tol)

    def residual(self, x: Array, columns: NDArray[np.intp]) -> tuple[Array, Array | None]:
        """r of the given columns, and d if it comes with r at no cost."""
        began = time.perf_counter()
        r, d = self.ops.residual(
            self.a, x, self._rhs(columns), trans=self.trans, triangle=self.triangle,
            extended=self.extended, magnitude=columns.size <= self.ops.fused_columns,
        )  # fmt: skip
        self.seconds["residual"] += time.perf_counter() - began
        return r, d

    def magnitude(self, x: Array, columns: NDArray[np.intp]) -> Array:
        """d = |op(A)||x| + |b| of the given columns."""
        began = time.perf_counter()
        d = self.ops.magnitude(
            self.a, x, self._rhs(columns), trans=self.trans, triangle=self.triangle
        )
        self.seconds["residual"] += time.perf_counter() - began
        return d

    def _rhs(self, columns: NDArray[np.intp]) -> Array:
        if columns.size == self.b.shape[1]:
            return self.b
        return self.ops.xp.asfortranarray(self.b[:, columns])

    def product(self, z: Array) -> Array:
        """op(A) z."""
        began = time.perf_counter()
        zero = self.ops.xp.zeros(z.shape, dtype=z.dtype, order="F")
        r, _ = self.ops.residual(
            self.a, z, zero, trans=self.trans, triangle=self.triangle, magnitude=False
        )
        self.seconds["residual"] += time.perf_counter() - began
        return -r

    def residual_and_product(
        self, x: Array, columns: NDArray[np.intp], y: Array
    ) -> tuple[Array, Array | None, Array]:
        """`residual` of x, and op(A) y."""
        return *self.residual(x, columns), self.product(y)

    def timed_solve(self, factors: Factors, r: Array, *, upcast: bool = False) -> Array:
        """M^-1 r."""
        began = time.perf_counter()
        d = self.ops.xp.asfortranarray(factors.solve(r, self.trans, upcast=upcast))
        self.seconds["solve"] += time.perf_counter() - began
        return d

    def norm1(self) -> float:
        """||A||_1, for condition estimates."""
        if self.triangle is not None:
            return self.norm_a
        return self.ops.lange("1", self.a)
