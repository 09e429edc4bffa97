"""Handwritten digits by LeNet-5 and by an MLP, in single precision and in fp16-mixed.

Both nets start from the same weights in both precisions.  fp16-mixed: products of operands
rounded to fp16, summed in single precision; weights and loss in single precision, and the loss
scaled so that gradients do not underflow.  On a CPU fp16 is emulated: it shows what becomes of the
accuracy, and is slower.

LeNet-5 in fp16-mixed is saved halfway; another model goes on from the file, to the same weights.

The nets are held to a linear fit by least squares [1, table of section III], and the two
precisions to each other by McNemar's test [2]: of the images that only one of them has right, each
is as likely to have more as fewer, three standard deviations allowed.

The digits are scikit-learn's, 8 by 8 pixels, or with --mnist those of MNIST, whose four IDX files
(also packed by gzip) are in the folder given.

[1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Proceedings of the IEEE 86 (1998) 2278-2324.
[2] Q. McNemar, Psychometrika 12 (1947) 153-157.

    python examples/13_digits.py
    python examples/13_digits.py --mnist FOLDER --n 6
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import BLUE, ORANGE, Checks, new_figure, options, save

from mplinalg import nn

PRECISIONS = ("fp32", "fp16-mixed")
KINDS = ("images-idx3", "labels-idx1")
FITTED = 1198
"""Of scikit-learn's 1797 digits, those that are trained with."""
SOURCE = "a linear fit by numpy.linalg.lstsq, McNemar's test, and the run that went on"


def digits(folder):
    """Images and labels to train with, and unseen ones."""
    if folder is None:
        x, y = nn.data.digits()
        order = np.random.default_rng(0).permutation(len(x))
        return [(x[some], y[some]) for some in np.split(order, [FITTED])]
    files = [[f"{part}-{kind}-ubyte" for kind in KINDS] for part in ("train", "t10k")]
    found = [[next(Path(folder).glob(f"{f}*"), Path(folder, f)) for f in two] for two in files]
    return [nn.data.mnist_idx(*two) for two in found]


def enlarged(x):
    """32 by 32 pixels: each one several times, then zeros around."""
    times = 32 // x.shape[-1]
    x = x.repeat(times, axis=2).repeat(times, axis=3)
    around = (32 - x.shape[-1]) // 2
    return np.pad(x, ((0, 0), (0, 0), (around, around), (around, around)))


def lenet5(shape):
    rng = np.random.default_rng(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, rng=rng), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 120, 5, rng=rng), nn.ReLU(), nn.Flatten(),
        nn.Linear(120, 84, rng=rng), nn.ReLU(), nn.Linear(84, 10, rng=rng),
    )  # fmt: skip


def mlp(shape):
    rng = np.random.default_rng(1)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(int(np.prod(shape)), 128, rng=rng), nn.ReLU(),
        nn.Linear(128, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng),
    )  # fmt: skip


def model(make, x, precision, epochs):
    net = make(x.shape[1:])
    return nn.Model(net).compile(
        nn.optim.AdamW(net.parameters(), lr=3e-3), "cross_entropy", precision=precision,
        schedule=nn.schedules.Cosine(epochs),
    )  # fmt: skip


def linear(seen, unseen):
    """The share of unseen images that a linear fit has wrong."""
    a, b = (np.c_[x.reshape(len(x), -1), np.ones(len(x))] for x, _ in (seen, unseen))
    fit = np.linalg.lstsq(a, np.eye(10)[seen[1]], rcond=None)[0]
    return np.mean((b @ fit).argmax(axis=1) != unseen[1])


def side_by_side(seen, unseen, epochs, path, checks):
    """Models by net and precision; each is saved halfway to `path`, and the last resumed."""
    models, labels = {}, unseen[1]
    limit, halfway = linear(seen, unseen), epochs // 2
    print(f"{'':<22}{'loss':>10}{'wrong':>8}{'skipped':>9}{'scale':>8}{'s/epoch':>9}")
    for name, make, sized in (("MLP", mlp, np.asarray), ("LeNet-5", lenet5, enlarged)):
        (x, y), (x_new, _) = parts = [(sized(images), wanted) for images, wanted in (seen, unseen)]
        right = {}
        for precision in PRECISIONS:
            one = models[name, precision] = model(make, x, precision, epochs)
            one.fit(x, y, halfway, validation_data=parts[1])
            one.save(path)
            history = one.fit(x, y, epochs - halfway, validation_data=parts[1])
            right[precision] = one.predict(x_new).argmax(axis=1) == labels
            wrong, last = 1 - np.mean(right[precision]), history.rows[-1]
            print(
                f"{name:<10}{precision:<12}{last['loss']:>10.5f}{wrong:>8.2%}"
                f"{sum(history['skipped']) if 'skipped' in last else '-':>9}"
                f"{last.get('scale', '-'):>8}{min(history['seconds']):>9.3f}"
            )
            checks.add(f"{name}, {precision}: wrong", wrong, limit, wrong, limit)
        full, half = right.values()
        allowed = 3 * np.sqrt((full != half).sum()) / len(labels)
        less = max(0.0, full.mean() - half.mean())
        checks.add(f"{name}, fp16-mixed: right", half.mean(), full.mean(), less, allowed)

    resumed = model(make, x, precision, epochs).load(path)
    resumed.fit(x, y, epochs - halfway)
    weights = [m.net.state_dict().values() for m in (resumed, one)]
    apart = max(float(abs(a - b).max()) for a, b in zip(*weights, strict=True))
    checks.add(f"{name}, {precision}: resumed", None, None, apart, 0)
    read = resumed.predict(x_new[:20]).argmax(axis=1)
    print(f"\n{name}, resumed, reads: ", *read, "\nand these are:           ", *labels[:20])
    return models


def draw(args, models):
    figure, axes = new_figure([["loss", "wrong"]], size=(9, 4))
    for (name, precision), one in models.items():
        colour = BLUE if precision == "fp32" else ORANGE
        style = {"color": colour, "ls": "-" if name == "MLP" else "--"}
        epochs = np.arange(1, len(one.history) + 1)
        axes["loss"].semilogy(epochs, one.history["loss"], label=f"{name}, {precision}", **style)
        wrong = 100 * (1 - np.array(one.history["val_accuracy"]))
        axes["wrong"].semilogy(epochs, wrong, **style)
    axes["loss"].set(xlabel="epoch", title="loss")
    axes["wrong"].set(xlabel="epoch", title="unseen images that are wrong, %")
    axes["loss"].legend()
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=16, least=6, most=1000, meaning="epochs", output="digits.png",
        values={"--mnist": "folder with MNIST's files"},
    )  # fmt: skip
    try:
        seen, unseen = digits(args.mnist)
        import safetensors  # noqa: F401
    except ImportError as error:
        sys.exit(f"This example needs pip install 'mplinalg[nn]' ({error})")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print(f"{len(seen[1])} images to train with, {len(unseen[1])} unseen\n")
    checks = Checks(SOURCE)
    with tempfile.TemporaryDirectory() as folder:
        models = side_by_side(seen, unseen, args.n, Path(folder, "model.safetensors"), checks)
    if not args.no_plot:
        draw(args, models)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
