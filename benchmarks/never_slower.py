"""Never slower than SciPy: a sweep over functions, structures, dtypes, columns, layouts and sizes.

Every function of mplinalg against its namesake in SciPy, called with the same arguments. Problems
of a few rows are where overhead shows, so sizes start at 1. All combinations would take days; what
is covered, in this order, is each line below at all sizes up to 1024, and then at the larger ones:

1. solve, general, float64, one right-hand side, C order: what most calls are
2. solve, each structure, asserted and detected
3. solve, each dtype
4. solve, 2, 8, 64 and n right-hand sides
5. lu_factor + lu_solve, cho_factor + cho_solve, lstsq and qr of tall matrices, (4 n, n)
6. the layout F: solve, general and positive definite
7. all that is left of the pairs function and dtype, and complex positive definite systems

``--budget`` ends the sweep early, and the rows that were not reached are listed. A row counts as
slower if the upper quartile of its ratios is below 1; such rows are listed at the end.
"""

import numpy as np
import scipy.linalg

import mplinalg
from mplinalg.bench import checks, flops
from mplinalg.bench.problems import normal, positive_definite
from mplinalg.bench.suite import Problem, Suite
from mplinalg.bench.table import aligned, parameter_names, ratio_text

SIZES = "1,2,3,4,5,8,10,16,20,32,50,64,100,128,200,256,300,400,512,700,1024,2048,4096"
TALL = 4
PLAIN = {"function": "solve", "structure": "general", "assumed": "no", "dtype": "float64",
         "nrhs": 1, "order": "C"}  # fmt: skip
ASSUMED = {
    "general": "gen", "positive definite": "pos", "symmetric": "sym", "hermitian": "her",
    "diagonal": "diagonal", "tridiagonal": "tridiagonal", "banded": "banded",
    "upper triangular": "upper triangular", "lower triangular": "lower triangular",
}  # fmt: skip
DTYPES = ("float32", "float64", "complex64", "complex128")
LARGE = 1024
OTHERS = ("lu", "cho", "lstsq", "qr")


def cases(sizes):
    """Parameters of all rows, the most important ones first; see the head of this file."""
    kinds = [{}]
    for structure in ASSUMED:
        dtype = "complex128" if structure == "hermitian" else "float64"
        kinds += [{"structure": structure, "dtype": dtype, "assumed": a} for a in ("yes", "no")]
    kinds += [{"dtype": dtype} for dtype in DTYPES]
    kinds += [{"nrhs": nrhs} for nrhs in (2, 8, 64, "n")]
    kinds += [function_kind(name, "float64") for name in OTHERS]
    kinds += [{"order": "F", "structure": s} for s in ("general", "positive definite")]
    kinds += [function_kind(name, dtype) for name in OTHERS for dtype in DTYPES]
    kinds += [{"structure": "positive definite", "assumed": "yes", "dtype": d} for d in DTYPES]
    rows = {}
    for kind in kinds:
        for n in sizes:
            row = {**PLAIN, **kind, "n": n}
            row["nrhs"] = n if row["nrhs"] == "n" else row["nrhs"]
            rows[tuple(row.values())] = row
    return sorted(rows.values(), key=lambda row: row["n"] > LARGE)  # stable


def function_kind(name, dtype):
    structure = {"cho": "positive definite", "lstsq": "tall", "qr": "tall"}.get(name, "general")
    return {"function": name, "dtype": dtype, "structure": structure}


def build(rng, function, structure, assumed, dtype, nrhs, order, n):
    a = np.asarray(draw(rng, structure, n, dtype), order=order)
    b = normal(rng, a.shape[0] if nrhs == 1 else (a.shape[0], nrhs), dtype)
    assume_a = ASSUMED[structure] if assumed == "yes" else None

    def call(library, **options):
        if function == "lu":
            return library.lu_solve(library.lu_factor(a), b, **options)
        if function == "cho":
            return library.cho_solve(library.cho_factor(a), b, **options)
        if function == "lstsq":
            return library.lstsq(a, b, **options)
        if function == "qr":
            return library.qr(a, mode="economic", **options)
        return library.solve(a, b, assume_a=assume_a, **options)

    if function == "lstsq":
        by_vector = checks.least_squares_error(a, b)
        error, count = (
            lambda answer: by_vector(answer[0]),
            flops.least_squares(TALL * n, n, 1, dtype),
        )
    elif function == "qr":
        error, count = checks.qr_error(a), flops.qr_economic(TALL * n, n, dtype)
    else:
        error, count = checks.solve_error(a, b), flops_of(structure, n, nrhs, dtype)
    return Problem(
        ours=lambda: call(mplinalg),
        peers={"scipy": lambda: call(scipy.linalg)},
        report=lambda: call(mplinalg, full_output=True)[-1],
        error=error,
        bound=checks.bound(a.shape[0], dtype),
        dtype=dtype,
        flops=count,
    )


def draw(rng, structure, n, dtype):
    """A matrix of the structure; where there is freedom, with a condition number far below 1e6."""
    if structure == "positive definite":
        return positive_definite(rng, n, dtype)
    a = normal(rng, (TALL * n if structure == "tall" else n, n), dtype)
    if structure == "symmetric":
        return a + a.T
    if structure == "hermitian":
        return a + a.conj().T
    width = {"diagonal": 0, "tridiagonal": 1, "banded": max(n // 16, 2)}.get(structure)
    if width is not None:
        dominant = np.eye(n, dtype=dtype) * (4 + 4 * width)
        return np.triu(np.tril(a, width), -width) + dominant
    if "triangular" in structure:
        triangle = np.triu if structure == "upper triangular" else np.tril
        return triangle(a / np.asarray(np.sqrt(n), a.dtype)) + 3 * np.eye(n, dtype=dtype)
    return a


def flops_of(structure, n, nrhs, dtype):
    """Classical count of a solve; None for diagonals and bands, whose counts nobody quotes."""
    if structure in ("diagonal", "tridiagonal", "banded"):
        return None
    if "triangular" in structure:
        return flops.triangular_solve(n, nrhs, dtype)
    is_symmetric = structure in ("symmetric", "hermitian", "positive definite")
    return (flops.cholesky_solve if is_symmetric else flops.lu_solve)(n, nrhs, dtype)


def summary(records):
    """The rows in which SciPy was the faster one, worst first."""
    found = [r for r in records if r.get("peers", {}).get("scipy", {}).get("ratio")]
    slower = [r for r in found if r["peers"]["scipy"]["ratio"]["q3"] < 1]
    head = f"slower than SciPy: {len(slower)} of {len(found)} rows"
    if not slower:
        return head
    slower.sort(key=lambda r: r["peers"]["scipy"]["ratio"]["median"])
    names = parameter_names(slower)
    rows = [[*(str(r["parameters"][name]) for name in names), ratio_text(r["peers"]["scipy"])]
            for r in slower]  # fmt: skip
    return head + "\n\n" + aligned([*names, "scipy / ours\nmedian [q1, q3]"], rows)


SUITE = Suite(
    title="functions of mplinalg against their namesakes in SciPy",
    sizes=SIZES,
    cases=cases,
    peers={"scipy": "the function of the same name in scipy.linalg"},
    default_peers=("scipy",),
    error_measure="that of dense_solve, least_squares or qr, as the function",
    build=build,
    summary=summary,
)
