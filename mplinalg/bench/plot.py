"""Figures of a run, by matplotlib: rates below their ceilings, and ratios to each peer.

Figures are 8 inches wide, so that their text can be read at 800 pixels. Legends stand below the
panels, where they hide nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, BinaryIO

from mplinalg.bench.records import Record
from mplinalg.bench.row import OK
from mplinalg.bench.suite import Suite, Survey
from mplinalg.bench.table import ceilings, parameter_names, peer_names, threads_text

__all__ = ["check_available", "draw"]

_SIZES = ("n", "p")
"""Parameters that rows are drawn over."""
_OURS = "#c2410c"
_PEERS = ("#1d4ed8", "#0f766e", "#7c3aed", "#64748b", "#a16207", "#be185d")
_GROUPS = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."))
"""Marker and line of each combination of the parameters besides n."""
_DOTS_PER_INCH = 200


def check_available(suite: Suite | Survey) -> None:
    """Make sure that a run of `suite` can be drawn.

    Raises
    ------
    ValueError
        If matplotlib is missing or broken, or the suite is a survey without a figure.
    """
    if isinstance(suite, Survey) and suite.draw is None:
        raise ValueError(f"{suite.name} has no figure")
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
    except Exception as error:  # one that does not fit this NumPy raises all sorts of things
        if isinstance(error, ModuleNotFoundError) and error.name == "matplotlib":
            reason = "pip install 'mplinalg[bench]'"
        else:
            reason = f"it is installed and cannot be imported: {error}"
        raise ValueError(f"figures need matplotlib: {reason}") from error


def draw(
    suite: Suite | Survey, records: Sequence[Record], file: BinaryIO,
    metadata: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Draw a run as a PNG.

    Parameters
    ----------
    suite : Suite or Survey
    records : sequence of dict
        Of one run.
    file : binary file
    metadata : dict, optional
        Texts to keep in the file.

    Raises
    ------
    ValueError
        If there is nothing to draw: no good row that has an order n or a degree p.
    """
    drawn = [r for r in records if r["status"] == OK and _size(r) is not None]
    if not drawn:
        raise ValueError(f"{suite.name}: nothing to draw")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False,
             "axes.spines.right": False, "legend.frameon": False}  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        if isinstance(suite, Survey):
            assert suite.draw is not None
            suite.draw(figure, drawn)
        else:
            _draw_timed(figure, drawn)
        figure.suptitle(_title(suite, drawn[0]), fontsize=10)
        figure.savefig(file, format="png", dpi=_DOTS_PER_INCH, metadata=metadata)


def _title(suite: Suite | Survey, record: Record) -> str:
    where = f"{record['machine']['processor']}, {threads_text(record)}"
    return f"{suite.title}\n{where}"


def _draw_timed(figure: Any, records: Sequence[Record]) -> None:
    groups = list(dict.fromkeys(_group(r) for r in records))
    if len(groups) > len(_GROUPS):
        _draw_rows(figure, records)
        return
    rates, compared = figure.subplots(1, 2)
    peers = peer_names(records)
    colours = {"": _OURS} | dict(zip(peers, itertools.cycle(_PEERS), strict=False))
    for group, (marker, line) in zip(groups, _GROUPS, strict=False):
        rows = sorted((r for r in records if _group(r) == group), key=lambda r: _size(r) or 0)
        look = {"marker": marker, "linestyle": line, "markersize": 4}
        for name, colour in colours.items():
            of_rate = [(_size(r), _rate(r, name)) for r in rows]
            known = [(n, rate) for n, rate in of_rate if rate is not None]
            if known:
                width = 1.8 if name == "" else 1.1
                rates.plot(*zip(*known, strict=True), color=colour, linewidth=width, **look)
            if name:
                shift = 1 + 0.03 * (peers.index(name) - (len(peers) - 1) / 2)
                _draw_ratios(compared, rows, name, shift, color=colour, linewidth=1.1, **look)
    unit = "GFLOP/s (classical count)"
    if _is_of_unknowns(records):
        unit = "GDoF/s"
    else:
        _draw_ceilings(rates, records)
    rates.set(yscale="log", ylabel=unit, title="rate")
    _plain_ticks(rates.yaxis, (1, 2, 5), *rates.get_ylim())
    _finish_ratio(compared, records)
    for panel in (rates, compared):
        _finish_sizes(panel, records)
    _legend(figure, colours, groups)


def _draw_ratios(
    panel: Any, rows: Sequence[Record], peer: str, shift: float = 1.0, **look: Any
) -> None:
    """Medians with bars from the first to the third quartile, beside those of other peers."""
    found = [(_size(r), r["peers"][peer]["ratio"]) for r in rows
             if r["peers"].get(peer, {}).get("ratio")]  # fmt: skip
    if not found:
        return
    median = [ratio["median"] for _, ratio in found]
    below = [ratio["median"] - ratio["q1"] for _, ratio in found]
    above = [ratio["q3"] - ratio["median"] for _, ratio in found]
    sizes = [(n or 0) * shift for n, _ in found]
    panel.errorbar(sizes, median, yerr=(below, above), capsize=2, elinewidth=0.8, **look)


def _draw_rows(figure: Any, records: Sequence[Record]) -> None:
    """Many kinds of rows: a dot each, for the ratios alone."""
    panel = figure.subplots()
    key = _colouring(records)
    values = list(dict.fromkeys(str(r["parameters"].get(key)) for r in records))
    for place, (value, colour) in enumerate(
        zip(values, itertools.cycle((_OURS, *_PEERS)), strict=False)
    ):
        shift = 1 + 0.04 * (place - (len(values) - 1) / 2)
        rows = [r for r in records if str(r["parameters"].get(key)) == value]
        for peer in peer_names(records):
            _draw_ratios(panel, rows, peer, shift, color=colour, linestyle="none", marker="o",
                         markersize=3, alpha=0.6)  # fmt: skip
        panel.plot([], [], "o", color=colour, markersize=4, label=value)
    _finish_ratio(panel, records)
    _finish_sizes(panel, records)
    figure.legend(
        loc="outside lower center", ncols=min(len(values), 6), fontsize=8, title=key,
        title_fontsize=8,
    )  # fmt: skip


def _colouring(records: Sequence[Record]) -> str:
    """The parameter to tell rows apart by: the first with more than one value, n aside."""
    for name in parameter_names(records):
        if name not in _SIZES and len({str(r["parameters"].get(name)) for r in records}) > 1:
            return name
    return "n"


def _draw_ceilings(panel: Any, records: Sequence[Record]) -> None:
    gemm = ceilings(records)
    if gemm is None:
        return
    for name, rate in (("fp32", gemm["single"]), ("fp64", gemm["double"])):
        panel.axhline(rate, color="0.45", linewidth=0.9, linestyle=(0, (5, 2)))
        panel.annotate(
            f"{name} GEMM, {rate:.0f}", (0.02, rate), xycoords=("axes fraction", "data"),
            xytext=(0, 2), textcoords="offset points", fontsize=8, color="0.3",
        )  # fmt: skip


def _finish_ratio(panel: Any, records: Sequence[Record]) -> None:
    quartiles = [
        peer["ratio"][key] for r in records for peer in r["peers"].values() if "ratio" in peer
        for key in ("q1", "q3")
    ]  # fmt: skip
    panel.axhline(1.0, color="0.2", linewidth=1.0)
    panel.set(ylabel="time of the peer / time of mplinalg", title="ratio (above 1: faster)")
    panel.grid(axis="y", alpha=0.25)
    if not quartiles:
        return
    low, high = min(0.9, *quartiles), max(1.1, *quartiles)
    panel.set_yscale("log")
    panel.set_ylim(low / 1.08, high * 1.08)
    fine = (1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    coarse = (1, 1.5, 2, 3, 5, 7) if high / low < 20 else (1, 2, 5)
    _plain_ticks(panel.yaxis, fine if high / low < 3 else coarse, low / 1.08, high * 1.08)


def _plain_ticks(axis: Any, mantissas: Sequence[float], low: float, high: float) -> None:
    """Ticks at the mantissas of each decade from low to high, as plain numbers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [round(m * 10.0**p, 12) for p in decades for m in mantissas]
    axis.set_ticks([t for t in ticks if low <= t <= high])
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(_no_ticks())


def _finish_sizes(panel: Any, records: Sequence[Record]) -> None:
    sizes = sorted({_size(r) or 0 for r in records})
    panel.set(xscale="log", xlabel="order n" if "n" in records[0]["parameters"] else "degree p")
    panel.xaxis.set_minor_locator(_no_ticks())
    # a label a factor of 1.6 at least, so that labels do not touch
    ticks = [sizes[0]]
    for n in sizes[1:]:
        if n >= 1.6 * ticks[-1]:
            ticks.append(n)
    panel.set_xticks(ticks, [str(n) for n in ticks], rotation=45 if len(ticks) > 6 else 0)


def _legend(figure: Any, colours: dict[str, str], groups: Sequence[Any]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4, label=name or "mplinalg")
        for name, colour in colours.items()
    ]
    if len(groups) > 1:
        shared = set.intersection(*map(set, groups))
        for group, (marker, line) in zip(groups, _GROUPS, strict=False):
            text = ", ".join(f"{key} {_short(value)}" for key, value in group
                             if (key, value) not in shared)  # fmt: skip
            handles.append(
                Line2D([], [], color="0.3", marker=marker, linestyle=line, markersize=4, label=text)
            )
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6),
                  fontsize=8, handlelength=3)  # fmt: skip


def _group(record: Record) -> tuple[tuple[str, Any], ...]:
    """What tells a line from another; the members of a batch follow from n."""
    kept = (key for key in record["parameters"] if key not in (*_SIZES, "batch"))
    return tuple((key, record["parameters"][key]) for key in kept)


def _size(record: Record) -> int | None:
    """The order n of a row, or the degree p of its elements."""
    found = (record["parameters"][key] for key in _SIZES if key in record["parameters"])
    return next(found, None)


def _is_of_unknowns(records: Sequence[Record]) -> bool:
    return any("gdofs_per_second" in r["ours"] for r in records)


def _rate(record: Record, name: str) -> float | None:
    of_method = record["ours"] if name == "" else record["peers"].get(name, {})
    rate: float | None = of_method.get("gdofs_per_second", of_method.get("gflops"))
    return rate


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
