"""Two-dimensional convolution and its gradients, on arrays."""

from __future__ import annotations

import functools
from typing import Any

from ..arguments import as_array, common_dtype, to_dtype
from ..ops.dispatch import nn_ops_for, ops_for
from ..ops.nn import Pair
from ..precision import Format, get_format
from . import correlation, fft_convolution, im2col, winograd
from .geometry import Geometry

Array = Any

__all__ = ["ALGORITHMS", "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient"]

ALGORITHMS = ("auto", "gemm", "direct", "fft", "winograd")

_METHODS: dict[str, Any] = {
    "gemm": im2col, "direct": correlation, "fft": fft_convolution, "winograd": winograd,
}  # fmt: skip


def conv2d(
    x: Any,
    w: Any,
    *,
    stride: int | Pair = (1, 1),
    padding: int | Pair = (0, 0),
    algorithm: str = "auto",
    precision: str | None = None,
) -> Array:
    """Compute ``y[n, o, i, j] = sum w[o, c, u, v] x[n, c, i sh + u - ph, j sw + v - pw]``.

    Parameters
    ----------
    x : (N, C, H, W) array_like
        Any strides. float32 or float64; other real numbers become what `common_dtype` says.
    w : (O, C, kh, kw) array_like
    stride : int or (int, int)
        Down and across.
    padding : int or (int, int)
        Rows and columns of zeros around each image.
    algorithm : {"auto", "gemm", "direct", "fft", "winograd"}
        "gemm": columns of patches times the kernels. "direct": the same sums without columns;
        stride 1, on the CPU. "fft": products of transforms. "winograd": F(2x2, 3x3), 3 by 3
        kernels with stride 1. "auto": by measured rates, see Notes.
    precision : str, optional
        As of `mplinalg.nn.product`. None: the dtype of the operands. In those below fp32 the
        operands of the products are rounded (fp16 after scaling by a power of two, which is
        undone), and products are summed in fp32: of "winograd" and "fft" these are the transforms.

    Returns
    -------
    (N, O, Ho, Wo) array
        On the device of the operands; float32 with a `precision`, but for fp64.
        Ho = (H + 2 ph - kh) // sh + 1.

    Raises
    ------
    ValueError
        Shapes that do not fit, with the shapes; a kernel larger than the padded input; complex
        numbers; unknown options; an algorithm that is not for this kernel, stride or device.

    Notes
    -----
    An image that holds NaN or infinity touches no other one. Flops: 2 N O C kh kw Ho Wo by
    definition; "winograd" multiplies 16/36 of that. Workspace is bounded but for the sizes of one
    image and of the kernels. What "auto" takes is told, with the measurements, on the page
    "Convolution" of the documentation.

    References
    ----------
    Chellapilla, Puri and Simard (2006) (gemm); Mathieu, Henaff and LeCun, ICLR (2014) (fft);
    Lavin and Gray, CVPR (2016) 4013 (winograd); Georganas et al., SC18 (direct).

    Examples
    --------
    >>> import numpy as np
    >>> conv2d(np.ones((1, 1, 3, 3)), np.ones((2, 1, 2, 2)), padding=1)[0, 0]
    array([[1., 2., 2., 1.],
           [2., 4., 4., 2.],
           [2., 4., 4., 2.],
           [1., 2., 2., 1.]])
    """
    x, w = as_array(x, "x"), as_array(w, "w")
    g = Geometry.of(x.shape, w.shape, stride, padding)
    x, w, compute = _operands(x, w, precision)
    method = _chosen(algorithm, "forward", g, x, compute)
    return method.forward(x, w, g, compute) if _is_summed(g) else _zeros(x, g.y_shape)


def conv2d_input_gradient(
    grad: Any,
    w: Any,
    input_shape: tuple[int, ...],
    *,
    stride: int | Pair = (1, 1),
    padding: int | Pair = (0, 0),
    algorithm: str = "auto",
    precision: str | None = None,
) -> Array:
    """Compute dx, the gradient of ``sum(grad * conv2d(x, w))`` with respect to x.

    Parameters
    ----------
    grad : (N, O, Ho, Wo) array_like
    w : (O, C, kh, kw) array_like
    input_shape : tuple of int
        (N, C, H, W) of x.
    stride, padding : int or (int, int)
        As of `conv2d`.
    algorithm, precision : str, optional
        As of `conv2d`.

    Returns
    -------
    (N, C, H, W) array

    Raises
    ------
    ValueError
        As `conv2d`; a `grad` that is not of the shape of ``conv2d(x, w)``.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d_input_gradient(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), (1, 1, 3, 3))[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    grad, w = as_array(grad, "grad"), as_array(w, "w")
    g = Geometry.of(input_shape, w.shape, stride, padding)
    _check_gradient(grad, g)
    grad, w, compute = _operands(grad, w, precision)
    method = _chosen(algorithm, "input_gradient", g, grad, compute)
    return method.input_gradient(grad, w, g, compute) if _is_summed(g) else _zeros(grad, g.x_shape)


def conv2d_weight_gradient(
    grad: Any,
    x: Any,
    kernel_shape: tuple[int, ...],
    *,
    stride: int | Pair = (1, 1),
    padding: int | Pair = (0, 0),
    algorithm: str = "auto",
    precision: str | None = None,
) -> Array:
    """Compute dw, the gradient of ``sum(grad * conv2d(x, w))`` with respect to w.

    Parameters
    ----------
    grad : (N, O, Ho, Wo) array_like
    x : (N, C, H, W) array_like
    kernel_shape : tuple of int
        (O, C, kh, kw) of w.
    stride, padding : int or (int, int)
        As of `conv2d`.
    algorithm, precision : str, optional
        As of `conv2d`.

    Returns
    -------
    (O, C, kh, kw) array

    Raises
    ------
    ValueError
        As `conv2d_input_gradient`.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d_weight_gradient(np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3)), (1, 1, 2, 2))[0, 0]
    array([[4., 4.],
           [4., 4.]])
    """
    grad, x = as_array(grad, "grad"), as_array(x, "x")
    g = Geometry.of(x.shape, kernel_shape, stride, padding)
    _check_gradient(grad, g)
    grad, x, compute = _operands(grad, x, precision)
    method = _chosen(algorithm, "weight_gradient", g, x, compute)
    return method.weight_gradient(grad, x, g, compute) if _is_summed(g) else _zeros(x, g.w_shape)


def _operands(a: Array, b: Array, precision: str | None) -> tuple[Array, Array, Format | None]:
    """Contiguous operands of one dtype, and the format of the products if it is another."""
    fmt = None if precision is None else get_format(precision)
    dtype = common_dtype(a, b)
    if dtype.kind == "c":
        raise ValueError(f"conv2d takes real numbers; got {a.dtype} and {b.dtype}")
    if fmt is not None:
        dtype = fmt.dtype(dtype)
    xp = ops_for(a, b).xp
    first, second = (xp.ascontiguousarray(to_dtype(array, dtype)) for array in (a, b))
    return first, second, None if fmt is None or fmt.is_native else fmt


def _check_gradient(grad: Array, g: Geometry) -> None:
    if tuple(grad.shape) != g.y_shape:
        raise ValueError(
            f"conv2d: gradient of shape {tuple(grad.shape)}, but the output has {g.y_shape}: "
            f"input of shape {g.x_shape}, weight of shape {g.w_shape}"
        )


def _is_summed(g: Geometry) -> bool:
    """Whether there is anything to sum up."""
    return min(g.images, g.channels, g.filters, *g.size) > 0


def _zeros(like: Array, shape: tuple[int, ...]) -> Array:
    return ops_for(like).xp.zeros(shape, like.dtype)


def _chosen(algorithm: str, what: str, g: Geometry, like: Array, compute: Format | None) -> Any:
    """The module that computes "forward", "input_gradient" or "weight_gradient"."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}; got {algorithm!r}")
    kernel, stride, _, _ = g.patches
    if algorithm == "winograd" and not winograd.takes(g):
        raise ValueError(
            f"algorithm='winograd' is for 3 by 3 kernels with stride 1; got {kernel}, {stride=}"
        )
    if algorithm == "direct" and not _correlates(g, like, compute):
        raise ValueError(
            "algorithm='direct' is for stride 1, on the CPU, and not for fp16x2; "
            f"got {stride=}, {type(like)}, precision={compute}"
        )
    return _METHODS[algorithm if algorithm != "auto" else _fastest(what, g, like, compute)]


def _correlates(g: Geometry, like: Array, compute: Format | None) -> bool:
    is_split = compute is not None and compute.name == "fp16x2"
    return g.patches.stride == (1, 1) and nn_ops_for(like).correlates and not is_split


def is_direct(x: Array, w: Array, stride: Pair, padding: Pair, algorithm: str) -> bool:
    """Whether "direct" is what `algorithm` stands for, in a convolution and both gradients."""
    g = Geometry.of(x.shape, w.shape, stride, padding)
    if algorithm != "auto" or not _is_summed(g):
        return algorithm == "direct" and _is_summed(g)
    return _correlates(g, x, None) and all(_faster(what, g, True) == "direct" for what in _WHATS)


_WHATS = ("forward", "input_gradient", "weight_gradient")


# The thresholds of "auto", read off the rows of the suite `conv` (docs/algorithms/convolution.md).
_MANY = 256
"""Channels and filters from which products are large enough for BLAS."""
_SOME = 64
"""The same for the gradient with respect to the weights, if one of the two is more than that."""
_WIDE = 512
"""Positions in all images from which tiles of F(2x2, 3x3) fill the products."""
_LONG = 17
"""Rows and columns of a kernel from which transforms are faster than sums."""


def _fastest(what: str, g: Geometry, like: Array, compute: Format | None) -> str:
    """The algorithm that "auto" stands for."""
    return _faster(what, g, compute is None) if _correlates(g, like, compute) else "gemm"


@functools.lru_cache(maxsize=1024)
def _faster(what: str, g: Geometry, is_native: bool) -> str:
    """Of those there are where there are kernels for sums."""
    kernel, _, _, out = g.patches
    if min(kernel) >= _LONG and min(out) >= max(kernel) and is_native:
        return "fft"
    fewer, more = sorted((g.channels, g.filters))
    is_large = fewer >= _MANY
    if what == "weight_gradient":
        is_large = is_large or (fewer >= _SOME and more > _SOME)
    # rounding after the transforms would cost digits
    if is_large and is_native and winograd.takes(g) and g.images * g.positions >= _WIDE:
        return "winograd"
    return "gemm" if fewer >= _MANY and g.positions < _WIDE else "direct"
