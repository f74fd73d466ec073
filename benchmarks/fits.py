"""Whether `fit` with `GradientLogger` trains as without, on models and settings of many kinds.

Each is trained without the logger, with a default record of every third step, and with a
full record of every step. Compared are all weights and all variables of the optimizers.
The table is the one in docs/gradient_logger.md.
"""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import keras
import numpy as np
import tensorflow as tf
from _common import run
from keras import layers as L
from keras import optimizers as O

from mnist_vg import GradientLogger, Run

RNG = np.random.default_rng(0)
ROWS, BATCH, EPOCHS = 44, 8, 2  # The last batch of an epoch is smaller.
VECTORS = RNG.normal(size=(ROWS, 6)).astype(np.float32)
IMAGES = RNG.normal(size=(ROWS, 8, 8, 3)).astype(np.float32)
SERIES = RNG.normal(size=(ROWS, 7, 4)).astype(np.float32)
WORDS = RNG.integers(0, 30, (ROWS, 9))
LABELS = RNG.integers(0, 3, ROWS)
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def stack(inputs, *hidden, units=3) -> keras.Model:
    """Layers on inputs, and one of the logits."""
    return keras.Sequential([keras.Input(inputs.shape[1:]), *hidden, L.Dense(units)])


def dense() -> keras.Model:
    """Two layers."""
    return stack(VECTORS, L.Dense(8, "tanh"))


def convnet() -> keras.Model:
    """Convolutions of three kinds, each normalized."""
    kinds = [L.Conv2D(4, 3), L.SeparableConv2D(4, 3), L.DepthwiseConv2D(3)]
    parts = [part for kind in kinds for part in (kind, L.BatchNormalization(), L.ReLU())]
    return stack(IMAGES, *parts, L.Flatten(), L.Dense(8, "tanh"))


def residual() -> keras.Model:
    """Skip connections and squeeze-and-excitation."""
    inputs = keras.Input(IMAGES.shape[1:])
    path = L.Conv2D(4, 3, padding="same", activation="swish")(inputs)
    for _ in range(2):
        inner = L.Conv2D(4, 3, padding="same", activation="swish")(path)
        scale = L.Dense(4, "sigmoid")(L.GlobalAveragePooling2D()(inner))
        path = L.Add()([path, L.Multiply()([inner, L.Reshape((1, 1, 4))(scale)])])
    return keras.Model(inputs, L.Dense(3)(L.GlobalMaxPooling2D()(path)))


def recurrent() -> keras.Model:
    """Recurrent layers of three kinds, one bidirectional."""
    first = L.Bidirectional(L.LSTM(4, return_sequences=True))
    return stack(SERIES, first, L.GRU(4, return_sequences=True), L.SimpleRNN(4))


def masked() -> keras.Model:
    """Words of which some are masked."""
    embedded = L.Embedding(30, 5, mask_zero=True)
    return keras.Sequential([keras.Input((9,)), embedded, L.LSTM(4), L.Dense(3)])


def transformer() -> keras.Model:
    """A block of a Transformer, with dropout."""
    inputs = keras.Input((9,))
    path = L.Embedding(30, 8)(inputs)
    attended = L.MultiHeadAttention(2, 4, dropout=0.1)(path, path)
    path = L.LayerNormalization()(path + attended)
    path = L.LayerNormalization()(path + L.Dense(8)(L.Dense(16, "gelu")(path)))
    return keras.Model(inputs, L.Dense(3)(L.Dropout(0.2)(L.GlobalAveragePooling1D()(path))))


def regularized() -> keras.Model:
    """Penalties, constraints and normalizations of weights."""
    first = L.Dense(8, "relu", kernel_regularizer="l2", kernel_constraint="max_norm")
    second = L.SpectralNormalization(L.Dense(8, "elu", activity_regularizer="l1"))
    return stack(VECTORS, first, second, L.GroupNormalization(4), L.PReLU())


def noisy() -> keras.Model:
    """Noise and dropout with Keras' own random numbers."""
    return stack(VECTORS, L.GaussianNoise(0.1), L.Dense(8, "selu"), L.AlphaDropout(0.2))


class Draw(L.Layer):
    """Adds random numbers of TensorFlow's own."""

    def call(self, inputs):
        """Add."""
        return inputs + tf.random.normal(tf.shape(inputs))


def drawing() -> keras.Model:
    """Random numbers of `tf.random`, as in variational autoencoders."""
    return stack(VECTORS, L.Dense(8, "tanh"), Draw())


def partly_frozen() -> keras.Model:
    """A frozen layer, and one that gets no gradient."""
    inputs = keras.Input((6,))
    code = keras.ops.one_hot(keras.ops.argmax(L.Dense(5)(inputs), axis=-1), 5)
    frozen = L.Dense(8, "relu", trainable=False)(inputs)
    return keras.Model(inputs, L.Dense(3)(L.Concatenate()([code, L.Dense(4, "tanh")(frozen)])))


class Subclassed(keras.Model):
    """A model with a `call` and a `train_step` of its own."""

    def __init__(self):
        super().__init__()
        self.body, self.head = L.Dense(8, "tanh"), L.Dense(3)

    def call(self, inputs):
        """Two layers."""
        return self.head(self.body(inputs))

    def train_step(self, data):
        """Clip the gradients, then apply them."""
        inputs, labels = data
        with tf.GradientTape() as tape:
            loss = CROSS_ENTROPY(labels, self(inputs, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 1.0)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"own_loss": loss}


class Adversarial(keras.Model):
    """A generator and a critic with an optimizer each, which draw with `tf.random`."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((2,)), L.Dense(5, "relu"), L.Dense(6)])
        self.critic = keras.Sequential([keras.Input((6,)), L.Dense(5, "relu"), L.Dense(1)])
        self.optimizers = {"critic": O.Adam(1e-3), "generator": O.RMSprop(1e-3)}

    def train_step(self, data):
        """Two updates of the critic, then one of the generator."""
        losses = {}
        for name, sign in (("critic", 1), ("critic", 1), ("generator", -1)):
            variables = getattr(self, name).trainable_variables
            with tf.GradientTape() as tape:
                made = self.critic(self.generator(tf.random.normal([tf.shape(data[0])[0], 2])))
                loss = sign * (tf.reduce_mean(made) - tf.reduce_mean(self.critic(data[0])))
            gradients = tape.gradient(loss, variables)
            self.optimizers[name].apply_gradients(zip(gradients, variables, strict=True))
            losses[f"{name}_loss"] = loss
        return losses


class OwnApply(O.Optimizer):
    """An optimizer that does all of `apply` itself."""

    def apply(self, grads, trainable_variables=None):
        """Descend."""
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            variable.assign_sub(0.05 * gradient)
        self._iterations.assign_add(1)


def by_layer() -> O.Optimizer:
    """An optimizer for each layer."""
    return O.MultiOptimizer(O.OptimizerMap(O.Adam(), {".*dense/.*": O.SGD(0.1)}))


def warm_up() -> O.Optimizer:
    """Momentum under a schedule."""
    rate = O.schedules.CosineDecay(0.0, 8, warmup_target=0.1, warmup_steps=3)
    return O.SGD(rate, momentum=0.9, nesterov=True)


MODELS = {
    "dense": (dense, VECTORS),
    "convolutions, batch normalization": (convnet, IMAGES),
    "skip connections, squeeze-and-excitation": (residual, IMAGES),
    "LSTM, GRU, SimpleRNN, bidirectional": (recurrent, SERIES),
    "embedding with masks": (masked, WORDS),
    "Transformer block with dropout": (transformer, WORDS),
    "regularizers, constraints, spectral and group normalization": (regularized, VECTORS),
    "Keras' noise and dropout": (noisy, VECTORS),
    "`tf.random`": (drawing, VECTORS),
    "a frozen layer, and one without a gradient": (partly_frozen, VECTORS),
    "a `train_step` of its own": (Subclassed, VECTORS),
    "GAN with two optimizers": (Adversarial, VECTORS),
}
OPTIMIZERS = {
    **{f"{kind.__name__}": kind for kind in (O.Adam, O.AdamW, O.Nadam, O.Adamax, O.RMSprop)},
    **{f"{kind.__name__}": kind for kind in (O.Adagrad, O.Adadelta, O.Ftrl, O.Lion, O.Lamb)},
    **{f"{kind.__name__}": kind for kind in (O.Adafactor, O.Muon, O.ScheduleFreeAdamW)},
    "momentum under a schedule": warm_up,
    "MultiOptimizer": by_layer,
    "an `apply` of its own": lambda: OwnApply(0.05),
    "clipnorm": lambda: O.SGD(0.1, clipnorm=0.05),
    "clipvalue": lambda: O.SGD(0.1, clipvalue=0.01),
    "global_clipnorm": lambda: O.SGD(0.1, global_clipnorm=0.1),
    "moving average of weights": lambda: O.Adam(use_ema=True, ema_overwrite_frequency=3),
    "accumulated gradients": lambda: O.Adam(gradient_accumulation_steps=2),
    "loss scaling": lambda: O.LossScaleOptimizer(O.Adam()),
}
SETTINGS = {
    "steps_per_execution=3": {"steps_per_execution": 3},
    "run_eagerly=True": {"run_eagerly": True},
    "jit_compile=True": {"jit_compile": True},
    "a loss that is not reduced": {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    },
    "a loss weight, metrics": {"loss_weights": 0.5, "metrics": ["accuracy"]},
}


def cases() -> dict[str, dict]:
    """What is tried: name to the arguments of `train`."""
    models = {name: {"make": make, "inputs": x} for name, (make, x) in MODELS.items()}
    optimizers = {name: {"optimizer": make} for name, make in OPTIMIZERS.items()}
    settings = {name: {"compiled": options} for name, options in SETTINGS.items()}
    convolutions = {"make": convnet, "inputs": IMAGES}
    pairs = {
        "convolutions, momentum under a schedule": convolutions | {"optimizer": warm_up},
        "convolutions, jit_compile=True": convolutions | {"compiled": {"jit_compile": True}},
    }
    return {**models, **optimizers, **settings, **pairs}


def train(
    callbacks: Sequence,
    make: Callable[[], keras.Model] = dense,
    inputs: np.ndarray = VECTORS,
    optimizer: Callable[[], O.Optimizer] = O.Adam,
    compiled: dict | None = None,
) -> list[np.ndarray]:
    """Train a model; return its weights, and the variables of its optimizer."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    model = make()
    options = {"loss": CROSS_ENTROPY, "jit_compile": False} | (compiled or {})
    model.compile(optimizer(), **options)
    with contextlib.redirect_stdout(None):
        model.fit(
            inputs,
            LABELS,
            batch_size=BATCH,
            epochs=EPOCHS,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )
    # Before the optimizers of its own, a GAN has one that compile() makes.
    optimizers = [model.optimizer, *getattr(model, "optimizers", {}).values()]
    variables = [variable for optimizer in optimizers for variable in optimizer.variables]
    return [*model.get_weights(), *map(np.asarray, variables)]


def compared(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> str:
    """Whether two trainings are the same, or how far they are apart."""
    if all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True)):
        return "the same bits"
    pairs = [(np.float64(a), np.float64(b)) for a, b in zip(ours, theirs, strict=True)]
    apart = max(np.abs(a - b).max() / (np.abs(b).max() or 1) for a, b in pairs)
    return f"{apart:.0e} apart"


def main(only: Sequence[str] = ()) -> None:
    """Train, compare and print."""
    print("| What | Every third step | Every step, full | Layers with a gradient |")
    print("|---|---|---|---|")
    for name, arguments in cases().items():
        if only and name not in only:
            continue
        plain = train([], **arguments)
        with tempfile.TemporaryDirectory() as folder:
            results = []
            for number, options in enumerate(({"every": 3}, {"every": 1, "measures": "full"})):
                logger = GradientLogger(Path(folder) / str(number), **options)
                results.append(compared(train([logger], **arguments), plain))
            history = Run.load(logger.folder).history
            measured = np.isfinite(history["gradient_mean_abs"]).all(axis=0).sum()
            layers = f"{measured} of {len(history['layers'])}"
        print(f"| {name} | {' | '.join(results)} | {layers} |", flush=True)


if __name__ == "__main__":
    run(main, __doc__, takes="5 minutes", smoke={"only": ["`tf.random`"]})
