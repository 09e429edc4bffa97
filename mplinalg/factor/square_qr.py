"""Householder QR of a square matrix, as the ladder takes its factors.

Backward stable for every nonsingular A: no pivots can grow (Higham 2002, theorem 19.5). Twice the
flops of LU, hence the last rung.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..ops.protocol import Array, Counters, Ops
from ..precision import Format
from .condest import inverse_norm1
from .qr import QRFactors, qr


@dataclass
class SquareQR:
    """`QRFactors` of a square matrix, ready to solve."""

    ops: Ops
    factors: QRFactors

    method = "QR"

    @property
    def is_usable(self) -> bool:
        """False if R is exactly singular."""
        return bool((self.ops.xp.diagonal(self.factors.qr) != 0).all())

    @property
    def counters(self) -> Counters:
        """Entries lost on conversion."""
        return self.factors.counters

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the factors."""
        return self.factors.workspace_bytes

    def solve(self, b: Array, trans: str = "N", *, upcast: bool = False) -> Array:
        """op(A)^-1 b in the format of the factors; `upcast` has nothing to do."""
        return self.ops.xp.asfortranarray(self.factors.solve(b, trans))

    def rcond(self, norm1: float, dtype: Any) -> float:
        """Estimated reciprocal 1-norm condition number of A, given ||A||_1."""
        n = self.factors.shape[0]
        inverse = inverse_norm1(self.ops, n, dtype, self.solve, lambda z: self.solve(z, "C"))
        return 1.0 / (norm1 * inverse) if norm1 * inverse > 0 else 0.0

    def growth(self, amax: float) -> float:
        """max |R| / max |A|; `amax` is that of A."""
        r = abs(self.factors.r())
        return float(r.max()) / amax if amax > 0 and r.size else 1.0


def square_qr(ops: Ops, a: Array, fmt: Format) -> SquareQR:
    """Factor a copy of a square matrix."""
    return SquareQR(ops, qr(ops, a, fmt))
