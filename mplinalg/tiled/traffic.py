"""What moves between the levels of memory: foretold by a plan, counted by a run."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Traffic"]


@dataclass
class Traffic:
    """What a run moved, and how long it waited for it.

    Attributes
    ----------
    loaded, reloaded, spilled, saved : int
        Bytes: inputs read; tiles read again from the store; tiles written for want of memory;
        results written.
    hits, misses : int
        Uses of tiles that were, and were not, in memory.
    predicted : int
        Bytes that the plan foretold.
    peak : int
        Most bytes of tiles and workspace in memory.
    io_seconds, waited : float
        Time that transfers took, and the part of it that the computation waited for.
    """

    loaded: int = 0
    reloaded: int = 0
    spilled: int = 0
    saved: int = 0
    hits: int = 0
    misses: int = 0
    predicted: int = 0
    peak: int = 0
    io_seconds: float = 0.0
    waited: float = 0.0

    @property
    def moved(self) -> int:
        """Bytes, both ways."""
        return self.loaded + self.reloaded + self.spilled + self.saved

    @property
    def overlap(self) -> float:
        """The part of the transfers that took place beside arithmetic, from 0 to 1."""
        if self.io_seconds <= 0:
            return 1.0
        return min(max(1.0 - self.waited / self.io_seconds, 0.0), 1.0)

    def add(self, other: Traffic) -> None:
        """Count another run, too."""
        for part in fields(self):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            setattr(self, part.name, max(mine, theirs) if part.name == "peak" else mine + theirs)

    def clear(self) -> None:
        """Count from 0."""
        for part in fields(self):
            setattr(self, part.name, part.default)
