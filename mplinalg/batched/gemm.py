"""alpha op(A) op(B) + beta C for many small matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import as_array, to_dtype
from ..ops.dispatch import batched_ops_for
from ..ops.numpy_batched_gemm import small_product
from ..precision import Format
from .gemm_options import check_out, compute_format, operation, result_dtype, rounded, scalar
from .ragged import is_ragged
from .ragged_gemm import gemm_listed
from .validate import batch_shape, matrices

Array = NDArray[Any]

__all__ = ["gemm"]


def gemm(
    a: Any,
    b: Any,
    c: Any = None,
    *,
    alpha: complex = 1.0,
    beta: complex = 0.0,
    transa: bool | str = False,
    transb: bool | str = False,
    precision: str | Format = "working",
    out: Any = None,
) -> Any:
    """Compute ``alpha op(a) op(b) + beta c`` for every member of a batch.

    Parameters
    ----------
    a : (..., m, k) array_like, or list of arrays, or Ragged
        With `transa`, (..., k, m). Any strides, those of 0 among them, without a copy.
    b : (..., k, n) array_like, or list of arrays, or Ragged
        With `transb`, (..., n, k). Batch dimensions broadcast as in `numpy.matmul`. Lists are of
        one length, and a single matrix goes with every member of a list.
    c : (..., m, n) array_like, or list of arrays, or Ragged, optional
        It is broadcast to the result, and read only if `beta` is not 0.
    alpha, beta : scalar
        As in BLAS they are rounded to the dtype, and `a` and `b` are not read if `alpha` is 0: NaN
        in them does not matter then.
    transa, transb : {False, True, "N", "T", "C"}
        op: nothing, the transpose, or ("C") the conjugate transpose.
    precision : {"working", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}
        What operands are rounded to; their products are summed in fp32 (in fp64 for "fp64"). Each
        member is scaled first by a power of two, which is undone in the result. alpha, beta and c
        are applied in working precision.
    out : array, or list of arrays, or Ragged, optional
        Where the result is stored, of its shape and dtype. It may be `c`, `a` or `b`, or overlap
        them: ``gemm(a, b, c, beta=1.0, out=c)`` is BLAS's gemm, in place.

    Returns
    -------
    (..., m, n) array, or list of arrays, or Ragged
        `out`, if it is given. The dtype is the common one of the operands: float32, float64,
        complex64 or complex128; integers become float64. Of lists the result is a list;
        if one of the operands is a Ragged, a Ragged.

    Raises
    ------
    ValueError
        Shapes that do not fit, with the shapes; unknown options; a `precision` wider than the
        dtype.
    TypeError
        An `out` of another dtype.

    Notes
    -----
    Many small members (up to about 16) are multiplied by code that is compiled for their size at
    its first use and kept on disk; real ones of up to 3 MiB in all by kernels that read the next
    member while one is computed; others by BLAS, called by its address in a compiled loop, or few
    by `numpy.matmul`. So the last bits of a member may depend on how many others there are. The
    error of each entry is at most about ``k u (|alpha| |op(a)| |op(b)|)``, whatever the route.
    Batches are spread over the threads of SciPy's BLAS; results do not depend on how many these
    are, but for the last bits of members with m n k > 64^3 that BLAS multiplies, on several:
    complex or larger ones, those whose result has no contiguous rows or columns, and where they are
    fewer than threads.

    Flops: ``2 m n k`` a member. Without `out` one array is allocated, for the result; if `out`
    overlaps `a` or `b`, another one.

    References
    ----------
    Dongarra, Du Croz, Hammarling and Duff, ACM Trans. Math. Softw. 16 (1990) 1 (gemm).
    Ootomo and Yokota, Int. J. High Perform. Comput. Appl. 36 (2022) 475 (fp16x2).

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> a, b = np.ones((1000, 2, 3)), np.ones((3, 2))  # b goes with every member of a
    >>> batched.gemm(a, b).shape
    (1000, 2, 2)
    >>> c = np.ones((1000, 3, 3))
    >>> batched.gemm(a, a, c, transa=True, beta=10.0, out=c) is c  # A^T A + 10 C in place of C
    True
    >>> c[0, 0, 0]
    np.float64(12.0)

    Members of different sizes:

    >>> [x.shape for x in batched.gemm([np.ones((2, 3)), np.ones((4, 1))], [b, np.ones((1, 5))])]
    [(2, 2), (4, 5)]
    """
    if (
        c is out is None and transa is transb is False
        and type(precision) is str and precision == "working"
        and type(alpha) is float and alpha == 1.0 and type(beta) is float and beta == 0.0
    ):  # fmt: skip
        product = small_product(a, b)
        if product is not None:
            return product
    flag_a, flag_b = operation(transa, "transa"), operation(transb, "transb")
    alpha, beta = scalar(alpha, "alpha"), scalar(beta, "beta")
    if beta != 0 and c is None:
        raise ValueError(f"beta = {beta} needs a c")
    added = c if beta != 0 else None
    given = (a, b) if added is None else (a, b, added)
    if any(is_ragged(x) for x in given) or (out is not None and is_ragged(out)):
        return gemm_listed(a, b, added, alpha, beta, flag_a, flag_b, precision, out)
    arrays = [as_array(x, name) for x, name in zip(given, "abc", strict=False)]
    dtype = result_dtype(arrays, alpha, beta)
    alpha, beta = rounded(alpha, dtype), rounded(beta, dtype)
    fmt = compute_format(precision, dtype)
    arrays = [to_dtype(x, dtype) for x in arrays]
    ops = batched_ops_for(*arrays)
    for x, name in zip(arrays, "abc", strict=False):
        matrices(x, name)
    first, second = arrays[0], arrays[1]
    m, inner = _core(first, flag_a)
    rows, n = _core(second, flag_b)
    if inner != rows:
        raise ValueError(
            f"op(a) has {inner} columns and op(b) {rows} rows: a.shape={first.shape}, "
            f"transa={transa!r}, b.shape={second.shape}, transb={transb!r}"
        )
    batch = batch_shape(first, second)
    shape = (*batch, m, n)
    xp = ops.xp
    if added is not None:
        shape = _broadcast_shape(shape, arrays[2])
        batch = shape[:-2]
    if out is None:
        result = xp.empty(shape, dtype)
    else:
        check_out(out, shape, dtype)
        result = out
        if any(xp.may_share_memory(out, x) for x in arrays[:2]):
            result = xp.empty(shape, dtype)
    if added is not None and result is not arrays[2]:
        result[...] = arrays[2]
    first, second = (
        x if x.shape[:-2] == batch else xp.broadcast_to(x, (*batch, *x.shape[-2:]))
        for x in (first, second)
    )
    ops.gemm_batched(alpha, first, second, beta, result, transa=flag_a, transb=flag_b, compute=fmt)
    if out is None:
        return result
    if result is not out:
        out[...] = result
    return out


def _core(a: Array, flag: str) -> tuple[int, int]:
    """Rows and columns of op(a)."""
    m, n = a.shape[-2:]
    return (m, n) if flag == "N" else (n, m)


def _broadcast_shape(shape: tuple[int, ...], c: Array) -> tuple[int, ...]:
    """The shape of the result, of which c must have the rows and columns, or 1 of them."""
    try:
        found = np.broadcast_shapes(shape, c.shape)
    except ValueError:
        found = ()
    if found[-2:] != shape[-2:]:
        raise ValueError(f"c.shape={c.shape} does not broadcast to the product, of shape {shape}")
    return found
