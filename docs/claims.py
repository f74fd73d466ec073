"""What the tutorials and papers claim, and what the runs of their suites say to it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu

from mnist_vg import Run
from mnist_vg.diagnosis import learned
from mnist_vg.report import spread_of
from mnist_vg.suites import (
    CAUSES,
    CIRCLES,
    DEPTHS,
    GLOROT,
    HE,
    INITIALIZERS,
    OWN,
    REMEDIES,
    SEVEN_LAYERS,
    SPREADS,
)


class Finding(NamedTuple):
    """What the runs say to a claim; `holds` is None where there is nothing to decide.

    `why` is a remark on just this outcome.
    """

    ours: str
    holds: bool | None
    why: str = ""


@dataclass
class Suite:
    """The runs of a suite, by scenario, seeds in order."""

    runs: dict[str, list[Run]] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Iterable[Run]) -> "Suite":
        """Sort runs into scenarios."""
        suite = cls()
        for run in sorted(runs, key=lambda run: run.settings["seed"]):
            suite.runs.setdefault(run.recipe, []).append(run)
        return suite

    def results(self, scenario: str, key: str = "test_accuracy") -> np.ndarray:
        """A result of each seed, NaN where it is not finite."""
        return np.array([run.results[key] for run in self.runs[scenario]], float)

    def histories(self, scenario: str) -> list["Records"]:
        """What each seed recorded, without the row of the final weights."""
        return [Records(run.history, run.settings["iterations"]) for run in self.runs[scenario]]

    def learned(self, scenario: str) -> int:
        """How many seeds could learn."""
        return sum(
            learned(run.results["test_accuracy"], run.results["chance"])
            for run in self.runs[scenario]
        )


class Records(NamedTuple):
    """A run's history up to its last update."""

    history: Mapping
    iterations: int

    def __getitem__(self, name):
        part = self.history[name]
        if name in ("layers", "activation_layers"):
            return part
        return part[self.history["step"] < self.iterations]


class Claim(NamedTuple):
    """A claim, who made it, the figure that was published with it, and how it is measured."""

    suite: str
    text: str
    source: str
    published: str
    measure: Callable[[Suite], Finding]


CLAIMS: list[Claim] = []


def _claim(suite, text, source, published="-"):
    def register(measure):
        CLAIMS.append(Claim(suite, text, source, published, measure))
        return measure

    return register


def _spread(values, spec=".3f"):
    return spread_of([float(v) if np.isfinite(v) else None for v in values], spec)


def _within(values, published, digits=3):
    """Whether each published number is among ours, at the digits that it was published with."""
    low, high = np.round([np.nanmin(values), np.nanmax(values)], digits)
    return all(low <= number <= high for number in published)


def _ranked(values, published, spec=".3f"):
    """Ours, and how many of them are below what was published."""
    below = " and ".join(f"{np.sum(values < number)}" for number in published)
    return f"{_spread(values, spec)}; {below} of {len(values)} below"


def _separate(better, worse):
    return np.nanmin(better) > np.nanmax(worse)


# --- circles

_SHALLOW = {
    "circles-relu-shallow": ("one hidden ReLU layer of 5", 0.973, 0.2404),
    "circles-sigmoid-shallow": ("one hidden sigmoid layer of 5", 0.654, 0.6927),
    "circles-sigmoid-deep": ("three hidden sigmoid layers of 5", 0.533, 0.6922),
}
for _name, (_text, _accuracy, _loss) in _SHALLOW.items():

    @_claim("circles", f"Adam, Glorot, {_text}: accuracy", CIRCLES, f"{_accuracy}")
    def _shallow_accuracy(suite, name=_name, published=_accuracy):
        ours = suite.results(name)
        return Finding(_ranked(ours, [published]), _within(ours, [published]))

    @_claim("circles", "The same: loss", CIRCLES, f"{_loss}")
    def _shallow_loss(suite, name=_name, published=_loss):
        ours = suite.results(name, "test_loss")
        return Finding(_ranked(ours, [published], ".4f"), _within(ours, [published], 4))


_DEEP = {"sigmoid": (0.588, 0.652), "tanh": (0.993, 0.994), "relu": (0.994, 0.995)}
for _name, _both in _DEEP.items():

    @_claim(
        "circles",
        f"RMSprop, N(0, 1), four hidden layers of 5, {_name}: accuracy by `fit`, and by a loop",
        CIRCLES,
        " and ".join(map(str, _both)),
    )
    def _deep_accuracy(suite, name=_name, published=_both):
        ours = suite.results(f"circles-{name}")
        return Finding(_ranked(ours, published), _within(ours, published))


@_claim(
    "circles",
    "Accuracy before training is about one half (within 0.05)",
    CIRCLES,
    "0.5, 0.502, 0.503",
)
def _before_training(suite):
    ours = np.array(
        [h["accuracy/test"][0] for name in _DEEP for h in suite.histories(f"circles-{name}")]
    )
    return Finding(f"{_spread(ours)} after one update", abs(np.median(ours) - 0.5) < 0.05)


_RMSPROP = (
    "RMSprop divides each gradient by its own running size, so a small one moves its weight as far "
    "as a large one: weights go on moving, in every layer."
)
_SPREADS = {"sigmoid": (0.001, 0.01), "tanh": (0.01, 0.1)}
for _name, (_low, _high) in _SPREADS.items():

    @_claim(
        "circles",
        f"{_name}: the gradient's standard deviation (each layer's median)",
        CIRCLES,
        f"{_low} to {_high}",
    )
    def _gradient_spread(suite, name=_name, low=_low, high=_high):
        ours = np.stack([h["gradient_std"] for h in suite.histories(f"circles-{name}")])
        layers = np.median(ours, axis=(0, 1))
        within = (layers >= low) & (layers <= high)
        outside = ", ".join(str(1 + layer) for layer in np.flatnonzero(~within))
        return Finding(
            f"median by layer {', '.join(f'{value:.2g}' for value in layers)}; "
            f"{np.mean((ours >= low) & (ours <= high)):.0%} of all records within",
            bool(within.all()),
            f"Layer {outside} alone is outside, and not by much; the claim is one run's, read off "
            "its plot."
            if 0 < np.sum(~within) < 2
            else "",
        )


@_claim(
    "circles",
    "sigmoid: the mean gradient is noticeable in the last layer alone (ten times any other's)",
    CIRCLES,
)
def _mean_gradient(suite):
    ratios = []
    for history in suite.histories("circles-sigmoid"):
        means = np.abs(history["gradient_mean"])
        ratios.append(np.median(means[:, -1] / means[:, :-1].max(axis=1)))
    return Finding(f"{_spread(ratios, '.1f')} times the next largest", np.median(ratios) >= 10)


@_claim(
    "circles",
    "sigmoid: mean weights move in the first ten epochs only (five times as fast as later)",
    CIRCLES,
)
def _mean_weights(suite):
    ratios = []
    for history in suite.histories("circles-sigmoid"):
        pace = np.abs(np.diff(history["weight_mean"][:-1], axis=0)).mean(axis=1)
        ratios.append(pace[:10].mean() / pace[10:].mean())
    holds = bool(np.median(ratios) >= 5)
    return Finding(f"{_spread(ratios, '.2f')} times as fast", holds, "" if holds else _RMSPROP)


@_claim("circles", "sigmoid: layer 1's weights alone spread (by a tenth or more)", CIRCLES)
def _layer_1_spreads(suite):
    growth = np.array(
        [h["weight_std"][-1] / h["weight_std"][0] for h in suite.histories("circles-sigmoid")]
    )
    alone = np.mean((growth[:, 0] >= 1.1) & (growth[:, 1:].max(axis=1) < 1.1))
    return Finding(
        f"layer 1 {_spread(growth[:, 0], '.2f')} times, the most of any other "
        f"{_spread(growth[:, 1:].max(axis=1), '.2f')} times; alone in {alone:.0%} of the seeds",
        alone > 0.5,
        "" if alone > 0.5 else _RMSPROP,
    )


@_claim(
    "circles",
    "Back-propagated gradients are smaller toward the input just after initialization",
    "Bradley 2009, as cited there",
)
def _bradley(suite):
    words, falls = [], []
    for name in _DEEP:
        for suffix in ("", "-glorot"):
            first = [h["backpropagated_rms"][0] for h in suite.histories(f"circles-{name}{suffix}")]
            ratios = np.array([row[0] / row[-1] for row in first])
            words.append(f"{name}{suffix} {_spread(ratios, '.2g')}")
            falls.append(np.median(ratios) < 1)
    return Finding(
        f"layer 1's over the output's: {', '.join(words)}",
        all(falls),
        "A layer multiplies them by about the root of n Var(W) times the mean squared slope. With "
        "N(0, 1) and five units n Var(W) is 5, which makes up for any slope above 0.45: tanh's and "
        "ReLU's need not fall, sigmoid's (0.25 at most) do. With so few units single draws vary "
        "much."
        if not all(falls)
        else "",
    )


@_claim(
    "circles",
    "Changing the initialization helps less than changing the activation (sigmoid to tanh)",
    CIRCLES,
)
def _initialization_or_activation(suite):
    sick = np.median(suite.results("circles-sigmoid"))
    by_initializer = np.median(suite.results("circles-sigmoid-glorot")) - sick
    by_activation = np.median(suite.results("circles-tanh")) - sick
    return Finding(
        f"accuracy {by_initializer:+.3f} by Glorot's initialization, {by_activation:+.3f} by tanh",
        by_activation > by_initializer,
        "Glorot's kernels are smaller than N(0, 1)'s here: n Var(W) is 1 and not 5. They are "
        "scaled for a slope of 1, and with a sigmoid's quarter the gradient vanishes all the more."
        if by_initializer < 0
        else "",
    )


@_claim(
    "circles",
    "With one initializer for all layers, as printed, layers start alike under Keras 3, and ReLU "
    "dies in some seeds",
    OWN,
)
def _shared(suite):
    count = len(suite.runs["circles-relu"])
    words = [
        f"{name} {suite.learned(f'circles-{name}-shared')} of {count} "
        f"(own draws: {suite.learned(f'circles-{name}')})"
        for name in _DEEP
    ]
    died = suite.learned("circles-relu-shared") < suite.learned("circles-relu")
    return Finding(f"seeds that learned: {', '.join(words)}", died)


@_claim("circles", "A reader of it asks: why not the mean of the absolute gradient?", CIRCLES)
def _why_not_absolute(suite):
    words = []
    for name in _DEEP:
        histories = suite.histories(f"circles-{name}")
        mean = np.abs(np.stack([h["gradient_mean"] for h in histories]))
        size = np.stack([h["gradient_mean_abs"] for h in histories])
        hidden = np.divide(mean, size, where=size > 0, out=np.ones_like(mean))[..., 1:-1]
        words.append(f"{name} {np.mean(hidden < 0.1):.0%}")
    return Finding(
        "records of layers 2 to 4 in which the mean is under a tenth of the mean absolute value: "
        + ", ".join(words),
        None,
        "The reader is right. Gradients of both signs cancel in the mean, which is then small "
        "where nothing has vanished; the mean absolute value and the standard deviation do not.",
    )


@_claim(
    "circles",
    "A reader of it asks: does the gradient shrink to zero as training converges?",
    CIRCLES,
)
def _shrinks(suite):
    words = []
    for name in _DEEP:
        ratios = [
            (h["gradient_mean_abs"][-11:].mean() / h["gradient_mean_abs"][:5].mean())
            for h in suite.histories(f"circles-{name}")
        ]
        words.append(f"{name} {_spread(ratios, '.2g')}")
    return Finding(
        f"the last ten epochs' mean absolute gradient over the first five's: {', '.join(words)}",
        None,
        "In the median it shrinks, not to zero, and in single runs it grows: each record is of one "
        "batch of 32, whose gradient is not zero where that of all examples is.",
    )


@_claim(
    "circles",
    "A reader of it finds: ReLU's averages are alike in the first and the last epochs (within a "
    "factor of 2), but for layer 5",
    CIRCLES,
)
def _alike(suite):
    first, last = [], []
    for history in suite.histories("circles-relu"):
        first.append(np.abs(history["gradient_mean"][:10]).mean(axis=0))
        last.append(np.abs(history["gradient_mean"][-10:]).mean(axis=0))
    first, last = np.median(first, axis=0), np.median(last, axis=0)
    words = [f"{a:.2g} -> {b:.2g}" for a, b in zip(first, last, strict=True)]
    alike = np.abs(np.log2(last / first)) <= 1
    return Finding(
        f"size of the mean gradient, first ten -> last ten epochs, layer 1 to 5: "
        f"{', '.join(words)}",
        bool(alike[:-1].all() and not alike[-1]),
        "Why the output layer's is the one that falls: its inputs are ReLU's outputs, none of them "
        "negative, so its mean is the loss' error times their mean, and cancels least. In the "
        "layers below the mean is what is left of both signs, at the end as at the start; their "
        "mean absolute gradient is the one to look at."
        if last[-1] < first[-1]
        else "",
    )


# --- circles_uniform

_EPOCHS = 500


@_claim(
    "circles_uniform", "Five tanh layers, U(0, 1): test accuracy after 500 epochs", CAUSES, "0.56"
)
def _uniform_tanh(suite):
    ours, printed = suite.results("uniform-tanh"), suite.results("uniform-tanh-printed")
    return Finding(
        f"{_spread(ours, '.2f')}; as printed, with two sigmoid units in a row, "
        f"{_spread(printed, '.2f')}",
        _within(ours, [0.56], 2),
    )


@_claim(
    "circles_uniform",
    "Its accuracy stays the same for 200 epochs (within 0.05) and then rises",
    CAUSES,
)
def _flat(suite):
    curves = np.stack([h["accuracy/test"] for h in suite.histories("uniform-tanh")])
    steps = suite.histories("uniform-tanh")[0]["step"]
    early = steps <= 200 * (steps[-1] + 1) / _EPOCHS
    change = np.ptp(curves[:, early], axis=1)
    later = curves[:, -1] - curves[:, early][:, -1]
    rise = np.sum(later > 0.05)
    holds = bool(np.median(change) <= 0.05 and rise > len(later) / 2)
    return Finding(
        f"range over the first 200 epochs {_spread(change, '.2f')}, rise after them "
        f"{_spread(later, '+.2f')}; {rise} of {len(later)} seeds rise by more than 0.05",
        holds,
        ""
        if holds
        else "Most initial weights never get off the ground in 500 epochs; the "
        "tutorial's one run was of those that do.",
    )


@_claim("circles_uniform", "ReLU with He's initialization is more accurate", CAUSES)
def _uniform_relu(suite):
    relu, tanh = suite.results("uniform-relu"), suite.results("uniform-tanh")
    return Finding(
        f"{_spread(relu, '.2f')} against {_spread(tanh, '.2f')}",
        np.median(relu) > np.median(tanh),
    )


@_claim("circles_uniform", "and it learns faster: epochs up to an accuracy of 0.75", CAUSES)
def _uniform_faster(suite):
    def epochs(scenario):
        for history in suite.histories(scenario):
            there = np.flatnonzero(history["accuracy/test"] >= 0.75)
            steps = history["step"]
            yield steps[there[0]] * _EPOCHS / (steps[-1] + 1) if len(there) else np.inf

    relu, tanh = list(epochs("uniform-relu")), list(epochs("uniform-tanh"))
    words = [
        f"{name} {_spread(epochs_of, '.0f')}".replace("not finite", "never")
        for name, epochs_of in (("ReLU", relu), ("tanh", tanh))
    ]
    return Finding(
        ", ".join(words),
        np.median(relu) < np.median(tanh),
    )


@_claim(
    "circles_uniform",
    "How far layer 1's weights move from epoch 50 to 100, relative to their norm",
    CAUSES,
    "tanh 3.8%, ReLU 49%",
)
def _movement(suite):
    def moved(scenario):
        for history in suite.histories(scenario):
            steps = history["step"]
            kernels = dict(
                zip(steps * _EPOCHS / (steps[-1] + 1), history["kernels/layer1"], strict=True)
            )
            yield np.linalg.norm(kernels[100] - kernels[50]) / np.linalg.norm(kernels[50])

    tanh, relu = list(moved("uniform-tanh")), list(moved("uniform-relu"))
    return Finding(
        f"tanh {_spread(tanh, '.1%')}, ReLU {_spread(relu, '.1%')}",
        _within(tanh, [0.038]) and _within(relu, [0.49], 2),
    )


@_claim("circles_uniform", "Other initializers prevent it, too", CAUSES)
def _other_initializers(suite):
    base = suite.results("uniform-tanh")
    names = ("glorot", "centred", "narrow")
    ours = {name: suite.results(f"uniform-tanh-{name}") for name in names}
    words = [f"{name} {_spread(values, '.2f')}" for name, values in ours.items()]
    better = [name for name, values in ours.items() if np.median(values) > np.median(base)]
    return Finding(
        f"{', '.join(words)}; U(0, 1) {_spread(base, '.2f')}. Better: "
        f"{', '.join(better) or 'none'}",
        len(better) == len(names),
        "glorot and centred are drawn on both sides of zero; narrow, U(0, 0.1), is as one-sided as "
        "U(0, 1), and each of its layers multiplies by less."
        if "narrow" not in better
        else "",
    )


@_claim("circles_uniform", "With few layers the effect is not prominent", CAUSES)
def _few_layers(suite):
    shallow, deep = suite.results("uniform-tanh-shallow"), suite.results("uniform-tanh")
    ratio = suite.results("uniform-tanh-shallow", "first_gradient_ratio")
    deep_ratio = suite.results("uniform-tanh", "first_gradient_ratio")
    return Finding(
        f"one hidden layer: {_spread(shallow, '.2f')}, gradient ratio {_spread(ratio, '.2g')}; "
        f"five: {_spread(deep, '.2f')}, {_spread(deep_ratio, '.2g')}",
        np.median(ratio) > np.median(deep_ratio),
    )


# --- initializers

_SETTINGS = [f"{a}-{o}" for a in ("tanh", "relu") for o in ("sgd", "adam")]


@_claim(
    "initializers",
    "Uniform or normal does not matter, at equal variance (no difference by Mann and Whitney's "
    "rank test at 5%, shared out among the pairs)",
    INITIALIZERS,
)
def _distribution(suite):
    chances, differences = [], []
    for setting in _SETTINGS:
        for spread in SPREADS:
            normal = suite.results(f"{setting}-normal{spread}")
            uniform = suite.results(f"{setting}-uniform{spread}")
            chances.append(mannwhitneyu(normal, uniform).pvalue)
            differences.append(abs(np.median(normal) - np.median(uniform)))
    return Finding(
        f"least p of {len(chances)} pairs {min(chances):.2g}; medians of the accuracy differ by "
        f"{_spread(differences)}",
        bool(min(chances) * len(chances) >= 0.05),
    )


@_claim("initializers", "Random initialization is better than all zeros", INITIALIZERS)
def _zeros(suite):
    words, better = [], []
    for setting in _SETTINGS:
        zeros = suite.results(f"{setting}-zeros")
        for spread in SPREADS:
            better.append(_separate(suite.results(f"{setting}-normal{spread}"), zeros))
        words.append(f"{setting} {_spread(zeros)}")
    return Finding(
        f"all zeros: {', '.join(words)}; random is better in {sum(better)} of {len(better)} cases",
        all(better),
        "All zeros never learn more than the biases of the output. Random kernels that are too "
        "small or too large need not do better.",
    )


@_claim("initializers", 'Xavier and He set the weights "close to 1"', INITIALIZERS, "1")
def _close_to_one(suite):
    words, spreads = [], []
    for name in ("glorot", "he"):
        for history in suite.histories(f"tanh-sgd-{name}"):
            layer = history["weights"][0][list(history["layers"]).index("layer5")]
            variance = np.average(layer[:, :2].mean(axis=1) ** 2, weights=layer[:, 2])
            spreads.append(np.sqrt(variance))
        words.append(f"{name} {spreads[-1]:.2f}, n Var(W) {64 * spreads[-1] ** 2:.2f}")
    return Finding(
        f"standard deviation of layer 5's weights before training: {'; '.join(words)}",
        min(spreads) > 0.5 and max(spreads) < 2,
        "Near one is the factor by which a layer multiplies a variance: n Var(W), of which ReLU "
        "halves what He doubles. The weights themselves are small.",
    )


@_claim("initializers", "Xavier and He avoid the problem to a great extent", INITIALIZERS)
def _avoided(suite):
    words, best = [], []
    for setting in _SETTINGS:
        ours = {n: np.median(suite.results(f"{setting}-{n}")) for n in ("glorot", "he")}
        extremes = [
            np.median(suite.results(f"{setting}-normal{spread}"))
            for spread in (SPREADS[0], SPREADS[-1])
        ]
        words.append(f"{setting} {ours['glorot']:.2f} and {ours['he']:.2f} ({max(extremes):.2f})")
        best.append(min(ours.values()) > max(extremes))
    return Finding(
        "median accuracy with Glorot and He (best of too small and too large): " + ", ".join(words),
        all(best),
    )


for _activation, _best, _other in (("tanh", "glorot", "he"), ("relu", "he", "glorot")):

    @_claim(
        "initializers",
        f"{_best.capitalize()}'s initialization suits {_activation} (more accurate at every seed)",
        INITIALIZERS,
    )
    def _suits(suite, activation=_activation, best=_best, other=_other):
        words, suits = [], []
        for optimizer in ("sgd", "adam"):
            ours, theirs = (
                suite.results(f"{activation}-{optimizer}-{name}") for name in (best, other)
            )
            suits.append(_separate(ours, theirs))
            words.append(f"{optimizer} {_spread(ours)} against {_spread(theirs)}")
        ratios = [
            np.median(suite.results(f"{activation}-sgd-{name}", "first_gradient_ratio"))
            for name in (best, other)
        ]
        return Finding(
            f"{', '.join(words)}; gradient ratio before training {ratios[0]:.2f} against "
            f"{ratios[1]:.2f}",
            all(suits),
            "Adam scales each gradient by itself, which makes up for kernels that are too small."
            if suits == [True, False]
            else "Glorot's is scaled for slopes of 1, and tanh's are below: over ten layers He's "
            "larger kernels lose less."
            if ratios[0] < ratios[1]
            else "",
        )


@_claim(
    "initializers",
    "Large weights make the gradient overflow, to NaN (learning rate chosen to show Inf first)",
    INITIALIZERS,
)
def _explodes(suite):
    histories = suite.histories("explodes")
    losses = np.stack([history["loss/train"] for history in histories])
    gradients = np.stack([history["gradient_mean_abs"] for history in histories])
    nan = np.isnan(gradients).any(axis=2)
    first = np.where(nan.any(axis=1), nan.argmax(axis=1), np.nan)
    return Finding(
        f"mean absolute gradient at step 0 {_spread(gradients[:, 0].max(axis=1), '.1e')}; a loss "
        f"of Inf in {np.isinf(losses).any(axis=1).sum()} of {len(losses)} seeds; gradients of NaN "
        f"from step {_spread(first, '.0f')} on; recorded up to step {histories[0]['step'][-1]}",
        bool(np.isfinite(first).all()),
    )


@_claim(
    "initializers",
    "A chain of five factors of 0.1, times 0.03, is very small",
    INITIALIZERS,
    "3e-7",
)
def _chain(suite):
    history = suite.histories("chain")[0]
    sums, outputs = history["backpropagated_rms"][0], history["activation_gradient_rms"][0]
    slopes = sums[:-1] / outputs
    weights = outputs / sums[1:]
    factors = [f"{w:.2f} x {s:.2f}" for w, s in zip(weights, slopes, strict=True)]
    mean_slopes = ", ".join(f"{slope:.2f}" for slope in history["activation_slope"][0])
    size = history["gradient_norm"][0] / sums
    return Finding(
        f"seed 0, weights x slope, layer 1 to 5: {', '.join(factors)}; mean slopes {mean_slopes}; "
        f"product {np.prod(weights * slopes):.2e}. Times {size[0] / size[-1]:.2f}, as layer 1's "
        f"inputs are larger than the last layer's: {sums[0] * size[0] / sums[-1] / size[-1]:.2e}, "
        "which is the ratio of the norms of their gradients",
        None,
        "The factors are not outputs of neurons, as said there, but weights times slopes: what the "
        "error is multiplied by on its way down, as root mean squares over a batch.",
    )


# --- remedies

_BASE = "none"
_TITLES = {
    "xavier": "Xavier's initialization",
    "he": "He's initialization",
    "clipping": "Gradient clipping (the norm of all at 0.1)",
    "relu": "ReLU",
    "leaky_relu": "Leaky ReLU",
    "parametric_relu": "Parametric ReLU",
    "batch": "Batch normalization",
    "skip": "Skip connections",
}


def _remedy(name, layers):
    source = SEVEN_LAYERS if layers == 7 else OWN

    @_claim("remedies", f"{_TITLES[name]} cures {layers} layers", source)
    def measure(suite):
        sick, ours = (suite.results(f"{which}-{layers}") for which in (_BASE, name))
        ratio = suite.results(f"{name}-{layers}", "first_gradient_ratio")
        learn = suite.learned(f"{name}-{layers}")
        cures = _separate(ours, sick) and learn > len(ours) / 2
        return Finding(
            f"{_spread(ours, '.2f')}, {learn} of {len(ours)} learned, gradient ratio "
            f"{np.median(ratio):.1e}",
            bool(cures),
            _WHY.get((name, cures), ""),
        )


_HALVES = (
    "A layer multiplies variances by (1 + a^2) / 2 times n Var(W), where a is the slope below zero "
    "(He et al. 2015, section 2.2): with Glorot's kernels by a half or little more, of the signal "
    "on its way up and of the gradient on its way down. Their product, a layer's gradient, stays "
    "about the same from layer to layer, so the ratio of the first to the last says nothing of it: "
    "with 50 layers all of them are tiny."
)
_WHY = {
    (
        "xavier",
        False,
    ): "The dense layers of Keras and of TF1 start with Glorot's kernels anyway, the "
    "uniform ones, and these are the normal ones: the sick network has had this cure. It is scaled "
    "for a slope of 1, and a sigmoid's is a quarter.",
    ("he", False): "Twice the variance is a factor of 1.4 a layer, against a quarter.",
    ("clipping", False): "Clipping only ever makes gradients smaller, those of all layers by one "
    "factor, so their ratio stays; and Adam divides such a factor out again.",
    ("relu", False): _HALVES,
    ("leaky_relu", False): _HALVES,
    ("parametric_relu", False): _HALVES,
    (
        "skip",
        True,
    ): "The ratio is small since the last layer's gradient alone is large: below it all "
    "layers' are about the same (the pictures show it).",
}
for _layers in (7, 20, 50):
    for _name in REMEDIES:
        if _name != _BASE:
            _remedy(_name, _layers)


@_claim("remedies", "The sick network cannot learn", SEVEN_LAYERS)
def _sick(suite):
    words, fails = [], []
    for layers in (7, 20, 50):
        fails.append(suite.learned(f"{_BASE}-{layers}") == 0)
        ratio = np.median(suite.results(f"{_BASE}-{layers}", "first_gradient_ratio"))
        accuracy = _spread(suite.results(f"{_BASE}-{layers}"), ".2f")
        words.append(f"{layers} layers {accuracy}, ratio {ratio:.1e}")
    return Finding("; ".join(words), all(fails))


_RATES = {
    "low": "Nothing is learned, with a gradient as large as any: it is no cause of vanishing.",
    "high": "The first updates throw ReLU's units to where they are off for every digit, and then "
    "every gradient but that of the output's biases is exactly 0.",
}
for _rate, _why in _RATES.items():

    @_claim(
        "remedies",
        f"A learning rate that is too {_rate} makes gradients vanish (layer 1's below 1e-3 of its "
        "first)",
        SEVEN_LAYERS,
    )
    def _rates(suite, rate=_rate, why=_why):
        remains = [
            h["gradient_mean_abs"][-1, 0] / h["gradient_mean_abs"][0, 0]
            for h in suite.histories(f"relu-7-rate-{rate}")
        ]
        accuracy = _spread(suite.results(f"relu-7-rate-{rate}"), ".2f")
        vanishes = bool(np.median(remains) < 1e-3)
        return Finding(
            f"ReLU: accuracy {accuracy}, layer 1's last mean absolute gradient is "
            f"{_spread(remains, '.2g')} of its first",
            vanishes,
            why if vanishes == (rate == "high") else "",
        )


# --- depth


def _layer_factors(history):
    """The first record's mean absolute gradient of a hidden layer over the next one's."""
    first = history["gradient_mean_abs"][0][1:-1]  # Layers of one shape.
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = first[:-1] / first[1:]
    return factors[np.isfinite(factors) & (factors > 0)]


_ABOUT_THE_SAME = 1.25


def _factor_finding(suite, name, holds):
    words, medians = [], []
    for depth in DEPTHS[1:]:
        logs = [
            np.log(_layer_factors(history)).mean()
            for history in suite.histories(f"depth-{name}-{depth}")
        ]
        medians.append(np.exp(np.median(logs)))
        words.append(f"{depth} layers {_spread(np.exp(logs), '.3f')}")
    return Finding("; ".join(words), bool(holds(np.array(medians))))


@_claim(
    "depth",
    "sigmoid: toward the input the mean absolute gradient falls, a layer to at most a quarter of "
    "√(n Var(W)), which is 1 here (median of the seeds)",
    OWN,
    "0.25 at most",
)
def _sigmoid_factor(suite):
    finding = _factor_finding(suite, "sigmoid", lambda medians: medians.max() <= 0.25)
    why = (
        "Theory bounds the error's factor, in the mean over many units. A kernel's gradient is "
        "that error times the layer's inputs, and ten units are few."
    )
    return finding if finding.holds else finding._replace(why=why)


for _name in ("tanh", "relu"):

    @_claim(
        "depth",
        f"{_name}: it stays about the same (a factor within {_ABOUT_THE_SAME} of 1 a layer)",
        GLOROT,
        "1",
    )
    def _same_factor(suite, name=_name):
        return _factor_finding(
            suite, name, lambda medians: np.abs(np.log(medians)).max() < np.log(_ABOUT_THE_SAME)
        )


@_claim("depth", "With 50 layers none of them can learn", OWN)
def _depth_learns(suite):
    words = [
        f"{name}: "
        + ", ".join(
            f"{depth} layers {np.median(suite.results(f'depth-{name}-{depth}')):.2f}"
            for depth in DEPTHS
        )
        for name in ("sigmoid", "tanh", "relu")
    ]
    deepest = [suite.learned(f"depth-{name}-{DEPTHS[-1]}") for name in ("sigmoid", "tanh", "relu")]
    return Finding(f"median accuracy after 500 updates, {'; '.join(words)}", not any(deepest))


# --- glorot2010

_THEORY = {
    "standard": ("tanh, U[-1/√n, 1/√n]: back-propagated variance a layer", GLOROT, 1 / 3),
    "normalized": ("tanh, normalized initialization: the same", GLOROT, 1.0),
    "normalized-relu": ("ReLU, normalized initialization: the same", HE, 0.5),
    "he-relu": ("ReLU, He's initialization, 1/2 n Var(w) = 1: the same", HE, 1.0),
}
for _name, (_text, _source, _factor_of_theory) in _THEORY.items():

    @_claim("glorot2010", _text, _source, f"{_factor_of_theory:.3g}")
    def _variance(suite, name=_name, theory=_factor_of_theory):
        factors, expected = [], []
        for history in suite.histories(name):
            # From layer 5 down to layer 1: four times through a matrix of 1000 x 1000.
            variance = history["backpropagated_rms"][0] ** 2
            factors.append((variance[0] / variance[4]) ** 0.25)
            slopes = history["activation_slope"][0][:4]
            expected.append(theory * np.prod(slopes**2) ** 0.25)
        # Of one run: four factors of a layer of n units, whose variance is known to 2 / n, and
        # with ReLU, which drops half of the units at random, to 5 / n; three standard errors.
        relu = name.endswith("relu")
        error = 3 * np.sqrt((5 if relu else 2) / 1000 / 4)
        return Finding(
            f"{_spread(factors)}, within {error:.0%}",
            bool(abs(np.median(factors) / theory - 1) < error),
            ""
            if relu
            else "Theory is of the linear regime. With tanh's mean slopes as recorded it says "
            f"{np.median(expected):.3f}.",
        )
