"""The named suites of scenarios: every experiment of the tutorials, and two of papers."""

import dataclasses
import math

from mnist_vg.errors import UsageError, nearest
from mnist_vg.scenarios.scenario import PARAMETRIC_RELU, Scenario

SEVEN_LAYERS = "The Vanishing Gradient Problem (Great Learning)"
CIRCLES = "Visualizing the vanishing gradient problem (Machine Learning Mastery, 2021)"
CAUSES = "Vanishing Gradients: Causes and Prevention Measures"
INITIALIZERS = "Vanishing and exploding gradients (MachineCurve, 2019)"
GLOROT = "Glorot and Bengio 2010"
HE = "He et al. 2015"
OWN = "this project"


def _variant(base: Scenario, name: str, about: str, **changes) -> Scenario:
    return dataclasses.replace(base, name=name, about=about, **changes)


def _tutorial():
    expected = {
        "sigmoid": "each sigmoid passes on at most a quarter of the gradient, and almost nothing "
        "reaches layer 1",
        "relu": "the slope is 1 or 0, so the gradient reaches every layer, through the units that "
        "are on",
        "leaky_relu": "a slope of 0.2 for negative inputs keeps every unit's gradient alive",
    }
    for activation, about in expected.items():
        yield Scenario(activation=activation, about=about, source=SEVEN_LAYERS)


def _circles():
    epochs, steps = 100, math.ceil(1000 / 32)
    base = Scenario(
        dataset="circles",
        hidden_size=5,
        output="sigmoid",
        batch_size=32,
        partial_batches=True,
        iterations=epochs * steps,
        log_every=steps,
        measures="full",
        source=CIRCLES,
    )
    for activation, num_layers, about in (
        ("relu", 2, "learns: published accuracy 0.973, loss 0.2404"),
        ("sigmoid", 2, "hardly learns: published accuracy 0.654, loss 0.6927"),
        ("sigmoid", 4, "more layers do not help: published accuracy 0.533, loss 0.6922"),
    ):
        depth = "shallow" if num_layers == 2 else "deep"
        name = f"circles-{activation}-{depth}"
        yield _variant(base, name, about, activation=activation, num_layers=num_layers)
    wide = dataclasses.replace(
        base, num_layers=5, optimizer="rmsprop", kernel_initializer="random_normal(stddev=1)"
    )
    for activation, about in {
        "sigmoid": "the gradient vanishes: published accuracy 0.588 and 0.652",
        "tanh": "learns: published accuracy 0.993 and 0.994",
        "relu": "learns: published accuracy 0.994 and 0.995",
    }.items():
        name = f"circles-{activation}"
        yield _variant(wide, name, about, activation=activation)
        yield _variant(
            wide,
            f"{name}-glorot",
            "the exercise that the tutorial leaves: Glorot's normalized initialization",
            activation=activation,
            kernel_initializer="glorot_uniform",
        )
        yield _variant(
            wide,
            f"{name}-shared",
            "as printed: one initializer for all layers, which under Keras 3 start alike",
            activation=activation,
            shared_initializer=True,
        )


def _circles_uniform():
    epochs, steps = 500, math.ceil(500 / 32)
    base = Scenario(
        dataset="close_circles",
        num_layers=6,
        hidden_size=5,
        activation="tanh",
        kernel_initializer="random_uniform(minval=0,maxval=1)",
        output="sigmoid",
        optimizer="sgd",
        learning_rate=0.01,
        momentum=0.9,
        batch_size=32,
        partial_batches=True,
        iterations=epochs * steps,
        log_every=10 * steps,
        measures="full",
        source=CAUSES,
    )
    yield _variant(
        base, "uniform-tanh", "hardly learns: published test accuracy about 0.56, flat for 200 "
        "epochs"
    )  # fmt: skip
    for name, initializer, about in (
        ("glorot", "glorot_uniform", "another initializer, the tutorial's second prevention"),
        ("narrow", "random_uniform(minval=0,maxval=0.1)", "weights assigned still smaller"),
        ("centred", "random_uniform(minval=-1,maxval=1)", "the same width each side of zero"),
    ):
        yield _variant(base, f"uniform-tanh-{name}", about, kernel_initializer=initializer)
    yield _variant(
        base,
        "uniform-tanh-printed",
        "the listing as printed: it ends in two sigmoid units in a row, and learns nothing",
        num_layers=7,
        output="sigmoid_twice",
    )
    yield _variant(
        base, "uniform-tanh-shallow", "with few layers the effect is not prominent", num_layers=2
    )
    yield _variant(
        base,
        "uniform-relu",
        "the prevention: learns faster and better",
        activation="relu",
        kernel_initializer="he_uniform",
        output_initializer=base.kernel_initializer,
    )


SPREADS = (0.01, 0.125, 1.0)
"""Standard deviations of the random kernels: too small, `1 / sqrt(64)`, too large."""


def _initializers():
    base = Scenario(
        num_layers=11, hidden_size=64, batch_size=64, iterations=1000, log_every=250,
        source=INITIALIZERS,
    )  # fmt: skip
    kernels = {"zeros": ("zeros", "worse than random: nothing tells one unit from another")}
    for spread in SPREADS:
        about = f"random, standard deviation {spread}; uniform or normal should not matter"
        edge = spread * math.sqrt(3)
        kernels[f"normal{spread}"] = f"random_normal(stddev={spread})", about
        kernels[f"uniform{spread}"] = f"random_uniform(minval={-edge},maxval={edge})", about
    kernels["glorot"] = "glorot_uniform", "Xavier's: scaled to the layer's width"
    kernels["he"] = "he_normal", "He's: twice the variance, for ReLU"
    for activation in ("tanh", "relu"):
        for optimizer, learning_rate in (("sgd", 0.01), ("adam", 1e-3)):
            for name, (initializer, about) in kernels.items():
                yield _variant(
                    base,
                    f"{activation}-{optimizer}-{name}",
                    about,
                    activation=activation,
                    optimizer=optimizer,
                    learning_rate=learning_rate,
                    kernel_initializer=initializer,
                )
    yield _variant(
        base,
        "explodes",
        "weights above 1 multiply: the gradient overflows to Inf and NaN, and training goes on",
        activation="relu",
        optimizer="sgd",
        learning_rate=1e-4,  # Larger ones go past Inf, to NaN at once.
        kernel_initializer="random_normal(stddev=1)",
        log_every=1,
        iterations=100,
    )
    yield _variant(
        base,
        "chain",
        "the arithmetic of a chain, 0.1 five times over times 0.03, on a real network",
        activation="sigmoid",
        num_layers=6,
        iterations=1,
        measures="full",
    )


REMEDIES = {
    "none": ({"activation": "sigmoid"}, "the sick network"),
    "xavier": ({"kernel_initializer": "glorot_normal"}, "Xavier's initialization, normal"),
    "he": ({"kernel_initializer": "he_normal"}, "He's initialization"),
    "clipping": ({"global_clipnorm": 0.1}, "clipping cannot make a gradient larger"),
    "relu": ({"activation": "relu"}, "does not saturate; units may die"),
    "leaky_relu": ({"activation": "leaky_relu"}, "no unit dies"),
    "parametric_relu": ({"activation": PARAMETRIC_RELU}, "no unit dies, slopes are trained"),
    "batch": ({"normalization": "batch"}, "keeps sums where the slope is large"),
    "skip": ({"skip_connections": True}, "the gradient goes around the activations"),
}
"""What changes the sick network, and what that is known for."""


def _remedies():
    for layers in (7, 20, 50):
        base = Scenario(num_layers=layers - 1, source=SEVEN_LAYERS)
        for name, (changes, about) in REMEDIES.items():
            yield _variant(base, f"{name}-{layers}", about, **changes)
            if (name, layers) == ("relu", 7):
                for rate, value in (("low", 1e-6), ("high", 1.0)):
                    yield _variant(
                        base,
                        f"{name}-{layers}-rate-{rate}",
                        f"a learning rate that is too {rate}",
                        learning_rate=value,
                        **changes,
                    )


DEPTHS = (3, 5, 10, 20, 50)


def _depth():
    for activation in ("sigmoid", "tanh", "relu"):
        for num_layers in DEPTHS:
            yield Scenario(
                name=f"depth-{activation}-{num_layers}",
                activation=activation,
                num_layers=num_layers,
                iterations=500,
                about="the mean absolute gradient falls by a factor a layer",
                source=OWN,
            )


def _glorot2010():
    base = Scenario(
        dataset="digits", num_layers=6, hidden_size=1000, activation="tanh", optimizer="sgd",
        batch_size=100, iterations=1, measures="full", source=GLOROT,
    )  # fmt: skip
    yield _variant(
        base,
        "standard",
        "U[-1/√n, 1/√n]: the variance of back-propagated gradients falls to a third a layer",
        kernel_initializer="variance_scaling(scale=0.3333333333333333,mode='fan_in',"
        "distribution='uniform')",
    )
    yield _variant(base, "normalized", "the variance stays the same from layer to layer")
    relu = _variant(base, "normalized-relu", "half of the variance a layer", activation="relu")
    yield relu
    yield _variant(
        relu,
        "he-relu",
        "1/2 n Var(w) = 1: the variance stays the same",
        kernel_initializer="he_normal",
        source=HE,
    )


def _symptoms():
    base = Scenario(iterations=1000, log_every=40, source=OWN)
    relu = {"activation": "relu"}
    wide = {"hidden_size": 64, "num_layers": 11}
    for name, about, changes in (
        ("too-large", "a step beyond every minimum", {"activation": "elu", "learning_rate": 0.3}),
        ("too-small", "weights stay where they were", {**relu, "learning_rate": 1e-6}),
        (
            "saturated",
            "large weights push every unit to an end of tanh",
            {
                "activation": "tanh",
                "num_layers": 3,
                "hidden_size": 32,
                "kernel_initializer": "random_normal(stddev=3)",
            },
        ),
        (
            "dead",
            "an update too large, and no unit is ever on again",
            {**relu, "learning_rate": 0.3},
        ),
        (
            "exploding",
            "weights of 0.6 where 0.18 keep the signal's size",
            {**relu, **wide, "kernel_initializer": "random_normal(stddev=0.6)"},
        ),
        ("vanishing", "nine sigmoids in a row", {"num_layers": 10}),
        (
            "non-finite",
            "a learning rate at which SGD overflows",
            {"activation": "leaky_relu", "optimizer": "sgd", "learning_rate": 10.0},
        ),
        (
            "frozen",
            "a gradient so small that float32 loses the update",
            {"num_layers": 20, "optimizer": "sgd"},
        ),
        (
            "oscillating",
            "the loss jumps from wall to wall",
            {"activation": "tanh", "optimizer": "sgd", "learning_rate": 3.0},
        ),
        (
            "stuck",
            "all weights zero, and all units alike",
            {"activation": "tanh", "kernel_initializer": "zeros"},
        ),
    ):
        yield _variant(base, name, about, **changes)


SUITES: dict[str, tuple[Scenario, ...]] = {
    "tutorial": tuple(_tutorial()),
    "circles": tuple(_circles()),
    "circles_uniform": tuple(_circles_uniform()),
    "initializers": tuple(_initializers()),
    "remedies": tuple(_remedies()),
    "depth": tuple(_depth()),
    "glorot2010": tuple(_glorot2010()),
    "symptoms": tuple(_symptoms()),
}
"""Named lists of scenarios. Those that share a compiled program best follow each other."""

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario for suite in SUITES.values() for scenario in suite
}
"""Every named scenario, by its name."""


def described(scenario: Scenario) -> Scenario:
    """The scenario with what its description says, if it is one of the named ones."""
    named = SCENARIOS.get(scenario.name)
    return named if named == scenario else scenario


def find_scenario(name: str) -> Scenario:
    """The named scenario.

    Raises:
        UsageError: no scenario has this name; the line gives the nearest ones.
    """
    if name not in SCENARIOS:
        hint = nearest(name, [*SUITES, *SCENARIOS], "mnist-vg list shows every name")
        raise UsageError(f"scenario: {name!r} is not known; {hint}")
    return SCENARIOS[name]


def find_scenarios(name: str) -> tuple[Scenario, ...]:
    """The scenarios of a suite, or else the one scenario of that name.

    Raises:
        UsageError: there is neither; the line gives the nearest names.
    """
    return SUITES[name] if name in SUITES else (find_scenario(name),)
