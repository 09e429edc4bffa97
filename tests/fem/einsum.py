"""What contract is held against: numpy.einsum, in extended precision."""

from __future__ import annotations

import numpy as np

from mplinalg.fem import contract_path


def normal(rng, shape, dtype=float):
    a = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        a = a + 1j * rng.standard_normal(shape)
    return np.asarray(a).astype(dtype)


def assert_is_einsum(got, subscripts, operands, unit=None):
    """Each number differs by at most 4 n u times the same sum of absolute values.

    n counts terms and factors; 4 is for complex arithmetic, and for einsum's own errors.
    """
    want = np.einsum(subscripts, *operands)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if not want.size:  # einsum of numbers of 32 bytes would write beyond it (NumPy 2.4)
        return
    if want.dtype.kind not in "fc":
        assert np.array_equal(got, want)
        return
    exact = np.einsum(
        subscripts, *(a.astype("G" if want.dtype.kind == "c" else "g") for a in operands)
    )
    size = np.einsum(subscripts, *(np.abs(a).astype("g") for a in operands))
    n = np.einsum(subscripts, *(np.ones(a.shape) for a in operands)) + len(operands)
    unit = np.finfo(want.dtype).eps / 2 if unit is None else unit
    assert np.all(np.abs(got - exact) <= 4 * n * unit * size)


def step_of(subscripts, *operands):
    """The only product."""
    (step,) = contract_path(subscripts, *operands).steps
    return step.product
