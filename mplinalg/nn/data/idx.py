"""IDX files: arrays as MNIST comes in, also compressed by gzip.

A file is a magic number 00 00 kind ndim, the dimensions as big-endian 32-bit numbers, and the
entries by rows, big-endian.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from typing import IO, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .labels import check_labels

__all__ = ["mnist_idx", "read_idx"]

_KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP = b"\x1f\x8b"
_MOST = 2**40
"""Entries: more is not believed."""
_DIMENSIONS = 32


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an IDX file.

    Parameters
    ----------
    path : str or path-like
        Plain or compressed by gzip, whatever its name is.

    Returns
    -------
    ndarray
        Of the dtype in the file, in native byte order.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no IDX file, truncated, damaged, or goes on after its last entry.
    """
    name = os.fspath(path)
    with open(name, "rb") as plain:
        is_packed = plain.read(2) == _GZIP
        plain.seek(0)
        if not is_packed:
            return _read(plain, name)
        try:
            with gzip.open(plain) as stream:
                return _read(cast(IO[bytes], stream), name)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{name}: cannot be unpacked: {error}") from error


def _read(stream: IO[bytes], name: str) -> NDArray[Any]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"{name}: truncated, {len(magic)} bytes are no IDX file")
    kind, ndim = magic[2], magic[3]
    if magic[:2] != b"\0\0" or kind not in _KINDS or ndim == 0:
        raise ValueError(
            f"{name}: no IDX file, it begins with {magic.hex(' ')}; 00 00, a kind of "
            f"{', '.join(f'{known:02x}' for known in _KINDS)}, and the dimensions are expected"
        )
    header = stream.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise ValueError(f"{name}: truncated in the sizes of its {ndim} dimensions")
    shape = struct.unpack(f">{ndim}I", header)
    dtype = np.dtype(_KINDS[kind])
    size = math.prod(shape)
    if ndim > _DIMENSIONS or math.prod(max(n, 1) for n in shape) > _MOST:
        raise ValueError(f"{name}: damaged, its shape would be {shape}")
    content = _read_up_to(stream, size * dtype.itemsize + 1)
    if len(content) != size * dtype.itemsize:
        what = "truncated" if len(content) < size * dtype.itemsize else "too long"
        raise ValueError(
            f"{name}: {what}, shape {shape} of {dtype.name} takes {size * dtype.itemsize} bytes "
            f"and {'more' if what == 'too long' else len(content)} are there"
        )
    a = np.frombuffer(content, dtype).reshape(shape)
    return a.astype(dtype.newbyteorder("="), copy=not a.flags.writeable)


def _read_up_to(stream: IO[bytes], most: int, block: int = 2**24) -> bytearray:
    """No more than there is: sizes in a damaged file reserve no memory."""
    content = bytearray()
    while len(content) < most and (part := stream.read(min(block, most - len(content)))):
        content += part
    return content


def mnist_idx(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    classes: int = 10,
    dtype: DTypeLike = np.float32,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read images and labels in the form of MNIST's files.

    Parameters
    ----------
    images, labels : str or path-like
        Such as ``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte.gz``.
    classes : int, optional
        Labels are 0 to classes - 1.
    dtype : dtype, optional
        Of the images.

    Returns
    -------
    x : ndarray, shape (n, 1, rows, columns)
        In [0, 1].
    y : ndarray of int64, shape (n,)

    Raises
    ------
    FileNotFoundError
        One of the files is not there.
    ValueError
        As `read_idx`; the files hold no bytes of images and labels, or not equally many; there are
        none; a label is out of range.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86 (1998) 2278.
    """
    x, y = read_idx(images), read_idx(labels)
    for name, a, ndim in ((images, x, 3), (labels, y, 1)):
        if a.ndim != ndim or a.dtype != np.uint8:
            raise ValueError(
                f"{os.fspath(name)}: holds {a.dtype}, shape {a.shape}; uint8 of {ndim} dimensions "
                "is expected"
            )
    if len(x) != len(y):
        raise ValueError(
            f"{os.fspath(images)} holds {len(x)} images, {os.fspath(labels)} {len(y)} labels"
        )
    if not x.size:
        raise ValueError(f"{os.fspath(images)}: holds no images, shape {x.shape}")
    numbers = y.astype(np.int64)
    try:
        check_labels(numbers, classes)
    except ValueError as error:
        raise ValueError(f"{os.fspath(labels)}: {error}") from None
    return np.divide(x[:, None], 255, dtype=np.dtype(dtype)), numbers
