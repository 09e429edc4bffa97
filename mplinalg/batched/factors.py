"""What the factors of a batch know, and how they solve: the same for LU and Cholesky.

Stacks are here, lists of different orders in `listed_factors`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import arguments
from ..ops import batched_ops_for, ops_for
from ..ops.batched import NOT_FINITE, Judged
from ..precision import real_dtype, working_format
from ..report import Status
from . import validate
from .failures import Findings
from .refined import backward_errors
from .report import BatchReport

__all__ = ["BatchedFactors", "Solved", "eps_of", "seen_in", "solve_stacks", "solve_with"]

Array = NDArray[Any]
Substitute = Callable[[Array, Array | None, Array, str], Array]


class BatchedFactors:
    """Factors of a batch of matrices, and the matrices, by reference."""

    _breakdown: ClassVar[Status]

    def __init__(self, a: Array, kind: str) -> None:
        """Factor a batch of square matrices of a LAPACK dtype; `kind` is the subclass's own."""
        self._a, self._kind = a, kind
        factors, piv, self._judged = self._compute(validate.stack(a, a.shape[:-2]), kind)
        self._factors = factors.reshape(a.shape)
        self._piv = None if piv is None else piv.reshape(a.shape[:-1])
        self._wide: Self | None = None

    @classmethod
    def _made(cls, a: ArrayLike, kind: str) -> Self:
        (array,), _ = validate.operands((a, "a"))
        validate.square(array)
        return cls(array, kind)

    @classmethod
    def _known(cls, a: Array, kind: str, judged: Judged) -> Self:
        """Matrices of which the factors are elsewhere, to solve again, and to judge answers."""
        made = cls.__new__(cls)
        made._a, made._kind, made._judged, made._wide = a, kind, judged, None
        return made

    # -- what subclasses say ----------------------------------------------------------------------

    @staticmethod
    def _compute(a: Array, kind: str) -> tuple[Array, Array | None, Judged]:
        """Factors of a stack, as the verbs of `BatchedOps` give them."""
        raise NotImplementedError

    @staticmethod
    def _parts(dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Dtypes of the factors, and of the pivots if there are any."""
        raise NotImplementedError

    @staticmethod
    def _substitute(factors: Array, piv: Array | None, b: Array, flag: str) -> Array:
        """op(A)^-1 b on stacks."""
        raise NotImplementedError

    def _operator(self, flag: str) -> tuple[Array, bool]:
        """op(A), and whether it is Hermitian with its upper triangle given."""
        raise NotImplementedError

    # -- what they know ---------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """``(..., n, n)``."""
        return tuple(self._a.shape)

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

    def _findings(self) -> Findings:
        batch, n = self.shape[:-2], self.shape[-1]
        return Findings(self._judged, batch, eps_of(self.dtype), n, self._breakdown)

    # -- solving ----------------------------------------------------------------------------------

    def _solve(
        self, b: ArrayLike, flag: str, raise_on_failure: bool, full_output: bool, stacklevel: int
    ) -> Any:
        right = arguments.as_array(b, "b")
        ops_for(self._a, right)
        dtype = arguments.common_dtype(self._a, right)
        if real_dtype(dtype) != real_dtype(self.dtype):
            return self._widened(dtype)._solve(
                right, flag, raise_on_failure, full_output, stacklevel + 1
            )
        return _solve(
            type(self), self._factors, self._piv, right, flag, self._judged, raise_on_failure,
            self, full_output, stacklevel + 1,
        )  # fmt: skip

    def _solve_again(self, x: Array, b: Array, places: Array, flag: str) -> None:
        """What was in doubt and is regular is solved for as by `solve`; `places` as in `_solve`.

        Factors may have left the range of numbers where matrix and answer are well within.
        """
        doubtful = self._judged.members[self._judged.info == 0]
        members = np.flatnonzero(np.isin(places, doubtful)) if doubtful.size else doubtful
        if members.size:
            operator, definite = self._operator(flag)
            numbers, chosen = (validate.on_device_of(x, k) for k in (places[members], members))
            a = validate.stack(operator, self.shape[:-2])[numbers].astype(x.dtype)
            ops = batched_ops_for(a, b)
            solve = ops.posv_batched if definite else ops.gesv_batched
            x[chosen] = solve(a, b[chosen].astype(x.dtype)).x

    def _widened(self, dtype: np.dtype[Any]) -> Self:
        """Factors in double precision, computed once."""
        if self._wide is None:
            wide = np.promote_types(self.dtype, real_dtype(dtype))
            self._wide = type(self)(self._a.astype(wide), self._kind)
        return self._wide


def solve_with(
    kind: type[BatchedFactors], factors: Any, piv: Array | None, b: ArrayLike, flag: str,
    raise_on_failure: bool, full_output: bool, stacklevel: int,
) -> Any:  # fmt: skip
    """Solve with plain arrays, which know nothing but themselves."""
    (array, right), _ = validate.operands((factors, "factors"), (b, "b"))
    validate.square(array, "factors")
    n = array.shape[-1]
    if piv is not None and piv.shape != array.shape[:-1]:
        raise ValueError(f"pivots do not fit the factors: {piv.shape=} and {array.shape=}")
    judged = seen_in(array.reshape(math.prod(array.shape[:-2]), n, n), piv)
    return _solve(
        kind, array, piv, right, flag, judged, raise_on_failure, None, full_output, stacklevel + 1
    )


def seen_in(factors: Array, piv: Array | None) -> Judged:
    """What LAPACK would find in a stack of factors: a zero on a diagonal, or NaN.

    Raises
    ------
    ValueError
        If pivots are no rows.
    """
    n = factors.shape[-1]
    if piv is not None and piv.size and not 0 <= piv.min() <= piv.max() < n:
        raise ValueError(f"pivots must lie between 0 and {n - 1}")
    xp = ops_for(factors).xp
    diagonal = xp.diagonal(factors, axis1=1, axis2=2)
    suspects = xp.flatnonzero((~xp.isfinite(diagonal) | (diagonal == 0)).any(axis=1))
    members = validate.on_host(suspects)
    info = np.zeros(members.size, np.int32)
    if members.size:
        diagonal = validate.on_host(diagonal[suspects])
        first = (diagonal == 0).argmax(axis=1) + 1
        info[:] = np.where(np.isfinite(diagonal).all(axis=1), first, NOT_FINITE)
    return Judged(members, info, np.zeros(members.size))


def _solve(
    kind: type[BatchedFactors], factors: Array, piv: Array | None, b: Array, flag: str,
    judged: Judged, raise_on_failure: bool, owner: BatchedFactors | None, full_output: bool,
    stacklevel: int,
) -> Any:  # fmt: skip
    """x, and a report if one is wanted; `judged` are members of the factors, of their `owner`."""
    n = factors.shape[-1]
    columns, is_vector = validate.right_hand_sides(factors, b, n)
    batch = validate.batch_shape(factors, columns)
    done = solve_stacks(kind, factors, piv, columns, batch, flag, judged, owner, full_output)
    dtype = done.x.dtype
    findings = Findings(done.judged, batch, eps_of(dtype), n, kind._breakdown)
    findings.conclude(raise_on_failure, stacklevel + 1)
    answer = done.x.reshape((*batch, *columns.shape[-2:]))
    if is_vector:
        answer = answer[..., 0]
    if not full_output:
        return answer
    status, info = findings.spread()
    errors = None if done.errors is None else done.errors.reshape(batch)
    steps, name = np.zeros(batch, np.int64), working_format(dtype).name
    return answer, BatchReport(status, info, errors, name, steps, done.seconds)


class Solved(NamedTuple):
    """A stack of systems, solved with factors."""

    x: Array
    """(N, n, nrhs), NaN for members that have no answer."""
    judged: Judged
    errors: Array | None
    """(N,), on the host: backward errors, if they were asked for and the matrices are known."""
    seconds: dict[str, float]


def solve_stacks(
    kind: type[BatchedFactors], factors: Array, piv: Array | None, columns: Array,
    batch: tuple[int, ...], flag: str, judged: Judged, owner: BatchedFactors | None,
    with_errors: bool,
) -> Solved:  # fmt: skip
    """Solve for stacks that broadcast to `batch`; as `_solve`, but nothing is raised."""
    began = time.perf_counter()
    dtype = np.promote_types(factors.dtype, arguments.common_dtype(columns))
    stack_b = validate.stack(columns, batch)
    stack_f = validate.stack(factors, batch)
    if piv is not None:
        piv = validate.stack(piv[..., None], batch)[:, :, 0]
    x = _by_parts(kind._substitute, stack_f, piv, stack_b, flag)
    # the number of the factors of each member
    numbers = np.arange(math.prod(factors.shape[:-2])).reshape(factors.shape[:-2])
    places = np.broadcast_to(numbers, batch).reshape(-1)
    if owner is not None:
        owner._solve_again(x, stack_b, places, flag)
    found = _spread_out(judged, places, stack_b, x)
    failed = found.members[found.info != 0]
    if failed.size:
        x[validate.on_device_of(x, failed)] = np.nan
    solved = time.perf_counter()
    errors = None
    if owner is not None and with_errors:
        operator, definite = owner._operator(flag)
        stack_a = validate.stack(operator, batch)
        errors = validate.on_host(
            backward_errors(stack_a.astype(dtype), x, stack_b.astype(dtype), definite=definite)
        )
        errors[failed] = np.nan
    done = time.perf_counter()
    seconds = {"solve": solved - began, "check": done - solved, "total": done - began}
    return Solved(x, found, errors, seconds)


def _by_parts(
    substitute: Substitute, factors: Array, piv: Array | None, b: Array, flag: str
) -> Array:
    """op(A)^-1 b; with a complex b and real factors, of its two parts."""
    if b.dtype.kind == "c" and factors.dtype.kind != "c":
        xp, nrhs = ops_for(b).xp, b.shape[-1]
        parts = xp.concatenate([b.real, b.imag], axis=2).astype(factors.dtype)
        x = substitute(factors, piv, parts, flag)
        # 1j times infinity has a real part of NaN
        both = xp.empty(b.shape, np.result_type(x.dtype, np.complex64))
        both.real, both.imag = x[:, :, :nrhs], x[:, :, nrhs:]
        return both
    return substitute(factors, piv, arguments.to_dtype(b, factors.dtype), flag)


def _spread_out(judged: Judged, places: Array, b: Array, x: Array) -> Judged:
    """What is known of the members of an answer; `places` are those of their factors."""
    xp = ops_for(x).xp
    if not judged.members.size and validate.on_host(xp.isfinite(x).all()):
        return judged
    count = int(places.max()) + 1 if places.size else 0
    info, rcond = np.zeros(count, np.int32), np.full(count, np.inf)
    known = judged.members < count
    info[judged.members[known]] = judged.info[known]
    rcond[judged.members[known]] = judged.rcond[known]
    info, rcond = info[places], rcond[places]
    lost = validate.on_host(xp.flatnonzero(~xp.isfinite(x).all(axis=(1, 2))))
    lost = lost[info[lost] == 0]
    if lost.size:
        right = b[validate.on_device_of(b, lost)]
        known = validate.on_host(xp.isfinite(right).all(axis=(1, 2)))
        info[lost[~known]] = NOT_FINITE
        rcond[lost[known]] = np.nan
    members = np.flatnonzero((info != 0) | ~(rcond >= 1.0))
    return Judged(members, info[members], rcond[members])


def eps_of(dtype: np.dtype[Any]) -> float:
    """The distance from 1 to the next number."""
    return 2 * working_format(dtype).unit_roundoff
