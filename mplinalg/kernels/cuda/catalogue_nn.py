"""The kernels of training, for the catalogue."""

from __future__ import annotations

from typing import Any

__all__ = ["entries"]

AT_ONCE = 8
"""Tensors of one launch of nn_update.cu."""
_TYPES = {"float": "f4", "double": "f8"}


def entries() -> list[dict[str, Any]]:
    """Of each kernel what `Kernel` takes."""
    gathers = [
        _entry(
            "nn_batch.cu", f"take_rows<{kind}>",
            f"by:u4 by:i4 by:i4 in:{t} in:i8 in:f8 out:{t}", 32, 0,
        )
        for kind, t in {**_TYPES, "long long": "i8"}.items()
    ]  # fmt: skip
    return [*gathers, *(entry for kind in _TYPES for entry in _of(kind, _TYPES[kind]))]


def _of(kind: str, t: str) -> list[dict[str, Any]]:
    size = int(t[1])
    window = "by:i4 by:i4 by:i4 by:i4 by:i4 by:i4 by:i4 by:i4"
    columns = f"by:u4 by:i4 by:i4 by:i4 in:{t}"
    planes = f"by:u4 by:i4 by:i4 in:{t}"
    counts, gradients = " ".join(["by:i4"] * AT_ONCE), " ".join([f"in:{t}"] * AT_ONCE)
    changed = " ".join([f"out:{t}"] * AT_ONCE)
    tensors = f"{counts} {gradients} {changed}"
    plain = [
        ("nn_images.cu", "im2col", f"{columns} out:{t} by:i8 by:i8 {window}", 40, 0),
        ("nn_images.cu", "col2im", f"{columns} by:i8 by:i8 out:{t} {window}", 40, 0),
        ("nn_images.cu", "max_pool", f"{planes} out:{t} {window}", 40, 0),
        ("nn_images.cu", "max_pool_gradient", f"{planes} in:{t} in:{t} out:{t} {window}", 40, 0),
        ("nn_loss.cu", "cross_entropy",
         f"by:i4 by:i4 in:{t} in:i8 out:{t} out:{t} out:{t}", 48, 64),
        ("nn_loss.cu", "mean_loss", f"by:i4 in:{t} out:{t}", 40, 64),
        ("nn_loss.cu", "account", f"by:i4 by:i4 in:{t} in:i8 in:{t} out:f8", 40, 32),
        ("nn_update.cu", "square_sums", f"{counts} {gradients} by:i4 out:f8", 40, 64),
        ("nn_update.cu", "verdict",
         f"by:i4 in:f8 out:f8 out:{t} by:i4 by:f8 by:f8 by:f8 by:f8 by:f8 by:f8", 40, 64),
        ("nn_update.cu", "descend",
         f"{tensors} {changed} in:f8 by:f8 by:f8 by:i4 by:f8", 48, 0),
        ("nn_update.cu", "adam",
         f"{tensors} {changed} {changed} in:f8 by:f8 by:f8 by:f8 by:f8 by:f8 by:f8", 48, 0),
    ]  # fmt: skip
    found = [
        _entry(file, f"{name}<{kind}>", arguments, registers, shared)
        for file, name, arguments, registers, shared in plain
    ]
    for relu in ("false", "true"):
        ending = f"<{kind}, {relu}>"
        masks = f"in:{t} in:{t} out:{t} out:{t}"
        found += [
            _entry("nn_layers.cu", "add_bias" + ending, f"by:u4 by:i4 by:i4 out:{t} in:{t}", 32, 0),
            _entry("nn_layers.cu", "mask_columns" + ending, f"by:i4 by:i4 {masks}", 40,
                   256 * size),
            _entry("nn_layers.cu", "mask_channels" + ending, f"by:i4 by:i4 by:i4 {masks}", 40,
                   8 * size),
        ]  # fmt: skip
    return found


def _entry(file: str, name: str, arguments: str, registers: int, shared: int) -> dict[str, Any]:
    return {
        "file": file, "name": name, "arguments": arguments, "threads": 256,
        "registers": registers, "shared": shared,
    }  # fmt: skip
