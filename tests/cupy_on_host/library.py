"""What the calls of cuBLAS and cuSOLVER have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import capture, hazards, ledger, streams
from .device import handle
from .pointers import Operand, host_number, integer, strided

KINDS = {"s": np.float32, "d": np.float64, "c": np.complex64, "z": np.complex128}
"""The letters of BLAS."""


def op(a: np.ndarray, trans: int) -> np.ndarray:
    """op(A) of the enumeration."""
    return a if trans == 0 else a.T if trans == 1 else a.conj().T


class Call:
    """One call: its handle, its operands, and what it leaves in the ledger."""

    def __init__(
        self, library: str, name: str, number: int, error: Callable[[int], Exception], invalid: int
    ) -> None:
        self.name = name
        self.state = handle(number, library)
        self._error, self._invalid = error, invalid
        self._reads: list[Operand] = []
        self._writes: list[Operand] = []

    def invalid(self, why: str) -> Exception:
        """What the library raises for arguments that it refuses."""
        error = self._error(self._invalid)
        error.add_note(f"{self.name}: {why}")
        return error

    def require(self, condition: bool, why: str) -> None:
        if not condition:
            raise self.invalid(why)

    def size(self, value: Any, name: str) -> int:
        value = integer(value, name)
        self.require(value >= 0, f"{name} = {value}")
        return value

    def choice(self, value: Any, name: str, known: tuple[int, ...]) -> int:
        value = integer(value, name)
        self.require(value in known, f"{name} = {value} is not among {known}")
        return value

    def trans(self, value: Any, name: str) -> int:
        return self.choice(value, name, (0, 1, 2))

    def matrix(
        self, pointer: int, dtype: Any, m: int, n: int, ld: Any, name: str, *,
        reads: bool = True, writes: bool = False,
    ) -> Operand:  # fmt: skip
        """By columns, `ld` elements apart."""
        ld = integer(ld, f"ld of {name}")
        self.require(ld >= max(1, m), f"the leading dimension of {name} is {ld}, for {m} rows")
        return self._noted(strided(pointer, dtype, (m, n), (1, ld), name), reads, writes)

    def vector(
        self, pointer: int, dtype: Any, n: int, inc: Any, name: str, *, reads: bool = True,
        writes: bool = False,
    ) -> Operand:  # fmt: skip
        inc = integer(inc, f"inc of {name}")
        self.require(inc > 0, f"an increment of {inc} is not carried out here")
        return self._noted(strided(pointer, dtype, (n,), (inc,), name), reads, writes)

    def _noted(self, operand: Operand, reads: bool, writes: bool) -> Operand:
        if reads:
            self._reads.append(operand)
        if writes:
            self._writes.append(operand)
        return operand

    def scalar(self, pointer: int, dtype: Any, name: str) -> Any:
        """alpha or beta: of the host or of the device, as the pointer mode says."""
        if self.state.pointer_mode == 0:
            return host_number(pointer, dtype, name)
        return self.vector(pointer, dtype, 1, 1, name).host[0]

    def issue(self, flops: float = 0.0) -> None:
        """It goes to the current stream, as CuPy sets it at each call."""
        capture.refuse_cublas()
        stream = streams.get_current_stream()
        self.state.stream = stream.ptr
        if not capture.is_direct():  # whoever sets the stream sets the workspace back
            self.state.workspace = None
        ledger.note_call(self.name, flops)
        hazards.touch(
            stream.line,
            [pair for operand in self._reads for pair in operand.touched],
            [pair for operand in self._writes for pair in operand.touched],
            self.name,
        )


def operations(kind: str, count: float) -> float:
    """`count` multiplications and as many additions."""
    return (8.0 if kind in "cz" else 2.0) * count
