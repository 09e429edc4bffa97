"""Test matrices and error measures, independent of the solvers they judge.

`gallery` builds matrices whose properties are known; the measures say how good an answer is.
Everything here is NumPy in double precision and shares no code with the rest of `mplinalg`, so
a mistake in a solver cannot hide behind the same mistake in its judge.

Examples
--------
>>> import numpy as np
>>> from mplinalg.testing import backward_error, gallery
>>> a = gallery.matrix("randsvd", 50, cond=1e6, mode="one_small")
>>> x = np.linalg.solve(a, np.ones(50))
>>> bool(backward_error(a, x, np.ones(50)) < 1e-15)
True
"""

from mplinalg.testing import gallery
from mplinalg.testing.measures import (
    backward_error,
    componentwise_backward_error,
    factorization_error,
    forward_error,
    orthogonality_error,
)

__all__ = [
    "backward_error",
    "componentwise_backward_error",
    "factorization_error",
    "forward_error",
    "gallery",
    "orthogonality_error",
]
