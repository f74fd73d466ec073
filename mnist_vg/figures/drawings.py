"""Runs to Matplotlib figures, from what their event files hold.

Matplotlib is imported when something is drawn, its pyplot never: no figure stays behind, and
a notebook shows each once. A run that lacks what a figure is made from is left out of it.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.figures.style import (
    LINE_STYLES,
    PALETTE,
    SMALL,
    colour,
    colour_bar,
    finite,
    grid,
    legend,
    line,
    line_style,
    log_scale,
    panels,
    png,
    positive,
    set_title,
    spread,
    suite_of,
)
from mnist_vg.runs.run import Run
from mnist_vg.runs.tags import (
    ACCURACY_TEST,
    ACTIVATION_INPUTS,
    BACKPROPAGATED,
    GRADIENT_MEAN_ABS,
    GRADIENT_PROFILE,
    LOSS_TEST,
    LOSS_TRAIN,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORDS = 30
"""Records that a profile shows at most; a reader tells no more lines apart."""

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x < 0, 0.2 * x, x),
    "linear": lambda x: x,
}
"""The activation functions that are drawn."""


class Kind(NamedTuple):
    """A kind of figure.

    `needs` are the tables of `Run.history` that it is made from, `decision` or
    `activation`; it has room for `most` scenarios, and shows all `seeds` or one.
    """

    draw: Callable[[Sequence[Run]], "Figure"]
    needs: tuple[str, ...]
    most: int
    seeds: bool


FIGURES: dict[str, Kind] = {}
"""Every kind of figure, by the name of its function."""


def _figure(*needs, most, seeds=False):
    def register(draw):
        @functools.wraps(draw)
        def checked(runs):
            able = [run for run in runs if has(run, needs)]
            if not able:
                raise UsageError(
                    f"runs: none of {len(runs)} has {' and '.join(needs)}, from which "
                    f"{draw.__name__} is drawn; train one, perhaps with measures='full'"
                )
            return draw(able)

        FIGURES[draw.__name__] = Kind(checked, needs, most, seeds)
        return checked

    return register


def has(run, needs) -> bool:
    """Whether a run has recorded all that a figure needs."""
    return all(
        run.decision is not None
        if need == "decision"
        else run.settings.get("activation") in ACTIVATIONS
        if need == "activation"
        else need in run.history
        for need in needs
    )


@_figure(GRADIENT_MEAN_ABS, most=12)
def gradient_profile(runs: Sequence[Run]) -> "Figure":
    """Mean absolute gradient by layer, a line a record, a panel a run, axes shared.

    A log axis has no place for a gradient that vanished altogether, nor for one that
    is not finite: marks at its lower and its upper end tell of them.

    Raises:
        UsageError: no run has a record of gradients.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    records = [_gradient_records(run) for run in runs]
    last = max(steps.max(initial=0) for steps, _, _ in records)
    # The last tenth of the map is too light for lines on white.
    colours = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
    scale = ScalarMappable(Normalize(0, max(last, 1)), colours)
    # Laid out by hand: an engine takes as long for it as all of the drawing.
    figure, axes = grid(len(runs), layout=None)
    width, height = figure.get_size_inches()
    edges = (0.7 / width, 0.5 / height, 1 - 1 / width, 1 - 0.4 / height)
    figure.subplots_adjust(*edges, wspace=0.1, hspace=0.35)
    log_scale(axes[0], [table for _, table, _ in records])
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    marks = set()
    for axis, run, (steps, *tables) in zip(axes, runs, records, strict=True):
        set_title(axis, run.name)
        for record in spread(len(steps), RECORDS):
            marks |= _profile(axis, *(table[record] for table in tables), scale, steps[record])
    bar = figure.add_axes((1 - 0.85 / width, edges[1], 0.15 / width, edges[3] - edges[1]))
    colour_bar(figure, scale, "step", cax=bar)
    meaning = f"  ({', '.join(sorted(marks))})" if marks else ""
    below = {"y": 0.08 / height, "va": "bottom", "fontsize": SMALL}
    figure.supxlabel(f"layer, from the input on{meaning}", **below)
    figure.supylabel("mean |gradient|", x=0.1 / width, fontsize=SMALL)
    return figure


def _gradient_records(run):
    """Steps, gradients, and which of them are not finite, where gradients were recorded."""
    table = run.history[GRADIENT_MEAN_ABS]
    # A record without gradients has NaN too, but counts nothing that is not finite.
    counted = run.history.get("gradient_nonfinite", np.zeros_like(table)) > 0
    broken = np.isinf(table) | (np.isnan(table) & counted)
    kept = (np.isfinite(table) | broken).any(axis=1)
    return run.history["step"][kept], table[kept], broken[kept]


def _profile(axis, gradients, broken, scale, step):
    """Draw one record; what a reader is to be told of its marks."""
    style = {"color": scale.to_rgba(step), "linewidth": 1, "markersize": 2}
    layers = np.arange(1, len(gradients) + 1)
    axis.plot(layers, positive(gradients), marker="o", **style)
    style |= {"linestyle": "none", "clip_on": False, "markersize": 5}
    marks = {"▼ zero": ("v", 0, gradients == 0), "× not finite": ("x", 1, broken)}
    for marker, end, those in marks.values():
        if those.any():
            at = {"transform": axis.get_xaxis_transform(), "marker": marker}
            axis.plot(layers[those], np.full(those.sum(), end), **at, **style)
    return {meaning for meaning, (*_, those) in marks.items() if those.any()}


@_figure("weight_mean", "weight_std", most=4)
def weights_by_epoch(runs: Sequence[Run]) -> "Figure":
    """Mean and spread of each layer's weights over the epochs, a column a run.

    At 0 are the weights before training, the tutorial's "epoch -1". Where it is not known
    how many steps an epoch has, the axis is the step.

    Raises:
        UsageError: no run has full records.
    """
    return _by_epoch(runs, {"weight_mean": "mean weight", "weight_std": "std of weights"})


@_figure("gradient_mean", "gradient_std", LOSS_TRAIN, most=4)
def gradients_by_epoch(runs: Sequence[Run]) -> "Figure":
    """Mean and spread of each layer's gradient, and the batch's loss, over the epochs.

    A column a run, epochs as in `weights_by_epoch`. What is not finite is a gap, and so
    is a spread of zero.

    Raises:
        UsageError: no run has full records.
    """
    rows = {"gradient_mean": "mean gradient", "gradient_std": "std of gradient"}
    return _by_epoch(runs, rows | {LOSS_TRAIN: "loss"}, log="gradient_std")


def _by_epoch(runs, rows, log=None):
    figure, axes = panels(len(rows), len(runs), height=1.6, sharex="col", sharey="row")
    depth = max(len(run.history["layers"]) for run in runs)
    for row, (tag, label) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(label)
        if tag == log:
            log_scale(row[0], [run.history[tag] for run in runs])
        for axis, run in zip(row, runs, strict=True):
            table = (positive if tag == log else finite)(run.history[tag])
            time, _ = _time(run)
            layered = table.ndim == 2
            for layer, column in enumerate(table.T if layered else [table]):
                style = _layer_style(layer, depth) if layered else {"color": "black"}
                line(axis, time, column, linewidth=1, **style)
    for top, bottom, run in zip(axes[0], axes[-1], runs, strict=True):
        set_title(top, run.name)
        bottom.set_xlabel(_time(run)[1])
        bottom.xaxis.get_major_locator().set_params(integer=True)
    lines = max((axis.lines for axis in axes[0]), key=len)
    legend(figure, [lines[layer] for layer in spread(depth, 10)], "right upper")
    return figure


def _layer_style(layer, depth):
    from matplotlib import colormaps

    return {
        "color": colormaps["cividis"](0.85 * layer / max(depth - 1, 1)),
        "linestyle": LINE_STYLES[layer % len(LINE_STYLES)],
        "label": f"layer {layer + 1}",
    }


def _time(run):
    """The epoch of each record and its name, or the step where the epoch's length is not known."""
    steps = run.history["step"]
    if run.steps_per_epoch is None:
        return steps, "step"
    return steps / run.steps_per_epoch, "epoch"


@_figure("decision", most=12)
def decisions(runs: Sequence[Run]) -> "Figure":
    """What each network of two inputs says of the plane, and what it was trained on.

    The background is the probability of class 1, the line where that is one half.

    Raises:
        UsageError: no run tells a decision.
    """
    figure, axes = grid(len(runs), square=True)
    for axis, run in zip(axes, runs, strict=True):
        along, probability, points = run.decision.values()
        style = {"cmap": "PuOr", "vmin": 0, "vmax": 1, "alpha": 0.55}
        # A cell a value: its middle, not its edge, is where the network was asked.
        reach = along[-1] + (along[1] - along[0]) / 2
        extent = (-reach, reach, -reach, reach)
        plane = axis.imshow(probability, origin="lower", extent=extent, **style)
        if (probability < 0.5).any() and (probability > 0.5).any():
            axis.contour(along, along, probability, levels=[0.5], colors="black", linewidths=1)
        for label, marker, dark in ((0, "o", "#7f3b08"), (1, "^", "#2d004b")):
            # As pixels: thousands of shapes would make a heavy SVG.
            style = {"s": 7, "linewidths": 0.3, "edgecolors": "white", "rasterized": True}
            x, y, _ = points[points[:, 2] == label].T
            axis.scatter(x, y, marker=marker, color=dark, label=f"class {label}", **style)
        accuracy = (run.results or {}).get("test_accuracy")
        set_title(axis, run.name, "" if accuracy is None else f"test accuracy {accuracy:.1%}")
    figure.supxlabel("input 1", fontsize=SMALL)
    figure.supylabel("input 2", fontsize=SMALL)
    colour_bar(figure, plane, "probability of class 1", ax=list(axes), aspect=30)
    legend(figure, axes[0].collections[-2:], "upper left", ncols=2)
    return figure


@_figure(ACTIVATION_INPUTS, "activation", most=4)
def activations(runs: Sequence[Run]) -> "Figure":
    """Each activation function and its slope, and where on it the units of a layer stand.

    Below the function is a histogram a layer of what its activations were applied to,
    at the first record and at the last. Left out is what is none of `ACTIVATIONS`.

    Raises:
        UsageError: no run has full records of such an activation.
    """
    figure, axes = panels(2, len(runs), height=2, sharex="col")
    for top, bottom, run in zip(*axes, runs, strict=True):
        table = run.history[ACTIVATION_INPUTS]
        table = table[np.isfinite(table).any(axis=(1, 2, 3))]
        _ridges(bottom, table[-1], fill=True, color="0.75", label="last record")
        _ridges(bottom, table[0], color=PALETTE[0], linewidth=0.8, label="first record")
        edges = table[[0, -1], ..., :2]
        sums = np.linspace(min(-4, np.nanmin(edges)), max(4, np.nanmax(edges)), 1001)
        values = ACTIVATIONS[run.settings["activation"]](sums)
        top.plot(sums, values, color="black", label="activation")
        slope = {"color": PALETTE[1], "linestyle": "--", "label": "its slope"}
        top.plot(sums, np.gradient(values, sums), **slope)
        set_title(top, run.name)
        bottom.set_xlabel("input of the activation")
        bottom.set_ylim(table.shape[1] + 0.2, -0.1)
        bottom.set_yticks(1 + spread(table.shape[1], 10))
    axes[1, 0].set_ylabel("layer")
    ridges = {patch.get_label(): patch for patch in axes[1, 0].patches}
    handles = [*axes[0, 0].lines, *reversed(ridges.values())]
    legend(figure, handles, "lower center", ncols=4)
    return figure


def _ridges(axis, table, **style):
    """A histogram a layer, one below the other, each as high as its row."""
    for layer, histogram in enumerate(table, 1):
        if np.isfinite(histogram).all():
            left, right, counts = histogram.T
            heights = layer - 0.9 * counts / counts.max()
            axis.stairs(heights, [*left, right[-1]], baseline=layer, **style)


@_figure("activation_std", BACKPROPAGATED, GRADIENT_MEAN_ABS, most=len(PALETTE))
def signals_by_layer(runs: Sequence[Run]) -> "Figure":
    """What goes up and what comes down through the layers before training, a line a run.

    The spread of activations, that of back-propagated gradients, and the size of the
    weights' gradients: figures 6 to 8 of Glorot and Bengio 2010, as numbers a layer.

    Raises:
        UsageError: no run has full records.
    """
    figure, axes = panels(1, 3, height=2.5)
    labels = {
        "activation_std": "std of activations",
        BACKPROPAGATED: "rms of back-propagated gradients",
        GRADIENT_MEAN_ABS: "mean |gradient| of weights",
    }
    for axis, (tag, label) in zip(axes[0], labels.items(), strict=True):
        log_scale(axis, [run.history[tag][:1] for run in runs])
        for run in runs:
            first = positive(run.history[tag][0])
            style = {"color": colour(run.name), "linestyle": line_style(run.name)}
            line(axis, np.arange(1, len(first) + 1), first, label=run.name, **style)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel("layer")
        axis.set_ylabel(label)
    legend(figure, axes[0, 0].lines, "lower center", ncols=3)
    return figure


@_figure(ACCURACY_TEST, LOSS_TEST, most=len(PALETTE), seeds=True)
def learning(runs: Sequence[Run]) -> "Figure":
    """Test accuracy and test loss over the steps, a line a scenario.

    The seeds of a scenario, runs `NAME-seed<N>`, are one line, their median, in a band
    from the least to the largest, at the steps that all of them recorded.

    Raises:
        UsageError: no run was tested.
    """
    figure, axes = panels(1, 2, height=3)
    labels = {ACCURACY_TEST: "test accuracy", LOSS_TEST: "test loss"}
    for axis, (tag, label) in zip(axes[0], labels.items(), strict=True):
        for (_, name), group in by_scenario(runs).items():
            steps, table = _at_common_steps(group, tag)
            low, median, high = (finite(f(table, axis=0)) for f in (np.min, np.median, np.max))
            axis.fill_between(steps, low, high, color=colour(name), alpha=0.2, linewidth=0)
            style = {"color": colour(name), "linestyle": line_style(name)}
            seeds = f" ({len(group)} seeds)" if len(group) > 1 else ""
            line(axis, steps, median, label=name + seeds, **style)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
    axes[0, 0].set_ylim(0, 1.02)
    legend(figure, axes[0, 0].lines, "lower center", ncols=3)
    return figure


def _at_common_steps(runs, tag):
    """The steps that all runs recorded, and a row of values a run; a lost loss is infinite."""
    columns = []
    for run in runs:
        # An accuracy is finite wherever it was recorded, a loss is not.
        tested = np.isfinite(run.history[ACCURACY_TEST])
        values = np.nan_to_num(run.history[tag][tested], nan=np.inf, posinf=np.inf)
        columns.append(dict(zip(run.history["step"][tested].tolist(), values, strict=True)))
    steps = sorted(set.intersection(*map(set, columns)))
    return steps, np.array([[column[step] for step in steps] for column in columns])


def by_scenario(runs):
    """Folder and scenario to its runs there, in the suite's order, the lowest seed first."""
    scenarios: dict[tuple[Path, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.settings.get("seed") or 0):
        scenarios.setdefault((run.folder.parent, run.recipe), []).append(run)

    def place(item):
        _, name = item[0]
        suite = suite_of(name)
        return suite, suite.index(name) if suite else name

    return dict(sorted(scenarios.items(), key=place))


def profile_picture(run: Run) -> dict[str, bytes]:
    """A run's gradient profile by its tag, for the Images tab; nothing of one without gradients."""
    if GRADIENT_MEAN_ABS not in run.history:
        return {}
    return {GRADIENT_PROFILE: png(gradient_profile([run]))}
