"""Checkpoints: training goes on with the same bits; files that are damaged or not ours."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from mplinalg.nn import checkpoint, optim, scaling, schedules

from ..device import KINDS, library
from .parameters import Weight

safetensors = pytest.importorskip("safetensors.numpy")


class Net:
    """Two layers without anything else: what a checkpoint asks of a network."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.weights = {
            "first": Weight(rng.standard_normal((4, 3)).astype(np.float32)),
            "second": Weight(np.asfortranarray(rng.standard_normal((3, 4)))),
        }
        self.seen = np.array(0)

    def state_dict(self):
        return {**{name: w.data for name, w in self.weights.items()}, "seen": self.seen}

    def load_state_dict(self, state):
        wanted = self.state_dict()
        if set(state) != set(wanted) or any(state[k].shape != wanted[k].shape for k in wanted):
            raise ValueError("the state does not fit this net")
        for name, w in self.weights.items():
            w.data[...] = state[name]
        self.seen[...] = state["seen"]


class Training:
    """A loop in which everything changes that a checkpoint keeps."""

    def __init__(self, kind="Adam", bits=np.random.PCG64, seed=0, **options) -> None:
        self.net = Net(seed)
        self.optimizer = getattr(optim, kind)(self.net.weights.values(), lr=0.1, **options)
        self.scaler = scaling.LossScaler(16.0, interval=3)
        self.schedule = schedules.ReduceOnPlateau(patience=0, factor=0.5)
        self.rng = np.random.Generator(bits(seed))

    def epochs(self, first, last):
        for epoch in range(first, last):
            self.schedule.apply(self.optimizer, epoch)
            for _ in range(4):
                for w in self.net.weights.values():
                    noise = self.rng.standard_normal(w.data.shape).astype(w.data.dtype)
                    w.grad = (w.data + noise) * w.data.dtype.type(self.scaler.scale)
                if self.rng.random() < 0.2:
                    w.grad[0, 0] = np.inf
                self.scaler.step(self.optimizer, max_norm=3.0)
                self.net.seen += 1
            self.schedule.observe(self.rng.random())

    @property
    def parts(self):
        names = ("optimizer", "scaler", "schedule", "rng")
        return {name: getattr(self, name) for name in names}


GENERATORS = [
    np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {"momentum": 0.9}),
        ("AdagradNorm", {}),
        ("RMSprop", {"centered": True}),
        ("Adadelta", {}),
        ("AdamW", {}),
    ],
)
@pytest.mark.parametrize("bits", GENERATORS, ids=lambda bits: bits.__name__)
def test_resume_gives_the_same_bits(kind, options, bits, tmp_path):
    path = tmp_path / "state.safetensors"
    through = Training(kind, bits, **options)
    through.epochs(0, 6)
    first = Training(kind, bits, **options)
    first.epochs(0, 3)
    checkpoint.save(path, first.net, epoch=3, extra={"losses": [0.1, 0.2]}, **first.parts)
    second = Training(kind, bits, seed=9)  # other weights, options of the class
    loaded = checkpoint.load(path)
    assert (loaded.epoch, loaded.extra) == (3, {"losses": [0.1, 0.2]})
    loaded.restore(second.net, **second.parts)
    second.epochs(loaded.epoch, 6)
    for name, w in through.net.weights.items():
        assert w.data.dtype == loaded.model[name].dtype
        np.testing.assert_array_equal(w.data, second.net.weights[name].data)
    assert through.net.seen == second.net.seen == 24
    assert through.scaler.state_dict() == second.scaler.state_dict()
    assert through.scaler.skipped > 0
    assert through.schedule.state_dict() == second.schedule.state_dict()
    assert through.rng.random() == second.rng.random()


def test_several_generators(tmp_path):
    path = tmp_path / "c"
    rngs = {"data": np.random.default_rng(1), "dropout": np.random.default_rng(2)}
    checkpoint.save(path, Net(), rng=rngs)
    expected = {name: g.random() for name, g in rngs.items()}
    others = {name: np.random.default_rng(7) for name in rngs}
    loaded = checkpoint.load(path)
    loaded.restore(rng=others)
    assert {name: g.random() for name, g in others.items()} == expected
    with pytest.raises(ValueError, match=r"holds no rng 'rng'; it has \['data', 'dropout'\]"):
        loaded.restore(rng=np.random.default_rng())
    other = {"data": np.random.Generator(np.random.MT19937(0))}
    with pytest.raises(ValueError, match="is of PCG64 in the checkpoint, MT19937 was given"):
        loaded.restore(rng=other)


def test_arrays_of_all_kinds(tmp_path, rng):
    net = {
        "c": rng.standard_normal((3, 4)),
        "f": np.asfortranarray(rng.standard_normal((3, 4))),
        "strided": rng.standard_normal((6, 4))[::2, ::-1],
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 3)),
        "half": rng.standard_normal(5).astype(np.float16),
        "mask": np.array([True, False]),
        "counts": np.arange(3),
    }
    checkpoint.save(tmp_path / "c", net)
    loaded = checkpoint.load(tmp_path / "c").model
    assert set(loaded) == set(net)
    for name, a in net.items():
        assert loaded[name].dtype == a.dtype
        np.testing.assert_array_equal(loaded[name], a)
        assert loaded[name].shape == a.shape


def test_arrays_of_the_other_byte_order(tmp_path):
    a = np.arange(3, dtype=np.dtype(np.float32).newbyteorder("S"))
    checkpoint.save(tmp_path / "c", {"a": a})
    assert checkpoint.load(tmp_path / "c").model["a"].tolist() == [0, 1, 2]


def test_formats_that_are_not_saved(tmp_path):
    with pytest.raises(TypeError, match="'a' must be an array of numbers to be saved; got"):
        checkpoint.save(tmp_path / "c", {"a": np.ones(2, np.longdouble)})


@pytest.mark.parametrize("place", KINDS)
def test_from_a_device(place, tmp_path):
    with library(place) as cupy:
        w = Weight(cupy.ones(3), cupy.ones(3))
        optimizer = optim.Adam([w])
        optimizer.step()
        checkpoint.save(tmp_path / "c", {"w": w.data}, optimizer=optimizer)
        loaded = checkpoint.load(tmp_path / "c")
        assert isinstance(loaded.model["w"], np.ndarray)
        v = Weight(cupy.asarray(loaded.model["w"]), cupy.ones(3))
        other = optim.Adam([v])
        loaded.restore(optimizer=other)
        optimizer.step()
        other.step()
        np.testing.assert_array_equal(v.data.get(), w.data.get())


# -- files that are not what they should be -----------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    training = Training()
    training.epochs(0, 1)
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, training.net, epoch=1, **training.parts)
    return path


def test_every_truncation_is_an_error(saved):
    content = saved.read_bytes()
    for size in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        saved.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"c.safetensors: "):
            checkpoint.load(saved)


def test_every_altered_byte_is_an_error(saved):
    content = saved.read_bytes()
    for place in [*range(0, 64), *range(64, len(content), 37), len(content) - 1]:
        altered = bytearray(content)
        altered[place] ^= 0x10
        saved.write_bytes(altered)
        with pytest.raises(ValueError, match=r"c.safetensors: "):
            checkpoint.load(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=r"c.safetensors: "):
        checkpoint.load(saved)


def test_foreign_files(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.save_file({"weight": np.ones(3)}, path)
    with pytest.raises(ValueError, match=r"no checkpoint of mplinalg.nn; its format is None"):
        checkpoint.load(path)
    safetensors.save_file({"weight": np.ones(3)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match="its format is 'pt'"):
        checkpoint.load(path)
    safetensors.save_file(
        {"model.w": np.ones(3)}, path, {"format": "mplinalg.nn checkpoint", "version": "99"}
    )
    with pytest.raises(ValueError, match="a checkpoint of version 99; this is for 1"):
        checkpoint.load(path)
    for content in (b"PK\x03\x04 and so on", b"\x93NUMPY" + bytes(100), b"", os.urandom(500)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a safetensors file, or damaged"):
            checkpoint.load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        checkpoint.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="not a regular file"):
        checkpoint.load(tmp_path)


def test_the_old_file_is_kept_when_saving_fails(saved, monkeypatch):
    content = saved.read_bytes()
    with pytest.raises(ValueError, match="extra cannot be written as JSON"):
        checkpoint.save(saved, Net(), extra={"net": Net()})
    with pytest.raises(TypeError, match="'w' must be an array of numbers"):
        checkpoint.save(saved, {"w": [1.0]})
    with pytest.raises(TypeError, match="'w' must be an array of numbers"):
        checkpoint.save(saved, {"w": np.array(["text"])})
    with pytest.raises(ValueError, match="no arrays to save"):
        checkpoint.save(saved, {})
    with pytest.raises(TypeError, match="rng 'rng' must be a NumPy Generator"):
        checkpoint.save(saved, Net(), rng=np.random.RandomState(0))
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        checkpoint.save(saved, Net(), epoch=-1)

    def full(tensors, name, metadata):
        with open(name, "wb") as stream:
            stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(saved, Net())
    assert saved.read_bytes() == content
    assert os.listdir(saved.parent) == [saved.name]


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match=r"the folder .* does not exist"):
        checkpoint.save(tmp_path / "a" / "b", Net())
    with pytest.raises(ValueError, match="it is a folder"):
        checkpoint.save(tmp_path, Net())


def test_links_are_followed(saved, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(saved)
    checkpoint.save(link, Net(seed=3), epoch=5)
    assert link.is_symlink()
    assert checkpoint.load(saved).epoch == 5


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_permissions_are_those_of_the_file_before(saved, tmp_path):
    (tmp_path / "plain").touch()
    fresh = tmp_path / "fresh"
    checkpoint.save(fresh, Net())
    assert fresh.stat().st_mode == (tmp_path / "plain").stat().st_mode
    saved.chmod(0o640)
    checkpoint.save(saved, Net())
    assert saved.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("wrong", ["net", "optimizer", "scaler", "schedule"])
def test_restore_all_or_nothing(saved, wrong):
    training = Training(seed=4)
    training.epochs(0, 2)
    parts = {"net": training.net, **training.parts}
    before = [json.dumps(p.state_dict(), default=repr) for p in list(parts.values())[:4]]
    drawn = training.rng.bit_generator.state
    parts[wrong] = {
        "net": type("Other", (Net,), {"load_state_dict": Other.load_state_dict})(),
        "optimizer": optim.SGD(training.net.weights.values()),
        "scaler": type("Other", (), {"state_dict": dict, "load_state_dict": Other.refuse})(),
        "schedule": schedules.Step(2),
    }[wrong]
    with pytest.raises(ValueError, match=r"does not fit|not the state|does not like"):
        checkpoint.load(saved).restore(parts.pop("net"), **parts)
    intact = {"net": training.net, **training.parts}
    after = [json.dumps(p.state_dict(), default=repr) for p in list(intact.values())[:4]]
    assert after == before
    assert training.rng.bit_generator.state == drawn


class Other:
    def load_state_dict(self, state):
        raise KeyError("missing weight: does not like it")

    def refuse(self, state):
        if state:
            raise ValueError("does not like it")


def test_what_was_not_saved_cannot_be_restored(tmp_path):
    checkpoint.save(tmp_path / "c", Net())
    loaded = checkpoint.load(tmp_path / "c")
    with pytest.raises(ValueError, match="holds no optimizer"):
        loaded.restore(optimizer=Training().optimizer)
    with pytest.raises(ValueError, match="holds no scaler"):
        loaded.restore(scaler=scaling.LossScaler())
