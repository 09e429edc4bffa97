"""nn_update.cu: what all gradients say, and the updates of several tensors at once."""

import numpy as np
import pytest

from mplinalg.nn import LossScaler, optim

FILE = "nn_update.cu"
KINDS = {"f": "float", "d": "double"}
SIZES = (1, 33, 700)
(FIRST_BAD, LR, SCALE, FACTOR, GO, CLEAN, SKIPPED, NORM, COUNT, RATE, ROOT, STOPPED) = range(3, 15)


class Weight:
    def __init__(self, data):
        self.data, self.grad = data, None


def eight(arrays):
    return [*arrays, *[None] * (8 - len(arrays))]


def sizes(arrays):
    return [a.size for a in arrays] + [0] * (8 - len(arrays))


def fresh_state(lr=0.1, scale=1.0):
    state = np.zeros(16)
    state[[LR, SCALE, FACTOR, GO]] = lr, scale, 1.0, 1.0
    return state


def drawn(rng, kind, scale=1.0):
    return [(scale * rng.standard_normal(n)).astype(kind) for n in SIZES]


def judged(module, gradients, state, *, grid=2, scaler=None, max_norm=0.0, betas=(0.0, 0.0), **how):
    """square_sums and verdict; returns the seed."""
    kind = KINDS[gradients[0].dtype.char]
    partial = np.full(grid * len(gradients), np.nan)
    module[f"square_sums<{kind}>"](
        (grid, len(gradients)), 256, [*sizes(gradients), *eight(gradients), 0, partial], **how
    )
    seed = np.array([state[SCALE]], gradients[0].dtype)
    rules = (scaler.growth, scaler.backoff, scaler.interval) if scaler else (1.0, 1.0, 0.0)
    module[f"verdict<{kind}>"](
        1, 256,
        [partial.size, partial, state, seed, int(scaler is not None), *rules, max_norm, *betas],
        **how,
    )  # fmt: skip
    return seed[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_verdict(compiled, rng, schedule, checked, kind, max_norm):
    gradients, state = drawn(rng, kind, 256.0), fresh_state(scale=256.0)
    judged(compiled(FILE, checked=checked), gradients, state, max_norm=max_norm, schedule=schedule)
    norm = np.sqrt(sum((g.astype(float) ** 2).sum() for g in gradients)) / 256
    assert state[NORM] == pytest.approx(norm, rel=1e-12)
    clip = min(1.0, max_norm / (norm + 1e-6)) if max_norm else 1.0
    assert state[FACTOR] == pytest.approx(clip / 256, rel=1e-12)
    assert state[[GO, COUNT, STOPPED]].tolist() == [1, 1, 0]


def test_scales_are_those_of_the_scaler(compiled, rng):
    """Through growth, overflow, and the end."""
    scaler, state = LossScaler(2.0**-21, interval=3), fresh_state(scale=2.0**-21)
    for is_finite in [*[True] * 7, False, True, False, False, *[True] * 4]:
        gradients = drawn(rng, "f")
        if not is_finite:
            gradients[1][5] = np.inf
        seed = judged(compiled(FILE), gradients, state, scaler=scaler)
        scaler.update(is_finite)
        assert state[GO] == is_finite
        assert state[[SCALE, CLEAN, SKIPPED]].tolist() == [
            scaler.scale, scaler.clean, scaler.skipped,
        ]  # fmt: skip
        assert seed == scaler.scale
    state[SCALE] = 2.0**-24
    gradients = [np.array([np.nan], np.float32)]
    judged(compiled(FILE), gradients, state, scaler=scaler)
    assert state[[GO, STOPPED, SCALE]].tolist() == [0, 1, 2.0**-24]
    judged(compiled(FILE), drawn(rng, "f"), state, scaler=scaler)
    assert state[GO] == 0


def test_squares_beyond_single_precision(compiled):
    state = fresh_state()
    judged(compiled(FILE), [np.array([3e30, 4e30], np.float32)], state)
    assert state[NORM] == pytest.approx(5e30, rel=1e-6)
    assert state[GO] == 1


def test_gradients_that_are_not_finite_without_a_scale(compiled, rng):
    gradients, state = drawn(rng, "d"), fresh_state()
    gradients[2][3] = np.nan
    judged(compiled(FILE), gradients, state)
    assert state[[GO, STOPPED]].tolist() == [0, 1]


def updated(module, name, x, gradients, state, memory, numbers, **how):
    kind = KINDS[x[0].dtype.char]
    given = [*sizes(x), *eight(gradients), *eight(x)]
    for arrays in memory:
        given += eight(arrays)
    module[f"{name}<{kind}>"]((2, len(x)), 256, [*given, state, *numbers], **how)


OPTIMIZERS = {
    "plain": (optim.SGD, {}),
    "decay": (optim.SGD, {"weight_decay": 0.1}),
    "heavy": (optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (optim.SGD, {"momentum": 0.8, "nesterov": True}),
    "adam": (optim.Adam, {"weight_decay": 0.1}),
    "adamw": (optim.AdamW, {"weight_decay": 0.1}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_updates_of_the_optimisers(compiled, rng, schedule, checked, kind, name):
    """Three steps, as those of the CPU."""
    build, options = OPTIMIZERS[name]
    x = drawn(rng, kind)
    weights = [Weight(a.copy()) for a in x]
    optimizer = build(weights, lr=0.1, **options)
    state, memory = fresh_state(), [[np.zeros_like(a) for a in x] for _ in range(2)]
    module = compiled(FILE, checked=checked)
    for _ in range(3):
        gradients = drawn(rng, kind)
        for w, g in zip(weights, gradients, strict=True):
            w.grad = g.copy()
        optimizer.step()
        decay = optimizer.weight_decay
        if build is optim.SGD:
            some = memory[:1] if optimizer.momentum else [[]]
            numbers = [decay, optimizer.momentum, int(optimizer.nesterov), 0.0]
            updated(module, "descend", x, gradients, state, some, numbers, schedule=schedule)
        else:
            judged(module, gradients, state, betas=optimizer.betas, schedule=schedule)
            pair = (0.0, decay) if name == "adamw" else (decay, 0.0)
            numbers = [*pair, optimizer.eps, *optimizer.betas, 0.0]
            updated(module, "adam", x, gradients, state, memory, numbers, schedule=schedule)
    eps = np.finfo(kind).eps
    for a, w in zip(x, weights, strict=True):
        np.testing.assert_allclose(a, w.data, rtol=0, atol=3 * 8 * eps * (1 + abs(w.data).max()))


def test_factor_and_bound(compiled, rng):
    x, gradients, state = drawn(rng, "d"), drawn(rng, "d", 10.0), fresh_state(lr=1.0)
    state[FACTOR] = 0.25
    expected = [a - np.clip(0.25 * g, -1, 1) for a, g in zip(x, gradients, strict=True)]
    updated(compiled(FILE), "descend", x, gradients, state, [[]], [0.0, 0.0, 0, 1.0])
    for a, b in zip(x, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("entry", "value"), [(GO, 0), (FIRST_BAD, 3), (STOPPED, 1)])
def test_steps_that_are_not_done(compiled, rng, entry, value):
    x, state = drawn(rng, "f"), fresh_state()
    before, memory = [a.copy() for a in x], [[np.zeros_like(a) for a in x] for _ in range(2)]
    state[entry] = value
    numbers = [0.0, 0.0, 1e-8, 0.9, 0.99, 0.0]
    updated(compiled(FILE), "descend", x, drawn(rng, "f"), state, memory[:1], [0.1, 0.9, 0, 0.0])
    updated(compiled(FILE), "adam", x, drawn(rng, "f"), state, memory, numbers)
    for a, b in zip(x, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(m.any() for arrays in memory for m in arrays)


def test_eight_tensors(compiled, rng):
    """Each of them is its own."""
    x = [rng.standard_normal(n) for n in (5, 300, 1, 17, 2, 600, 9, 31)]
    gradients = [rng.standard_normal(a.size) for a in x]
    expected = [a - 0.1 * g for a, g in zip(x, gradients, strict=True)]
    updated(
        compiled(FILE, checked=True), "descend", x, gradients, fresh_state(), [[]],
        [0.0, 0.0, 0, 0.0],
    )  # fmt: skip
    for a, b in zip(x, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
