"""What the pages on symptoms say in words: what each is, why it happens, where to look."""

from typing import NamedTuple

from mnist_vg.diagnosis import SWING, SWING_RECORDS


class Text(NamedTuple):
    """The words of one page, its example, and what its picture is to show.

    `measure` says what the symptom measures, `shows` what the picture shows; `tags`,
    `tab` and `size` are those of `picture.take_picture`.
    """

    example: str
    what: str
    why: str
    measure: str
    shows: str
    look: str
    tags: str
    tab: str = "scalars"
    size: str = "1240,640"


TEXTS = {
    "updates too large": Text(
        example="too-large",
        what="One update moves the weights of a layer by a large share of their own norm. After a "
        "few of them nothing is left of what the layer was initialized to, or has learned.",
        why="A gradient tells how the loss changes close to the weights at which it was taken. A "
        "step that is long against the weights ends where that says nothing, and the loss there is "
        "whatever it happens to be. Adam divides the gradient by its own running size, so each "
        "weight moves by about the learning rate, however small the gradient is: a rate of the size "
        "of the weights replaces them.",
        measure="the norm of the update of a layer's weights, over the norm of the weights",
        shows="the first updates are larger than the weights, and the accuracy stays at chance",
        look="`update_ratio/layer1`: the sick run starts far above the cured one. Later ratios are "
        "smaller because the weights have grown, not because the steps have shrunk: look at the "
        "first records. `accuracy/test` is what it costs.",
        tags="update_ratio.layer1|accuracy.test",
    ),
    "updates too small": Text(
        example="too-small",
        what="No layer's weights move by more than a tiny share of their norm. All the training "
        "long the network stays close to the one that the initializer drew.",
        why="The length of a step is the learning rate times what the optimizer makes of the "
        "gradient. Adam divides the gradient by its own running size, so the learning rate alone "
        "decides. SGD does not: there a small gradient makes small updates too, and what is to be "
        "mended is whatever makes it small.",
        measure="the norm of the update of a layer's weights, over the norm of the weights, of the "
        "layer in which it is largest",
        shows="updates of almost nothing, and an accuracy that does not move",
        look="`update_ratio/…`: the sick run is a flat line at zero in every layer, the cured one "
        "is not. One layer would not do: this symptom is of all of them. `loss/test` falls in one "
        "run alone.",
        tags="update_ratio.layer[16]|(loss|accuracy).test",
        size="1240,900",
    ),
    "saturated units": Text(
        example="saturated",
        what="Most units of a layer are at an end of their activation, for most examples. They "
        "still tell examples apart, like switches, but hardly learn to do it better.",
        why="Sums far from zero lie where a sigmoid or tanh is flat. Its slope there is a factor of "
        "the gradient of the unit's own weights and of all layers before it, and it is almost "
        "zero; so the unit has little to come back by. The usual cause are weights too large for "
        "the number of inputs: the spread of a sum is about that of the weights times the norm "
        "of the inputs. Inputs that are not scaled do the same.",
        measure="the share of a layer's units that are near an end of their activation for more "
        "than half of the batch",
        shows="most units are saturated from the first record on, those of the cured run are not",
        look="`activation_saturated/layer1` and `layer2`: shares of units, 0 to 1, high from the "
        "first record on and hardly falling. `accuracy/test`: the network learns all the same, "
        "from its last layer, but less and later.",
        tags="activation_saturated.layer[12]|(loss|accuracy).test",
        size="1240,900",
    ),
    "dead units": Text(
        example="dead",
        what="A dead unit gives exactly zero for every example. Where most units of a layer are "
        "dead, little passes through it; where all are, the output is the same for every example.",
        why="Below zero ReLU is constant, and its slope is 0. A unit whose sum is negative for all "
        "examples gets no gradient, neither its weights nor its bias, so nothing but a change in "
        "the layers before it can bring it back. It mostly dies of a single update that is too "
        "long, which carries weights or bias beyond every example; a bias that starts negative "
        "does it too.",
        measure="the share of a layer's units that give zero for every example of the batch",
        shows="all units of a layer die within the first records, and the accuracy stays at chance",
        look="`activation_dead/…`: shares of units, 0 to 1. In the sick run they jump up within the "
        "first records and never come down. A share that is neither large nor growing is usual "
        "with ReLU.",
        tags="activation_dead.layer[15]|(loss|accuracy).test",
        size="1240,900",
    ),
    "exploding gradients": Text(
        example="exploding",
        what="A small relative change of a layer's weights would change the loss by many times "
        "what there is to gain by learning. Steps of a usual length overshoot, and the loss starts "
        "far above that of guessing.",
        why="Backpropagation multiplies once a layer by the weights and by the slope of the "
        "activation. The mean square grows by a factor of about n Var(w), with ReLU half of it; "
        "above 1 the product grows exponentially with depth, and so does the signal on its way "
        "forward. A large gradient alone is no symptom: a loss that is a thousand times larger has "
        "one, and is trained as well. So the measure counts both weights and loss in.",
        measure="the norm of a layer's weights times that of its gradient, over the loss of "
        "knowing nothing (the first loss where that is not recorded)",
        shows="gradients and loss that start some orders of magnitude too large",
        look="`gradient_mean_abs/…` and `loss/test` at the first records: beside the sick run's "
        "the cured run's curve is a line at zero. Untick *Ignore outliers in chart scaling*, or "
        "just those records are cut off.",
        tags="gradient_mean_abs.layer(1|11)$|(loss|accuracy).test",
        size="1240,900",
    ),
    "vanishing gradients": Text(
        example="vanishing",
        what="Whatever a small relative change does to a layer's weights, the loss hardly changes. "
        "The layer gets almost no gradient, or one that is of no use to it.",
        why="Backpropagation multiplies once a layer by the weights and by the slope of the "
        "activation. Where the product of both is below 1 on the average, what arrives falls "
        "exponentially with depth; a sigmoid's slope is at most a quarter. Adam divides a "
        "small gradient by its own running size, so the weights may move all the same, to little "
        "effect.",
        measure="the norm of a layer's weights times that of its gradient, over the loss: the "
        "relative condition number",
        shows="no gradient reaches layer 1 of the sick run, while its last layer has one",
        look="`gradient_flow/log10_first_to_last` first: 0 where layer 1 gets as much as the last "
        "layer, below it by one for each power of ten. `gradient_mean_abs/layer1` is the same in "
        "absolute terms, a line at zero, though the last layer gets a gradient like any other.",
        tags="gradient_flow|gradient_mean_abs.layer(1|10)$|accuracy.test",
        size="1240,900",
    ),
    "non-finite values": Text(
        example="non-finite",
        what="A gradient or a weight is Inf or NaN. It does not go away by itself.",
        why="What is too large for float32 (about 3.4e38) is Inf; Inf minus Inf, or times 0, is "
        "NaN, and so is whatever NaN is added to or multiplied with. An update with such a gradient "
        "makes the weights NaN, and from then on everything is. The layer that is named is "
        "the one nearest the output that has any, since gradients come from there. Between two "
        "records much can happen: `--log-every 1` finds the step.",
        measure="how many values of a layer's gradient and weights are NaN or Inf, of the layer "
        "nearest the output that has any",
        shows="every value of the sick run's gradient is counted as not finite",
        look="`gradient_nonfinite/…` is written where there is something to count, so the cured "
        "run has none of it. `loss/test` ends where it is not a number: TensorBoard draws "
        "triangles instead of a curve.",
        tags="gradient_nonfinite.layer[16]|(loss|accuracy).test",
        size="1240,900",
    ),
    "frozen layers": Text(
        example="frozen",
        what="A layer's weights are, bit for bit, what they were before the update. The layer "
        "computes a random function of its input for good.",
        why="A float32 has 24 significant bits. An update that is smaller than half the last bit of "
        "its weight is rounded away by the addition, and the next one again, so many of them do "
        "not add up either. It takes a gradient that is small by many orders of magnitude and "
        "an optimizer that does not scale it up, such as SGD.",
        measure="the norm of the update of a layer's weights, over the norm of the weights",
        shows="the weights of layer 1 are the same at every record of the sick run",
        look="`weights/layer1` in Histograms: the slices of the sick run are all alike, the newest "
        "in front. `weights/layer20`, its last layer, moves. Scalars have `update_ratio/layer1`.",
        tags="weights.layer(1|20)$",
        tab="histograms",
        size="1240,900",
    ),
    "oscillating loss": Text(
        example="oscillating",
        what="The loss rises again and again by a large share, and falls again. What one update "
        "gains another one loses.",
        why="Where the loss is curved, a step along the gradient gains only as long as it is short "
        "against the curvature: beyond twice the way to the bottom it ends on the "
        "opposite wall, higher than it began. Directions that are curved less may still be "
        "learned meanwhile. The measure takes the loss on the test split, if there is one: its "
        "swings are no noise of single batches.",
        measure=f"the share of {SWING_RECORDS} records in a row at which the loss is larger by "
        f"{SWING:.0%} or more than at the record before",
        shows="the sick run's loss jumps up and down, the cured one's falls",
        look="`loss/test`, smoothing off (it hides just this): the sick run goes up and down "
        "all the time, the cured one down. A single peak is none.",
        tags="loss.test|accuracy.test",
    ),
    "stuck at chance": Text(
        example="stuck",
        what="The network answers no better than one that has seen only how frequent each label "
        "is, and does not get better.",
        why="Every other symptom may end in this. Where it stands alone, look at what "
        "none of them measures: labels that do not belong to their inputs, inputs without "
        "information. In the example all kernels are zero. So every hidden unit gives zero, the "
        "gradient of every kernel is a product with a zero, and the output's bias is all that "
        "learns. Other equal weights are no better: units that are alike get the same gradient, "
        "and stay alike.",
        measure="Cohen's kappa of the test accuracy: the share of what chance gets wrong that the "
        "network gets right (the share of the first loss that is gone, without an accuracy)",
        shows="the sick run's accuracy is a flat line at chance, and nothing reaches its layers",
        look="`accuracy/test` is a flat line, and `loss/test` stays at `chance/loss`, the entropy "
        "of the labels. Then see what else is flat: here `gradient_mean_abs/…` is zero in "
        "every layer.",
        tags="(loss|accuracy).test|gradient_mean_abs.layer[16]",
        size="1240,900",
    ),
}
"""The pages, by their symptom."""
