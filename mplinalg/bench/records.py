"""Records of measurements: JSON lines in a file that is only ever appended to."""

from __future__ import annotations

import enum
import json
import math
import os
import stat
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["SCHEMA", "Record", "append", "check_appendable", "json_ready", "read"]

SCHEMA = 1
"""Version of what a record holds; benchmarks/README.md describes it."""

Record = dict[str, Any]


def append(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Add one record to `path` as one line, by one write, and have it reach the disk.

    Raises
    ------
    OSError
        If the disk is full or fails.
    """
    line = (json.dumps(json_ready(record), allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(f"{os.fspath(path)}: {written} of {len(line)} bytes were written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_appendable(path: str | os.PathLike[str]) -> None:
    """Make sure that records can be added to `path` before any work is spent on them.

    Raises
    ------
    ValueError
        If `path` is empty, the folder does not exist, `path` is no regular file or may not be
        written, or it holds anything but records.
    """
    name = os.fspath(path)
    if not name:
        raise ValueError("the name of the file for records is empty")
    folder = os.path.dirname(os.path.realpath(name))
    if not os.path.isdir(folder):
        raise ValueError(f"{name}: cannot be written, the folder {folder} does not exist")
    if os.path.exists(name):
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise ValueError(f"{name}: cannot be written, it is not a regular file")
        read(name)
    if not os.access(name if os.path.exists(name) else folder, os.W_OK):
        raise ValueError(f"{name}: cannot be written, no permission")


def read(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a file, oldest first.

    Raises
    ------
    ValueError
        If a line is not a record of a schema that this version knows, or the last one is cut off.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    if lines.pop():
        raise ValueError(f"{name}: not JSON lines, or its last line is cut off")
    return [_parsed(line, f"{name}, line {number}") for number, line in enumerate(lines, start=1)]


def _parsed(line: bytes, where: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        raise ValueError(f"{where}: not JSON; expected records of `mplinalg bench`") from None
    if not isinstance(record, dict) or not {"schema", "suite", "run"} <= set(record):
        raise ValueError(f"{where}: not a record of `mplinalg bench`")
    if record["schema"] != SCHEMA:
        raise ValueError(f"{where}: schema {record['schema']!r}, this version knows {SCHEMA}")
    return record


def json_ready(value: Any) -> Any:
    """`value` in the types of JSON, which has no NaN and no infinity: they become null."""
    if isinstance(value, enum.Enum):
        return json_ready(value.value)
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_ready(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
