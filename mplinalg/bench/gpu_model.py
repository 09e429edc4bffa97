"""How long a solve by LU takes on a GPU, predicted from a few rates: what a measurement is held to.

Every formula counts work and traffic of the design in `docs/algorithms/gpu-lu.md` and divides by a
rate of the device; what runs at the same time counts as the longer of the two. n is the order, nb
the outer block, w the leaf of a panel, m the rows of a panel, s the order of inverted diagonal
blocks. Times in seconds, sizes in bytes, rates per second.

``python -m mplinalg.bench.gpu_model`` prints the tables of that page.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from mplinalg.bench import flops
from mplinalg.bench.table import markdown

__all__ = [
    "BYTES", "DESIGN", "H200", "LEVERS", "Design", "Device", "Prediction", "best_block",
    "launches", "page_tables", "panel", "panel_launches", "persistent_leaf", "predict",
    "product_cap", "rounds", "solve_launches", "tournament_leaf",
]  # fmt: skip

BLOCKS = (256, 512, 1024, 2048)
"""Outer blocks that are considered."""
ORDERS = (8192, 16384, 32768, 65536)
"""Of the tables."""


BYTES = {"convert": 12.0, "residual": 8.0, "tournament": 12.0, "persistent": 8.0, "update": 8.0}
"""Between memory and multiprocessors, an entry: fp64 read and fp32 written; fp64 read; a leaf read
by the first round, and read and written for the rows of L; a leaf read and written; C read and
written. `tests/kernels/cuda/test_work.py` holds the first four to what the kernels do."""


@dataclass(frozen=True)
class Device:
    """Rates of a GPU.

    Attributes
    ----------
    name : str
    low : float
        Flops per second of a product of fp16 matrices, summed in fp32.
    single : float
        The same of fp32 matrices.
    copy : float
        Bytes per second, those read and those written together.
    launch : float
        Seconds from one kernel to the next that waits for it.
    column : float
        Seconds of a column in a thread block, with its barrier.
    grid_column : float
        Seconds of a column with a barrier of the grid.
    inverse : float
        Seconds to invert diagonal blocks, all at once.
    """

    name: str
    low: float
    single: float
    copy: float
    launch: float = 2.5e-6
    column: float = 300 / 1.8e9
    grid_column: float = 2e-6
    inverse: float = 21e-6


H200 = Device("H200", low=790e12, single=67e12, copy=4.3e12)
"""`low` and `copy` as others measured them on an H200, `single` from its data sheet; the rest is
what the heads of the kernels compute, and `launch` an assumption."""


@dataclass(frozen=True)
class Design:
    """What the algorithm does, in numbers. The first ones are those of the code.

    Attributes
    ----------
    leaf : int
        Columns of a leaf of a panel, w.
    group : int
        Rows that a thread block of the tournament factors.
    inverted : int
        Order of the inverted diagonal blocks, s: the rows of a step of a triangular solve.
    inverts_from : int
        Columns from which a triangular solve is done by inverted blocks.
    node_launches : int
        Of a product inside a panel: row swaps on both sides (3 each: the permutation, a gather, a
        scatter), the triangular solve and the product.
    factor_bytes : int
        Of an entry of L and U where they are applied.
    triangles_in_low : bool
        The block row of U is computed by fp16 products; else by fp32 ones.
    applications : int
        Times that the factors are applied and a residual is formed, in a refinement and in the test
        of a random right-hand side: an assumption, not a count.
    """

    leaf: int = 32
    group: int = 256
    inverted: int = 128
    inverts_from: int = 256
    node_launches: int = 8
    factor_bytes: int = 4
    triangles_in_low: bool = False
    applications: int = 8


DESIGN = Design()


@dataclass(frozen=True)
class Prediction:
    """Seconds of the phases of one solve, and what they make.

    Attributes
    ----------
    n, block : int
    convert : float
        fp64 to fp32, with the sums of rows.
    panels : float
        All panels, were they alone.
    exposed : float
        What of them no update hides.
    swaps, triangles, operands, updates : float
        Row interchanges; L^-1 times the block row; both operands of the update to fp16; the update.
    refinement : float
        Residuals and applications of the factors.
    """

    n: int
    block: int
    convert: float
    panels: float
    exposed: float
    swaps: float
    triangles: float
    operands: float
    updates: float
    refinement: float

    @property
    def phases(self) -> dict[str, float]:
        """Seconds that add up to `seconds`."""
        return {
            "conversion": self.convert, "panels": self.exposed, "row swaps": self.swaps,
            "triangular solves": self.triangles, "operands": self.operands,
            "updates": self.updates, "refinement": self.refinement,
        }  # fmt: skip

    @property
    def seconds(self) -> float:
        """Of the whole solve."""
        return sum(self.phases.values())

    @property
    def rate(self) -> float:
        """Flops per second by the classical count, one right-hand side."""
        return flops.lu_solve(self.n, 1, "float64") / self.seconds

    @property
    def bound(self) -> str:
        """The phase that takes longest."""
        return max(self.phases, key=lambda name: self.phases[name])


def product_cap(k: int, device: Device = H200) -> float:
    """Flops per second of C <- C - A B with an fp32 C and k columns of A, at most.

    An entry of C takes 2 k flops, and 8 bytes to be read and written.
    """
    return min(device.low, 2 * k / BYTES["update"] * device.copy)


def rounds(m: int, design: Design = DESIGN) -> int:
    """Launches of the tournament of m rows; a thread block leaves w rows, or all of fewer."""
    count, launched = m, 1
    while count > design.group:
        last = count % design.group or design.group
        count = (math.ceil(count / design.group) - 1) * design.leaf + min(design.leaf, last)
        launched += 1
    return launched


def tournament_leaf(m: int, device: Device = H200, design: Design = DESIGN) -> float:
    """Seconds of a leaf (m, w) by tournament: the rounds, then the rows of L.

    Each launch works off w columns within thread blocks.
    """
    w, steps = design.leaf, rounds(m, design) + 1
    return steps * (device.launch + w * device.column) + BYTES["tournament"] * m * w / device.copy


def persistent_leaf(m: int, device: Device = H200, design: Design = DESIGN) -> float:
    """Seconds of a leaf (m, w) by one cooperative launch, with a barrier of the grid a column."""
    w = design.leaf
    return device.launch + w * device.grid_column + BYTES["persistent"] * m * w / device.copy


_PANEL_LAUNCHES = 4
"""Of a panel besides leaves and nodes: what keeps its pivots and its info."""
_SWAP_LAUNCHES = 3
_OPERANDS_LAUNCHES = 7
"""Two operands, 3 each (a zero, the largest magnitude, the conversion), and one for scales."""


def panel_launches(leaves: int, of_leaf: int = 1, design: Design = DESIGN) -> int:
    """Launches of a panel of so many leaves."""
    return leaves * of_leaf + (leaves - 1) * design.node_launches + _PANEL_LAUNCHES


def solve_launches(columns: int, nb: int, design: Design = DESIGN) -> int:
    """Launches of a triangular solve of order nb.

    By inverted blocks: the inverses and a zero; of each block but the first the product with what
    is known, and of each a copy and the product with its inverse.
    """
    if columns < design.inverts_from:
        return 1
    return 1 + 3 * math.ceil(nb / design.inverted)


def launches(n: int, nb: int, of_leaf: int = 1, design: Design = DESIGN) -> int:
    """Launches of an LU of order n, a multiple of nb, and calls of cuBLAS, of one launch each.

    `of_leaf`: 1 by the persistent kernel. A step updates the next panel's columns, and then those
    that are left, and swaps rows of what is finished.
    """
    total = 2  # the pivots, and info, at the end
    for begin in range(0, n, nb):
        total += panel_launches(nb // design.leaf, of_leaf, design)
        total += _SWAP_LAUNCHES * (begin > 0)
        left = n - begin - nb
        for columns in (min(nb, left), left - nb):
            if columns > 0:
                total += _SWAP_LAUNCHES + solve_launches(columns, nb, design)
                total += _OPERANDS_LAUNCHES + 1
    return total


def panel(m: int, nb: int, device: Device = H200, design: Design = DESIGN) -> float:
    """Seconds of a panel (m, nb): leaves by the faster kernel, and products between them.

    With q = nb / w leaves there are q - 1 nodes, on log2(q) levels; on each level half of the
    columns are read and written: 4 m nb bytes. The flops, m nb^2 - nb^3 / 3, are fp32's.
    """
    leaves = max(nb // design.leaf, 1)
    leaf = min(tournament_leaf(m, device, design), persistent_leaf(m, device, design))
    products = (m * nb**2 - nb**3 / 3) / device.single
    traffic = 4.0 * m * nb * math.log2(leaves) / device.copy
    between = panel_launches(leaves, 0, design) * device.launch
    return leaves * leaf + between + max(products, traffic)


def predict(
    n: int, device: Device = H200, design: Design = DESIGN, block: int | None = None
) -> Prediction:
    """The phases of a solve of order n with one right-hand side, by fp16 LU and refinement.

    Parameters
    ----------
    n : int
    device : Device
    design : Design
    block : int, optional
        Outer block; by default the best of `BLOCKS`.

    Notes
    -----
    With t = n - (k + 1) nb rows and columns left after step k, and the launches of each:

    - swaps: at most 2 nb rows of n - nb numbers, gathered to a buffer and scattered, 16 bytes each
    - triangles: nb (nb + s) t flops, as products with inverted blocks
    - operands: the L of the step twice, as the columns of the next panel are updated first, and
      its U: 3 nb t numbers, each read twice and written once, 10 bytes
    - updates: 2 nb t^2 flops in fp16, or 8 t^2 bytes, whichever takes longer
    - the next panel runs beside the update; what it takes longer is `exposed`

    A refinement applies the factors `applications` times: their n^2 numbers are read, in 2 n / s
    steps of 3 launches; and each time a residual reads 8 n^2 bytes.
    """
    if block is None:
        block = best_block(n, device, design)
    nb = min(block, n)
    fast = device.low if design.triangles_in_low else device.single
    swaps = triangles = operands = updates = 0.0
    panels = exposed = panel(n, nb, device, design)
    for begin in range(0, n, nb):
        t = max(n - begin - nb, 0)
        swaps += 32.0 * nb * (n - nb) / device.copy + 3 * _SWAP_LAUNCHES * device.launch
        if not t:
            continue
        triangles += float(nb) * (nb + design.inverted) * t / fast + 2 * device.inverse
        triangles += 2 * solve_launches(t, nb, design) * device.launch
        operands += 30.0 * nb * t / device.copy + 2 * _OPERANDS_LAUNCHES * device.launch
        update = 2.0 * nb * float(t) ** 2 / product_cap(nb, device) + 2 * device.launch
        updates += update
        following = panel(t, min(nb, t), device, design)
        panels += following
        exposed += max(0.0, following - update)
    application = (BYTES["residual"] + design.factor_bytes) * n**2 / device.copy
    application += 2 * math.ceil(n / design.inverted) * 3 * device.launch
    return Prediction(
        n, block, convert=BYTES["convert"] * n**2 / device.copy, panels=panels, exposed=exposed,
        swaps=swaps, triangles=triangles, operands=operands, updates=updates,
        refinement=design.applications * application,
    )  # fmt: skip


def best_block(n: int, device: Device = H200, design: Design = DESIGN) -> int:
    """The outer block of `BLOCKS` with which a solve of order n is predicted to be fastest."""
    return min(BLOCKS, key=lambda block: predict(n, device, design, block).seconds)


LEVERS: dict[str, tuple[Device, Design]] = {
    "as designed, 2.5 µs a launch": (H200, DESIGN),
    "10 µs a launch": (dataclasses.replace(H200, launch=10e-6), DESIGN),
    "1 µs a launch": (dataclasses.replace(H200, launch=1e-6), DESIGN),
    "half of the launches in panels": (H200, dataclasses.replace(DESIGN, node_launches=4)),
    "leaves of 64 columns": (H200, dataclasses.replace(DESIGN, leaf=64)),
    "inverted blocks of 512": (H200, dataclasses.replace(DESIGN, inverted=512)),
    "triangular solves by fp16 products": (
        H200, dataclasses.replace(DESIGN, triangles_in_low=True),
    ),
    "factors kept in fp16": (H200, dataclasses.replace(DESIGN, factor_bytes=2)),
    "half of the refinement": (H200, dataclasses.replace(DESIGN, applications=4)),
    "all but the 10 µs": (
        dataclasses.replace(H200, launch=1e-6),
        dataclasses.replace(
            DESIGN, leaf=64, node_launches=4, inverted=512, triangles_in_low=True, factor_bytes=2,
            applications=4,
        ),
    ),
}  # fmt: skip
"""What could be changed, one thing at a time and all together."""


def page_tables() -> dict[str, str]:
    """The tables of the page, by name, in Markdown, all of an H200."""
    return {
        "caps": _caps(), "panels": _panels(), "solves": _solves(), "launches": _launches(),
        "levers": _levers(),
    }  # fmt: skip


def _caps() -> str:
    ks = (64, 128, 256, 512, 735, 1024, 2048)
    rows = [[str(k), f"{2 * k / 8:.0f}", f"{product_cap(k) / 1e12:.0f}"] for k in ks]
    return markdown(["k", "flops a byte", "at most, TFLOP/s"], rows)


def _panels() -> str:
    heads = [
        "rows", "rounds", "tournament leaf, µs a column", "persistent leaf, µs a column",
        "panel of 256, µs a column", "panel of 1024, µs a column",
    ]  # fmt: skip
    rows = []
    for m in (2048, *ORDERS):
        leaves = tournament_leaf(m) / DESIGN.leaf, persistent_leaf(m) / DESIGN.leaf
        panels = (panel(m, nb) / nb for nb in (256, 1024))
        rows.append([str(m), str(rounds(m)), *(f"{1e6 * t:.2f}" for t in (*leaves, *panels))])
    return markdown(heads, rows)


def _solves() -> str:
    found = [predict(n) for n in ORDERS]
    heads = ["n", "block", *(f"{name}, ms" for name in found[0].phases), "total, ms", "TFLOP/s"]
    rows = [
        [
            str(p.n), str(p.block), *(f"{1e3 * t:.2f}" for t in p.phases.values()),
            f"{1e3 * p.seconds:.1f}", f"{p.rate / 1e12:.0f}", p.bound,
        ]
        for p in found
    ]  # fmt: skip
    return markdown([*heads, "longest phase"], rows)


def _launches() -> str:
    rows = []
    for n in ORDERS:
        nb = best_block(n)
        counts = [launches(n, nb, of_leaf) for of_leaf in (1, rounds(n) + 1)]
        rows.append([
            str(n), str(nb), *map(str, counts), *(f"{counts[1] * t / n:.1f}" for t in (2.5, 10)),
        ])  # fmt: skip
    heads = [
        "n", "block", "launches, persistent leaves", "launches, tournaments",
        "µs a column at 2.5 µs each", "at 10 µs each",
    ]  # fmt: skip
    return markdown(heads, rows)


def _levers() -> str:
    rows = [
        [name, *(f"{predict(n, device, design).rate / 1e12:.0f}" for n in ORDERS)]
        for name, (device, design) in LEVERS.items()
    ]
    return markdown(["", *(f"n = {n}" for n in ORDERS)], rows)


if __name__ == "__main__":
    for name, text in page_tables().items():
        print(f"{name}\n\n{text}\n")
