"""How long a solve takes on a GPU by LU of a matrix that is randomly transformed: predicted.

The device and the assumptions are those of `gpu_model`. The launches and products of
`factor.unpivoted` are gone through one by one; each product takes a launch, and the longer of its
flops and its traffic. Times in seconds, rates per second. n is the order, nb the panel, s the order
of diagonal blocks, q = nb / s.

``python -m mplinalg.bench.butterfly_model`` prints the tables of `docs/algorithms/gpu-lu.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mplinalg.bench.gpu_model import BLOCKS, DESIGN, H200, ORDERS, Device, Prediction
from mplinalg.bench.gpu_model import predict as predict_pivoted
from mplinalg.bench.table import markdown

__all__ = [
    "Work", "application", "best_block", "block_row", "launches", "page_tables", "panel", "predict",
]  # fmt: skip

SIZE = 128
"""Order of the diagonal blocks, s."""
_COLUMN = 450 / 1.8e9
"""Seconds of a column of a diagonal block, by the head of block_lu_pivoted.cu."""
_STEP = 1.3e-6
"""Seconds from one block of a triangular solve to the next, by the head of triangle_solve.cu."""
_CONVERTS_FROM = 2**31
"""As in `factor.unpivoted`."""
_OPERANDS = 9
"""Launches for two operands: zeros for two sums, the largest magnitude and the conversion of each,
and one for scales."""
_PRODUCTS = {"fp16": 1, "fp16x2": 3, "fp32": 1}
"""Of fp16 matrices that make one; fp32's are of fp32 matrices."""


@dataclass(frozen=True)
class Work:
    """What a part of the factorization takes, one thing after the other."""

    launches: int = 0
    seconds: float = 0.0
    operands: float = 0.0
    """Seconds of conversions, not in `seconds`."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.launches + other.launches, self.seconds + other.seconds,
            self.operands + other.operands,
        )  # fmt: skip

    @property
    def total(self) -> float:
        """Seconds with conversions."""
        return self.seconds + self.operands


def _kernel(flops: float, rate: float, moved: float, device: Device) -> Work:
    return Work(1, device.launch + max(flops / rate, moved / device.copy))


def _product(m: int, k: int, n: int, fmt: str, device: Device, *, converts: bool = False) -> Work:
    """C <- C - A B, m by k by n; operands are converted if that is said, or if it pays.

    fp32 operands are read and C is read and written; a conversion reads twice and writes once.
    """
    flops = 2.0 * m * k * n
    if fmt == "fp32" or not (converts or flops >= _CONVERTS_FROM):
        return _kernel(flops, device.single, 8.0 * m * n + 4.0 * k * (m + n), device)
    parts = _PRODUCTS[fmt]
    width = 2.0 if fmt == "fp16" else 4.0
    numbers = k * (m + n)
    made = _kernel(flops * parts, device.low, 8.0 * m * n + width * numbers, device)
    operands = (8.0 + width) * numbers / device.copy + _OPERANDS * device.launch
    return Work(1 + _OPERANDS, made.seconds, operands)


def _inverted(columns: int, device: Device) -> Work:
    """A product with the inverse of a diagonal block: a copy of what it overwrites, and itself."""
    if not columns:
        return Work()
    copy = _kernel(0.0, 1.0, 8.0 * SIZE * columns, device)
    return copy + _kernel(2.0 * SIZE**2 * columns, device.single, 8.0 * SIZE * columns, device)


def block_row(q: int, columns: int, fmt: str, device: Device = H200) -> Work:
    """q blocks of rows of U, so many columns, by halves: 3 q - 1 launches, and conversions."""
    if q == 1:
        return _inverted(columns, device)
    first = (q + 1) // 2
    second = q - first
    return (
        block_row(first, columns, fmt, device)
        + _product(second * SIZE, first * SIZE, columns, fmt, device)
        + block_row(second, columns, fmt, device)
    )


def panel(m: int, q: int, fmt: str, device: Device = H200) -> Work:
    """A panel of q blocks of columns and m rows, by halves."""
    if q == 1:
        block = Work(1, device.launch + SIZE * _COLUMN)
        return block + _inverted(m - SIZE, device)
    first = (q + 1) // 2
    second = q - first
    return (
        panel(m, first, fmt, device)
        + block_row(first, second * SIZE, fmt, device)
        + _product(m - first * SIZE, first * SIZE, second * SIZE, fmt, device)
        + panel(m - first * SIZE, second, fmt, device)
    )


def application(n: int, device: Device = H200) -> float:
    """Seconds of a solve with the factors and a residual: 8 n^2 bytes of A, and of L and U 4 n^2.

    A triangle takes a launch and one for zeros, and the longer of its traffic and its n / s steps;
    vectors are transformed by two launches.
    """
    triangle = max(2.0 * n**2 / device.copy, math.ceil(n / SIZE) * _STEP) + 2 * device.launch
    return 8.0 * n**2 / device.copy + 2 * triangle + 2 * device.launch


def _steps(n: int, nb: int, fmt: str, device: Device) -> list[tuple[Work, list[tuple[Work, Work]]]]:
    """Of each panel its work, and block row and product of the updates of the next one's columns
    and of those that are left."""
    found = []
    for begin in range(0, n, nb):
        own = panel(n - begin, min(nb, n - begin) // SIZE, fmt, device)
        left = max(n - begin - nb, 0)
        updates = [
            (
                block_row(nb // SIZE, columns, fmt, device),
                _product(left, nb, columns, fmt, device, converts=True),
            )
            for columns in (min(nb, left), left - nb)
            if columns > 0
        ]
        found.append((own, updates))
    return found


def launches(n: int, nb: int, fmt: str = "fp16", device: Device = H200) -> int:
    """Launches and calls of cuBLAS of a factorization; nb divides n, and s divides nb."""
    total = 1  # info
    for own, updates in _steps(n, nb, fmt, device):
        total += own.launches
        total += sum(row.launches + product.launches for row, product in updates)
    return total


def predict(
    n: int, fmt: str = "fp16x2", device: Device = H200, block: int | None = None
) -> Prediction:
    """The phases of a solve of order n, a multiple of all blocks, with one right-hand side.

    Parameters
    ----------
    n : int
    fmt : {"fp16", "fp16x2", "fp32"}
    device : gpu_model.Device
    block : int, optional
        Columns of a panel; by default the best of `gpu_model.BLOCKS`.

    Notes
    -----
    Conversion: 16 n^2 bytes are read to equilibrate, 12 n^2 read and written for the scaled copy,
    8 n^2 for the transformation. A panel counts as far as the update beside it does not hide it.
    The factors are applied as often as in `gpu_model`, and an fp16x2 product is three of fp16.
    """
    if block is None:
        block = best_block(n, fmt, device)
    rows = operands = updates = panels = exposed = hidden = 0.0
    for own, parts in _steps(n, min(block, n), fmt, device):
        panels += own.total
        exposed += max(0.0, own.total - hidden)
        rows += sum(row.seconds for row, _ in parts)
        updates += sum(product.seconds for _, product in parts)
        operands += sum(row.operands + product.operands for row, product in parts)
        # the next panel runs beside what follows the update of its own columns
        hidden = sum(row.total + product.total for row, product in parts[1:])
    return Prediction(
        n, block, convert=36.0 * n**2 / device.copy, panels=panels, exposed=exposed, swaps=0.0,
        triangles=rows, operands=operands, updates=updates,
        refinement=DESIGN.applications * application(n, device),
    )  # fmt: skip


def best_block(n: int, fmt: str = "fp16x2", device: Device = H200) -> int:
    """The panel of `gpu_model.BLOCKS` with which a solve of order n is predicted to be fastest."""
    return min(BLOCKS, key=lambda block: predict(n, fmt, device, block).seconds)


def page_tables() -> dict[str, str]:
    """The tables of the page, by name, in Markdown, all of an H200."""
    return {"butterfly solves": _solves(), "with and without pivots": _compared()}


def _solves() -> str:
    found = [predict(n) for n in ORDERS]
    names = [name for name in found[0].phases if name != "row swaps"]
    heads = [
        "n", "block", "launches", *(f"{name}, ms" for name in names), "total, ms", "TFLOP/s",
        "longest phase",
    ]  # fmt: skip
    rows = [
        [
            str(p.n), str(p.block), str(launches(p.n, p.block, "fp16x2")),
            *(f"{1e3 * p.phases[name]:.2f}" for name in names), f"{1e3 * p.seconds:.1f}",
            f"{p.rate / 1e12:.0f}", p.bound,
        ]
        for p in found
    ]  # fmt: skip
    return markdown(heads, rows)


def _compared() -> str:
    pivoted = []
    for n in ORDERS:
        p = predict_pivoted(n)
        # solves by one launch a triangle there, too
        seconds = p.seconds - p.refinement + DESIGN.applications * application(n)
        pivoted.append(f"{p.rate * p.seconds / seconds / 1e12:.0f}")
    rows = [["fp16, pivots", *pivoted]]
    for fmt in _PRODUCTS:
        rates = (f"{predict(n, fmt).rate / 1e12:.0f}" for n in ORDERS)
        rows.append([f"{fmt}, butterflies", *rates])
    return markdown(["", *(f"n = {n}" for n in ORDERS)], rows)


if __name__ == "__main__":
    for name, text in page_tables().items():
        print(f"{name}\n\n{text}\n")
