"""R of a tall matrix from its Gram matrix, Q left implicit.

A is read once, a block of rows at a time, where Householder QR passes over it once per panel.

References
----------
Yamamoto, Nakatsukasa, Yanagisawa and Fukaya, Electron. Trans. Numer. Anal. 44 (2015) 306
(CholeskyQR). Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, section 20.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..ops import Counters, Ops, is_on_host
from ..precision import FP32, Format
from .triangle import Triangle, unit_columns_of

Array = Any

_BUFFER_ELEMENTS = 2**19
"""Size of a block of rows that is converted and multiplied while in cache."""
_DEVICE_BUFFER = 2**26
"""The same on a device: enough for the rate of large products."""
_FEWEST_LEADING = 8


@dataclass(frozen=True, eq=False)
class GramFactors:
    """R^H R = A^H A with R upper triangular, C-like or F-like, and zeros below its diagonal.

    `info` is 0, or i > 0 where the leading minor of order i is not positive; R means nothing then.
    """

    r: Array
    info: int
    counters: Counters
    workspace_bytes: int


def gram(ops: Ops, a: Array, fmt: Format) -> GramFactors:
    """R of A = Q R from the Cholesky factorization of A^H A, Q left implicit.

    Parameters
    ----------
    a : array, shape (m, n), m >= n
        C-like or F-like, with squares that `fmt` can hold. Not changed.
    fmt : Format
        fp32 or fp64, not wider than A.

    Returns
    -------
    GramFactors

    Notes
    -----
    m n^2 + n^3 / 3 flops, half of Householder QR and all in level 3. The computed R satisfies
    R^H R = A^H A + E with ||E|| of order n u ||A||^2: a good preconditioner of the least-squares
    problem while kappa(A)^2 u is small. Scaling the columns of A changes nothing but the scale.

    A wider than `fmt` is converted by blocks of rows, in cache on the host. Workspace: G and such a
    block.
    """
    xp = ops.xp
    m, n = a.shape
    dtype = fmt.dtype(a.dtype)
    counters = Counters()
    g = xp.zeros((n, n), dtype, order="F")
    workspace = 2 * g.nbytes
    if a.dtype == dtype and (m <= 1 or a.strides[0] == a.itemsize):
        # G = A^H A = L L^H, R = L^H
        ops.syrk(1.0, a, 0.0, g, lower=True, trans="C")
        info = ops.first_info([(0, ops.potrf(g, lower=True))])
        r = g.T if a.dtype.kind != "c" else xp.conj(g.T)
        return GramFactors(xp.triu(r), info, counters, int(workspace))
    # A^T conj(A) = conj(G) = L L^H, R = L^T
    if a.dtype == dtype and (n <= 1 or a.strides[1] == a.itemsize) and m > 1:
        ops.syrk(1.0, a.T, 0.0, g, lower=True)
    else:
        elements = _BUFFER_ELEMENTS if is_on_host(a) else _DEVICE_BUFFER
        rows = max(1, min(m, max(512, elements // max(n, 1))))
        buffer = xp.empty((rows, n), dtype)
        workspace += buffer.nbytes
        for start in range(0, m, rows):
            part = a[start : start + rows]
            block = buffer[: part.shape[0]]
            if part.dtype != dtype and n > 1 and part.strides[1] == part.itemsize:
                lost = ops.convert(part, block)
                counters.add(lost.overflows, lost.underflows)
            else:
                block[...] = part
            ops.syrk(1.0, block.T, 1.0, g, lower=True)
    info = ops.first_info([(0, ops.potrf(g, lower=True))])
    return GramFactors(xp.triu(g.T), info, counters, int(workspace))


def trusted_rcond(fmt: Format, method: str) -> float:
    """The smallest rcond(R) that stands clear of the rounding errors made on the way to R.

    Those are of relative size u_f in A for method "qr", and in A^H A for method "gram".
    """
    u = fmt.unit_roundoff
    return float((100.0 * u) ** 0.5 if method == "gram" else 10.0 * u)


def foreseen_condition(ops: Ops, a: Array) -> float:
    """A guess at the condition number of A, columns scaled, from its first quarter of columns.

    Their fp32 Gram matrix costs a sixteenth of the whole one. Their condition number is a lower
    bound of that of A, up to the estimate, and the diagonal of their R shows how fast what is left
    of a column shrinks; where it goes on as it began, the other three quarters multiply the
    condition number by the fourth power of that. A guess that only decides what is tried first.
    Infinite where the Gram matrix is not positive definite in fp32.
    """
    few = a[:, : max(a.shape[1] // 4, min(_FEWEST_LEADING, a.shape[1]))]
    made = gram(ops, few, FP32)
    if made.info:
        return math.inf
    unit = unit_columns_of(ops, made.r)
    if unit is None:
        return math.inf
    rcond = Triangle.of(ops, unit).rcond
    left = abs(unit.diagonal())
    if not rcond >= trusted_rcond(FP32, "gram"):
        return math.inf
    return float(left.max() / left.min()) ** 4 / rcond
