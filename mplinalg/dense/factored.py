"""A matrix with its low-precision factors, kept to solve for any number of right-hand sides."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..errors import LinAlgError
from ..ops import ops_for
from ..precision import working_format
from ..report import SolveReport, Status
from . import validate
from .member import Member
from .memory import within_memory

Array = NDArray[Any]

_LAPACK = frozenset(np.dtype(c) for c in "fdFD")


class Factored:
    """What `LU` and `Cholesky` share: members of a batch, solving, unpacking, pickling."""

    _a: Array
    _members: NDArray[Any]
    """Array of `Member`, in the shape of the batch."""
    _info: str | None
    """Why solving is impossible, if it is."""
    _tuple: tuple[Any, ...] | None

    def __init__(self, a: Array) -> None:
        self._a = a = _with_unit_strides(a)
        self._tuple = None
        self._wide: Factored | None = None
        self._info = None
        self._lock = threading.Lock()

    def _factor_members(self, a: Array, make: Callable[[Array], Member]) -> list[tuple[Any, str]]:
        """Fill `_members`; returns the batch indices that failed, and why."""
        batch = a.shape[:-2]
        self._members = np.empty(batch, dtype=object)
        failures = []
        if not batch and a.size:
            try:
                self._members[()] = within_memory(a, 0, lambda: make(a))
            except LinAlgError as error:
                failures.append(((), str(error)))
            return failures
        for index in np.ndindex(batch) if a.size else ():
            try:
                self._members[index] = make(a[index] if index else a)
            except LinAlgError as error:
                failures.append((index, str(error)))
        return failures

    # -- facts ----------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the matrix that was factored."""
        return self._a.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Working precision."""
        return self._a.dtype

    @property
    def precision(self) -> str:
        """Format of the factors (of the first member that has the widest, in a batch)."""
        members = [m for m in self._members.flat if m is not None]
        if not members:
            return working_format(self.dtype).name
        return min(members, key=lambda m: m.first.unit_roundoff).first.name

    @property
    def report(self) -> SolveReport:
        """How the factors came about and how well they solve a probe system.

        Factors in working precision have none yet: then the matrix is factored again, once.
        """
        reports = [m.climbed.report for m in self._members.flat if m is not None]
        if not reports:
            return SolveReport(Status.DIRECT, precision=working_format(self.dtype).name)
        if self._members.ndim == 0:
            return reports[0]
        # members that failed have no report
        shape = self._members.shape if len(reports) == self._members.size else (len(reports),)
        return SolveReport.combine(reports, shape)

    def rcond(self) -> Any:
        """Estimated reciprocal condition number, 1-norm.

        May factor the matrix again, once, as `report` does.

        Returns
        -------
        float, or ndarray of the batch shape
        """
        if self._a.size == 0:
            return np.ones(self._members.shape) if self._members.ndim else 1.0
        # a member that is singular has no factors
        values = [0.0 if m is None else m.climbed.rcond for m in self._members.flat]
        if self._members.ndim == 0:
            return float(values[0])
        return np.reshape(np.array(values, dtype=float), self._members.shape)

    # -- solving --------------------------------------------------------------------------------

    def _solve_plainly(self, b: Any, trans: str) -> Array | None:
        """x of one system in arrays of its own dtype, by factors in working precision.

        None to take the long road.
        """
        members = self._members
        if members.ndim or self._info is not None or type(b) is not np.ndarray or b.size == 0:
            return None
        member: Any = members[()]
        if member is None or b.dtype != self._a.dtype or b.shape[:1] != self._a.shape[:1]:
            return None
        columns = b[:, None] if b.ndim == 1 else b
        x: Array | None = member.solve_plainly(columns, trans) if columns.ndim == 2 else None
        return x[:, 0] if x is not None and b.ndim == 1 else x

    def _solve(
        self, b: Any, trans: str, check_finite: bool, refine: str | None, tol: float | None,
        detailed: bool,
    ) -> tuple[Array, SolveReport | None, str | None]:  # fmt: skip
        arguments.choice("refine", refine, validate.METHODS)
        arguments.tolerance(tol)
        if self.shape[-1] != self.shape[-2]:
            raise ValueError(f"Expected factors of a square matrix, got shape {self.shape}")
        if self._info is not None:
            raise LinAlgError(self._info)
        b = arguments.as_array(b, "b")
        xp = ops_for(self._a, b).xp
        if check_finite:
            validate.check_finite(b)
        n = self._a.shape[-1]
        batch = self._members.shape
        vector = b.ndim == 1
        rows = b.shape[0] if vector else b.shape[-2] if b.ndim >= 2 else None
        if rows != n:
            raise ValueError(
                f"Shapes of the factored matrix {self._a.shape} and b {b.shape} are incompatible"
            )
        dtype = arguments.common_dtype(np.empty(0, self.dtype), b)
        if np.finfo(dtype).bits > np.finfo(self.dtype).bits:
            return self._widened(dtype)._solve(b, trans, False, refine, tol, detailed)
        b = arguments.to_dtype(b, dtype)
        columns = b[:, None] if vector else b
        whole = np.broadcast_shapes(batch, columns.shape[:-2])
        if n == 0 or columns.size == 0 or 0 in whole:
            x = xp.empty((*whole, *columns.shape[-2:]), dtype)
            nothing = SolveReport(Status.DIRECT, precision=working_format(dtype).name)
            return (x[..., 0] if vector else x), nothing, None
        columns = xp.broadcast_to(columns, (*whole, *columns.shape[-2:]))
        members: Any = np.broadcast_to(self._members, whole)
        x = xp.empty(columns.shape, dtype)
        reports: list[Any] = []
        notes = []
        for index in np.ndindex(whole):
            x[index], report, message = _solve_member(
                members[index], columns[index], dtype, trans, refine, tol, detailed
            )
            reports.append(report)
            if message:
                notes.append(message)
        combined: SolveReport | None = None
        if detailed:
            combined = reports[0] if not whole else SolveReport.combine(reports, whole)
            combined = combined.of_vector() if vector and combined is not None else combined
        return (x[..., 0] if vector else x), combined, " ".join(notes) or None

    def _factor_again(self, a: Array) -> Factored:
        """The same factorization of `a`."""
        raise NotImplementedError

    def _widened(self, dtype: np.dtype[Any]) -> Factored:
        """Factors in double precision of a single-precision matrix, for a wider b."""
        kind = np.complex128 if self.dtype.kind == "c" else np.float64
        self._check_unchanged()
        with self._lock:
            # a copy, which does not see what happens to the matrix
            xp = ops_for(self._a).xp
            if self._wide is None or not xp.array_equal(self._wide._a, self._a, equal_nan=True):
                self._wide = self._factor_again(self._a.astype(kind))
            return self._wide

    # -- as SciPy's tuple -----------------------------------------------------------------------

    def _unpack(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _only_member_as_scipy(self) -> tuple[Any, ...] | None:
        """SciPy's tuple, if it is not a batch and the factors in working precision are here."""
        if self._members.ndim or self._members[()] is None:
            return None
        member: Any = self._members.item()
        factors: tuple[Any, ...] | None = member.as_scipy()
        return factors

    def _as_tuple(self) -> tuple[Any, ...]:
        with self._lock:
            if self._tuple is None:
                self._check_unchanged()
                self._tuple = self._unpack()
            return self._tuple

    def _check_unchanged(self) -> None:
        for member in self._members.flat:
            if member is not None:
                member.check_unchanged()

    def __iter__(self) -> Any:
        return iter(self._as_tuple())

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: Any) -> Any:
        return self._as_tuple()[i]

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def is_plain_matrix(a: Any) -> bool:
    """A contiguous, square ndarray of one of LAPACK's dtypes: nothing to validate or convert."""
    return (
        type(a) is np.ndarray and a.ndim == 2 and a.dtype in _LAPACK and 0 < len(a) == a.shape[1]
        and a.flags.forc and a.flags.aligned
    )  # fmt: skip


def _with_unit_strides(a: Array) -> Array:
    """`a`, or a copy if its matrices are not in a layout that LAPACK reads."""
    if a.size == 0 or (a.ndim == 2 and (a.flags.c_contiguous or a.flags.f_contiguous)):
        return a
    first = a[(0,) * (a.ndim - 2)]
    is_usable = validate.to_lapack_layout(first) is first
    return a if is_usable else ops_for(a).xp.ascontiguousarray(a)


def solve_plain_tuple(
    solver: Callable[[], Array], refine: str | None, tol: float | None, full_output: bool
) -> Any:
    """Solve with SciPy's bare factors, which have no matrix to refine with."""
    arguments.choice("refine", refine, ("auto", None))
    if tol is not None:
        raise ValueError(f"tol={tol!r} needs the factor object: a plain tuple is not refined")
    x = solver()
    fmt = working_format(x.dtype).name
    report = SolveReport(
        Status.DIRECT, precision=fmt, backward_error=None, componentwise_error=None
    )
    return (x, report) if full_output else x


def _solve_member(
    member: Member, b: Array, dtype: np.dtype[Any], trans: str, refine: str | None,
    tol: float | None, detailed: bool,
) -> tuple[Array, SolveReport | None, str | None]:  # fmt: skip
    """One matrix; a complex b of a real matrix is solved as its two real parts."""
    own = member.dtype
    if dtype != own:
        both = ops_for(b).xp.concatenate([b.real, b.imag], axis=1)
        x, report, message = _solve_member(member, both, own, trans, refine, tol, detailed)
        return _joined(x, b.shape, dtype), _joined_report(report, b.shape[1]), message
    b = ops_for(b).xp.asfortranarray(b, dtype=own)
    if refine == "auto" and tol is None and not detailed:
        plain = member.solve_plainly(b, trans)
        if plain is not None:
            return plain, None, None
    outcome = member.climbed.solve(b, trans, refine, tol, detailed)
    return outcome.x, outcome.report, outcome.message


def _joined(parts: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The complex x of its real and imaginary parts, side by side."""
    x: Array = ops_for(parts).xp.empty(shape, dtype)
    x.real, x.imag = parts[:, : shape[1]], parts[:, shape[1] :]
    return x


def _joined_report(report: SolveReport | None, k: int) -> SolveReport | None:
    """Of 2 k columns, the worse of each two."""
    if report is None:
        return None
    errors = {
        name: np.maximum(getattr(report, name)[:k], getattr(report, name)[k:])
        for name in ("backward_error", "componentwise_error", "forward_error_bound")
        if getattr(report, name) is not None
    }
    return replace(report, **errors)
