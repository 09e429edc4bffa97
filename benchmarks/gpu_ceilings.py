"""What a GPU can do at most, and what the kernels of mplinalg make of it, one at a time.

- copy: bytes read and written.
- gemm: C <- C - A B of order n by cuBLAS, A of k columns. In fp16, bf16 and tf32 C is in fp32, as
  in the update of a factorization, and bounded by traffic for small k.
- product: the same by `Ops.gemm`, from fp32 operands that are converted on the way.
- launch: from one kernel to the next.
- leaf: LU of a panel of 32 columns by one kernel; panel: by `Ops.getrf_panel`, wider ones.
- residual: b - A x and |A||x| + |b| of one and of four columns. convert: fp64 to fp32.
- factor: LU of a matrix of order 2 n in each format, without a solve.

A rate is by the classical count of flops, or by the bytes that must be moved; times are medians,
by CUDA events.
"""

import functools

import numpy as np

from mplinalg.bench import flops
from mplinalg.bench.gpu_device import timed
from mplinalg.bench.gpu_problems import normal
from mplinalg.bench.suite import Survey
from mplinalg.bench.table import parameter_names

FORMATS = ("fp16", "bf16", "tf32", "fp32", "fp64")
CONVERTED = ("fp16", "bf16", "tf32", "fp16x2")
DEPTHS = (256, 512, 1024)
LEAVES = {
    "panel_lu<32, 128, float>": 256, "panel_lu<32, 384, float>": 768, "tournament<32>": 256
}  # fmt: skip
"""Kernels, and the rows of a thread block."""
WIDTHS = (256, 1024)


def cases(sizes):
    """Everything of the first order, then of the next one."""
    return [row for n in sizes for row in of_order(n)]


def of_order(n):
    depths = [*(k for k in DEPTHS if k < n), n]
    yield {"what": "copy", "n": n}
    for name in FORMATS:
        yield from ({"what": "gemm", "format": name, "n": n, "k": k} for k in depths)
    yield {"what": "launch", "n": 1}
    for rows in (n, 4 * n):
        yield from ({"what": "leaf", "kernel": name, "n": rows} for name in LEAVES)
    for rows in (n, 4 * n):
        yield from ({"what": "panel", "n": rows, "k": k} for k in WIDTHS if k <= rows)
    for name in CONVERTED:
        yield from ({"what": "product", "format": name, "n": n, "k": k} for k in depths)
    yield from ({"what": "residual", "n": 2 * n, "k": k} for k in (1, 4))
    yield {"what": "convert", "n": 2 * n}
    yield from ({"what": "factor", "format": name, "n": 2 * n} for name in (*CONVERTED, "fp32"))


def measure(seed, what, **parameters):
    seconds, amount, unit = MEASURES[what](np.random.default_rng(seed), **parameters)
    return {"seconds": seconds, "rate": amount / seconds, "unit": unit}


def ops():
    from mplinalg.ops.cupy_ops import CupyOps

    return CupyOps()


def copy(rng, n):
    import cupy

    source = cupy.zeros((n, n))
    target = cupy.empty_like(source)
    return timed(lambda: cupy.copyto(target, source)), 2.0 * source.nbytes, "B/s"


def gemm(rng, format, n, k):

    from mplinalg.kernels.cuda import blas

    kind = "float64" if format == "fp64" else "float32"
    a, b, c = (normal(rng, shape, kind) for shape in ((n, k), (k, n), (n, n)))
    if format == "fp16":
        a, b = a.astype(np.float16), b.astype(np.float16)
    elif format == "bf16":
        a, b = ((x.view(np.uint32) >> np.uint32(16)).astype(np.uint16) for x in (a, b))
    work = functools.partial(blas.gemm, -1.0, a, b, 1.0, c)
    if format not in ("fp32", "fp64"):
        work = functools.partial(blas.gemm_low, -1.0, a, b, 1.0, c, tf32=format == "tf32")
    return timed(work), 2.0 * n * n * k, "flop/s"


def product(rng, format, n, k):
    from mplinalg.precision import FORMATS as KNOWN

    a, b, c = (normal(rng, shape, "float32") for shape in ((n, k), (k, n), (n, n)))
    backend = ops()
    seconds = timed(lambda: backend.gemm(-1.0, a, b, 1.0, c, compute=KNOWN[format]))
    return seconds, 2.0 * n * n * k, "flop/s"


def launch(rng, n):
    import cupy

    from mplinalg.kernels.cuda import loader

    result = cupy.empty(n, cupy.float32)
    return timed(lambda: loader.launch("quotient", 1, 1.0, None, None, result)), 1.0, "1/s"


def leaf(rng, kernel, n):
    """Columns per second; the copy that gives the kernel a new panel is taken off."""
    import cupy

    given = normal(rng, (n, 32), "float32")
    a = cupy.empty_like(given)
    run = (tournament if kernel.startswith("tournament") else persistent)(kernel, a)

    def renew():
        a[...] = given

    def work():
        renew()
        run()

    return max(timed(work) - timed(renew), 1e-9), 32.0, "columns/s"


def persistent(kernel, a):
    """A call of panel_lu: see panel_lu_persistent.cu for its arguments."""
    import cupy

    from mplinalg.kernels.cuda import loader

    m, n = a.shape
    blocks = -(-m // LEAVES[kernel])
    if blocks > loader.multiprocessors():
        raise ValueError(f"{m} rows are more than this device holds at once")
    slots, keys = cupy.empty(2 * blocks * n, cupy.float32), cupy.empty(8 * blocks, cupy.uint32)
    pivots, info = cupy.empty(n, cupy.int32), cupy.zeros(1, cupy.int32)
    arguments = (m, n, a, n, slots, keys, pivots, info, 0, None, 0, 1.0, 0)
    return lambda: loader.launch(kernel, blocks, *arguments)


def tournament(kernel, a):
    """The rounds of the tournament, and panel_rows: see panel_lu.cu."""
    import cupy

    from mplinalg.kernels.cuda import loader

    m, n = a.shape
    pivots, info = cupy.empty(n, cupy.int32), cupy.zeros(1, cupy.int32)
    group, calls, candidates, count = LEAVES[kernel], [], None, m
    while True:
        blocks = -(-count // group)
        winners = cupy.empty(blocks * n, cupy.int32)
        last = pivots if blocks == 1 else None
        calls.append((kernel, blocks, count, n, a, n, candidates, winners, last, info, 0))
        if blocks == 1:
            break
        count, candidates = (blocks - 1) * n + min(n, count - (blocks - 1) * group), winners
    calls.append(("panel_rows<32>", -(-(m - n) // group), m, n, a, n, None, 0, 1.0, 0))

    def run():
        for call in calls:
            loader.launch(*call)

    return run


def panel(rng, n, k):
    import cupy

    given, backend = normal(rng, (n, k), "float32"), ops()
    a = cupy.empty_like(given)

    def renew():
        a[...] = given

    def work():
        renew()
        backend.getrf_panel(a)

    return max(timed(work) - timed(renew), 1e-9), float(k), "columns/s"


def residual(rng, n, k):
    import cupy

    backend, a = ops(), normal(rng, (n, n), "float64")
    x, b = (cupy.asfortranarray(normal(rng, (n, k), "float64")) for _ in range(2))
    return timed(lambda: backend.residual(a, x, b)), float(a.nbytes), "B/s"


def convert(rng, n):
    import cupy

    backend, a = ops(), normal(rng, (n, n), "float64")
    target = cupy.empty((n, n), cupy.float32)
    return timed(lambda: backend.convert(a, target)), float(a.nbytes + target.nbytes), "B/s"


def factor(rng, format, n):
    import mplinalg

    a = normal(rng, (n, n), "float64")
    seconds = timed(lambda: mplinalg.lu_factor(a, precision=format))
    return seconds, flops.lu_solve(n, 0, "float64"), "flop/s"


MEASURES = {
    "copy": copy, "gemm": gemm, "product": product, "launch": launch, "leaf": leaf, "panel": panel,
    "residual": residual, "convert": convert, "factor": factor,
}  # fmt: skip


def tables(records):
    """All of it in one table."""
    names = parameter_names(records)
    rows = []
    for record in records:
        parameters, found = record["parameters"], record["findings"]
        cells = [str(parameters.get(name, "-")) for name in names]
        rows.append([*cells, f"{1e6 * found['seconds']:.2f}", rate_text(found)])
    return [("ceilings and kernels", [*names, "time\nµs", "rate"], rows)]


def rate_text(found):
    """TFLOP/s, GB/s, or microseconds of a column."""
    rate, unit = found["rate"], found["unit"]
    if unit == "flop/s":
        return f"{rate / 1e12:.2f} TFLOP/s"
    if unit == "B/s":
        return f"{rate / 1e9:.0f} GB/s"
    return f"{1e6 / rate:.3f} µs each"


SUITE = Survey(
    title="rates of products, of the copy, and of single kernels",
    sizes="8192",
    cases=cases,
    measure=measure,
    tables=tables,
    device="cuda",
)
