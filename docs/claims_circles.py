"""The claims of the two tutorials on circles."""

import numpy as np
from claims import Finding, claim, ranked, spread, within

from mnist_vg.scenarios.suites import (
    CAUSES,
    CIRCLES,
    OWN,
)

# --- circles

_SHALLOW = {
    "circles-relu-shallow": ("one hidden ReLU layer of 5", 0.973, 0.2404),
    "circles-sigmoid-shallow": ("one hidden sigmoid layer of 5", 0.654, 0.6927),
    "circles-sigmoid-deep": ("three hidden sigmoid layers of 5", 0.533, 0.6922),
}
for _name, (_text, _accuracy, _loss) in _SHALLOW.items():

    @claim("circles", f"Adam, Glorot, {_text}: accuracy", CIRCLES, f"{_accuracy}")
    def _shallow_accuracy(suite, name=_name, published=_accuracy):
        ours = suite.results(name)
        return Finding(ranked(ours, [published]), within(ours, [published]))

    @claim("circles", "The same: loss", CIRCLES, f"{_loss}")
    def _shallow_loss(suite, name=_name, published=_loss):
        ours = suite.results(name, "test_loss")
        return Finding(ranked(ours, [published], ".4f"), within(ours, [published], 4))


_DEEP = {"sigmoid": (0.588, 0.652), "tanh": (0.993, 0.994), "relu": (0.994, 0.995)}
for _name, _both in _DEEP.items():

    @claim(
        "circles",
        f"RMSprop, N(0, 1), four hidden layers of 5, {_name}: accuracy by `fit`, and by a loop",
        CIRCLES,
        " and ".join(map(str, _both)),
    )
    def _deep_accuracy(suite, name=_name, published=_both):
        ours = suite.results(f"circles-{name}")
        return Finding(ranked(ours, published), within(ours, published))


@claim(
    "circles",
    "Accuracy before training is about one half (within 0.05)",
    CIRCLES,
    "0.5, 0.502, 0.503",
)
def _before_training(suite):
    ours = np.array(
        [h["accuracy/test"][0] for name in _DEEP for h in suite.histories(f"circles-{name}")]
    )
    return Finding(f"{spread(ours)} after one update", abs(np.median(ours) - 0.5) < 0.05)


_RMSPROP = (
    "RMSprop divides each gradient by its own running size, so a small one moves its weight as far "
    "as a large one: weights go on moving, in every layer."
)
_SPREADS = {"sigmoid": (0.001, 0.01), "tanh": (0.01, 0.1)}
for _name, (_low, _high) in _SPREADS.items():

    @claim(
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


@claim(
    "circles",
    "sigmoid: the mean gradient is noticeable in the last layer alone (ten times any other's)",
    CIRCLES,
)
def _mean_gradient(suite):
    ratios = []
    for history in suite.histories("circles-sigmoid"):
        means = np.abs(history["gradient_mean"])
        ratios.append(np.median(means[:, -1] / means[:, :-1].max(axis=1)))
    return Finding(f"{spread(ratios, '.1f')} times the next largest", np.median(ratios) >= 10)


@claim(
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
    return Finding(f"{spread(ratios, '.2f')} times as fast", holds, "" if holds else _RMSPROP)


@claim("circles", "sigmoid: layer 1's weights alone spread (by a tenth or more)", CIRCLES)
def _layer_1_spreads(suite):
    growth = np.array(
        [h["weight_std"][-1] / h["weight_std"][0] for h in suite.histories("circles-sigmoid")]
    )
    alone = np.mean((growth[:, 0] >= 1.1) & (growth[:, 1:].max(axis=1) < 1.1))
    return Finding(
        f"layer 1 {spread(growth[:, 0], '.2f')} times, the most of any other "
        f"{spread(growth[:, 1:].max(axis=1), '.2f')} times; alone in {alone:.0%} of the seeds",
        alone > 0.5,
        "" if alone > 0.5 else _RMSPROP,
    )


@claim(
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
            words.append(f"{name}{suffix} {spread(ratios, '.2g')}")
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


@claim(
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


@claim(
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


@claim("circles", "A reader of it asks: why not the mean of the absolute gradient?", CIRCLES)
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


@claim(
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
        words.append(f"{name} {spread(ratios, '.2g')}")
    return Finding(
        f"the last ten epochs' mean absolute gradient over the first five's: {', '.join(words)}",
        None,
        "In the median it shrinks, not to zero, and in single runs it grows: each record is of one "
        "batch of 32, whose gradient is not zero where that of all examples is.",
    )


@claim(
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


@claim(
    "circles_uniform", "Five tanh layers, U(0, 1): test accuracy after 500 epochs", CAUSES, "0.56"
)
def _uniform_tanh(suite):
    ours, printed = suite.results("uniform-tanh"), suite.results("uniform-tanh-printed")
    return Finding(
        f"{spread(ours, '.2f')}; as printed, with two sigmoid units in a row, "
        f"{spread(printed, '.2f')}",
        within(ours, [0.56], 2),
    )


@claim(
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
        f"range over the first 200 epochs {spread(change, '.2f')}, rise after them "
        f"{spread(later, '+.2f')}; {rise} of {len(later)} seeds rise by more than 0.05",
        holds,
        ""
        if holds
        else "Most initial weights never get off the ground in 500 epochs; the "
        "tutorial's one run was of those that do.",
    )


@claim("circles_uniform", "ReLU with He's initialization is more accurate", CAUSES)
def _uniform_relu(suite):
    relu, tanh = suite.results("uniform-relu"), suite.results("uniform-tanh")
    return Finding(
        f"{spread(relu, '.2f')} against {spread(tanh, '.2f')}",
        np.median(relu) > np.median(tanh),
    )


@claim("circles_uniform", "and it learns faster: epochs up to an accuracy of 0.75", CAUSES)
def _uniform_faster(suite):
    def epochs(scenario):
        for history in suite.histories(scenario):
            there = np.flatnonzero(history["accuracy/test"] >= 0.75)
            steps = history["step"]
            yield steps[there[0]] * _EPOCHS / (steps[-1] + 1) if len(there) else np.inf

    relu, tanh = list(epochs("uniform-relu")), list(epochs("uniform-tanh"))
    words = [
        f"{name} {spread(epochs_of, '.0f')}".replace("not finite", "never")
        for name, epochs_of in (("ReLU", relu), ("tanh", tanh))
    ]
    return Finding(
        ", ".join(words),
        np.median(relu) < np.median(tanh),
    )


@claim(
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
        f"tanh {spread(tanh, '.1%')}, ReLU {spread(relu, '.1%')}",
        within(tanh, [0.038]) and within(relu, [0.49], 2),
    )


@claim("circles_uniform", "Other initializers prevent it, too", CAUSES)
def _other_initializers(suite):
    base = suite.results("uniform-tanh")
    names = ("glorot", "centred", "narrow")
    ours = {name: suite.results(f"uniform-tanh-{name}") for name in names}
    words = [f"{name} {spread(values, '.2f')}" for name, values in ours.items()]
    better = [name for name, values in ours.items() if np.median(values) > np.median(base)]
    return Finding(
        f"{', '.join(words)}; U(0, 1) {spread(base, '.2f')}. Better: {', '.join(better) or 'none'}",
        len(better) == len(names),
        "glorot and centred are drawn on both sides of zero; narrow, U(0, 0.1), is as one-sided as "
        "U(0, 1), and each of its layers multiplies by less."
        if "narrow" not in better
        else "",
    )


@claim("circles_uniform", "With few layers the effect is not prominent", CAUSES)
def _few_layers(suite):
    shallow, deep = suite.results("uniform-tanh-shallow"), suite.results("uniform-tanh")
    ratio = suite.results("uniform-tanh-shallow", "first_gradient_ratio")
    deep_ratio = suite.results("uniform-tanh", "first_gradient_ratio")
    return Finding(
        f"one hidden layer: {spread(shallow, '.2f')}, gradient ratio {spread(ratio, '.2g')}; "
        f"five: {spread(deep, '.2f')}, {spread(deep_ratio, '.2g')}",
        np.median(ratio) > np.median(deep_ratio),
    )
