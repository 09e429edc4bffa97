"""The largest singular values and vectors of a matrix that is only passed over a few times."""

from __future__ import annotations

import contextlib
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .grid import Grid
from .identity import identified
from .limits import Limit
from .local import as_executor
from .plan import LimitTooSmall
from .progress import bar, quiet
from .sources import as_source
from .store import DirectoryStore, checksum
from .stores import require_resumable
from .subspace import Passes

__all__ = ["svd"]


_VECTORS = 7
"""Arrays of (m + n)(k + oversample) numbers that are there at once: Q, Y, and what QR holds."""


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: NDArray[Any]
    S: NDArray[Any]
    Vh: NDArray[Any]


def svd(
    a: Any, k: int, *, oversample: int = 10, power: int = 2, rng: Any = None,
    memory_limit: Limit | None = None, executor: Any = None,
    workdir: str | os.PathLike[str] | None = None, resume: bool = False, progress: bool = False,
    full_output: bool = False,
) -> Any:  # fmt: skip
    """A ~ U diag(S) Vh, the k largest singular values, by a randomised range finder.

    Parameters
    ----------
    a : array_like, source or TiledMatrix, shape (m, n)
        As for `solve`. Read ``2 + 2 power`` times, a block of rows at a time, and with `workdir`
        once more, for what tells it from others.
    k : int
        Singular values wanted, at most min(m, n).
    oversample : int
        Random vectors beyond k.
    power : int
        Power iterations; each one brings the error nearer to the best that rank k can do, by the
        (2 power + 1)-th root of what is left.
    rng : numpy.random.Generator or int, optional
        Where the random vectors come from; by default a generator with seed 0, so that a call
        repeats itself.
    memory_limit : int, str or float, optional
        As for `solve`. Of (m + n)(k + oversample) numbers a few times as many are in it.
    executor : LocalExecutor or DaskExecutor, optional
        As for `solve`.
    workdir : path-like, optional
        A directory where what the last passes gave is kept, an eighth of a pass at a time.
    resume : bool
        Go on with what an earlier run left in `workdir`. Refused if A, the random vectors, or the
        blocks of rows, which follow from the limit, are others.
    progress : bool
        As for `solve`.
    full_output : bool
        Also return a `Traffic`.

    Returns
    -------
    U : ndarray, shape (m, k)
    S : ndarray, shape (k,)
        They do not increase.
    Vh : ndarray, shape (k, n)
    traffic : Traffic
        If `full_output`.

    Raises
    ------
    ValueError
        Options or shapes that make no sense; NaN or infinity in `a`; LimitTooSmall; with `resume`,
        a directory of something else.
    FileExistsError
        `workdir` has passes already, and `resume` is False.
    BlockingIOError
        Another process writes there.

    Notes
    -----
    2 m n (k + oversample) flops a pass. Singular values are never larger than those of `a`, but
    for rounding. The expected error in the spectral norm is at most

        (1 + sqrt(k / (p - 1)) + e sqrt(k + p) sqrt(min(m, n) - k) / p)^(1 / (2 power + 1))

    times the (k + 1)-th singular value, p being `oversample` (corollary 10.10 of [1]_).

    References
    ----------
    .. [1] Halko, Martinsson and Tropp, SIAM Review 53 (2011) 217, algorithms 4.4 and 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> from mplinalg import tiled
    >>> a = np.outer(np.arange(50.0), np.ones(40))
    >>> u, s, vh = tiled.svd(a, 1)
    >>> bool(np.isclose(s[0], np.linalg.norm(a)))
    True
    """
    source = as_source(a)
    m, n = source.shape
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= min(m, n):
        raise ValueError(f"k must lie between 1 and {min(m, n)} for a of shape {(m, n)}; got {k!r}")
    for name, value in (("oversample", oversample), ("power", power)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name} must be a non-negative integer; got {value!r}")
    k, oversample, power = int(k), int(oversample), int(power)  # NumPy's would overflow
    columns = min(k + oversample, m, n)
    executor = as_executor(executor, memory_limit)
    require_resumable(workdir, resume, executor)
    reserved = _VECTORS * (m + n) * columns * source.dtype.itemsize
    # and X, a row of A, and one of A X
    least = reserved + (n * columns + n + columns) * source.dtype.itemsize
    if executor.memory_limit < least:
        raise LimitTooSmall(least, executor.memory_limit)
    passes = Passes(source, executor.reserving(reserved), columns, bar if progress else quiet)
    rng = np.random.default_rng(0 if rng is None else rng)
    omega = rng.standard_normal((n, columns)).astype(source.dtype)
    last = 1 + 2 * power
    with contextlib.ExitStack() as held:
        if workdir is not None:
            passes.kept = _kept(workdir, resume, passes, executor, omega)
            held.callback(passes.kept.release)
        q = _range(passes, omega, last)
        z = passes.run(last, q)
    # Q^H A = (A^H Q)^H = W diag(s) Vh
    v, s, wh = passes.ops.gesvd(np.asfortranarray(_finite(z)))
    found = SVDResult(q @ wh.conj().T[:, :k], s[:k], v[:, :k].conj().T)
    return (*found, passes.traffic) if full_output else found


def _range(passes: Passes, omega: NDArray[Any], last: int) -> NDArray[Any]:
    """Q, an orthonormal basis of what A (A^H A)^power makes of random vectors."""
    basis, first = omega, 0
    for number in reversed(range(last)):
        result = passes.whole(number)
        if result is not None:
            basis, first = _orthonormal(result), number + 1
            break
    for number in range(first, last):
        basis = _orthonormal(passes.run(number, basis))
    return basis


def _kept(
    workdir: str | os.PathLike[str], resume: bool, passes: Passes, executor: Any,
    omega: NDArray[Any],
) -> DirectoryStore:  # fmt: skip
    source, rows = passes.source, passes.parts[0].stop

    def title() -> dict[str, Any]:
        # with smaller blocks, so that their checksums have room
        grid = Grid(source.shape, (max(1, rows // 8), source.shape[1]))
        name = identified(
            source, grid, source.dtype, executor, passes.traffic, is_checked=True
        )  # fmt: skip
        return {
            "contents": "passes of svd", "shape": list(source.shape),
            "dtype": source.dtype.str, "columns": passes.columns, "rows of a block": rows,
            "made of": f"{name} and random vectors {checksum(omega)}",
        }  # fmt: skip

    return DirectoryStore.of_run(workdir, title, resume=resume)


def _orthonormal(y: NDArray[Any]) -> NDArray[Any]:
    """An orthonormal basis of the columns."""
    q, _ = np.linalg.qr(_finite(y))
    return q


def _finite(y: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(y).all():
        raise ValueError("array must not contain infs or NaNs, or overflow in products")
    return y
