"""Images in folders, one for each class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...arguments import choice
from ..checks import count

__all__ = ["Images", "image_folder"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff")
_DEEP = ("I", "F")
"""Pillow's modes of 16 and 32 bits, which `convert` cuts off at 255."""


class Images(NamedTuple):
    """Images, their labels, and what the labels stand for."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    classes: list[str]


def image_folder(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    mode: str = "RGB",
    dtype: DTypeLike = np.float32,
) -> Images:
    """Read ``path/class/image.png`` and the like.

    Parameters
    ----------
    path : str or path-like
        Its folders are the classes, numbered by the order of their names. In them, files with the
        suffix of an image are read in the order of their names; others are left out. Pixels are
        taken as they are stored, of several pictures in a file those of the first.
    size : (int, int), optional
        Height and width that images are resized to (bilinear). None: all have the same size.
    mode : {"RGB", "L"}, optional
        Colours, or shades of grey.
    dtype : dtype, optional

    Returns
    -------
    x : ndarray, shape (n, 3, height, width) or (n, 1, height, width)
        In [0, 1].
    y : ndarray of int64, shape (n,)
    classes : list of str

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        A file cannot be read or has more than 8 bits a colour, images differ in size, a class has
        none, or there are no classes.
    ImportError
        Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("images need Pillow: pip install pillow") from error
    choice("mode", mode, ("RGB", "L"))
    wanted = None if size is None else (count("size[0]", size[0]), count("size[1]", size[1]))
    listed = _listed(Path(path))
    total = sum(len(files) for _, files in listed)
    x: NDArray[Any] | None = None
    labels: list[int] = []
    first = None
    for label, (_, files) in enumerate(listed):
        for file in files:
            try:
                with Image.open(file) as image:
                    if image.mode.startswith(_DEEP):
                        raise ValueError(f"{image.mode} has more than 8 bits, convert it first")
                    picture = image.convert(mode)
                if wanted is not None:
                    picture = picture.resize(wanted[::-1], Image.Resampling.BILINEAR)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise ValueError(f"{file}: cannot be read as an image: {error}") from error
            pixels = np.asarray(picture, np.uint8)
            pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (C, H, W)
            if x is None:
                x, first = np.empty((total, *pixels.shape), np.uint8), file
            if pixels.shape != x.shape[1:]:
                raise ValueError(
                    f"{file} has {_size(pixels)} pixels, {first} {_size(x[0])}: give the size that "
                    "all are to be resized to"
                )
            x[len(labels)] = pixels
            labels.append(label)
    assert x is not None
    return Images(
        np.divide(x, 255, dtype=np.dtype(dtype)),
        np.array(labels, np.int64),
        [name for name, _ in listed],
    )


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[1]} by {pixels.shape[2]}"


def _listed(folder: Path) -> list[tuple[str, list[Path]]]:
    """The classes and their files."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    listed = []
    for inner in sorted(one for one in folder.iterdir() if one.is_dir()):
        if inner.name.startswith("."):
            continue
        files = sorted(f for f in inner.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
        if not files:
            raise ValueError(f"{inner}: no images ({' '.join(SUFFIXES)}) in this folder")
        listed.append((inner.name, files))
    if not listed:
        raise ValueError(f"{folder}: has no folders, one for each class of images")
    return listed
