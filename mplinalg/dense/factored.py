"""A matrix with its low-precision factors, kept to solve for any number of right-hand sides."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LinAlgError
from ..ops import ops_for
from ..precision import FP32, FP64, Format, working_format
from ..refine.ladder import Factors
from ..report import SolveReport, Status
from . import messages, validate
from .kept import LOW_PRECISION_FROM, Kept, keep
from .matrix import Matrix
from .refined import Options, Outcome, pays_low_precision, solve_on_ladder, true_rcond

Array = NDArray[Any]

_LAPACK = frozenset(np.dtype(c) for c in "fdFD")
_PROBE_SEED = 20020101
_FEW = 4
"""Up to so many right-hand sides are solved with what factors there are."""


class Climbed:
    """One square matrix, factored on the rung that solves a probe system to working precision.

    The probe is b = A w with w of random numbers. It decides the rung once, so that every later
    solve takes the same path whatever came before it; and as A w is known, so is whether A has
    been changed since.
    """

    def __init__(
        self, a: Array, structure: str, triangle: str | None, precision: Format | None,
        check_finite: bool,
    ) -> None:  # fmt: skip
        ops = ops_for(a)
        working = working_format(a.dtype)
        self.first = precision or (FP32 if _keeps_low(a) else working)
        self.precision = precision
        self.matrix = Matrix(ops, a, structure, triangle, self.first, check_finite=check_finite)
        self._given = None if self.matrix.a is a else (a, structure, triangle)
        self._probe, self._size = self._fingerprint()
        probe = self._probe
        if self.matrix.outer is not None:
            probe = probe / self.matrix.outer.rows[:, None]
        outcome = solve_on_ladder(
            self.matrix, probe, Options(precision=precision), first=self.first, detailed=False
        )
        self.factors: Factors = outcome.ascent.factors
        self.first = outcome.ascent.rung.format if outcome.ascent.converged else working
        self.outcome = outcome

    def _fingerprint(self) -> tuple[Array, Array]:
        """A w and |A||w|."""
        matrix = self.matrix
        n = matrix.a.shape[0]
        noise = np.random.default_rng(_PROBE_SEED).standard_normal((n, 1))
        w = matrix.ops.xp.asfortranarray(noise.astype(matrix.a.dtype))
        minus, size = matrix.ops.residual(matrix.a, w, 0 * w, triangle=matrix.triangle)
        assert size is not None
        return -minus, size

    def check_unchanged(self) -> None:
        """Raise LinAlgError if the matrix is not the one that was factored."""
        if not self._is_unchanged():
            raise LinAlgError(messages.MODIFIED)

    def _is_unchanged(self) -> bool:
        xp = self.matrix.ops.xp
        if self._given is None:
            now, _ = self._fingerprint()
            u = xp.finfo(self.matrix.a.dtype).eps / 2
            same = (abs(now - self._probe) <= u * self._size) | (
                xp.isnan(now) & xp.isnan(self._probe)
            )
            return bool(same.all())
        # solved from a scaled copy: scale again
        again = Matrix(self.matrix.ops, *self._given, working_format(self.matrix.a.dtype),
                       check_finite=False)  # fmt: skip
        if again.outer is None or self.matrix.outer is None:
            return False
        return (
            xp.array_equal(again.a, self.matrix.a)
            and xp.array_equal(again.outer.rows, self.matrix.outer.rows)
            and xp.array_equal(again.outer.cols, self.matrix.outer.cols)
        )

    @functools.cached_property
    def rcond(self) -> float:
        """Estimated reciprocal 1-norm condition number of the matrix as it was given."""
        matrix = self.matrix
        # of a Hermitian matrix both norms are the same, and one triangle may hold anything
        norm1 = matrix.norm if matrix.triangle else matrix.ops.lange("1", matrix.a)
        return true_rcond(matrix, self.factors, norm1)

    @property
    def report(self) -> SolveReport:
        """That of the probe, with the condition number."""
        return replace(self.outcome.report, rcond=self.rcond)

    def solve(
        self, b: Array, trans: str, refine: str | None, tol: float | None, detailed: bool
    ) -> Outcome:
        """x and its report, starting from the factors there are."""
        self.check_unchanged()
        options = Options(precision=self.precision and self.first, refine=refine, tol=tol)
        matrix = copy.copy(self.matrix)  # a climb changes it, and others may be solving too
        matrix.seconds = dict.fromkeys(matrix.seconds, 0.0)
        return solve_on_ladder(
            matrix, b, options, first=self.first, trans=trans, factors=self.factors,
            detailed=detailed,
        )  # fmt: skip


class Member:
    """One square matrix with the factors that suit it.

    Where nothing is gained by a low precision they are in working precision (`Kept`); so they are,
    from the first time that it happens on, where many right-hand sides are solved. What these
    cannot do is left to the ladder.
    """

    def __init__(
        self, a: Array, structure: str, triangle: str | None, precision: Format | None,
        check_finite: bool,
    ) -> None:  # fmt: skip
        self._given = (a, structure, triangle, precision, check_finite)
        self._kept: Kept | None = None
        self._climbed: Climbed | None = None
        if precision is None and not _keeps_low(a):
            self._kept = self._keep()
        if self._kept is None:
            self._climbed = Climbed(*self._given)

    def _keep(self) -> Kept | None:
        a, _, triangle, _, check_finite = self._given
        return keep(a, None if triangle is None else triangle == "L", check_finite)

    @property
    def climbed(self) -> Climbed:
        """The factors that the ladder found."""
        if self._climbed is None:
            self.check_unchanged()
            self._climbed = Climbed(*self._given)
        return self._climbed

    @property
    def dtype(self) -> np.dtype[Any]:
        """Working precision."""
        return self._given[0].dtype

    @property
    def first(self) -> Format:
        """The format of the factors."""
        return working_format(self.dtype) if self._climbed is None else self._climbed.first

    def check_unchanged(self) -> None:
        """Raise LinAlgError if the matrix is not the one that was factored."""
        if self._climbed is not None:
            self._climbed.check_unchanged()
        elif self._kept is not None:
            self._kept.check_unchanged()

    def solve_plainly(self, b: Array, trans: str) -> Array | None:
        """x, (n, nrhs), by factors in working precision; None if these are not the way."""
        if self._kept is None:
            a, structure, _, precision, _ = self._given
            n, nrhs = b.shape
            pays = pays_low_precision(n, nrhs, a.dtype, structure)
            if precision is not None or pays or nrhs <= _FEW or self.climbed.first is not FP32:
                return None
            self.climbed.check_unchanged()
            self._kept = self._keep()
        return None if self._kept is None else self._kept.solve(b, trans)

    def as_scipy(self) -> tuple[Array, Any] | None:
        """SciPy's tuple, if the factors in working precision are here."""
        return None if self._kept is None else self._kept.as_scipy()


def _keeps_low(a: Array) -> bool:
    return len(a) >= LOW_PRECISION_FROM and working_format(a.dtype) is FP64


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
                self._members[()] = make(a)
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
        if self._info is not None:
            return 0.0
        if self._a.size == 0:
            return np.ones(self._members.shape) if self._members.ndim else 1.0
        values = [m.climbed.rcond for m in self._members.flat]
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
        validate.choice("refine", refine, validate.METHODS)
        validate.tolerance(tol)
        if self.shape[-1] != self.shape[-2]:
            raise ValueError(f"Expected factors of a square matrix, got shape {self.shape}")
        if self._info is not None:
            raise LinAlgError(self._info)
        b = validate.as_array(b, "b")
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
        dtype = validate.common_dtype(np.empty(0, self.dtype), b)
        if np.finfo(dtype).bits > np.finfo(self.dtype).bits:
            return self._widened(dtype)._solve(b, trans, False, refine, tol, detailed)
        b = validate.to_dtype(b, dtype)
        columns = b[:, None] if vector else b
        whole = np.broadcast_shapes(batch, columns.shape[:-2])
        if n == 0 or columns.size == 0 or 0 in whole:
            x = np.empty((*whole, *columns.shape[-2:]), dtype)
            nothing = SolveReport(Status.DIRECT, precision=working_format(dtype).name)
            return (x[..., 0] if vector else x), nothing, None
        columns = np.broadcast_to(columns, (*whole, *columns.shape[-2:]))
        members: Any = np.broadcast_to(self._members, whole)
        x = np.empty(columns.shape, dtype)
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
            if self._wide is None or not np.array_equal(self._wide._a, self._a, equal_nan=True):
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
    if a.size == 0 or (a.ndim == 2 and a.flags.forc):
        return a
    first = a[(0,) * (a.ndim - 2)]
    return a if validate.to_lapack_layout(first) is first else np.ascontiguousarray(a)


def solve_plain_tuple(
    solver: Callable[[], Array], refine: str | None, tol: float | None, full_output: bool
) -> Any:
    """Solve with SciPy's bare factors, which have no matrix to refine with."""
    validate.choice("refine", refine, ("auto", None))
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
        both = np.concatenate([b.real, b.imag], axis=1)
        x, report, message = _solve_member(member, both, own, trans, refine, tol, detailed)
        return _joined(x, b.shape, dtype), _joined_report(report, b.shape[1]), message
    b = np.asfortranarray(b, dtype=own)
    if refine == "auto" and tol is None and not detailed:
        plain = member.solve_plainly(b, trans)
        if plain is not None:
            return plain, None, None
    outcome = member.climbed.solve(b, trans, refine, tol, detailed)
    return outcome.x, outcome.report, outcome.message


def _joined(parts: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The complex x of its real and imaginary parts, side by side."""
    x: Array = np.empty(shape, dtype)
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
