"""How accurate the algorithms of convolution are: y, dx and dw by format of the products.

Random normal images (2, 64, n, n), 3 by 3 kernels (64, 64, 3, 3), padding 1. Errors are root mean
squares over the root mean square of the result in double precision by "gemm".
"""

import numpy as np

from mplinalg.bench.suite import Survey
from mplinalg.nn import convolution

ALGORITHMS = ("gemm", "direct", "fft", "winograd")
ROUNDED = ("fp16", "bf16")
FORMATS = ("fp64", "fp32", *ROUNDED)
RESULTS = ("y", "dx", "dw")


def measure(seed, n, algorithm):
    rng = np.random.default_rng(seed)
    x, w, grad = (rng.standard_normal(s) for s in ((2, 64, n, n), (64, 64, 3, 3), (2, 64, n, n)))
    exact = results(x, w, grad, "gemm" if algorithm != "gemm" else "fft", None)
    outcomes = []
    for name in FORMATS:
        kind = np.float64 if name == "fp64" else np.float32
        operands = [a.astype(kind) for a in (x, w, grad)]
        if name == "fp32":  # of what is rounded before, nobody is to blame
            exact_here = results(*(a.astype(float) for a in operands), "gemm", None)
        else:
            exact_here = exact
        precision = name if name in ROUNDED else None
        found = results(*operands, algorithm, precision)
        errors = [rms(a - b) / rms(b) for a, b in zip(found, exact_here, strict=True)]
        outcomes.append({"format": name, "errors": dict(zip(RESULTS, errors, strict=True))})
    return {"outcomes": outcomes}


def results(x, w, grad, algorithm, precision):
    options = {"padding": 1, "algorithm": algorithm, "precision": precision}
    return (
        convolution.conv2d(x, w, **options),
        convolution.conv2d_input_gradient(grad, w, x.shape, **options),
        convolution.conv2d_weight_gradient(grad, x, w.shape, **options),
    )


def rms(a):
    return float(np.sqrt(np.mean(np.square(a, dtype=float))))


def tables(records):
    found = []
    for result in RESULTS:
        rows = [
            [r["parameters"]["algorithm"], str(r["parameters"]["n"])]
            + [f"{o['errors'][result]:.1e}" for o in r["findings"]["outcomes"]]
            for r in records
            if r.get("findings")
        ]
        found.append((f"relative error of {result}", ["algorithm", "n", *FORMATS], rows))
    return found


def draw(figure, records):
    """A panel for each result: errors over the formats, a line for each algorithm and size."""
    panels = figure.subplots(1, len(RESULTS), sharey=True, squeeze=False)[0]
    for panel, result in zip(panels, RESULTS, strict=True):
        for record in records:
            given = record["parameters"]
            errors = [outcome["errors"][result] for outcome in record["findings"]["outcomes"]]
            panel.semilogy(FORMATS, errors, "o-", label=f"{given['algorithm']}, n = {given['n']}")
        panel.set_title(result)
    panels[0].set_ylabel("relative error, root mean square")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


SUITE = Survey(
    title="accuracy of the algorithms of convolution, by format",
    sizes="28",
    cases=lambda sizes: [{"n": n, "algorithm": a} for n in sizes for a in ALGORITHMS],
    measure=measure,
    tables=tables,
    draw=draw,
)
