"""What many small problems cost on a GPU at least, predicted: what a measurement is held to.

Bytes are those that a kernel has to move, every number once, flops the classical count; both over a
rate of the device. Blocks that a multiprocessor holds follow from what the catalogue of kernels
says of registers and shared memory. n is the order of a member, s the bytes of a number.

``python -m mplinalg.bench.gpu_batched_model`` prints the tables of
`docs/algorithms/gpu-batched.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mplinalg.bench.gpu_model import H200
from mplinalg.bench.table import markdown
from mplinalg.kernels.cuda.catalogue import BY_NAME, Kernel

__all__ = ["FAMILIES", "Family", "Resident", "members_per_second", "page_tables", "resident"]

ORDERS = (2, 4, 8, 16, 32, 64, 128)
"""Of the tables of bandwidth."""
RATES = {8: 34e12, 4: 67e12}
"""Flops per second of an H200 without tensor cores, by bytes of a number: its data sheet."""
MULTIPROCESSORS = 132
REGISTERS, WARPS, BLOCKS, SHARED, RESERVED = 65536, 64, 32, 228 * 1024, 1024
"""Of a multiprocessor of compute capability 9.0: 32-bit registers, warps and blocks that it holds,
bytes of shared memory, and how many of these each block takes besides its own (CUDA C++ Programming
Guide, compute capabilities)."""


@dataclass(frozen=True)
class Family:
    """What a kernel does for a member of order n, of numbers of s bytes.

    Attributes
    ----------
    name : str
    numbers : callable
        Numbers that are moved, those read and those written together, as a function of n.
    flops : callable
        As a function of n.
    """

    name: str
    numbers: Callable[[int], float]
    flops: Callable[[int], float]


FAMILIES = {
    family.name: family
    for family in (
        Family("product", lambda n: 3 * n**2, lambda n: 2 * n**3),
        Family("LU solve", lambda n: n**2 + 2 * n, lambda n: 2 / 3 * n**3 + 2 * n**2),
        Family("LU factors", lambda n: 2 * n**2, lambda n: 2 / 3 * n**3),
        Family("Cholesky solve", lambda n: n * (n + 1) / 2 + 2 * n, lambda n: n**3 / 3 + 2 * n**2),
        Family("Cholesky factors", lambda n: n * (n + 1) / 2 + n**2, lambda n: n**3 / 3),
        Family("triangle", lambda n: n**2 + 2 * n, lambda n: n**2),
        Family("QR", lambda n: 3 * n**2, lambda n: 8 / 3 * n**3),
        Family("inverse", lambda n: 2 * n**2, lambda n: 8 / 3 * n**3),
    )
}
"""With one right-hand side, and Q and R of square matrices. Pivots, `info` and the estimate of the
condition are left out: some 4 n + 12 bytes."""


def members_per_second(family: Family, n: int, size: int) -> tuple[float, float]:
    """At most, by bytes and by flops."""
    return H200.copy / (size * family.numbers(n)), RATES[size] / family.flops(n)


@dataclass(frozen=True)
class Resident:
    """What a multiprocessor holds of a kernel at once."""

    blocks: int
    warps: int
    bound: str
    """What allows no more: registers, shared memory, or the number of warps or blocks."""


def resident(kernel: Kernel) -> Resident:
    """Registers are given to warps 256 at a time, so to threads 8 at a time."""
    warps = kernel.threads // 32
    limits = {
        "registers": REGISTERS // (-(-kernel.registers // 8) * 8 * kernel.threads),
        "shared memory": SHARED // (kernel.shared + kernel.dynamic + RESERVED),
        "warps": WARPS // warps,
        "blocks": BLOCKS,
    }
    bound = min(limits, key=lambda name: limits[name])
    return Resident(limits[bound], limits[bound] * warps, bound)


# -- tables ---------------------------------------------------------------------------------------


def page_tables() -> dict[str, str]:
    """The tables of the page, by name, in Markdown, all of an H200."""
    return {
        "products": _products(), "systems": _systems(), "families": _families(),
        "occupancy": _occupancy(),
    }  # fmt: skip


def _products() -> str:
    product = FAMILIES["product"]
    rows = []
    for n in ORDERS:
        members = [H200.copy / (size * product.numbers(n)) for size in (8, 4, 2)]
        rates = [f"{count * product.flops(n) / 1e12:.1f}" for count in members]
        rows.append([str(n), *rates, f"{members[0] / 1e6:.0f}"])
    heads = [
        "n", "fp64, TFLOP/s at most", "fp32", "16 bits", "fp64, million members a second",
    ]  # fmt: skip
    return markdown(heads, rows)


def _systems() -> str:
    shown = [("LU solve", 8), ("LU solve", 4), ("LU factors", 8), ("Cholesky solve", 8)]
    rows = [
        [
            str(n),
            *(f"{members_per_second(FAMILIES[name], n, s)[0] / 1e6:.0f}" for name, s in shown),
        ]
        for n in ORDERS
    ]
    heads = [
        "n", "LU solve, fp64, million members a second at most", "LU solve, fp32",
        "LU factors, fp64", "Cholesky solve, fp64",
    ]  # fmt: skip
    return markdown(heads, rows)


def _families() -> str:
    rows = []
    for family in FAMILIES.values():
        for n in (8, 32):
            by_bytes, by_flops = members_per_second(family, n, 8)
            rows.append([
                family.name, str(n), f"{8 * family.numbers(n):.0f}", f"{family.flops(n):.0f}",
                f"{by_bytes / 1e6:.0f}", f"{by_flops / 1e6:.0f}",
                f"{min(by_bytes, by_flops) * family.flops(n) / 1e12:.1f}",
            ])  # fmt: skip
    heads = [
        "", "n", "bytes a member", "flops a member", "million members a second by bytes",
        "by flops", "TFLOP/s at most",
    ]  # fmt: skip
    return markdown(heads, rows)


KERNELS = (
    ("batched_gemm<double, 1, 8>", 16), ("batched_gemm<double, 1, 16>", 8),
    ("batched_gemm<double, 1, 32>", 2), ("batched_gemm<double, 1, 64>", 1),
    ("batched_gemm<float, 1, 32>", 2), ("batched_gemm<float, 1, 64>", 1),
    ("batched_gemm_low<half, half, 16>", 4), ("batched_gemm_low<half, half, 32>", 4),
    ("batched_gemm_low<half, half, 64>", 1), ("batched_gemm_low<float, fp16x2, 32>", 4),
    *((f"batched_lu<double, 1, {n}>", 128 // n) for n in (4, 8, 16, 32)),
    ("batched_lu<float, 1, 32>", 4), ("batched_lu<double, 2, 16>", 8),
    ("batched_lu_block<double, 1, 64>", 1), ("batched_lu_block<double, 1, 128>", 1),
    ("batched_cholesky<double, 1, 16>", 8), ("batched_cholesky<double, 1, 32>", 4),
    ("batched_cholesky_block<double, 1, 64>", 1), ("batched_triangles<double, 1, 32>", 4),
    ("batched_triangles_block<double, 1, 64>", 1), ("batched_qr<double, 1, 16>", 8),
    ("batched_qr<double, 1, 32>", 4), ("batched_qr<float, 1, 32>", 4),
)  # fmt: skip
"""Of the table of occupancy, and the members that a block has."""


def _occupancy() -> str:
    rows = []
    for name, members in KERNELS:
        kernel, found = BY_NAME[name], resident(BY_NAME[name])
        kilobytes = (kernel.shared + kernel.dynamic) / 1024
        rows.append([
            f"`{name}`", str(kernel.registers), f"{kilobytes:.1f}", str(found.blocks),
            f"{100 * found.warps / WARPS:.0f}", found.bound,
            str(found.blocks * members * MULTIPROCESSORS),
        ])  # fmt: skip
    heads = [
        "kernel", "registers", "shared memory of a block, KiB", "blocks of a multiprocessor",
        "of its warps, %", "bound by", "members at once on the device",
    ]  # fmt: skip
    return markdown(heads, rows)


if __name__ == "__main__":
    for name, text in page_tables().items():
        print(f"{name}\n\n{text}\n")
