"""Training that was interrupted goes on with the same bits."""

from __future__ import annotations

import errno
import functools

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import schedules

from .models import compiled, drawn, is_same, lenet, small

pytest.importorskip("safetensors")


@functools.cache
def digits():
    pytest.importorskip("sklearn")
    x, y = nn.data.digits()
    return (x[:210], y[:210]), (x[300:400], y[300:400])  # the last batch of 50 is smaller


class Case:
    """A way to make a model, and to train it."""

    def __init__(self, precision="fp32", optimizer="SGD", schedule=None, scaler=None, **options):
        self.precision, self.optimizer = precision, optimizer
        self.schedule, self.scaler = schedule, scaler
        self.options = {"batch_size": 50, **options}

    def model(self, seed=0):
        net = lenet(seed, dropout=0.3)
        optimizer = getattr(nn.optim, self.optimizer)(net.parameters(), lr=0.02)
        return nn.Model(net).compile(
            optimizer, "cross_entropy", precision=self.precision,
            schedule=None if self.schedule is None else self.schedule(),
            scaler=None if self.scaler is None else self.scaler(),
        )  # fmt: skip

    def fit(self, model, epochs, **options):
        (x, y), held_out = digits()
        return model.fit(x, y, epochs=epochs, validation_data=held_out, **self.options, **options)


CASES = {
    "sgd": Case(schedule=lambda: schedules.Cosine(6)),
    "adam": Case(optimizer="Adam"),
    "adam in fp16, growing scale": Case(
        "fp16-mixed", "Adam", scaler=lambda: nn.LossScaler(64.0, interval=7)
    ),
    "bf16": Case("bf16-mixed"),
    "plateau": Case(optimizer="RMSprop", schedule=lambda: schedules.ReduceOnPlateau(patience=0)),
    "patience": Case(optimizer="Adam", patience=2, max_norm=1.0),
    "not shuffled": Case(shuffle=False, drop_last=True),
}


def assert_same(one, two):
    assert is_same(one.net.state_dict(), two.net.state_dict())
    for name in ("loss", "accuracy", "val_loss", "lr"):
        assert one.history[name] == two.history[name]
    assert one.epoch == two.epoch
    states = [model.optimizer.state_dict() for model in (one, two)]
    assert is_same(*[state.pop("arrays") for state in states])
    assert states[0] == states[1]
    if one.scaler is not None:
        assert one.scaler.state_dict() == two.scaler.state_dict()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("done", [1, 3])
def test_resumed_training_has_the_same_bits(name, done, tmp_path):
    case = CASES[name]
    whole = case.model()
    case.fit(whole, 6, seed=7)
    first = case.model()
    path = tmp_path / "latest.safetensors"
    interrupt(first, path, done)
    with pytest.raises(KeyboardInterrupt):
        case.fit(first, 6, seed=7, save_to=path)
    assert len(first.history) == done
    second = case.model(seed=99).load(path)
    case.fit(second, 6 - done)
    assert_same(second, whole)


def interrupt(model, path, done):
    """Have `model` stop as by Ctrl-C after a number of epochs, with the checkpoint written."""
    save = model.save

    def stopping(to):
        save(to)
        if model.epoch == done:
            raise KeyboardInterrupt

    model.save = stopping


def test_patience_goes_on_counting(tmp_path):
    """The best epoch may be one before the interruption: its parameters are in the file."""
    x, y = drawn()

    def made():
        return small(lr=30.0)  # it jumps about

    options = {"batch_size": 10, "validation_data": (x, y), "patience": 4, "seed": 0}
    whole = made()
    losses = whole.fit(x, y, epochs=200, **options)["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 5
    for done in range(best + 1, best + 5):
        first, path = made(), tmp_path / f"{done}.safetensors"
        interrupt(first, path, done)
        with pytest.raises(KeyboardInterrupt):
            first.fit(x, y, epochs=200, save_to=path, **options)
        second = made().load(path)
        second.fit(x, y, epochs=200 - done, **options)
        assert second.history["val_loss"] == losses
        assert is_same(second.net.state_dict(), whole.net.state_dict())


def test_a_finished_run_does_not_stop_the_next():
    x, y = drawn()
    model = small(lr=30.0)
    model.fit(x, y, epochs=100, batch_size=10, patience=1)
    done = model.epoch
    assert done < 100
    model.fit(x, y, epochs=2, batch_size=10, patience=1)
    assert model.epoch >= done + 2


def test_an_interrupted_run_does_not_stop_the_next(tmp_path):
    """Its best epoch was of other data; their parameters do not come back."""
    x, _ = drawn()
    model = small(loss="mse")
    interrupt(model, tmp_path, 3)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, x[:, :2], epochs=9, patience=2, save_to=tmp_path / "a.safetensors")
    before = model.net.state_dict()
    model.fit(x, x[:, :2] + 100, epochs=4, patience=2)
    assert model.epoch == 7
    assert not is_same(model.net.state_dict(), before)


def test_an_interrupted_model_can_be_used_and_trained_on():
    x, y = drawn()
    calls = []

    def loss(prediction, labels):
        calls.append(len(labels))
        if len(calls) == 10:
            raise KeyboardInterrupt
        return nn.cross_entropy(prediction, labels)

    model = small(loss=loss)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=4, batch_size=10)
    assert model.epoch == len(model.history) == 1  # one call to try it, 5 steps, 3 steps
    assert model.predict(x).shape == (50, 2)
    model.fit(x, y, epochs=1, batch_size=10)
    assert model.epoch == 2
    # the epoch that was interrupted has the order that it would have had
    assert np.isfinite(model.history["loss"]).all()


def test_the_order_is_that_of_the_seed_and_the_epoch():
    x, y = drawn()
    runs = []
    for parts in ([3], [1, 2], [1, 1, 1]):
        model = small()
        for k, epochs in enumerate(parts):
            model.fit(x, y, epochs=epochs, batch_size=16, seed=4 if k == 0 else None)
        runs.append(model.net.state_dict())
    assert all(is_same(run, runs[0]) for run in runs)


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["missing/a.safetensors", ""])
def test_a_place_where_nothing_can_be_written_is_found_before_training(where, tmp_path):
    x, y = drawn()
    model = small()
    before = model.net.state_dict()
    with pytest.raises(ValueError, match="cannot be written"):
        model.fit(x, y, save_to=tmp_path / where)
    assert is_same(model.net.state_dict(), before)
    with pytest.raises(ValueError, match="cannot be written"):
        model.save(tmp_path / where)


def test_a_full_disk_keeps_the_older_file_and_the_model(tmp_path, monkeypatch):
    x, y = drawn()
    model, path = small(), tmp_path / "a.safetensors"
    model.fit(x, y, save_to=path)
    content, state = path.read_bytes(), model.net.state_dict()

    def full(tensors, name, metadata):
        with open(name, "wb") as stream:
            stream.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        model.fit(x, y, epochs=3, save_to=path)
    assert model.epoch == len(model.history) == 2
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == content
    monkeypatch.undo()
    assert is_same(small().load(path).net.state_dict(), state)
    model.fit(x, y, save_to=path)
    assert small().load(path).epoch == 3


def test_what_safetensors_cannot_write_is_an_os_error(tmp_path):
    """A limit on the size of files is what comes nearest to a disk that is really full."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    model, path = small(), tmp_path / "a.safetensors"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"a\.safetensors: cannot be written"):
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())


def test_a_foreign_or_damaged_file_changes_nothing(tmp_path):
    x, y = drawn()
    model = small()
    model.fit(x, y)
    path = tmp_path / "a.safetensors"
    model.save(path)
    state, epoch = model.net.state_dict(), model.epoch
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    (tmp_path / "b.safetensors").write_bytes(data)
    wide = compiled(nn.Sequential(nn.Linear(5, 2, rng=0)))
    wide.save(tmp_path / "c.safetensors")
    same = nn.Sequential(nn.Linear(3, 4, rng=5), nn.Tanh(), nn.Linear(4, 2, rng=1))
    other = nn.Model(same).compile(nn.optim.Adam(same.parameters()), "cross_entropy")
    other.save(tmp_path / "d.safetensors")
    nn.checkpoint.save(
        tmp_path / "e.safetensors", same, optimizer=model.optimizer,
        schedule=schedules.Constant(), extra={"history": 3},
    )  # fmt: skip
    for name, message in {
        "b": "damaged", "c": "the checkpoint does not fit: the state is of 2 parameters",
        "d": "the checkpoint does not fit: the state of Adam does not fit SGD",
        "e": r"e\.safetensors: not written by Model\.save",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            model.load(tmp_path / f"{name}.safetensors")
        assert model.epoch == epoch == len(model.history)
        assert is_same(model.net.state_dict(), state)


def test_a_model_that_is_not_compiled_takes_the_network(tmp_path):
    x, y = drawn()
    model = small()
    model.fit(x, y)
    model.save(tmp_path / "a.safetensors")
    other = nn.Model(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    other.load(tmp_path / "a.safetensors")
    assert np.array_equal(other.predict(x), model.predict(x))
    assert other.history["loss"] == model.history["loss"]
    with pytest.raises(RuntimeError, match="call compile first"):
        other.evaluate(x, y)


@pytest.mark.parametrize("saved", ["fp32", "bf16-mixed", "fp16-mixed", "fp64"])
@pytest.mark.parametrize("here", ["fp32", "bf16-mixed", "fp16-mixed", "fp64"])
def test_training_goes_on_in_the_precision_that_it_began_in(saved, here, tmp_path):
    def model(precision):
        return small(precision, np.float64 if precision == "fp64" else np.float32)

    x, y = drawn()
    first, second = model(saved), model(here)
    first.fit(x, y)
    first.save(tmp_path / "a.safetensors")
    state = second.net.state_dict()
    if saved == here:
        assert second.load(tmp_path / "a.safetensors").epoch == 1
        return
    message = rf"a\.safetensors: .*precision='{saved}'.*compiled for '{here}'"
    with pytest.raises(ValueError, match=message):
        second.load(tmp_path / "a.safetensors")
    assert second.epoch == 0
    assert is_same(second.net.state_dict(), state)


class Noise(nn.Module):
    """A layer of the user's with a generator under a name of its own."""

    def __init__(self, seed):
        self.source = np.random.default_rng(seed)

    def forward(self, x):
        return x + self.source.standard_normal(x.shape).astype(np.float32) if self.training else x


def test_generators_of_other_names_go_on(tmp_path, rng):
    def model(seed):
        net = nn.Sequential(Noise(seed), nn.Linear(3, 1, rng=seed))
        return nn.Model(net).compile(nn.optim.SGD(net.parameters(), lr=0.1), "mse")

    x = rng.standard_normal((8, 3))
    through, first, second = model(0), model(0), model(1)
    through.fit(x, x[:, :1], 4, 4)
    first.fit(x, x[:, :1], 2, 4, save_to=tmp_path / "c")
    second.load(tmp_path / "c").fit(x, x[:, :1], 2, 4)
    assert is_same(second.net.state_dict(), through.net.state_dict())


def test_a_file_of_a_model_that_was_not_compiled(tmp_path):
    nn.Model(nn.Linear(3, 1)).save(tmp_path / "bare")
    net = nn.Linear(3, 1)
    model = nn.Model(net).compile(nn.optim.SGD(net.parameters(), lr=0.1), "mse")
    with pytest.raises(ValueError, match="bare: saved of a model that was not compiled"):
        model.load(tmp_path / "bare")
    nn.Model(nn.Linear(3, 1)).load(tmp_path / "bare")
