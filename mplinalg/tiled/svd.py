"""The largest singular values and vectors of a matrix that is only passed over a few times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ops.dispatch import ops_for
from ..ops.protocol import Array, Ops
from .limits import Limit
from .local import as_executor
from .plan import LimitTooSmall
from .progress import Progress, bar, quiet
from .running import run
from .sources import Blocks, Named, Source, as_source
from .system import Vectors, row_blocks_of
from .tasks import Program, Tile
from .traffic import Traffic

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
    memory_limit: Limit | None = None, executor: Any = None, progress: bool = False,
    full_output: bool = False,
) -> Any:  # fmt: skip
    """A ~ U diag(S) Vh, the k largest singular values, by a randomised range finder.

    Parameters
    ----------
    a : array_like, source or TiledMatrix, shape (m, n)
        As for `solve`. Read ``2 + 2 power`` times, a block of rows at a time.
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
        Options or shapes that make no sense; NaN or infinity in `a`; LimitTooSmall.

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
    columns = min(k + oversample, m, n)
    executor = as_executor(executor, memory_limit)
    reserved = _VECTORS * (m + n) * columns * source.dtype.itemsize
    # and X, a row of A, and one of A X
    least = reserved + (n * columns + n + columns) * source.dtype.itemsize
    if executor.memory_limit < least:
        raise LimitTooSmall(least, executor.memory_limit)
    passes = _Passes(source, executor.reserving(reserved), columns, bar if progress else quiet)
    rng = np.random.default_rng(0 if rng is None else rng)
    omega = rng.standard_normal((n, columns)).astype(source.dtype)
    q = _orthonormal(passes.product(omega))
    for _ in range(power):
        q = _orthonormal(passes.product(_orthonormal(passes.adjoint(q))))
    # Q^H A = (A^H Q)^H = W diag(s) Vh
    v, s, wh = passes.ops.gesvd(np.asfortranarray(_finite(passes.adjoint(q))))
    found = SVDResult(q @ wh.conj().T[:, :k], s[:k], v[:, :k].conj().T)
    return (*found, passes.traffic) if full_output else found


def _orthonormal(y: NDArray[Any]) -> NDArray[Any]:
    """An orthonormal basis of the columns."""
    q, _ = np.linalg.qr(_finite(y))
    return q


def _finite(y: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(y).all():
        raise ValueError("array must not contain infs or NaNs, or overflow in products")
    return y


class _Passes:
    """Products of A with a few vectors, each in one pass over blocks of its rows."""

    def __init__(self, source: Source, executor: Any, columns: int, progress: Progress) -> None:
        self.source, self.executor, self.progress = source, executor, progress
        self.ops: Ops = ops_for(np.empty(0))
        self.parts = row_blocks_of(source, source.dtype, executor, columns)
        self.traffic = Traffic()

    def product(self, x: NDArray[Any]) -> NDArray[Any]:
        """A X"""
        y = np.empty((self.source.shape[0], x.shape[1]), x.dtype)
        program = self._program()
        for i, part in enumerate(self.parts):
            key = ("y", i)
            height = part.stop - part.start
            program.tiles[key] = Tile((height, x.shape[1]), x.dtype)
            program.add(
                multiply, reads=(("rows", i), ("x",)), writes=(key,),
                flops=self._flops(height, x.shape[1]),
            )  # fmt: skip
            program.results.add(key)
        program.tiles[("x",)] = Tile(x.shape, x.dtype)
        self._run(program, {"x": lambda key: x}, Vectors({"y": y}, self.parts), "A X")
        return y

    def adjoint(self, y: NDArray[Any]) -> NDArray[Any]:
        """A^H Y"""
        z = np.zeros((self.source.shape[1], y.shape[1]), y.dtype)
        program = self._program()
        program.tiles[("z",)] = Tile(z.shape, z.dtype)
        for i, part in enumerate(self.parts):
            height = part.stop - part.start
            program.tiles[("y", i)] = Tile((height, y.shape[1]), y.dtype)
            program.add(
                accumulate, reads=(("rows", i), ("y", i)), updates=(("z",),),
                flops=self._flops(height, y.shape[1]),
            )  # fmt: skip
        program.results.add(("z",))
        store = Vectors({"z": z}, [slice(0, len(z))])
        vectors = {"z": lambda key: z.copy(), "y": lambda key: y[self.parts[key[1]]]}
        self._run(program, vectors, store, "A^H Y")
        return z

    def _program(self) -> Program:
        n = self.source.shape[1]
        return Program(
            tiles={
                ("rows", i): Tile((part.stop - part.start, n), self.source.dtype)
                for i, part in enumerate(self.parts)
            }
        )

    def _flops(self, height: int, columns: int) -> float:
        factor = 4 if self.source.dtype.kind == "c" else 1
        return factor * 2.0 * height * self.source.shape[1] * columns

    def _run(self, program: Program, vectors: Any, store: Vectors, title: str) -> None:
        blocks = Blocks(
            self.source, self.parts, [slice(0, self.source.shape[1])], self.source.dtype, None
        )
        inputs = Named({**vectors, "rows": blocks})
        run(self.executor, program, inputs, store, self.traffic, self.progress, title)


# -- kernels -------------------------------------------------------------------------------------


def multiply(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """Y_i = A_i X"""
    a, x = reads
    y = ops.xp.empty((len(a), x.shape[1]), x.dtype)
    ops.gemm(1.0, a, x, 0.0, y)
    return (y,)


def accumulate(ops: Ops, reads: Sequence[Array], updates: Sequence[Array]) -> tuple[Array, ...]:
    """Z <- Z + A_i^H Y_i"""
    (a, y), (z,) = reads, updates
    ops.gemm(1.0, a, y, 1.0, z, transa="C")
    return ()
