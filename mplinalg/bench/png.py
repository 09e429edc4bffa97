"""A picture as a PNG file, with nothing but the standard library and NumPy."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["colours", "encode_png"]

# Dark blue through violet and orange to pale yellow, with a lightness that grows evenly enough to
# be read in grey: (position, red, green, blue).
_ANCHORS = np.array(
    [
        (0.00, 8, 10, 38),
        (0.25, 62, 30, 110),
        (0.50, 158, 48, 104),
        (0.75, 233, 116, 58),
        (0.90, 250, 190, 90),
        (1.00, 254, 246, 202),
    ]
)


def colours(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map real `values` (...) in [low, high] to colours (..., 3); NaN becomes a mid grey."""
    x = np.clip((values - low) / (high - low), 0.0, 1.0)
    channels = [np.interp(x, _ANCHORS[:, 0], _ANCHORS[:, c]) for c in (1, 2, 3)]
    rgb = np.where(np.isnan(x)[..., None], 150.0, np.stack(channels, axis=-1))
    return np.rint(rgb).astype(np.uint8)


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file, 8 bits a channel.

    Parameters
    ----------
    rgb : (height, width, 3) ndarray of uint8
        Row 0 is the top.

    Returns
    -------
    bytes

    References
    ----------
    .. [1] Portable Network Graphics (PNG) Specification, W3C; ISO/IEC 15948.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise ValueError(f"Expected (height, width, 3) of uint8, got {rgb.shape=}, {rgb.dtype=}")
    height, width, _ = rgb.shape
    # Filter 2, "up": every row as the difference to the one above, modulo 256.
    above = np.zeros_like(rgb)
    above[1:] = rgb[:-1]
    lines = np.empty((height, 1 + 3 * width), dtype=np.uint8)
    lines[:, 0] = 2
    lines[:, 1:] = (rgb - above).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, true colour
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
