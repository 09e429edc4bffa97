"""Lines of a file read and converted, without the interpreter between them."""

from __future__ import annotations

from numba.core import types as numba_types

from .jit import kernel

_pread = numba_types.ExternalFunction(
    "pread",
    numba_types.intp(numba_types.int32, numba_types.voidptr, numba_types.uintp, numba_types.int64),
)


@kernel
def read_lines(descriptor, place, stride, line, out):  # type: ignore[no-untyped-def]
    """out[i] <- what is in the file from `place` + i `stride` on, in the dtype of `line`.

    `line` is as long as a row of `out`. Returns the number of lines that were read to their ends.
    """
    for i in range(out.shape[0]):
        if _pread(descriptor, line.ctypes, line.nbytes, place + i * stride) != line.nbytes:
            return i
        row = out[i]
        for j in range(line.size):
            row[j] = line[j]
    return out.shape[0]
