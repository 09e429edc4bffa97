"""The CUDA kernels: where each stands, how it is launched, and what it may take of the device.

One table, read by whatever launches a kernel and by the tests, which hold the sources to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import catalogue_batched, catalogue_fem, catalogue_nn

__all__ = ["BY_NAME", "FOLDER", "KERNELS", "Kernel"]

FOLDER = Path(__file__).parent
"""Of the sources."""


@dataclass(frozen=True)
class Kernel:
    """One kernel, or one instance of a template.

    Attributes
    ----------
    file : str
    name : str
        As in the source: of an `extern "C"` function, or an instance, ``convert<float, half>``.
    arguments : str
        Types in order: ``in:f8`` and ``out:f8`` are arrays that are read, and that are written or
        both; ``by:i4`` is a number. The letters are NumPy's; bfloat16 is passed as u2.
    threads : int
        Of a block.
    registers : int
        The most that a thread takes on any architecture, without spilling.
    shared : int
        Bytes of static shared memory.
    dynamic : int
        Bytes of dynamic shared memory, given at the launch.
    tensor_cores : bool
        It multiplies by mma instructions.
    cooperative : bool
        Its blocks meet in a barrier of the grid, and have to be resident together.
    """

    file: str
    name: str
    arguments: str
    threads: int
    registers: int
    shared: int = 0
    dynamic: int = 0
    tensor_cores: bool = False
    cooperative: bool = False

    @property
    def is_template(self) -> bool:
        """Whether `name` has to be instantiated."""
        return "<" in self.name


def _residuals() -> list[Kernel]:
    types = {"double": "f8", "float": "f4"}
    matrix = "by:i4 by:i4 in:{0} by:i8 by:i4 by:i4 in:{0} by:i8 "
    answers = "in:{0} by:i8 out:{0} by:i8 out:f8 by:i8"
    limits = {
        (1, 1, "false"): 48, (1, 1, "true"): 48, (2, 1, "false"): 48, (2, 1, "true"): 64,
        (1, 4, "false"): 66, (1, 4, "true"): 78, (2, 4, "false"): 90, (2, 4, "true"): 112,
    }  # fmt: skip
    found = []
    for kind, letters in types.items():
        for parts in (1, 2):
            # a sum of single-precision products in double is one in twice their precision
            for extended in ("false", "true") if kind == "double" else ("false",):
                ending = f"<{kind}, {parts}, {extended}>"
                found.append(
                    Kernel(
                        "residual.cu", "residual_of_shares" + ending,
                        ("by:i4 by:i4 by:i4 in:f8 in:f8 " + answers).format(letters),
                        threads=256, registers=56,
                    )
                )  # fmt: skip
                for columns in (1, 4):
                    ending = f"<{kind}, {parts}, {columns}, {extended}>"
                    registers = limits[parts, columns, extended]
                    found.append(
                        Kernel(
                            "residual.cu", "residual_along" + ending,
                            (matrix + answers).format(letters), threads=256,
                            registers=registers,
                        )
                    )  # fmt: skip
                    found.append(
                        Kernel(
                            "residual.cu", "residual_across" + ending,
                            (matrix + "out:f8 out:f8").format(letters), threads=256,
                            registers=registers, shared=4096,
                        )
                    )  # fmt: skip
    return found


def _conversions() -> list[Kernel]:
    types = {"double": "f8", "float": "f4", "half": "f2", "__nv_bfloat16": "u2"}
    pairs = [
        ("double", "double"), ("double", "float"), ("double", "half"), ("double", "__nv_bfloat16"),
        ("float", "float"), ("float", "half"), ("float", "__nv_bfloat16"), ("float", "double"),
    ]  # fmt: skip
    return [
        Kernel(
            "convert.cu", f"convert<{source}, {target}>",
            "by:i4 by:i4 in:{0} by:i8 out:{1} by:i8 in:{0} in:{0} by:i4 by:f8 by:f8 out:f8 out:u8"
            .format(types[source], types[target]),
            threads=256, registers=48, shared=64,
        )
        for source, target in pairs
    ]  # fmt: skip


def _products() -> list[Kernel]:
    real = "by:i4 by:i4 by:i4 in:f4 in:{0} by:i8 in:{0} by:i8 by:f4 out:f4 by:i8"
    planes = "by:i4 by:i4 by:i4 in:f4 in:{0} in:{0} by:i8 in:{0} in:{0} by:i8 out:f4 by:i8"
    types = {"half": "f2", "__nv_bfloat16": "u2", "float": "f4"}
    small = {"half": 104, "__nv_bfloat16": 104, "float": 112}
    # kind, type, tile, threads, registers
    rows = [
        *(("", name, (tile, tile, 16 if name == "float" else 32), 2 * tile,
           128 if tile == 128 else small[name]) for name in types for tile in (128, 64)),
        *(("_complex", name, (height, 64, 32), 2 * height, 128 if height == 128 else 152)
          for name in ("half", "__nv_bfloat16") for height in (128, 64)),
        ("_split", "half", (128, 128, 32), 256, 128),
        ("_split", "half", (64, 64, 32), 128, 168),
    ]  # fmt: skip
    found = []
    for kind, name, (height, width, depth), threads, registers in rows:
        parameters = f"{height}, {width}, {depth}"
        if kind != "_split":
            parameters = f"{name}, {parameters}"
        # three stages of a tile of A and one of B, in two planes but for plain products
        entries = 3 * (height + width) * depth * (2 if kind else 1)
        found.append(
            Kernel(
                f"gemm{kind}.cu", f"gemm{kind}<{parameters}>",
                (planes if kind else real).format(types[name]), threads=threads,
                registers=registers, dynamic=entries * (4 if name == "float" else 2),
                tensor_cores=True,
            )
        )  # fmt: skip
    return found


def _operands() -> list[Kernel]:
    copying = "by:i4 by:i4 in:f4 by:i8 by:i4 in:u4 by:f4 out:{0} by:i8 by:i8 out:f4 out:u8"
    rounding = "by:i4 by:i4 out:f4 by:i8 out:u8"
    types = {"half": "f2", "__nv_bfloat16": "u2", "float": "f4", "fp16x2": "f2"}
    planes = [(name, 2) for name in ("half", "__nv_bfloat16")]
    instances = [
        *((name, 1, "false") for name in types),
        *((name, 2, "false") for name in ("half", "__nv_bfloat16", "fp16x2")),
        *((*pair, "true") for pair in [*planes, ("fp16x2", 1), ("fp16x2", 2)]),
    ]
    return [
        Kernel("narrow.cu", "quotient", "by:f4 in:f4 in:f4 out:f4", threads=256, registers=32),
        *(
            Kernel(
                "narrow.cu", f"narrow<{name}, {parts}, {turned}>", copying.format(types[name]),
                threads=256,
                registers=56 if turned == "true" else 48,
                shared=32 * 65 * 4 * parts if turned == "true" else 0,
            )
            for name, parts, turned in instances
        ),
        *(
            Kernel("narrow.cu", f"round_format<{name}>", rounding, threads=256, registers=40)
            for name in types
        ),
    ]  # fmt: skip


def _magnitudes() -> list[Kernel]:
    found = []
    for kind, letters, bits in (("float", "f4", "u4"), ("double", "f8", "u8")):
        matrix = f"by:i4 by:i4 in:{letters} by:i8 "
        vector = f"in:{letters} by:i8 "
        for parts in (1, 2):
            ending = f"<{kind}, {parts}>"
            found += [
                Kernel(
                    "magnitudes.cu", "amax" + ending, f"{matrix}out:{bits}", threads=256,
                    registers=40, shared=8 * int(letters[1]),
                ),
                Kernel(
                    "magnitudes.cu", "extents" + ending,
                    f"{matrix}in:{letters} in:{letters} out:{bits} out:{bits}", threads=256,
                    registers=64,
                ),
                Kernel(
                    "magnitudes.cu", "column_errors" + ending,
                    "by:i4 by:i4 " + 3 * vector + "out:u8", threads=256, registers=48,
                ),
            ]  # fmt: skip
    return found


def _permutations() -> list[Kernel]:
    types = {"float": "f4", "double": "f8", "half": "f2", "__nv_bfloat16": "u2"}
    pairs = [
        ("float", "float"), ("double", "double"), ("float", "half"), ("float", "__nv_bfloat16"),
    ]  # fmt: skip
    numbers = "by:i4 by:i4 by:i4 "
    return [
        Kernel(
            "permute.cu", "permutation",
            "by:i4 by:i4 in:i4 by:i4 by:i4 out:i4 out:i4 out:i4 out:i4", threads=1024,
            registers=48, shared=4 * (10240 + 32 + 1),
        ),
        *(
            Kernel(
                "permute.cu", f"gather_rows<{source}, {target}>",
                f"{numbers}in:{types[source]} by:i8 by:i8 in:i4 in:i4 out:{types[target]} by:i8 "
                "by:i8 in:f4 out:u8",
                threads=256, registers=48,
            )
            for source, target in pairs
        ),
        *(
            Kernel(
                "permute.cu", f"scatter_rows<{kind}>",
                f"{numbers}in:{types[kind]} by:i8 by:i8 in:i4 in:i4 out:{types[kind]} by:i8 by:i8",
                threads=256, registers=48,
            )
            for kind in ("float", "double")
        ),
    ]  # fmt: skip


def _qr_panels() -> list[Kernel]:
    # arguments, registers, and shared memory in numbers, the two for float and double by NB
    steps = {
        "tsqr_leaf": (
            "by:i4 by:i4 out:{0} by:i8 out:{0} out:{0}",
            {"f4": {16: 72, 32: 88}, "f8": {16: 104, 32: 152}},
            {16: 784, 32: 1568},
        ),
        "tsqr_merge": (
            "by:i4 by:i4 out:{0} out:{0}",
            {"f4": {16: 72, 32: 120}, "f8": {16: 112, 32: 168}},
            {16: 784, 32: 1568},
        ),
        "reconstruct": (
            "by:i4 by:i4 in:{0} by:i8 in:{0} in:{0} out:{0} by:i8 out:{0}",
            {"f4": {16: 80, 32: 88}, "f8": {16: 96, 32: 176}},
            {16: 1040, 32: 4128},
        ),
        "tsqr_form": (
            "by:i4 by:i4 out:{0} by:i8 in:{0} in:{0} in:{0}",
            {"f4": {16: 80, 32: 96}, "f8": {16: 88, 32: 160}},
            {16: 1296, 32: 5152},
        ),
    }
    return [
        Kernel(
            "panel_qr.cu", f"{name}<{kind}, {width}>", arguments.format(letters), threads=256,
            registers=registers[letters][width], shared=shared[width] * int(letters[1]),
        )
        for name, (arguments, registers, shared) in steps.items()
        for kind, letters in (("float", "f4"), ("double", "f8"))
        for width in (16, 32)
    ]  # fmt: skip


def _diagonal_blocks() -> list[Kernel]:
    lu = "by:i4 {}:f4 by:i8 out:f4 out:f4 out:f4 by:i4 out:i4"
    cholesky = "by:i4 out:{0} by:i8 out:{0} by:i4 out:i4"
    limits = {
        ("block_lu", 64): (80, 9216), ("block_lu", 128): (176, 18432),
        ("triangle_inverse", 64): (80, 1600), ("triangle_inverse", 128): (176, 3200),
        ("float", 64): (72, 5408), ("float", 128): (136, 10816),
        ("double", 64): (88, 10816), ("double", 128): (192, 21632),
    }  # fmt: skip
    pivoted = {64: (72, 1856), 128: (136, 3696)}
    found = [
        Kernel(
            "block_lu_pivoted.cu", f"block_lu_pivoted<{order}>",
            "by:i4 out:f4 by:i8 out:f4 out:f4 by:i4 out:i4", threads=256, registers=registers,
            shared=shared,
        )
        for order, (registers, shared) in pivoted.items()
    ]  # fmt: skip
    for (name, order), (registers, shared) in limits.items():
        if name in ("float", "double"):
            file, instance = "block_cholesky.cu", f"block_cholesky<{name}, {order}>"
            arguments = cholesky.format("f4" if name == "float" else "f8")
        else:
            file, instance = "block_lu.cu", f"{name}<{order}>"
            arguments = lu.format("out" if name == "block_lu" else "in")
        found.append(
            Kernel(file, instance, arguments, threads=256, registers=registers, shared=shared)
        )
    return found


def _triangles() -> list[Kernel]:
    arguments = (
        "by:i4 in:f4 by:i8 in:f4 by:i4 by:i4 in:f4 by:i8 in:i4 out:f4 by:i8 in:i4 out:f4 by:i8 "
        "out:u4"
    )
    limits = {(1, "false"): 128, (1, "true"): 128, (4, "false"): 176, (4, "true"): 160}
    return [
        Kernel(
            "triangle_solve.cu", f"triangle_solve<{columns}, {transposed}>", arguments,
            threads=256, registers=registers,
            # two vectors and, transposed, a share in the sums for each of eight warps; a number
            shared=4 * 128 * columns * (10 if transposed == "true" else 2) + 4,
        )
        for (columns, transposed), registers in limits.items()
    ]  # fmt: skip


def _butterflies() -> list[Kernel]:
    types = {"double": "f8", "float": "f4"}
    matrix = "by:i4 by:i4 in:{0} by:i8 out:{1} by:i8 in:f4 in:f4 by:f8"
    vectors = "by:i4 by:i4 by:i4 in:{0} by:i8 by:i8 out:{1} by:i8 by:i8 in:f4"
    both = [("double", "double"), ("float", "float")]
    instances = [
        *(("butterfly", matrix, *pair) for pair in [*both, ("double", "float")]),
        *(("butterfly_transposed", vectors, *pair) for pair in [*both, ("double", "float")]),
        *(("butterfly_forward", vectors, *pair) for pair in [*both, ("float", "double")]),
    ]
    limits = {"butterfly": {"float, float": 96, "double, float": 136, "double, double": 120}}
    return [
        Kernel(
            "butterfly.cu", f"{name}<{source}, {target}>",
            arguments.format(types[source], types[target]), threads=256,
            registers=limits.get(name, {}).get(f"{source}, {target}", 48),
        )
        for name, arguments, source, target in instances
    ]  # fmt: skip


def _lu_panels() -> list[Kernel]:
    play = "by:i4 by:i4 out:f4 by:i8 in:i4 out:i4 out:i4 out:i4 by:i4"
    rows = "by:i4 by:i4 out:f4 by:i8 out:u2 by:i8 by:f4 by:i4"
    whole = "by:i4 by:i4 out:{0} by:i8 out:{0} out:u4 out:i4 out:i4 by:i4 out:u2 by:i8 by:f4 by:i4"
    # NB: registers and shared memory
    tournaments = {16: (88, 8832), 32: (152, 9408), 64: (224, 10560)}
    triangles = {16: (88, 9408), 32: (136, 12672), 64: (224, 25344)}
    # NB, threads, type: registers
    persistent = {
        (16, 128, "float"): 112, (32, 128, "float"): 144, (64, 128, "float"): 216,
        (32, 384, "float"): 144, (64, 256, "float"): 216,
        (32, 128, "double"): 248,
    }  # fmt: skip
    return [
        *(
            Kernel(
                "panel_lu.cu", f"{name}<{width}>", arguments, threads=128, registers=registers,
                shared=shared,
            )
            for name, arguments, limits in (
                ("tournament", play, tournaments), ("panel_rows", rows, triangles)
            )
            for width, (registers, shared) in limits.items()
        ),
        *(
            Kernel(
                "panel_lu_persistent.cu", f"panel_lu<{width}, {threads}, {kind}>",
                whole.format("f4" if kind == "float" else "f8"), threads=threads,
                registers=registers, shared=threads // 32 * (2056 if kind == "float" else 4112),
                cooperative=True,
            )
            for (width, threads, kind), registers in persistent.items()
        ),
    ]  # fmt: skip


KERNELS: tuple[Kernel, ...] = (
    *_lu_panels(),
    *_diagonal_blocks(),
    *_triangles(),
    *_butterflies(),
    *_qr_panels(),
    *_conversions(),
    *_magnitudes(),
    *_operands(),
    *_permutations(),
    *_residuals(),
    *_products(),
    *(Kernel(**entry) for entry in catalogue_batched.entries()),
    *(Kernel(**entry) for entry in catalogue_fem.entries()),
    *(Kernel(**entry) for entry in catalogue_nn.entries()),
)

BY_NAME: dict[str, Kernel] = {kernel.name: kernel for kernel in KERNELS}
"""Names are unique."""
