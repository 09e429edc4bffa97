"""Data and options that make no sense: a model says so, and nothing is changed."""

from __future__ import annotations

import numpy as np
import pytest

from mplinalg import LinAlgError, nn

from ..device import library
from .models import compiled, drawn, is_same, small


def regression(**options):
    return compiled(nn.Sequential(nn.Linear(3, 1, rng=0)), loss="mse", **options)


# -- data that fit -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda x, y: (x.tolist(), y.tolist()),
        lambda x, y: (x.astype(np.float64), y.astype(np.uint8)),
        lambda x, y: (np.asfortranarray(x), y[::-1][::-1]),
        lambda x, y: (nn.Tensor(x), nn.Tensor(y)),
    ],
)
def test_forms_of_the_same_data(form):
    x, y = drawn()
    one, two = small(), small()
    one.fit(x, y, validation_data=(x, y))
    two.fit(*form(x, y), validation_data=form(x, y))
    assert is_same(one.net.state_dict(), two.net.state_dict())
    assert one.history["val_loss"] == two.history["val_loss"]
    assert one.evaluate(x, y) == two.evaluate(*form(x, y))
    assert np.array_equal(one.predict(x), two.predict(form(x, y)[0]))


def test_no_epochs():
    x, y = drawn()
    for options in ({}, {"patience": 2}, {"validation_data": (x, y)}):
        model = small()
        before = model.net.state_dict()
        assert len(model.fit(x, y, epochs=0, **options)) == 0
        assert is_same(model.net.state_dict(), before)


def test_one_sample():
    x, y = drawn(1)
    model = small()
    history = model.fit(x, y, epochs=30, batch_size=1, validation_data=(x, y))
    assert history["loss"][-1] < history["loss"][0]
    assert model.predict(x).argmax() == y[0]
    assert model.predict(x[:0]).shape == (0, 2)


def test_the_last_batch():
    x, y = drawn(23)
    seen = []

    def loss(prediction, labels):
        seen.append(len(labels))
        return nn.cross_entropy(prediction, labels)

    for drop_last, sizes in ((False, [10, 10, 3]), (True, [10, 10])):
        model = small(loss=loss)
        seen.clear()
        model.fit(x, y, batch_size=10, drop_last=drop_last)
        assert seen[1:] == sizes  # the first one was to try it
        assert model.optimizer.state_dict()["steps"] == [len(sizes)] * 4


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_loss_is_the_mean_over_the_samples(drop_last):
    x, y = drawn(23)
    seen = 20 if drop_last else 23
    model = small(lr=0.0)
    row = model.fit(x, y, batch_size=10, drop_last=drop_last, shuffle=False).rows[0]
    found = model.evaluate(x[:seen], y[:seen])
    assert abs(row["loss"] - found.loss) <= 1e-6
    assert row["accuracy"] == found.accuracy


def test_a_loss_that_was_given_has_whole_numbers_as_they_are():
    x, y = drawn()
    named, given = small(), small(loss=lambda z, t: nn.cross_entropy(z, t))
    named.fit(x, y, epochs=2, seed=1)
    given.fit(x, y, epochs=2, seed=1)
    assert is_same(named.net.state_dict(), given.net.state_dict())
    function = small(loss=nn.cross_entropy)
    assert "accuracy" in function.fit(x, y).rows[0]
    kinds = []

    def squares(prediction, target):
        kinds.append(target.dtype)
        return nn.mse_loss(prediction, target)

    model = regression()
    model.compile(model.optimizer, squares).fit(x, y[:, None] * 0.5)
    assert set(kinds) == {np.dtype(np.float32)}  # as the parameters


def test_a_network_that_was_changed_after_compile():
    x, y = drawn()
    changes = {
        "are not the 6 of the network": lambda net: net.layers.append(nn.Linear(2, 2)),
        "are not the 2 of the network": lambda net: net.layers.pop(),
        "is for float32 parameters; 0.weight is float64": lambda net: net.to(dtype=np.float64),
    }
    for message, change in changes.items():
        model = compiled(nn.Sequential(nn.Linear(3, 2, rng=0), nn.Linear(2, 2, rng=0)))
        change(model.net)
        with pytest.raises((TypeError, ValueError), match=message):
            model.fit(x, y)


def test_training_within_no_grad():
    model = small()
    with nn.no_grad():
        for use in (model.fit, model.profile):
            with pytest.raises(RuntimeError, match="within no_grad there are no gradients"):
                use(*drawn())
        assert model.evaluate(*drawn()).loss > 0


def test_training_within_another_precision():
    x, y = drawn()
    one, two = small(), small()
    one.fit(x, y)
    with nn.precision_scope("bf16"):
        two.fit(x, y)
    assert is_same(one.net.state_dict(), two.net.state_dict())


def test_one_number():
    model = small()
    for use in (model.fit, model.evaluate, model.profile):
        with pytest.raises(ValueError, match="x must have an axis of samples; it is one number"):
            use(3.0, 1)
        with pytest.raises(ValueError, match="y must have an axis of samples"):
            use(drawn()[0], 1)
    with pytest.raises(ValueError, match="x must have an axis of samples"):
        model.predict(3.0)


def test_one_sample_without_its_axis():
    with pytest.raises(ValueError, match=r"gives \(2,\) for x of shape \(3,\), and not one result"):
        small().predict(drawn()[0][0])


def test_whole_numbers_as_targets():
    x, y = drawn()
    assert regression(lr=0.01).fit(x, y[:, None]).rows[0]["loss"] > 0


# -- data that do not ----------------------------------------------------------------------------

WRONG = [
    (lambda x, y: (x[:, :2], y), ValueError, r"layer 0, Linear\(3, 4.*\(10, 2\).*\(4, 3\)"),
    (lambda x, y: (x[:, 0], y), ValueError, r"Linear\(3, 4"),
    (lambda x, y: (x, y + 1), ValueError, "label 2 of sample"),
    (lambda x, y: (x, y - 1), ValueError, "label -1 of sample"),
    (lambda x, y: (x, y[:, None]), ValueError, r"labels must be a vector; got shape \(\d+, 1\)"),
    (lambda x, y: (x, y + 0.0), TypeError, "labels must be integers; got float64"),
    (lambda x, y: (x, y > 0), TypeError, "labels must be integers; got bool"),
    (lambda x, y: (x, y.astype(str)), TypeError, "y must be numeric, got dtype <U"),
    (lambda x, y: (x, None), ValueError, r"object arrays are not supported \(y\)"),
    (lambda x, y: (x[:0], y[:0]), ValueError, "empty"),
    (lambda x, y: (x, y[:-1]), ValueError, "equally long"),
    (lambda x, y: (x.astype(complex), y), TypeError, "x must hold real numbers, got complex"),
    (lambda x, y: (x.astype(str), y), TypeError, "x must be numeric, got dtype <U"),
    (lambda x, y: (np.ma.masked_greater(x, 1), y), ValueError, r"masked arrays.*\(x\)"),
    (lambda x, y: (x, np.ma.masked_equal(y, 1)), ValueError, r"masked arrays.*\(y\)"),
    (lambda x, y: ([[1.0], [1.0, 2.0]], [0, 1]), ValueError, "inhomogeneous"),
]


@pytest.mark.parametrize(("change", "error", "message"), WRONG)
@pytest.mark.parametrize("where", ["fit", "validation", "evaluate"])
def test_data_that_do_not_fit(change, error, message, where):
    model, good = small(), drawn()
    bad = change(*good)
    before = model.net.state_dict()
    use = {
        "fit": lambda: model.fit(*bad, batch_size=10),
        "validation": lambda: model.fit(*good, batch_size=10, validation_data=bad),
        "evaluate": lambda: model.evaluate(*bad, batch_size=10),
    }[where]
    with pytest.raises(error, match=message):
        use()
    assert is_same(model.net.state_dict(), before)
    assert model.epoch == len(model.history) == 0
    model.fit(*good, batch_size=10)


def test_targets_of_another_shape():
    x, y = drawn()
    for targets in (y * 1.0, np.stack([y, y], axis=1)):
        with pytest.raises(ValueError, match=r"mse_loss: prediction has shape \(\d+, 1\), target"):
            regression().fit(x, targets)


@pytest.mark.parametrize("held_out", [3, (1, 2, 3), (drawn()[0],), "xy"])
def test_validation_data_that_are_no_pair(held_out):
    message = r"must be a pair \(x, y\)|numeric"
    with pytest.raises((TypeError, ValueError), match=message):
        small().fit(*drawn(), validation_data=held_out)


def test_arrays_on_another_device():
    x, y = drawn()
    with library("stand-in") as cupy:
        for bad in ((cupy.asarray(x), y), (x, cupy.asarray(y)), (cupy.asarray(x), cupy.asarray(y))):
            with pytest.raises(TypeError, match="nothing is moved to or from a device unasked"):
                small().fit(*bad)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "epochs must be at least 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": 51}, ValueError, "batch_size 51 is larger than the data, 50 samples"),
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"max_norm": 0.0}, ValueError, "max_norm must be a finite number greater than 0"),
        ({"max_value": float("nan")}, ValueError, "max_value must be a finite number"),
    ],
)
def test_options_of_fit(options, error, message):
    model = small()
    before = model.net.state_dict()
    with pytest.raises(error, match=message):
        model.fit(*drawn(), **options)
    assert is_same(model.net.state_dict(), before)


def test_options_of_compile():
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    other = nn.optim.GD(nn.Linear(3, 2).parameters(), lr=0.1)
    own = nn.optim.GD(net.parameters(), lr=0.1)
    model = nn.Model(net)
    for use in (model.fit, model.evaluate):
        with pytest.raises(RuntimeError, match="call compile first"):
            use(*drawn())
    for error, message, options in (
        (ValueError, "are not the 2 of the network", {"optimizer": other}),
        (TypeError, "optimizer must be of class Optimizer; got str", {"optimizer": "adam"}),
        (TypeError, "schedule must be of class Schedule; got float", {"schedule": 0.1}),
        (
            TypeError,
            "scaler must be of class LossScaler",
            {"scaler": 8.0, "precision": "fp16-mixed"},
        ),
        (ValueError, "precision must be one of", {"precision": "int8"}),
        (ValueError, "loss must be one of", {"loss": "hinge"}),
        (TypeError, r"float64 parameters; 0\.weight is float32", {"precision": "fp64"}),
        (ValueError, "scaler is for", {"scaler": nn.LossScaler()}),
    ):
        with pytest.raises(error, match=message):
            model.compile(**{"optimizer": own, "loss": "mse", **options})
    with pytest.raises(TypeError, match="must be a Module"):
        nn.Model("net")


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda z, y: 0.5, TypeError, "the loss must be a Tensor of shape.*got float"),
        (lambda z, y: z.sum(axis=1), ValueError, r"one number, of shape \(\); got \(32,\)"),
        (lambda z, y: nn.Tensor(np.float32(1)), RuntimeError, "computed from none with gradients"),
    ],
)
def test_losses_that_are_none(loss, error, message):
    with pytest.raises(error, match=message):
        small(loss=loss).fit(*drawn())


# -- what is not finite --------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16-mixed"])
def test_a_loss_that_is_not_finite_names_step_and_layer(precision):
    x, y = drawn()
    model, before = small(precision), small(precision)
    bad = x.copy()
    bad[20, 1] = np.nan
    with pytest.raises(LinAlgError, match=r"loss is nan in step 3 of epoch 1; first in the input"):
        model.fit(bad, y, batch_size=10, shuffle=False)
    before.fit(x[:20], y[:20], batch_size=10, shuffle=False)
    assert is_same(model.net.state_dict(), before.net.state_dict())  # two steps were made
    model.fit(x, y)  # and it can go on
    model = small(precision)
    model.net.layers[2].weight.data[0, 0] = np.inf
    with pytest.raises(LinAlgError, match=r"step 1 of epoch 1; first in layer 2, Linear\(4, 2\)"):
        model.fit(x, y, batch_size=10)


def test_a_bad_batch_leaves_running_means_as_they_were():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 2, 4, 4)), rng.integers(0, 3, 20)
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3, rng=0))
    model = compiled(net)
    model.fit(x, y, batch_size=10)
    before = net.state_dict()
    x[3] = np.inf
    with pytest.raises(LinAlgError, match="step 1 of epoch 2; first in the input"):
        model.fit(x, y, batch_size=10, shuffle=False)
    assert is_same(net.state_dict(), before)
    assert np.isfinite(model.predict(x[4:])).all()


def test_parameters_that_are_not_finite_after_the_last_step(tmp_path):
    x, y = drawn()
    model, path = small(), tmp_path / "a.safetensors"
    model.fit(x, y, batch_size=50, save_to=path)
    content = path.read_bytes()
    model.optimizer.lr = 1e39  # more than single precision has
    with pytest.raises(LinAlgError, match=r"0\.weight is not finite after epoch 2"):
        model.fit(x, y, batch_size=50, save_to=path)
    assert path.read_bytes() == content


def test_infinite_weights_in_the_first_of_several_layers():
    model = small()
    model.net.layers[0].bias.data[1] = np.nan
    with pytest.raises(LinAlgError, match=r"first in layer 0, Linear\(3, 4\)"):
        model.fit(*drawn())
    assert np.isnan(model.predict(drawn()[0])).any()  # without a warning
    with pytest.raises(LinAlgError, match=r"samples 0 to 49 is nan; first in layer 0"):
        model.evaluate(*drawn())


def test_targets_that_are_not_finite():
    x, y = drawn()
    targets = y[:, None] * 1.0
    targets[7] = np.inf
    with pytest.raises(LinAlgError, match=r"step 1 of epoch 1; first in the targets"):
        regression().fit(x, targets, batch_size=10, shuffle=False)


def test_validation_data_that_are_not_finite():
    x, y = drawn()
    bad = x.copy()
    bad[33] = np.nan
    model = small()
    with pytest.raises(LinAlgError, match=r"samples 30 to 39 is nan; first in the input"):
        model.fit(x, y, batch_size=10, validation_data=(bad, y))


def test_numbers_beyond_the_range_of_the_parameters():
    x, y = drawn()
    with pytest.raises(LinAlgError, match="first in the input"):
        small().fit(x.astype(np.float64) * 1e300, y)


@pytest.mark.parametrize("capture", [False, True])
def test_on_a_device_the_step_is_that_of_the_loss(capture):
    """Step by step, losses are looked at later; the layers are then as they are then."""
    x, y = drawn(60)
    bad = x.copy()
    bad[8] = np.nan
    with library("stand-in") as cupy:
        model = small()
        model.net.to("cuda")
        model.compile(model.optimizer, "cross_entropy", capture=capture)
        data = cupy.asarray(bad), cupy.asarray(y)
        late = "12 steps later, when it was looked at, first in layer"
        where = "first in the input" if capture else late
        with pytest.raises(LinAlgError, match=f"nan in step 3 of epoch 1; {where}"):
            model.fit(*data, batch_size=4, shuffle=False)


def test_training_on_a_device_is_training():
    x, y = drawn(60)
    host = small()
    host.fit(x, y, epochs=3, batch_size=8, validation_data=(x, y))
    with library("stand-in") as cupy:
        device = small()
        device.net.to("cuda")
        data = cupy.asarray(x), cupy.asarray(y)
        device.fit(*data, epochs=3, batch_size=8, validation_data=data)
        for name in ("loss", "val_loss", "accuracy"):
            assert np.allclose(device.history[name], host.history[name], rtol=1e-5, atol=0)
        assert device.predict(data[0]).shape == (60, 2)


def test_few_samples_are_one_batch():
    x = np.linspace(0, 1, 20)[:, None]
    net = nn.Linear(1, 1, rng=0)
    model = nn.Model(net).compile(nn.optim.SGD(net.parameters(), lr=0.1), "mse")
    model.fit(x, 2 * x, 3)
    other = nn.Model(nn.Linear(1, 1, rng=0))
    other.compile(nn.optim.SGD(other.net.parameters(), lr=0.1), "mse").fit(x, 2 * x, 3, 20)
    assert np.array_equal(net.weight.data, other.net.weight.data)
