"""contract: Einstein's notation, computed as products of matrices."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..precision import Format, get_format, working_format
from . import subscripts as notation
from .path import as_order
from .plan import Plan, plan
from .product import as_array, engine_for

Array = Any

__all__ = ["contract", "contract_path"]

_LAPACK = frozenset(np.dtype(char) for char in "fdFD")
_COMPUTED = _LAPACK | {np.dtype("e")}


def contract(
    subscripts: Any,
    *operands: Any,
    precision: str | Format = "working",
    optimize: Any = "auto",
    out: Array | None = None,
) -> Any:
    """Add up products of arrays, in Einstein's notation: ``C[i, j] = sum_k A[i, k] B[k, j]``.

    What `numpy.einsum` computes, by products of matrices: of more than two operands, two are
    multiplied at a time, in an order that takes few operations [1]_, and each of these products
    is a matrix product or a stack of them on views of its operands [2]_. Indices are fused and
    matrices are transposed by their strides; numbers are copied only where strides leave no other
    way, or where many small products would take longer. `contract_path` prints what is done.

    Parameters
    ----------
    subscripts : str
        As for `numpy.einsum`: a letter an index, operands separated by commas, the result after
        ``->``. Indices that the result does not have are summed. Without ``->``, the result has
        the indices that occur once, in alphabetical order. ``...`` stands for further dimensions,
        which are broadcast; so are dimensions that are 1.
    *operands : array_like
        NumPy or CuPy arrays, or what becomes one. Instead of `subscripts` and operands, each
        operand may be followed by the list of its indices, integers or ``...``, with that of the
        result at the end.
    precision : {"working", "fp16", "bf16", "tf32", "fp16x2", "fp32", "fp64"}
        Format of the matrix products. Below the working precision, their operands are rounded to
        it, and sums are those of fp32. Products in which nothing is summed are of working
        precision.
    optimize : str, bool or list of tuple of int
        How the order of the products is found, where there are more than two operands: a name
        that `opt_einsum.contract_path` knows, or the order itself, as `numpy.einsum_path` gives
        it; False is from left to right.
    out : ndarray, optional
        Where the result is written. It may overlap the operands.

    Returns
    -------
    ndarray or scalar
        In the common dtype of the operands. Not always in C order; with one operand, and nothing
        summed, a view of it.

    Raises
    ------
    ValueError
        Subscripts that are malformed or do not fit the operands, a precision above the working
        one, an `out` of another shape.
    TypeError
        Arguments of the wrong kind, arrays that are not numeric, NumPy and CuPy arrays in one
        call, an `out` that cannot hold the result.

    See Also
    --------
    contract_path : The products, as a table.

    Notes
    -----
    Each number of the result differs from the exact one by at most ``n u`` times the same sum of
    absolute values, n the number of terms and of factors, as for any order of summation. The plan
    is kept, for the shapes and strides that were seen last, so that a repeated call only looks it
    up. Half precision is computed in single and rounded once. Integers, booleans, extended
    precision and objects go to `numpy.einsum`.

    References
    ----------
    .. [1] Smith and Gray, J. Open Source Softw. 3 (2018) 753, opt_einsum.
    .. [2] Di Napoli, Fabregat-Traver, Quintana-Ortí and Bientinesi, Appl. Math. Comput. 235
       (2014) 454; Shi, Niranjan, Anandkumar and Cecka, HiPC 2016 (stacks of products).

    Examples
    --------
    ``C[i1, i2, i3] = sum_k A[k, i1] B[k, i2, i3]`` is one matrix product:

    >>> import numpy as np
    >>> from mplinalg.fem import contract
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.standard_normal((5, 3)), rng.standard_normal((5, 4, 2))
    >>> c = contract("kI,kJL->IJL", a, b)
    >>> c.shape, np.allclose(c, np.einsum("kI,kJL->IJL", a, b))
    ((3, 4, 2), True)
    """
    given, arrays, dtype = _operands(subscripts, operands)
    if out is None:
        engine = engine_for(*arrays)
    else:
        _require_array(out, arrays[0])
        engine = engine_for(*arrays, out)
    compute = None if precision == "working" else _compute(precision, dtype)
    if dtype not in _COMPUTED:
        result = _by_einsum(engine.xp, given, arrays)
        if out is None:
            return result
        _check_out(out, result.shape, dtype)
        out[...] = result
        return out
    working = _working(dtype)
    arrays = [a if a.dtype == working else a.astype(working) for a in arrays]
    planned = _planned(given, arrays, optimize, compute is not None)
    if out is None:
        result = planned.run(engine, arrays, compute)
        if working != dtype:
            result = result.astype(dtype)
        return result if result.shape else result[()]
    _check_out(out, planned.shape, dtype)
    overlaps = any(engine.xp.may_share_memory(out, a) for a in arrays)
    return planned.run(
        engine, arrays, compute, out, write_early=out.dtype == working and not overlaps
    )


def contract_path(subscripts: Any, *operands: Any, optimize: Any = "auto") -> Plan:
    """What `contract` does with these operands: which products of which matrices.

    Parameters
    ----------
    subscripts : str
        As for `contract`.
    *operands : array_like
        As for `contract`; only shapes, strides and dtypes are looked at. Of dtypes that `contract`
        leaves to `numpy.einsum`, the plan is that of float64.
    optimize : str, bool or list of tuple of int
        As for `contract`.

    Returns
    -------
    Plan
        Printed, a table with a line a product: "gemm", a product of matrices m by k and k by n or
        a stack of them; "multiply", of numbers; "einsum", sums of numbers that are used once. It
        says which operands are copied. `steps`, `flops` and `copied` are attributes.

    Raises
    ------
    ValueError, TypeError
        As `contract`.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg.fem import contract_path
    >>> print(contract_path("kI,kJL->IJL", np.ones((5, 3)), np.ones((5, 4, 2))))
    'kI,kJL->IJL', result of shape (3, 4, 2)
        product                 as              m      n      k    batch  left        right
     1  kI,kJL->IJL             gemm            3      8      5        1  transposed  as it is
    240 flops, 0 numbers copied
    """
    given, arrays, dtype = _operands(subscripts, operands)
    xp = engine_for(*arrays).xp
    working = _working(dtype) if dtype in _COMPUTED else np.dtype(np.float64)
    arrays = [a if a.dtype == working else xp.empty_like(a, working) for a in arrays]
    return _planned(given, arrays, optimize, low=False)


def _operands(subscripts: Any, operands: tuple[Any, ...]) -> tuple[str, list[Array], np.dtype[Any]]:
    """Subscripts as a string, arrays, and their common dtype."""
    if not isinstance(subscripts, str):
        subscripts, operands = notation.from_lists((subscripts, *operands))
    if not operands:
        raise ValueError(f"no operands for the subscripts {subscripts!r}")
    arrays = [as_array(a, f"operand {k}") for k, a in enumerate(operands)]
    dtype = arrays[0].dtype
    if dtype in _LAPACK and all(a.dtype == dtype for a in arrays):
        return subscripts, arrays, dtype
    for k, a in enumerate(arrays):
        if a.dtype.kind not in "biufcO":
            raise TypeError(f"operand {k} must be numeric, got dtype {a.dtype}")
    return subscripts, arrays, np.result_type(*(a.dtype for a in arrays)).newbyteorder("=")


def _working(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What is computed in; half precision is rounded in the end."""
    return np.dtype(np.float32) if dtype.char == "e" else dtype


def _planned(subscripts: str, arrays: list[Array], optimize: Any, low: bool) -> Plan:
    layouts = tuple([(a.shape, a.strides) for a in arrays])
    return plan(subscripts, layouts, arrays[0].dtype.char, as_order(optimize), low)


def _compute(precision: str | Format, dtype: np.dtype[Any]) -> Format | None:
    """The format of the products; None for that of `dtype`."""
    try:
        fmt = get_format(precision)
    except ValueError as error:
        raise ValueError(f"{error} (or 'working')") from None
    if dtype not in _COMPUTED:
        raise ValueError(f"precision={fmt.name!r} for operands of dtype {dtype}: not of that kind")
    working = working_format(np.result_type(dtype, np.float32))
    if fmt.unit_roundoff < working.unit_roundoff:
        raise ValueError(f"precision={fmt.name!r} is wider than the {dtype} of the operands")
    return None if fmt is working else fmt


def _by_einsum(xp: Any, subscripts: str, arrays: list[Array]) -> Any:
    """Of dtypes that no matrix product is fast for: exact for integers."""
    terms = notation.parse(subscripts, tuple(a.shape for a in arrays))
    if 0 in terms.sizes.values():  # NumPy's einsum may write beyond a result without entries
        dtype = np.result_type(*(a.dtype for a in arrays)).newbyteorder("=")
        return xp.zeros(terms.shape, dtype)[()]
    if len(terms.sizes) > 52:
        raise ValueError(
            f"NumPy's einsum, which contracts arrays of dtype {arrays[0].dtype}, knows 52 indices; "
            f"got {len(terms.sizes)}"
        )
    if not subscripts.isascii():  # letters that einsum does not know
        number = {index: k for k, index in enumerate(terms.sizes)}
        lists = [[number[index] for index in term] for term in (*terms.inputs, terms.output)]
        pairs = itertools.chain(*zip(arrays, lists[:-1], strict=True))
        return xp.einsum(*pairs, lists[-1], optimize=len(arrays) > 2)
    return xp.einsum(subscripts, *arrays, optimize=len(arrays) > 2)


def _require_array(out: Any, like: Array) -> None:
    if not isinstance(out, type(like)):
        raise TypeError(f"out must be an array as the operands are, got {type(out).__name__}")


def _check_out(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, but the result has shape {shape}")
    if not np.can_cast(dtype, out.dtype, "safe"):
        raise TypeError(f"out of dtype {out.dtype} cannot hold a result of dtype {dtype}")
    if not getattr(out.flags, "writeable", True):  # kernels write to its address
        raise ValueError("out is read-only")
