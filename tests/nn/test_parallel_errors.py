"""What goes wrong on one rank is raised on all of them, and nobody waits."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mplinalg import LinAlgError, nn
from mplinalg.nn import schedules

from .ranks import Threaded, built, drawn, normalised, on_ranks, weights, well

pytest.importorskip("safetensors")  # the state of rank 0 is sent as a checkpoint


class Fails:
    """The mean squared error, and on a rank in one of its calls something is raised."""

    def __init__(self, rank, call, error):
        self.rank, self.call, self.error, self.calls = rank, call, error, 0

    def __call__(self, prediction, y):
        self.calls += 1
        if self.call == self.calls:
            raise self.error
        return nn.mse_loss(prediction, y)


def failing(rank, call, error, epochs=2, **options):
    """What ranks raise if `rank` fails in a call of the loss; and they can go on afterwards."""
    x, _ = drawn()

    def work(comm):
        loss = Fails(rank, call if comm.rank == rank else None, error)
        model = built(loss=loss)
        try:
            model.fit(x, x[:, :2], epochs, 16, shuffle=False, comm=comm, **options)
        except BaseException as raised:
            before = weights(model)
            loss.call = None
            model.fit(x, x[:, :2], 1, 16, comm=comm)
            return raised, before
        raise AssertionError("nothing was raised")

    found = well(on_ranks(3, work)[0])
    for _, before in found[1:]:
        assert np.array_equal(before, found[0][1])
    return [raised for raised, _ in found]


@pytest.mark.parametrize("call", [1, 3, 7])
def test_an_error_of_one_rank_is_raised_on_all(call):
    error = OSError("the disk is gone")
    raised = failing(1, call, error)
    for one in raised:
        assert type(one) is RuntimeError
        assert str(one) == "rank 1 of 3: OSError: the disk is gone"
    assert raised[1].__cause__ is error


def test_an_error_in_the_validation():
    x, _ = drawn()
    raised = failing(2, 5, ValueError("no"), epochs=1, validation_data=(x, x[:, :2]))
    assert {str(one) for one in raised} == {"rank 2 of 3: ValueError: no"}


def test_numerical_errors_stay_numerical():
    raised = failing(0, 2, LinAlgError("the loss is nan in step 2"))
    for one in raised:
        assert type(one) is LinAlgError
        assert str(one) == "rank 0 of 3: the loss is nan in step 2"


def test_a_loss_that_is_not_finite_on_one_rank():
    x, y = drawn()
    x[37] = np.nan  # none of the rows that are compared; of rank 0, in the third batch

    def work(comm):
        built().fit(x, y, epochs=2, batch_size=16, shuffle=False, comm=comm)

    for one in on_ranks(2, work)[0]:
        assert type(one) is LinAlgError
        assert str(one).startswith("rank 0 of 2: the loss is nan in step 3 of epoch 1; first in")


def test_an_interrupted_rank_tells_the_others():
    raised = failing(1, 4, KeyboardInterrupt())
    assert type(raised[1]) is KeyboardInterrupt
    assert {str(raised[r]) for r in (0, 2)} == {"rank 1 of 3: KeyboardInterrupt: "}


def test_a_long_message_in_any_script_is_cut():
    raised = failing(1, 1, ValueError("Ω" * 5000))
    assert {str(one) for one in raised} == {"rank 1 of 3: ValueError: " + "Ω" * 494}
    raised = failing(1, 1, ValueError("a file name, \udcff"))
    assert {str(one) for one in raised} == {"rank 1 of 3: ValueError: a file name, ?"}


def test_a_file_that_cannot_be_written_after_the_last_epoch(tmp_path):
    x, y = drawn()
    target = tmp_path / "nowhere" / "x.safetensors"

    def work(comm):
        built().fit(x, y, epochs=1, batch_size=16, save_to=target, comm=comm)

    for one in on_ranks(2, work)[0]:
        assert type(one) is RuntimeError
        assert str(one).startswith("rank 0 of 2: ValueError: ")
        assert "does not exist" in str(one)


def test_data_that_one_rank_does_not_have():
    x, y = drawn()

    def work(comm):
        built().fit(x[: None if comm.rank else 0], y, epochs=1, batch_size=16, comm=comm)

    for one in on_ranks(2, work)[0]:
        assert type(one) is RuntimeError
        assert str(one).startswith("rank 0 of 2: ValueError: the data set is empty")


def test_a_mistake_of_all_is_raised_as_it_is():
    x, y = drawn()
    found, _ = on_ranks(2, lambda comm: built().fit(x, y + 1, batch_size=16, comm=comm))
    assert {type(one) for one in found} == {ValueError}
    assert {str(one) for one in found} == {"label 2 of sample 0 is not one of 0, ..., 1"}
    found, _ = on_ranks(2, lambda comm: nn.Model(built().net).fit(x, y, comm=comm))
    assert {str(one) for one in found} == {"the model has no optimiser: call compile first"}


def first_half(comm, x, y):
    return {"x": x[comm.rank :: 2], "y": y[comm.rank :: 2]}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (first_half, "x, y"),
        (lambda comm, x, y: {"batch_size": 16 + comm.rank}, "batch_size"),
        (lambda comm, x, y: {"epochs": 1 + comm.rank}, "epochs"),
        (lambda comm, x, y: {"seed": comm.rank}, "seed"),
        (lambda comm, x, y: {"patience": 1 if comm.rank else None}, "patience"),
        (lambda comm, x, y: {"max_norm": 1.0 + comm.rank}, "max_norm"),
        (lambda comm, x, y: {"validation_data": (x[comm.rank :], y[comm.rank :])},
         "validation_data"),
    ],
)  # fmt: skip
def test_calls_that_differ(change, named):
    x, y = drawn()

    def work(comm):
        built().fit(**{"x": x, "y": y, "batch_size": 16, **change(comm, x, y)}, comm=comm)

    for one in on_ranks(2, work)[0]:
        assert type(one) is ValueError
        assert f"rank 1 of 2 differs from rank 0 in {named}: all ranks take" in str(one)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: built(schedule=schedules.Exponential(0.5)), "not the state of a schedule Expon"),
        (lambda: built(schedule=schedules.Step(2, 0.5)), "rank 0 in schedule"),
        (lambda: built(loss="mse"), "rank 1 of 2"),
        (lambda: built("Adam"), "the state of SGD does not fit Adam"),
        (lambda: normalised(), "rank 0 in parameters, buffers"),
        (lambda: built(precision="fp32"), "rank 0 in parameters"),
    ],
)
def test_models_that_differ(other, message):
    x, y = drawn()
    base = built(schedule=schedules.Step(1)) if "rank 0 in schedule" in message else built()
    found, _ = on_ranks(
        2, lambda comm: (other() if comm.rank else base).fit(x, y, batch_size=16, comm=comm)
    )
    for one in found:
        assert isinstance(one, RuntimeError | ValueError)
        assert not isinstance(one, threading.BrokenBarrierError)
        assert message in str(one)


def test_networks_that_differ():
    x, y = drawn()

    def work(comm):
        net = nn.Sequential(nn.Linear(3, 2 + comm.rank, rng=0, dtype=np.float64))
        made = nn.optim.GD(net.parameters(), lr=0.1)
        nn.Model(net).compile(made, "cross_entropy", precision="fp64").fit(x, y, comm=comm)

    for one in on_ranks(2, work)[0]:
        assert "rank 1 of 2 differs from rank 0 in parameters: all ranks take" in str(one)


def test_a_parameter_that_one_rank_alone_trains():
    x, y = drawn()

    def work(comm):
        net = nn.Sequential(nn.Linear(3, 2, rng=0, dtype=np.float64))
        net[0].bias.requires_grad = comm.rank == 0
        made = nn.optim.GD(net.parameters(), lr=0.1)
        nn.Model(net).compile(made, "cross_entropy", precision="fp64").fit(x, y, comm=comm)

    for one in on_ranks(2, work)[0]:
        assert "rank 1 of 2 differs from rank 0 in parameters: all ranks take" in str(one)


def test_a_communicator_that_breaks_is_not_asked_again():
    class Broken(Threaded):
        calls = 0

        def Allreduce(self, sent, a):
            Broken.calls += 1
            raise ConnectionError("a peer has gone")

        def Get_size(self):
            return 2

    x, y = drawn()
    with pytest.raises(ConnectionError, match="a peer has gone"):
        built().fit(x, y, comm=Broken(None, 0))
    assert Broken.calls == 1
