"""What the batched functions accept beyond `arguments`: stacks of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import as_array, common_dtype, to_dtype
from ..ops.dispatch import ops_for

Array = NDArray[Any]


def operands(*named: tuple[Any, str]) -> tuple[list[Array], np.dtype[Any]]:
    """Arrays of one LAPACK dtype and one backend from pairs of what was given and its name."""
    arrays = [as_array(x, name) for x, name in named]
    ops_for(*arrays)
    dtype = common_dtype(*arrays)
    return [to_dtype(a, dtype) for a in arrays], dtype


def matrices(a: Array, name: str = "a") -> None:
    """Raise ValueError unless `a` is a stack of matrices."""
    if a.ndim < 2:
        raise ValueError(f"Expected at least ndim=2, got {name}.ndim={a.ndim}")


def square(a: Array, name: str = "a") -> None:
    """Raise ValueError unless `a` is a stack of square matrices."""
    matrices(a, name)
    if a.shape[-1] != a.shape[-2]:
        raise ValueError(f"Expected square matrices, got {name}.shape={a.shape}")


def right_hand_sides(a: Array, b: Array, rows: int) -> tuple[Array, bool]:
    """`b` as a stack of matrices of `rows` rows, and whether it was one vector, of shape (rows,).

    Raises
    ------
    ValueError
        If it has another number of rows.
    """
    if b.ndim == 0:
        raise ValueError(f"b must be a vector or a stack of matrices, got {b.shape=}")
    columns, is_vector = (b[:, None], True) if b.ndim == 1 else (b, False)
    if columns.shape[-2] != rows:
        hint = ""
        if b.ndim >= 2 and b.shape[-1] == rows:
            hint = "; a stack of vectors (..., n) is written b[..., None]"
        raise ValueError(f"incompatible shapes: {a.shape=} and {b.shape=}{hint}")
    return columns, is_vector


def batch_shape(*arrays: Array) -> tuple[int, ...]:
    """What the batch dimensions, all but the last two, broadcast to.

    Raises
    ------
    ValueError
        If they do not.
    """
    batches = [a.shape[:-2] for a in arrays]
    if all(batch == batches[0] for batch in batches):
        return batches[0]
    try:
        return np.broadcast_shapes(*batches)
    except ValueError:
        shapes = " and ".join(str(a.shape) for a in arrays)
        raise ValueError(f"batch dimensions do not broadcast: {shapes}") from None


def stack(a: Array, batch: tuple[int, ...]) -> Array:
    """`a`, broadcast to the batch dimensions `batch`, as (N, m, n); a view where it can be one."""
    core = a.shape[-2:]
    if a.shape[:-2] != batch:
        a = ops_for(a).xp.broadcast_to(a, (*batch, *core))
    return a if len(batch) == 1 else a.reshape((math.prod(batch), *core))


def on_host(a: Array) -> Array:
    """An array of any backend as NumPy's: for what is said of members, not for what is computed."""
    return a if isinstance(a, np.ndarray) else np.array(a.tolist(), dtype=a.dtype)


def on_device_of(a: Array, members: Array) -> Array:
    """Members by number, as the backend of `a` takes them for an index."""
    return ops_for(a).xp.asarray(members)
