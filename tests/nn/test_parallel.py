"""Training on several ranks, which are threads here, gives the weights of one rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mplinalg import nn
from mplinalg.nn import schedules
from mplinalg.nn.communicators import MpiLink
from mplinalg.nn.parallel import Alone, Ranks, ranks_of

from ..device import cupy  # noqa: F401
from .ranks import (
    EPOCHS,
    OPTIMIZERS,
    N,
    Threaded,
    U,
    built,
    drawn,
    normalised,
    on_ranks,
    trained,
    weights,
    well,
)  # fmt: skip

pytest.importorskip("safetensors")  # the state of rank 0 is sent as a checkpoint


# -- the weights of one rank -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("batch_size", [16, 7, 1])  # the last batch is of 2, 1, 1 samples
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ranks_have_the_weights_of_one(optimizer, batch_size, size):
    x, y = drawn()
    options = {"epochs": EPOCHS, "batch_size": batch_size, "seed": 3, "max_norm": 0.5}
    options["validation_data"] = (x[:17], y[:17])

    def build():
        return built(optimizer, schedule=schedules.Exponential(0.8))

    one = build()
    one.fit(x, y, **options)
    found = trained(size, build, x, y, **options)[0]
    # gradients of at most 0.5 are sums of `batch_size` terms in another order, and lr / (1 - 0.9)
    # is 1; Adam's steps are gradients divided by their size
    steps = EPOCHS * -(-N // batch_size)
    allowed = steps * (batch_size + size) * U * max(1, abs(weights(one)).max())
    assert abs(weights(found) - weights(one)).max() <= allowed
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        np.testing.assert_allclose(found.history[name], one.history[name], rtol=0, atol=allowed)


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed", "fp16-mixed"])
def test_in_other_precisions(precision):
    unit = {"fp32": 2.0**-24, "bf16-mixed": 2.0**-8, "fp16-mixed": 2.0**-11}[precision]
    x, y = drawn(np.float32)
    one = built(precision=precision)
    one.fit(x, y, epochs=EPOCHS, batch_size=16, max_norm=0.5)
    models = trained(3, lambda: built(precision=precision), x, y, epochs=EPOCHS, batch_size=16,
                     max_norm=0.5)  # fmt: skip
    assert abs(weights(models[0]) - weights(one)).max() <= 16 * 16 * unit
    if precision == "fp16-mixed":
        assert models[0].scaler.state_dict() == one.scaler.state_dict()


def test_a_regression():
    x, _ = drawn()
    y = x @ np.array([[1.0, -1.0], [2.0, 0.0], [0.5, 3.0]])
    one = built(loss="mse")
    one.fit(x, y, epochs=EPOCHS, batch_size=16, max_value=0.1)
    found = trained(2, lambda: built(loss="mse"), x, y, epochs=EPOCHS, batch_size=16, max_value=0.1)
    assert abs(weights(found[0]) - weights(one)).max() <= 16 * 18 * U * abs(weights(one)).max()
    assert "accuracy" not in found[0].history.rows[0]


def test_one_rank_of_a_communicator_is_no_communicator():
    x, y = drawn()
    one = built(dropout=0.3)
    one.fit(x, y, epochs=2, batch_size=16)
    found, group = on_ranks(1, lambda comm: built(dropout=0.3).fit(x, y, 2, 16, comm=comm))
    assert [{**row, "seconds": 0} for row in well(found)[0].rows] == [
        {**row, "seconds": 0} for row in one.history.rows
    ]
    assert group.lengths == []
    assert type(ranks_of(None, one.net)) is Alone


def test_what_overflows_on_one_rank_is_skipped_on_all():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((32, 3)).astype(np.float32)
    y = rng.standard_normal((32, 2)).astype(np.float32)
    y[15] = 1e15  # times the scale, beyond single precision; of rank 1, in the first batch

    def work(comm):
        model = built(loss="mse", precision="fp16-mixed", scaler=nn.LossScaler(2.0**100))
        with np.errstate(all="ignore"):
            model.fit(x, y, epochs=1, batch_size=16, shuffle=False, comm=comm)
        return model

    one, models = work(None), well(on_ranks(2, work)[0])
    assert one.scaler.skipped == 1
    for model in models:
        assert model.scaler.state_dict() == one.scaler.state_dict()
        assert model.history["skipped"] == [1]
        assert np.array_equal(weights(model), weights(models[0]))
    assert np.isfinite(weights(models[0])).all()


class Sometimes(nn.Module):
    """Of two parameters, the second counts where x is positive, the third never."""

    def __init__(self):
        self.a, self.b, self.c = (nn.Parameter(np.ones((3, 1)), name) for name in "abc")

    def forward(self, x):
        y = x @ self.a
        return y + x @ self.b if (x.data[:, 0] > 0).all() else y


def test_gradients_that_only_some_ranks_have():
    x = np.ones((8, 3))
    x[4:, 0] = -1
    seen = []

    def work(comm):
        net = Sometimes()
        model = nn.Model(net).compile(
            nn.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.5), "mse", precision="fp64"
        )
        model.fit(x, np.zeros((8, 1)), batch_size=8, shuffle=False, comm=comm)
        seen.append([None if p.grad is None else p.grad.ravel() for p in net.parameters()])
        return net

    net, other = well(on_ranks(2, work)[0])
    # rank 0: the mean of (x (a + b))^2 over four samples of ones is 36, its gradient 2 * 6 x;
    # weighted by 4 / 8; rank 1 has no gradient of b
    assert [p.data.ravel().tolist() for p in net.parameters()] == [
        p.data.ravel().tolist() for p in other.parameters()
    ]
    assert np.allclose(net.b.data, 1 - 0.1 * (0.5 * 12 + 0.5), rtol=1e-15)
    assert (net.c.data == 1).all()  # and does not decay
    for grads in seen:
        assert np.allclose(grads[1], 6.0, rtol=1e-15)
        assert grads[2] is None


# -- what is the same on all ranks -----------------------------------------------------------------


def test_everything_starts_as_on_rank_0():
    x, y = drawn()
    one = built()
    one.fit(x, y, epochs=1, batch_size=16)  # with a momentum
    one.fit(x, y, epochs=2, batch_size=16)

    def work(comm):
        model = built(seed=7 * comm.rank)
        if comm.rank == 0:
            model.fit(x, y, epochs=1, batch_size=16)
        else:
            model.optimizer.lr = 5.0
        model.fit(x, y, epochs=2, batch_size=16, comm=comm)
        return model

    for model in well(on_ranks(2, work)[0]):
        assert abs(weights(model) - weights(one)).max() <= 12 * 18 * U
        assert model.epoch == len(model.history) == 3
        assert model.optimizer.lr == 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_larger_than_a_message(dtype):
    """Bytes of all values, and a length that is odd."""
    data = bytes(range(256)) * 41 + b"\xff"

    def work(comm):
        found = []

        def save(path):
            Path(path).write_bytes(data)

        def load(path):
            found.append(Path(path).read_bytes())

        Ranks(MpiLink(comm)).begin(nn.Linear(3, 2, rng=0, dtype=dtype), save, load)
        return found

    assert well(on_ranks(3, work)[0]) == [[], [data], [data]]


def test_values_keep_all_their_bits_in_single_precision():
    values = [1 / 3, 1e300, np.nan, -np.inf, 5e-324]

    def work(comm):
        ranks = Ranks(MpiLink(comm))
        ranks.begin(nn.Linear(3, 2, rng=0), lambda path: Path(path).touch(), lambda path: None)
        row = dict(zip("abcde", values if comm.rank == 0 else [0.0] * 5, strict=True))
        return ranks.total(1 / 3, comm.rank), [*ranks.same(row).values()]

    for total, same in well(on_ranks(2, work)[0]):
        assert total == [2 / 3, 1]
        assert np.array_equal(same, values, equal_nan=True)


def test_all_stop_early_together():
    x, y = drawn()
    held_out = x[:21], 1 - y[:21]  # gets worse
    options = {"epochs": 50, "batch_size": 16, "validation_data": held_out, "patience": 2}
    one = built()
    one.fit(x, y, **options)
    models = trained(3, built, x, y, **options)
    assert len(models[0].history) == len(one.history) < 50
    assert abs(weights(models[0]) - weights(one)).max() <= 50 * 4 * 18 * U


def test_running_statistics_are_those_of_shares_averaged():
    x = np.random.default_rng(3).standard_normal((5, 1, 3, 3))
    y = np.array([0, 1, 1, 0, 1])
    shares = [x[:3], x[3:]]
    expected_mean = expected_variance = 0.0
    model = normalised()
    for share in shares:
        z = model.net[0](share).data.transpose(1, 0, 2, 3).reshape(2, -1)
        expected_mean += len(share) / 5 * 0.1 * z.mean(axis=1)
        expected_variance += len(share) / 5 * (0.9 + 0.1 * z.var(axis=1, ddof=1))
    for model in trained(2, normalised, x, y, batch_size=5, shuffle=False):
        norm = model.net[1]
        np.testing.assert_allclose(norm.running_mean, expected_mean, rtol=1e-13)
        np.testing.assert_allclose(norm.running_var, expected_variance, rtol=1e-13)
        assert norm.num_batches_tracked == 1


class Masked(nn.Module):
    """Buffers that are the same on all ranks, two of them one array."""

    buffers = ("mask", "numbers", "again")

    def __init__(self):
        self.mask = np.random.default_rng(0).random((3, 2)).astype(np.float32)
        self.again = self.mask
        self.numbers = np.array([2**40, 3])
        self.weight = nn.Parameter(np.ones((3, 2)))

    def forward(self, x):
        return x @ (self.weight * nn.Tensor(self.mask.astype(float)))


def test_buffers_that_do_not_differ_keep_their_bits():
    x, y = drawn()

    def work(comm):
        net = Masked()
        model = nn.Model(net).compile(
            nn.optim.GD(net.parameters(), lr=0.1), "cross_entropy", precision="fp64"
        )
        model.fit(x, y, epochs=3, batch_size=7, comm=comm)
        return net

    for net in well(on_ranks(3, work)[0]):
        assert np.array_equal(net.mask, Masked().mask)
        assert net.numbers.tolist() == [2**40, 3]


def test_ranks_draw_other_numbers_and_end_in_one_state():
    def work(comm):
        ranks = Ranks(MpiLink(comm))
        generators = [np.random.default_rng(1), np.random.Generator(np.random.SFC64(2))]
        generators.append(generators[0])
        with ranks.drawing(generators):
            found = [g.random() for g in generators for _ in range(comm.rank + 1)]
        return found, [g.random() for g in generators]

    (first, after), (second, others_after) = well(on_ranks(2, work)[0])
    assert after == others_after
    assert not set(first) & set(second)
    assert len({*first, *second, *after}) == 12  # nothing twice


def test_a_resumed_run_has_the_same_bits_if_rank_0_has_the_file(tmp_path):
    x, y = drawn()
    path = tmp_path / "half.safetensors"

    def whole(comm):
        model = built(dropout=0.4)
        model.fit(x, y, epochs=4, batch_size=16, seed=2, comm=comm)
        return model

    def first(comm):
        target = path if comm.rank == 0 else tmp_path / "not of rank 0.safetensors"
        built(dropout=0.4).fit(x, y, epochs=2, batch_size=16, seed=2, save_to=target, comm=comm)

    def second(comm):
        model = built(dropout=0.4, seed=5)
        if comm.rank == 0:
            model.load(path)
        model.fit(x, y, epochs=2, batch_size=16, comm=comm)
        return model

    uninterrupted = well(on_ranks(2, whole)[0])
    well(on_ranks(2, first)[0])
    assert [p.name for p in tmp_path.iterdir()] == ["half.safetensors"]
    for model in well(on_ranks(2, second)[0]):
        assert np.array_equal(weights(model), weights(uninterrupted[0]))
        assert model.history["loss"] == uninterrupted[0].history["loss"]


def test_rank_0_alone_shows_progress(capsys):
    pytest.importorskip("tqdm")
    x, y = drawn()

    def work(comm):
        built().fit(x, y, epochs=2, batch_size=25, progress=True, comm=comm)

    well(on_ranks(2, work)[0])
    err = capsys.readouterr().err
    assert err.count(" 0/4 ") == 1  # with which a bar begins
    assert " 4/4 " in err


def test_there_is_one_message_a_step():
    x, y = drawn()
    _, group = on_ranks(2, lambda comm: built().fit(x, y, epochs=3, batch_size=16, comm=comm))
    opening, *rest = group.lengths
    assert opening < rest[0]
    assert len(set(rest)) == 1
    # the state and its length, options, the end; a total and a row in each epoch
    assert len(rest) - 3 * 4 <= 2 + 2 + 3 * 2


# -- communicators -------------------------------------------------------------------------------


class Nccl:
    """As a `cupyx.distributed.NCCLBackend`, by way of the host."""

    def __init__(self, group, rank):
        self.group, self.rank = group, rank

    def all_reduce(self, in_array, out_array, op="sum", stream=None):
        assert op == "sum"
        assert in_array is out_array
        host = in_array.get()
        self.group.sum(self.rank, host)
        out_array.set(host)


@pytest.mark.parametrize("precision", ["fp64", "fp16-mixed"])
def test_ranks_with_a_device_each(precision, cupy):  # noqa: F811
    dtype = np.float64 if precision == "fp64" else np.float32
    x, y = drawn(dtype)

    def work(comm):
        model = built(precision=precision, seed=0 if comm is None else comm.rank)
        model.net.to("cuda")
        made = nn.optim.Adam(model.net.parameters(), lr=0.02)
        model.compile(made, "cross_entropy", precision=precision)
        model.fit(cupy.asarray(x), cupy.asarray(y), epochs=2, batch_size=16, comm=comm)
        assert ("several ranks" in model.capture_note) == (comm is not None)
        return weights(model).get()

    one, (first, second) = work(None), well(on_ranks(2, work, comm=Nccl)[0])
    assert np.array_equal(first, second)
    unit = {"fp64": U, "fp16-mixed": 2.0**-11}[precision]
    assert abs(first - one).max() <= 8 * 18 * unit


def test_communicators_that_do_not_fit(cupy):  # noqa: F811
    x, y = drawn()
    with pytest.raises(TypeError, match="mpi4py communicator or a cupyx"):
        built().fit(x, y, comm="world")
    with pytest.raises(TypeError, match="NCCL communicator is for CuPy arrays"):
        built().fit(x, y, comm=Nccl(None, 0))
    there = built()
    there.net.to("cuda")
    with pytest.raises(TypeError, match="mpi4py communicator is for NumPy arrays"):
        there.fit(x, y, comm=Threaded(None, 0))
