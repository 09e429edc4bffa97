"""How far each format reaches: success and steps over condition numbers and families. Not timed.

Two sorts of rows. Those of the family "randsvd" are `gallery.randsvd` of condition numbers from 1
to 1e16, each with its five spectra and a few draws. The others are the families of
`mplinalg.testing.gallery` that are finite and not singular by construction, at the condition
numbers they have, a few draws each: in float64, or in complex128 where they are complex only.
Left out is "inverse_hilbert", which overflows. b is random normal.

All formats and methods of a row solve the same systems, which are drawn from the seed of the row:
from ``--seed`` and the parameters, as in every suite. The precision of `mplinalg.solve` and its
refinement are pinned, and the fallback is on, so there are two questions: whether the answer is
good in the end (success: the report says converged or direct, and the backward error is at most
sqrt(n) u), and whether the format that was asked for gave it (delivered) or a higher rung of the
ladder did. A system that is reported as ill-conditioned is no success, but if its backward error
is as small, it counts as stable.

The formats below fp32 are emulated: operands of the updates between blocks of 64 columns are
rounded. The order is 256 unless ``--sizes`` says otherwise, so that there are several blocks; at
64 and below a format would be no different from fp32.
"""

import warnings
from collections import Counter
from statistics import median

import numpy as np

import mplinalg
from mplinalg.bench.problems import normal
from mplinalg.bench.suite import Survey
from mplinalg.precision import FORMATS
from mplinalg.testing import backward_error, gallery

MODES = ("one_large", "one_small", "geometric", "arithmetic", "log_uniform")
DRAWS = 3
METHODS = ("auto", "classical", "gmres")
EXPONENTS = range(17)
SWEPT = "randsvd"
LEFT_OUT = (SWEPT, "inverse_hilbert")


def cases(sizes):
    """The sweep over the condition number, then the families at their own (cond is None)."""
    swept = [{"family": SWEPT, "cond": 10.0**exponent} for exponent in EXPONENTS]
    own = [{"family": name, "cond": None} for name in families()]
    return [{"n": n, **row} for n in sizes for row in (*swept, *own)]


def families():
    """Names of the families with systems that have an answer."""
    known = map(gallery.facts, gallery.names())
    return [f.name for f in known if f.finite and not f.singular and f.name not in LEFT_OUT]


def measure(seed, n, family, cond):
    """What each method and format made of the systems, which depend on the seed and the row."""
    systems = list(drawn(seed, n, family, cond))
    return {
        "conds": [float(np.linalg.cond(a)) for a, _ in systems] if cond is None else None,
        "outcomes": [
            {"method": method, "format": name} | outcome(systems, name, method)
            for method in METHODS for name in FORMATS
        ],
    }  # fmt: skip


def drawn(seed, n, family, cond):
    """The systems (A, b) of a row."""
    known = gallery.facts(family)
    dtype = "float64" if "float64" in known.dtypes else "complex128"
    for options in [{"cond": cond, "mode": mode} for mode in MODES] if family == SWEPT else [{}]:
        for draw in range(DRAWS):
            words = [seed, draw, MODES.index(options["mode"])] if options else [seed, draw]
            rng = np.random.default_rng(words)
            random = {"rng": rng} if known.random else {}
            yield gallery.matrix(family, n, dtype, **options, **random), normal(rng, n, dtype)


def outcome(systems, format, method):
    """Counts over the systems, of one format and method."""
    found = Counter(systems=len(systems))
    rungs, iterations, steps, inner, errors = Counter(), [], [], [], []
    for a, b in systems:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", mplinalg.LinAlgWarning)
                x, report = mplinalg.solve(a, b, precision=format, refine=method, full_output=True)
        except mplinalg.LinAlgError:
            rungs["raised"] += 1
            continue
        error = float(backward_error(a, x, b))
        is_stable = error <= np.sqrt(len(b)) * 2.0**-53
        is_good = report.status.is_success and is_stable
        is_delivered = is_good and report.precision == format
        found.update(stable=int(is_stable), success=int(is_good), delivered=int(is_delivered))
        rungs[f"{report.precision} {report.rungs[-1].method}"] += 1
        errors.append(error)
        iterations.append(report.iterations)
        if is_delivered:
            steps.append(report.iterations)
            inner.append(report.inner_iterations)
    return {
        **{key: found[key] for key in ("systems", "stable", "success", "delivered")},
        "rungs": dict(rungs),
        "iterations": middle_and_most(iterations),
        "steps": middle_and_most(steps),
        "inner_steps": middle_and_most(inner),
        "largest_backward_error": max(errors, default=None),
    }


def middle_and_most(counts):
    return {"median": median(counts), "max": max(counts)} if counts else None


def cells(records, text):
    """Heads and rows, a row a format and method, a column a condition number; the modal rung."""
    conds = sorted({r["parameters"]["cond"] for r in records})
    rows, rungs = {}, {}
    for r in records:
        for o in r["findings"]["outcomes"]:
            key = r["parameters"]["n"], o["method"], o["format"]
            rows.setdefault(key, {})[r["parameters"]["cond"]] = text(o)
            rungs.setdefault(key, Counter()).update(o["rungs"])
    heads = ["n", "refine", "format", *(f"1e{round(np.log10(c))}" for c in conds), "rung"]
    return heads, [
        [*map(str, key), *(row.get(c, "") for c in conds), with_share(rungs[key])]
        for key, row in rows.items()
    ]


def modal(rungs):
    """The rung that most systems ended at; the first one of several."""
    return max(rungs, key=rungs.get)


def with_share(rungs):
    name = modal(rungs)
    return f"{name} ({100 * rungs[name] / sum(rungs.values()):.0f} %)"


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
OF_FAMILIES = (
    "families at their own condition numbers, refine {}: percent solved (of a small backward "
    "error, where more), median iterations, modal rung"
)


def by_family(records, method):
    """Heads and rows, a row a family, a column a format: success, iterations, modal rung."""
    rows = []
    for r in records:
        f, p = r["findings"], r["parameters"]
        outcomes = {o["format"]: o for o in f["outcomes"] if o["method"] == method}
        cond = median(c if c is not None else np.inf for c in f["conds"])
        rows.append([p["family"], str(p["n"]), f"{cond:.0e}",
                     *(summed_up(outcomes[name]) for name in FORMATS)])  # fmt: skip
    return ["family", "n", "cond", *FORMATS], rows


def summed_up(f):
    """``100, 3, fp16 classical``: the factorization follows from the family and is left out.

    ``0 (100)``: none reported as solved, all with a small backward error.
    """
    stable = f" ({100 * f['stable'] / f['systems']:.0f})" if f["stable"] != f["success"] else ""
    count = f"{f['iterations']['median']:g}" if f["iterations"] else "-"
    rung = modal(f["rungs"]).replace("LU + ", "").replace("Cholesky + ", "")
    return f"{success(f)}{stable}, {count}, {rung}"


def tables(records):
    """Titles, heads and rows of the tables: those of the sweep, and of the families."""
    swept = of_sweep(records)
    own = [r for r in records if r["parameters"]["family"] != SWEPT]
    found = [(title, *cells(swept, text)) for title, text in TABLES] if swept else []
    if own:
        found += [(OF_FAMILIES.format(method), *by_family(own, method)) for method in METHODS]
    return found


def of_sweep(records):
    return [r for r in records if r["parameters"]["family"] == SWEPT]


def draw(figure, records):
    """Delivered over the condition number, a panel a method, a line a format."""
    panels = figure.subplots(1, len(METHODS), sharey=True, squeeze=False)[0]
    for panel, method in zip(panels, METHODS, strict=True):
        for name, marker in zip(FORMATS, "osv^Dx", strict=True):
            points = [
                (r["parameters"]["cond"], 100 * o["delivered"] / o["systems"])
                for r in of_sweep(records)
                for o in r["findings"]["outcomes"]
                if (o["method"], o["format"]) == (method, name)
            ]
            if points:
                panel.plot(*zip(*sorted(points), strict=True), marker=marker, markersize=4,
                           linewidth=1.1, label=name)  # fmt: skip
        panel.set(xscale="log", xlabel="condition number", title=f"refine: {method}")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("delivered by the format, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)


SUITE = Survey(
    title="which format delivers working precision, by condition number and family",
    sizes="256",
    cases=cases,
    measure=measure,
    tables=tables,
    draw=draw,
)
