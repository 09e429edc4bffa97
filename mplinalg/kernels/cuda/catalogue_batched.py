"""The catalogue's entries of the kernels for batches of small matrices."""

from __future__ import annotations

from typing import Any

__all__ = [
    "BLOCK_ORDERS", "LOW_TILES", "QR_ORDERS", "ROW_ORDERS", "TILES", "entries", "products_at_once",
]  # fmt: skip

_TYPES = {"f": ("float", 1, "f4", 4), "d": ("double", 1, "f8", 8),
          "F": ("float", 2, "f4", 8), "D": ("double", 2, "f8", 16)}  # fmt: skip
"""Of a dtype: the type, its parts, the letters of the type, and bytes of an entry."""

ROW_ORDERS = {"f": (4, 8, 16, 32), "d": (4, 8, 16, 32), "F": (4, 8, 16, 32), "D": (4, 8, 16)}
"""The largest orders of the instances whose members have a lane for a row, by dtype."""
BLOCK_ORDERS = {"f": (64, 128), "d": (64, 128), "F": (64, 128), "D": (32, 64)}
"""Of those whose members have a block of threads."""
QR_ORDERS = {"f": (8, 16, 32), "d": (8, 16, 32), "F": (8, 16, 32), "D": (8, 16)}
"""Most rows, and most columns, of a member of `batched_qr`."""
TILES = {"f": (4, 8, 16, 32, 64), "d": (4, 8, 16, 32, 64), "F": (8, 32), "D": (8, 32)}
"""Of products: orders of the part that its threads compute, by dtype."""
LOW_TILES = {
    **{("float", name): (16, 32, 64) for name in ("half", "__nv_bfloat16", "fp16x2")},
    **{("double", name): (32,) for name in ("half", "__nv_bfloat16", "fp16x2")},
    **{(name, name): (16, 32, 64) for name in ("half", "__nv_bfloat16")},
}  # fmt: skip
"""The same on tensor cores, by the type that numbers are held in, and the format."""

_STRIDES = "by:i8 by:i8 by:i8 "
_RIGHT = "by:i4 in:{0} " + _STRIDES + "out:{0}"
_ARGUMENTS = {
    "lu": "in:{0} " + _STRIDES + "out:{0} out:i4 out:i4 out:{0} " + _RIGHT,
    "cholesky": "in:{0} " + _STRIDES + "by:i4 out:{0} out:i4 out:{0} " + _RIGHT,
    "triangles": "in:{0} " + _STRIDES + "by:i4 by:i4 by:i4 by:i4 in:i4 by:i4 out:i4 " + _RIGHT,
}
_REGISTERS: dict[str, dict[str, tuple[int, ...]]] = {
    "lu": {
        "f": (56, 72, 72, 128), "d": (64, 72, 96, 168), "F": (56, 72, 96, 168), "D": (88, 104, 160),
    },
    "cholesky": {
        "f": (56, 64, 72, 128), "d": (56, 72, 112, 176), "F": (64, 96, 96, 160),
        "D": (80, 120, 168),
    },
    "triangles": {
        "f": (64, 72, 80, 88), "d": (72, 80, 96, 144), "F": (72, 80, 96, 144), "D": (88, 104, 136),
    },
    "lu_block": {"f": (80, 240), "d": (120, 255), "F": (128, 255), "D": (80, 176)},
    "cholesky_block": {"f": (80, 255), "d": (120, 255), "F": (128, 255), "D": (80, 192)},
    "triangles_block": {"f": (80, 208), "d": (112, 248), "F": (112, 248), "D": (72, 160)},
    "qr": {"f": (48, 64, 96), "d": (72, 96, 168), "F": (56, 80, 144), "D": (96, 152)},
    "gemm": {
        "f": (96, 96, 96, 96, 168), "d": (96, 96, 120, 128, 255), "F": (96, 120), "D": (168, 248),
    },
    "gemm_low": {
        "float half": (80, 104, 96), "float __nv_bfloat16": (80, 104, 96),
        "float fp16x2": (72, 144, 144), "double half": (112,), "double __nv_bfloat16": (112,),
        "double fp16x2": (152,), "half half": (72, 96, 96),
        "__nv_bfloat16 __nv_bfloat16": (72, 96, 96),
    },
}  # fmt: skip
"""The most that an instance takes on any architecture, by routine, dtype and order, rounded up."""


def entries() -> list[dict[str, Any]]:
    """Arguments of `catalogue.Kernel`."""
    return [*_rows(), *_blocks(), *_orthogonal(), *_products(), *_low_products()]


def products_at_once(tile: int) -> int:
    """Parts of products that a block of `batched_gemm` computes."""
    across = {4: 1, 8: 2, 16: 4, 32: 8, 64: 16}[tile]
    return 128 // ((4 if tile < 32 else 8) * across)


def _rows() -> list[dict[str, Any]]:
    return [
        {
            "file": f"batched_{name}.cu",
            "name": f"batched_{name}<{kind}, {parts}, {order}>",
            "arguments": "by:i4 by:i4 " + arguments.format(letters),
            "threads": 128,
            "registers": _limit(name, dtype, place),
            "dynamic": _space_of_rows(size, order),
        }
        for name, arguments in _ARGUMENTS.items()
        for dtype, (kind, parts, letters, size) in _TYPES.items()
        for place, order in enumerate(ROW_ORDERS[dtype])
    ]


def _blocks() -> list[dict[str, Any]]:
    return [
        {
            "file": f"batched_{name}_block.cu",
            "name": f"batched_{name}_block<{kind}, {parts}, {order}>",
            "arguments": "by:i4 " + arguments.format(letters),
            "threads": 256,
            "registers": _limit(f"{name}_block", dtype, place),
            "shared": _block_space(dtype, order) + (4 if name == "triangles" else 0),
        }
        for name, arguments in _ARGUMENTS.items()
        for dtype, (kind, parts, letters, _) in _TYPES.items()
        for place, order in enumerate(BLOCK_ORDERS[dtype])
    ]


def _orthogonal() -> list[dict[str, Any]]:
    """As `_rows`."""
    arguments = "by:i4 by:i4 by:i4 in:{0} " + _STRIDES + "by:i4 out:{0} by:i4 out:{0} out:i4"
    return [
        {
            "file": "batched_qr.cu",
            "name": f"batched_qr<{kind}, {parts}, {order}>",
            "arguments": arguments.format(letters),
            "threads": 128,
            "registers": _limit("qr", dtype, place),
            "dynamic": _space_of_rows(size, order),
        }
        for dtype, (kind, parts, letters, size) in _TYPES.items()
        for place, order in enumerate(QR_ORDERS[dtype])
    ]


def _products() -> list[dict[str, Any]]:
    """Each part has a tile of A, with a pack between rows, one of B, and a pack."""
    operand = "in:{0} " + _STRIDES + "by:i4 "
    arguments = (
        "by:i4 by:i4 by:i4 by:i4 by:f8 by:f8 " + 2 * operand + "by:f8 by:f8 out:{0} " + _STRIDES
    )
    found = []
    for dtype, (kind, parts, letters, size) in _TYPES.items():
        for place, tile in enumerate(TILES[dtype]):
            depth = min(tile, 16 if size > 8 or tile == 64 else 32)
            space = tile * (depth + 16 // size) + depth * tile + 16 // size
            found.append(
                {
                    "file": "batched_gemm.cu",
                    "name": f"batched_gemm<{kind}, {parts}, {tile}>",
                    "arguments": arguments.format(letters).strip(),
                    "threads": 128,
                    "registers": _limit("gemm", dtype, place),
                    "dynamic": products_at_once(tile) * space * size,
                }
            )
    return found


def _low_products() -> list[dict[str, Any]]:
    """Each warp, or with tiles of 64 each block, has planes of a tile of A and one of B."""
    operand = "in:{0} " + _STRIDES
    arguments = "by:i4 by:i4 by:i4 by:i4 by:f8 " + 2 * operand + "by:f8 out:{0} " + _STRIDES
    letters = {"float": "f4", "double": "f8", "half": "f2", "__nv_bfloat16": "u2"}
    found = []
    for (held, fmt), tiles in LOW_TILES.items():
        for place, tile in enumerate(tiles):
            space = 2 * (2 if fmt == "fp16x2" else 1) * 32 * (tile + max(tile, 32)) + 128
            found.append(
                {
                    "file": "batched_gemm_low.cu",
                    "name": f"batched_gemm_low<{held}, {fmt}, {tile}>",
                    "arguments": arguments.format(letters[held]).strip(),
                    "threads": 128,
                    "registers": _limit("gemm_low", f"{held} {fmt}", place),
                    "dynamic": space * (1 if tile == 64 else 4),
                    "tensor_cores": True,
                }
            )
    return found


def _space_of_rows(size: int, order: int) -> int:
    """Of four warps, each with room for a strip of its rows, two lines of them and their lanes."""
    return 4 * (size * (32 * (min(order, 16) + 1) + 64) + 128)


def _limit(name: str, dtype: str, place: int) -> int:
    return _REGISTERS[name][dtype][place]


def _block_space(dtype: str, order: int) -> int:
    """Three lines, quotients by the diagonal, two rows of 16, a size a warp, two permutations."""
    _, parts, letters, size = _TYPES[dtype]
    real = int(letters[1])
    quotient = (2 if parts == 1 else 4) * real
    return 3 * order * size + order * quotient + 32 * size + 8 * real + 2 * 4 * order
