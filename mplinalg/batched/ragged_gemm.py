"""gemm and trsm of lists of matrices of different sizes."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import as_array, common_dtype
from ..errors import LinAlgError
from ..ops.dispatch import batched_ops_for
from ..ops.ragged import Listed
from ..precision import Format
from .failures import names_of
from .gemm_options import check_out, compute_format, result_dtype, rounded
from .ragged import Ragged, arrays_of, is_ragged, uniform

Array = NDArray[Any]

__all__ = ["gemm_listed", "trsm_listed"]

_WRITEABLE, _STRIDES = operator.attrgetter("flags.writeable"), operator.attrgetter("strides")


class _Operand(NamedTuple):
    """Members of one dtype: those of a list, or one that goes with every member of others."""

    name: str
    source: Any
    """A Ragged, or a list of arrays."""
    seen: Listed
    is_single: bool

    @property
    def shapes(self) -> Array:
        return self.seen.shapes

    def shown(self, k: int) -> str:
        """The shape of a member, for messages."""
        if self.is_single:
            return f"{self.name}.shape={self.source[0].shape}"
        return f"{self.name}[{k}].shape={self.source[k].shape}"

    def to_dtype(self, dtype: np.dtype[Any]) -> _Operand:
        if self.seen.dtype == dtype:
            return self
        if isinstance(self.source, Ragged):
            r = self.source
            source: Any = Ragged._of(r.data.astype(dtype), r.offsets, r.shapes)
            return self._replace(source=source, seen=source._listed())
        source, seen = uniform(self.source, self.name, dtype)
        return self._replace(source=source, seen=seen)


def _operand(x: Any, name: str, ndim: tuple[int, ...]) -> _Operand | None:
    """x as members; None for an empty list."""
    if isinstance(x, Ragged):
        if not len(x):
            return None
        found = _Operand(name, x, x._listed(), False)
    elif is_ragged(x):
        if not len(x):
            return None
        found = _Operand(name, *uniform(x, name), False)
    else:
        found = _Operand(name, *uniform([as_array(x, name)], name), True)
    if found.seen.ndim not in ndim:
        raise ValueError(f"members must be matrices, got {found.shown(0)}")
    return found


def _operands(named: list[tuple[Any, str, tuple[int, ...]]]) -> tuple[list[_Operand], int]:
    """Members of all operands, and how many a list has; no operands if there are none.

    Raises
    ------
    ValueError
        If lists differ in length.
    """
    lengths = {name: len(x) for x, name, _ in named if is_ragged(x)}
    count = next(iter(lengths.values()))
    if any(length != count for length in lengths.values()):
        text = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"lists of different lengths: {text}")
    found = [_operand(*one) for one in named]
    if count == 0:
        return [], 0
    return [operand for operand in found if operand is not None], count


def _require(fits: Array, text: str, *operands: _Operand) -> None:
    """Raise ValueError, with the shapes of the first member that does not fit."""
    wrong = np.flatnonzero(~fits)
    if wrong.size:
        shapes = ", ".join(operand.shown(int(wrong[0])) for operand in operands)
        raise ValueError(f"{text}: {shapes}")


def _in_form_of(result: Ragged, given: list[Any]) -> Any:
    """A Ragged if one of the operands is, or a list."""
    return result if any(isinstance(x, Ragged) for x in given) else result.to_list()


def gemm_listed(
    a: Any, b: Any, c: Any, alpha: complex, beta: complex, transa: str, transb: str,
    precision: str | Format, out: Any,
) -> Any:  # fmt: skip
    """As `gemm`, with at least one list; c is None if it does not count."""
    given = [a, b] if c is None else [a, b, c]
    if out is not None and not is_ragged(out):
        kind = type(out).__name__
        raise ValueError(f"out must be a list or Ragged, as the operands are, got {kind}")
    if not any(is_ragged(x) for x in given):
        raise ValueError("out is a list, and no operand is")
    operands, count = _operands([(x, name, (2,)) for x, name in zip(given, "abc", strict=False)])
    if count == 0:
        if out is not None and len(out):
            raise ValueError(f"out has {len(out)} members, and the operands have none")
        return out if out is not None else _in_form_of(Ragged.from_list([]), given)
    dtype = result_dtype([np.empty(0, x.seen.dtype) for x in operands], alpha, beta)
    alpha, beta = rounded(alpha, dtype), rounded(beta, dtype)
    fmt = compute_format(precision, dtype)
    operands = [x.to_dtype(dtype) for x in operands]
    first, second = operands[0], operands[1]
    size_a = first.shapes if transa == "N" else first.shapes[:, ::-1]
    size_b = second.shapes if transb == "N" else second.shapes[:, ::-1]
    _require(size_a[:, 1] == size_b[:, 0], "columns of op(a) are not rows of op(b)", first, second)
    shapes = np.empty((count, 2), np.int64)
    shapes[:, 0], shapes[:, 1] = size_a[:, 0], size_b[:, 1]
    old = None if c is None else operands[2]
    if old is not None:
        fits = (old.shapes == shapes).all(axis=1)
        _require(np.broadcast_to(fits, count), "c does not fit op(a) op(b)", first, second, old)
    ops = batched_ops_for(first.source[0])
    room = None if out is None else _checked_out(out, shapes, dtype)
    read = [x.seen for x in operands if x is not old or c is not out]
    if room is not None and ops.are_apart(room, read):
        result, target = out, room
    elif room is None and ops.xp is np and not any(isinstance(x, Ragged) for x in given):
        # memory that a process has given back, where one large buffer would be new pages
        result = arrays_of(shapes, dtype)
        target = uniform(result, "result")[1]
    else:
        result = Ragged.empty(shapes, dtype, xp=ops.xp)
        target = result._listed()
    if old is not None and (result is not out or c is not out):
        ops.copy_listed(old.seen, target)
    ops.gemm_listed(
        alpha, first.seen, second.seen, beta, target, transa=transa, transb=transb, compute=fmt
    )
    if room is None:
        return _in_form_of(result, given) if isinstance(result, Ragged) else result
    if result is not out:
        ops.copy_listed(target, room)
    return out


def _checked_out(out: Any, shapes: Array, dtype: np.dtype[Any]) -> Listed:
    """The members that a result is stored in."""
    if len(out) != len(shapes):
        raise ValueError(f"out has {len(out)} members, the result {len(shapes)}")
    if isinstance(out, Ragged):
        if out.ndim != 2:
            raise ValueError(f"out must hold matrices, got out[0].shape={out[0].shape}")
        for k in np.flatnonzero((out.shapes != shapes).any(axis=1))[:1]:
            shape = tuple(shapes[k].tolist())
            raise ValueError(f"out[{k}].shape={out[k].shape}, and that of the result is {shape}")
        if out.dtype != dtype:
            raise TypeError(f"out must be of dtype {dtype}, got {out.dtype}")
        if not getattr(out.data.flags, "writeable", True):
            raise ValueError("out is read-only")
        return out._listed()
    # all at once; member by member, which takes a microsecond each, only to say what is wrong
    seen = batched_ops_for(out[0]).listed(out) if type(out[0]) is np.ndarray else None
    if (
        seen is not None and seen.ndim == 2 and seen.dtype == dtype and seen.dtype.isnative
        and np.array_equal(seen.shapes, shapes)
        and all(map(_WRITEABLE, out)) and all(map(all, map(_STRIDES, out)))
    ):  # fmt: skip
        return seen
    for member, shape in zip(out, shapes.tolist(), strict=True):
        check_out(member, tuple(shape), dtype)
    return uniform(out, "out")[1]


def trsm_listed(a: Any, b: Any, lower: bool, unit: bool, trans: str, raise_on_failure: bool) -> Any:
    """As `trsm`, with at least one list."""
    given = [a, b]
    operands, count = _operands([(a, "a", (2,)), (b, "b", (1, 2))])
    if count == 0:
        return _in_form_of(Ragged.from_list([]), given)
    dtype = common_dtype(*(np.empty(0, x.seen.dtype) for x in operands))
    first, second = (x.to_dtype(dtype) for x in operands)
    _require(first.shapes[:, 0] == first.shapes[:, 1], "Expected square matrices", first)
    fits = first.shapes[:, 0] == second.shapes[:, 0]
    _require(np.broadcast_to(fits, count), "incompatible shapes", first, second)
    ops = batched_ops_for(first.source[0])
    shapes = np.broadcast_to(second.shapes[:, : second.seen.ndim], (count, second.seen.ndim))
    x = Ragged.empty(shapes, dtype, xp=ops.xp)
    target = x._listed()
    ops.copy_listed(second.seen, target)
    info = ops.trsm_listed(first.seen, target, lower=lower, unit=unit, trans=trans)
    bad = np.flatnonzero(info)
    if bad.size and raise_on_failure:
        raise LinAlgError(singular(bad, info[bad], (count,)))
    for member in bad:
        x[member][...] = np.nan
    return _in_form_of(x, given)


def singular(members: Array, info: Array, batch: tuple[int, ...]) -> str:
    """What a LinAlgError says of triangles with a zero on the diagonal."""
    first = "" if members.size == 1 else "of the first, "
    return (
        f"Singular: {names_of(members, batch)}; {first}entry {int(info[0])} of the diagonal is "
        "exactly zero."
    )
