"""The catalogue's entries of the kernels for finite elements."""

from __future__ import annotations

from typing import Any

__all__ = ["POINTS", "elements_at_once", "entries"]

POINTS = {2: (4, 8, 16), 3: (2, 3, 4, 5, 6, 8, 10)}
"""The most points in a dimension of the instances, by dimensions."""
_TYPES = {"float": ("f4", 4), "double": ("f8", 8)}
_NODES = "by:i4 by:i4 by:i8 by:i8 by:i8 by:i8 by:i8 by:i8 out:{0} out:{0}"
_ARGUMENTS = {
    "fem_mass": "by:i4 by:i4 by:i4 by:i4 in:{0} in:{0} by:i8 in:{0} " + _NODES,
    "fem_diffusion": "by:i4 by:i4 by:i4 by:i4 in:{0} in:{0} in:{0} by:i8 in:{0} " + _NODES,
}
_REGISTERS: dict[str, dict[str, dict[int, tuple[int, ...]]]] = {
    "fem_mass": {
        "float": {2: (32, 32, 32), 3: (48, 48, 56, 80, 88, 112, 120)},
        "double": {2: (32, 32, 32), 3: (56, 64, 80, 112, 120, 128, 160)},
    },
    "fem_diffusion": {
        "float": {2: (48, 48, 48), 3: (72, 80, 80, 96, 104, 120, 128)},
        "double": {2: (48, 48, 48), 3: (80, 104, 112, 128, 128, 128, 184)},
    },
}
"""The most that an instance takes on any architecture, by type, dimensions and points."""


def elements_at_once(q: int) -> int:
    """Elements that a block computes, of an instance for q points."""
    return 256 // q**2


def entries() -> list[dict[str, Any]]:
    """Arguments of `catalogue.Kernel`."""
    found = [
        {
            "file": f"{name}.cu", "name": f"{name}<{kind}, {dim}, {q}>",
            "arguments": arguments.format(letters),
            "threads": elements_at_once(q) * q**2,
            "registers": _REGISTERS[name][kind][dim][place],
            "dynamic": _numbers(name, dim, q) * size,
        }
        for name, arguments in _ARGUMENTS.items()
        for kind, (letters, size) in _TYPES.items()
        for dim, sizes in POINTS.items()
        for place, q in enumerate(sizes)
    ]  # fmt: skip
    for kind, (t, _) in _TYPES.items():
        found += [
            {
                "file": "fem_join.cu", "name": f"fem_join<{kind}, {dim}>",
                "arguments": f"by:i4 by:i4 by:i4 by:i4 by:i4 in:{t} out:{t}",
                "threads": 256, "registers": 64,
            }
            for dim in POINTS
        ]  # fmt: skip
        vectors = {
            "dot": (f"by:i8 in:{t} in:{t} out:f8", 40, 64),
            "descend": (f"by:i8 by:{t} in:{t} in:{t} out:{t} out:{t} in:{t} out:f8", 40, 64),
            "turn": (f"by:i8 by:{t} in:{t} in:{t} out:{t}", 32, 0),
        }
        found += [
            {
                "file": "fem_vectors.cu", "name": f"fem_{name}<{kind}>", "arguments": arguments,
                "threads": 256, "registers": registers, "shared": shared,
            }
            for name, (arguments, registers, shared) in vectors.items()
        ]  # fmt: skip
    return found


def _numbers(name: str, dim: int, q: int) -> int:
    """In shared memory: a cube an element, or two; a table and its transpose, or two."""
    space = q**dim + (0 if dim == 2 else {2: 12, 4: 16}.get(q, 0))
    return (1 if name == "fem_mass" else 2) * (elements_at_once(q) * space + 2 * q**2)
