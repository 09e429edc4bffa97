"""What `solve` promises, sentence by sentence, judged by SciPy and by arithmetic of its own.

For every system one of four things happens: x whose backward error is that of working precision;
the best x that working precision gives, with a warning; LinAlgError; ValueError or TypeError.
The forward error is never much worse than that of SciPy's solve where neither warns.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import scipy.linalg

from mplinalg import LinAlgError, LinAlgWarning, lu_factor, lu_solve, solve
from mplinalg.dense.rungs import LOW_PRECISION_FROM
from mplinalg.factor.lu import lu
from mplinalg.ops import ops_for
from mplinalg.precision import FORMATS, FP64
from mplinalg.refine.classical import Refinement
from mplinalg.refine.criterion import Criterion
from mplinalg.refine.gmres import Gmres
from mplinalg.testing import backward_error, forward_error, gallery

mpmath = pytest.importorskip("mpmath")

U = FP64.unit_roundoff
N = 270
"""Above the order from which low precisions are used, and no multiple of a block."""
TABLE = Path(__file__).parents[1] / "docs" / "algorithms" / "measured-refinement.md"


# -- the oracle ----------------------------------------------------------------------------------


def two_product(a, b):
    """p and e with p + e = a b exactly (Dekker 1971)."""

    def split(x):
        c = (2.0**27 + 1) * x
        high = c - (c - x)
        return high, x - high

    p = a * b
    (a_high, a_low), (b_high, b_low) = split(a), split(b)
    return p, a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)


def exact_residual(a, pieces, b):
    """b - A (x_0 + x_1 + x_2), each entry rounded once: products split, summed by math.fsum."""
    terms = [b[:, None]]
    for x in pieces:
        p, e = two_product(a, x)
        terms += [-p, -e]
    return np.array([math.fsum(row) for row in np.hstack(terms).tolist()])


def exact_solution(a, b):
    """x of A x = b to the last digit, or None where kappa u is not below one.

    Householder QR of the matrix equilibrated by powers of two; x is the sum of three doubles,
    refined with exact residuals until a correction is below 2^-70 of it.
    """
    if a.dtype.kind == "c":
        real = np.block([[a.real, -a.imag], [a.imag, a.real]])
        x = exact_solution(real, np.concatenate([b.real, b.imag]))
        return None if x is None else x[: len(b)] + 1j * x[len(b) :]

    def shifts(largest):
        return -np.frexp(np.where(largest > 0, largest, 1.0))[1]

    rows = shifts(np.abs(a).max(axis=1))
    s = np.ldexp(a, rows[:, None])
    cols = shifts(np.abs(s).max(axis=0))
    s = np.ldexp(s, cols)
    t = np.ldexp(b, rows)
    own = shifts(np.abs(t).max())
    t = np.ldexp(t, own)
    q, r = scipy.linalg.qr(s)
    if np.abs(np.diagonal(r)).min() == 0:
        return None
    x = np.zeros((3, len(t)))
    last = np.inf
    for step in range(100):
        d = scipy.linalg.solve_triangular(r, q.T @ exact_residual(s, x, t))
        size = np.abs(d).max()
        for i in range(2):  # x_i + d as a double and what it leaves for the next piece
            total = x[i] + d
            z = total - x[i]
            d = (x[i] - (total - z)) + (d - z)
            x[i] = total
        x[2] += d
        if size <= 2.0**-70 * np.abs(x[0]).max():
            return np.ldexp(x[0] + (x[1] + x[2]), cols - own)
        if step and not size <= 0.5 * last:
            return None
        last = size
    return None


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize(("name", "n"), [("hilbert", 9), ("randsvd", 12), ("badly_scaled", 8)])
def test_the_oracle_against_mpmath(name, n, dtype):
    a = gallery.matrix(name, n, dtype, **({"cond": 1e12} if name == "randsvd" else {}))
    b = np.random.default_rng(0).standard_normal(n).astype(dtype)
    with mpmath.workprec(2400):
        exact = mpmath.lu_solve(mpmath.matrix(a.tolist()), mpmath.matrix(b.tolist()))
        x = np.array([complex(v) if dtype is complex else float(v) for v in exact])
    np.testing.assert_allclose(exact_solution(a, b), x, rtol=4 * U)


# -- the gallery ---------------------------------------------------------------------------------


def test_the_orders_below_see_low_precisions():
    assert LOW_PRECISION_FROM <= N


class Case(NamedTuple):
    name: str
    parameters: tuple = ()
    dtype: str = "float64"

    def matrix(self, n=N):
        return gallery.matrix(self.name, n, self.dtype, **dict(self.parameters))

    def __str__(self):
        values = "-".join(str(value) for _, value in self.parameters)
        return "-".join(filter(None, (self.name, values, self.dtype[0])))


def cases():
    for name in gallery.names():
        known = gallery.facts(name)
        if not known.finite or known.singular or name == "inverse_hilbert":  # overflows at N
            continue
        grid = [()]
        if name == "randsvd":
            modes = ("one_large", "one_small", "geometric", "arithmetic", "log_uniform")
            conds = (1e2, 1e5, 1e8, 1e11, 1e14)
            grid = [(("cond", c), ("mode", mode)) for mode in modes for c in conds]
        elif name in ("spd_geometric", "spd_clustered", "hermitian_indefinite"):
            grid = [(("cond", c),) for c in (1e3, 1e7, 1e12)]
        elif name in ("graded_rows", "graded_columns"):
            grid = [(("decades", d),) for d in (5.0, 12.0, 20.0, 200.0)]
        for parameters in grid:
            for dtype in ("float64", "complex128"):
                if dtype in known.dtypes:
                    yield Case(name, parameters, dtype)


CASES = list(cases())


class Solved(NamedTuple):
    """An answer, whether it came with a warning, and its errors."""

    x: np.ndarray
    warned: bool
    backward: float
    forward: float
    """NaN where the exact solution is out of reach."""


class Verdict(NamedTuple):
    a: np.ndarray
    b: np.ndarray
    exact: np.ndarray | None
    ours: Solved
    scipys: Solved
    report: object


def answered(function, a, b, exact):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        answer = function(a, b)
    kinds = {w.category for w in seen}
    assert kinds <= {LinAlgWarning, scipy.linalg.LinAlgWarning}, kinds
    x, report = answer if isinstance(answer, tuple) else (answer, None)
    error = math.nan if exact is None else forward_error(x, exact)
    return Solved(x, bool(seen), backward_error(a, x, b), error), report


def right_hand_side(a, seed=1):
    """A x for random x, so that x is no larger than it need be; random where that overflows."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(len(a)).astype(a.dtype)
    if a.dtype.kind == "c":
        x.imag = rng.standard_normal(len(a))
    with np.errstate(over="ignore", invalid="ignore"):
        b = a @ x
    return b if np.isfinite(b).all() else x


@functools.cache
def verdict(case):
    a = case.matrix()
    b = right_hand_side(a)
    exact = exact_solution(a, b)
    ours, report = answered(lambda a, b: solve(a, b, full_output=True), a, b, exact)
    try:
        scipys, _ = answered(scipy.linalg.solve, a, b, exact)
    except scipy.linalg.LinAlgError:  # some versions call exactly singular what others warn of
        scipys = Solved(np.full_like(b, np.nan), True, math.nan, math.nan)
    return Verdict(a, b, exact, ours, scipys, report)


def skeel(a, x):
    """|| |A^-1| |A| |x| || / ||x||: what a componentwise change of A by 1 does to x, at most."""
    rows = np.ldexp(1.0, -np.frexp(np.abs(a).max(axis=1))[1])
    cols = np.ldexp(1.0, -np.frexp(np.abs(rows[:, None] * a).max(axis=0))[1])
    s = rows[:, None] * a * cols
    size = np.abs(np.linalg.inv(s)) @ (np.abs(s) @ np.abs(x / cols))
    return float(np.max(cols * size) / np.max(np.abs(x)))


def unit(case):
    """u; twice that for complex data, whose parts are measured by |re| + |im|."""
    return 2 * U if case.dtype == "complex128" else U


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_error_is_scipys(case):
    """At most three times SciPy's, or 4 u: below that rounding hides the residual."""
    v = verdict(case)
    if not v.ours.warned:
        scipys = v.scipys.backward if np.isfinite(v.scipys.backward) else 0.0
        assert v.ours.backward <= max(3 * scipys, 4 * unit(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_error_is_scipys(case):
    """At most ten times SciPy's where neither warns.

    Or what a change of every entry of A and b by 4 u explains: on integers (minij) SciPy's
    elimination is exact, and no residual of working precision tells how to match that.
    """
    v = verdict(case)
    if v.ours.warned or v.scipys.warned or v.exact is None:
        return
    explained = 2 * 4 * unit(case) * max(skeel(v.a, v.exact), 1.0)
    assert v.ours.forward <= max(10 * v.scipys.forward, explained)


def test_forward_error_is_better_more_often_than_worse():
    """On most of the gallery refinement leaves a smaller error than SciPy's solve does."""
    ratios = [
        v.ours.forward / v.scipys.forward
        for v in map(verdict, CASES)
        if v.exact is not None and not v.ours.warned and v.scipys.forward > 0
    ]
    assert len(ratios) > 80
    assert np.median(ratios) <= 1
    assert np.mean(np.array(ratios) > 10) <= 0.03


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_error_bound_is_a_bound(case):
    v = verdict(case)
    if not v.ours.warned and v.exact is not None and v.report.forward_error_bound is not None:
        assert v.ours.forward <= v.report.forward_error_bound


@pytest.mark.parametrize("case", CASES, ids=str)
def test_condition_estimate_is_within_ten(case):
    v = verdict(case)
    with np.errstate(all="ignore"):
        kappa = np.linalg.cond(v.a / np.abs(v.a).max(), 1)
    if kappa < 1e15 and v.report.rcond is not None and np.abs(v.a).max() > 1e-300:
        assert 0.1 <= v.report.rcond * kappa <= 10


@pytest.mark.parametrize("case", CASES, ids=str)
def test_warnings_are_scipys(case):
    """Both warn or neither does, but for matrices within 20 of the line that divides them."""
    v = verdict(case)
    if v.ours.warned != v.scipys.warned:
        inverse_overflows = np.abs(v.a).max() < 1e-300
        if inverse_overflows or not np.isfinite(v.scipys.x).all():
            # SciPy warns of an overflow of its own on the way, not of A
            assert not v.ours.warned
            assert v.ours.backward <= 4 * unit(case)
            return
        with np.errstate(all="ignore"):
            kappas = [np.linalg.cond(v.a, p) * 2 * U for p in (1, np.inf)]  # SciPy's is either
        assert max(kappas) >= 0.05
        assert min(kappas) <= 20


@pytest.mark.parametrize("case", CASES, ids=str)
def test_report_says_what_is_true(case):
    """A success is reported when there was no warning; its backward error is the true one."""
    v = verdict(case)
    assert v.report.status.is_success == (not v.ours.warned)
    if not v.ours.warned:
        assert v.report.backward_error <= math.sqrt(N) * U
        assert v.ours.backward <= 4 * v.report.backward_error + 2 * unit(case)


# -- extended residuals --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["one_large", "one_small", "geometric", "arithmetic"])
@pytest.mark.parametrize("cond", [1e3, 1e6, 1e9, 1e12, 1e14])
def test_extended_residuals_give_x_to_the_last_digit(cond, mode):
    a = gallery.randsvd(N, cond, mode)
    b = right_hand_side(a)
    exact = exact_solution(a, b)
    x, report = solve(a, b, residual="extended", full_output=True)
    assert forward_error(x, exact) <= 2 * U
    assert forward_error(x, exact) <= report.forward_error_bound
    if cond >= 1e6:  # where plain refinement loses digits
        assert forward_error(solve(a, b), exact) >= 30 * U


@pytest.mark.parametrize("n", [3, 6, 9])
def test_extended_residuals_on_hilberts_matrix(n):
    a = gallery.matrix("hilbert", n)
    b = np.random.default_rng(0).standard_normal(n)
    assert forward_error(solve(a, b, residual="extended"), exact_solution(a, b)) <= 2 * U


def test_extended_residuals_in_complex():
    a = gallery.randsvd(N, 1e10, "geometric", complex)
    b = right_hand_side(a)
    x = solve(a, b, residual="extended")
    assert forward_error(x, exact_solution(a, b)) <= 2 * math.sqrt(2) * U


# -- scale ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp16x2"])
@pytest.mark.parametrize("power", [-200, -60, -3, 40, 200])
def test_scale_of_the_matrix_is_only_a_scale(power, precision):
    """c A x = b for c a power of two: the digits of x do not change."""
    a = gallery.randsvd(N, 1e2, "geometric")
    b = right_hand_side(a)
    x = solve(a, b, precision=precision)
    scaled = np.ldexp(solve(np.ldexp(a, power), b, precision=precision), power)
    assert forward_error(scaled, x) <= 1e4 * U  # kappa_1 u: below fp16's range A is equilibrated
    assert backward_error(a, scaled, b) <= 2 * U


@pytest.mark.parametrize("precision", ["auto", "fp16"])
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_scale_of_the_right_hand_side_is_only_a_scale(scale, precision):
    a = gallery.randsvd(N, 1e2, "geometric")
    b = right_hand_side(a)
    scaled = solve(a, b * scale, precision=precision)
    np.testing.assert_allclose(scaled / scale, solve(a, b, precision=precision), rtol=1e-10)


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
@pytest.mark.parametrize("decades", [3, 10])
@pytest.mark.parametrize("what", ["rows", "columns", "both"])
def test_rows_and_columns_of_any_size(what, decades, precision, rng):
    """D A C y = D b has the solution C^-1 x; judged in the norm in which x is well determined."""
    a = gallery.randsvd(N, 1e2, "geometric")
    x_true = rng.standard_normal(N)
    grades = 10.0 ** rng.integers(-decades, decades + 1, (2, N))
    d = grades[0] if what != "columns" else np.ones(N)
    c = grades[1] if what != "rows" else np.ones(N)
    scaled = d[:, None] * a * c
    b = scaled @ (x_true / c)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # kappa of the scaled matrix is enormous
        y, report = solve(scaled, b, precision=precision, full_output=True)
    assert report.componentwise_error <= 10 * math.sqrt(N) * U
    assert forward_error(y * c, exact_solution(scaled, b) * c) <= 1e5 * U
    if what == "rows":
        assert report.precision == ("fp32" if precision == "auto" else precision)


# -- growth --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("n", [60, 100, 300])
def test_wilkinsons_matrix_is_solved_where_scipy_is_silently_wrong(n, dtype):
    a = gallery.matrix("gfpp", n, dtype)
    b = right_hand_side(a)
    exact = exact_solution(a, b)
    scipys, _ = answered(scipy.linalg.solve, a, b, exact)
    assert not scipys.warned
    assert scipys.forward >= 1e-6
    ours, report = answered(lambda a, b: solve(a, b, full_output=True), a, b, exact)
    assert not ours.warned
    assert report.status.is_success
    assert ours.forward <= 100 * U
    assert ours.backward <= 4 * U


@pytest.mark.parametrize("precision", ["fp16", "fp32", "fp64"])
def test_wilkinsons_matrix_in_any_precision(precision):
    a = gallery.matrix("gfpp", 100)
    b = right_hand_side(a)
    ours, _ = answered(lambda a, b: solve(a, b, precision=precision), a, b, exact_solution(a, b))
    assert ours.forward <= 100 * U


# -- what each format reaches --------------------------------------------------------------------

REACH = [
    ("fp16", "classical", 1e3, "geometric"),
    ("fp16", "gmres", 1e4, "geometric"),
    ("fp16", "gmres", 1e5, "one_small"),
    ("fp16", "gmres", 1e8, "one_small"),
    ("fp16", "gmres", 1e5, "arithmetic"),
    ("fp16x2", "classical", 1e6, "geometric"),
    ("fp32", "classical", 1e6, "geometric"),
    ("fp32", "gmres", 1e8, "geometric"),
    ("fp16x2", "gmres", 1e8, "arithmetic"),
    ("fp32", "gmres", 1e10, "one_small"),
]


@pytest.mark.parametrize("refine", ["pinned", "auto"])
@pytest.mark.parametrize(("precision", "method", "cond", "mode"), REACH)
def test_a_format_reaches(precision, method, cond, mode, refine):
    """On its own rung, without warning and without climbing; "auto" finds a method itself."""
    a = gallery.randsvd(N, cond, mode)
    b = right_hand_side(a)
    keywords = {"refine": method} if refine == "pinned" else {}
    x, report = solve(a, b, precision=precision, fallback=False, full_output=True, **keywords)
    assert backward_error(a, x, b) <= 4 * U
    assert {step.format for step in report.rungs} == {precision}
    if method == "classical":
        assert report.inner_iterations == 0


@pytest.mark.parametrize(
    ("precision", "cond"), [("fp16", 1e6), ("fp16x2", 1e9), ("fp32", 1e9), ("bf16", 1e5)]
)
def test_classical_refinement_beyond_its_reach_fails_at_once(precision, cond):
    a = gallery.randsvd(N, cond, "geometric")
    b = right_hand_side(a)
    with pytest.raises(LinAlgError, match=precision):
        solve(a, b, precision=precision, refine="classical", fallback=False)
    with pytest.warns(LinAlgWarning, match=precision):
        x, report = solve(a, b, precision=precision, refine="classical", full_output=True)
    assert backward_error(a, x, b) <= 4 * U
    assert report.precision != precision
    assert report.iterations <= 4 + 15


@pytest.mark.parametrize(
    ("cond", "precision"),
    [
        (1e8, "fp16"),
        (1e8, "bf16"),
        *((1e11, f) for f in ("fp16", "bf16", "fp32")),
    ],
)
def test_low_precision_factors_do_not_vouch_for_themselves(cond, precision):
    """GMRES answers where kappa u_f is far above one; the factors look as if kappa were 1 / u_f."""
    a = gallery.randsvd(N, cond, "one_small")
    b = right_hand_side(a)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)
        x, report = solve(a, b, precision=precision, full_output=True)
    if report.rcond is None:  # what they cannot tell they leave open
        assert report.inner_iterations > 0
        assert report.forward_error_bound is None
    else:
        assert forward_error(x, exact_solution(a, b)) <= report.forward_error_bound
        assert 0.1 <= report.rcond * np.linalg.cond(a, 1) <= 10


# -- many right-hand sides -----------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
@pytest.mark.parametrize("dtype", [float, complex])
def test_right_hand_sides_of_every_difficulty(dtype, precision):
    """Along the largest and the smallest singular vector, tiny, huge, zero: all converge."""
    a = gallery.randsvd(N, 1e3, "geometric", dtype)
    _, _, vh = np.linalg.svd(a)
    rng = np.random.default_rng(3)
    plain = rng.standard_normal((N, 2)).astype(dtype)
    x_true = np.column_stack(
        [vh[0].conj(), vh[-1].conj(), plain, plain[:, 0] * 1e-250, plain[:, 1] * 1e250]
    )
    b = np.column_stack([a @ x_true, np.zeros(N), a[:, 0]])
    x, report = solve(a, b, precision=precision, full_output=True)
    assert report.status.is_success
    assert report.backward_error.shape == (8,)
    assert np.all(backward_error(a, x, b) <= 4 * U)
    for j in range(6):
        exact = exact_solution(a, b[:, j])
        assert forward_error(x[:, j], exact) <= min(1e-11, report.forward_error_bound[j])
    assert not x[:, 6].any()
    np.testing.assert_allclose(x[:, 7], np.eye(N)[0], atol=1e-11)


# -- nothing is silently wrong -------------------------------------------------------------------

SINGULAR = ["singular_svd", "frank", "hilbert", "lotkin", "moler", "prolate", "kahan"]


def consistent(a, seed):
    """A right-hand side in the range of A: the corrections contract though A is singular."""
    return a @ np.random.default_rng(seed).standard_normal(len(a))


@pytest.mark.parametrize("precision", ["auto", "fp64", "fp32", "fp16"])
@pytest.mark.parametrize("inconsistent", [False, True])
@pytest.mark.parametrize("name", SINGULAR)
def test_singular_to_working_precision_is_not_silent(name, inconsistent, precision):
    a = gallery.matrix(name, N)
    b = np.random.default_rng(5).standard_normal(N) if inconsistent else consistent(a, 5)
    with pytest.warns(LinAlgWarning):
        solve(a, b, precision=precision)


@pytest.mark.parametrize("precision", ["auto", "fp16x2", "bf16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_column_that_is_the_sum_of_two_others_is_not_silent(order, precision):
    """The row sums of A as right-hand side: x of ones solves it, and so do others."""
    a = np.array(np.random.default_rng(8).standard_normal((400, 400)), order=order)
    a[:, 7] = a[:, 3] + a[:, 5]
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        solve(a, a @ np.ones(400), precision=precision)
    with pytest.warns(LinAlgWarning, match="ill-conditioned"):
        lu_solve(lu_factor(a), a @ np.ones(400))


@pytest.mark.parametrize("precision", ["auto", "fp64", "fp32", "fp16"])
@pytest.mark.parametrize("name", ["zero_row", "zero_column", "singular_integer"])
def test_exactly_singular_is_an_error(name, precision):
    a = gallery.matrix(name, N)
    with pytest.raises(LinAlgError, match="singular"):
        solve(a, consistent(a, 5), precision=precision)


@pytest.mark.parametrize("name", ["nan_entry", "inf_entry"])
def test_not_finite_is_an_error(name):
    with pytest.raises(ValueError, match="infs or NaNs"):
        solve(gallery.matrix(name, N), np.ones(N))
    with pytest.raises(ValueError, match="infs or NaNs"):
        solve(np.eye(N), np.full(N, np.nan))


@pytest.mark.parametrize("name", ["nan_entry", "inf_entry"])
def test_not_finite_unchecked_does_not_converge(name):
    """Without the check nothing finite is passed off as an answer."""
    a = gallery.matrix(name, N)
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            x, report = solve(a, np.ones(N), check_finite=False, full_output=True)
    except LinAlgError:
        return
    assert seen
    assert not report.status.is_success
    assert not np.isfinite(x).all() or not report.backward_error <= math.sqrt(N) * U


def test_asserted_definite_and_is_not():
    a = gallery.matrix("hermitian_indefinite", N)
    with pytest.raises(LinAlgError, match="minor of order"):
        solve(a, np.ones(N), assume_a="pos")


# -- the measured table --------------------------------------------------------------------------

TARGET = 4e-16
"""Backward error that counts as solved in the table."""


def table_matrix(name, cond, n):
    return gallery.matrix("random_normal", n) if cond is None else gallery.randsvd(n, cond, name)


def steps(a, b, fmt, method):
    """Steps to omega <= 4e-16: an int, (outer, inner) for GMRES, or None."""
    ops = ops_for(a)
    n = len(a)
    factors = lu(ops, np.array(a, dtype=fmt.dtype(float), order="F"), fmt, block=64)
    norm = float(np.abs(a).sum(axis=1).max())
    upcast = not factors.rcond(ops.lange("1", a), a.dtype) > fmt.unit_roundoff / 10

    def residual(x, columns):
        return ops.residual(a, x, b)

    def product(z):
        return np.asfortranarray(a @ z)

    gmres = Gmres(ops, product, lambda z: factors.solve(z, upcast=upcast))
    loop = Refinement(
        ops,
        residual,
        gmres if method == "gmres" else factors.solve,
        Criterion(ops, n, norm, U, tol=TARGET),
        max_iter=10 if method == "gmres" else 30,
    )
    if method == "gmres":
        loop.foretold = lambda: gmres.reductions
    state = loop.run(factors.solve(b), b)
    if not state.converged:
        return None
    return (state.iterations, gmres.iterations) if method == "gmres" else state.iterations


def table_row(name, cond, n=500):
    a = np.asfortranarray(table_matrix(name, cond, n))
    b = np.asfortranarray(np.random.default_rng(0).standard_normal((n, 1)))
    return [
        (steps(a, b, FORMATS[fmt], "classical"), steps(a, b, FORMATS[fmt], "gmres"))
        for fmt in ("fp16", "bf16", "fp16x2", "fp32")
    ]


def table_cell(text):
    """(classical, gmres) of a cell such as "9 / (3, 12)" or "x / x"."""
    classical, gmres = text.split("/")
    pair = re.findall(r"\d+", gmres)
    return (
        None if "x" in classical else int(classical),
        (int(pair[0]), int(pair[1])) if pair else None,
    )


def table_rows():
    """The rows of the page: (spectrum, kappa, cells)."""
    for line in TABLE.read_text().splitlines() if TABLE.exists() else ():
        match = re.match(r"\| (geometric|one small|arithmetic|random normal)(?: (1e\d+))? \|", line)
        if match:
            cond = float(match[2]) if match[2] else None
            cells = [table_cell(cell) for cell in line.split("|")[2:-1]]
            yield match[1].replace(" ", "_"), cond, cells


@pytest.mark.parametrize(("name", "cond", "cells"), list(table_rows()))
def test_the_table_of_the_page_is_what_is_measured(name, cond, cells):
    """Solved or not, and in as many steps, but for what another BLAS makes of the rounding."""
    for (classical, gmres), (now, now_gmres) in zip(cells, table_row(name, cond), strict=True):
        assert (classical is None) == (now is None)
        assert (gmres is None) == (now_gmres is None)
        if classical is not None:
            assert abs(classical - now) <= 1 + classical // 3
        if gmres is not None:
            assert abs(gmres[0] - now_gmres[0]) <= 2
            assert abs(gmres[1] - now_gmres[1]) <= 4 + gmres[1] // 2


def test_the_page_has_its_table():
    assert len(list(table_rows())) >= 9
