"""What a test may choose: the machine that is acted out, and how kernels run on it."""

from __future__ import annotations

from dataclasses import dataclass, fields


class Misuse(AssertionError):
    """Something that real CuPy would not notice, or would crash of."""


@dataclass
class Settings:
    """Set attributes of `settings`; `reset` brings back what stands here."""

    devices: int = 2
    compute_capability: str = "90"
    multiprocessors: int = 4
    """Of a device; few, as the blocks of a cooperative launch all run at once."""
    total_memory: int = 80 * 2**30
    """Bytes of a device."""
    schedule: str | int = "forward"
    """Of the threads of a kernel: "forward", "reverse" or a seed."""
    checked: bool = False
    """Kernels run with the access checker."""
    flush: bool = True
    """fp32 below 2^-126 is zero, in kernels and in array functions, as CuPy compiles both so.

    In kernels with arguments in fp64 it is not, as the emulator cannot tell the two apart.
    """
    toward_zero: bool = False
    """Tensor-core products of kernels are rounded toward zero."""

    def reset(self) -> None:
        """Back to what a test begins with."""
        for field in fields(self):
            setattr(self, field.name, field.default)


settings = Settings()
