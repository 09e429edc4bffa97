"""op(T) x = b for many small triangular matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LinAlgError
from ..ops.dispatch import batched_ops_for
from .gemm_options import operation
from .ragged import is_ragged
from .ragged_gemm import singular, trsm_listed
from .validate import batch_shape, operands, right_hand_sides, square

Array = NDArray[Any]

__all__ = ["trsm"]


def trsm(
    a: Any,
    b: Any,
    *,
    lower: bool = False,
    unit_diagonal: bool = False,
    trans: int | str = 0,
    raise_on_failure: bool = True,
) -> Any:
    """Solve ``op(a) x = b`` for every member of a batch, a triangular.

    Parameters
    ----------
    a : (..., n, n) array_like, or list of arrays, or Ragged
        The other triangle is not read. Any strides, without a copy.
    b : (..., n, nrhs) or (n,) array_like, or list of arrays, or Ragged
        Right-hand sides; one vector only if it has one dimension. Batch dimensions broadcast. Lists
        are of the same length, their members vectors or matrices, and a single `a` or `b` goes with
        every member of a list.
    lower : bool
        The triangle that is read.
    unit_diagonal : bool
        The diagonal counts as ones and is not read.
    trans : {0, 1, 2, "N", "T", "C"}
        op: nothing, the transpose, the conjugate transpose.
    raise_on_failure : bool
        If False, members with a zero on the diagonal give NaN, and all others are kept.

    Returns
    -------
    (..., n, nrhs) array, or list of arrays, or Ragged
        The solution, in the common dtype of a and b: float32, float64, complex64 or complex128;
        integers become float64. Shape (..., n) for one vector. Of lists the result is a list, of
        views of one buffer; if one of the operands is a Ragged, a Ragged.

    Raises
    ------
    LinAlgError
        If a diagonal has an exact zero, with the indices of the members.
    ValueError
        Shapes that do not fit, with the shapes.

    Notes
    -----
    Substitution. For each member ``|op(a) x - b| <= c n u |op(a)| |x|``, entry by entry, with a
    small constant c. Many small members (up to 16, and as many right-hand sides) are solved by code
    that is compiled for their size at its first use and kept on disk; others by BLAS.

    Flops: ``n^2 nrhs`` a member.

    References
    ----------
    Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, section 8.1.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import batched
    >>> a = np.array([[[2.0, 9.0], [1.0, 4.0]], [[1.0, 9.0], [0.0, 5.0]]])
    >>> batched.trsm(a, np.array([2.0, 5.0]), lower=True)
    array([[1., 1.],
           [2., 1.]])
    """
    flag = operation(trans, "trans")
    if is_ragged(a) or is_ragged(b):
        return trsm_listed(a, b, bool(lower), bool(unit_diagonal), flag, raise_on_failure)
    (a, b), _ = operands((a, "a"), (b, "b"))
    square(a)
    columns, is_vector = right_hand_sides(a, b, a.shape[-1])
    batch = batch_shape(a, columns)
    ops = batched_ops_for(a, columns)
    first, second = (
        x if x.shape[:-2] == batch else ops.xp.broadcast_to(x, (*batch, *x.shape[-2:]))
        for x in (a, columns)
    )
    x, judged = ops.trsm_batched(
        first, second, lower=bool(lower), unit=bool(unit_diagonal), trans=flag
    )
    if judged.members.size:
        if raise_on_failure:
            raise LinAlgError(singular(judged.members, judged.info, batch))
        x[np.unravel_index(judged.members, batch) if batch else ()] = np.nan
    return x[..., 0] if is_vector else x
