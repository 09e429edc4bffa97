"""Never slower than SciPy: a sweep over functions, structures, dtypes, columns, layouts and sizes.

Every function of mplinalg against its namesake in SciPy, called with the same arguments, from
n = 1 on, where overhead shows, to 16384. All combinations would take days. What is covered, and up
to which n, in the order of `kinds`:

- all n: solve, general, float64, one right-hand side, C order: what most calls are
- 8192: solve, positive definite, float64
- 4096: solve, each real structure, not told; each dtype; 8 and 64 right-hand sides; lu_factor +
  lu_solve and cho_factor + cho_solve, float64
- 2048: solve, 512 and n right-hand sides
- below 2048: lstsq and qr of tall matrices, (4 n, n); the layout F; structures asserted, and
  hermitian ones; all that is left of the pairs function and dtype; complex positive definite ones

Rows come in `TIERS` of n, and each tier goes through all kinds: ``--budget`` ends the sweep early,
and what it costs is the largest orders. A row counts as slower if the upper quartile of its ratios
is below 1; how many are so by the median is said too. Slower rows are listed at the end.

The calls are the same, the work is not always: `scipy.linalg.lstsq` computes the singular values,
those of mplinalg's result are lazy, that is, computed when they are read, which is not done here.
`least_squares` has peers that do no such work. The traffic of rows that gelsd itself solves, those
of small lstsq, is not modelled.
"""

import numpy as np
import scipy.linalg

import mplinalg
from mplinalg.bench import checks, flops, traffic
from mplinalg.bench.problems import normal, positive_definite
from mplinalg.bench.suite import Problem, Suite
from mplinalg.bench.table import aligned, parameter_names, ratio_text

SIZES = "1,4,16,33,64,100,256,300,512,700,1000,2048,4096,8192,16384"
TALL = 4
PLAIN = {"function": "solve", "structure": "general", "assumed": "no", "dtype": "float64",
         "nrhs": 1, "order": "C"}  # fmt: skip
ASSUMED = {
    "general": "gen", "positive definite": "pos", "symmetric": "sym", "hermitian": "her",
    "diagonal": "diagonal", "tridiagonal": "tridiagonal", "banded": "banded",
    "upper triangular": "upper triangular", "lower triangular": "lower triangular",
}  # fmt: skip
SYMMETRIC = ("symmetric", "hermitian", "positive definite")
DTYPES = ("float32", "float64", "complex64", "complex128")
OTHERS = ("lu", "cho", "lstsq", "qr")
ALL, BELOW_2048 = float("inf"), 2047
TIERS = (300, 1024, 2048, 4096, 8192)


def kinds():
    """Pairs: the largest n of a kind of rows, and where its parameters differ from `PLAIN`."""
    yield ALL, {}
    yield 8192, {"structure": "positive definite"}
    real = [structure for structure in ASSUMED if structure != "hermitian"]
    yield from ((4096, {"structure": structure}) for structure in real)
    yield from ((4096, {"dtype": dtype}) for dtype in DTYPES)
    yield from ((4096, {"nrhs": nrhs}) for nrhs in (8, 64))
    yield from ((2048, {"nrhs": nrhs}) for nrhs in (512, "n"))
    yield from ((4096, function_kind(name, "float64")) for name in ("lu", "cho"))
    yield from ((BELOW_2048, function_kind(name, "float64")) for name in ("lstsq", "qr"))
    yield BELOW_2048, {"nrhs": 2}
    yield from ((BELOW_2048, {"structure": s, "assumed": "yes"}) for s in real)
    hermitian = {"structure": "hermitian", "dtype": "complex128"}
    yield from ((BELOW_2048, {**hermitian, "assumed": assumed}) for assumed in ("no", "yes"))
    for structure in ("general", "positive definite"):
        yield BELOW_2048, {"order": "F", "structure": structure}
    for name in OTHERS:
        yield from ((BELOW_2048, function_kind(name, dtype)) for dtype in DTYPES)
    told = {"structure": "positive definite", "assumed": "yes"}
    yield from ((BELOW_2048, {**told, "dtype": dtype}) for dtype in DTYPES)


def cases(sizes):
    """Parameters of all rows: the tiers of n in turn, in each the most important kinds first."""
    rows = {}
    for largest, kind in kinds():
        for n in sizes:
            row = {**PLAIN, **kind, "n": n}
            if row["nrhs"] == "n":
                row["nrhs"] = n
            elif row["nrhs"] == 512 and n < 512:
                continue
            if n <= largest:
                rows[tuple(row.values())] = row
    return sorted(rows.values(), key=lambda row: sum(row["n"] > most for most in TIERS))  # stable


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
        traffic=lambda report: traffic_of(function, structure, n, nrhs, dtype, report),
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
    count = flops.cholesky_solve if structure in SYMMETRIC else flops.lu_solve
    return count(n, nrhs, dtype)


def traffic_of(function, structure, n, nrhs, dtype, report):
    """Bytes by the model of `traffic`.

    Where there is nothing to factor, A is read once, for what is not finite and for its structure,
    B is read and X written; a triangle is read again for every block of columns.
    """
    if function == "lstsq":
        return traffic.least_squares(TALL * n, n, 1, dtype, report)
    if function == "qr":
        return traffic.qr_economic(TALL * n, n, dtype, report)
    size = np.dtype(dtype).itemsize
    if structure in ("diagonal", "tridiagonal", "banded"):
        return size * n * (n + 2 * nrhs)
    if "triangular" in structure:
        return size * n * (n + n / 2 * -(-nrhs // traffic.BLOCK) + 2 * nrhs)
    # symmetric and Hermitian matrices are filled up and factored by LU
    halved = structure == "positive definite"
    return traffic.solve(n, nrhs, dtype, report, is_symmetric=halved)


def summary(records):
    """The rows in which SciPy was the faster one, worst first."""
    found = [r for r in records if r.get("peers", {}).get("scipy", {}).get("ratio")]
    ratios = [r["peers"]["scipy"]["ratio"] for r in found]
    slower = [r for r, ratio in zip(found, ratios, strict=True) if ratio["q3"] < 1]
    by_median = sum(ratio["median"] < 1 for ratio in ratios)
    head = (
        f"slower than SciPy: {len(slower)} of {len(found)} rows by the upper quartile of the "
        f"ratios, {by_median} by the median"
    )
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
