"""Matrices in files: .npy, .npz, .mtx (Matrix Market) and .csv, read and written with care.

Whatever is wrong with a file ends in a `ValueError` that names the file and what was found in it.
Python objects are never unpickled.
"""

from __future__ import annotations

import os
import zipfile
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mplinalg.bench import comma_separated, matrix_market
from mplinalg.bench.output import check_output, replacing

__all__ = ["check_target", "read_array", "write_array"]

Array = NDArray[Any]
FORMATS = (".npy", ".npz", ".mtx", ".csv")


class _Problem(ValueError):
    """What is wrong with a file's content; the name of the file is put in front of it."""


def read_array(path: str | os.PathLike[str]) -> Array:
    """Read one numeric array.

    Parameters
    ----------
    path : str or path-like
        A .npy, .npz, .mtx or .csv file.  ``"file.npz:key"`` picks one of several arrays.

    Returns
    -------
    ndarray
        Of a boolean, integer, real or complex dtype in native byte order, at least 1-D.
        .mtx and .csv files hold matrices: a column of n numbers has the shape (n, 1).
        Numbers in .csv are ``1.5`` or ``1+2j``; blank lines and ``#`` comments are skipped.

    Raises
    ------
    ValueError
        If the file is missing, empty, truncated, of an unknown kind, holds several arrays or
        something else than numbers, or is a sparse matrix of more than 4 GiB when dense.
    """
    name = os.fspath(path)
    file, key = _split_key(name)
    suffix = _known_suffix(file)
    if not os.path.exists(file):
        raise ValueError(f"{name}: no such file")
    if not os.path.isfile(file):
        raise ValueError(f"{name}: not a regular file")
    try:
        if os.path.getsize(file) == 0:
            raise _Problem("the file is empty (0 bytes)")
        if suffix == ".npy":
            with open(file, "rb") as stream:
                x = _read_npy(stream, os.path.getsize(file))
        elif suffix == ".npz":
            x = _read_npz(file, key)
        elif suffix == ".mtx":
            x = matrix_market.read(file)
        else:
            x = comma_separated.read(file)
        return _numbers(x)
    except _Problem as problem:
        raise ValueError(f"{name}: {problem}") from None
    except PermissionError:
        raise ValueError(f"{name}: no permission to read it") from None
    except MemoryError:
        raise ValueError(f"{name}: not enough memory to read it") from None
    except Exception as error:  # parsers raise all sorts of things on files that are not theirs
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name}: cannot be read as {suffix}: {reason}") from error


def check_target(path: str | os.PathLike[str], force: bool = False, ndim: int = 0) -> None:
    """Raise the `ValueError` that `write_array` would, before the array of `ndim` exists."""
    suffix = _known_suffix(os.fspath(path))
    if ndim > 2 and suffix in (".mtx", ".csv"):
        raise ValueError(f"{os.fspath(path)}: a {suffix} file cannot hold {ndim} dimensions")
    check_output(path, force)


def write_array(path: str | os.PathLike[str], x: ArrayLike, force: bool = False) -> None:
    """Write one numeric array; the file appears complete, or not at all.

    Parameters
    ----------
    path : str or path-like
        The extension says the format; in an .npz file the array is called ``x``.  Text holds
        double precision, written such that reading returns the same numbers.
    x : array_like
        For .mtx and .csv of two dimensions at most; a vector becomes a column.
    force : bool
        Replace an existing file.

    Raises
    ------
    ValueError
        If `path` exists and `force` is False, if its folder cannot be written or its extension
        is unknown, or if `x` is not numeric or does not fit the format.
    """
    array = np.asarray(x)
    check_target(path, force, array.ndim)
    try:
        array = _numbers(array)
    except _Problem as problem:
        raise ValueError(f"{os.fspath(path)}: cannot be written: the array {problem}") from None
    suffix = _known_suffix(os.fspath(path))
    with replacing(path, force) as file:
        if suffix == ".npy":
            np.save(file, array, allow_pickle=False)
        elif suffix == ".npz":
            np.savez(file, x=array)
        elif suffix == ".mtx":
            matrix_market.write(file, _as_text_matrix(array))
        else:
            comma_separated.write(file, _as_text_matrix(array))


def _split_key(name: str) -> tuple[str, str | None]:
    head, colon, key = name.rpartition(":")
    if colon and head.lower().endswith(".npz"):
        return head, key
    return name, None


def _known_suffix(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in FORMATS:
        found = f"unknown extension {suffix!r}" if suffix else "no extension"
        raise ValueError(f"{name}: {found}; known are {' '.join(FORMATS)}")
    return suffix


def _numbers(x: Array) -> Array:
    if x.dtype.kind not in "biufc":
        raise _Problem(f"holds dtype {x.dtype}, not numbers")
    if x.ndim == 0:
        raise _Problem("holds a single number, not a vector or a matrix")
    if x.size == 0:
        raise _Problem(f"holds no numbers (shape {x.shape})")
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _read_npy(stream: IO[bytes], size: int) -> Array:
    """Read an array after comparing what its header promises with the `size` in bytes."""
    version = np.lib.format.read_magic(stream)
    header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if header is None:
        raise _Problem(f"has version {version} of the .npy format, which is not for numbers")
    shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise _Problem("holds Python objects (dtype object), which are not read")
    needed = dtype.itemsize
    for length in shape:
        needed *= length
    held = size - stream.tell()
    if held < needed:
        raise _Problem(
            f"truncated: shape {shape} of {dtype} takes {needed} bytes and {held} are there"
        )
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _read_npz(file: str, key: str | None) -> Array:
    with zipfile.ZipFile(file) as archive:
        names = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
        if not names:
            raise _Problem("holds no arrays")
        if key is None:
            if len(names) > 1:
                raise _Problem(
                    f"holds {len(names)} arrays ({', '.join(names)}); "
                    f"choose one, as in {os.path.basename(file)}:{names[0]}"
                )
            key = names[0]
        if key not in names:
            raise _Problem(f"holds no array {key!r}, only {', '.join(names)}")
        member = archive.getinfo(key + ".npy")
        with archive.open(member) as stream:
            return _read_npy(stream, member.file_size)


def _as_text_matrix(x: Array) -> Array:
    """`x` as a matrix of int64, float64 or complex128."""
    dtype = {"b": np.int64, "f": np.float64, "c": np.complex128}.get(x.dtype.kind, x.dtype)
    return (x[:, None] if x.ndim == 1 else x).astype(dtype)
