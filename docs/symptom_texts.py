"""What the pages on symptoms say in words: what each is, why it happens, where to look."""

from typing import NamedTuple

from mnist_vg.diagnosis.rules import SWING, SWING_RECORDS


class Text(NamedTuple):
    """The words of one page, its example, and what its picture is to show.

    The example is a scenario, or empty for a model of `symptom_models`.
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
    size: str = "1240,900"


TEXTS = {
    "no gradient": Text(
        example="",
        what="A layer is to be trained, but none of its weights gets a gradient. The optimizer "
        "skips them, and the layer stays as the initializer drew it.",
        why="Backpropagation finds a gradient only for weights from which differentiable "
        "operations lead to the loss. It ends at operations such as argmax, rounding, comparisons, "
        "a cast to whole numbers, a conversion to NumPy, or stop_gradient. A layer that is never "
        "called, or whose output the loss does not use, gets none either. This is not a gradient "
        "of zero: there is no gradient at all, so no record shows one. Keras warns that "
        '"Gradients do not exist for variables".',
        measure="whether a layer that is to be trained gets a gradient",
        shows="with argmax there is one slice of the encoder's weights, and with softmax many",
        look="`weights/encoder` in Histograms, the newest record in front: with argmax there is "
        "one slice, since weights without a gradient are recorded once; with softmax the slices "
        "spread. There is no `gradients/encoder` and no `gradient_mean_abs/encoder` of the run "
        "with argmax. The card *layers without a gradient* "
        "in the Text tab names the layer.",
        tags="weights.encoder$",
        tab="histograms",
        size="1240,640",
    ),
    "updates too large": Text(
        example="too-large",
        what="One update moves the weights of a layer by a large share of their own norm. After a "
        "few of them nothing is left of what the layer was initialized to, or has learned.",
        why="A gradient tells how the loss changes close to the weights at which it was taken. A "
        "step that is long against the weights ends where that says nothing, and the loss there "
        "is whatever it happens to be. Adam divides the gradient by its own running size, so each "
        "weight moves by about the learning rate, however small the gradient is: a rate of the "
        "size of the weights replaces them.",
        measure="the norm of the update of a layer's weights, over the norm of the weights",
        shows="the first update is larger than the weights, and the accuracy stays at chance",
        look="`update_ratio/…` at the first records: beside the sick run's the cured run's are "
        "next to zero. That the sick run's fall is no recovery: by then its weights are large, and "
        "hardly any gradient comes through them. `accuracy/test` is what it costs.",
        tags="update_ratio.layer[16]|(loss|accuracy).test",
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
        shows="beside the cured run's updates those of the sick run are a line at zero",
        look="`update_ratio/…`: beside the cured run's the sick run's is a line at zero. It has to "
        "be so in every layer, of which the picture has the first and the last. `loss/test` "
        "hardly falls.",
        tags="update_ratio.layer[16]|(loss|accuracy).test",
    ),
    "saturated units": Text(
        example="saturated",
        what="Most units of a layer are at an end of their activation for most examples. They "
        "work as switches, which may tell examples apart, but hardly learn to do it better.",
        why="Sums far from zero lie where a sigmoid or tanh is flat. Its slope there is almost "
        "zero, and a factor of the gradient of the unit's own weights and of all layers before "
        "it; so the unit has little to come back by. The usual cause is weights too large for the "
        "number of inputs: the spread of a sum is that of the weights times the norm of the "
        "inputs. Inputs that are not scaled do the same.",
        measure="the share of a layer's units that are near an end of their activation for more "
        "than half of the batch",
        shows="units are saturated from the first record to the last, the cured run's are not",
        look="`units_saturated/layer1` and `layer2`, shares of units, 0 to 1: high in the "
        "sick run, from the first record to the last. `loss/test` falls all the same, for the "
        "last layer has no activation and learns what it can from switches set at random.",
        tags="units_saturated.layer[12]|(loss|accuracy).test",
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
        shows="units die within the first records, and the accuracy stays at chance",
        look="`units_dead/…`, shares of units, 0 to 1: in the sick run they jump up within "
        "the first records and do not come down. A few dead units are usual with ReLU.",
        tags="units_dead.layer[15]|(loss|accuracy).test",
    ),
    "exploding gradients": Text(
        example="exploding",
        what="A small relative change of a layer's weights would change the loss by many times "
        "what there is to gain by learning. Steps of a usual length overshoot.",
        why="Backpropagation multiplies once a layer by the weights and by the slope of the "
        "activation. That multiplies the mean square by about n Var(w) for a layer of n units, "
        "with ReLU by half of it; above 1 it grows exponentially with depth, and so does the "
        "signal on its way forward. A large gradient alone is no symptom: a loss in other units "
        "has a gradient in other units. So the measure sets it against weights and loss.",
        measure="the norm of a layer's weights times that of its gradient, over the loss of chance "
        "(where that is not recorded: of the same answer for all inputs, or the first loss)",
        shows="gradients and loss that start some orders of magnitude too large",
        look="`gradient_mean_abs/…` and `loss/test` at the first records, and the numbers on "
        "their axes: beside the sick run's curves the cured run's are lines at zero. Untick "
        "*Ignore outliers in chart scaling*, or just these records are cut off. "
        "`gradient_flow/…` need not show it: a layer's gradient is the product of what comes "
        "forward and what comes back, and where both explode, it is large in all layers alike.",
        tags="gradient_mean_abs.layer(1|11)$|(loss|accuracy).test",
    ),
    "vanishing gradients": Text(
        example="vanishing",
        what="Change a layer's weights by a small share of themselves, and the loss hardly "
        "changes: the layer gets almost no gradient.",
        why="Backpropagation multiplies once a layer by the weights and by the slope of the "
        "activation; a sigmoid's slope is at most a quarter. Where each layer makes it smaller, "
        "what arrives falls exponentially with depth. Adam divides the gradient by its own "
        "running size, so the weights may move all the same, but along few directions: [what "
        "really happens in layer 1](../first_layer.md). Usually several of the first layers are "
        "below the threshold, and the diagnosis names the one with the smallest value. Here that "
        "is layer 2, not layer 1. A single weight of layer 1 gets the smallest gradient, but the "
        "measure takes a layer as a whole, and layer 1 has 78 times as many weights as layer 2.",
        measure="the norm of a layer's weights times that of its gradient, over the loss: the "
        "relative condition number",
        shows="no gradient reaches layer 1 of the sick run, while its last layer has one",
        look="`gradient_flow/log10_first_to_last` first: 0 where layer 1 gets as much as the last "
        "layer, below it by one for each power of ten. `gradient_mean_abs/layer1` is the same in "
        "absolute terms, a line at zero, though the last layer's gradient is like the cured run's. "
        "The charts show layer 1 because the gradient reaches it last. The diagnosis names layer "
        "2, for the reason above; both are sick.",
        tags="gradient_flow|gradient_mean_abs.layer(1|10)$|accuracy.test",
    ),
    "non-finite values": Text(
        example="non-finite",
        what="A gradient or a weight is Inf or NaN. It does not go away by itself.",
        why="What is too large for float32 (above about 3.4e38) is Inf; Inf minus Inf, or times "
        "0, is NaN, and so is whatever NaN is added to or multiplied with. An update with such a "
        "gradient makes the weights NaN, and from then on everything is. The layer that is named "
        "is the one nearest the output that has any, since gradients come from there. Between two "
        "records much can happen: `--log-every 1` finds the step.",
        measure="how many values of a layer's gradient and weights are NaN or Inf, of the layer "
        "nearest the output that has any",
        shows="every value of the sick run's gradient is counted as not finite",
        look="`gradient_nonfinite/…` is written where there is something to count, so the cured "
        "run has none of it. `loss/test` ends where it is not a number: TensorBoard draws "
        "triangles instead of a curve.",
        tags="gradient_nonfinite.layer[16]|(loss|accuracy).test",
    ),
    "frozen layers": Text(
        example="frozen",
        what="A layer's weights are after an update, bit for bit or next to it, what they were "
        "before. The layer computes the random function that the initializer drew, for good.",
        why="A float32 has 24 significant bits. An update that is smaller than half the last bit "
        "of its weight is rounded away by the addition, and the next one again, so many of them "
        "do not add up either. It takes a gradient that is small by many orders of magnitude and "
        "an optimizer that does not scale it up, such as SGD.",
        measure="the norm of the update of a layer's weights, over the norm of the weights",
        shows="the weights of layer 1 are the same at every record of the sick run",
        look="`weights/layer1` in Histograms, the newest record in front: the sick run's slices "
        "are all alike, the cured run's spread. A histogram hides small changes; that there are "
        "none is told by `update_ratio/layer1` in Scalars, which is next to zero or zero.",
        tags="weights.layer1$",
        tab="histograms",
        size="1240,640",
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
        f"{SWING:.0%} or more than at the record before (without a test loss: of the batch, over "
        "that of the same answer for all inputs, and from clearly below it to clearly above)",
        shows="the sick run's loss and accuracy go up and down, the cured run's get better",
        look="`loss/test` with smoothing at 0, for it hides just this: the sick run's falls and "
        "rises again, the cured run's falls. Where a peak dwarfs the rest of the axis, "
        "`accuracy/test` shows the swings, and `update_ratio/…` whether they come from steps "
        "that are too long.",
        tags="(loss|accuracy).test|loss.train|update_ratio.layer1",
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
        "network gets right (without a test accuracy: the share of the loss of the same answer for "
        "all inputs that the network saves, the mean of ten records)",
        shows="the sick run's accuracy is a flat line at chance, and nothing reaches its layers",
        look="`accuracy/test` stays flat, and `loss/test` at `chance/loss`, the entropy of the "
        "labels. Then see what else is flat: here `gradient_mean_abs/…`, zero in every layer.",
        tags="(loss|accuracy).test|gradient_mean_abs.layer[16]",
    ),
    "learning rate fades out": Text(
        example="",
        what="A schedule takes the learning rate to nearly nothing long before the training ends, "
        "and the network has not learned much by then.",
        why="An update is the learning rate times a direction. With a hundredth of the rate, a "
        "hundred steps go as far as one did before. What is not learned by then is not learned any "
        "more. Often a schedule was meant to count epochs, and counts steps.",
        measure="the share of the training with a learning rate of at most 1% of its largest value",
        shows="the sick run's learning rate is gone after a few epochs, and its accuracy stops "
        "there",
        look="`learning_rate`, and below it `accuracy`: both flatten at the same step. "
        "`update_ratio/…` falls with the rate.",
        tags="learning_rate$|^accuracy|update_ratio.dense$",
    ),
    "vanishing through time": Text(
        example="",
        what="A recurrent layer gets no gradient from its first time steps. It learns from the "
        "last ones only, and what counts may stand at the first.",
        why="The gradient comes back from step to step through the same weights and gates, and "
        "each passes on a part of it. After many steps nothing is left, as after many layers. "
        "Steps of padding count, too: they say nothing, and let the layer forget what it has "
        "read before.",
        measure="log10 of the gradient with respect to a recurrent layer's inputs at the first "
        "time step, over that at the last",
        shows="in the sick run the gradient at the first step stays a tiny part of that at the "
        "last; with a mask it is about as large",
        look="`gradient_through_time/reader` in a full record, and `accuracy`.",
        tags="gradient_through_time.reader|^accuracy|loss.(data|same_answer)$",
    ),
    "exploding through time": Text(
        example="",
        what="The gradient of a recurrent layer grows from each time step to the one before. The "
        "first steps, however little they matter, decide where the weights go.",
        why="Each step back multiplies the gradient with the recurrent weights. If they stretch "
        "it, it grows exponentially with the number of steps. Then a small change of the weights "
        "changes everything that follows, and no step of gradient descent is small enough.",
        measure="log10 of the gradient with respect to a recurrent layer's inputs at the first "
        "time step, over that at the last",
        shows="in the sick run the gradient at the first step is many times that at the last, and "
        "the accuracy stays low",
        look="`gradient_through_time/reader` in a full record, and `accuracy`.",
        tags="gradient_through_time.reader|^accuracy|loss.(data|same_answer)$",
    ),
    "rising loss": Text(
        example="",
        what="The loss is much larger than at the first steps, and stays so.",
        why="A network that has just been initialized is at about the loss of chance. Whatever "
        "leads far above it is worse than no training at all. Mostly steps are too long: they "
        "make the weights large, and then answers are wrong and sure. Between two networks that "
        "train against each other, the loss of one rises where the other one is too strong.",
        measure="the mean loss over a third of the training, over that of the first records",
        shows="the sick run's loss is far above the cured run's, which falls from the first step",
        look="`loss/train` with *Ignore outliers in chart scaling* off, and `val_loss`. "
        "`update_ratio/…` shows steps that replace the weights.",
        tags="loss.train$|val_(loss|accuracy)|update_ratio.hidden1",
    ),
    "penalty too strong": Text(
        example="",
        what="Regularizers add more to the loss than the data do. The optimizer makes the "
        "weights small, whatever the network answers.",
        why="A penalty is a sum over all weights, and the loss of the data a mean over examples. "
        "So the same factor weighs more in a larger network. The gradient of an L1 penalty is its "
        "factor, at every weight other than 0. Where the data's gradient of a weight is smaller, "
        "the weight goes to 0. It does not come to rest there: Adam divides by the running size of "
        "the gradient, so weights swing around 0, and what is left of the penalty stays.",
        measure="what penalties add to the loss, over the loss of the data",
        shows="the sick run's loss falls from 800 to 15, and that of its data stays at chance",
        look="`loss/train` is the sum, `loss/data` the loss without penalties. In the sick run the "
        "sum falls far, which looks like learning, and the loss of the data stays where "
        "`loss/same_answer` is. `accuracy` is what it costs.",
        tags="loss.(train|data|same_answer)$|^accuracy",
    ),
    "loss of zero": Text(
        example="",
        what="The loss is exactly 0 from the first steps on. Every answer is as good as any other.",
        why="A loss of 0 means that nothing can get better. On real data that is hardly ever true: "
        "mostly the loss does not compare what it should. In the example, softmax divides a single "
        "unit by itself, so the output is 1 for every input. Categorical cross-entropy is then "
        "label · log(1), which is 0 for both labels. Other causes are weights of 0 for all "
        "examples or for the loss, and a hinge or margin that every answer keeps.",
        measure="the loss of the data, and that of the same answer for all inputs",
        shows="the sick run's loss is a line at zero, and its accuracy stays at one half",
        look="`loss/data` and `loss/same_answer` of the sick run are both lines at zero. "
        "`accuracy` shows that nothing is learned. The gradient need not be 0: here Keras computes "
        "softmax and cross-entropy in one step, whose gradient takes for granted that labels add "
        "up to 1.",
        tags="loss.(data|same_answer)$|^accuracy|val_accuracy",
    ),
    "negative loss": Text(
        example="",
        what="The loss falls below zero, and on and on.",
        why="Most losses have a lower bound, and training ends near it. A loss without one is not "
        "made for these labels, or has the wrong sign. In the example, binary cross-entropy is "
        "-y log p - (1 - y) log(1 - p). For a label y of 0 or 1, both parts are positive. For a "
        "label of 7 the second one is 6 log(1 - p), which falls without end as p goes to 1. So "
        "the network learns one thing: a larger output for every input.",
        measure="how far below zero the loss is, over the size of the first loss",
        shows="the sick run's loss falls to some ten thousands below zero",
        look="`loss/data`: in the sick run it falls faster and faster, in the cured run towards 0. "
        "`val_accuracy` is what it costs.",
        tags="loss.(data|same_answer)$|accuracy",
    ),
    "one answer for all inputs": Text(
        example="",
        what="The network gives every example the same answer. What it is given makes no "
        "difference.",
        why="Somewhere between inputs and outputs the examples become alike. Dead or saturated "
        "units, weights that a penalty made small, and many layers of sigmoids do that. So does a "
        "recurrent layer that reads on after the text has ended: Keras' LSTM begins with forget "
        "gates at about 0.73, and after 50 zeros 0.73^50, or 1e-7, of the last word is left. "
        "What is left to learn is how frequent the labels are.",
        measure="how much the loss would change if each answer were the mean of the batch's "
        "answers, as a share of the loss",
        shows="the sick run's outputs do not differ between examples, and its accuracy stays at "
        "chance",
        look="`outputs/spread`, by how much the answers of a batch differ, over their size: a line "
        "at zero in the sick run. `loss/data` and `loss/same_answer` of the sick run are the same "
        "curve; in the cured run the first one falls and the second one stays.",
        tags="loss.(data|same_answer)$|outputs.spread|^accuracy",
    ),
    "overfitting": Text(
        example="",
        what="The loss on validation data falls and then rises again, while that on the training "
        "data falls on.",
        why="With more weights than examples, a network can learn single examples by heart, with "
        "their noise and their wrong labels. That is worth nothing on other data. What most "
        "examples have in common is learned first, so validation gets better before it gets worse.",
        measure="of what the validation loss had gained over the same answer for all inputs, the "
        "share that is lost again, while the training's loss fell further",
        shows="the sick run's validation loss falls for some epochs and then rises, and its "
        "validation accuracy falls",
        look="`val_loss` and, beside it, `loss/data`. The sick run's validation loss has its "
        "lowest point after a few epochs. In the cured run it keeps what it has gained; that it "
        "stands higher in the first epochs is the penalty, which is part of it. "
        "`val_accuracy` shows what it costs.",
        tags="val_(loss|accuracy)|loss.data$|^accuracy",
    ),
    "moving averages behind": Text(
        example="",
        what="On the training data the network learns, and on the validation data it does not, as "
        "batch normalization still works with what it began with.",
        why="In training, batch normalization takes mean and variance of the batch, and in "
        "validation moving averages of them. These begin at 0 and 1. With Keras' momentum of 0.99, "
        "0.99^192 or 15% of that is left after 192 steps. In the example the mean is 300, sixty "
        "times the spread, so validation sees inputs that are shifted by many times their spread.",
        measure="momentum to the power of the steps: the share of their first values that the "
        "moving averages still hold, where validation costs more than training",
        shows="the sick run's validation loss is in the hundreds, and its training is as good as "
        "the cured run's",
        look="`val_loss` and `val_accuracy` of both runs; `loss/data` and `accuracy` are the same "
        "in both, since the momentum plays no part in training.",
        tags="val_(loss|accuracy)|loss.data$|^accuracy",
    ),
    "validation far off": Text(
        example="",
        what="On the training data the network learns, and on the validation data it does far "
        "worse, from the first epochs on.",
        why="The network sees something else in validation than in training. In the example, "
        "`validation_split` takes the last rows of sorted data: digits 8 and 9, which the training "
        "never sees. Or only one of the data sets is scaled, or has its classes in another order.",
        measure="the validation loss less that of the training, over the loss of the same answer "
        "for all inputs",
        shows="the sick run's validation loss rises from the first epoch on, and its training is "
        "as good as the cured run's",
        look="`val_loss` and `val_accuracy` of both runs. `loss/data` and `accuracy` look healthy "
        "in both.",
        tags="val_(loss|accuracy)|loss.data$|^accuracy",
    ),
}
"""The pages, by their symptom."""
