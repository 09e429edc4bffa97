"""How far each format reaches: success and steps over condition numbers from 1 to 1e16. Not timed.

Matrices are `gallery.randsvd` with each of its five spectra, a few seeds each; b is random normal.
The precision of `mplinalg.solve` and its refinement are pinned, and the fallback is on, so there
are two questions: whether the answer is good in the end (success: the report says converged or
direct, and the backward error is at most sqrt(n) u), and whether the format that was asked for
gave it (delivered) or a higher rung of the ladder did.

The formats below fp32 are emulated: operands of the updates between blocks of 64 columns are
rounded. The order is 256 unless ``--sizes`` says otherwise, so that there are several blocks; at
64 and below a format would be no different from fp32.
"""

import warnings
from collections import Counter
from statistics import median

import numpy as np

import mplinalg
from mplinalg.bench.suite import Survey
from mplinalg.precision import FORMATS
from mplinalg.testing import backward_error, gallery

MODES = ("one_large", "one_small", "geometric", "arithmetic", "log_uniform")
SEEDS = 3
METHODS = ("auto", "classical", "gmres")
EXPONENTS = range(17)


def cases(sizes):
    return [
        {"n": n, "format": name, "method": method, "cond": 10.0**exponent}
        for n in sizes for method in METHODS for name in FORMATS for exponent in EXPONENTS
    ]  # fmt: skip


def measure(seed, n, format, method, cond):
    """Counts over spectra and seeds. The systems depend on n and cond alone."""
    systems = [(mode, draw) for mode in MODES for draw in range(SEEDS)]
    found = Counter(systems=len(systems))
    rungs, steps, inner, errors = Counter(), [], [], []
    for mode, draw in systems:
        rng = np.random.default_rng([draw, MODES.index(mode), n, round(np.log10(cond))])
        a, b = gallery.randsvd(n, cond, mode, rng=rng), rng.standard_normal(n)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", mplinalg.LinAlgWarning)
                x, report = mplinalg.solve(a, b, precision=format, refine=method, full_output=True)
        except mplinalg.LinAlgError:
            rungs["raised"] += 1
            continue
        error = float(backward_error(a, x, b))
        is_good = report.status.is_success and error <= np.sqrt(n) * 2.0**-53
        is_delivered = is_good and report.precision == format
        found.update(success=int(is_good), delivered=int(is_delivered))
        rungs[f"{report.precision} {report.rungs[-1].method}"] += 1
        errors.append(error)
        if is_delivered:
            steps.append(report.iterations)
            inner.append(report.inner_iterations)
    return {
        **{key: found[key] for key in ("systems", "success", "delivered")},
        "rungs": dict(rungs),
        "steps": {"median": median(steps), "max": max(steps)} if steps else None,
        "inner_steps": {"median": median(inner), "max": max(inner)} if inner else None,
        "largest_backward_error": max(errors, default=None),
    }


def cells(records, text):
    """Heads and rows, a row a format and method, a column a condition number."""
    conds = sorted({r["parameters"]["cond"] for r in records})
    rows = {}
    for r in records:
        p = r["parameters"]
        row = rows.setdefault((p["n"], p["method"], p["format"]), {})
        row[p["cond"]] = text(r["findings"])
    heads = ["n", "refine", "format", *(f"1e{round(np.log10(c))}" for c in conds)]
    return heads, [[*map(str, key), *(row.get(c, "") for c in conds)] for key, row in rows.items()]


def delivered(f):
    return f"{100 * f['delivered'] / f['systems']:.0f}"


def success(f):
    return f"{100 * f['success'] / f['systems']:.0f}"


def steps(f):
    if f["steps"] is None:
        return "-"
    inner = f["inner_steps"]["median"]
    return f"{f['steps']['median']:g}" + (f"/{inner:g}" if inner else "")


TABLES = (
    ("percent of systems that the format itself delivered, over the condition number", delivered),
    ("percent of systems solved in the end, by whatever rung", success),
    ("median steps where the format delivered (with inner steps of GMRES)", steps),
)


def tables(records):
    """Titles, heads and rows of the tables."""
    return [(title, *cells(records, text)) for title, text in TABLES]


def draw(figure, records):
    """Delivered over the condition number, a panel a method, a line a format."""
    methods = list(dict.fromkeys(r["parameters"]["method"] for r in records))
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for panel, method in zip(panels, methods, strict=True):
        for name, marker in zip(FORMATS, "osv^Dx", strict=True):
            points = [
                (
                    r["parameters"]["cond"],
                    100 * r["findings"]["delivered"] / r["findings"]["systems"],
                )
                for r in records
                if (r["parameters"]["method"], r["parameters"]["format"]) == (method, name)
            ]
            if points:
                panel.plot(*zip(*sorted(points), strict=True), marker=marker, markersize=4,
                           linewidth=1.1, label=name)  # fmt: skip
        panel.set(xscale="log", xlabel="condition number", title=f"refine: {method}")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("delivered by the format, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)


SUITE = Survey(
    title="which format delivers working precision, by condition number",
    sizes="256",
    cases=cases,
    measure=measure,
    tables=tables,
    draw=draw,
)
