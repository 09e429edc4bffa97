"""Systems that are solved in bounded memory: what their suites share. See `problems`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mplinalg.bench import checks, flops
from mplinalg.bench.suite import Method, Problem
from mplinalg.tiled.report import TiledReport

__all__ = ["bounded", "limit_bytes"]


def limit_bytes(factors: int, part: int, n: int) -> int:
    """A memory limit of so small a part of some bytes; enough for a system of order n."""
    return max(factors // part, 8000 + 600 * n)


def bounded(
    a: Any, b: Any, limit: int, solve: Callable[[], tuple[Any, TiledReport]],
    peers: Mapping[str, Method], *, close: Callable[[], None] | None = None,
    findings: Callable[[TiledReport], dict[str, Any]] = lambda report: {},
) -> Problem:  # fmt: skip
    """A x = b, one right-hand side, by `solve`, which gives x and its report.

    Known besides: the limit, the bytes moved and foretold, the largest sum of tiles and workspace
    that the plan has at a time, the tile, the part of the transfers beside arithmetic, and what
    `findings` adds.
    """
    reports: list[TiledReport] = []

    def ours() -> Any:
        x, report = solve()
        reports[:] = [report]
        return x

    def found() -> dict[str, Any]:
        moved = reports[0].traffic
        return {
            "limit_bytes": limit,
            "moved_bytes": moved.moved,
            "foretold_bytes": moved.predicted,
            "planned_peak_bytes": moved.peak,
            "tile": reports[0].tile,
            "overlap": round(moved.overlap, 3),
            **findings(reports[0]),
        }

    n = len(b)
    return Problem(
        ours=ours,
        peers=peers,
        report=lambda: reports[0],
        error=checks.solve_error(a, b),
        bound=checks.bound(n, a.dtype),
        dtype=str(a.dtype),
        flops=flops.lu_solve(n, 1, a.dtype),
        traffic=lambda report: float(report.traffic.moved),
        findings=found,
        close=close,
    )
