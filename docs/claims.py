"""What the tutorials and papers claim, and what the runs of their suites say to it."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

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
    """What the runs say to a claim; `holds` is None where there is nothing to decide."""

    ours: str
    holds: bool | None
    why: str = ""


@dataclass
class Suite:
    """The runs of a suite, by scenario, seeds in order."""

    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, runs: Iterable[Run]) -> "Suite":
        """Sort runs into scenarios."""
        suite = cls()
        for run in sorted(runs, key=lambda run: run.settings["seed"]):
            suite.runs[run.recipe].append(run)
        return suite

    def results(self, scenario: str, key: str = "test_accuracy") -> np.ndarray:
        """A result of each seed, NaN where it is not finite."""
        return np.array([run.results[key] for run in self.runs[scenario]], float)

    def histories(self, scenario: str) -> list[dict[str, np.ndarray]]:
        """What each seed recorded, without the row of the final weights."""
        return [
            {
                key: part[run.history["step"] < run.settings["iterations"]]
                if key not in ("layers", "activation_layers")
                else part
                for key, part in run.history.items()
            }
            for run in self.runs[scenario]
        ]

    def learned(self, scenario: str) -> int:
        """How many seeds could learn."""
        return sum(
            learned(run.results["test_accuracy"], run.results["chance"])
            for run in self.runs[scenario]
        )


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
        return Finding(_spread(ours), _within(ours, [published]))

    @_claim("circles", "The same: loss", CIRCLES, f"{_loss}")
    def _shallow_loss(suite, name=_name, published=_loss):
        ours = suite.results(name, "test_loss")
        return Finding(_spread(ours, ".4f"), _within(ours, [published], 4))


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
        return Finding(_spread(ours), _within(ours, published))


@_claim("circles", "Accuracy before training is about one half", CIRCLES, "0.5, 0.502, 0.503")
def _before_training(suite):
    ours = np.array(
        [h["accuracy/test"][0] for name in _DEEP for h in suite.histories(f"circles-{name}")]
    )
    return Finding(
        f"{_spread(ours)} after one update",
        abs(np.median(ours) - 0.5) < 0.05,
        "Single networks start off one half by more: a random network cuts the plane somewhere.",
    )


_SPREADS = {"sigmoid": (0.001, 0.01), "tanh": (0.01, 0.1)}
for _name, (_low, _high) in _SPREADS.items():

    @_claim("circles", f"{_name}: the gradient's standard deviation", CIRCLES, f"{_low} to {_high}")
    def _gradient_spread(suite, name=_name, low=_low, high=_high):
        ours = np.stack([h["gradient_std"] for h in suite.histories(f"circles-{name}")])
        layers = np.median(ours, axis=(0, 1))
        share = np.mean((ours >= low) & (ours <= high))
        return Finding(
            f"median by layer {', '.join(f'{value:.2g}' for value in layers)}; "
            f"{share:.0%} of all records within",
            bool(np.all((layers >= low) & (layers <= high))),
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
    return Finding(f"{_spread(ratios, '.2f')} times as fast", np.median(ratios) >= 5)


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
            words.append(f"{name}{suffix} {np.median(ratios):.2g}")
            falls.append(np.median(ratios) < 1)
    return Finding(
        f"layer 1's over the output's, median: {', '.join(words)}",
        all(falls),
        "A layer multiplies them by about the root of n Var(W) times the mean squared slope. With "
        "N(0, 1) and five units n Var(W) is 5, which makes up for any slope above 0.45: tanh's "
        "and ReLU's grow or stay, sigmoid's (0.25 at most) fall.",
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
        "Glorot's is scaled for a slope of 1. Its kernels are smaller than N(0, 1)'s here, and a "
        "sigmoid's slope of a quarter makes the gradient vanish all the more.",
    )


@_claim(
    "circles",
    "One initializer shared by all layers, as printed, does no harm under Keras 3",
    CIRCLES,
)
def _shared(suite):
    count = len(suite.runs["circles-relu"])
    own = {name: suite.learned(f"circles-{name}") for name in _DEEP}
    shared = {name: suite.learned(f"circles-{name}-shared") for name in _DEEP}
    words = [f"{name} {shared[name]} of {count} (own draws: {own[name]})" for name in _DEEP]
    return Finding(
        f"seeds that learned: {', '.join(words)}",
        all(shared[name] >= own[name] for name in _DEEP),
        "Three layers of five units start with the same 25 numbers, so one unlucky draw is drawn "
        "three times.",
    )


@_claim("circles", "A reader: why not the mean of the absolute gradient?", CIRCLES)
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


@_claim("circles", "A reader: does the gradient shrink to zero as training converges?", CIRCLES)
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
        "It shrinks where the loss does, and not to zero: each record is of one batch of 32, whose "
        "gradient is not zero where that of all examples is.",
    )


@_claim(
    "circles",
    "A reader: ReLU's averages are alike in the first and the last epochs, but for layer 5",
    CIRCLES,
)
def _alike(suite):
    first, last = [], []
    for history in suite.histories("circles-relu"):
        first.append(np.abs(history["gradient_mean"][:10]).mean(axis=0))
        last.append(np.abs(history["gradient_mean"][-10:]).mean(axis=0))
    first, last = np.median(first, axis=0), np.median(last, axis=0)
    words = [f"{a:.2g} -> {b:.2g}" for a, b in zip(first, last, strict=True)]
    hidden, output = last[:-1] / first[:-1], last[-1] / first[-1]
    return Finding(
        f"|mean gradient|, first ten -> last ten epochs, layer 1 to 5: {', '.join(words)}",
        bool(np.all(hidden > output)),
        "On one axis for all layers only the output layer is large enough to be seen falling. Its "
        "mean does not cancel: ReLU's outputs, by which its errors are multiplied, are all of "
        "one sign.",
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
        "",
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
    return Finding(
        f"range over the first 200 epochs {_spread(change, '.2f')}, rise after them "
        f"{_spread(later, '+.2f')}",
        bool(np.median(change) <= 0.05 and np.median(later) > 0),
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
    never = f"{np.sum(np.isinf(tanh))} tanh and {np.sum(np.isinf(relu))} ReLU networks never"
    return Finding(
        f"ReLU {np.median(relu):.0f}, tanh {np.median(tanh):.0f} (medians; {never})",
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
    names = ("glorot", "narrow", "centred")
    ours = {name: suite.results(f"uniform-tanh-{name}") for name in names}
    words = [f"{name} {_spread(values, '.2f')}" for name, values in ours.items()]
    return Finding(
        f"{', '.join(words)}; U(0, 1) {_spread(base, '.2f')}",
        all(np.median(values) > np.median(base) for values in ours.values()),
        "Those that are centred at zero do. U(0, 0.1), narrower and still of one sign, does not: "
        "smaller weights are smaller factors of the chain.",
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


@_claim("initializers", "Uniform or normal does not matter, at equal variance", INITIALIZERS)
def _distribution(suite):
    words, alike = [], []
    for setting in _SETTINGS:
        for spread in SPREADS:
            normal = suite.results(f"{setting}-normal{spread}")
            uniform = suite.results(f"{setting}-uniform{spread}")
            alike.append(not _separate(normal, uniform) and not _separate(uniform, normal))
            words.append(abs(np.median(normal) - np.median(uniform)))
    return Finding(
        f"the ranges overlap in {sum(alike)} of {len(alike)} pairs; medians differ by "
        f"{_spread(words)}",
        all(alike),
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
    words, largest_of_all = [], []
    for name in ("glorot", "he"):
        history = suite.histories(f"tanh-sgd-{name}")[0]
        layer = history["weights"][0][list(history["layers"]).index("layer5")]
        centres, counts = layer[:, :2].mean(axis=1), layer[:, 2]
        variance = np.average(centres**2, weights=counts)
        largest = np.abs(layer[:, :2]).max()
        largest_of_all.append(largest)
        words.append(f"{name}: largest |w| {largest:.2f}, n Var(W) {64 * variance:.2f}")
    return Finding(
        "; ".join(words),
        min(largest_of_all) > 0.9,
        "It is the factor by which a layer multiplies the variance that they bring close to one: "
        "n Var(W), where ReLU halves what He doubles. The weights are small.",
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


@_claim("initializers", "Glorot suits tanh, He suits ReLU", INITIALIZERS)
def _suits(suite):
    words, suits = [], []
    for setting in _SETTINGS:
        glorot, he = (np.median(suite.results(f"{setting}-{n}")) for n in ("glorot", "he"))
        words.append(f"{setting} {glorot:.3f} and {he:.3f}")
        suits.append((glorot >= he) == setting.startswith("tanh"))
    return Finding("median accuracy with Glorot and He: " + ", ".join(words), all(suits))


@_claim("initializers", "Large weights make the gradient overflow, to NaN", INITIALIZERS)
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
    ratio = history["gradient_norm"][0, 0] / history["gradient_norm"][0, -1]
    size = (history["gradient_norm"][0, 0] / sums[0]) / (history["gradient_norm"][0, -1] / sums[-1])
    return Finding(
        f"weights x slope, layer 1 to 5: {', '.join(factors)}; product "
        f"{np.prod(weights * slopes):.2e}, times {size:.2f} for the larger inputs of layer 1: "
        f"{np.prod(weights * slopes) * size:.2e}; the ratio of the gradients' norms is {ratio:.2e}",
        bool(np.isclose(np.prod(weights * slopes) * size, ratio, rtol=1e-3)),
        "The factors are not outputs of neurons, as said there, but slopes times weights: what the "
        "error is multiplied with on its way down, root mean square over a batch.",
    )


# --- remedies

_BASE = "none"
_WORDS = {
    "xavier": "Xavier initialization ensures that small gradients do not arise",
    "he": "He initialization prevents vanishing gradients",
    "clipping": "Gradient clipping keeps gradients from becoming too small",
    "relu": "ReLU lets the gradient pass",
    "leaky_relu": "Leaky ReLU lets it pass, and no unit dies",
    "parametric_relu": "Parametric ReLU does, too",
    "batch": "Batch normalization mitigates vanishing gradients",
    "skip": "Skip connections let gradients go around layers",
}


def _remedy(name):
    @_claim("remedies", _WORDS[name], SEVEN_LAYERS)
    def measure(suite):
        words, helps = [], []
        for layers in (7, 20, 50):
            sick, cured = (suite.results(f"{which}-{layers}") for which in (_BASE, name))
            ratio = suite.results(f"{name}-{layers}", "first_gradient_ratio")
            learn = suite.learned(f"{name}-{layers}")
            helps.append(_separate(cured, sick) and learn > len(cured) / 2)
            words.append(
                f"{layers} layers {_spread(cured, '.2f')}, {learn} of {len(cured)} learned, "
                f"gradient ratio {np.median(ratio):.1e}"
            )
        cured = [str(n) for n, helped in zip((7, 20, 50), helps, strict=True) if helped]
        return Finding(
            f"{'; '.join(words)}. A cure with {', '.join(cured) or 'no'} layers",
            all(helps),
            _WHY.get(name, ""),
        )


_WHY = {
    "xavier": "Keras' and TF1's dense layers start with Glorot's uniform one anyway: the sick "
    "network has had this cure. It is scaled for a slope of 1 and not for a sigmoid's quarter.",
    "he": "Twice the variance is a factor of 1.4 a layer, against a quarter.",
    "clipping": "Clipping only ever makes a gradient smaller, all layers by one factor, which "
    "leaves their ratio as it was; and Adam divides that factor out again.",
    "relu": "With 50 layers of ten units, and Glorot's kernels at that, half of the variance is "
    "lost a layer.",
    "leaky_relu": "With 50 layers of ten units the random products of the layers scatter widely.",
    "parametric_relu": "With 50 layers of ten units the random products of the layers scatter "
    "widely.",
    "batch": "It brings the sums to where the slope is a quarter, at best; its scale of 1 there "
    "makes the factor of a layer about 0.25 times the root of n Var(W) over the sum's spread.",
    "skip": "",
}
for _name in REMEDIES:
    if _name != _BASE:
        _remedy(_name)


@_claim("remedies", "The sick network cannot learn", SEVEN_LAYERS)
def _sick(suite):
    words, fails = [], []
    for layers in (7, 20, 50):
        fails.append(suite.learned(f"{_BASE}-{layers}") == 0)
        ratio = np.median(suite.results(f"{_BASE}-{layers}", "first_gradient_ratio"))
        accuracy = _spread(suite.results(f"{_BASE}-{layers}"), ".2f")
        words.append(f"{layers} layers {accuracy}, ratio {ratio:.1e}")
    return Finding("; ".join(words), all(fails))


@_claim("remedies", "Learning rates too high or too low cause vanishing gradients", SEVEN_LAYERS)
def _rates(suite):
    words, vanished = [], []
    for name in ("relu-7", "relu-7-rate-low", "relu-7-rate-high"):
        accuracy = suite.results(name)
        ratio = suite.results(name, "last_gradient_ratio")
        words.append(f"{name} {_spread(accuracy, '.2f')}, last ratio {_spread(ratio, '.2g')}")
        if name != "relu-7":
            vanished.append(np.nanmedian(ratio) < 1e-3)
    return Finding(
        "; ".join(words),
        all(vanished),
        "Too low a rate learns nothing while its gradient is as large as any: it is no cause of "
        "vanishing. Too high a rate kills ReLU's units, and no gradient passes a dead layer.",
    )


# --- depth


def _layer_factors(history):
    """The first record's mean absolute gradient of a hidden layer over the next one's."""
    first = history["gradient_mean_abs"][0][1:-1]  # Layers of one shape.
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = first[:-1] / first[1:]
    return factors[np.isfinite(factors) & (factors > 0)]


_LIMITS = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0}
for _name, _limit in _LIMITS.items():

    @_claim(
        "depth",
        f"{_name}: the mean absolute gradient falls by a factor a layer toward the input"
        + (", at most a quarter of √(n Var(W)) = 1" if _name == "sigmoid" else ""),
        OWN,
        f"{_limit} at most",
    )
    def _factor(suite, name=_name, limit=_limit):
        words, medians = [], []
        for depth in DEPTHS[1:]:
            logs = [
                np.log(_layer_factors(history)).mean()
                for history in suite.histories(f"depth-{name}-{depth}")
            ]
            medians.append(np.exp(np.median(logs)))
            words.append(f"{depth} layers {_spread(np.exp(logs), '.3f')}")
        return Finding("; ".join(words), max(medians) <= limit)


@_claim("depth", "Deeper networks of these cannot learn", OWN)
def _depth_learns(suite):
    words = [
        f"{name}: "
        + ", ".join(
            f"{depth} layers {np.median(suite.results(f'depth-{name}-{depth}')):.2f}"
            for depth in DEPTHS
        )
        for name in _LIMITS
    ]
    deepest = [suite.learned(f"depth-{name}-{DEPTHS[-1]}") for name in _LIMITS]
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
        factors = []
        for history in suite.histories(name):
            variance = history["backpropagated_rms"][0] ** 2
            # From layer 5 down to layer 1: four times through a matrix of 1000 x 1000.
            factors.append((variance[0] / variance[4]) ** 0.25)
        # Four factors, each known to sqrt(2 / n) from a layer of n units; three standard errors.
        error = 3 * np.sqrt(2 / 1000) / np.sqrt(4)
        return Finding(
            f"{_spread(factors)}, {error:.0%} allowed for the sample",
            bool(abs(np.median(factors) / theory - 1) < error),
            "Theory is of tanh's linear regime; its slope is below one."
            if name == "normalized"
            else "",
        )
