"""The claims on networks of MNIST's and of scikit-learn's digits."""

import numpy as np
from claims import Finding, claim, separate, spread
from scipy.stats import mannwhitneyu

from mnist_vg.scenarios.suites import (
    DEPTHS,
    GLOROT,
    HE,
    INITIALIZERS,
    OWN,
    REMEDIES,
    SEVEN_LAYERS,
    SPREADS,
)

# --- initializers

_SETTINGS = [f"{a}-{o}" for a in ("tanh", "relu") for o in ("sgd", "adam")]


@claim(
    "initializers",
    "Uniform or normal does not matter, at equal variance (no difference by Mann and Whitney's "
    "rank test at 5%, shared out among the pairs)",
    INITIALIZERS,
)
def _distribution(suite):
    chances, differences = [], []
    for setting in _SETTINGS:
        for stddev in SPREADS:
            normal = suite.results(f"{setting}-normal{stddev}")
            uniform = suite.results(f"{setting}-uniform{stddev}")
            chances.append(mannwhitneyu(normal, uniform).pvalue)
            differences.append(abs(np.median(normal) - np.median(uniform)))
    return Finding(
        f"least p of {len(chances)} pairs {min(chances):.2g}; medians of the accuracy differ by "
        f"{spread(differences)}",
        bool(min(chances) * len(chances) >= 0.05),
    )


@claim("initializers", "Random initialization is better than all zeros", INITIALIZERS)
def _zeros(suite):
    words, better = [], []
    for setting in _SETTINGS:
        zeros = suite.results(f"{setting}-zeros")
        for stddev in SPREADS:
            better.append(separate(suite.results(f"{setting}-normal{stddev}"), zeros))
        words.append(f"{setting} {spread(zeros)}")
    return Finding(
        f"all zeros: {', '.join(words)}; random is better in {sum(better)} of {len(better)} cases",
        all(better),
        "All zeros never learn more than the biases of the output. Random kernels that are too "
        "small or too large need not do better.",
    )


@claim("initializers", 'Xavier and He set the weights "close to 1"', INITIALIZERS, "1")
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


@claim("initializers", "Xavier and He avoid the problem to a great extent", INITIALIZERS)
def _avoided(suite):
    words, best = [], []
    for setting in _SETTINGS:
        ours = {n: np.median(suite.results(f"{setting}-{n}")) for n in ("glorot", "he")}
        extremes = [
            np.median(suite.results(f"{setting}-normal{stddev}"))
            for stddev in (SPREADS[0], SPREADS[-1])
        ]
        words.append(f"{setting} {ours['glorot']:.2f} and {ours['he']:.2f} ({max(extremes):.2f})")
        best.append(min(ours.values()) > max(extremes))
    return Finding(
        "median accuracy with Glorot and He (best of too small and too large): " + ", ".join(words),
        all(best),
    )


for _activation, _best, _other in (("tanh", "glorot", "he"), ("relu", "he", "glorot")):

    @claim(
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
            suits.append(separate(ours, theirs))
            words.append(f"{optimizer} {spread(ours)} against {spread(theirs)}")
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


@claim(
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
        f"mean absolute gradient at step 0 {spread(gradients[:, 0].max(axis=1), '.1e')}; a loss "
        f"of Inf in {np.isinf(losses).any(axis=1).sum()} of {len(losses)} seeds; gradients of NaN "
        f"from step {spread(first, '.0f')} on; recorded up to step {histories[0]['step'][-1]}",
        bool(np.isfinite(first).all()),
    )


@claim(
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

    @claim("remedies", f"{_TITLES[name]} cures {layers} layers", source)
    def measure(suite):
        sick, ours = (suite.results(f"{which}-{layers}") for which in (_BASE, name))
        ratio = suite.results(f"{name}-{layers}", "first_gradient_ratio")
        learn = suite.learned(f"{name}-{layers}")
        cures = separate(ours, sick) and learn > len(ours) / 2
        return Finding(
            f"{spread(ours, '.2f')}, {learn} of {len(ours)} learned, gradient ratio "
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


@claim("remedies", "The sick network cannot learn", SEVEN_LAYERS)
def _sick(suite):
    words, fails = [], []
    for layers in (7, 20, 50):
        fails.append(suite.learned(f"{_BASE}-{layers}") == 0)
        ratio = np.median(suite.results(f"{_BASE}-{layers}", "first_gradient_ratio"))
        accuracy = spread(suite.results(f"{_BASE}-{layers}"), ".2f")
        words.append(f"{layers} layers {accuracy}, ratio {ratio:.1e}")
    return Finding("; ".join(words), all(fails))


_RATES = {
    "low": "Nothing is learned, with a gradient as large as any: it is no cause of vanishing.",
    "high": "The first updates throw ReLU's units to where they are off for every digit, and then "
    "every gradient but that of the output's biases is exactly 0.",
}
for _rate, _why in _RATES.items():

    @claim(
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
        accuracy = spread(suite.results(f"relu-7-rate-{rate}"), ".2f")
        vanishes = bool(np.median(remains) < 1e-3)
        return Finding(
            f"ReLU: accuracy {accuracy}, layer 1's last mean absolute gradient is "
            f"{spread(remains, '.2g')} of its first",
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
        words.append(f"{depth} layers {spread(np.exp(logs), '.3f')}")
    return Finding("; ".join(words), bool(holds(np.array(medians))))


@claim(
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

    @claim(
        "depth",
        f"{_name}: it stays about the same (a factor within {_ABOUT_THE_SAME} of 1 a layer)",
        GLOROT,
        "1",
    )
    def _same_factor(suite, name=_name):
        return _factor_finding(
            suite, name, lambda medians: np.abs(np.log(medians)).max() < np.log(_ABOUT_THE_SAME)
        )


@claim("depth", "With 50 layers none of them can learn", OWN)
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

    @claim("glorot2010", _text, _source, f"{_factor_of_theory:.3g}")
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
            f"{spread(factors)}, within {error:.0%}",
            bool(abs(np.median(factors) / theory - 1) < error),
            ""
            if relu
            else "Theory is of the linear regime. With tanh's mean slopes as recorded it says "
            f"{np.median(expected):.3f}.",
        )
