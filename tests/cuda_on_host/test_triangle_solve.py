"""triangle_solve.cu: a triangular system with few right-hand sides, in one launch."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from .module import LaunchError
from .mutation import barriers

FILE = "triangle_solve.cu"
NB, THREADS = 128, 256
U = 2.0**-24
INSTANCES = [(1, False), (1, True), (4, False), (4, True)]
SIZES = [1, 5, 127, 128, 129, 300]


def name_of(most, transposed):
    return f"triangle_solve<{most}, {str(transposed).lower()}>"


class System:
    """op(T) X = B, with what the kernel must not read made NaN.

    That is the other triangle, the diagonal blocks, of which the inverses are given, and padding.
    """

    def __init__(self, rng, n, *, lower, transposed, columns=1, unit=False):
        full = rng.standard_normal((n, n)).astype(np.float32) / np.float32(np.sqrt(n))
        full[np.arange(n), np.arange(n)] = 1 if unit else rng.choice([-2, 2], n)
        triangle = np.tril(full) if lower else np.triu(full)
        self.n, self.lower, self.transposed, self.columns = n, lower, transposed, columns
        self.op = (triangle.T if transposed else triangle).astype(float)
        self.blocks = -(-n // NB)
        whole = np.full((n, n + 3), np.nan, np.float32)
        self.t = whole[:, :n]
        block = np.arange(n) // NB
        is_read = block[:, None] > block if lower else block[:, None] < block
        self.t[is_read] = triangle[is_read]
        self.inverses = np.zeros((self.blocks, NB, NB), np.float32)
        for k in range(self.blocks):
            rows = slice(NB * k, min(NB * k + NB, n))
            width = rows.stop - rows.start
            self.inverses[k] = np.eye(NB)
            self.inverses[k, :width, :width] = np.linalg.inv(triangle[rows, rows].astype(float))
        self.b = padded(rng.standard_normal((n, columns)))

    @property
    def order(self):
        """Of the blocks, as they are solved."""
        forward = self.lower != self.transposed
        return range(self.blocks) if forward else range(self.blocks - 1, -1, -1)

    def solve(self, module, *, most=None, b=None, x=None, sources=None, targets=None, answer=None,
              state=None, **options):  # fmt: skip
        """X; `b` may be it."""
        b = self.b if b is None else b
        is_new = x is None
        x = padded(np.full(self.b.shape, np.nan)) if is_new else x
        state = new_state(self.n) if state is None else state
        module[name_of(most or (1 if self.columns == 1 else 4), self.transposed)](
            self.blocks, THREADS,
            [self.n, self.t, stride(self.t.T), self.inverses, int(self.lower), self.columns,
             b, stride(b), sources, x, stride(x), targets, answer,
             0 if answer is None else stride(answer), state],
            uninitialised=[9] if is_new else [], **options,
        )  # fmt: skip
        assert state[0] == 0
        assert len(set(state[1:])) == 1
        return x

    def assert_solved(self, x, b=None):
        """Backward error of each column."""
        b = self.b if b is None else b
        for c in range(self.columns):
            y, rhs = x[:, c].astype(float), b[:, c].astype(float)
            size = abs(self.op) @ abs(y) + abs(rhs)
            assert abs(rhs - self.op @ y).max() <= 30 * self.n * U * size.max()


def padded(x):
    """By columns, with numbers between them that nobody may touch."""
    whole = np.full((len(x) + 2, x.shape[1]), 7, np.float32, order="F")
    whole[: len(x)] = x
    return whole[: len(x)]


def stride(x):
    return x.strides[1] // x.itemsize


def new_state(n):
    return np.zeros(1 + -(-n // NB), np.uint32)


def untouched(x):
    """What stands beside the columns."""
    return (x.base[len(x) :] == 7).all()


@pytest.mark.parametrize(("most", "transposed"), INSTANCES)
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("n", SIZES)
def test_solves(compiled, rng, schedule, checked, n, lower, most, transposed):
    system = System(rng, n, lower=lower, transposed=transposed, columns=most)
    x = system.solve(compiled(FILE, checked=checked), schedule=schedule, resident=3)
    system.assert_solved(x)
    assert untouched(x)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_fewer_columns(compiled, rng, columns, transposed):
    """Of the columns that there are none is read or written beyond, and each is solved alone."""
    system = System(rng, 200, lower=True, transposed=transposed, columns=columns)
    x = system.solve(compiled(FILE, checked=True), most=4)
    system.assert_solved(x)
    for c in range(columns):
        whole = System(rng, 200, lower=True, transposed=transposed, columns=4)
        whole.t, whole.inverses, whole.op = system.t, system.inverses, system.op
        whole.b[:, 3] = system.b[:, c]
        np.testing.assert_array_equal(whole.solve(compiled(FILE))[:, 3], x[:, c])


@pytest.mark.parametrize(("most", "transposed"), INSTANCES)
def test_in_place(compiled, rng, schedule, most, transposed):
    system = System(rng, 300, lower=False, transposed=transposed, columns=most)
    expected = system.solve(compiled(FILE))
    x = padded(system.b)
    system.solve(compiled(FILE, checked=True), b=x, x=x, schedule=schedule, resident=3)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(("most", "transposed"), INSTANCES)
def test_rows_in_another_order(compiled, rng, schedule, most, transposed):
    """Of B as it is read, and of X as it is written a second time."""
    n = 300
    system = System(rng, n, lower=True, transposed=transposed, columns=most)
    order = rng.permutation(n).astype(np.int32)
    module = compiled(FILE, checked=True)
    expected = system.solve(module)
    b = padded(np.zeros((n, most)))
    b[order] = system.b
    x = system.solve(module, b=b, sources=order, schedule=schedule, resident=3)
    np.testing.assert_array_equal(x, expected)
    answer = padded(np.full((n, most), np.nan))
    x = system.solve(module, targets=order, answer=answer, schedule=schedule, resident=3)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(answer[order], expected)
    assert untouched(answer)


@pytest.mark.parametrize(("most", "transposed"), INSTANCES)
def test_the_same_in_every_run(compiled, rng, most, transposed):
    """However many blocks there are at once, and whichever comes first."""
    system = System(rng, 600, lower=True, transposed=transposed, columns=most)
    expected = system.solve(compiled(FILE))
    system.assert_solved(expected)
    for schedule, resident in itertools.product(("reverse", 1, 2, 3), (1, 2, 5)):
        x = system.solve(compiled(FILE), schedule=schedule, resident=resident)
        np.testing.assert_array_equal(x, expected)


def test_blocks_wait(emulated, rng):
    """Some seed lets one look for a flag more often than once, or the tests would be of no use."""
    system = System(rng, 300, lower=True, transposed=False)
    module, looks = emulated(FILE, checked=True), set()
    for seed in range(1, 9):
        system.solve(module, schedule=seed, resident=3)
        looks.add(module.counts.accesses)
    assert len(looks) > 1


def test_one_state_for_many_launches(compiled, rng, schedule):
    """Of any instance; and the numbers of launches may wrap around."""
    state = new_state(300)
    state[1:] = 2**32 - 3
    for launch, (lower, (most, transposed)) in enumerate(
        itertools.product((True, False), INSTANCES), 1
    ):
        system = System(rng, 300, lower=lower, transposed=transposed, columns=most)
        module = compiled(FILE, checked=True)
        x = system.solve(module, state=state, schedule=schedule, resident=3)
        system.assert_solved(x)
        assert (state[1:] == (launch - 3) % 2**32).all()


@pytest.mark.parametrize(("most", "transposed"), INSTANCES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("lower", [True, False])
def test_what_is_not_finite_in_b(compiled, rng, schedule, value, lower, most, transposed):
    """It spoils its column from its block on, no other column, and nothing that came before."""
    system = System(rng, 300, lower=lower, transposed=transposed, columns=most)
    expected = system.solve(compiled(FILE))
    place, column = 170, most - 1
    system.b[place, column] = value
    x = system.solve(compiled(FILE), schedule=schedule, resident=3)
    others = [c for c in range(most) if c != column]
    np.testing.assert_array_equal(x[:, others], expected[:, others])
    block = np.arange(300) // NB
    first, middle, end = (block == k for k in system.order)
    np.testing.assert_array_equal(x[first], expected[first])
    assert not np.isfinite(x[place, column])
    assert not np.isfinite(x[end, column]).any()
    assert middle[place]


@pytest.mark.parametrize(("most", "transposed"), INSTANCES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_singular_diagonal(compiled, rng, schedule, value, most, transposed):
    """The inverse is not finite from that column on: nor is X, and nobody waits for ever."""
    system = System(rng, 300, lower=True, transposed=transposed, columns=most)
    expected = system.solve(compiled(FILE))
    inverse = system.inverses[1]
    inverse[40, 40] = inverse[41:, 40] = value
    x = system.solve(compiled(FILE), schedule=schedule, resident=3)
    block = np.arange(300) // NB
    first, _, end = (block == k for k in system.order)
    np.testing.assert_array_equal(x[first], expected[first])
    assert not np.isfinite(x[NB + 40]).any()
    assert not np.isfinite(x[end]).any()


def test_ends_of_the_range(compiled, rng):
    """Powers of two change nothing but the scale."""
    system = System(rng, 300, lower=True, transposed=False)
    expected = system.solve(compiled(FILE))
    for power in (-60, 60):
        b = padded(np.ldexp(system.b, power))
        x = system.solve(compiled(FILE), b=b)
        np.testing.assert_array_equal(np.ldexp(x, -power), expected)


def test_barriers(emulated, rng):
    """One a tile, and three (transposed: five) a block."""
    for transposed, each in ((False, 3), (True, 5)):
        module = emulated(FILE)
        System(rng, 600, lower=True, transposed=transposed).solve(module)
        assert module.counts.barriers == 5 * each + 4 * 5 // 2


@pytest.mark.parametrize(("most", "transposed"), INSTANCES)
def test_an_entry_is_read_once(emulated, rng, most, transposed):
    """A further tile takes fewer accesses, with all to X and to shared memory, than two to each."""
    module, found = emulated(FILE, checked=True), []
    for blocks in range(1, 5):
        system = System(rng, NB * blocks, lower=True, transposed=transposed, columns=most)
        system.solve(module)
        found.append(module.counts.accesses)
    first, second = np.diff(found, 2)
    assert first == second
    assert NB * NB <= first < 2 * NB * NB


# -- what must not be left out --------------------------------------------------------------------


def solve_often(module, rng, *, most=1, transposed=False, resident=3):
    """Under several schedules, twice with one state."""
    system = System(rng, 300, lower=True, transposed=transposed, columns=most)
    for schedule in ("forward", "reverse", 1, 2, 3, 4):
        state = new_state(300)
        for _ in range(2):
            system.solve(module, state=state, schedule=schedule, resident=resident)


# the first one in the file is of the instances for the transpose alone
BARRIERS = [
    pytest.param(edit, *instance, id=f"{edit.__name__}-{name_of(*instance)}")
    for place, edit in enumerate(barriers(FILE))
    for instance in INSTANCES
    if place > 0 or instance[1]
]


@pytest.mark.parametrize(("edit", "most", "transposed"), BARRIERS)
def test_every_barrier_is_needed(broken, rng, edit, most, transposed):
    module = broken(FILE, edit, name_of(most, transposed))
    with pytest.raises(LaunchError, match=r"race|nobody wrote|deadlock"):
        solve_often(module, rng, most=most, transposed=transposed)


def substitute(pattern, replacement):
    def edit(text):
        changed, count = re.subn(pattern, replacement, text)
        assert count == 1
        return changed

    return edit


MESSAGES = {
    "relaxed release": (r"store_release\((.*), up\)", r"atomicExch(\1, up)"),
    "plain release": (r"store_release\((.*), up\)", r"*(\1) = up"),
    "relaxed acquire": (r"load_acquire\((.*)\) != up", r"atomicAdd(\1, 0u) != up"),
    "plain acquire": (r"load_acquire\((.*)\) != up", r"*const_cast<volatile unsigned*>(\1) != up"),
    "no waiting": (r"while \(load_acquire.*;", ""),
    "too early": (r"(?s)( +if \(threadIdx.x == 0\) store_release.*?\n)", ""),
    "of an earlier launch": (r"const unsigned up = .*;", "const unsigned up = 1;"),
    "by place in the grid": (r"drawn = static_cast.*;", "drawn = blockIdx.x;"),
}


@pytest.mark.parametrize("how", MESSAGES)
def test_every_message_is_needed(broken, rng, how):
    module = broken(FILE, substitute(*MESSAGES[how]), name_of(1, False))
    resident = 2 if how == "by place in the grid" else 3  # of three blocks
    with pytest.raises(LaunchError, match=r"race|nobody wrote|deadlock"):
        solve_often(module, rng, resident=resident)
