"""Write docs/trainability.md: where networks train, and how far theory says that signals reach.

    make trainability-map
    .venv/bin/python docs/trainability.py .trainability/trainability docs/trainability.md

reads the sweep in FOLDER, over layers and the scale of the initial weights, and draws the
picture beside the page.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.patheffects import withStroke
from pages import markdown_table, run, write

from mnist_vg import Scenario, UsageError
from mnist_vg.figures.style import SMALL, legend, png
from mnist_vg.runs.results import kappa
from mnist_vg.scenarios.initializers import parse_initializer
from mnist_vg.sweeps import heatmaps
from mnist_vg.sweeps.axes import Axis, cells, on_grid
from mnist_vg.sweeps.sweep import Sweep
from mnist_vg.sweeps.sweeper import Sweeper
from mnist_vg.sweeps.table import TEST_ACCURACY, last_records, load_sweep, read_sweep
from mnist_vg.tensorflow_import import import_tensorflow

import_tensorflow()  # In silence.

from mnist_vg.theory import fixed_point, trainable_depth  # noqa: E402

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

LAYERS, WEIGHTS = "num_layers", "kernel_initializer"

SLIGHT_KAPPA, FAIR_KAPPA = 0.2, 0.4
"""Up to where agreement beyond chance is slight, and fair: Landis and Koch 1977, p. 165."""

PAGE = """# Where networks train

Random networks may be trained where information can travel through them (Schoenholz et al. 2017,
*Deep Information Propagation*, arXiv:1611.01232). How far it travels, mean-field theory tells from
the activation and the variances of weights and biases; what trains, a sweep tells.

```sh
make trainability-map
```

trains {networks:,} networks and writes this page: {layers} depths from {fewest} to {most} layers,
each with {scales} variances of its initial weights, of {seeds} seeds. Common to all: {settings}.

![Test accuracy over layers and weight variance, and how far signals reach in theory]({picture})

## What is seen

Colours are accuracies on the test digits after the last update. σ_w² is the variance of an
initial weight times the number of its inputs; the variance of a bias is {bias:.2g}. In wide
networks the correlation of two inputs comes e-fold closer to a fixed value over ξ layers, and in
the paper networks trained up to about 6ξ: that is the line. Its peak, at σ_w² ≈ {edge:.1f}, is the
edge of chaos. With smaller weights the layers make all inputs alike, and gradients vanish; with
larger ones they make like inputs unlike, and gradients explode.

Dots are where all seeds train: where κ, the share of what chance gets wrong that is right, is above
{slight} (up to there agreement beyond chance is slight: Landis and Koch 1977, p. 165).

{reached}
## How well the theory agrees

{rules}
Depth is the number of hidden layers, `num_layers` - 1: that often a signal goes through an
activation and on through the next weights. The last three rules know how these networks ended,
and are there to compare with; the theory knows neither that nor the data. Yet its test is not a
blind one: of four learning rates in a coarse trial this is the one that agreed best. With larger
ones the deepest networks within the line fail too; with a smaller one, networks on either side
of it. And κ above {slight} is little: where training is to take κ above {fair}, more than fair
agreement, the theory is right for {stricter.right:.1%}, and the best multiple of ξ is
{stricter.multiple:.1f}. What does not train here may do so in more updates, or where it is wider.
"""


class Map(NamedTuple):
    """A sweep over layers and weight variances.

    `networks` has the last record of each network, with `depth` (its hidden layers), ξ as `xi`, the
    depth that the theory allows as `reach`, and `kappa`. `base` are the settings of all.
    """

    networks: "pandas.DataFrame"
    rows: Axis
    columns: Axis
    base: dict[str, Any]

    @property
    def variances(self) -> np.ndarray:
        """The weight variance of each column."""
        return np.array([weight_variance(text) for text in self.columns.values])

    def theory(self, weight_variances) -> tuple:
        """What precedes the bias variance, and that, as the functions of `theory` take them."""
        bias = bias_variance(self.base["bias_initializer"])
        return self.base["activation"], weight_variances, bias

    def trains(self) -> np.ndarray:
        """Where the networks of every seed train, `[rows, columns]`."""
        axes = [self.rows, self.columns]
        return on_grid(cells(self.networks, axes, "kappa").min(), axes) > SLIGHT_KAPPA


def read(folder: Path) -> Map:
    """A finished sweep, judged.

    Raises:
        UsageError: it is not over layers and the scale of weights alone, or not finished.
    """
    sweep = load_sweep(folder)
    axes = sweep["axes"]
    varied = {field: Axis.of(field, values) for field, values in axes.items()}
    if varied.keys() != {LAYERS, WEIGHTS} or not all(
        axis.numeric and len(axis.values) > 1 for axis in varied.values()
    ):
        raise UsageError(
            f"sweep: {folder} varies {', '.join(axes)}; vary {LAYERS} and the scale of {WEIGHTS}, "
            "and nothing else, over two values or more"
        )
    records, _ = read_sweep(folder)
    last = last_records(records)
    count = math.prod(map(len, axes.values())) * sweep["seeds"]
    if len(last) < count:
        raise UsageError(
            f"sweep: {folder} has {len(last)} of {count} networks; give its command again, and it "
            "goes on"
        )
    swept = Map(last, varied[LAYERS], varied[WEIGHTS], sweep["base"])
    column = swept.columns.positions(last[WEIGHTS])
    theory = swept.theory(swept.variances)
    return swept._replace(
        networks=last.assign(
            depth=last[LAYERS] - 1,
            xi=fixed_point(*theory).correlation_depth[column],
            reach=trainable_depth(*theory)[column],
            kappa=kappa(last[TEST_ACCURACY], last["chance"]),
        )
    )


def weight_variance(initializer: str) -> float:
    """The variance of a weight times the number of inputs, σ_w².

    That is the scale of Keras' `variance_scaling` over fan_in, whatever the distribution.
    """
    name, arguments = parse_initializer(initializer)
    if name != "variance_scaling" or arguments.get("mode", "fan_in") != "fan_in":
        raise UsageError(
            f"{WEIGHTS}: {initializer} has no variance that is one for all layers; use "
            "variance_scaling(scale=…,mode='fan_in')"
        )
    return arguments.get("scale", 1.0)


def bias_variance(initializer: str) -> float:
    """The variance of a bias, σ_b²."""
    name, arguments = parse_initializer(initializer)
    if name == "zeros":
        return 0.0
    if name != "random_normal" or "stddev" not in arguments or arguments.get("mean"):
        raise UsageError(
            f"bias_initializer: {initializer} is not known here; use zeros or "
            "random_normal(stddev=…)"
        )
    return arguments["stddev"] ** 2


def draw(swept: Map) -> "Figure":
    """The heatmap of accuracies, a dot where networks train, and the theory's line."""
    axes = {axis.field: axis.values for axis in (swept.columns, swept.rows)}
    figure = heatmaps.draw(swept.networks, axes, x=WEIGHTS, y=LAYERS)[TEST_ACCURACY]
    figure.set_size_inches(7, 5)
    title = "variance of a weight times the number of its inputs, σ_w²\nmedian over seeds"
    figure.supxlabel(title, fontsize=SMALL)
    panel = figure.axes[0]
    panel.autoscale(False)
    row, column = np.nonzero(swept.trains())
    label = f"all seeds train, κ > {SLIGHT_KAPPA}"
    [dots] = panel.plot(column, row, "o", color="black", markersize=2, label=label)
    # Light with a dark border, it is seen on every colour.
    dark = [withStroke(linewidth=4, foreground="black")]
    style = {"color": "white", "linewidth": 2, "path_effects": dark}
    [border] = panel.plot(*curve(swept), **style, label="theory: 6ξ hidden layers")
    legend(figure, [border, dots], "upper center", ncols=2)
    return figure


def curve(swept: Map) -> tuple[np.ndarray, np.ndarray]:
    """The theory's line, in columns and rows of the heatmap; one row beyond what is beyond it."""
    variances, layers = line(swept)
    values, columns = _scale(swept.variances)
    return np.interp(variances, values, columns), np.interp(layers, *_scale(swept.rows.values))


def line(swept: Map) -> tuple[np.ndarray, np.ndarray]:
    """The theory's line, ten points a column: weight variances, and layers with the logits'."""
    count = len(swept.variances)
    values, columns = _scale(swept.variances)
    variances = np.interp(np.linspace(-0.5, count - 0.5, 10 * count + 1), columns, values)
    return variances, trainable_depth(*swept.theory(variances)) + 1


def _scale(values):
    """Values of an axis with one more at each end, and the cells that they are at."""
    first, second, *_ = values
    *_, before, last = values
    return [2 * first - second, *values, 2 * last - before], np.arange(-1, len(values) + 1)


class Agreement(NamedTuple):
    """Of networks, the shares for which a rule tells rightly whether they train.

    `within` and `beyond` are of those that the theory says train, and do not; `multiple` of ξ,
    and `depth`, are the limits that would be right most often.
    """

    right: float
    within: float
    beyond: float
    constant: float
    multiple: float
    right_at_multiple: float
    depth: float
    right_at_depth: float


def agree(networks: "pandas.DataFrame", threshold: float = SLIGHT_KAPPA) -> Agreement:
    """How well the rule that networks train just up to 6ξ does, beside others.

    A network trains where its κ is above the threshold.
    """
    depth, trains = networks["depth"], networks["kappa"] > threshold
    within = depth <= networks["reach"]
    return Agreement(
        (within == trains).mean(),
        trains[within].mean(),
        (~trains[~within]).mean(),
        max(trains.mean(), 1 - trains.mean()),
        *best_limit(depth / networks["xi"], trains),
        *best_limit(depth, trains),
    )


def best_limit(values, trains) -> tuple[float, float]:
    """The limit up to which networks best be said to train, and the share that it gets right."""
    limits = np.unique(values)
    shares = [np.mean((values <= limit) == trains) for limit in limits]
    return limits[np.argmax(shares)], max(shares)


def main(folder: Path, page: Path) -> None:
    """Write the page and its picture."""
    swept = read(folder)
    picture = page.with_suffix(".png")
    picture.write_bytes(png(draw(swept)))
    write(page, _text(swept, picture.name))


def _text(swept, picture):
    networks, variances = swept.networks, swept.variances
    fine, layers = line(swept)
    usual = Scenario().settings()
    settings = (
        f"`{key}={value}`"
        for key, value in swept.base.items()
        if value != usual[key] and key != "name"
    )
    return PAGE.format(
        networks=len(networks),
        layers=len(swept.rows.values),
        fewest=swept.rows.values[0],
        most=swept.rows.values[-1],
        scales=len(variances),
        seeds=networks["seed"].nunique(),
        settings=", ".join(settings),
        picture=picture,
        bias=bias_variance(swept.base["bias_initializer"]),
        edge=fine[layers.argmax()],
        slight=SLIGHT_KAPPA,
        fair=FAIR_KAPPA,
        stricter=agree(networks, FAIR_KAPPA),
        reached=_reached(swept),
        rules=_rules(networks),
    )


def _reached(swept):
    """The deepest networks that train, variance by variance, beside the theory's."""
    deepest = (np.array(swept.rows.values)[:, np.newaxis] * swept.trains()).max(axis=0)
    layers = trainable_depth(*swept.theory(swept.variances)) + 1
    rows = [
        ["layers of the deepest that train", *deepest],
        ["6ξ + 1 layers", *(f"{layer:.0f}" for layer in layers)],
    ]
    return markdown_table(["σ_w²", *(f"{variance:g}" for variance in swept.variances)], rows)


def _rules(networks):
    found = agree(networks)
    within = (networks["depth"] <= networks["reach"]).sum()
    rows = [
        ["**up to a depth of 6ξ they train, beyond it they do not**", f"**{found.right:.1%}**"],
        [f"of the {within} within, that train", f"{found.within:.1%}"],
        [f"of the {len(networks) - within} beyond, that do not", f"{found.beyond:.1%}"],
        ["the best answer that is one for all", f"{found.constant:.1%}"],
        [f"the best limit to depth alone, {found.depth:.0f}", f"{found.right_at_depth:.1%}"],
        [f"the best multiple of ξ, {found.multiple:.1f}", f"{found.right_at_multiple:.1%}"],
    ]
    return markdown_table(["Rule", "Right"], rows)


def smoke(folder: Path) -> None:
    """Two depths by two variances."""
    base = Scenario(
        activation="tanh",
        hidden_size=4,
        bias_initializer="random_normal(stddev=0.2236)",
        iterations=1,
    )
    weights = tuple(f"variance_scaling(scale={scale},mode='fan_in')" for scale in (1, 2))
    sweep = Sweep("trainability", base, {LAYERS: (2, 3), WEIGHTS: weights}, seeds=1)
    main(Sweeper(sweep, folder, workers=0).run(), folder / "page.md")


if __name__ == "__main__":
    run(main, __doc__, "folder", "page", smoke=smoke)
