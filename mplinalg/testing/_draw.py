"""Random numbers in the field of a dtype, and the Haar distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mplinalg.testing._registry import Matrix


class Draw:
    """Draws real numbers for a real dtype and complex ones for a complex dtype.

    Everything is drawn in double precision, so that the float32 matrix of a seed is the
    float64 matrix of that seed, rounded.

    Parameters
    ----------
    rng : int or numpy.random.Generator
        A seed; or a generator, which is advanced.
    dtype : numpy.dtype
        float32, float64, complex64 or complex128.
    """

    def __init__(self, rng: int | np.random.Generator, dtype: np.dtype[Any]) -> None:
        if not isinstance(rng, int | np.integer | np.random.Generator):
            raise TypeError(f"rng must be an int seed or a numpy.random.Generator, got {rng!r}")
        self.rng = np.random.default_rng(rng)
        self.real_format = np.finfo(dtype)
        self.is_complex = dtype.kind == "c"

    def normal(self, *shape: int) -> Matrix:
        """Entries of mean 0 and variance 1; complex ones are circular."""
        real = self.rng.standard_normal(shape)
        if not self.is_complex:
            return real
        return math.sqrt(0.5) * (real + 1j * self.rng.standard_normal(shape))

    def uniform(self, low: float, high: float, *shape: int) -> Matrix:
        """Entries uniform on [low, high); complex ones on the square [low, high)^2."""
        real = self.rng.uniform(low, high, shape)
        if not self.is_complex:
            return real
        return real + 1j * self.rng.uniform(low, high, shape)

    def haar(self, n: int) -> Matrix:
        """An orthogonal or unitary (n, n) matrix from the Haar distribution.

        The QR factorization of a Gaussian matrix alone is not Haar distributed; the phases of
        the diagonal of R have to be moved into Q (Stewart 1980; Mezzadri 2007).
        """
        q, r = np.linalg.qr(self.normal(n, n))
        pivots: NDArray[Any] = np.diagonal(r)
        size = np.abs(pivots)
        phases = np.divide(pivots, size, out=np.ones_like(pivots), where=size > 0)
        haar: Matrix = q * phases
        return haar
