"""Write docs/first_layer.md: what happens in layer 1 of the tutorial's networks, and why.

    make first-layer
    .venv/bin/python docs/first_layer.py .first-layer docs/first_layer.md

trains the networks with Adam and with plain SGD into LOGDIR, measures them, and draws the
picture beside the page.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np
from matplotlib import colormaps
from pages import markdown_table, run, write
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mnist_vg import Run, Scenario, datasets
from mnist_vg.driver import import_tensorflow, train_all
from mnist_vg.figures.style import legend, panels, png, set_title
from mnist_vg.report import Display, make_console

import_tensorflow()  # In silence.

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from mnist_vg import Model  # noqa: E402
from mnist_vg.training import make_model  # noqa: E402
from mnist_vg.training.batches import batch_indices  # noqa: E402
from mnist_vg.training.checkpoint import load_weights  # noqa: E402
from mnist_vg.training.objective import scaled_inputs  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mnist_vg.datasets import Dataset, Split

OPTIMIZERS = {
    "Adam": {"optimizer": "adam"},
    "SGD 0.01": {"optimizer": "sgd", "learning_rate": 0.01},
    "SGD 0.1": {"optimizer": "sgd", "learning_rate": 0.1},
}
"""Keras' default learning rates, and one with which SGD trains ReLU networks as well as Adam."""

NETWORKS = ("sigmoid", "relu", "leaky_relu")
EARLY = 0.16
"""The part of the training after which the networks are looked at, besides its end."""
LONGER = 10
"""How many times as long the sick network is trained to see whether it learns in the end."""
DRAWN = 2000
"""Test digits in the picture."""

PAGE = """# What really happens in layer 1

The sigmoid network of the tutorial does not learn, and its layer 1 gets almost no gradient. With
plain SGD this layer stands still. With Adam, the default, it moves further than in the networks
that learn. `make first-layer` trains them and writes this page. Figures are medians over {seeds}
seeds, after {iterations:,} updates unless another number is given.

## The optimizer decides how far layer 1 moves

{optimizers}
All of layer 1: mean absolute gradient at the first update; norm of this update, and of the whole
move, over that of the weights. SGD's update is the gradient times the learning rate (Keras' 0.01:
moved {slow_move:.1g}, accuracy {slow:.0%}). Adam divides the gradient by a running average of its
size (Kingma and Ba 2015): one gradient is {times:.0f} times smaller, and the updates are alike.

{layers}
*Difference*: standard deviation over test digits of a unit's output, at the start. A sigmoid's
slope is at most 1/4: each layer makes the gradient smaller on its way back, and the differences
between digits on their way forward. At the start all digits get the same logits.

## Why the sigmoid network moves and does not learn

![Logits of {drawn:,} test digits, in the two directions in which they differ most]({picture})

{stages}
*On a line*: how much of the sum of squares lies in one direction (by singular values) of the change
of layer 1's weights, of single digits' gradients at its units' sums, and of the differences between
digits' logits. In the sigmoid network nearly all digits soon pull the units along one line. Adam
makes this pull as large as any other: the units learn one thing together, and the logits become one
number, which sorts digits but cannot tell ten kinds apart. More directions follow late, as in deep
linear networks (Saxe et al. 2014, arXiv:1312.6120). SGD 0.1 gets to {longer_sgd:.0%} that late.

Two tests with Adam, on the same batches, with layer 1 held still. At its initial weights accuracy
is {held:.0%}, chance: its moves are needed. At the trained ReLU network's weights it is
{given:.0%}, though a linear classifier gets {probe:.0%} from its outputs: later layers lose them.
"""


class Trained(NamedTuple):
    """A finished run, with its network before training and after it."""

    run: Run
    start: Model
    end: Model


Key = tuple[str, str, int]
"""Optimizer, network, number of updates."""


def main(logdir: Path, page: Path, seeds: int, iterations: int, num_layers: int = 6) -> None:
    """Train what is not there yet, and write the page and its picture."""
    dataset = datasets.load()
    scenarios = plan(seeds, iterations, num_layers)
    found: dict[Key, list[Trained]] = {}
    with Display(make_console(), brief=True) as display:
        runs = train_all(scenarios, logdir, watch=display.watch)
        for key, finished in zip(scenarios.values(), runs, strict=True):
            found.setdefault(key, []).append(load(finished, dataset))
    picture = page.with_suffix(".png")
    picture.write_bytes(png(draw(found, dataset.test, iterations)))
    write(page, _text(found, dataset, iterations, picture.name))


def plan(seeds: int, iterations: int, num_layers: int) -> dict[Scenario, Key]:
    """What to train."""
    early, longer = round(EARLY * iterations), LONGER * iterations
    more = {
        ("sigmoid", "Adam"): [early, longer],
        ("sigmoid", "SGD 0.1"): [longer],
        ("relu", "Adam"): [early],
    }
    return {
        Scenario(
            name=f"{optimizer.replace(' ', '')}-{network}-{updates}",
            activation=network,
            iterations=updates,
            num_layers=num_layers,
            **settings,
        ).with_seed(seed): (optimizer, network, updates)
        # In this order, neighbours share a compiled program.
        for network in NETWORKS
        for optimizer, settings in OPTIMIZERS.items()
        for updates in [iterations, *more.get((network, optimizer), [])]
        for seed in range(seeds)
    }


def load(finished: Run, dataset: "Dataset") -> Trained:
    """A run's networks; its checkpoint has the final weights."""
    scenario = Scenario(**finished.settings)
    start, end = make_model(scenario, dataset), make_model(scenario, dataset)
    load_weights(finished.folder, end)
    return Trained(finished, start, end)


def measure(trained: Trained, digits: "Split") -> dict[str, Any]:
    """Every number of the tables, of one run.

    `[layers]`: `gradient` and `update` at the first record; `moved`; `difference`, at the start.
    A number each: `accuracy`, and of layer 1 the standard deviation of weights `before` and
    `after`; how much lies on a line, of the `change` of layer 1's weights and, at the start and
    at the end, of `pull` and `logits`.
    """
    history = trained.run.history
    before, after = ([layer.kernel.numpy() for layer in m.dense_layers] for m in trained[1:])
    changes = [new - old for old, new in zip(before, after, strict=True)]
    norms = [np.array([np.linalg.norm(kernel) for kernel in ks]) for ks in (changes, before)]
    return {
        "accuracy": trained.run.results["test_accuracy"],
        "gradient": history["gradient_mean_abs"][0],
        "update": history["update_ratio"][0],
        "moved": norms[0] / norms[1],
        "before": before[0].std(),
        "after": after[0].std(),
        "difference": [values.std(axis=0).mean() for values in outputs(trained.start, digits)],
        "change": on_a_line(changes[0]),
        "pull": [on_a_line(pull(model, digits)) for model in trained[1:]],
        "logits": [on_a_line(centred_logits(model, digits)) for model in trained[1:]],
    }


def outputs(model: Model, examples: "Split") -> list[np.ndarray]:
    """What each layer makes of examples, `[examples, units]`."""
    values, of_layers = _inputs(examples), []
    for layer in model.dense_layers:
        values = layer(values)
        of_layers.append(values.numpy())
    return of_layers


def centred_logits(model: Model, examples: "Split") -> np.ndarray:
    """How the logits of examples differ from their mean, `[examples, classes]`."""
    logits = outputs(model, examples)[-1]
    return logits - logits.mean(axis=0)


def pull(model: Model, examples: "Split") -> np.ndarray:
    """The gradient of each example's loss at the sums of layer 1's units, `[examples, units]`."""
    first, *others = model.dense_layers
    sums = _inputs(examples) @ first.kernel + first.bias
    with tf.GradientTape() as tape:
        tape.watch(sums)
        values = first.activation(sums)
        for layer in others:
            values = layer(values)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(examples.labels, values)
    return tape.gradient(losses, sums).numpy()


def _inputs(examples):
    return scaled_inputs(tf.constant(examples.inputs))


def on_a_line(rows: np.ndarray) -> float:
    """How much of the sum of squares lies in one direction, 0 to 1."""
    squares = np.linalg.svd(rows, compute_uv=False) ** 2
    return squares[0] / squares.sum()


def accuracy_behind(first: keras.layers.Layer, trained: Trained, dataset: "Dataset") -> float:
    """Test accuracy where a fixed layer takes the place of layer 1, and the others are trained.

    They begin as in `trained`, and see the same batches.
    """
    scenario = Scenario(**trained.run.settings)
    rest = keras.Sequential(make_model(scenario, dataset).dense_layers[1:])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rest.compile(scenario.optimizer, loss, metrics=["accuracy"], steps_per_execution=100)
    size, last = scenario.batch_size, scenario.iterations - 1
    order = batch_indices(scenario.seed, len(dataset.train.labels), size, 0, last).ravel()
    hidden, labels = first(_inputs(dataset.train)).numpy()[order], dataset.train.labels[order]
    rest.fit(hidden, labels, batch_size=size, shuffle=False, verbose=0)
    return rest.evaluate(first(_inputs(dataset.test)), dataset.test.labels, verbose=0)[1]


def linear_accuracy(layer: keras.layers.Layer, dataset: "Dataset") -> float:
    """Test accuracy of a linear classifier on a layer's outputs."""
    train, test = (layer(_inputs(split)).numpy() for split in (dataset.train, dataset.test))
    classifier = LinearDiscriminantAnalysis().fit(train, dataset.train.labels)
    return classifier.score(test, dataset.test.labels)


def draw(found: dict[Key, list[Trained]], digits: "Split", iterations: int) -> "Figure":
    """The logits of test digits, along the two directions in which they differ most."""
    shown = [("SGD 0.1", "sigmoid"), ("Adam", "sigmoid"), ("Adam", "relu")]
    figure, [axes] = panels(1, len(shown), height=2.5, sharex=True, sharey=True)
    for axis, (optimizer, network) in zip(axes, shown, strict=True):
        trained = found[optimizer, network, iterations][0]
        logits = centred_logits(trained.end, digits)
        plane = (logits @ np.linalg.svd(logits, full_matrices=False)[2][:2].T)[:DRAWN]
        for digit, colour in enumerate(colormaps["tab10"].colors):
            points = plane[digits.labels[:DRAWN] == digit].T
            axis.plot(*points, ".", color=colour, markersize=3, alpha=0.7, label=digit)
        accuracy = trained.run.results["test_accuracy"]
        set_title(axis, f"{network}, {optimizer}", f"seed 0, test accuracy {accuracy:.0%}")
        axis.set_aspect("equal")
    legend(figure, axes[0].lines, "right center")
    return figure


def _text(found, dataset, iterations, picture):
    medians = {}
    for key, trained in found.items():
        of_seeds = [measure(each, dataset.test) for each in trained]
        medians[key] = {
            name: np.median([measures[name] for measures in of_seeds], axis=0)
            for name in of_seeds[0]
        }
    sick, relu = (found["Adam", network, iterations] for network in ("sigmoid", "relu"))
    held = [accuracy_behind(each.start.dense_layers[0], each, dataset) for each in sick]
    given = [_sigmoid_layer(each.end.dense_layers[0]) for each in relu]
    pairs = zip(given, sick, strict=True)
    small, large = (medians["Adam", network, iterations]["gradient"][0] for network in NETWORKS[:2])
    slow = medians["SGD 0.01", "sigmoid", iterations]
    return PAGE.format(
        seeds=len(sick),
        iterations=iterations,
        optimizers=_optimizers(found, medians, iterations),
        times=large / small,
        layers=_layers(medians, iterations, sick[0].start.layer_names),
        slow=slow["accuracy"],
        slow_move=slow["moved"][0],
        picture=picture,
        drawn=DRAWN,
        stages=_stages(medians, iterations),
        longer_sgd=medians["SGD 0.1", "sigmoid", LONGER * iterations]["accuracy"],
        held=np.median(held),
        given=np.median([accuracy_behind(layer, each, dataset) for layer, each in pairs]),
        probe=np.median([linear_accuracy(layer, dataset) for layer in given]),
    )


def _sigmoid_layer(layer):
    """The same weights, with a sigmoid behind them."""
    copy = keras.layers.Dense(layer.units, "sigmoid")
    copy.build(layer.kernel.shape[:1])
    copy.set_weights(layer.get_weights())
    return copy


def _optimizers(found, medians, iterations):
    rows = []
    for optimizer in ("Adam", "SGD 0.1"):
        for network in NETWORKS:
            of = medians[optimizer, network, iterations]
            seeds = found[optimizer, network, iterations]
            accuracies = [each.run.results["test_accuracy"] for each in seeds]
            rows.append(
                [
                    *(optimizer, network),
                    f"{of['accuracy']:.0%} ({min(accuracies):.0%}–{max(accuracies):.0%})",
                    *(f"{of['gradient'][0]:.1e}", f"{of['update'][0]:.2g}"),
                    f"{of['moved'][0]:.2g}",
                    f"{of['before']:.3f} → {of['after']:.3f}",
                ]
            )
    headings = "Optimizer, Network, Test accuracy, Gradient, First update, Moved, Std of weights"
    return markdown_table(headings.split(", "), rows)


def _layers(medians, iterations, names):
    columns = {
        "Gradient, sigmoid": ("Adam", "sigmoid", "gradient", ".1e"),
        "Gradient, relu": ("Adam", "relu", "gradient", ".1e"),
        "Difference, sigmoid": ("Adam", "sigmoid", "difference", ".1g"),
        "Difference, relu": ("Adam", "relu", "difference", ".1g"),
        "Moved, sigmoid, Adam": ("Adam", "sigmoid", "moved", ".2g"),
        "Moved, relu, Adam": ("Adam", "relu", "moved", ".2g"),
        "Moved, sigmoid, SGD 0.1": ("SGD 0.1", "sigmoid", "moved", ".1g"),
    }
    cells = [
        [f"{value:{form}}" for value in medians[optimizer, network, iterations][name]]
        for optimizer, network, name, form in columns.values()
    ]
    return markdown_table(["Layer", *columns], zip(names, *cells, strict=True))


def _stages(medians, iterations):
    rows = []
    for network in ("sigmoid", "relu"):
        start = medians["Adam", network, iterations]
        lines = (f"{start[name][0]:.0%}" for name in ("pull", "logits"))
        rows.append([network, 0, "", "", "", *lines])
        for key in sorted(key for key in medians if key[:2] == ("Adam", network)):
            end = medians[key]
            lines = (f"{share:.0%}" for share in (end["change"], end["pull"][1], end["logits"][1]))
            moved = f"{end['moved'][0]:.2g}"
            rows.append([network, f"{key[2]:,}", f"{end['accuracy']:.0%}", moved, *lines])
    headings = (
        "Adam, Updates, Test accuracy, Layer 1 moved, On a line: the change, gradients, logits"
    )
    return markdown_table(headings.split(", "), rows)


def smoke(folder: Path) -> None:
    """The smallest size: one seed, few updates, and two layers."""
    main(folder / "runs", folder / "first_layer.md", seeds=1, iterations=20, num_layers=2)


if __name__ == "__main__":
    options = [
        click.Option(["--seeds"], default=3, show_default=True),
        click.Option(["--iterations"], default=2500, show_default=True),
    ]
    run(main, __doc__, "logdir", "page", smoke=smoke, options=options)
