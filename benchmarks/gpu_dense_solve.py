"""General dense systems on a GPU: A x = b, one right-hand side, double precision, real and complex.

A is random normal, in C order, drawn on the device, so its condition number is about n. mplinalg
factors it in the cheapest format that the device and the matrix allow, and refines on the device.
The order of the rows is that of their importance: a budget costs the extremes.

- cusolver: what most people call: LU in double precision.
- irs-fp16, irs-bf16, irs-tf32: cuSOLVER's own solvers with low-precision factors and iterative
  refinement. Where these do not converge they fall back to double precision, and the time shows it.
- torch: linalg.solve, up to order 16384.

After the table: what the model of `mplinalg.bench.gpu_model` predicts for the ceilings of the run.
"""

import dataclasses

from mplinalg.bench import gpu_model
from mplinalg.bench.gpu_peers import irs_solve, torch_solve
from mplinalg.bench.gpu_problems import normal, system
from mplinalg.bench.row import OK
from mplinalg.bench.suite import Suite
from mplinalg.bench.table import aligned, ceilings

MOST_COMPLEX = 16384


def cases(sizes):
    """Real ones of all orders first."""
    return [{"n": n, "dtype": "float64"} for n in sizes] + [
        {"n": n, "dtype": "complex128"} for n in sizes if n <= MOST_COMPLEX
    ]


def build(rng, n, dtype):
    import cupy

    a, b = normal(rng, (n, n), dtype), normal(rng, n, dtype)
    peers = {
        "cusolver": lambda: cupy.linalg.solve(a, b),
        "irs-fp16": lambda: irs_solve(a, b, "fp16"),
        "irs-bf16": lambda: irs_solve(a, b, "bf16"),
        "irs-tf32": lambda: irs_solve(a, b, "tf32"),
        "torch": lambda: torch_solve(a, b),
    }
    return system(a, b, peers)


def summary(records):
    """Measured against predicted, of the real rows."""
    found = [r for r in records if r["status"] == OK and r["dtype"] == "float64"]
    rates = ceilings(found)
    if rates is None:
        return ""
    device = dataclasses.replace(
        gpu_model.H200, low=1e9 * rates["half"], single=1e9 * rates["single"],
        copy=1e9 * rates["copy"],
    )  # fmt: skip
    rows = []
    for record in found:
        n, seconds = record["parameters"]["n"], record["ours"]["seconds"]["median"]
        predicted = gpu_model.predict(n, device)
        rows.append([
            str(n), f"{record['ours']['gflops'] / 1e3:.2f}", f"{predicted.rate / 1e12:.2f}",
            f"{seconds / predicted.seconds:.2f}", predicted.bound,
        ])  # fmt: skip
    heads = ["n", "measured\nTFLOP/s", "predicted\nTFLOP/s", "measured /\npredicted, s", "bound"]
    return aligned(heads, rows)


SUITE = Suite(
    title="A x = b, A general, one right-hand side",
    sizes="16384,8192,32768,4096,2048,1024,65536,100000",
    cases=cases,
    peers={
        "cusolver": "cupy.linalg.solve(a, b)",
        "irs-fp16": "cusolverDnDHgesv, cusolverDnZKgesv",
        "irs-bf16": "cusolverDnDBgesv, cusolverDnZEgesv",
        "irs-tf32": "cusolverDnDXgesv, cusolverDnZYgesv",
        "torch": "torch.linalg.solve(a, b)",
    },
    default_peers=("cusolver", "irs-fp16", "irs-bf16", "irs-tf32", "torch"),
    error_measure="normwise backward error",
    build=build,
    summary=summary,
    device="cuda",
)
