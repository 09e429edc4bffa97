"""A search for hyperparameters with Optuna: a dozen short trials of an MLP on digits.

A trial draws a learning rate, a width, a momentum, a weight decay and whether products are rounded
to bf16, trains for some epochs, and is judged by the loss on validation data.  It reports that
after each epoch, so that Optuna [1] stops it if it is worse than the median of the trials before.

The best trial is trained once more, from its seed, to the same bits, and meets images that
no trial has seen; it is held to a linear fit by least squares.

[1] T. Akiba, S. Sano, T. Yanase, T. Ohta and M. Koyama, KDD (2019) 2623-2631.

    python examples/16_hyperparameters.py
"""

import sys

import numpy as np
from _common import BLUE, GREY, ORANGE, Checks, new_figure, options, save

from mplinalg import nn

EPOCHS, FIRST, SECOND = 8, 898, 1348
"""Epochs of a trial; images up to FIRST are for training, from SECOND on unseen."""
SOURCE = "the trial that is repeated; a linear fit by numpy.linalg.lstsq"


def model(lr, width, momentum, decay, precision):
    rng = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, width, rng=rng), nn.ReLU(), nn.Linear(width, 10, rng=rng)
    )
    optimiser = nn.optim.SGD(net.parameters(), lr, momentum=momentum, weight_decay=decay)
    return nn.Model(net).compile(optimiser, "cross_entropy", precision=precision)


def parameters(trial):
    return {
        "lr": trial.suggest_float("lr", 1e-3, 1.0, log=True),
        "width": trial.suggest_int("width", 8, 256, log=True),
        "momentum": trial.suggest_float("momentum", 0.0, 0.95),
        "decay": trial.suggest_float("decay", 1e-6, 1e-2, log=True),
        "precision": trial.suggest_categorical("precision", ["fp32", "bf16-mixed"]),
    }


def study(optuna, trials, seen, validation):
    """The study, after so many trials."""

    def trained(trial):
        one = model(**parameters(trial))
        for epoch in range(EPOCHS):
            try:
                loss = one.fit(*seen, validation_data=validation)["val_loss"][-1]
            except np.linalg.LinAlgError:  # the loss was not finite
                raise optuna.TrialPruned from None
            trial.report(loss, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    )
    found.optimize(trained, trials)
    return found


def is_whole(trial):
    return trial.state.name == "COMPLETE"


def draw(args, trials, best):
    figure, axes = new_figure([["curves", "rates"]], size=(9, 4))
    for trial in trials:
        losses = [trial.intermediate_values[k] for k in sorted(trial.intermediate_values)]
        colour = BLUE if trial is best else GREY if is_whole(trial) else ORANGE
        axes["curves"].semilogy(range(1, len(losses) + 1), losses, ".-", color=colour)
        if losses:
            axes["rates"].loglog(trial.params["lr"], losses[-1], "o", color=colour)
    axes["curves"].set(xlabel="epoch", title="validation loss: best blue, stopped orange")
    axes["rates"].set(xlabel="learning rate", title="the last one of each trial")
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=12, least=2, most=1000, meaning="trials", output="hyperparameters.png"
    )
    try:
        import optuna

        x, y = nn.data.digits()
    except ImportError as error:
        sys.exit(f"This example needs pip install 'mplinalg[examples]' ({error})")
    order = np.random.default_rng(0).permutation(len(x))
    parts = [(x[some], y[some]) for some in np.split(order, [FIRST, SECOND])]
    found = study(optuna, args.n, *parts[:2])
    trials = found.trials
    best = trials[found.best_trial.number]
    print(f"{'trial':>5}{'lr':>10}{'width':>7}{'momentum':>10}{'decay':>10}{'':>13}{'loss':>9}")
    for trial in trials:
        p, epochs = trial.params, len(trial.intermediate_values)
        loss = f"{trial.value:9.4f}" if is_whole(trial) else f"  stopped after {epochs}"
        print(
            f"{trial.number:>5}{p['lr']:>10.4f}{p['width']:>7}{p['momentum']:>10.3f}"
            f"{p['decay']:>10.1e}  {p['precision']:<11}{loss}{' *' if trial is best else ''}"
        )

    checks, again = Checks(SOURCE), model(**best.params)
    loss = again.fit(*parts[0], EPOCHS, validation_data=parts[1])["val_loss"][-1]
    checks.add("best trial, repeated: loss", loss, best.value, abs(loss - best.value), 0)
    a, b = (np.c_[x.reshape(len(x), -1), np.ones(len(x))] for x, _ in (parts[0], parts[2]))
    fit = np.linalg.lstsq(a, np.eye(10)[parts[0][1]], rcond=None)[0]
    limit = np.mean((b @ fit).argmax(axis=1) != parts[2][1])
    wrong = 1 - again.evaluate(*parts[2]).accuracy
    checks.add("unseen images that are wrong", wrong, limit, wrong, limit)
    if not args.no_plot:
        draw(args, trials, best)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
