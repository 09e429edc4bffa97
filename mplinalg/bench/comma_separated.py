"""Comma-separated values (.csv) to and from matrices."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["read", "write"]

Array = NDArray[Any]


def read(file: str) -> Array:
    """Read a matrix, a row a line; blank lines and ``#`` comments are skipped.

    Parameters
    ----------
    file : str

    Returns
    -------
    (m, n) ndarray of float64 or complex128

    Raises
    ------
    ValueError
        If a field is not a number, the rows differ in length, or there are none.
    """
    rows: list[Array] = []
    with open(file, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            rows.append(_parse_row(text.split(","), number))
            if len(rows[-1]) != len(rows[0]):
                raise ValueError(
                    f"ragged: line {number} has {len(rows[-1])} numbers, "
                    f"the first row has {len(rows[0])}"
                )
    if not rows:
        raise ValueError("holds no numbers")
    return np.array(rows)


def write(stream: BinaryIO, x: Array) -> None:
    """Write the matrix `x`, (m, n), such that reading gives it back."""
    for row in x:
        fields = [repr(value).strip("()") for value in row.tolist()]
        stream.write((",".join(fields) + "\n").encode())


def _parse_row(fields: list[str], line: int) -> Array:
    """Real numbers, or complex ones such as 1+2j, with spaces allowed around the sign."""
    try:
        return np.array([float(field) for field in fields])
    except ValueError:
        values = []
    for field in fields:
        text = "".join(field.split())
        try:
            values.append(complex(text[:-1] + "j" if text.endswith("i") else text))
        except ValueError:
            raise ValueError(f"line {line}: {field.strip()!r} is not a number") from None
    return np.array(values)
