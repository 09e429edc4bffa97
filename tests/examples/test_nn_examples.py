"""Examples that train networks: what their checks find, and what they need."""

from __future__ import annotations

import dataclasses
import struct
import sys

import numpy as np
import pytest

import mplinalg
from mplinalg import nn

from .runs import failures, spoiled


def few_digits(load, monkeypatch):
    """The example, with a quarter of the images."""
    example = load("13_digits")
    digits = example.digits
    monkeypatch.setattr(
        example, "digits", lambda folder: [(x[::4], y[::4]) for x, y in digits(folder)]
    )
    return example


def test_digits_fail_when_fp16_does_not_learn(load, monkeypatch, capsys):
    """As if every step had to be left out."""
    example = few_digits(load, monkeypatch)
    monkeypatch.setattr(nn.LossScaler, "step", lambda self, optimizer, **_: False)
    assert example.main(["--n", "6", "--no-plot"]) == 1
    failed = set(failures(capsys.readouterr().out))
    for name in ("MLP", "LeNet-5"):
        assert {f"{name}, fp16-mixed: wrong", f"{name}, fp16-mixed: right"} <= failed


def test_digits_fail_when_the_optimiser_starts_anew(load, monkeypatch, capsys):
    example = few_digits(load, monkeypatch)
    monkeypatch.setattr(nn.optim.AdamW, "load_state_dict", lambda self, state: None)
    assert example.main(["--n", "6", "--no-plot"]) == 1
    assert "LeNet-5, fp16-mixed: resumed" in failures(capsys.readouterr().out)


@pytest.fixture
def mnist(tmp_path):
    """A folder with files in MNIST's form: scikit-learn's digits, 28 by 28 pixels."""
    pytest.importorskip("sklearn")
    x, y = nn.data.digits()
    x = np.pad(x.repeat(3, axis=2).repeat(3, axis=3)[:, 0], ((0, 0), (2, 2), (2, 2)))
    pixels, labels = (255 * x).astype(np.uint8), y.astype(np.uint8)
    for part, some in (("train", slice(0, 300)), ("t10k", slice(300, 400))):
        for name, array in (("images-idx3", pixels[some]), ("labels-idx1", labels[some])):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    return tmp_path


def test_digits_of_files(mnist, load, capsys):
    example = load("13_digits")
    (x, y), (x_new, y_new) = example.digits(mnist)
    assert x.shape == (300, 1, 28, 28)
    assert example.enlarged(x).shape == (300, 1, 32, 32)
    assert len(y) == 300
    assert len(x_new) == len(y_new) == 100
    example.main(["--n", "6", "--mnist", str(mnist), "--no-plot"])
    assert capsys.readouterr().out.startswith("300 images to train with, 100 unseen")


def test_files_that_are_not_there(mnist, load):
    example = load("13_digits")
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(SystemExit, match="t10k-labels-idx1-ubyte"):
        example.main(["--mnist", str(mnist), "--no-plot"])


@pytest.mark.parametrize("missing", ["sklearn.datasets", "safetensors"])
def test_what_digits_need_is_asked_for(missing, load, monkeypatch):
    example = load("13_digits")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=r"pip install 'mplinalg\[nn\]'"):
        example.main(["--no-plot"])


def test_the_surrogate_fails_when_the_solver_is_slightly_wrong(load, monkeypatch, capsys):
    example = load("14_scattering_surrogate")
    monkeypatch.setattr(mplinalg, "solve", spoiled(mplinalg.solve, 1e-11))
    assert example.main(["--n", "100", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == ["solver, circle"]


def test_the_surrogate_fails_when_it_has_not_learned(load, monkeypatch, capsys):
    example = load("14_scattering_surrogate")
    surrogate = example.surrogate
    monkeypatch.setattr(
        example, "surrogate", lambda pairs, values, epochs: surrogate(pairs, values, 5)
    )
    assert example.main(["--n", "100", "--no-plot"]) == 1
    failed = failures(capsys.readouterr().out)
    assert failed == ["surrogate, circle: rms", "surrogate, pairs unseen: rms"]


def test_the_paths_fail_with_another_rate(load, monkeypatch, capsys):
    example = load("15_saddle")
    set_rate = nn.optim.Optimizer.lr.fset
    slightly_other = nn.optim.Optimizer.lr.setter(lambda self, lr: set_rate(self, lr * (1 + 1e-8)))
    monkeypatch.setattr(nn.optim.Optimizer, "lr", slightly_other)
    assert example.main(["--n", "100", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == ["GD: x", "momentum: x", "Nesterov: x"]


def test_the_paths_fail_on_the_ridge(load, monkeypatch, capsys):
    """From there they end in the saddle."""
    example = load("15_saddle")
    monkeypatch.setattr(example, "START", (-1.5, 0.0))
    assert example.main(["--n", "100", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == [f"{name}: f" for name in example.OPTIMISERS]


def test_every_optimiser_has_a_path(load):
    optimisers = load("15_saddle").OPTIMISERS.values()
    point = nn.Parameter([1.0, 1.0])
    assert {type(make([point])).__name__ for make in optimisers} == {*nn.optim.__all__} - {
        "Optimizer"
    }


def test_the_search_fails_when_a_trial_cannot_be_repeated(load, monkeypatch, capsys):
    example = load("16_hyperparameters")
    fit = nn.Model.fit

    def unseeded(self, *args, **keywords):
        return fit(self, *args, seed=int(np.random.default_rng().integers(2**32)), **keywords)

    monkeypatch.setattr(nn.Model, "fit", unseeded)
    assert example.main(["--n", "3", "--no-plot"]) == 1
    assert "best trial, repeated: loss" in failures(capsys.readouterr().out)


def test_the_search_fails_when_the_network_is_no_better_than_a_line(load, monkeypatch, capsys):
    example = load("16_hyperparameters")
    evaluate = nn.Model.evaluate

    def worse(*args, **keywords):
        found = evaluate(*args, **keywords)
        return dataclasses.replace(found, accuracy=found.accuracy - 0.1)

    monkeypatch.setattr(nn.Model, "evaluate", worse)
    assert example.main(["--n", "3", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == ["unseen images that are wrong"]


def test_trials_that_are_worse_are_stopped(load, capsys):
    example = load("16_hyperparameters")
    assert example.main(["--n", "8", "--no-plot"]) == 0
    out = capsys.readouterr().out
    assert "stopped after 3" in out
    assert out.count("*") == 1


def test_optuna_is_asked_for(load, monkeypatch):
    example = load("16_hyperparameters")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit, match=r"pip install 'mplinalg\[examples\]'"):
        example.main(["--no-plot"])


@pytest.fixture
def hurried(load, monkeypatch):
    """The pruning table with training too short to be of use, and two of its methods."""
    example = load("17_pruning_table")
    monkeypatch.setattr(example, "STEPS", 1)
    monkeypatch.setattr(example, "AGAIN", 1)
    methods = {name: example.METHODS[name] for name in ("weights, 90 %", example.ADMM)}
    methods[example.HALF_OF_ROWS] = example.METHODS[example.HALF_OF_ROWS]
    monkeypatch.setattr(example, "METHODS", methods)
    monkeypatch.setattr(example, "accuracy", lambda net, data: 0.9)
    return example


PRUNED = ["weights, 90 %", "weights, ADMM", "rows", "rows, shared", "rows, shared, few"]


def test_the_pruning_table_fails_when_compact_is_slightly_wrong(hurried, monkeypatch, capsys):
    right = hurried.prune.compact

    def wrong(net):
        small = right(net)
        small[-1].bias.data += 1e-3
        return small

    monkeypatch.setattr(hurried.prune, "compact", wrong)
    assert hurried.main(["--n", "300", "--no-plot"]) == 1
    failed = failures(capsys.readouterr().out)
    assert failed == [f"{name}: compact, logits" for name in PRUNED]


def test_the_pruning_table_fails_when_nothing_is_taken_out(hurried, monkeypatch, capsys):
    monkeypatch.setattr(hurried.prune, "compact", lambda net: net)
    assert hurried.main(["--n", "300", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == ["half of the rows: flops left"]


def test_the_pruning_table_fails_when_masks_do_not_hold(hurried, monkeypatch, capsys):
    """Nor are those that are shared the same."""
    right = hurried.prune.nested

    def apart(*args, **keywords):
        both = right(*args, **keywords)
        model = both.model

        def other(name):
            net = model(name)
            net[0].weight.data[...] += name == both.names[1]
            return net

        both.model = other
        return both

    monkeypatch.setattr(hurried.prune, "Masked", lambda optimizer, masks: optimizer)
    monkeypatch.setattr(hurried.prune, "nested", apart)
    assert hurried.main(["--n", "300", "--no-plot"]) == 1
    assert failures(capsys.readouterr().out) == [
        # a neuron that gives 0 has no gradient, and so rows hold by themselves
        *(f"{name}: masked weights not 0" for name in [*PRUNED[:2], "rows, shared, few"]),
        "shared weights that differ",
    ]


def test_the_ranks_fail_with_another_rate(load, monkeypatch, capsys):
    example = load("18_two_ranks")
    right = example.nn.optim.SGD

    def wrong(parameters, lr, momentum):
        return right(parameters, lr=lr * (1 + 1e-9), momentum=momentum)

    monkeypatch.setattr(example.nn.optim, "SGD", wrong)
    assert example.main(["--n", "300", "--no-plot"]) == 1
    failed = failures(capsys.readouterr().out)
    assert failed == ["weights, where worst", "mean loss of the last epoch"]
