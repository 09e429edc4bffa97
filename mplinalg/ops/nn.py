"""NnOps: the verbs of layers on images, beside the products of `Ops` and `BatchedOps`.

Arrays are C-contiguous images (N, C, H, W) of one dtype, float32 or float64, unless a verb says
more. Verbs write into arrays that they are given.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from ..precision import Format

Array = Any

__all__ = ["NnOps", "Pair", "Patches"]

Pair = tuple[int, int]


class Patches(NamedTuple):
    """Which patches of an image a convolution, or pooling, looks at."""

    kernel: Pair
    stride: Pair
    padding: Pair
    out: Pair
    """Patches down and across: the size of the output."""


class NnOps(Protocol):
    """A backend for layers on images."""

    @property
    def xp(self) -> Any:
        """The array namespace."""

    @property
    def correlates(self) -> bool:
        """Whether `correlate` is there."""

    @property
    def column_bytes(self) -> int:
        """Workspace for columns that suits the backend; of one image there is always room."""

    @property
    def tile_bytes(self) -> int:
        """The same for transformed tiles; of one row of tiles there is always room."""

    def in_a_row(self) -> AbstractContextManager[None]:
        """While this thread does nothing but train: one product follows the other."""

    def matmul(self, a: Array, b: Array) -> Array:
        """A B of matrices, or of stacks of them, of any strides."""

    def im2col(self, x: Array, cols: Array, patches: Patches) -> None:
        """cols[n, (c, u, v), (i, j)] <- x[n, c, i sh + u - ph, j sw + v - pw], 0 outside.

        cols is (N, C kh kw, Ho Wo), of unit stride in the last dimension.
        """

    def col2im(self, cols: Array, x: Array, patches: Patches) -> None:
        """x <- the sum of the columns: the transpose of `im2col`."""

    def correlate(
        self, x: Array, w: Array, y: Array, padding: Pair, compute: Format | None
    ) -> None:
        """y[n, o] <- sum_c of x[n, c] correlated with w[o, c], stride 1, without columns.

        With `compute`, x (each image) and w are scaled by powers of two and rounded to that format,
        and their products are summed in fp32.
        """

    def correlate_gradient(
        self, x: Array, grad: Array, dw: Array, padding: Pair, compute: Format | None
    ) -> None:
        """dw[o, c] <- sum_n of x[n, c] correlated with grad[n, o], as `correlate`."""

    def pools(self, x: Array, w: Array, padding: Pair, window: Pair) -> bool:
        """Whether `correlate_pool` is there for these sizes, and y is what `correlate` gives."""

    def correlate_pool(
        self, x: Array, w: Array, b: Array, y: Array, padding: Pair, window: Pair
    ) -> Any:
        """y <- the largest entry of each window of max(x correlated with w, + b, 0).

        Windows lie side by side; y is (N, O, rows, columns). Returns what the gradient needs.
        """

    def correlate_pool_gradient(
        self, grad: Array, w: Array, kept: Any, padding: Pair, dx: Array | None, dw: Array | None
    ) -> Array:
        """The gradients of `correlate_pool`: dx and dw if they are given, and db, returned."""

    # -- what comes after a product: y is (N, O), or (N, O, H, W), contiguous --------------------

    def add_bias(self, y: Array, b: Array | None, relu: bool) -> None:
        """y <- y + b, of each channel O, and with `relu` max(that, 0); NaN stays."""

    def bias_gradient(self, grad: Array, y: Array | None) -> tuple[Array, Array]:
        """The gradients with respect to the product and to b; without ReLU y is None.

        The first is `grad` where y > 0, and 0 elsewhere; without y, `grad` itself.
        """

    def softmax_loss(self, z: Array, labels: Array, dz: Array) -> Any:
        """mean_i (log s[i] - z[i, labels[i]]), s[i] = sum_j e^z[i, j], of N rows; and its gradient.

        dz[i, j] <- (e^z[i, j] / s[i] - [j = labels[i]]) / N. Labels are in range. dz is contiguous,
        float32 at least, z perhaps in less.
        """

    # -- pooling ---------------------------------------------------------------------------------

    def max_pool(self, x: Array, patches: Patches) -> Array:
        """The largest entry of each patch; what is outside of x is smaller than any. NaN stays."""

    def max_pool_gradient(self, grad: Array, x: Array, y: Array, patches: Patches) -> Array:
        """That with respect to x; y is what `max_pool` gave. The first of equal entries has it."""

    def constant(self, a: Any, dtype: Any) -> Array:
        """A NumPy array that never changes in this dtype there, to be read; sent once."""

    # -- F(2x2, 3x3); tiles are (16, C, T), those of tile rows begin <= r < end of all images ----

    def image_tiles(self, x: Array, v: Array, patches: Patches, begin: int, end: int) -> None:
        """v[:, c, t] <- B' d B, d the 4 by 4 patch of tile t."""

    def output_from_tiles(self, m: Array, y: Array, begin: int, end: int) -> None:
        """y <- A' M A, in two rows of the output for each tile row."""

    def output_tiles(self, y: Array, m: Array, begin: int, end: int) -> None:
        """m[:, o, t] <- A y A', the transpose of `output_from_tiles`; y is 0 beyond its end."""
