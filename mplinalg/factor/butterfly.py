"""LU of U^T A V, U and V random butterflies of depth 2, with pivots from diagonal blocks alone.

    A x = b  as  (U^T A V) y = U^T b,  x = V y

    U, V = [B(p)      ] B(r),   B(d) = 1/sqrt(2) [ D1  D2 ]   d = diag(D1, D2)
           [      B(q)]                          [ D1 -D2 ]

with p, q, r of numbers exp(s / 10), s uniform in [-1/2, 1/2]. Every entry of the transformed matrix
is a sum of sixteen of A with random factors, so that a diagonal block that is nearly singular is
improbable, however A was made: about as improbable as in a random matrix. What comes of one is seen
in the factors or in the refinement, and the next rung of the ladder pivots.

References
----------
D. S. Parker, Random butterfly transformations with applications in computational linear algebra,
UCLA CSD-950023 (1995).
M. Baboulin, J. Dongarra, J. Herrmann and S. Tomov, ACM Trans. Math. Softw. 39 (2013), article 8.
N. Lindquist, P. Luszczek and J. Dongarra, arXiv:2312.09376 (2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ops.protocol import Array, Counters, Ops
from ..precision import Format
from .blocks import blocks, column_scale
from .condest import inverse_norm1
from .lu import largest_of_u
from .scaling import Scaling
from .unpivoted import getrf_unpivoted

_PADDING = 1.0
"""On the diagonal beyond A, which is equilibrated."""


def suits(n: int, fmt: Format) -> bool:
    """Whether refinement can be expected to make up for the growth of entries: n u <= 1.

    A correction leaves five to fifty times what it leaves with pivots from whole columns, measured
    for n <= 2000 and condition numbers to 1e4: docs/algorithms/measured-refinement.md.
    """
    return n * fmt.unit_roundoff <= 1.0


def padded(n: int) -> int:
    """The order of the transformed matrix, which has to be a multiple of 4.

    >>> [padded(n) for n in (0, 1, 4, 5)]
    [0, 4, 4, 8]
    """
    return -(-n // 4) * 4


def butterflies(ops: Ops, order: int, seed: int = 0) -> tuple[Array, Array]:
    """The diagonals of U and of V, 8 `order` bytes each; the same in every backend.

    Returns
    -------
    Array, shape (2, order / 4, 8), float32
        Group i has r at i, i + order/4, i + 2 order/4, i + 3 order/4, then p and q there.

    Notes
    -----
    Drawn on the host: 16 `order` bytes go to a device.
    """
    s = np.random.default_rng((seed, order)).uniform(-0.5, 0.5, (2, order // 4, 8))
    u, v = ops.xp.asarray(np.exp(s / 10).astype(np.float32))
    return u, v


@dataclass
class ButterflyFactors:
    """The factors of U^T A V (or U^T A^T V), ready to solve.

    Attributes
    ----------
    ops : Ops
    n : int
        Order of A; that of the factors is the next multiple of 4.
    lu, lower, upper : Array
        As `getrf_unpivoted` left them.
    info : int
        As `getrf_unpivoted`.
    u, v : Array
        The butterflies, as `butterflies` draws them.
    transposed : bool
        The factors are those of the transpose of (the scaled) A.
    scaling : Scaling, optional
        What was transformed is diag(rows) A diag(cols).
    counters : Counters
    """

    ops: Ops
    n: int
    lu: Array
    lower: Array
    upper: Array
    info: int
    u: Array
    v: Array
    transposed: bool
    scaling: Scaling | None = None
    counters: Counters = field(default_factory=Counters)

    method = "butterfly LU"

    @property
    def is_usable(self) -> bool:
        """False if there was a useless pivot."""
        return self.info == 0

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the factors, 4 n^2 and about 1040 n."""
        parts = (self.lu, self.lower, self.upper, self.u, self.v)
        return sum(int(x.nbytes) for x in parts)

    def solve(self, b: Array, trans: str = "N", *, upcast: bool = False) -> Array:
        """x = op(A)^-1 b, computed with these factors; arguments as `LUFactors.solve`.

        Notes
        -----
        2 n^2 nrhs flops, in which the factors are read once for a few right-hand sides; with
        `upcast` they are converted, a block column at a time. Workspace 2 n nrhs.
        """
        ops, xp = self.ops, self.ops.xp
        scale = column_scale(ops, b)
        y = b * scale
        if self.scaling is not None:
            before = self.scaling.rows if trans == "N" else self.scaling.cols
            y = y * before[:, None]
            again = column_scale(ops, y)
            y, scale = y * again, scale * again
        is_plain = (trans == "N") != self.transposed
        left, right = (self.u, self.v) if is_plain else (self.v, self.u)
        z = xp.empty((len(self.lu), b.shape[1]), b.dtype if upcast else self.lu.dtype, order="F")
        ops.butterfly_vectors(y, z, left, transposed=True)
        for lower in (True, False) if is_plain else (False, True):
            self._substitute(z, lower, "N" if is_plain else "T")
        x = xp.empty(b.shape, b.dtype, order="F")
        ops.butterfly_vectors(z, x, right, transposed=False)
        if self.scaling is not None:
            x *= (self.scaling.cols if trans == "N" else self.scaling.rows)[:, None]
        x /= scale
        return x

    def _substitute(self, z: Array, lower: bool, trans: str) -> None:
        """z <- op(L)^-1 z, or op(U)^-1 z; in z's precision a block of columns at a time."""
        ops, lu, inverses = self.ops, self.lu, self.lower if lower else self.upper
        if z.dtype == lu.dtype:
            ops.trsm_inverted(lu, inverses, z, lower=lower, trans=trans)
            return
        columns = list(blocks(len(lu), ops.diagonal_block))
        for place, k in list(enumerate(columns))[:: 1 if lower == (trans == "N") else -1]:
            width = k.stop - k.start
            inverse = inverses[place, :width, :width].astype(z.dtype)
            others = slice(k.stop, len(lu)) if lower else slice(0, k.start)
            column = lu[others, k].astype(z.dtype, order="F")
            if trans != "N":
                ops.gemm(-1.0, column, z[others], 1.0, z[k], transa=trans)
            ops.gemm(1.0, inverse, z[k].copy(), 0.0, z[k], transa=trans)
            if trans == "N":
                ops.gemm(-1.0, column, z[k], 1.0, z[others])

    def rcond(self, norm1: float, dtype: Any) -> float:
        """Estimated reciprocal 1-norm condition number of A; arguments as `LUFactors.rcond`."""
        if self.info:
            return 0.0
        inverse = inverse_norm1(self.ops, self.n, dtype, self.solve, lambda z: self.solve(z, "C"))
        return 1.0 / (norm1 * inverse) if norm1 * inverse > 0 else 0.0

    def column_sizes(self) -> Array | None:
        """What the columns were divided by, if they were; pivots of the product tell nothing."""
        return None if self.scaling is None else self.scaling.cols

    def growth(self, amax: float) -> float:
        """max |U| / max |A| of the matrix that was transformed; `amax` is that of A unscaled."""
        scale = 1.0 if self.scaling is not None else amax
        return largest_of_u(self.ops, self.lu) / scale if scale > 0 else 1.0


def butterfly_lu(
    ops: Ops,
    w: Array,
    n: int,
    fmt: Format,
    *,
    scaling: Scaling | None = None,
    seed: int = 0,
    block: int | None = None,
) -> ButterflyFactors:
    """Transform and factor the working copy `w` of a real matrix of order n, in place.

    Parameters
    ----------
    ops : Ops
    w : Array, shape (padded(n), padded(n)), float32
        C-like or F-like. Of its first n rows and columns the matrix, whose largest entries should
        be near 1 in all rows and columns; what is in the others does not matter.
    n : int
    fmt : Format
        Format of the operands of updates.
    scaling : Scaling, optional
        What the matrix was scaled by.
    seed : int
        Of the butterflies.
    block : int, optional
        Columns of a panel; by default the backend's.

    Notes
    -----
    Beside the factorization 8 n^2 bytes are moved, and 8 n^2 flops.
    """
    counters = Counters()
    transposed = ops.is_f_like(w)
    view = w.T if transposed else w
    u, v = butterflies(ops, len(w), seed)
    ops.butterfly(view[:n, :n], view, u, v, padding=_PADDING)
    lower, upper, info = getrf_unpivoted(ops, view, fmt, block=block, counters=counters)
    return ButterflyFactors(ops, n, view, lower, upper, info, u, v, transposed, scaling, counters)
