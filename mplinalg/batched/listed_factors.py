"""Factors of matrices of different orders: those of each order are a stack, as in `factors`."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..ops.batched import Judged
from ..precision import real_dtype, working_format
from .by_shape import as_ragged, dtype_of, run_by_shape
from .factors import BatchedFactors, eps_of, seen_in, solve_stacks
from .failures import Findings
from .ragged import Ragged
from .report import BatchReport

__all__ = ["ListedFactors", "solve_listed"]

Array = NDArray[Any]


class ListedFactors:
    """Factors of a list of matrices, and the matrices: of a `Ragged` by reference, or a copy."""

    _of: ClassVar[type[BatchedFactors]]
    """How a stack of them is factored."""

    def __init__(self, a: Any, kind: str) -> None:
        """Factor a list or `Ragged` of square matrices; `kind` is that of `BatchedFactors`."""
        members = _squares(a, "a")
        dtype = dtype_of(members)
        data = arguments.to_dtype(members.data, dtype)
        if data is not members.data:
            members = Ragged._of(data, members.offsets, members.shapes)
        self._a, self._kind, self._is_ragged = members, kind, isinstance(a, Ragged)
        self._wide: Self | None = None

        def run(stack: Array) -> tuple[tuple[Array, ...], Judged]:
            factors, piv, judged = self._of._compute(stack, kind)
            return (factors,) if piv is None else (factors, piv), judged

        parts, self._judged = run_by_shape(run, [members], dtype, self._of._parts(dtype))
        self._factors, self._piv = parts[0], parts[1] if len(parts) > 1 else None

    @property
    def shapes(self) -> Array:
        """Of the members, (N, 2) int64."""
        return self._a.shapes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the factors."""
        return self._a.dtype

    @property
    def status(self) -> NDArray[Any]:
        """`Status` of each member; DIRECT where there is nothing to say."""
        return self._findings().spread()[0]

    def __len__(self) -> int:
        return 2

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._a!r})"

    def _findings(self) -> Findings:
        count = len(self._a)
        return Findings(self._judged, (count,), eps_of(self.dtype), None, self._of._breakdown)

    def _formed(self, parts: Ragged) -> Any:
        """Members of a `Ragged` in the form that the matrices came in."""
        return parts if self._is_ragged else parts.to_list()

    def _solve(
        self, b: Any, flag: str, raise_on_failure: bool, full_output: bool, stacklevel: int
    ) -> Any:
        right = as_ragged(b, "b")
        dtype = dtype_of(self._a, right)
        if real_dtype(dtype) != real_dtype(self.dtype):
            return self._widened(dtype)._solve(
                b, flag, raise_on_failure, full_output, stacklevel + 1
            )
        return solve_listed(
            self._of, self._factors, self._piv, b, flag, raise_on_failure, full_output,
            stacklevel + 1, owner=self,
        )  # fmt: skip

    def _widened(self, dtype: np.dtype[Any]) -> Self:
        """Factors in double precision, computed once."""
        if self._wide is None:
            wide = np.promote_types(self.dtype, real_dtype(dtype))
            data = self._a.data.astype(wide)
            self._wide = type(self)(Ragged._of(data, self._a.offsets, self._a.shapes), self._kind)
        return self._wide


def _squares(a: Any, name: str) -> Ragged:
    """A list of square matrices as a `Ragged`."""
    members = as_ragged(a, name, 2)
    for k in np.flatnonzero(np.diff(members.shapes, axis=1))[:1]:
        raise ValueError(f"Expected square matrices, got {name}[{k}].shape={members[k].shape}")
    return members


def solve_listed(
    kind: type[BatchedFactors], factors: Any, piv: Any, b: Any, flag: str, raise_on_failure: bool,
    full_output: bool, stacklevel: int, owner: ListedFactors | None = None,
) -> Any:  # fmt: skip
    """Solve for lists; factors without an owner are plain ones, and know nothing but themselves."""
    began = time.perf_counter()
    first, right = _squares(factors, "factors"), as_ragged(b, "b")
    count = len(first)
    if len(right) != count:
        raise ValueError(f"factors of {count} matrices, and b has {len(right)} members")
    _require_rows(first, right, "b")
    numbers = Ragged._of(np.arange(count), np.arange(count), np.ones((count, 1), np.int64))
    operands, dtype = [numbers, first, right], dtype_of(first, right)
    if piv is not None:
        rows = as_ragged(piv, "piv")
        if len(rows) != count:
            raise ValueError(f"factors of {count} matrices, and piv has {len(rows)} members")
        if rows.dtype.kind not in "iu" and count:
            raise TypeError(f"pivots must be integers, got dtype {rows.dtype}")
        _require_rows(first, rows, "piv")
        operands.append(rows)
    if owner is not None:
        operands.append(owner._a)

    def run(places: Array, f: Array, q: Array, *others: Array) -> Any:
        p = others[0] if piv is not None else None
        matrices = None
        if owner is None:
            f, q = arguments.to_dtype(f, dtype), arguments.to_dtype(q, dtype)
            known = seen_in(f, p)
        else:
            q = arguments.to_dtype(q, arguments.common_dtype(q))
            known = _among(owner._judged, places[:, 0])
            matrices = kind._known(others[-1], owner._kind, known)
        columns = q if right.ndim == 2 else q[..., None]
        done = solve_stacks(kind, f, p, columns, (len(f),), flag, known, matrices, full_output)
        errors = np.full(len(f), np.nan) if done.errors is None else done.errors
        x = arguments.to_dtype(done.x, dtype)
        return (x if right.ndim == 2 else x[..., 0], errors[:, None]), done.judged

    (x, errors), judged = run_by_shape(run, operands, None, [dtype, float])
    findings = Findings(judged, (count,), eps_of(dtype), None, kind._breakdown)
    findings.conclude(raise_on_failure, stacklevel + 1)
    answer = x if isinstance(b, Ragged) else x.to_list()
    if not full_output:
        return answer
    status, info = findings.spread()
    found = None if owner is None else errors.data[errors.offsets]
    seconds = {"total": time.perf_counter() - began}
    steps, name = np.zeros(count, np.int64), working_format(dtype).name
    return answer, BatchReport(status, info, found, name, steps, seconds)


def _require_rows(factors: Ragged, x: Ragged, name: str) -> None:
    """Raise ValueError unless members have as many rows as the matrices."""
    for k in np.flatnonzero(factors.shapes[:, 0] != x.shapes[:, 0])[:1]:
        raise ValueError(
            f"incompatible shapes: factors[{k}].shape={factors[k].shape}, "
            f"{name}[{k}].shape={x[k].shape}"
        )


def _among(judged: Judged, places: Array) -> Judged:
    """What is known of some of the members, in ascending order, numbered among these."""
    chosen = np.isin(judged.members, places)
    members = np.searchsorted(places, judged.members[chosen])
    return Judged(members, judged.info[chosen], judged.rcond[chosen])
