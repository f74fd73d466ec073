"""The symptoms: what each one measures, its threshold, and the source of both.

Thresholds without a published source were set on one half of the labelled corpus in
`benchmarks/corpus.json`, and `make bench-diagnosis` scores them on the other half; or on models of
many kinds, healthy and sick, which `make bench-anyone` trains and scores.
"""

import numpy as np

from mnist_vg.diagnosis import rules, validation
from mnist_vg.diagnosis.symptom import Counts, Symptom
from mnist_vg.runs.marks import WITHOUT_GRADIENT

NO_GRADIENT = "no gradient"
UPDATES_TOO_LARGE = "updates too large"
UPDATES_TOO_SMALL = "updates too small"
RATE_FADES_OUT = "learning rate fades out"
VANISHING_THROUGH_TIME = "vanishing through time"
EXPLODING_THROUGH_TIME = "exploding through time"
SATURATED_UNITS = "saturated units"
DEAD_UNITS = "dead units"
EXPLODING_GRADIENTS = "exploding gradients"
VANISHING_GRADIENTS = "vanishing gradients"
NONFINITE_VALUES = "non-finite values"
FROZEN_LAYERS = "frozen layers"
OSCILLATING_LOSS = "oscillating loss"
PENALTY_TOO_STRONG = "penalty too strong"
ONE_ANSWER = "one answer for all inputs"
LOSS_OF_ZERO = "loss of zero"
NEGATIVE_LOSS = "negative loss"
RISING_LOSS = "rising loss"
STUCK_AT_CHANCE = "stuck at chance"
OVERFITTING = "overfitting"
MOVING_AVERAGES_BEHIND = "moving averages behind"
VALIDATION_FAR_OFF = "validation far off"


NEEDS = {
    "update_ratio": "update sizes (GradientLogger)",
    "through_time": "gradients by time step (GradientLogger with measures='full')",
    "dead": "activations (measures='full')",
    "saturated": "activations (measures='full')",
    "condition": "a loss with norms or histograms of weights and gradients",
    "nonfinite": "gradients",
    "state": "gradients",
    "accuracy": "an accuracy",
    "rate": "a learning rate (GradientLogger)",
    "test_loss": "a test loss",
    "loss": "a loss",
    "same_answer": "the loss of the same answer for all inputs (GradientLogger)",
    "validation": "a validation loss",
}
"""What a run has to record for each field of `Measurements`."""

NEEDS_IN_FULL = {
    "update_ratio": "update sizes (Recorder.watch)",
    "dead": "activations (Recorder.watch)",
    "saturated": "activations (Recorder.watch)",
}
"""The same for a run that has full measures already: only a `Recorder`'s may lack these."""

SYMPTOMS = (
    Symptom(
        name=NO_GRADIENT,
        measure=lambda measurements: (measurements.state == WITHOUT_GRADIENT).astype(float),
        threshold=1,
        words="none of its weights gets a gradient, though they are to be trained",
        why="the optimizer skips the layer, so it stays as the initializer drew it",
        source="backpropagation gives None where the loss is no differentiable function of a "
        "weight (tf.GradientTape)",
        advice=(
            "the layer's output in the loss",
            "an operation with a gradient in place of argmax, rounding, a cast to whole numbers "
            "or stop_gradient",
            "its trainable=False",
        ),
        counts=Counts.ALWAYS,
        needs=("state",),
    ),
    Symptom(
        name=UPDATES_TOO_LARGE,
        measure=rules.update,
        threshold=0.3,
        words="one update moves its weights by {value:.2g} times their norm (healthy: less than "
        "{threshold:g})",
        why="after a few such updates, nothing is left of what the layer has learned",
        source="set on the corpus; Karpathy's rule of thumb is 1e-3 (CS231n), SageMaker "
        "Debugger's WeightUpdateRatio has 10",
        advice=(
            "a lower learning rate",
            "gradient clipping",
        ),
        counts=Counts.ONCE,
        needs=("update_ratio",),
    ),
    Symptom(
        name=UPDATES_TOO_SMALL,
        measure=rules.largest_update,
        threshold=5e-5,
        below=True,
        records=2,
        columns=None,
        from_start=True,
        words="one update moves no layer's weights by more than {value:.2g} times their norm "
        "(healthy: more than {threshold:g})",
        why="the network stays close to its random start, however long it trains",
        source="set on the corpus; Karpathy's rule of thumb is 1e-3 (CS231n)",
        advice=("a higher learning rate",),
        causes=(VANISHING_GRADIENTS, DEAD_UNITS),
        needs=("update_ratio",),
    ),
    Symptom(
        name=RATE_FADES_OUT,
        measure=rules.faded_share,
        threshold=0.5,
        columns=None,
        counts=Counts.IF_LITTLE,
        still=True,
        words="for {value:.0%} of the training, the learning rate is at most 1% of its largest "
        "value (healthy: less than {threshold:.0%})",
        why="the weights hardly move any more, so what is not learned by then stays unlearned",
        source="cosine decay is below 1% for the last 6% (Loshchilov and Hutter 2017, equation 5)",
        advice=("a schedule as long as the training", "a constant learning rate"),
        needs=("rate",),
    ),
    Symptom(
        name=VANISHING_THROUGH_TIME,
        measure=lambda measurements: measurements.through_time,
        threshold=-24 * np.log10(2),
        below=True,
        records=2,
        words="the gradient at its first time step is 1e{value:.0f} of that at its last (healthy: "
        "more than 1e{threshold:.0f})",
        why="the layer learns from the last time steps only, and what counts may stand at the "
        "first",
        source="exponential decay (Bengio et al. 1994, Hochreiter 1998) below half of float32's "
        "machine epsilon (IEEE 754): in the sum over time steps, the first ones are lost",
        advice=(
            "a mask for padding, or padding in front",
            "return_sequences=True and a pooling layer or attention",
            "shorter sequences",
            "orthogonal recurrent weights",
        ),
        causes=(UPDATES_TOO_LARGE, UPDATES_TOO_SMALL),
        needs=("through_time",),
    ),
    Symptom(
        name=EXPLODING_THROUGH_TIME,
        measure=lambda measurements: measurements.through_time,
        threshold=4,
        records=2,
        words="the gradient at its first time step is 1e{value:.0f} times that at its last "
        "(healthy: less than 1e{threshold:.0f} times)",
        why="the first time steps decide where the weights go, however little they matter",
        source="exponential growth (Bengio et al. 1994, Pascanu et al. 2013); the threshold is "
        "that of mnist_vg.check",
        advice=(
            "smaller recurrent weights (orthogonal ones)",
            "gradient clipping",
            "a lower learning rate",
            "shorter sequences",
        ),
        causes=(UPDATES_TOO_LARGE,),
        needs=("through_time",),
    ),
    Symptom(
        name=SATURATED_UNITS,
        measure=lambda measurements: measurements.saturated,
        threshold=0.5,
        records=6,
        columns="activation_layers",
        words="{value:.0%} of its units are at an end of their activation for most of the batch "
        "(healthy: less than {threshold:.0%})",
        why="there the activation is flat, so these units and the layers before them get hardly "
        "any gradient",
        source="DeepDiagnosis (Wardat et al. 2022): half of the units",
        advice=(
            "smaller initial weights",
            "a normalization",
            "an activation without ends",
        ),
        causes=(UPDATES_TOO_LARGE,),
        needs=("saturated",),
    ),
    Symptom(
        name=DEAD_UNITS,
        measure=lambda measurements: measurements.dead,
        threshold=0.7,
        records=2,
        columns="activation_layers",
        words="{value:.0%} of its units give zero for all of the batch (healthy: less than "
        "{threshold:.0%})",
        why="a dead unit passes nothing on and gets no gradient, so it seldom comes back",
        source="AutoTrainer (Zhang et al. 2021) and DeepDiagnosis (Wardat et al. 2022): 70%",
        advice=(
            "a lower learning rate",
            "leaky_relu",
            "initial weights around zero",
        ),
        causes=(UPDATES_TOO_LARGE,),
        needs=("dead",),
    ),
    Symptom(
        name=EXPLODING_GRADIENTS,
        measure=rules.gradient_in_units_of_chance,
        threshold=1e3,
        words="changing its weights by 1% changes the loss by up to {value:.2g}% of what chance "
        "costs (healthy: less than {threshold:g}%)",
        why="a step of usual length overshoots, and may leave the loss higher than before",
        source="relative condition number (Trefethen and Bau 1997, lecture 12); set on the corpus",
        advice=(
            "smaller initial weights",
            "a normalization",
            "a lower learning rate",
        ),
        counts=Counts.ONCE,
        needs=("condition",),
    ),
    Symptom(
        name=VANISHING_GRADIENTS,
        measure=lambda measurements: measurements.condition,
        threshold=0.03,  # Percent of the loss for one percent of the weights.
        below=True,
        records=2,
        words="changing its weights by 1% changes the loss by {value:.2g}% at most (healthy: more "
        "than {threshold:g}%)",
        why="hardly any of the error reaches the layer, so it learns slowly or not at all",
        source="relative condition number (Trefethen and Bau 1997, lecture 12); set on the corpus",
        advice=(
            "an activation such as relu",
            "larger initial weights",
            "a normalization",
            "skip connections",
        ),
        causes=(
            UPDATES_TOO_LARGE,
            SATURATED_UNITS,
            DEAD_UNITS,
            PENALTY_TOO_STRONG,
            VANISHING_THROUGH_TIME,
        ),
        needs=("condition",),
    ),
    Symptom(
        name=NONFINITE_VALUES,
        measure=rules.first_not_finite,
        detail=rules.origin,
        threshold=1,
        words="{value:.0f} of its gradients and weights are NaN or Inf",
        why="one update with NaN spoils the weights for good, and every answer after it",
        source="IEEE 754; SageMaker Debugger's ExplodingTensor",
        advice=(
            "a lower learning rate",
            "smaller initial weights",
            "gradient clipping",
        ),
        causes=(UPDATES_TOO_LARGE, EXPLODING_GRADIENTS),
        counts=Counts.ALWAYS,
        needs=("nonfinite",),
    ),
    Symptom(
        name=FROZEN_LAYERS,
        measure=rules.update,
        threshold=2.0**-24,
        below=True,
        records=2,
        from_start=True,
        words="one update moves its weights by {value:.2g} times their norm, and float32 loses "
        "what is below {threshold:.0e}",
        why="rounding swallows the updates, so the layer stays as it began",
        source="half of float32's machine epsilon (IEEE 754)",
        advice=(
            "a higher learning rate",
            "what helps against the symptoms above",
        ),
        causes=(UPDATES_TOO_SMALL, VANISHING_GRADIENTS, DEAD_UNITS),
        needs=("update_ratio",),
    ),
    Symptom(
        name=OSCILLATING_LOSS,
        measure=rules.rises,
        threshold=0.375,
        columns=None,
        words=f"the loss rose by {rules.SWING:.0%} or more at {{value:.0%}} of "
        f"{rules.SWING_RECORDS} records in a row "
        "(healthy: less than {threshold:.0%})",
        why="what one update gains the next one loses, so the training takes long or gets nowhere",
        source="set on the corpus",
        advice=("a lower learning rate",),
        causes=(UPDATES_TOO_LARGE, EXPLODING_GRADIENTS),
        needs=("test_loss", "same_answer"),
    ),
    Symptom(
        name=RISING_LOSS,
        measure=rules.growth,
        threshold=5.0,
        columns=None,
        still=True,
        words="over a third of the training, the loss is {value:.2g} times the first one (healthy: "
        "less than {threshold:g} times)",
        why="the network is worse than before its first step",
        source="set on benchmarks/anyone.py",
        advice=(
            "a lower learning rate",
            "gradient clipping",
            "between two networks, a weaker opponent: a lower rate, dropout",
        ),
        causes=(UPDATES_TOO_LARGE, EXPLODING_GRADIENTS),
        needs=("loss",),
    ),
    Symptom(
        name=PENALTY_TOO_STRONG,
        measure=rules.penalty,
        threshold=1.0,
        records=10,
        columns=None,
        counts=Counts.ONCE,
        words="the penalties are {value:.2g} times the loss of the data (healthy: less than "
        "{threshold:g} times)",
        why="the optimizer shrinks the weights, and hardly heeds the data",
        source="beyond it, the optimizer gains more by small weights than by right answers",
        advice=("weaker regularizers",),
        needs=("same_answer",),
    ),
    Symptom(
        name=LOSS_OF_ZERO,
        measure=rules.costs_nothing,
        threshold=1,
        records=2,
        columns=None,
        counts=Counts.ALWAYS,
        from_start=True,
        still=True,
        words="the loss is exactly 0, and so is that of the same answer for all inputs",
        why="no answer costs anything, so there is nothing to learn from",
        source="a loss that is 0 whatever the answer cannot tell right from wrong",
        advice=("a loss and a last layer that fit the labels: mnist_vg.check(model, x, y)",),
        needs=("same_answer",),
    ),
    Symptom(
        name=NEGATIVE_LOSS,
        measure=rules.below_zero,
        threshold=100,
        columns=None,
        counts=Counts.ALWAYS,
        still=True,
        words="the loss is negative, and {value:.2g} times as large as at first (healthy: less "
        "than {threshold:g} times)",
        why="there is no best answer to find, so the outputs grow without end",
        source="a loss without a lower bound has no minimum to find; set on benchmarks/anyone.py",
        advice=("the sign of the loss", "labels that fit it: mnist_vg.check(model, x, y)"),
        needs=("same_answer",),
    ),
    Symptom(
        name=ONE_ANSWER,
        measure=rules.difference_to_same_answer,
        threshold=1e-3,
        below=True,
        records=10,
        columns=None,
        still=True,
        words="the same answer for all inputs would change the loss by {value:.2g} of it (healthy: "
        "more than {threshold:g})",
        why="the inputs make no difference, so nothing about them can be told",
        source="set on benchmarks/anyone.py",
        advice=("what helps against the symptoms above",),
        causes=(
            UPDATES_TOO_LARGE,
            UPDATES_TOO_SMALL,
            SATURATED_UNITS,
            DEAD_UNITS,
            EXPLODING_GRADIENTS,
            VANISHING_GRADIENTS,
            VANISHING_THROUGH_TIME,
            EXPLODING_THROUGH_TIME,
            PENALTY_TOO_STRONG,
            LOSS_OF_ZERO,
        ),
        counts=Counts.IN_THE_END,
        needs=("same_answer",),
    ),
    Symptom(
        name=STUCK_AT_CHANCE,
        measure=rules.share_learned,
        threshold=0.05,
        below=True,
        records=10,
        columns=None,
        still=True,
        words="{value:.0%} of what chance gets wrong is right, at 10 records in a row (healthy: "
        "more than {threshold:.0%})",
        why="a guess that ignores the inputs does as well, so the training has gained nothing",
        source="of the form of Cohen's kappa (1960); set on the corpus",
        advice=(
            "what helps against the symptoms above",
            "a look at data and labels: mnist_vg.check(model, x, y)",
        ),
        counts=Counts.IN_THE_END,
        needs=("accuracy", "same_answer"),
    ),
    Symptom(
        name=OVERFITTING,
        measure=validation.lost_again,
        threshold=validation.LOST,
        records=2,
        columns=None,
        counts=Counts.ALWAYS,
        still=True,
        of_validation=True,
        words="of what the validation loss had gained, {value:.0%} is lost again, while the "
        "training's loss fell further (healthy: less than {threshold:.0%})",
        why="the network learns the training examples by heart, which is worth nothing on other "
        "data",
        source="early stopping (Prechelt 1998, section 2.2: generalization loss); set on "
        "benchmarks/anyone.py",
        advice=("more data", "dropout", "weight decay", "early stopping", "fewer units"),
        needs=("validation",),
    ),
    Symptom(
        name=MOVING_AVERAGES_BEHIND,
        measure=validation.behind,
        threshold=0.1,
        columns=None,
        counts=Counts.ALWAYS,
        still=True,
        of_validation=True,
        words="validation costs more than training, and the moving averages of batch "
        "normalization still hold {value:.0%} of their first values (healthy: less than "
        "{threshold:.0%})",
        why="outside of training the network works with these averages, and answers worse than it "
        "could",
        source="an exponential average holds momentum**steps of its first value (Ioffe and "
        "Szegedy 2015, algorithm 2)",
        advice=("a lower momentum of batch normalization, such as 0.9", "more steps"),
        needs=("validation",),
    ),
    Symptom(
        name=VALIDATION_FAR_OFF,
        measure=validation.gap,
        threshold=0.4,
        records=2,
        columns=None,
        counts=Counts.ALWAYS,
        still=True,
        of_validation=True,
        words="validation costs more than training by {value:.0%} of what the same answer for all "
        "inputs costs (healthy: less than {threshold:.0%})",
        why="what the network has learned does not carry over to these data",
        source="set on benchmarks/anyone.py",
        advice=(
            "the same preprocessing for both data sets",
            "shuffled data: validation_split takes the last rows",
            "more data",
        ),
        causes=(MOVING_AVERAGES_BEHIND,),
        needs=("validation",),
    ),
)
"""Every symptom. Of symptoms that show from the same step on, a verdict has this order."""
