"""Which kernel solves a stack: straight code, tiles, or that of single systems in a loop.

Where a border lies depends on the size and the dtype alone, never on how many members there are: so
the answer of a member is the same, bit for bit, whatever batch it is in. (LAPACK may use threads
for a large one; then last bits depend on how many.) Stacks have any strides;
results are C-contiguous.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import lapack, routines
from ..crew import run_batch
from . import careful, large, registers, tiled
from .doubts import GROWTH
from .qr_stacks import run_members, width_for
from .straight import largest_size, limit, probes
from .threads import run_chunks

__all__ = [
    "gesv",
    "getrf",
    "getrf_one_by_one",
    "getrs",
    "one_by_one",
    "posv",
    "potrf",
    "potrf_one_by_one",
    "potrs",
]

Array = NDArray[Any]

_FEW = 4
"""Right-hand sides that straight code is compiled for; more are solved in tiles."""
_LARGEST_TILE = 9 * 2**18
"""Bytes of a tile: with order 128, also complex. Larger ones are still not slower than LAPACK where
there are as many members as lanes, but batches of large matrices are often small."""
_BLAS_THREADS_FROM = 100**2
"""Numbers of a matrix from which LAPACK may wake threads of its own; for real ones it is 128^2."""
_RATE = 1e10
"""Real operations a second, about."""
_TRANS = {"N": 0, "T": 1, "C": 2}


def _seconds(a: Array, nrhs: int, power: int = 3) -> float:
    """That a member takes, about."""
    n = a.shape[-1]
    work = 2 / 3 * n**power + 2 * n * n * (nrhs + 2)
    return (4 if a.dtype.kind == "c" else 1) * work / _RATE + 5e-9


def _fits(a: Array, columns: int) -> bool:
    """Whether a tile of A and so many columns stays in the cache."""
    n = a.shape[-1]
    return (n + 1) * (n + 2 + columns) * width_for(a.dtype) * a.itemsize <= _LARGEST_TILE


def _tests(a: Array) -> tuple[float, Array]:
    """`straight.limit`, and random right-hand sides as rows."""
    return _tests_of_order(a.shape[-1], a.dtype.char in "fF")


@functools.cache
def _tests_of_order(n: int, is_single: bool) -> tuple[float, Array]:
    return limit(n, is_single), np.array(probes(n, is_single))


def _solve(definite: bool, a: Array, b: Array, x: Array, flags: Array) -> None:
    n, nrhs = b.shape[1:]
    run: Any
    if n <= registers.LARGEST and nrhs <= _FEW:
        run = (registers.posv_kernel if definite else registers.gesv_kernel)(n, nrhs)
    elif _fits(a, _FEW):
        together = nrhs
        while together > _FEW and not _fits(a, together):
            together = -(-together // 2)
        if together < nrhs:
            _solve_by_columns(definite, a, b, x, flags, together)
            return
        kernel = tiled.posv_tiles if definite else tiled.gesv_tiles
        tests = _tests(a)

        def run(count: int, *arrays: Array) -> None:
            kernel(count, n, nrhs, *tests, *arrays)

    else:
        _solve_large(definite, a, b, x, flags)
        return
    run_members(run, (a, b), (x, flags), _seconds(a, nrhs), width=width_for(a.dtype))


def _solve_large(definite: bool, a: Array, b: Array, x: Array, flags: Array) -> None:
    """By LAPACK, member by member."""
    n, nrhs = b.shape[1:]
    names = ("potrf", "potrs") if definite else ("getrf", "getrs")
    addresses = [routines.address(name, a.dtype) for name in names]
    kernel = large.posv_large if definite else large.gesv_large
    packed = [np.ascontiguousarray(v) for v in (a, b, x, flags)]
    most, (bound, vectors) = largest_size(a.dtype.char in "fF"), _tests(a)

    def run(first: int, last: int) -> None:
        arrays = [v[first:last].reshape(-1) for v in packed]
        kernel(*addresses, last - first, n, nrhs, bound, most, GROWTH, vectors, *arrays)

    run_batch(run, len(a), _seconds(a, nrhs))


def _solve_by_columns(
    definite: bool, a: Array, b: Array, x: Array, flags: Array, together: int
) -> None:
    """Right-hand sides, so many at a time; each time the matrices are factored again."""
    flags[:] = 0
    for c in range(0, b.shape[-1], together):
        some = b[:, :, c : c + together]
        part, doubts = np.empty(some.shape, b.dtype), np.empty_like(flags)
        _solve(definite, a, some, part, doubts)
        x[:, :, c : c + together] = part
        np.bitwise_or(flags, doubts, out=flags)


def gesv(a: Array, b: Array, x: Array, flags: Array) -> None:
    """A x = b for each member.

    Parameters
    ----------
    a, b : array, shape (N, n, n) and (N, n, nrhs)
        Of one LAPACK dtype; no dimension is 0.
    x : array, shape (N, n, nrhs)
        Receives the solutions.
    flags : array of uint8, shape (N,)
        Receives 1 for members that `one_by_one` must solve again.
    """
    _solve(False, a, b, x, flags)


def posv(a: Array, b: Array, x: Array, flags: Array) -> None:
    """As `gesv`, A Hermitian positive definite, its upper triangle read."""
    _solve(True, a, b, x, flags)


def getrf(a: Array, lu: Array, piv: Array, flags: Array) -> None:
    """P A = L U for each member, pivots (N, n) int32 from 0 on."""
    n = a.shape[-1]
    run: Any
    if n <= registers.LARGEST:
        run = registers.getrf_kernel(n)
    elif _fits(a, 0):
        tests = _tests(a)

        def run(count: int, *arrays: Array) -> None:
            tiled.getrf_tiles(count, n, *tests, *arrays)

    else:
        flags[:] = 1
        return
    run_members(run, (a,), (lu, piv, flags), _seconds(a, 0), width=width_for(a.dtype))


def potrf(a: Array, c: Array, flags: Array, *, lower: bool) -> None:
    """A = L L^H, or U^H U, for each member; zeros in the other triangle, which is not read."""
    n = a.shape[-1]
    run: Any
    if n <= registers.LARGEST:
        run = registers.potrf_kernel(n, not lower)
    elif _fits(a, 0):
        tests = _tests(a)

        def run(count: int, *arrays: Array) -> None:
            tiled.potrf_tiles(count, n, not lower, *tests, *arrays)

    else:
        flags[:] = 1
        return
    run_members(run, (a,), (c, flags), _seconds(a, 0), width=width_for(a.dtype))


def getrs(lu: Array, piv: Array, b: Array, x: Array, *, trans: str) -> None:
    """x = op(A)^-1 b with the factors of `getrf`; `trans` is "N", "T" or "C"."""
    n, flag = lu.shape[-1], _TRANS[trans]
    flags = np.ones(len(lu), np.uint8)

    def solve(nrhs: int) -> Any:
        return lambda count, *arrays: tiled.getrs_tiles(count, n, nrhs, flag, *arrays)

    if _fits(lu, 0):
        _substitute(solve, (lu, piv), b, x, flags)
    for member in flags.nonzero()[0]:
        found = np.array(b[member], order="F")
        rows = np.ascontiguousarray(piv[member], dtype=np.int32)
        lapack.getrs(np.asfortranarray(lu[member]), rows, found, trans)
        x[member] = found


def potrs(c: Array, b: Array, x: Array, *, lower: bool) -> None:
    """x = A^-1 b with the factors of `potrf`."""
    n = c.shape[-1]
    if not _fits(c, 0):
        for member in range(len(c)):
            found = np.array(b[member], order="F")
            lapack.potrs(np.asfortranarray(c[member]), found, lower)
            x[member] = found
        return

    def solve(nrhs: int) -> Any:
        return lambda count, *arrays: tiled.potrs_tiles(count, n, nrhs, not lower, *arrays)

    _substitute(solve, (c,), b, x)


def _substitute(solve: Any, factors: tuple[Array, ...], b: Array, x: Array, *flags: Array) -> None:
    """Right-hand sides, as many at a time as fit into the cache beside the factors."""
    a, nrhs = factors[0], b.shape[-1]
    width = width_for(a.dtype)
    together = nrhs
    while together > _FEW and not _fits(a, together):
        together = -(-together // 2)
    if together == nrhs:
        run_members(solve(nrhs), (*factors, b), (x, *flags), _seconds(a, nrhs, 2), width=width)
        return
    for c in range(0, nrhs, together):
        some = b[:, :, c : c + together]
        part = np.empty(some.shape, b.dtype)
        count = some.shape[-1]
        outputs = (part, *flags)
        run_members(solve(count), (*factors, some), outputs, _seconds(a, count, 2), width=width)
        x[:, :, c : c + together] = part


def one_by_one(definite: bool, a: Array, b: Array, x: Array, info: Array, rcond: Array) -> None:
    """A x = b for each member, by LAPACK, with the condition estimated.

    Parameters
    ----------
    definite : bool
        Whether A is Hermitian positive definite; its upper triangle is read.
    a, b, x : array, shape (k, n, n), (k, n, nrhs) and (k, n, nrhs)
        C-contiguous. x is NaN where there is no answer.
    info, rcond : array of int32 and float64, shape (k,)
        As `ops.batched.Judged` describes them.
    """
    names = ("potrf", "pocon", "potrs") if definite else ("getrf", "gecon", "getrs")
    addresses = [routines.address(name, a.dtype) for name in names]
    kernel = careful.posv_one_by_one if definite else careful.gesv_one_by_one
    n, nrhs = b.shape[1:]

    def run(first: int, last: int) -> None:
        arrays = [v[first:last].reshape(-1) for v in (a, b, x, info, rcond)]
        kernel(*addresses, n, nrhs, _extra(a), *arrays)

    _run(run, a, nrhs)


def getrf_one_by_one(a: Array, lu: Array, piv: Array, info: Array, rcond: Array) -> None:
    """P A = L U, as `one_by_one`; where a pivot is zero L and U are LAPACK's."""
    addresses = [routines.address(name, a.dtype) for name in ("getrf", "gecon")]
    n = a.shape[-1]

    def run(first: int, last: int) -> None:
        arrays = [v[first:last].reshape(-1) for v in (a, lu, piv, info, rcond)]
        careful.getrf_one_by_one(*addresses, n, _extra(a), *arrays)

    _run(run, a, 0)


def potrf_one_by_one(a: Array, c: Array, info: Array, rcond: Array, *, lower: bool) -> None:
    """A = L L^H, or U^H U, as `one_by_one`."""
    addresses = [routines.address(name, a.dtype) for name in ("potrf", "pocon")]
    n = a.shape[-1]

    def run(first: int, last: int) -> None:
        arrays = [v[first:last].reshape(-1) for v in (a, c, info, rcond)]
        careful.potrf_one_by_one(*addresses, n, not lower, _extra(a), *arrays)

    _run(run, a, 0)


def _extra(a: Array) -> Array:
    """Workspace of the condition estimates: integers for real matrices, reals for complex ones."""
    return np.empty(2 * a.shape[-1], np.int32 if a.dtype.kind == "f" else a.real.dtype)


def _run(run: Any, a: Array, nrhs: int) -> None:
    """Each thread some members; few that are large are left to BLAS and its threads."""
    seconds = _seconds(a, nrhs) + 2e-6
    if a[:1].size < _BLAS_THREADS_FROM:
        run_chunks(run, len(a), seconds, 1)
    else:
        run_batch(run, len(a), seconds)
