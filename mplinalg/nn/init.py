"""Initial weights: new arrays, the same ones for the same `rng`.

Shapes are PyTorch's: ``(out, in)`` of a linear layer, ``(out, in, height, width)`` of Conv2d.
fan_in is the number of inputs of an output, in * height * width; fan_out is out * height * width.

References
----------
Glorot and Bengio, AISTATS (2010), section 4.2 (Xavier).
He, Zhang, Ren and Sun, ICCV (2015), section 2.2 (Kaiming).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Seed = np.random.Generator | int | None

__all__ = [
    "constant",
    "kaiming_normal",
    "kaiming_uniform",
    "ones",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]


def constant(shape: Sequence[int], value: float, *, dtype: DTypeLike = np.float32) -> Array:
    """All entries `value`.

    Parameters
    ----------
    shape : sequence of int
    value : float
    dtype : dtype

    Returns
    -------
    ndarray
    """
    return np.full(tuple(shape), value, dtype)


def zeros(shape: Sequence[int], *, dtype: DTypeLike = np.float32) -> Array:
    """All entries 0.

    Parameters
    ----------
    shape : sequence of int
    dtype : dtype

    Returns
    -------
    ndarray
    """
    return constant(shape, 0.0, dtype=dtype)


def ones(shape: Sequence[int], *, dtype: DTypeLike = np.float32) -> Array:
    """All entries 1.

    Parameters
    ----------
    shape : sequence of int
    dtype : dtype

    Returns
    -------
    ndarray
    """
    return constant(shape, 1.0, dtype=dtype)


def uniform(
    shape: Sequence[int], bound: float, *, rng: Seed = None, dtype: DTypeLike = np.float32
) -> Array:
    """Uniform in [-bound, bound).

    Parameters
    ----------
    shape : sequence of int
    bound : float
    rng : numpy.random.Generator or int, optional
    dtype : dtype

    Returns
    -------
    ndarray
    """
    return np.random.default_rng(rng).uniform(-bound, bound, tuple(shape)).astype(dtype)


def kaiming_uniform(
    shape: Sequence[int], *, rng: Seed = None, slope: float = 0.0, mode: str = "fan_in",
    dtype: DTypeLike = np.float32,
) -> Array:  # fmt: skip
    """Uniform, of variance 2 / ((1 + slope^2) fan), as fits a ReLU after the layer.

    Parameters
    ----------
    shape : sequence of int
        Of two dimensions at least.
    rng : numpy.random.Generator or int, optional
        Where the numbers come from, or its seed.
    slope : float
        Of the ReLU for negative numbers. sqrt(5) gives PyTorch's default for its layers.
    mode : {"fan_in", "fan_out"}
        Keeps the size of the results, or of the gradients.
    dtype : dtype

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        Fewer than two dimensions; an unknown mode.

    Examples
    --------
    >>> from mplinalg.nn import init
    >>> weights = init.kaiming_uniform((6, 3, 5, 5), rng=0)
    >>> weights.shape, weights.dtype
    ((6, 3, 5, 5), dtype('float32'))
    >>> bool(abs(weights).max() <= (3 * 2 / 75) ** 0.5)
    True
    """
    return uniform(shape, math.sqrt(3.0) * _kaiming(shape, slope, mode), rng=rng, dtype=dtype)


def kaiming_normal(
    shape: Sequence[int], *, rng: Seed = None, slope: float = 0.0, mode: str = "fan_in",
    dtype: DTypeLike = np.float32,
) -> Array:  # fmt: skip
    """Normal, of the variance of `kaiming_uniform`.

    Parameters
    ----------
    shape : sequence of int
    rng : numpy.random.Generator or int, optional
    slope : float
    mode : {"fan_in", "fan_out"}
    dtype : dtype

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        Fewer than two dimensions; an unknown mode.
    """
    return _normal(shape, _kaiming(shape, slope, mode), rng, dtype)


def xavier_uniform(
    shape: Sequence[int], *, rng: Seed = None, gain: float = 1.0, dtype: DTypeLike = np.float32
) -> Array:
    """Uniform, of variance 2 gain^2 / (fan_in + fan_out), as fits tanh and sigmoid.

    Parameters
    ----------
    shape : sequence of int
        Of two dimensions at least.
    rng : numpy.random.Generator or int, optional
    gain : float
    dtype : dtype

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        Fewer than two dimensions.
    """
    return uniform(shape, math.sqrt(3.0) * _xavier(shape, gain), rng=rng, dtype=dtype)


def xavier_normal(
    shape: Sequence[int], *, rng: Seed = None, gain: float = 1.0, dtype: DTypeLike = np.float32
) -> Array:
    """Normal, of the variance of `xavier_uniform`.

    Parameters
    ----------
    shape : sequence of int
    rng : numpy.random.Generator or int, optional
    gain : float
    dtype : dtype

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        Fewer than two dimensions.
    """
    return _normal(shape, _xavier(shape, gain), rng, dtype)


def _normal(shape: Sequence[int], deviation: float, rng: Seed, dtype: DTypeLike) -> Array:
    return (deviation * np.random.default_rng(rng).standard_normal(tuple(shape))).astype(dtype)


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2:
        raise ValueError(f"fans are those of weights of two dimensions at least; got {shape=}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _kaiming(shape: Sequence[int], slope: float, mode: str) -> float:
    """The standard deviation."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be fan_in or fan_out; got {mode!r}")
    return math.sqrt(2.0 / ((1.0 + slope**2) * max(_fans(shape)[mode == "fan_out"], 1)))


def _xavier(shape: Sequence[int], gain: float) -> float:
    return gain * math.sqrt(2.0 / max(sum(_fans(shape)), 1))
