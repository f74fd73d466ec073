"""Draws runs as Matplotlib figures, from their event files.

A run that lacks the records for a figure is left out of it. Matplotlib is imported on first use.
pyplot is never used: it would keep every figure in memory, and show it twice in a notebook.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnist_vg.errors import UsageError
from mnist_vg.figures.style import (
    LINE_STYLES,
    PALETTE,
    SMALL,
    colour_bar,
    evenly_spread,
    finite,
    grid,
    grouped,
    legend,
    line,
    log_scale,
    looks,
    panels,
    png,
    positive,
    set_title,
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

MAX_RECORDS = 30
"""Most records in a gradient profile; a reader cannot tell more lines apart."""

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x < 0, 0.2 * x, x),
    "linear": lambda x: x,
}
"""The activation functions that can be drawn."""


class Kind(NamedTuple):
    """A kind of figure.

    Attributes:
        draw: the function that draws runs.
        needs: what a run must have: keys of `Run.history`, "decision" for `Run.decision`, or
            "activation" for an activation in `ACTIVATIONS`.
        max_scenarios: how many scenarios a figure has room for.
        all_seeds: whether it shows all seeds of a scenario, or only the lowest one.
    """

    draw: Callable[[Sequence[Run]], "Figure"]
    needs: tuple[str, ...]
    max_scenarios: int
    all_seeds: bool


PICTURE_LIMITS = (1e-8, 1)
"""What the axis of a run's picture shows at least, so that pictures of runs can be compared.

Networks that learn have gradients between 0.0001 and 0.1. One of 1e-8, at a learning rate of 0.1,
changes no weight of 0.1: float32 has seven digits. The named suites record 1e-34 to 1e33, in which
healthy runs would look alike, so the axis grows only for a run that needs it.
"""

FIGURES: dict[str, Kind] = {}
"""Every kind of figure, by the name of its function."""


def _figure(*needs, max_scenarios, all_seeds=False):
    """Register a function as a `Kind`, and call it only with the runs that have what it needs."""

    def register(draw):
        @functools.wraps(draw)
        def checked(runs):
            drawable = [run for run in runs if has_recorded(run, needs)]
            if not drawable:
                raise UsageError(
                    f"runs: none of {len(runs)} runs has {' and '.join(needs)}, which "
                    f"{draw.__name__} needs; train a run that has, perhaps with measures='full'"
                )
            return draw(drawable)

        FIGURES[draw.__name__] = Kind(checked, needs, max_scenarios, all_seeds)
        return checked

    return register


def has_recorded(run, needs) -> bool:
    """Whether a run has everything that a figure needs; see `Kind.needs`."""
    return all(
        run.decision is not None
        if need == "decision"
        else run.settings.get("activation") in ACTIVATIONS
        if need == "activation"
        else need in run.history
        for need in needs
    )


@_figure(GRADIENT_MEAN_ABS, max_scenarios=12)
def gradient_profile(runs: Sequence[Run]) -> "Figure":
    """Draw the mean absolute gradient of each layer: a panel for each run, a line for each record.

    A log axis cannot show a gradient of zero or one that is not finite. They are marked at its
    lower and upper end.

    Raises:
        UsageError: no run has recorded gradients.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    records = [_gradient_records(run) for run in runs]
    last = max(steps.max(initial=0) for steps, _, _ in records)
    # The last tenth of the colour map is too light for lines on white.
    colours = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
    scale = ScalarMappable(Normalize(0, max(last, 1)), colours)
    # Placed by hand, because a layout engine takes as long as the rest of the drawing.
    figure, axes = grid(len(runs), layout=None)
    width, height = figure.get_size_inches()
    edges = (0.7 / width, 0.5 / height, 1 - 1 / width, 1 - 0.4 / height)
    figure.subplots_adjust(*edges, wspace=0.1, hspace=0.35)
    log_scale(axes[0], [gradients for _, gradients, _ in records])
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    marks = set()
    for axis, run, (steps, gradients, nonfinite) in zip(axes, runs, records, strict=True):
        set_title(axis, run.name)
        for n in evenly_spread(len(steps), MAX_RECORDS):
            marks |= _profile(axis, gradients[n], nonfinite[n], scale, steps[n])
    bar = figure.add_axes((1 - 0.85 / width, edges[1], 0.15 / width, edges[3] - edges[1]))
    colour_bar(figure, scale, "step", cax=bar)
    legend_text = f"  ({', '.join(sorted(marks))})" if marks else ""
    below = {"y": 0.08 / height, "va": "bottom", "fontsize": SMALL}
    figure.supxlabel(f"layer, from the input on{legend_text}", **below)
    figure.supylabel("mean |gradient|", x=0.1 / width, fontsize=SMALL)
    return figure


def _gradient_records(run):
    """Steps, gradients and which of these are not finite, for records and layers with any."""
    gradients = run.history[GRADIENT_MEAN_ABS]
    # A record without gradients is NaN as well, but it counts no value that is not finite.
    counted = run.history.get("gradient_nonfinite", np.zeros_like(gradients)) > 0
    nonfinite = np.isinf(gradients) | (np.isnan(gradients) & counted)
    known = np.isfinite(gradients) | nonfinite
    recorded, layers = known.any(axis=1), known.any(axis=0)
    parts = (gradients[recorded][:, layers], nonfinite[recorded][:, layers])
    return run.history["step"][recorded], *parts


def _profile(axis, gradients, nonfinite, scale, step):
    """Draw one record, and return the explanations of the marks that it has."""
    style = {"color": scale.to_rgba(step), "linewidth": 1, "markersize": 2}
    layers = np.arange(1, len(gradients) + 1)
    axis.plot(layers, positive(gradients), marker="o", **style)
    style |= {"linestyle": "none", "clip_on": False, "markersize": 5}
    marks = {"▼ zero": ("v", 0, gradients == 0), "× not finite": ("x", 1, nonfinite)}
    for marker, end, marked in marks.values():
        if marked.any():
            options = {"transform": axis.get_xaxis_transform(), "marker": marker}
            axis.plot(layers[marked], np.full(marked.sum(), end), **options, **style)
    return {text for text, (*_, marked) in marks.items() if marked.any()}


@_figure("weight_mean", "weight_std", max_scenarios=4)
def weights_by_epoch(runs: Sequence[Run]) -> "Figure":
    """Draw mean and standard deviation of each layer's weights by epoch: a column for each run.

    At 0 are the weights before training, which the tutorial calls epoch -1. If the number of
    steps per epoch is not known, the horizontal axis is the step.

    Raises:
        UsageError: no run has full records.
    """
    return _by_epoch(runs, {"weight_mean": "mean weight", "weight_std": "std of weights"})


@_figure("gradient_mean", "gradient_std", LOSS_TRAIN, max_scenarios=4)
def gradients_by_epoch(runs: Sequence[Run]) -> "Figure":
    """Draw mean and standard deviation of each layer's gradient, and the batch's loss, by epoch.

    There is a column for each run. The horizontal axis is that of `weights_by_epoch`. Values that
    are not finite leave a gap, and so do standard deviations of zero.

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
            values = (positive if tag == log else finite)(run.history[tag])
            time, _ = _time(run)
            by_layer = values.ndim == 2
            for layer, column in enumerate(values.T if by_layer else [values]):
                style = _layer_style(layer, depth) if by_layer else {"color": "black"}
                line(axis, time, column, linewidth=1, **style)
    for top, bottom, run in zip(axes[0], axes[-1], runs, strict=True):
        set_title(top, run.name)
        bottom.set_xlabel(_time(run)[1])
        bottom.xaxis.get_major_locator().set_params(integer=True)
    lines = max((axis.lines for axis in axes[0]), key=len)
    legend(figure, [lines[layer] for layer in evenly_spread(depth, 10)], "right upper")
    return figure


def _layer_style(layer, depth):
    from matplotlib import colormaps

    return {
        "color": colormaps["cividis"](0.85 * layer / max(depth - 1, 1)),
        "linestyle": LINE_STYLES[layer % len(LINE_STYLES)],
        "label": f"layer {layer + 1}",
    }


def _time(run):
    """The epoch of each record and "epoch"; without the length of an epoch, the step and "step"."""
    steps = run.history["step"]
    if run.steps_per_epoch is None:
        return steps, "step"
    return steps / run.steps_per_epoch, "epoch"


@_figure("decision", max_scenarios=12)
def decisions(runs: Sequence[Run]) -> "Figure":
    """Draw the decision regions of networks with two inputs, and their training examples.

    The background is the probability of class 1. The line is where it is one half.

    Raises:
        UsageError: no run has recorded decision regions. Only full records of a network with two
            inputs and two classes have them.
    """
    figure, axes = grid(len(runs), square=True)
    for axis, run in zip(axes, runs, strict=True):
        positions, probability, points = run.decision.values()
        style = {"cmap": "PuOr", "vmin": 0, "vmax": 1, "alpha": 0.55}
        # The network was evaluated at the centre of each pixel, so the image ends half a pixel
        # beyond the last position.
        reach = positions[-1] + (positions[1] - positions[0]) / 2
        extent = (-reach, reach, -reach, reach)
        plane = axis.imshow(probability, origin="lower", extent=extent, **style)
        if (probability < 0.5).any() and (probability > 0.5).any():
            boundary = {"levels": [0.5], "colors": "black", "linewidths": 1}
            axis.contour(positions, positions, probability, **boundary)
        for label, marker, dark in ((0, "o", "#7f3b08"), (1, "^", "#2d004b")):
            # Rasterized, because thousands of shapes make an SVG slow.
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


@_figure(ACTIVATION_INPUTS, "activation", max_scenarios=4)
def activations(runs: Sequence[Run]) -> "Figure":
    """Draw each run's activation function with its slope, and a histogram of each layer's inputs.

    The histograms count the inputs of the activation function in each hidden layer, at the first
    and at the last record. Runs whose activation is not in `ACTIVATIONS` are left out.

    Raises:
        UsageError: no run has full records and such an activation.
    """
    figure, axes = panels(2, len(runs), height=2, sharex="col")
    for top, bottom, run in zip(*axes, runs, strict=True):
        # `[records, layers, buckets, (left edge, right edge, count)]`
        histograms = run.history[ACTIVATION_INPUTS]
        histograms = histograms[np.isfinite(histograms).any(axis=(1, 2, 3))]
        _ridges(bottom, histograms[-1], fill=True, color="0.75", label="last record")
        _ridges(bottom, histograms[0], color=PALETTE[0], linewidth=0.8, label="first record")
        edges = histograms[[0, -1], ..., :2]
        inputs = np.linspace(min(-4, np.nanmin(edges)), max(4, np.nanmax(edges)), 1001)
        outputs = ACTIVATIONS[run.settings["activation"]](inputs)
        top.plot(inputs, outputs, color="black", label="activation")
        slope = {"color": PALETTE[1], "linestyle": "--", "label": "its slope"}
        top.plot(inputs, np.gradient(outputs, inputs), **slope)
        set_title(top, run.name)
        bottom.set_xlabel("input of the activation")
        layers = histograms.shape[1]
        bottom.set_ylim(layers + 0.2, -0.1)
        bottom.set_yticks(1 + evenly_spread(layers, 10))
    axes[1, 0].set_ylabel("layer")
    ridges = {patch.get_label(): patch for patch in axes[1, 0].patches}
    handles = [*axes[0, 0].lines, *reversed(ridges.values())]
    legend(figure, handles, "lower center", ncols=4)
    return figure


def _ridges(axis, histograms, **style):
    """Draw the layers' histograms below each other, scaled to the same height."""
    for layer, histogram in enumerate(histograms, 1):
        if np.isfinite(histogram).all():
            left, right, counts = histogram.T
            heights = layer - 0.9 * counts / counts.max()
            axis.stairs(heights, [*left, right[-1]], baseline=layer, **style)


@_figure("activation_std", BACKPROPAGATED, GRADIENT_MEAN_ABS, max_scenarios=len(PALETTE))
def signals_by_layer(runs: Sequence[Run]) -> "Figure":
    """Draw each layer's signals and gradients at the first record: a line for each run.

    These are the standard deviation of the activations, the root mean square of the
    back-propagated gradients, and the mean absolute gradient of the weights. Glorot and Bengio
    2010 show the distributions of these in figures 6 to 8.

    Raises:
        UsageError: no run has full records.
    """
    figure, axes = panels(1, 3, height=2.5)
    labels = {
        "activation_std": "std of activations",
        BACKPROPAGATED: "rms of back-propagated gradients",
        GRADIENT_MEAN_ABS: "mean |gradient| of weights",
    }
    styles = looks(run.name for run in runs)
    for axis, (tag, label) in zip(axes[0], labels.items(), strict=True):
        log_scale(axis, [run.history[tag][:1] for run in runs])
        for run in runs:
            first = positive(run.history[tag][0])
            line(axis, np.arange(1, len(first) + 1), first, label=run.name, **styles[run.name])
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel("layer")
        axis.set_ylabel(label)
    legend(figure, axes[0, 0].lines, "lower center", ncols=3)
    return figure


@_figure(ACCURACY_TEST, LOSS_TEST, max_scenarios=len(PALETTE), all_seeds=True)
def learning(runs: Sequence[Run]) -> "Figure":
    """Draw test accuracy and test loss by step: a line for each scenario.

    The seeds of a scenario (runs `NAME-seed<N>`) share a line, their median, and a band from the
    lowest to the highest, at the steps that all of them recorded.

    Raises:
        UsageError: no run has a test accuracy and a test loss.
    """
    figure, axes = panels(1, 2, height=3)
    labels = {ACCURACY_TEST: "test accuracy", LOSS_TEST: "test loss"}
    scenarios = grouped(runs)
    styles = looks(name for _, name in scenarios)
    for axis, (tag, label) in zip(axes[0], labels.items(), strict=True):
        for (_, name), seeds in scenarios.items():
            steps, values = _at_common_steps(seeds, tag)
            low, median, high = (finite(f(values, axis=0)) for f in (np.min, np.median, np.max))
            shade = styles[name]["color"]
            axis.fill_between(steps, low, high, color=shade, alpha=0.2, linewidth=0)
            note = f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
            line(axis, steps, median, label=name + note, **styles[name])
        axis.set_xlabel("step")
        axis.set_ylabel(label)
    axes[0, 0].set_ylim(0, 1.02)
    legend(figure, axes[0, 0].lines, "lower center", ncols=3)
    return figure


def _at_common_steps(runs, tag):
    """The steps that all runs recorded, and values `[runs, steps]`; a loss of NaN is infinite."""
    by_step = []
    for run in runs:
        # A recorded accuracy is always finite; a recorded loss may not be.
        tested = np.isfinite(run.history[ACCURACY_TEST])
        values = np.nan_to_num(run.history[tag][tested], nan=np.inf, posinf=np.inf)
        by_step.append(dict(zip(run.history["step"][tested].tolist(), values, strict=True)))
    steps = sorted(set.intersection(*map(set, by_step)))
    return steps, np.array([[values[step] for step in steps] for values in by_step])


def profile_picture(run: Run) -> dict[str, bytes]:
    """Tag and PNG of a run's gradient profile, for the Images tab; empty without gradients."""
    if GRADIENT_MEAN_ABS not in run.history:
        return {}
    figure = gradient_profile([run])
    panel, low, high = figure.axes[0], *PICTURE_LIMITS
    # The limits of the run's own values are powers of ten, too.
    panel.set_ylim(min(low, panel.get_ylim()[0]), max(high, panel.get_ylim()[1]))
    return {GRADIENT_PROFILE: png(figure)}
