"""Figures: what is handed to matplotlib."""

from types import SimpleNamespace

import pytest

from mplinalg.bench import plot


def record(n, median, q1, q3):
    ratio = {"median": median, "q1": q1, "q3": q3}
    return {"parameters": {"n": n}, "peers": {"scipy": {"status": "ok", "ratio": ratio}}}


def test_bars_go_from_quartile_to_quartile():
    seen = []
    panel = SimpleNamespace(errorbar=lambda x, y, yerr, **look: seen.append((x, y, *yerr)))
    rows = [record(8, 2.0, 1.5, 4.0), record(16, 3.0, 2.75, 3.5)]
    plot._draw_ratios(panel, rows, "scipy", 1.5)
    assert seen == [([12.0, 24.0], [2.0, 3.0], [0.5, 0.25], [2.0, 0.5])]


def test_the_range_of_ratios_holds_all_quartiles():
    limits = []
    panel = SimpleNamespace(
        axhline=lambda *_, **__: None, set=lambda **_: None, grid=lambda **_: None,
        set_yscale=lambda scale: None, set_ylim=lambda *of: limits.append(of),
        yaxis=SimpleNamespace(
            set_ticks=lambda ticks: None, set_major_formatter=lambda f: None,
            set_minor_locator=lambda locator: None,
        ),
    )  # fmt: skip
    plot._finish_ratio(panel, [record(8, 2.0, 0.5, 4.0)])
    assert limits == [pytest.approx((0.5 / 1.08, 4.0 * 1.08))]
