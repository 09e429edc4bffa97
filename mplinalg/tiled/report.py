"""What a tiled solve says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..report import SolveReport
from .limits import UNLIMITED
from .traffic import Traffic

__all__ = ["TiledReport"]


@dataclass(frozen=True)
class TiledReport(SolveReport):
    """As `mplinalg.SolveReport`, and what was moved.

    Attributes
    ----------
    traffic : Traffic
        Of everything: measuring A, factoring, solves and residuals.
    tile : int
        Rows and columns of a tile; on a cluster columns of a block column.
    memory_limit : int
        Bytes.
    """

    traffic: Traffic = field(default_factory=Traffic)
    tile: int = 0
    memory_limit: int = 0

    def __str__(self) -> str:
        moved = self.traffic
        is_limited = self.memory_limit < UNLIMITED
        memory = (
            f"{moved.peak / 2**20:.1f} MiB of a limit of {self.memory_limit / 2**20:.1f} MiB"
            if is_limited
            else "that of the workers"
        )
        lines = {
            "memory": f"{memory}, tiles of {self.tile}",
            "moved": f"{moved.moved / 2**20:.1f} MiB ({moved.predicted / 2**20:.1f} foretold): "
            f"{moved.loaded / 2**20:.1f} of A, {moved.reloaded / 2**20:.1f} of tiles again, "
            f"{(moved.spilled + moved.saved) / 2**20:.1f} written",
        }
        if is_limited:
            lines["tiles in memory"] = f"{moved.hits} of {moved.hits + moved.misses} uses"
            lines["overlap"] = (
                f"{100 * moved.overlap:.0f} % of {moved.io_seconds:.3g} s of transfers"
            )
        return "\n".join([super().__str__(), *(f"{k:<15} {v}" for k, v in lines.items())])
