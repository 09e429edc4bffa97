"""What kernels do per launch, counted on the host, is what their heads and the model say.

The emulator counts barriers and, with the checker, accesses to memory: global, shared, and that by
which the lanes of a warp exchange values. So a launch is compared with a larger one that does the
same, but for more entries, rows or outputs: the difference is the traffic of these.
"""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg.bench import gpu_model

from ...cuda_on_host.conftest import emulated, kernel_cache  # noqa: F401  (fixtures)

WARP = 32
ROWS = gpu_model.DESIGN.group
LEAF = gpu_model.DESIGN.leaf


@pytest.fixture
def module(emulated):  # noqa: F811
    """module("convert.cu"): its kernels, with the access checker."""
    return lambda file: emulated(file, checked=True)


def stride(a):
    return a.strides[0] // a.itemsize


def accesses(kernels, name, grid, threads, arguments, **options):
    kernels.launch(name, grid, threads, arguments, **options)
    return kernels.counts.accesses


# -- convert.cu: one read of the source, one write of the target ---------------------------------

CONVERT_THREADS = 256


def converted(kernels, lines, length, *, left=False, right=False, sums=True, blocks=3):
    a = np.ones((lines, length))
    target = np.empty(a.shape, np.float32)
    return accesses(
        kernels, "convert<double, float>", blocks, CONVERT_THREADS,
        [lines, length, a, stride(a), target, stride(target), np.ones(lines) if left else None,
         np.ones(length) if right else None, 1, 1e300, 0.0, np.empty(lines) if sums else None,
         np.zeros(2, np.uint64)],
    )  # fmt: skip


@pytest.mark.parametrize("lines", [1, 7])
def test_convert_reads_an_entry_once_and_writes_it_once(module, lines):
    kernels = module("convert.cu")
    found = [converted(kernels, lines, length) for length in (1, 2, 33, 300, 1025)]
    assert np.diff(found).tolist() == [2 * lines * more for more in (1, 31, 267, 725)]


def test_what_convert_does_a_line(module):
    """One sum is written; a scale of the line is read by every thread, one of an entry once."""
    kernels, lines, length = module("convert.cu"), 3, 300
    plain = converted(kernels, lines, length)
    # the sum over a block: two barriers, and one over each warp; that of what is lost at the end
    assert kernels.counts.barriers == 2 * lines
    steps = WARP.bit_length() - 1
    assert kernels.counts.collectives == CONVERT_THREADS * steps * (lines + 2 * 3)
    assert plain - converted(kernels, lines, length, sums=False) == lines
    assert converted(kernels, lines, length, left=True) - plain == lines * CONVERT_THREADS
    assert converted(kernels, lines, length, right=True) - plain == lines * length


def test_convert_moves_the_bytes_of_the_model():
    assert gpu_model.BYTES["convert"] == np.float64().itemsize + np.float32().itemsize


# -- residual.cu: one read of A for K columns -----------------------------------------------------


def residual(kernels, kind, parts, most, columns, lines, length):
    a, x, b = (
        np.ones(shape, kind)
        for shape in ((lines, parts * length), (columns, parts * length), (columns, parts * lines))
    )
    r, d = np.empty_like(b), np.empty((columns, lines))
    name = {"f4": "float", "f8": "double"}[kind]
    return accesses(
        kernels, f"residual_along<{name}, {parts}, {most}, false>", -(-lines // 8), 256,
        [lines, length, a, stride(a), 0, columns, x, stride(x), b, stride(b), r, stride(r), d,
         stride(d)],
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["f8", "f4"])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("lines", [1, 9])
def test_residual_along(module, kind, parts, lines):
    kernels = module("residual.cu")
    for most in (1, 4):
        found = [residual(kernels, kind, parts, most, 1, lines, n) for n in (1, 2, 70)]
        assert kernels.counts.barriers == 0
        # an entry of A once, and one of x for each column that the instance has
        an_entry = parts * (1 + most)
        assert np.diff(found).tolist() == [lines * an_entry, 68 * lines * an_entry]
    # for each further column b, r and d
    found = [residual(kernels, kind, parts, 4, columns, lines, 7) for columns in (1, 2, 4)]
    assert np.diff(found).tolist() == [lines * (2 * parts + 1), 2 * lines * (2 * parts + 1)]


def test_residual_moves_the_bytes_of_the_model():
    assert gpu_model.BYTES["residual"] == np.float64().itemsize


# -- panel_lu.cu and panel_lu_persistent.cu: one barrier a column ----------------------------------


def panel(rng, m, n):
    """Its pivots are its first rows, so that what is done does not depend on the others."""
    a = rng.standard_normal((m, n)) / n
    a[:n] += 8 * np.eye(n)
    return a.astype(np.float32)


def play(kernels, a, *, last=False, first=None, blocks=None):
    """One round of the tournament of rows of `a`, all of them or those of `first`."""
    count, n = len(a) if first is None else len(first), a.shape[1]
    blocks = -(-count // ROWS)
    winners, pivots = np.empty(blocks * n, np.int32), np.empty(n, np.int32)
    found = accesses(
        kernels, "tournament<32>", blocks, 128,
        [count, n, a, stride(a), first, winners, pivots if last else None, np.zeros(1, np.int32),
         0],
    )  # fmt: skip
    return found, winners


def rows_of_l(kernels, a):
    m, n = a.shape
    return accesses(
        kernels, "panel_rows<32>", -(-(m - n) // ROWS), 128,
        [m, n, a, stride(a), None, 0, 1.0, 0],
    )  # fmt: skip


def persistent(kernels, a, blocks, threads=128):
    m, n = a.shape
    work = np.empty(2 * blocks * 32, np.float32), np.empty(8 * blocks, np.uint32)
    return accesses(
        kernels, f"panel_lu<32, {threads}, float>", blocks, threads,
        [m, n, a, stride(a), *work, np.empty(n, np.int32), np.zeros(1, np.int32), 0, None, 0, 1.0,
         0], cooperative=True,
    )  # fmt: skip


@pytest.mark.parametrize("m", [32, 256, 257, 700, 2300])
def test_the_rounds_of_a_tournament(module, rng, m):
    """One barrier a column and block, two more in the last round; as many rounds as modelled."""
    kernels, a, candidates, launches = module("panel_lu.cu"), panel(rng, m, LEAF), None, 0
    while True:
        count = m if candidates is None else len(candidates)
        blocks = -(-count // ROWS)
        is_last = blocks == 1
        _, winners = play(kernels, a, last=is_last, first=candidates)
        launches += 1
        steps = [min(LEAF, count - begin) for begin in range(0, count, ROWS)]
        assert kernels.counts.barriers == sum(steps) + (2 if is_last else 0)
        if is_last:
            break
        candidates = winners[: sum(steps)]
    assert launches == gpu_model.rounds(m)


@pytest.mark.parametrize("n", [32, 27])
def test_a_row_of_a_tournament_is_read_once(module, rng, n):
    kernels = module("panel_lu.cu")
    found = [play(kernels, panel(rng, m, n))[0] for m in (100, 101, 120)]
    assert np.diff(found).tolist() == [n, 19 * n]


@pytest.mark.parametrize("n", [32, 27])
def test_a_row_of_l_is_read_and_written_once(module, rng, n):
    """And goes through shared memory in between: written there by whole warps, read once."""
    kernels = module("panel_lu.cu")
    found = []
    for m in (100, 101, 120):
        found.append(rows_of_l(kernels, panel(rng, m, n)))
        assert kernels.counts.barriers == 1
    assert np.diff(found).tolist() == [3 * n, 3 * 19 * n]


@pytest.mark.parametrize("n", [32, 27])
def test_a_row_of_a_persistent_panel_is_read_and_written_once(module, rng, n):
    """And goes through shared memory on the way back, as above."""
    kernels = module("panel_lu_persistent.cu")
    found = [persistent(kernels, panel(rng, m, n), 1) for m in (100, 101, 120)]
    assert np.diff(found).tolist() == [3 * n, 3 * 19 * n]


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_barriers_of_a_persistent_panel(module, rng, blocks):
    """One of each block a column, besides that of the grid."""
    kernels = module("panel_lu_persistent.cu")
    persistent(kernels, panel(rng, 100 * blocks, 27), blocks)
    assert kernels.counts.barriers == 27 * blocks


def test_leaves_move_the_bytes_of_the_model():
    single = np.float32().itemsize
    read_by_round, read_and_written = 1, 2
    assert gpu_model.BYTES["tournament"] == (read_by_round + read_and_written) * single
    assert gpu_model.BYTES["persistent"] == read_and_written * single


# -- block_lu.cu: one barrier a column -------------------------------------------------------------


@pytest.mark.parametrize(("order", "n"), [(64, 64), (64, 41), (128, 128), (128, 97)])
def test_block_lu(module, rng, order, n):
    kernels, a = module("block_lu.cu"), panel(rng, n, n)
    inverses = np.empty((2, order, order), np.float32)
    kernels.launch(
        f"block_lu<{order}>", 1, 256,
        [n, a, stride(a), *inverses, None, 0, np.zeros(1, np.int32)],
    )  # fmt: skip
    assert kernels.counts.barriers == n


@pytest.mark.parametrize(("order", "n"), [(64, 64), (64, 150), (128, 128)])
def test_each_inverse_is_written_once(module, rng, order, n):
    kernels, a = module("block_lu.cu"), panel(rng, n, n)
    blocks = -(-n // order)
    lower, upper = np.empty((2, blocks, order, order), np.float32)

    def found(*inverses):
        return accesses(
            kernels, f"triangle_inverse<{order}>", blocks, 256,
            [n, a, stride(a), *inverses, None, 0, np.zeros(1, np.int32)],
        )  # fmt: skip

    both = found(lower, upper)
    assert kernels.counts.barriers == n
    assert both - found(lower, None) == both - found(None, upper) == blocks * order**2
