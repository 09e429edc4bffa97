"""Comma-separated values."""

from __future__ import annotations

import csv
import gzip
import io
import math
import os
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..checks import count

__all__ = ["read_csv"]


def read_csv(
    path: str | os.PathLike[str],
    *,
    target: int | str | None = None,
    classes: int | None = None,
    header: bool | None = None,
    delimiter: str = ",",
    dtype: DTypeLike = np.float32,
) -> Any:
    """Read a table of numbers, a sample a line.

    Parameters
    ----------
    path : str or path-like
        UTF-8 text, plain or compressed by gzip. Blank lines are skipped.
    target : int or str, optional
        The column that is to be learnt, by number (from 0, or from the end if negative) or name.
    classes : int, optional
        The target is a label, 0 to classes - 1.
    header : bool, optional
        Whether the first line holds the names of the columns. None: if no field of it is a number.
    delimiter : str, optional
        One character.
    dtype : dtype, optional
        Floating point.

    Returns
    -------
    x : ndarray, shape (n, columns)
        Without the target, if there is one.
    y : ndarray, shape (n,)
        Only with a target: of `dtype`, or labels of int64.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A field is empty, text, or not finite; lines differ in length; a label is out of range: with
        the number of the line. There are no lines, there is no such column, or no column is left.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from mplinalg.nn import data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "iris.csv")
    ...     _ = path.write_text("length,width,kind\\n5.25,3.5,0\\n7.0,3.25,1\\n")
    ...     x, y = data.read_csv(path, target="kind", classes=3)
    >>> x.tolist(), y.tolist()
    ([[5.25, 3.5], [7.0, 3.25]], [0, 1])
    """
    name, dtype = os.fspath(path), np.dtype(dtype)
    if dtype.kind != "f":
        raise ValueError(f"dtype must be of floating point; got {dtype}")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ValueError(f"delimiter must be one character; got {delimiter!r}")
    if classes is not None:
        classes = count("classes", classes)
        if target is None:
            raise ValueError("classes are of a target: say which column")
    text = _text(name)
    try:
        names = _names(text, name, header, delimiter)
        table = _numbers(text, name, names is not None, delimiter, dtype)
    except csv.Error as error:
        raise ValueError(f"{name}: not a table: {error}") from None
    if names is not None and len(names) != table.shape[1]:
        raise ValueError(f"{name}: {len(names)} names for {table.shape[1]} columns")
    if target is None:
        return table.astype(dtype, copy=False)
    column = _column(target, names, table.shape[1], name)
    y = table[:, column]
    x = np.ascontiguousarray(np.delete(table, column, axis=1))
    if not x.shape[1]:
        raise ValueError(f"{name}: no column is left beside the target")
    if classes is None:
        return x.astype(dtype, copy=False), y.astype(dtype)
    good = (y >= 0) & (y < classes) & (y == np.floor(y))
    if not good.all():
        k = int(np.argmin(good))
        line = [line for line, _ in _lines(text, delimiter)][k + (names is not None)]
        raise ValueError(f"{name}, line {line}: label {y[k]:g} is not one of 0, ..., {classes - 1}")
    return x.astype(dtype, copy=False), y.astype(np.int64)


def _text(name: str) -> str:
    with open(name, "rb") as stream:
        content = stream.read()
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}: cannot be unpacked: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not a text in UTF-8: {error}") from None
    if "\0" in text:
        raise ValueError(f"{name}: not a text, it has NUL characters")
    if not text.strip():
        raise ValueError(f"{name}: is empty")
    return text


def _lines(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that hold something, with their numbers."""
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.strip() or delimiter in line:
            yield number, [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]


def _names(text: str, name: str, header: bool | None, delimiter: str) -> list[str] | None:
    _, first = next(_lines(text, delimiter))
    if header is None:
        header = all(_number(field) is None for field in first)
    if header and len(set(first)) < len(first):
        raise ValueError(f"{name}: two columns have the same name: {first}")
    return first if header else None


def _number(field: str) -> float | None:
    """What is a number for NumPy's reader: `float` takes ``1_000`` as well."""
    try:
        return None if "_" in field else float(field)
    except ValueError:
        return None


def _numbers(text: str, name: str, skip: bool, delimiter: str, dtype: np.dtype) -> NDArray[Any]:
    if sum(1 for _, _ in zip(range(2), _lines(text, delimiter), strict=False)) <= skip:
        raise ValueError(f"{name}: holds the names of columns and no numbers")
    before = _before_data(text, delimiter) if skip else 0
    try:
        table = _loaded(text, before, delimiter)
    except ValueError:
        if fault := _fault(text, skip, delimiter):
            raise ValueError(f"{name}, {fault}") from None
        try:  # NumPy's reader skips no lines of spaces
            table = _loaded(re.sub(r"(?m)^[^\S\n]+$", "", text), before, delimiter)
        except ValueError as error:
            raise ValueError(f"{name}, {error}") from None
    if not np.abs(table).max() <= np.finfo(dtype).max:  # NaN is not, either
        fault = _fault(text, skip, delimiter, float(np.finfo(dtype).max))
        raise ValueError(f"{name}, {fault or f'a number is not finite in {dtype}'}")
    return table


def _loaded(text: str, before: int, delimiter: str) -> NDArray[Any]:
    return np.loadtxt(
        io.StringIO(text), dtype=np.float64, comments=None, delimiter=delimiter, ndmin=2,
        quotechar='"', skiprows=before,
    )  # fmt: skip


def _before_data(text: str, delimiter: str) -> int:
    """Lines up to that of the names, included."""
    return next(_lines(text, delimiter))[0]


def _fault(text: str, skip: bool, delimiter: str, most: float = math.inf) -> str:
    """What is wrong first, and in which line."""
    columns = None
    for k, (line, fields) in enumerate(_lines(text, delimiter)):
        if columns is None:
            columns, first = len(fields), line
        if len(fields) != columns:
            return f"line {line}: {len(fields)} fields, line {first} has {columns}"
        if k == 0 and skip:
            continue
        for column, field in enumerate(fields):
            value = _number(field)
            where = f"line {line}, column {column}: "
            if not field:
                return f"{where}the field is empty"
            if value is None:
                return f"{where}{field!r} is not a number; columns of text are not read"
            if not abs(value) <= min(most, np.finfo(np.float64).max):
                return f"{where}{field!r} is not finite"
    return ""


def _column(target: int | str, names: list[str] | None, columns: int, name: str) -> int:
    if isinstance(target, str):
        if names is None:
            raise ValueError(f"{name}: has no names of columns, so none is {target!r}")
        if target not in names:
            raise ValueError(f"{name}: no column {target!r}; there are {', '.join(names)}")
        return names.index(target)
    column = count("target", target, -columns)
    if column >= columns:
        raise ValueError(f"{name}: no column {column}, there are {columns}")
    return column % columns
